"""The cold start: what becomes of every response and output, examples on real problems, and going on after a stop."""

import json
import random
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import torch
from tiny import make_model, make_tokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
import arithmetic

import checkpoint
import coldstart
import config
import data
import parallel
import policy
import reflect
import rollouts
import toy
from sampler import Completion
from tapo import ots_weights
from verifier import verify

GSM8K = Path(__file__).parents[2] / "shared" / "data" / "gsm8k_train.jsonl"
PROBLEMS = [data.Problem(f"How much is {i} plus {i}?", str(2 * i)) for i in range(1, 7)]
TEXTS = [data.TEMPLATES.plain.format(question=p.question) for p in PROBLEMS] + [reflect.SYNTHESIS]
TOKENIZER = make_tokenizer(TEXTS * 3, vocab=600)


def encode(text):
    return TOKENIZER(text, add_special_tokens=False).input_ids


class Scripted:
    """A sampler that says `respond(prompt text, index)`: a text, or one that ends in ... for a cut response."""

    def __init__(self, respond):
        self.respond, self.prompts = respond, []

    def __call__(self, model, *, eos_ids, slots):
        return self

    def check(self, *given):
        pass

    def sample(self, prompts, n=1, **_):
        texts = [TOKENIZER.decode(prompt) for prompt in prompts]
        self.prompts += texts
        return [[self.completion(self.respond(text, i)) for i in range(n)] for text in texts]

    def completion(self, text):
        if text.endswith("..."):
            return Completion(encode(text), [], False)
        return Completion([*encode(text), TOKENIZER.eos_token_id], [], True)


def rewritten(reconstruction):
    return f"<analysis>\nThe sum is wrong.\n</analysis>\n<reconstruction>\n{reconstruction}\n</reconstruction>"


WRONG, TURN = "Adding gives \\boxed{99}.", " Wait, that is too much: it is \\boxed{%s}."


def answer_of(prompt):
    return next(p.answer for p in PROBLEMS if p.question in prompt)


def respond(prompt, index):
    """Problem by problem: three right ones, of which two alike, and a wrong one; all right; two wrong ones and a cut
    one with a right one; nothing right. Outputs: see `outputs`."""
    answer = answer_of(prompt)
    if "Wrong attempt" in prompt:
        return outputs(prompt, answer)
    said = {
        "2": [f"\\boxed{{{answer}}}", f"\\boxed{{{answer}}}", f"It is \\boxed{{{answer}}}", WRONG],
        "4": [f"{'so ' * i}\\boxed{{{answer}}}" for i in range(4)],
        "6": [f"\\boxed{{{answer}}}", WRONG, f"Hm. {WRONG}", "And so on and so on..."],
        "8": [WRONG] * 4,
        "10": [f"\\boxed{{{answer}}}", *[f"{'no ' * i}{WRONG}" for i in range(3)]],
        "12": [f"\\boxed{{{answer}}}", *[f"{'eh ' * i}{WRONG}" for i in range(3)]],
    }
    return said[answer][index]


def outputs(prompt, answer):
    wrong = prompt.split("Wrong attempt:\n")[-1].split("\n\nRight attempt:")[0]
    return {
        ("2", WRONG): rewritten(WRONG + TURN % answer),
        ("6", WRONG): rewritten(WRONG + TURN % "0"),  # kept, but ends wrong
        ("6", f"Hm. {WRONG}"): "It is wrong.",
        ("6", "And so on and so on..."): rewritten("And so on." + TURN % answer),  # turns within y-
        ("10", WRONG): rewritten(WRONG),
        ("10", f"no {WRONG}"): rewritten(f"I add otherwise.{TURN % answer}"),
        ("10", f"no no {WRONG}"): rewritten(f"no no {WRONG}{TURN % answer}"),
        ("12", WRONG): "<analysis>It never ends...",
        ("12", f"eh {WRONG}"): rewritten(f"eh {WRONG}{TURN % answer}{' good' * 200}"),
        ("12", f"eh eh {WRONG}"): rewritten(f"eh eh {WRONG}{TURN % answer}"),
    }[answer, wrong]


def maker(monkeypatch, sampler, worked=""):
    monkeypatch.setattr(rollouts, "Sampler", sampler)
    sampling = config.Sampling(k=4, temperature=1.0, slots=4, max_new_tokens=150, max_synthesis_tokens=900)
    model = make_model(vocab=len(TOKENIZER), context=8192, eos=(TOKENIZER.eos_token_id,))
    return coldstart.Maker(rollouts.Actor(model, TOKENIZER, PROBLEMS, sampling, seed=0, worked=worked), m_max=4)


def rows_of(file):
    return [json.loads(line) for line in file.open(encoding="utf-8")]


def test_every_response_and_every_output_is_counted_once(monkeypatch, tmp_path):
    counts = coldstart.make_data(maker(monkeypatch, Scripted(respond)), tmp_path)
    expected = {"problems": 6, "responses": 24, "sft": 9, "repeated": 1, "wrong": 13, "cut": 1, "tried": 10, "ift": 4}
    reasons = {"ends_wrong": 1, "tags": 1, "no_turn": 1, "not_verbatim": 1, "cut": 1, "too_long": 1}
    assert dict(counts) == expected | {f"output_{name}": count for name, count in reasons.items()}
    assert counts.keys() <= set(coldstart.COUNTED)
    assert expected["responses"] == sum(expected[name] for name in ("sft", "repeated", "wrong", "cut"))
    assert expected["tried"] == expected["ift"] + sum(reasons.values())

    sft, ift = rows_of(tmp_path / "sft.jsonl"), rows_of(tmp_path / "ift.jsonl")
    assert Counter(row["problem"] for row in sft) == {0: 2, 1: 4, 2: 1, 4: 1, 5: 1}
    assert [row["problem"] for row in ift] == sorted(row["problem"] for row in ift)
    for row in sft + ift:
        problem = PROBLEMS[row["problem"]]
        assert problem.question in row["prompt"] and row["ids"] == [*encode(row["response"]), TOKENIZER.eos_token_id]
        final = row["response"] if row in sft else reflect.parse(row["response"])[1]
        assert verify(final, problem.answer)
    assert all(row["prompt"] == TEXTS[row["problem"]] for row in sft)
    assert all("Wrong attempt:\n" in row["prompt"] for row in ift)


def test_each_good_output_leaves_its_trajectory_under_the_plain_prompt(monkeypatch, tmp_path):
    """In the very ids that training would splice: y-'s own, and then the turn."""
    counts = coldstart.make_data(maker(monkeypatch, Scripted(respond)), tmp_path)
    turns, ift = rows_of(tmp_path / "turns.jsonl"), rows_of(tmp_path / "ift.jsonl")
    assert len(turns) == counts["ift"] and [row["problem"] for row in turns] == [row["problem"] for row in ift]
    for row, output in zip(turns, ift):
        wrong = output["prompt"].split("Wrong attempt:\n")[1].split("\n\nRight attempt:")[0]
        assert row["prompt"] == TEXTS[row["problem"]] and verify(row["response"], PROBLEMS[row["problem"]].answer)
        assert row["response"] == reflect.parse(output["response"])[1]
        assert 0 < row["kept"] < len(row["ids"]) and row["ids"][: row["kept"]] == encode(wrong)[: row["kept"]]
        assert TOKENIZER.decode(row["ids"][:-1]) == row["response"] and row["ids"][-1] == TOKENIZER.eos_token_id


def test_shots_help_to_make_an_output_and_are_not_learnt(monkeypatch, tmp_path):
    sampler = Scripted(respond)
    coldstart.make_data(maker(monkeypatch, sampler, worked=coldstart.worked_examples()), tmp_path)
    asked = [prompt for prompt in sampler.prompts if "Wrong attempt" in prompt]
    plain = [prompt for prompt in sampler.prompts if "Wrong attempt" not in prompt]
    for question, *_ in coldstart.WORKED:
        assert all(question in prompt for prompt in asked) and not any(question in prompt for prompt in plain)
        assert not any(question in row["prompt"] for row in rows_of(tmp_path / "ift.jsonl"))
    assert len(rows_of(tmp_path / "ift.jsonl")) == 4


@pytest.mark.parametrize("worked", coldstart.WORKED)
def test_worked_examples_do_the_task(worked):
    """Each is what the task asks for, and right: the right attempt's answer is its gold."""
    _, wrong, right, output = worked
    made = reflect.construct(
        encode(wrong), output, decode=TOKENIZER.decode, encode=encode, eos_id=TOKENIZER.eos_token_id, max_tokens=1000
    )
    gold = right.split("{")[1].split("}")[0]
    assert made.outcome == "kept" and len(made.prefix) > 10
    assert verify(right, gold) and verify(made.prefix + made.turn, gold) and not verify(wrong, gold)


FILES = ("sft.jsonl", "ift.jsonl", "turns.jsonl", "progress.jsonl")


@pytest.mark.parametrize("calls", [0, 1, 4, 7])
def test_making_goes_on_where_it_was_stopped(monkeypatch, tmp_path, calls):
    """Stopped in the midst of a chunk, and with half a row of the chunk in every file, it ends as if it never was."""
    monkeypatch.setattr(coldstart, "CHUNK", 1)
    (tmp_path / "whole").mkdir()
    whole = coldstart.make_data(maker(monkeypatch, Scripted(respond)), tmp_path / "whole")

    class Stopped(Scripted):
        def sample(self, *given, **named):
            if len(self.prompts) >= calls:
                raise KeyboardInterrupt
            return super().sample(*given, **named)

    (tmp_path / "cut").mkdir()
    with pytest.raises(KeyboardInterrupt):
        coldstart.make_data(maker(monkeypatch, Stopped(respond)), tmp_path / "cut")
    for name in FILES:
        with (tmp_path / "cut" / name).open("a") as file:
            file.write('{"problem": 7}\n{"prob' if name != "progress.jsonl" else '{"prob')
    second = Scripted(respond)
    assert coldstart.make_data(maker(monkeypatch, second), tmp_path / "cut") == whole
    for name in FILES:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert (
        0 < len(second.prompts) <= 16 - calls + 4
    )  # of 6 problems and 10 outputs, but for the chunk it was stopped in


def test_a_hopeless_model_is_given_up(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(coldstart, "CHUNK", 1)
    monkeypatch.setattr(coldstart, "TRIED", 4)
    counts = coldstart.make_data(maker(monkeypatch, Scripted(respond)), tmp_path)
    assert counts["tried"] == 4 and counts["problems"] == 3
    assert "gave up after 3 of 6 problems" in capsys.readouterr().out
    monkeypatch.setattr(coldstart, "SAMPLED", 16)
    (tmp_path / "never").mkdir()
    counts = coldstart.make_data(maker(monkeypatch, Scripted(lambda *_: WRONG)), tmp_path / "never")
    assert counts["tried"] == 0 and counts["problems"] == 4


def test_the_mixture():
    sft, ift = [("s", i) for i in range(30)], [("i", i) for i in range(20)]
    mixed = coldstart.mixture(sft, ift, [], 2.0, 0.0, 0)
    assert Counter(kind for kind, _ in mixed) == {"s": 30, "i": 15} and len(set(mixed)) == 45
    assert Counter(kind for kind, _ in coldstart.mixture(sft, ift[:4], [], 2.0, 0.0, 0)) == {"s": 8, "i": 4}
    assert Counter(kind for kind, _ in coldstart.mixture(sft, ift[:8], [], 0.5, 0.0, 0)) == {"s": 4, "i": 8}
    batches = list(islice(coldstart.batches_of(list(range(10)), 4, 0), 6))
    assert [len(batch) for batch in batches] == [4, 4, 2] * 2
    assert sorted(sum(batches[:3], [])) == sorted(sum(batches[3:], [])) == list(range(10)) and batches[0] != batches[3]


def test_a_share_of_the_plain_examples_turns(capsys):
    """Exactly, in place of own solutions and beside written ones; all, and a sentence, where there are too few. None is
    what it was without turns."""
    sft, ift, turns = ([(kind, i) for i in range(40)] for kind in "sit")
    rng = random.Random(3)
    assert coldstart.mixture(sft, ift, turns, 2.0, 0.0, 3) == rng.sample(sft, 40) + rng.sample(ift, 20)
    for share, turning in ((0.1, 4), (0.25, 10), (0.5, 20), (0.99, 40)):
        mixed = coldstart.mixture(sft, ift, turns, 2.0, share, 3)
        assert Counter(kind for kind, _ in mixed) == Counter(s=40 - turning, i=20, t=turning)
        assert len(set(mixed)) == 60
    for share, turning in ((0.0, 0), (0.1, 4), (0.2, 10), (0.5, 40)):
        shown = coldstart.with_turns(sft + ift, 40, turns, share, 3)
        assert shown[:80] == sft + ift and [kind for kind, _ in shown[80:]] == ["t"] * turning
        assert turning == share * (40 + turning) or share == 0.1
    assert capsys.readouterr().out == ""
    assert Counter(kind for kind, _ in coldstart.mixture(sft, ift, turns[:2], 2.0, 0.1, 3)) == Counter(s=38, i=20, t=2)
    assert capsys.readouterr().out == "--turning asks for 4 turns, and there are 2: all of them are learnt\n"
    assert coldstart.mixture(sft, ift, turns, 2.0, 0.1, 3) != coldstart.mixture(sft, ift, turns, 2.0, 0.1, 4)


def run(monkeypatch, capsys, *argv):
    monkeypatch.setattr("sys.argv", ["coldstart.py", *map(str, argv)])
    coldstart.main()
    return capsys.readouterr().out


def refused(monkeypatch, capsys, *argv):
    monkeypatch.setattr("sys.argv", ["coldstart.py", *map(str, argv)])
    with pytest.raises(SystemExit) as stopped:
        config.run(coldstart.main)
    assert stopped.value.code == 2
    said = capsys.readouterr().err.strip().split("\n")[-1]
    assert said.startswith("error: ")
    return said


SIZES = ["--k", 8, "--temperature", 0.7, "--max-new-tokens", 80, "--max-synthesis-tokens", 160]


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Two GSM8K problems, and a tiny byte-level model that knows by heart to answer them rightly or wrongly and to do
    the synthesis task."""
    if not GSM8K.is_file():
        pytest.skip("needs ../shared")
    folder = tmp_path_factory.mktemp("real")
    problems = [data.Problem(row["problem"], row["answer"]) for row in rows_of(GSM8K)[:2]]
    lines = [json.dumps({"problem": p.question, "answer": p.answer}) for p in problems]
    (folder / "problems.jsonl").write_text("\n".join(lines), encoding="utf-8")
    plain = [data.TEMPLATES.plain.format(question=p.question) for p in problems]
    tokenizer = make_tokenizer([*plain, reflect.SYNTHESIS] * 3, vocab=900)
    model = make_model(vocab=len(tokenizer), hidden=64, context=2048, eos=(tokenizer.eos_token_id,), sharp=1.0)
    policy.save(model, tokenizer, folder / "untrained")

    def learnt(text, response):
        ids = tokenizer(response, add_special_tokens=False).input_ids
        return data.prompt_ids(tokenizer, [text])[0], [*ids, tokenizer.eos_token_id]

    batch = []
    for p, text in zip(problems, plain):
        good, bad = f"The sum gives \\boxed{{{p.answer}}}.", f"The sum gives \\boxed{{{p.answer}0}}."
        fields = {"question": p.question, "wrong": bad, "right": good}
        done = rewritten(f"{bad} Wait, that is too much. It is \\boxed{{{p.answer}}}.")
        batch += [learnt(text, good), learnt(text, bad), learnt(data.TEMPLATES.synthesis.format(**fields), done)]
    coldstart.finetune(model, [batch] * 100, 100, 6e-3, 10)
    policy.save(model, tokenizer, folder / "model")
    return folder


def test_the_whole_program_on_real_problems(real, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(coldstart, "LEAST", 2)
    out, given = tmp_path / "cold", ["--model", real / "model", "--data", real / "problems.jsonl"]
    printed = run(monkeypatch, capsys, *given, "--out", out, *SIZES, "--data-only")
    counts = json.loads((out / "counts.json").read_text())
    assert list(counts) == coldstart.COUNTED and json.dumps(counts, indent=2) in printed
    sft, ift, turns = (rows_of(out / name) for name in FILES[:3])
    assert len(sft) == counts["sft"] > 0 and len(turns) == len(ift) == counts["ift"] >= 2
    assert f"{real / 'model'}: of {len(turns)} constructions the turn's first token has a mean OTS weight" in printed
    assert counts["responses"] == 16 and not (out / "model").exists()
    tokenizer, problems = policy.load_tokenizer(str(real / "model")), data.load(str(real / "problems.jsonl"))
    for row in sft + ift:
        assert row.keys() == {"problem", "prompt", "response", "ids"} and row["ids"][-1] == tokenizer.eos_token_id
        assert tokenizer.decode(row["ids"], skip_special_tokens=True) == row["response"]
        final = row["response"] if row in sft else reflect.parse(row["response"])[1]
        assert verify(final, problems[row["problem"]].answer)

    assert "was begun with k 8, not 4" in refused(monkeypatch, capsys, *given, "--out", out, *SIZES[2:], "--k", 4)
    stamps, finetune = {name: (out / name).read_bytes() for name in FILES}, coldstart.finetune
    learn = ["--out", out, *SIZES, "--batch", 4, "--lr", 1e-3, "--mixture", 1, "--turning", 0.5]
    learnt = []
    monkeypatch.setattr(coldstart, "finetune", lambda model, batches, *_, **__: learnt.extend(next(batches)) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(monkeypatch, capsys, *given, *learn)
    assert any(ids == row["ids"] for _, ids in learnt for row in turns)
    monkeypatch.setattr(coldstart, "finetune", finetune)
    assert "was begun with turning 0.5, not 0.1" in refused(monkeypatch, capsys, *given, *learn[:-2])
    printed = run(monkeypatch, capsys, *given, *learn)
    assert " constructions the turn's first token has" in printed.split("fine-tuning on")[1]
    assert all((out / name).read_bytes() == kept for name, kept in stamps.items())
    before, after = (policy.load_model(str(folder)) for folder in (real / "model", out / "model"))
    assert any(not torch.equal(p, q) for p, q in zip(before.parameters(), after.parameters()))
    assert f"--model {out}/model" in printed and not (out / "checkpoints").exists()
    assert "is finished" in refused(monkeypatch, capsys, *given, "--out", out, *SIZES)


def test_bad_input_and_too_few_examples(real, tmp_path, monkeypatch, capsys):
    problems = real / "problems.jsonl"

    def says(*argv, model="untrained"):
        return refused(monkeypatch, capsys, "--model", real / model, *argv)

    assert "needs --data" in says("--out", tmp_path / "a")
    assert "--plain is for the toy" in says("--out", tmp_path / "a", "--plain")
    assert "--turning 1.0 must be a share below 1" in says("--data", problems, "--out", tmp_path / "a", "--turning", 1)
    assert "--lr must be above 0" in says("--data", problems, "--out", tmp_path / "a", "--lr", "nan")
    assert "a Python file that exists" in says("--data", problems, "--out", tmp_path / "a", "--reward", "absent.py:f")
    assert not (tmp_path / "a").exists()
    assert "no cold start was begun there" in says("--data", problems, "--out", real / "model")
    assert "context holds 2048" in says("--data", problems, "--out", tmp_path / "a", "--max-new-tokens", 2048)
    said = says("--data", problems, "--out", tmp_path / "few", *SIZES, "--k", 2)
    assert "only 0 pairs" in said and "of 4 responses, of which 0 are right" in said
    assert (tmp_path / "few" / "counts.json").exists() and not (tmp_path / "few" / "model").exists()


def test_examples_of_two_rewards_are_not_mixed(tmp_path):
    reward = tmp_path / "rewards.py"
    reward.write_text("def reward(text, problem):\n    return 1\n")
    given = {"model": "x", "data": "x", "out": str(tmp_path / "cold"), "reward": f"{reward}:reward"}
    settings = config.settle(config.ColdStart, given)
    for _ in range(2):
        coldstart.begin(settings, tmp_path / "cold", weights="x")
    reward.write_text("def reward(text, problem):\n    return 0\n")
    with pytest.raises(ValueError, match=r"was begun with reward_digest .*, not .* same flags and files"):
        coldstart.begin(settings, tmp_path / "cold", weights="x")
    checkpoint.unlock(tmp_path / "cold" / ".lock")


def test_what_is_said_of_too_few_examples():
    def said(tried, ift, sft, shots=False):
        counts = Counter(tried=tried, ift=ift, sft=sft, responses=2000, repeated=100)
        with pytest.raises(ValueError) as complaint:
            coldstart.enough(counts, shots, 2.0, "cold")
        return str(complaint.value)

    assert "only 5 pairs" in said(5, 0, 0) and "of which 100 are right" in said(5, 0, 0)
    assert "only 63 of 900" in said(900, 63, 500) and "--shots" in said(900, 63, 500)
    assert "--shots" not in said(900, 63, 500, shots=True)
    assert "only 127 right responses" in said(900, 64, 127) and "there are 128" in said(900, 64, 127)
    coldstart.enough(Counter(tried=64, ift=64, sft=128), False, 2.0, "cold")


def test_fine_tuning_computes_activations_again(tmp_path, monkeypatch):
    """By default, and to the same weights."""
    rows, calls, weights = [(encode(text), [*encode("\\boxed{1}"), 1]) for text in TEXTS[:6]], [], []
    real = policy.checkpoint
    monkeypatch.setattr(policy, "checkpoint", lambda *a, **k: calls.append(1) or real(*a, **k))
    for given in ({}, {"gradient_checkpointing": False}):
        monkeypatch.setattr(policy, "load", lambda *_, **__: (make_model(vocab=len(TOKENIZER), sharp=1.0), TOKENIZER))
        folder = tmp_path / str(len(given))
        folder.mkdir()
        about = {"model": "m", "data": "d", "epochs": 3, "lr": 1e-2} | given
        shown = [{"prompt": "1 + 1?", "ids": ids} for _, ids in rows]
        coldstart.learn(config.settle(config.ColdStart, about), "m", shown, folder)
        weights.append((folder / "model" / "model.safetensors").read_bytes())
        assert len(calls) == 6  # 2 layers in 3 steps; and then none more
    assert weights[0] == weights[1]


@pytest.mark.parametrize("stopped_at", [2, 5])
def test_fine_tuning_goes_on_where_it_was_stopped(tmp_path, stopped_at):
    """To the bit the weights of a run that never stopped; what came after the newest checkpoint is done again."""
    rows = [(encode(text), [*encode("\\boxed{1}"), 1]) for text in TEXTS[:6]]

    def finetuned(folder, batches):
        model = make_model(vocab=len(TOKENIZER), sharp=1.0)
        coldstart.finetune(model, batches, 7, 1e-2, 2, tokenizer=TOKENIZER, folder=folder, save_every=2)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    def stopping():
        yield from islice(coldstart.batches_of(rows, 4, 0), stopped_at)
        raise KeyboardInterrupt

    whole = finetuned(tmp_path / "whole", coldstart.batches_of(rows, 4, 0))
    with pytest.raises(KeyboardInterrupt):
        finetuned(tmp_path / "cut", stopping())
    assert [path.name for path in (tmp_path / "cut").iterdir()] == [f"step-{stopped_at // 2 * 2:06d}"]
    assert torch.equal(finetuned(tmp_path / "cut", coldstart.batches_of(rows, 4, 0)), whole)
    assert not torch.equal(finetuned(None, coldstart.batches_of(rows, 4, 1)), whole)


def test_a_stop_keeps_the_step_that_it_came_in(tmp_path, monkeypatch):
    rows = [(encode(text), [*encode("\\boxed{1}"), 1]) for text in TEXTS[:6]]

    def batches():
        for i, batch in enumerate(coldstart.batches_of(rows, 4, 0)):
            if i == 4:
                monkeypatch.setattr(config, "_asked", 0.0)  # Ctrl-C
            yield batch

    monkeypatch.setattr(config, "_asked", None)
    model = make_model(vocab=len(TOKENIZER), sharp=1.0)
    with pytest.raises(KeyboardInterrupt):
        coldstart.finetune(model, batches(), 7, 1e-2, 2, tokenizer=TOKENIZER, folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000005"]


def test_checkpoints_go_by_the_clock_too_and_a_stop_that_may_be_lost_is_told(tmp_path, monkeypatch, capsys):
    saved, save = [], checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda *given, **more: saved.append(given[1]) or save(*given, **more))
    monkeypatch.setattr(parallel, "grace", lambda: 1e-9)
    rows = [(encode(text), [*encode("\\boxed{1}"), 1]) for text in TEXTS[:6]]
    model = make_model(vocab=len(TOKENIZER), sharp=1.0)
    batches, how = coldstart.batches_of(rows, 4, 0), {"tokenizer": TOKENIZER, "folder": tmp_path, "save_every": 5}
    coldstart.finetune(model, batches, 7, 1e-2, 2, **how, save_minutes=0.0)
    assert saved == list(range(1, 8))
    assert capsys.readouterr().err.count("so a stop may be lost: start it with --shutdown-timeout 1800") == 1


def test_gradients_that_are_not_finite_teach_nothing(monkeypatch):
    """Such a step leaves the model as it was; with three in a row fine-tuning is given up."""
    norms, model = [float("inf"), float("nan"), 1.0, float("nan"), float("inf"), float("inf")], make_model()
    learnt, step = [], torch.optim.AdamW.step
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(norms.pop(0)))
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: learnt.append(len(norms)) or step(self))
    with pytest.raises(ValueError, match="no finite gradient in 3 steps in a row"):
        coldstart.finetune(model, [[([5], [6, 1])]] * 9, 9, 1e-3, 1)
    assert learnt == [3] and norms == [] and all(p.grad is None for p in model.parameters())


def endings(recipe: toy.Recipe) -> torch.Tensor:
    """After a tenth of the toy's cold start, the OTS weights [Q, 5] of what ends a right response behind its second
    guess: "; \\boxed{ x }" and the end token."""
    torch.manual_seed(0)
    model, tokenizer = toy.model(), toy.tokenizer()
    batches = list(islice(toy.batches(tokenizer, 0, recipe=recipe), toy.STEPS // 4, toy.STEPS // 4 + 60))
    how = {"optimizer": toy.optimizer(model)}
    coldstart.finetune(model, batches, 60, toy.LEARNING_RATE, toy.WARMUP, toy.MICRO_BATCH, **how)
    problems = toy.problems()[1][:64]
    prompts = [*data.prompts_of(problems, tokenizer, toy.TEMPLATES)]
    texts = [toy.solution(p.question, [int(p.answer) % 10 + 1, int(p.answer)]) for p in problems]
    with torch.no_grad():
        logprobs_N, entropy_N = policy.Policy(model)(prompts, tokenizer([f"{text} <eos>" for text in texts]).input_ids)
    return ots_weights(logprobs_N, entropy_N).unflatten(0, (64, -1))[:, -5:]


def test_the_toy_s_start_ends_what_it_begins():
    """What it never saw stands at OTS's floor, and TAPO cannot learn it: a start whose demonstrations never turn shows
    that this test can fail."""
    assert endings(toy.RECIPE).min() > 0.5
    assert endings(toy.RECIPE._replace(turning=0.0)).min() < 0.1


def test_the_toy_does_the_synthesis_task():
    """On its own wrong responses: 75 % valid constructions, of which nearly all end right."""
    folder = Path(__file__).parents[1] / toy.COLD_START
    if not folder.exists() or f'"{toy.recipe()}"' not in (folder / "config.json").read_text():
        pytest.skip("no cold start of the toy by this recipe yet: make demo makes it")
    model, tokenizer = policy.load(str(folder))
    assert coldstart.toy_skill(model, tokenizer) >= 0.75


def test_files_that_lost_rows_are_noticed(monkeypatch, tmp_path):
    coldstart.make_data(maker(monkeypatch, Scripted(respond)), tmp_path)
    kept = (tmp_path / "sft.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "sft.jsonl").write_text("".join(kept[:-1]))
    with pytest.raises(ValueError, match="has lost rows"):
        coldstart.make_data(maker(monkeypatch, Scripted(respond)), tmp_path)


SHOWN = {"problem": "How much is 2 plus 3?", "answer": "5"}
SOLVED = SHOWN | {"solution": "2 + 3 = 5. \\boxed{5}"}
TURNED = SHOWN | {
    "wrong": "2 + 3 = 6. \\boxed{6}",
    "right": "3 + 2 = 5. \\boxed{5}",
    "analysis": "2 + 3 is 5, not 6.",
    "reconstruction": "2 + 3 = 6. Wait, 2 + 3 = 5. \\boxed{5}",
}


def demonstrated(file, *rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return coldstart.demonstrations(str(file), TOKENIZER, config.Prompting(), rollouts.exact)


def test_demonstrations_become_examples_of_both_tasks(tmp_path):
    (solved, turned), [turn] = demonstrated(tmp_path / "shown.jsonl", SOLVED, TURNED)
    assert turn["prompt"] == solved["prompt"] and turn["problem"] == turned["problem"] == 1
    assert turn["response"] == TURNED["reconstruction"] == TOKENIZER.decode(turn["ids"][:-1])
    assert turn["ids"][-1] == policy.end_of_response(TOKENIZER)
    assert solved["prompt"] == data.TEMPLATES.plain.format(question=SHOWN["problem"])
    assert solved["response"] == SOLVED["solution"] and solved["ids"][:-1] == encode(SOLVED["solution"])
    assert solved["ids"][-1] == turned["ids"][-1] == policy.end_of_response(TOKENIZER)
    assert turned["prompt"] == reflect.SYNTHESIS.format(
        question=SHOWN["problem"], wrong=TURNED["wrong"], right=TURNED["right"]
    )
    assert reflect.parse(turned["response"]) == (TURNED["analysis"], TURNED["reconstruction"])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (SHOWN, "neither solution nor wrong, right, analysis, reconstruction"),
        (SOLVED | {"solution": "\\boxed{6}"}, "its solution is not right"),
        (TURNED | {"right": "\\boxed{6}"}, "its right is not right"),
        (
            TURNED | {"wrong": "\\boxed{5}", "reconstruction": "\\boxed{5} Wait, \\boxed{5}"},
            "its wrong attempt is right",
        ),
        (TURNED | {"reconstruction": "2 + 3 = 6. Wait, it is. \\boxed{6}"}, "its reconstruction is not right"),
        (TURNED | {"reconstruction": "I add: 6. Wait, \\boxed{5}"}, reflect.OUTCOMES["not_verbatim"]),
        (TURNED | {"reconstruction": "2 + 3 = 6. It is \\boxed{5}"}, reflect.OUTCOMES["no_turn"]),
        (TURNED | {"analysis": "</analysis>"}, reflect.OUTCOMES["tags"]),
        ({"problem": "2 + 3"}, "answer missing"),
    ],
)
def test_a_demonstration_that_shows_something_else_is_refused(tmp_path, row, reason):
    with pytest.raises(ValueError, match="line 2: ") as refusal:
        demonstrated(tmp_path / "shown.jsonl", SOLVED, row)
    assert reason in str(refusal.value)


def test_a_file_without_demonstrations_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no demonstrations"):
        demonstrated(tmp_path / "shown.jsonl")


def test_written_arithmetic_demonstrates_both_tasks(tmp_path):
    """Of every kind and every step that can be wrong; and no held-out question is shown."""
    rng, kinds = random.Random(0), [*arithmetic.KINDS]
    shown = [*islice(arithmetic.exercises("shown", False, kinds), 140)]
    rows = [row for one in shown for row in (arithmetic.solution(one), arithmetic.construction(one, rng))]
    assert [len(made) for made in demonstrated(tmp_path / "shown.jsonl", *rows)] == [280, 140]
    prefixes = [row["reconstruction"].partition(" Wait, ")[0] for row in rows if "wrong" in row]
    assert len(prefixes) == 140 and all(map(arithmetic.turns_at_its_error, prefixes))
    assert all(all(arithmetic.truths(row["solution"])) for row in rows if "solution" in row)
    assert arithmetic.truths("x = 8 / 4 = 2, 2 + 2 = 5, 3 - 1 = 2. \\boxed{2}") == [True, False, True]
    held_out = {one.question for one in islice(arithmetic.exercises("shown", True, kinds), 140)}
    assert len(held_out) == 140 and not held_out & {one.question for one in shown}
    assert not any(one.kind == arithmetic.HELD_OUT for one in islice(arithmetic.exercises("shown", False), 60))


def rounds(monkeypatch, tmp_path, shares, shown=(SOLVED,), **making):
    """`in_rounds` with models that make so large a share of valid constructions: what each round learnt, and from which
    model."""
    demonstrated(tmp_path / "shown.jsonl", *shown)
    learnt, shares = [], iter(shares)

    def learn(settings, path, rows, folder):
        if not (folder / "model").exists():
            learnt.append((Path(path).parent.name, len(rows)))
            (folder / "model").mkdir(parents=True)

    def make(settings, path, problems, folder):
        assert (path).exists()
        folder.mkdir(exist_ok=True)
        for name in coldstart.KINDS:
            (folder / f"{name}.jsonl").write_text('{"problem": 0}\n')
        share = next(shares)
        if share is None:
            raise KeyboardInterrupt
        return Counter(tried=100, ift=share, responses=500, output_tags=100 - share)

    monkeypatch.setattr(coldstart, "learn", learn)
    monkeypatch.setattr(coldstart, "make", make)
    monkeypatch.setattr(policy, "load_tokenizer", lambda _: TOKENIZER)
    given = {"model": "base/model", "data": "x", "out": str(tmp_path), "mixture": 1.0}
    given |= {"demonstrations": str(tmp_path / "shown.jsonl")} | making
    return lambda: coldstart.in_rounds(config.settle(config.ColdStart, given), PROBLEMS, tmp_path), learnt


def test_rounds_end_with_the_first_model_that_constructs(monkeypatch, tmp_path, capsys):
    """Round 0 learns the demonstrations, each later one what the model before it made, beside them."""
    run, learnt = rounds(monkeypatch, tmp_path, [10, 59, 60])
    run()
    assert learnt == [("base", 1), ("round-0", 3), ("round-1", 3)]
    assert (tmp_path / "model").is_dir() and not (tmp_path / "round-2" / "model").exists()
    said = capsys.readouterr().out
    assert "round 0: 10 of 100 constructions are valid (10 %), 10 of them right; lost: 90 tags" in said
    assert rollouts.made_with(str(tmp_path / "model"))[1] == tmp_path / "data.json"


@pytest.mark.parametrize("share, turns", [(0.0, 0), (0.1, 1), (0.4, 6), (0.9, 7)])
def test_written_turns_come_beside_all_that_was_written(monkeypatch, tmp_path, share, turns):
    """Nine solutions and seven constructions: so many turns are a share of the plain prompt's examples."""
    run, learnt = rounds(monkeypatch, tmp_path, [60], shown=[SOLVED] * 9 + [TURNED] * 7, turning=share)
    run()
    assert learnt == [("base", 9 + 7 + turns)]


def test_rounds_that_do_not_suffice_say_so(monkeypatch, tmp_path):
    run, learnt = rounds(monkeypatch, tmp_path, [10, 20], rounds=2)
    with pytest.raises(ValueError, match=r"after 2 rounds 20 % .* --skill asks for 60 %: .*round-1/model is there"):
        run()
    assert learnt == [("base", 1), ("round-0", 3)] and not (tmp_path / "model").exists()


def test_rounds_go_on_where_they_were_stopped(monkeypatch, tmp_path):
    run, learnt = rounds(monkeypatch, tmp_path, [10, None, 10, 70])
    with pytest.raises(KeyboardInterrupt):
        run()
    run()
    assert learnt == [("base", 1), ("round-0", 3)] and (tmp_path / "model").is_dir()


def test_the_whole_program_with_demonstrations(real, tmp_path, monkeypatch, capsys):
    """With other demonstrations it does not go on with what it began; with the same it learns, makes, and is done."""
    monkeypatch.setattr(coldstart, "LEAST", 2)
    shown, given = tmp_path / "shown.jsonl", ["--model", real / "model", "--data", real / "problems.jsonl"]
    demonstrated(shown, SOLVED, TURNED)
    given += [
        "--out",
        tmp_path / "cold",
        *SIZES,
        "--demonstrations",
        shown,
        "--lr",
        1e-6,
        "--epochs",
        1,
        "--skill",
        0.1,
    ]
    printed = run(monkeypatch, capsys, *given)
    assert "fine-tuning on 2 examples, 1 steps" in printed and "round 0: " in printed
    assert (tmp_path / "cold" / "model").is_dir() and (tmp_path / "cold" / "round-1" / "counts.json").is_file()
    assert "is finished" in refused(monkeypatch, capsys, *given)
    (tmp_path / "cold" / "model").rename(tmp_path / "cold" / "round-0" / "model")
    demonstrated(shown, SOLVED)
    assert "was begun with demonstrations" in refused(monkeypatch, capsys, *given)
    assert "leave --demonstrations out" in refused(monkeypatch, capsys, *given, "--data-only")
