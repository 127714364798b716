"""The offline filter: nothing is estimated twice, and the bounds are the paper's."""

import json

import pytest
from test_coldstart import PROBLEMS, TOKENIZER, Scripted, answer_of
from tiny import make_model

import config
import data
import policy
from tools import zpd

RIGHT = {"2": 0, "4": 1, "6": 4, "8": 7, "10": 8, "12": 3}  # of 8, by the problem's answer


def respond(prompt, index):
    answer = answer_of(prompt)
    if "Wrong attempt" in prompt:
        return f"<analysis>No.</analysis><reconstruction>\\boxed{{x}} Wait, \\boxed{{{answer}}}</reconstruction>"
    return f"\\boxed{{{answer if index < RIGHT[answer] else 'x'}}}"


@pytest.fixture
def given(tmp_path):
    model = make_model(vocab=len(TOKENIZER), context=512, eos=(TOKENIZER.eos_token_id,))
    policy.save(model, TOKENIZER, tmp_path / "model")
    write(tmp_path / "problems.jsonl", PROBLEMS)
    flags = ["--model", tmp_path / "model", "--data", tmp_path / "problems.jsonl", "--out", tmp_path / "kept.jsonl"]
    return [*flags, "--max-new-tokens", 40, "--max-synthesis-tokens", 80]


def write(file, problems):
    rows = [json.dumps({"question": p.question, "answer": p.answer}) for p in problems]
    file.write_text("\n".join(rows), encoding="utf-8")


def run(monkeypatch, sampler, *argv):
    monkeypatch.setattr(zpd, "Sampler", sampler)
    monkeypatch.setattr("sys.argv", ["zpd.py", *map(str, argv)])
    config.run(zpd.main)


def kept(tmp_path):
    return [p.answer for p in data.load(str(tmp_path / "kept.jsonl"))]  # as train.py reads it


def test_problems_within_the_bounds_are_kept_and_others_are_counted(given, tmp_path, monkeypatch, capsys):
    sampler = Scripted(respond)
    run(monkeypatch, sampler, *given)
    assert kept(tmp_path) == ["4", "6", "8", "12"]
    assert "kept 4 of 6 problems" in (said := capsys.readouterr().out) and "1 are too hard, 1 too easy" in said
    rows = [json.loads(line) for line in (tmp_path / "kept.estimates.jsonl").open()]
    assert [row["right"] for row in rows] == [RIGHT[row["answer"]] for row in rows]
    assert [row["accuracy"] for row in rows] == [0, 0.125, 0.5, 0.875, 1, 0.375]
    assert all(row["n"] == 8 for row in rows)
    begun = json.loads((tmp_path / "kept.config.json").read_text())["settings"]
    assert begun["n"] == 8 and begun["max_new_tokens"] == 40 and len(begun["weights"]) == 16
    tasks = [prompt for prompt in sampler.prompts[6:] if "Wrong attempt" in prompt]
    assert len(sampler.prompts) == 6 + 4 + 13 and len(tasks) == 13  # of 4, 4, 1 and 4 wrong responses
    told = (tmp_path / "kept.turning.txt").read_text()
    assert said.endswith(told) and "of 13 constructions the turn's first token has a mean OTS weight of " in told


def test_without_a_construction_it_says_so(given, tmp_path, monkeypatch, capsys):
    run(
        monkeypatch,
        Scripted(lambda prompt, index: "no" if "Wrong attempt" in prompt else respond(prompt, index)),
        *given,
    )
    assert "no construction could be made" in capsys.readouterr().out and not (tmp_path / "kept.turning.txt").exists()


def test_nothing_is_estimated_twice(given, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(zpd, "CHUNK", 2)

    class Stopped(Scripted):
        def sample(self, *given, **named):
            if len(self.prompts) == 4:
                raise KeyboardInterrupt
            return super().sample(*given, **named)

    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, Stopped(respond), *given)
    assert stopped.value.code == 130 and not (tmp_path / "kept.jsonl").exists()
    estimates = tmp_path / "kept.estimates.jsonl"
    estimates.write_bytes(estimates.read_bytes()[:-5])  # the last of four rows is torn
    second = Scripted(respond)
    run(monkeypatch, second, *given)
    assert len([prompt for prompt in second.prompts if "Wrong attempt" not in prompt]) == 3 + 4
    assert kept(tmp_path) == ["4", "6", "8", "12"]

    third = Scripted(respond)
    run(monkeypatch, third, *given, "--low", 0.3, "--high", 0.5)
    assert third.prompts == [] and kept(tmp_path) == ["6", "12"]
    write(tmp_path / "problems.jsonl", [PROBLEMS[2], PROBLEMS[2], data.Problem("How much is 1 plus 1? Say it.", "2")])
    run(monkeypatch, third, *given)  # an old problem twice and a new one
    assert len(third.prompts) == 1 and kept(tmp_path) == ["6"]


def test_bad_input(given, tmp_path, monkeypatch, capsys):
    def says(*argv):
        with pytest.raises(SystemExit) as stopped:
            run(monkeypatch, Scripted(respond), *given, *argv)
        assert stopped.value.code == 2
        return capsys.readouterr().err.strip().split("\n")[-1]

    assert "the lower first" in says("--low", 0.9)
    assert ".jsonl file in a folder that exists" in says("--out", tmp_path / "none" / "kept.jsonl")
    before = (tmp_path / "problems.jsonl").read_bytes()
    assert "exists already" in says("--out", tmp_path / "problems.jsonl")
    assert (tmp_path / "problems.jsonl").read_bytes() == before
    run(monkeypatch, Scripted(respond), *given)
    assert "was begun with n 8, not 4" in says("-n", 4)
    assert "was begun with temperature 1.0, not 0.5" in says("--temperature", 0.5)
    other = make_model(vocab=len(TOKENIZER), context=512, eos=(TOKENIZER.eos_token_id,), sharp=2.0)
    policy.save(other, TOKENIZER, tmp_path / "other")
    assert "was begun with weights" in says("--model", tmp_path / "other")
    (tmp_path / "model").rename(tmp_path / "moved")
    run(monkeypatch, Scripted(respond), *given, "--model", tmp_path / "moved")
    (tmp_path / "kept.config.json").unlink()  # what the estimates were made with is not known any more
    before = (tmp_path / "kept.estimates.jsonl").read_bytes()
    assert "kept.config.json" in says("--model", tmp_path / "moved", "-n", 4)
    assert (tmp_path / "kept.estimates.jsonl").read_bytes() == before


def test_the_reward_decides_what_is_right(given, tmp_path, monkeypatch, capsys):
    rewards = tmp_path / "rewards.py"
    rewards.write_text("def reward(text, problem):\n    return 0.5 * ('{x}' in text)\n")

    def says(place):
        with pytest.raises(SystemExit) as stopped:
            run(monkeypatch, Scripted(respond), *given, "--reward", place)
        assert stopped.value.code == 2
        return capsys.readouterr().err.strip().split("\n")[-1]

    assert "a Python file that exists" in says(tmp_path / "reward.py:reward")  # a slip, which leaves nothing behind
    run(monkeypatch, Scripted(respond), *given, "--reward", f"{rewards}:reward")
    rows = [json.loads(line) for line in (tmp_path / "kept.estimates.jsonl").open()]
    assert [row["right"] for row in rows] == [8 - RIGHT[row["answer"]] for row in rows]
    rewards.write_text("def reward(text, problem):\n    return 1\n\n\ndef other(text, problem):\n    return 1 / 0\n")
    assert f"was begun with reward {rewards}:reward, not {rewards}:other" in says(f"{rewards}:other")
    assert "was begun with reward_digest" in (said := says(f"{rewards}:reward")) and "same flags and files" in said
    (tmp_path / "kept.config.json").unlink()
    (tmp_path / "kept.estimates.jsonl").unlink()
    (tmp_path / "kept.jsonl").unlink()
    assert "ZeroDivisionError" in (said := says(f"{rewards}:other")) and "rewards.py, line 6)" in said
