"""Nothing lost, and nothing wrong without a word: outputs that break, runs that meet, files that were damaged."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_checkpoint import make, steps
from tiny import make_model, make_tokenizer

import checkpoint
import config
import data
import policy
from sampler import NotFinite, Sampler

ROOT = Path(__file__).parents[1]
SIZES = ["--queries", 3, "--n-neg", 2, "--max-new-tokens", 30, "--max-synthesis-tokens", 99, "--steps", 3]


@pytest.fixture
def start(real_path, tmp_path):
    """Starts train.py in a process of its own."""

    def begin(*argv, given=True, **more):
        about = ["--model", real_path / "model", "--data", real_path / "problems.jsonl", *SIZES] if given else []
        command = [sys.executable, ROOT / "train.py", *map(str, about), "--out", tmp_path / "run", *map(str, argv)]
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)

    return begin


def test_an_output_that_nobody_reads_stops_nothing(start, tmp_path):
    running = start()
    running.stdout.close()
    assert running.wait(timeout=120) == 0
    assert checkpoint.newest(tmp_path / "run" / "checkpoints").name == "step-000003"


def test_a_closed_terminal_saves(start, tmp_path):
    running, log = start("--steps", 400), tmp_path / "run" / "metrics.jsonl"
    while not log.exists():
        assert running.poll() is None
        time.sleep(0.02)
    running.send_signal(signal.SIGHUP)
    assert running.wait(timeout=120) == 130
    assert checkpoint.newest(tmp_path / "run" / "checkpoints")


PROGRAMS = "train.py eval.py coldstart.py -m_tools.zpd -m_tools.report -m_tools.rescore -m_tools.compare".split()


@pytest.mark.parametrize(("program", "depth"), [*zip(PROGRAMS, (1, 30, 100, 300, 600, 900, 1200)), ("train.py", 1500)])
def test_a_stop_in_the_imports_is_a_stop(program, depth):
    """After `depth` modules beyond config; `-X importtime` tells of each on stderr."""
    command = [sys.executable, "-X", "importtime", *program.split("_")]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as starting:
        while not starting.stderr.readline().endswith("| config\n"):
            assert starting.poll() is None
        for _ in range(depth):
            assert starting.stderr.readline().startswith("import time:")
        starting.send_signal(signal.SIGTERM if depth % 100 else signal.SIGINT)
        told = [line for line in starting.stderr if not line.startswith("import time:")]
    assert starting.returncode == 130 and told == ["stopped\n"]


def test_two_runs_never_write_one_folder(start, tmp_path):
    running, log = start("--steps", 400), tmp_path / "run" / "metrics.jsonl"
    while not log.exists():
        assert running.poll() is None
        time.sleep(0.02)
    second = start("--resume", given=False)
    said, _ = second.communicate(timeout=120)
    assert second.returncode == 2 and f"is being written by process {running.pid}" in said
    running.kill()
    running.wait()
    third = start("--resume", "--steps", len(log.read_text().splitlines()) + 1, given=False)
    said, _ = third.communicate(timeout=120)
    assert third.returncode == 0 and f"was left by process {running.pid}" in said
    assert not (tmp_path / "run" / ".lock").exists()


def test_one_process_makes_the_toy_s_cold_start(tmp_path):
    """A second first run is told; and settings that cannot be are found before it is made."""
    env = os.environ | {"OMP_NUM_THREADS": "1"}

    def toy(*argv):
        command = [sys.executable, ROOT / "train.py", *map(str, argv)]
        return subprocess.Popen(
            command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    first = toy()
    while not (lock := tmp_path / "runs" / "toy-coldstart.lock").exists() or not lock.read_text():
        assert first.poll() is None
        time.sleep(0.02)
    for argv, said in [
        ((), f"toy-coldstart is being written by process {first.pid}"),
        (("--queries", 10**9), "lower one of them"),
        (("--clip-low", 5), "--clip-low must be below 1"),
    ]:
        second = toy(*argv)
        printed, _ = second.communicate(timeout=60)
        assert second.returncode == 2 and said in printed
    first.kill()
    first.wait()


def test_a_lock_is_this_process_s_own(tmp_path):
    checkpoint.lock(tmp_path / ".lock")
    checkpoint.lock(tmp_path / ".lock")
    assert checkpoint.empty(tmp_path) and str(os.getpid()) in (tmp_path / ".lock").read_text()
    checkpoint.unlock(tmp_path / ".lock")
    checkpoint.unlock(tmp_path / ".lock")
    assert not (tmp_path / ".lock").exists()


FORKS = """
import multiprocessing, os, signal

fork, forked, count = multiprocessing.get_context("fork"), [], [0]

def returns(text, problem):
    if not forked:
        forked.append(os.fork())  # its child returns, and would train
    return len(text) % 3

def judges(text, problem):
    stuck = fork.Process(target=signal.pause)
    stuck.start()
    stuck.terminate()
    stuck.join()
    pipe = os.pipe()
    if not (child := os.fork()):
        os.write(pipe[1], bytes([len(text) % 3]))
        raise SystemExit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7 and stuck.exitcode == -signal.SIGTERM
    return float(os.read(pipe[0], 1)[0])
"""


def test_a_forked_child_is_no_trainer(start, tmp_path):
    """It ends where it would return, and has the default signal handlers."""
    (tmp_path / "forks.py").write_text(FORKS)
    for name in ("returns", "judges"):
        running = start("--reward", f"{tmp_path}/forks.py:{name}", "--out", tmp_path / name)
        said, _ = running.communicate(timeout=120)
        steps = [row["step"] for row in checkpoint.read(tmp_path / name / "metrics.jsonl")]
        assert (running.returncode, steps) == (0, [1, 2, 3]), said
        assert "Traceback" not in said and said.count("saved step 3") == 1


def test_a_child_has_no_lock(tmp_path, capsys):
    """One that outlives its parent, as after a kill, keeps nobody out."""
    checkpoint.lock(tmp_path / ".lock")
    (waits, go_on), (hears, is_there) = os.pipe(), os.pipe()
    if not (child := os.fork()):
        os.write(is_there, b"x")
        os.read(waits, 1)
        os._exit(0)
    os.read(hears, 1)
    try:
        checkpoint._held.clear()  # as if this process were gone
        checkpoint.lock(tmp_path / ".lock")
        assert f"was left by process {os.getpid()}" in capsys.readouterr().err
        checkpoint.unlock(tmp_path / ".lock")
    finally:
        os.write(go_on, b"x")
        os.waitpid(child, 0)


def test_a_resumed_run_keeps_its_new_length_and_notices_other_problems(start, tmp_path, real_path):
    assert start().wait(timeout=120) == 0
    assert start("--resume", "--steps", 4, given=False).wait(timeout=120) == 0
    kept = json.loads((tmp_path / "run" / "config.json").read_text())["settings"]
    assert kept["steps"] == 4 and kept["queries"] == 3
    other = tmp_path / "problems.jsonl"
    other.write_text((real_path / "problems.jsonl").read_text().replace("answer", "answer ", 0) + "\n")
    changed = json.loads((tmp_path / "run" / "config.json").read_text())
    changed["settings"]["data"] = str(other)
    (tmp_path / "run" / "config.json").write_text(json.dumps(changed))
    with other.open("a") as file:
        file.write('{"problem": "1 + 1?", "answer": "2"}\n')
    resumed = start("--resume", "--steps", 5, given=False)
    said, _ = resumed.communicate(timeout=120)
    assert resumed.returncode == 2 and "are not those that" in said
    changed["settings"] |= {"data": kept["data"], "eval_data": str(other)}
    (tmp_path / "run" / "config.json").write_text(json.dumps(changed))
    resumed = start("--resume", "--steps", 5, given=False)
    said, _ = resumed.communicate(timeout=120)
    assert resumed.returncode == 2 and f"the problems of {other} are not those that" in said


def test_slow_steps_are_saved_by_the_clock(start, tmp_path):
    assert start("--save-minutes", 1e-6, "--keep-saves", 9).wait(timeout=120) == 0
    assert [path.name for path in checkpoint._complete(tmp_path / "run" / "checkpoints")] == [
        "step-000001", "step-000002", "step-000003",
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------- checkpoints and logs


@pytest.fixture
def saved(tmp_path):
    model, optimizer = make()
    steps(model, optimizer, range(2))
    checkpoint.save(tmp_path, 2, model, make_tokenizer(["one two"]), optimizer)
    return tmp_path / "step-000002"


@pytest.mark.parametrize("file", ["optimizer.safetensors", "model/model.safetensors", "model/config.json"])
def test_a_flipped_byte_is_noticed(saved, file):
    content = bytearray((saved / file).read_bytes())
    content[-3] ^= 1
    (saved / file).write_bytes(content)
    with pytest.raises(ValueError, match=f"is damaged .{file}"):
        checkpoint.restore(saved, *make())


def test_lost_moments_are_noticed(saved):
    moments = load_file(saved / "optimizer.safetensors")
    moments.pop(next(iter(moments)))
    save_file(moments, saved / "optimizer.safetensors")
    state = json.loads((saved / "state.json").read_text())
    state["checksums"] = checkpoint._checksums(saved)
    (saved / "state.json").write_text(json.dumps(state))
    with pytest.raises(ValueError, match="tensors, not"):
        checkpoint.restore(saved, *make())


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"step": "2"}', '{"step": 2}', "\xff"])
def test_a_broken_state_is_one_sentence(saved, text):
    (saved / "state.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"state\.json"):
        checkpoint.restore(saved, *make())


def test_a_checkpoint_of_an_older_version_is_told(saved):
    (saved / "state.json").write_text('{"step": 2, "moments": 0, "crc32": {}}')
    with pytest.raises(ValueError, match="checksums missing or of another type; did another version write it"):
        checkpoint.restore(saved, *make())


def test_files_have_the_mode_that_new_files_have(saved, tmp_path):
    (tmp_path / "new").write_text("")
    usual = (tmp_path / "new").stat().st_mode & 0o777
    assert {path.stat().st_mode & 0o777 for path in saved.rglob("*") if path.is_file()} == {usual}


def test_other_names_beside_checkpoints_do_no_harm(saved, tmp_path):
    saved.rename(tmp_path / "step-000002.bak")
    assert checkpoint.newest(tmp_path) is None


def test_a_file_system_without_links_gets_a_copy(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    for step in (1, 2):
        (tmp_path / f"step-{step}").mkdir()
        (tmp_path / f"step-{step}" / "weights").write_text(str(step))
        checkpoint._point(tmp_path / "model", Path(f"step-{step}"))
        assert (tmp_path / "model" / "weights").read_text() == str(step) and not (tmp_path / "model").is_symlink()


def test_only_a_torn_last_line_is_left_out(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert checkpoint.read(log, {"step": int}) == [{"step": 1}, {"step": 2}]
    for text, said in [
        ('a note\n{"step": 2}\n', "line 1: no JSON"),
        ('{"step": 1}\nnot torn\n', "line 2: no JSON"),
        ('{"step": 1}\n{}\n', "line 2: step missing"),
        ('{"step": "1"}\n', "line 1: step missing or of another type"),
        ("[1]\n", "line 1: step"),
    ]:
        log.write_text(text)
        with pytest.raises(ValueError, match=f"log.jsonl, {said}"):
            checkpoint.read(log, {"step": int})
        assert log.read_text() == text


def test_a_file_that_could_not_be_written_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "_to_disk", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*config\.json'"):
        checkpoint.begin(tmp_path / "config.json", {"k": 8})
    assert checkpoint.empty(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
def test_a_full_disk_is_told_with_the_file(tmp_path, monkeypatch, capsys):
    def like_tokenizers(*_, **__):
        raise Exception("No space left on device (os error 28)")

    def refusal(write):
        with pytest.raises(SystemExit) as stopped, config.bad_input():
            write()
        assert stopped.value.code == 2
        return capsys.readouterr().err

    model, tokenizer = make_model(), make_tokenizer(["one"])
    assert refusal(lambda: checkpoint.append(Path("/dev/full"), [{}])) == "error: /dev/full: No space left on device\n"
    monkeypatch.setattr(tokenizer, "save_pretrained", like_tokenizers)
    said = refusal(lambda: policy.save(model, tokenizer, tmp_path / "model"))
    assert said == f"error: {tmp_path}/model: No space left on device (os error 28)\n"
    with pytest.raises(ZeroDivisionError), policy.writing("here"):
        1 / 0  # noqa: B018


# --------------------------------------------------------------------------------------------- models that do not fit


@pytest.fixture
def folder(tmp_path):
    policy.save(make_model(), make_tokenizer(["one two"], vocab=264), tmp_path / "model")
    return tmp_path / "model"


def rewrite(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w.pop("model.norm.weight"), "missing keys: model.norm.weight"),
        (lambda w: w.update({"model.other.weight": torch.ones(2)}), "unexpected keys: model.other.weight"),
        (lambda w: w["model.norm.weight"].fill_(float("nan")), "not finite: model.norm.weight"),
    ],
)
def test_weights_that_are_not_the_model_s(folder, change, said):
    rewrite(folder, change)
    with pytest.raises(ValueError, match=said):
        policy.load_model(str(folder))


def test_a_tokeniser_larger_than_the_embedding(folder):
    policy.load_model(str(folder))
    with pytest.raises(ValueError, match=r"its tokeniser has 26\d ids, and its embedding holds 97"):
        policy.load(str(folder))


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("generation_config.json", '{"eos_token_id": ', "no model could be loaded from .*: Expecting value"),
        ("config.json", lambda c: c | {"vocab_size": 10}, "its weights have mismatched keys: .*embed_tokens"),
        ("config.json", lambda c: c | {"vocab_size": "x"}, "'vocab_size': .* expected int"),
        ("tokenizer.json", None, "Couldn't instantiate the backend tokenizer from one of: "),
    ],
)
def test_a_damaged_model_folder_is_one_sentence(folder, file, change, said):
    path = folder / file
    if change is None:
        path.unlink()
    else:
        path.write_text(change if isinstance(change, str) else json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ValueError, match=said) as refused:
        policy.load_tokenizer(str(folder))
        policy.load_model(str(folder))
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400


def test_a_run_is_not_its_model(folder):
    with pytest.raises(ValueError, match=f"is the folder of a run or of a cold start: its model is {folder}$"):
        policy.load_tokenizer(str(folder.parent))


def test_end_tokens_are_numbers():
    model = make_model()
    model.generation_config.eos_token_id = "x"
    with pytest.raises(ValueError, match="must be ids of tokens, not x"):
        policy.eos_ids(model, make_tokenizer(["one"]))


def test_pickled_weights_and_remote_code_are_not_run(folder):
    shutil.copytree(folder, remote := folder.with_name("remote"))
    about = json.loads((remote / "config.json").read_text())
    about |= {"model_type": "own", "auto_map": {"AutoModelForCausalLM": "own.Model", "AutoConfig": "own.Config"}}
    (remote / "config.json").write_text(json.dumps(about))
    (remote / "own.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(ValueError, match="read it, and add --trust-remote-code"):
        policy.load_model(str(remote))
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="no model could be loaded"):
        policy.load_model(str(folder))


def test_logits_that_are_not_finite_are_one_sentence():
    model = make_model(tied=False)
    with torch.no_grad():
        model.lm_head.weight[5] = float("nan")
    with pytest.raises(NotFinite, match="logits are not finite"):
        Sampler(model, eos_ids={1}).sample([[2, 3]], 2, max_new_tokens=4)


# -------------------------------------------------------------------------------------------------------- problem files


def test_tables_of_other_kinds(tmp_path):
    for name, text in [("A.CSV", "problem,answer\n1 + 1?,2\n"), ("b.tsv", "problem\tanswer\n1 + 1?\t2\n")]:
        (tmp_path / name).write_text(text)
        assert data.load(str(tmp_path / name)) == [data.Problem("1 + 1?", "2")]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("1.csv", 'problem,answer\n1,2\n"1 + 1?,2\n2 + 2?,4\n3,4\n', "1.csv, line 3: .*a quote is never closed"),
        ("2.csv", 'problem,answer\n"a\nb","c ""d"" \n e\n', "2.csv, line 2: .*a quote is never closed"),
        ("3.csv", 'problem,answer\na "b" c,2\n\n\n1,"\n2,3', "3.csv, line 5: .*a quote is never closed"),
        ("4.csv", 'problem,answer\n1,2\n"1?,2\n3?,4\n"5?",6\n', "4.csv, line 3: .*a quote is never closed here, or"),
        ("5.csv", 'problem,answer\n"1?,2\n' + "3?,4\n" * 40000, "5.csv, line 2: .*a quote is never closed"),
        ("6.csv", f'problem,answer\n1,2\n"{"x" * 200000}",3\n4,"5"\n', "6.csv, line 3: field larger than field limit"),
        ("7.csv", '"problem,answer\n1,2\n', "7.csv, line 1: .*a quote is never closed"),
        ("half.jsonl", '{"problem": "half \\ud83d", "answer": "2"}\n', "line 1: the question holds half a character"),
        ("pretty.jsonl", '{\n  "problem": "1 + 1?",\n  "answer": "2"\n}\n', "wanted: one object a line"),
    ],
)
def test_problem_files_that_cannot_be_read(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=said):
        data.load(str(tmp_path / name))


def test_a_million_problems_are_shuffled_once_an_epoch(monkeypatch):
    shuffled = []
    real = data.random.Random
    monkeypatch.setattr(data.random, "Random", lambda seed: shuffled.append(seed) or real(seed))
    data._order.cache_clear()
    seen = [query for step in range(40) for query in data.queries_of_step(1000, 50, 7, step)]
    assert shuffled == ["7 epoch 0", "7 epoch 1"] and sorted(seen[:1000]) == sorted(seen[1000:]) == list(range(1000))
    data._order.cache_clear()


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ({"steps": "2"}, '--steps must be a whole number, not "2"'),
        ({"lr": None}, "--lr must be a number, not null"),
        ({"no_ots": 1}, "--no-ots must be true or false, not 1"),
        ({"out": 3}, "--out must be a text, not 3"),
        ({"seed": 10**23}, "--seed must be at least 0 and finite, below 2.63"),
        ({"seed": 2**63}, "--seed must be at least 0 and finite, below 2.63"),
        ({"beta2": 1.0}, "--beta2 must be below 1, not 1.0"),
        ({"k": 10**9}, "--k must be above 0 and finite, up to 65536, not 1000000000"),
        ({"epochs": 10**9}, "--epochs must be above 0 and finite, up to 65536"),
        ({"eval_samples": 10**9}, "--eval-samples must be above 0 and finite, up to 65536"),
    ],
)
def test_settings_of_another_type(stored, said):
    with pytest.raises(ValueError, match=said):
        config.settle(config.Training, stored)
