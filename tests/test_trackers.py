"""TensorBoard and W&B get every figure of a run at its step, go on with a resumed one, and never stop one."""

import importlib.util
import json
import math
import struct
from types import SimpleNamespace

import pytest

import config
import parallel
import train
from tapo import TAPO
from tools import trackers

SIZES = ["--algo", "grpo", "--queries", 2, "--max-new-tokens", 20, "--lr", 1e-3, "--eval-samples", 1, "--save-every", 9]


@pytest.fixture
def begin(real_path, tmp_path, monkeypatch, run_program):
    """Runs train.py in `tmp_path` on the real path; returns its exit code and output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")

    def start(*argv):
        problems = real_path / "problems.jsonl"
        given = ["--model", real_path / "model", "--data", problems, "--eval-data", problems, *SIZES]
        return run_program(train.main, *(argv if "--resume" in argv else [*given, *argv]))

    return start


def logged(run):
    """{step: {name: number}} of a run's own logs."""
    found = {}
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        for row in map(json.loads, (run / name).open()):
            numbers, step = trackers.numbers_of(name, row)
            found.setdefault(step, {}).update(numbers)
    return found


def in_tensorboard(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    found = {}
    for name in events.Tags()["scalars"]:
        for event in events.Scalars(name):
            assert name not in found.setdefault(event.step, {})  # each once
            found[event.step][name] = event.value
    return found


def in_wandb(run):
    """From the file of an offline run: records in LevelDB's log format, in blocks of 32 KiB, behind a header."""
    from wandb.proto.wandb_internal_pb2 import Record

    found, ids = {}, set()
    for file in sorted(run.glob("wandb/offline-run-*/run-*.wandb")):
        content, at, whole = file.read_bytes(), 7, b""
        while at + 7 <= len(content):
            if (left := 32768 - at % 32768) < 7:
                at += left
                continue
            _, length, kind = struct.unpack("<IHB", content[at : at + 7])
            whole, at = whole + content[at + 7 : at + 7 + length], at + 7 + length
            if kind in (1, 4):  # a record in one piece, or its last piece
                record, whole = Record.FromString(whole), b""
                ids |= {record.run.run_id} - {""}
                items = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
                if "step" in items:
                    numbers = {name: json.loads(value) for name, value in items.items() if "/" in name}
                    found.setdefault(json.loads(items["step"]), {}).update(numbers)
    assert len(ids) == 1
    return found


TRACKERS = [
    pytest.param(
        name, found, marks=pytest.mark.skipif(not importlib.util.find_spec(name), reason=f"{name} is not installed")
    )
    for name, found in (("tensorboard", in_tensorboard), ("wandb", in_wandb))
]


def same(found, expected):
    assert found.keys() == expected.keys()
    for step, numbers in expected.items():
        assert found[step] == pytest.approx(numbers, rel=1e-6)  # TensorBoard's are float32


@pytest.mark.parametrize(("name", "found"), TRACKERS)
def test_every_number_is_there_at_its_step_also_of_a_resumed_run(begin, tmp_path, monkeypatch, name, found):
    step = train.Trainer.step

    def fails(self, number):
        if number == 2:
            raise MemoryError  # nothing is saved
        return step(self, number)

    code, _ = begin("--steps", 1, "--out", "run", "--log", name)
    assert code == 0
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(train.Trainer, "step", fails)
        begin("--resume", "--out", "run", "--steps", 4)
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2  # step 2 will be done again
    assert begin("--resume", "--out", "run", "--steps", 4)[0] == 0
    expected = logged(tmp_path / "run")
    assert expected.keys() == {0, 1, 2, 3, 4} and {"held-out/pass@1", "training/accuracy"} < expected[4].keys()
    assert "training/outcomes/kept" in expected[3]
    same(found(tmp_path / "run"), expected)


@pytest.mark.parametrize(("name", "found"), TRACKERS)
def test_a_tracker_that_comes_later_gets_what_was_logged_before(begin, tmp_path, name, found):
    assert begin("--steps", 2, "--out", "run")[0] == 0
    assert begin("--resume", "--out", "run", "--steps", 3, "--log", name)[0] == 0
    same(found(tmp_path / "run"), logged(tmp_path / "run"))


def test_numbers_of_a_row():
    row = {"step": 3, "accuracy": 0.5, "kl": None, "outcomes": {"kept": 2, "cut": 0}, "note": "text", "flag": True}
    numbers = {"training/accuracy": 0.5, "training/outcomes/kept": 2, "training/outcomes/cut": 0}
    assert trackers.numbers_of("metrics.jsonl", row) == (numbers, 3)
    assert trackers.numbers_of("evaluations.jsonl", {"step": 0, "pass@1": 1.0}) == ({"held-out/pass@1": 1.0}, 0)


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
@pytest.mark.parametrize("found", [None, SimpleNamespace(origin=None)])
def test_a_missing_package_is_named_at_the_start(begin, tmp_path, monkeypatch, name, found):
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: found)  # or a folder of this name is in the way
    code, said = begin("--steps", 1, "--out", "run", "--log", name)
    assert code == 2 and not (tmp_path / "run").exists()
    assert said == f"error: --log {name} needs a package that is not installed: pip install {name}\n"


class Fake:
    """A tracker that fails at one of its calls."""

    mark, fails_at, told = "fake", math.inf, []

    def __init__(self, folder, settings, done):
        self.calls = 0
        self.add({"begun": settings["seed"]}, done)

    def add(self, numbers, step):
        self.calls += 1
        if self.calls >= self.fails_at:
            raise RuntimeError("the server\nsays no")
        self.told.append((numbers, step))

    def close(self):
        self.add({}, None)


@pytest.mark.parametrize("fails_at", [1, 2, 3, 6, 99])
def test_a_tracker_never_stops_a_run(begin, tmp_path, monkeypatch, fails_at):
    """Neither at its start nor at a step nor at its end; the other one goes on."""
    broken, sound = type("Broken", (Fake,), {"fails_at": fails_at, "told": []}), type("Sound", (Fake,), {"told": []})
    monkeypatch.setattr(trackers, "TensorBoard", broken)
    monkeypatch.setattr(trackers, "WeightsAndBiases", sound)
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: SimpleNamespace(origin="here"))
    code, said = begin("--steps", 2, "--out", "run", "--log", "tensorboard", "--log", "wandb")
    assert code == 0 and "saved step 2" in said
    told = [line[line.index("--log") :] for line in said.splitlines() if "--log " in line]
    sentence = "--log tensorboard ends here, and the run goes on: RuntimeError: the server says no"
    assert told == ([sentence] if fails_at < 99 else [])
    assert [step for _, step in sound.told] == [0, 0, 1, 2, 2, None]
    assert broken.told == sound.told[: fails_at - 1]
    assert begin("--steps", 2, "--out", "plain")[0] == 0
    weights = [(tmp_path / run / "model" / "model.safetensors").read_bytes() for run in ("run", "plain")]
    assert weights[0] == weights[1]


def test_only_the_first_process_tracks(monkeypatch, tmp_path):
    begun = []
    monkeypatch.setattr(trackers, "TensorBoard", type("Seen", (Fake,), {"told": begun}))
    settings = config.Training(
        *(part() for part in config.parts_of(config.Training).values() if part is not config.Keeping),
        config.Keeping(log=("tensorboard",)),
    )
    run = SimpleNamespace(folder=tmp_path, rows=lambda name: [])
    for rank in (1, 0):
        monkeypatch.setattr(parallel, "rank", lambda rank=rank: rank)
        train.Course(SimpleNamespace(settings=settings, objective=TAPO), run, [], 0).bar.close()
        assert len(begun) == (rank == 0)


def test_what_is_named_by_a_model_s_tokens_is_no_figure():
    row = {"step": 3, "floor_share": 0.1, "floor_tokens": {"wait": 7}, "outcomes": {"kept": 2}}
    assert trackers.numbers_of("metrics.jsonl", row) == ({"training/floor_share": 0.1, "training/outcomes/kept": 2}, 3)
