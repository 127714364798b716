"""Every file that a program reads back, damaged: cut at some byte, a byte flipped, a value of another type, a key lost.
The program goes on, or refuses in one sentence; it never ends in another error. What it refuses it leaves as it was."""

import json
import random
import shutil

import pytest
from test_eval import toy_path  # noqa: F401  (a fixture)

import checkpoint
import config
import eval as evaluation
import toy
import train
from tools import report, zpd

SIZES = {"queries": 3, "n_neg": 2, "max_new_tokens": 30, "max_synthesis_tokens": 99, "steps": 2}
OTHERS = (None, 0, -1, 1.5, "x", [], {}, True, 10**30)
LIMIT = 40  # damages a file


def damages(content: bytes, rng: random.Random) -> list[bytes]:
    """Damaged versions of a file."""
    made = [content[: rng.randrange(len(content))] for _ in range(8)] + [b"", b"\xff\xfe", b"null\n", b"[[[[" * 5000]
    for _ in range(8):
        flipped = bytearray(content)
        flipped[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        made.append(bytes(flipped))
    try:
        rows = [json.loads(line) for line in content.splitlines()] if content[:1] == b"{" else []
    except ValueError:  # one object over several lines
        rows = [json.loads(content)]
    for _ in range(24 if rows else 0):
        changed = json.loads(json.dumps(rows))
        place = rng.choice(changed)
        while isinstance(inner := place[key := rng.choice([*place])], dict) and inner and rng.random() < 0.7:
            place = inner
        if rng.random() < 0.5:
            place[key] = rng.choice(OTHERS)
        else:
            del place[key]
        made.append("".join(json.dumps(row) + "\n" for row in changed).encode())
    return rng.sample(made, min(LIMIT, len(made)))


def survives(folder, files, go_on, scratch):
    """Damage each file in turn, and see what `go_on` does with a copy of the folder."""
    rng, refused = random.Random(0), 0
    for name in files:
        for content in damages((folder / name).read_bytes(), rng):
            shutil.rmtree(scratch, ignore_errors=True)
            shutil.copytree(folder, scratch, symlinks=True)
            (scratch / name).write_bytes(content)
            checkpoint._held.clear()
            try:
                go_on(scratch)
            except (ValueError, OSError) as error:
                said, refused = str(error), refused + 1
                assert said and "\n" not in said.strip(), said
                assert (scratch / name).read_bytes() == content, f"{name} was rewritten, and then: {said}"
    assert refused > len(files)


@pytest.fixture(scope="module")
def finished(real_path, tmp_path_factory):
    """A run of two steps."""
    out = tmp_path_factory.mktemp("fuzz") / "run"
    paths = {"model": str(real_path / "model"), "data": str(real_path / "problems.jsonl"), "out": str(out)}
    trainer, run, held_out, done = train.set_up(SIZES | paths | {"eval_data": paths["data"]})
    with train.Course(trainer, run, held_out, done) as course:
        course.measure_if_due()
        while course.unfinished():
            course.note(*trainer.step(course.done))
    checkpoint.unlock(out / ".lock")
    return out


def test_a_run_goes_on_or_says_why_not(finished, tmp_path):
    files = ["config.json", *checkpoint.LOGS, *(f"checkpoints/step-000002/{name}" for name in (
        "state.json", "optimizer.safetensors", "model/model.safetensors", "model/config.json",
    ))]  # fmt: skip
    survives(finished, files, lambda run: train.set_up({"resume": True, "out": str(run), "steps": 3}), tmp_path / "run")


def test_a_report_shows_a_run_or_says_why_not(finished, tmp_path, monkeypatch, capsys):
    def show(run):
        for more in ([], ["--page", str(tmp_path / "page.html")]):
            monkeypatch.setattr("sys.argv", ["report", str(run), *more])
            try:
                report.main()
            except SystemExit as refused:
                assert refused.code == 2
                raise ValueError(capsys.readouterr().err.strip()) from None
        capsys.readouterr()

    files = ["config.json", "metrics.jsonl", "rollouts.jsonl", "trajectories.jsonl"]
    survives(finished, files, show, tmp_path / "run")


def test_an_evaluation_goes_on_or_says_why_not(toy_path, monkeypatch, tmp_path):  # noqa: F811
    given = {"model": str(toy_path / "model"), "data": [str(toy_path / "set.jsonl")], "n": 2, "max_new_tokens": 4}
    whole = toy_path / "whole"
    made = evaluation.Evaluation(given)
    evaluation.folder_for(str(whole), given["model"], made.begun_with())
    made.run(whole, set())
    evaluation.report(made, whole)
    checkpoint.unlock(whole / ".lock")

    def go_on(folder):
        evaluation.folder_for(str(folder), given["model"], made.begun_with())
        evaluation.collect(folder, 2)

    survives(whole, ["config.json", "responses.jsonl"], go_on, tmp_path / "copy")


def test_a_filter_goes_on_or_says_why_not(toy_path, tmp_path):  # noqa: F811
    whole = toy_path / "kept"
    whole.mkdir()
    given = {"model": str(toy_path / "model"), "data": str(toy_path / "set.jsonl"), "n": 2, "max_new_tokens": 4}
    zpd.filtered(given | {"out": str(whole / "kept.jsonl")})
    files = ["kept.config.json", "kept.estimates.jsonl"]
    survives(whole, files, lambda folder: zpd.filtered(given | {"out": str(folder / "kept.jsonl")}), tmp_path / "copy")


def test_settings_files_of_any_content(tmp_path):
    """What a config.json may be edited into never gives settings that a run could begin with by mistake."""
    settings = config.flat(config.settle(config.Training, {}, toy.SETTINGS))
    rng = random.Random(1)
    for _ in range(300):
        stored = dict(settings)
        name = rng.choice([*stored])
        stored[name] = value = rng.choice(OTHERS)
        try:
            settled = config.settle(config.Training, json.loads(json.dumps(stored)))
        except ValueError as error:
            assert config.flag_of(name) in str(error)
        else:
            assert json.loads(json.dumps(config.flat(settled)[name])) == value
