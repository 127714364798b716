"""A run that is stopped, killed or out of luck goes on as if nothing had happened (invariants 9, 12)."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from test_parallel import finish, processes
from transformers import AutoModelForCausalLM

import parallel
import train
from rollouts import Actor
from train import Trainer

ROOT = Path(__file__).parents[1]
SIZES = ["--queries", 3, "--n-neg", 2, "--max-new-tokens", 30, "--max-synthesis-tokens", 99, "--lr", 1e-3, "--kl", 0.1]


@pytest.fixture
def begin(real_path, run_program):
    """Starts train.py on the real path, in this process; returns its exit code and what it said."""

    def start(*argv):
        given = ["--model", real_path / "model", "--data", real_path / "problems.jsonl", *SIZES, *argv]
        return run_program(train.main, *given)

    start.again = lambda argv: run_program(train.main, *argv)
    return start


def weights(folder):
    return (folder / "model" / "model.safetensors").read_bytes()


def stop_in_step(monkeypatch, number, what):
    """Have step `number` (from 0) end in `what`, once."""
    original, due = Trainer.step, [True]

    def step(self, n):
        if n == number and due:
            due.clear()
            what()
        return original(self, n)

    monkeypatch.setattr(Trainer, "step", step)


def steps_of(folder, name="metrics.jsonl"):
    return [json.loads(line)["step"] for line in (folder / name).read_text().splitlines()]


def test_a_stopped_run_goes_on_bit_for_bit(begin, tmp_path, monkeypatch):
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert begin("--steps", 4, "--out", straight, "--epochs", 2)[0] == 0
    with monkeypatch.context() as patch:
        stop_in_step(patch, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert begin("--steps", 4, "--out", stopped, "--epochs", 2)[0] == 130
    assert steps_of(stopped) == [1, 2]
    AutoModelForCausalLM.from_pretrained(stopped / "model")
    with open(stopped / "rollouts.jsonl", "a") as file:
        file.write('{"step": 3}\n')
    with open(stopped / "metrics.jsonl", "a") as file:
        file.write('{"step": 3, "accuracy": 0.1}\n{"step": 4, "accu')  # a step that was lost, and a torn one
    code, said = begin.again(["--resume", "--out", stopped, "--steps", 4])
    assert code == 0 and "2 of 4 steps done" in said
    assert weights(stopped) == weights(straight)
    assert steps_of(stopped) == steps_of(straight) == [1, 2, 3, 4]
    assert steps_of(stopped, "trajectories.jsonl") == steps_of(straight, "trajectories.jsonl")
    assert steps_of(straight, "rollouts.jsonl") == [step for step in (1, 2, 3, 4) for _ in range(4)]
    assert (stopped / "rollouts.jsonl").read_text() == (straight / "rollouts.jsonl").read_text()
    assert [p.name for p in (stopped / "checkpoints").iterdir()] == ["step-000004"]

    assert begin.again(["--resume", "--out", stopped, "--steps", 5])[0] == 0  # a finished run can be made longer
    assert begin("--steps", 5, "--out", tmp_path / "longer", "--epochs", 2)[0] == 0
    assert weights(stopped) == weights(tmp_path / "longer")


def test_flags_that_contradict_the_run_are_refused(begin, tmp_path):
    out = tmp_path / "run"
    assert begin("--steps", 1, "--out", out, "--seed", 3)[0] == 0
    before = weights(out)
    for argv, complaint in [
        (["--seed", 4], "--seed 4 contradicts the run"),
        (["--algo", "grpo"], "--algo grpo contradicts the run"),
        (["--steps", 1], "has its 1 steps already: raise --steps"),
        (["--lr", 0.1, "--steps", 2], "--lr 0.1 contradicts the run"),
    ]:
        code, said = begin.again(["--resume", "--out", out, *argv])
        assert code == 2 and complaint in said, said
    assert begin.again(["--resume", "--out", out, "--seed", 3, "--steps", 2, "--slots", 7])[0] == 0
    assert weights(out) != before
    assert "there is no run in" in begin.again(["--resume", "--out", tmp_path / "absent"])[1]
    assert "--resume needs --out" in begin.again(["--resume"])[1]


def test_an_evaluation_that_was_stopped_is_made_up_for(begin, tmp_path, real_path, monkeypatch):
    out, problems = tmp_path / "run", real_path / "problems.jsonl"
    evaluate = Trainer.evaluate

    def stopped(self, held_out):
        if (out / "metrics.jsonl").exists():
            raise parallel.Stopped
        return evaluate(self, held_out)

    measured = ["--eval-data", problems, "--eval-samples", 2, "--eval-every", 1]
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "evaluate", stopped)
        assert begin("--steps", 1, "--out", out, *measured)[0] == 130
    assert steps_of(out, "evaluations.jsonl") == [0]
    longer = tmp_path / "longer"
    shutil.copytree(out, longer, symlinks=True)
    code, said = begin.again(["--resume", "--out", out])
    assert code == 0 and "1 of 1 steps done" in said and steps_of(out, "evaluations.jsonl") == [0, 1]
    assert "has its 1 steps already" in begin.again(["--resume", "--out", out])[1]
    assert begin.again(["--resume", "--out", longer, "--steps", 2])[0] == 0
    assert steps_of(longer, "evaluations.jsonl") == [0, 1, 2]


def test_a_run_without_a_checkpoint_starts_again(begin, tmp_path, monkeypatch):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("checkpoint.Run.save", lambda *_: None)  # killed before the first save
        stop_in_step(patch, 1, lambda: os.kill(os.getpid(), signal.SIGINT))
        assert begin("--steps", 2, "--out", out)[0] == 130
    code, said = begin.again(["--resume", "--out", out])
    assert code == 0 and "0 of 2 steps done" in said and steps_of(out) == [1, 2]
    assert f"{out} has no checkpoint: it begins anew at step 0, and replaces what it logged (1 steps)" in said
    shutil.rmtree(out / "checkpoints")  # after it has saved, its steps are no more than that kill's
    code, said = begin.again(["--resume", "--out", out])
    assert code == 2 and f"{out} has lost its checkpoints: put them back" in said and steps_of(out) == [1, 2]


def test_a_reward_that_was_changed_is_told(begin, tmp_path):
    """Training goes on with it, because a reward that failed is to be mended."""
    out, reward = tmp_path / "run", tmp_path / "rewards.py"
    reward.write_text("def reward(text, problem):\n    return len(text) % 2\n")
    assert begin("--steps", 1, "--out", out, "--reward", f"{reward}:reward")[0] == 0
    code, said = begin.again(["--resume", "--out", out, "--steps", 2])
    assert code == 0 and "warning" not in said
    reward.write_text("def reward(text, problem):\n    return len(text) % 3\n")
    code, said = begin.again(["--resume", "--out", out, "--steps", 3])
    assert code == 0 and f"warning: {reward}:reward was changed since the run had it: from step 3 on" in said
    code, said = begin.again(["--resume", "--out", out, "--steps", 4])
    assert code == 0 and "warning" not in said


def test_a_stop_waits_for_the_end_of_an_update(begin, tmp_path, monkeypatch):
    original = Trainer.descend

    def descend(self, batch, rows, tally):
        os.kill(os.getpid(), signal.SIGINT)
        return original(self, batch, rows, tally)

    monkeypatch.setattr(Trainer, "descend", descend)
    code, said = begin("--steps", 9, "--out", tmp_path / "run")
    assert code == 130 and "stopping when this is done" in said
    assert steps_of(tmp_path / "run") == [1]
    assert (tmp_path / "run" / "checkpoints" / "step-000001").is_dir()


def test_a_few_steps_without_a_finite_gradient_end_the_run(begin, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(float("inf")))
    code, said = begin("--steps", 9, "--out", tmp_path / "run")
    assert "step 2: the gradient is not finite" in said and "3 steps in a row: lower --lr" in code
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["skipped"] for row in rows] == [1, 1, 1] and rows[0]["grad_norm"] is None


@pytest.mark.parametrize(
    "owner, part, flag",
    [(Actor, "sample", "--slots"), (Actor, "construct", "--slots"), (Trainer, "descend", "--micro-batch-tokens")],
)
def test_out_of_memory_names_the_flag_to_lower(begin, tmp_path, monkeypatch, owner, part, flag):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(owner, part, full)
    code, _ = begin("--steps", 1, "--out", tmp_path / "run")
    assert f"out of memory: lower {flag}" in code


@pytest.mark.parametrize("count, steps", [(1, 12), (2, 6), (4, 6)])
def test_killed_at_random_moments(real_path, tmp_path, count, steps):
    """kill -9 of the real program, of all its processes; bench/kill.py does more of them."""
    given = ["--model", real_path / "model", "--data", real_path / "problems.jsonl", *SIZES, "--save-every", 1]

    def program(*argv):
        return processes(count, ROOT / "train.py", *argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    finish(program(*given, "--steps", steps, "--out", tmp_path / "straight"))
    killed, log = tmp_path / "killed", tmp_path / "killed" / "metrics.jsonl"
    for kill in range(2):
        begun = program(*given, "--steps", steps, "--out", killed, *(["--resume"] if kill else []))
        before = len(log.read_bytes().splitlines()) if log.exists() else 0
        deadline = time.monotonic() + 600
        while not log.exists() or len(log.read_bytes().splitlines()) < before + 2 - kill:
            assert time.monotonic() < deadline and begun[0].poll() is None
            time.sleep(0.003)
        time.sleep(0.02 * kill)
        for process in begun:
            process.kill()
        for process in begun:
            process.wait()
    finish(program("--resume", "--out", killed))
    assert weights(killed) == weights(tmp_path / "straight")
    assert steps_of(killed) == list(range(1, steps + 1))
