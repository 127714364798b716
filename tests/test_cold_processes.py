"""The cold start and the filter make the same in one, two and four processes, stopped or not."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from processes import program, start
from safetensors.torch import load_file
from test_coldstart import SOLVED, TURNED
from test_policy import SMALL
from transformers import AutoModelForCausalLM, Cohere2Config

import checkpoint
import coldstart
import parallel
import policy
import toy
from sampler import Sampler
from tools import zpd

MADE = ("sft.jsonl", "ift.jsonl", "turns.jsonl", "progress.jsonl", "counts.json")
SIZES = ["--max-new-tokens", 40, "--max-synthesis-tokens", 140]
LEARN = ["--batch", 5, "--lr", 1e-3, "--mixture", 0.5, "--micro-batch-tokens", 450, "--save-every", 2]


def second() -> bool:
    """Whether this is the second process, also while it is alone."""
    return os.environ["RANK"] == "1"


def stop_at(call: int, owner, name: str):
    """Have the second process told to stop in the call of this number, from 1, of a function."""
    function, calls = getattr(owner, name), []

    def told(*given, **named):
        calls.append(name)
        if second() and len(calls) == call:
            os.kill(os.getpid(), signal.SIGTERM)
        return function(*given, **named)

    setattr(owner, name, told)
    return lambda: setattr(owner, name, function)


def fails(text, problem):
    """A reward that fails on the second process."""
    if second():
        raise RuntimeError("this rank is broken")
    return 1.0


def small():
    """Sizes that make little work of everything."""
    coldstart.CHUNK, coldstart.LEAST, zpd.CHUNK = 1, 2, 1
    toy.STEPS, toy.PLAIN, toy.SYNTHESIS_ROWS, toy.DRILLS, toy.DRILLS_FIRST = 2, 8, 4, 4, 4


def everything(folder: Path, real: Path):
    """What every process of a group does; what it found goes to a file of its own."""
    small()
    count, asked, forwards = parallel.size(), [], []
    sample, forward = Sampler.sample, policy.Policy.forward
    Sampler.sample = lambda self, prompts, *more, **named: (
        asked.append(prompts) or sample(self, prompts, *more, **named)
    )

    def counted(self, *given):
        forwards.extend([len(given[0])] * torch.is_grad_enabled())  # of the fine-tuning
        return forward(self, *given)

    policy.Policy.forward = counted
    about = ["--model", real / "model", "--data", folder / "problems.jsonl"]
    cold, found = [*about, *SIZES, *LEARN], {}

    found["cold"] = program(coldstart.main, *cold, "--out", folder / f"cold-{count}")
    found["asked"], found["forwards"], asked[:] = [*asked], [*forwards], []
    found["zpd"] = program(zpd.main, *about, *SIZES[:2], "-n", 4, "--out", folder / f"kept-{count}.jsonl")
    found["estimated"] = [*asked]
    if count == 2:
        out = folder / "stopped"
        for call, owner, name in ((3, Sampler, "sample"), (3, policy, "descend")):
            undo = stop_at(call, owner, name)
            found[name] = program(coldstart.main, *cold, "--out", out)
            found[f"{name} left"] = [path.name for path in out.rglob("*") if path.is_dir()]
            found[f"{name} rows"] = len(checkpoint.read(out / "progress.jsonl"))
            undo()
        found["reward"] = program(coldstart.main, *cold, "--out", folder / "failed", "--reward", f"{__file__}:fails")
        append = checkpoint.append
        checkpoint.append = full
        found["disk"] = program(coldstart.main, *cold, "--out", folder / "full")
        found["disk of zpd"] = program(zpd.main, *about, *SIZES[:2], "--out", folder / "full.jsonl")
        checkpoint.append = append
        other = ["--model", folder / "scaled", *about[2:], *SIZES, "--demonstrations", folder / "shown.jsonl"]
        found["scaled"] = program(coldstart.main, *other, "--out", folder / "refused")
    else:
        found["resumed"] = program(coldstart.main, *cold, "--out", folder / f"stopped-{count}")
    if count < 4:
        shown = ["--demonstrations", folder / "shown.jsonl", "--skill", 0.1, "--epochs", 1, "--lr", 1e-6]
        found["shown"] = program(coldstart.main, *about, *SIZES, *shown, "--out", folder / f"shown-{count}")
        found["toy"] = program(coldstart.main, "--out", folder / f"toy-{count}")
    (folder / f"{count}-{parallel.rank()}.json").write_text(json.dumps(found))


def full(*_):
    raise OSError(28, "No space left on device")


@pytest.fixture(scope="module")
def made(tmp_path_factory, real_path):
    """What 1, 2 and 4 processes made, in a folder; and of each number what the ranks found."""
    folder, found = tmp_path_factory.mktemp("made"), {}
    rows = (real_path / "problems.jsonl").read_text().splitlines()
    (folder / "problems.jsonl").write_text("\n".join(rows + rows[:2]))
    (folder / "shown.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (SOLVED, TURNED)))
    tokenizer = policy.load_tokenizer(str(real_path / "model"))
    scaled = AutoModelForCausalLM.from_config(Cohere2Config(**SMALL | {"vocab_size": len(tokenizer)}))
    policy.save(scaled, tokenizer, folder / "scaled")
    for count in (2, 1, 4):
        assert start(count, everything, folder, real_path) == [0] * count
        found[count] = [json.loads((folder / f"{count}-{rank}.json").read_text()) for rank in range(count)]
        if count == 2:
            for other in (1, 4):
                shutil.copytree(folder / "stopped", folder / f"stopped-{other}")
    return folder, found


def weights(model: Path) -> torch.Tensor:
    return torch.cat([tensor.flatten() for _, tensor in sorted(load_file(model / "model.safetensors").items())])


def test_processes_make_the_same_examples_and_share_the_work(made):
    folder, found = made
    assert all(rank["cold"][0] == 0 for ranks in found.values() for rank in ranks)
    for count in (2, 4):
        for name in MADE:
            assert (folder / f"cold-{count}" / name).read_bytes() == (folder / "cold-1" / name).read_bytes()
        for what in ("asked", "estimated"):
            [one], several = found[1], found[count]
            prompts = [sorted(prompt for call in rank[what] for prompt in call) for rank in several]
            assert sorted(sum(prompts, [])) == sorted(prompt for call in one[what] for prompt in call)
            assert sum(map(bool, prompts)) >= min(count, 3)  # three problems are different
    counts = json.loads((folder / "cold-1" / "counts.json").read_text())
    assert counts["problems"] == 5 and counts["sft"] > 3 and counts["ift"] > 3


def test_processes_learn_the_same(made, real_path):
    folder, found = made
    one, start = weights(folder / "cold-1" / "model"), weights(real_path / "model")
    assert (one - start).norm() > 0.1
    for count in (2, 4):
        assert (weights(folder / f"cold-{count}" / "model") - one).norm() < 1e-5 * (one - start).norm()
        calls = [len(rank["forwards"]) for rank in found[count]]
        assert len(set(calls)) == 1 and calls[0] < len(found[1][0]["forwards"])
    policy.load(str(folder / "cold-4" / "model"))
    assert not (folder / "cold-4" / "checkpoints").exists() and not (folder / "cold-4" / ".lock").exists()


def test_only_the_first_process_speaks(made):
    _, found = made
    for count, (first, *others) in found.items():
        assert "constructions are valid" in first["cold"][1] and "wrote" in first["cold"][1]
        assert "of 3 problems in" in first["zpd"][1]
        said = [rank[what][1] for rank in others for what in ("cold", "zpd")]
        assert not any(words in one for one in said for words in ("wrote", "%|", "step", "of 3 problems in")), count


def test_a_stop_of_one_process_stops_all_and_others_go_on(made, real_path):
    folder, found = made
    for rank in found[2]:
        assert rank["sample"][0] == rank["descend"][0] == 130
        assert rank["sample rows"] == 2 and rank["descend rows"] == 5 and "step-000003" in rank["descend left"]
    for rank in found[1] + found[4]:
        assert rank["resumed"][0] == 0
    one, start = weights(folder / "cold-1" / "model"), weights(real_path / "model")
    for count in (1, 4):
        for name in MADE:
            assert (folder / f"stopped-{count}" / name).read_bytes() == (folder / "cold-1" / name).read_bytes()
        assert (weights(folder / f"stopped-{count}" / "model") - one).norm() < 1e-5 * (one - start).norm()


def test_what_fails_on_one_process_ends_all_with_its_sentence(made):
    _, found = made
    for rank in found[2]:
        assert rank["reward"][0] == 2 and "this rank is broken" in rank["reward"][1]
        for what in ("disk", "disk of zpd"):
            assert rank[what][0] == 2 and "No space left on device" in rank[what][1]


def test_processes_estimate_the_same(made):
    folder, found = made
    assert all(rank["zpd"][0] == 0 for ranks in found.values() for rank in ranks)
    for name in ("kept-{}.jsonl", "kept-{}.estimates.jsonl"):
        one, two, four = ((folder / name.format(count)).read_bytes() for count in (1, 2, 4))
        assert one == two == four
    assert len(checkpoint.read(folder / "kept-1.estimates.jsonl")) == 3


def test_rounds_in_two_processes(made):
    folder, found = made
    assert [rank["shown"][0] for rank in found[1] + found[2]] == [0, 0, 0]
    for name in MADE:
        one, two = ((folder / f"shown-{count}" / "round-1" / name).read_bytes() for count in (1, 2))
        assert one == two
    assert (folder / "shown-2" / "model").is_dir()


def test_a_model_with_other_logits_is_refused_before_it_learns(made):
    folder, found = made
    for rank in found[2]:
        assert rank["scaled"][0] == 2 and "logits are not those of its output layer" in rank["scaled"][1]
    assert (folder / "refused" / "round-0").exists() and not (folder / "refused" / "round-0" / "model").exists()


def test_one_of_several_processes_makes_the_toy_s(made):
    folder, found = made
    assert [rank["toy"][0] for rank in found[1] + found[2]] == [0, 0, 0]
    one, two = ((folder / f"toy-{count}" / "model.safetensors").read_bytes() for count in (1, 2))
    assert one == two
