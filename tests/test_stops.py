"""A stop in a slow save is not lost: not by the other processes, and not by torchrun without a word."""

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import free_port

import checkpoint
import parallel
import train

HERE = Path(__file__).parent
SIZES = ["--queries", 3, "--n-neg", 2, "--max-new-tokens", 30, "--max-synthesis-tokens", 99, "--steps", 400]


@pytest.fixture
def start(real_path, tmp_path):
    """Starts tests/slow_save.py by some command, with saves that take 2 s longer."""
    given = ["--model", real_path / "model", "--data", real_path / "problems.jsonl", "--out", tmp_path / "run"]
    started = []

    def begin(*command, **env):
        env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}"} | env
        command = [*command, HERE / "slow_save.py", 2, *given, *SIZES]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(subprocess.Popen([*map(str, command)], env=env, **pipes))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def stop_in_training(running, folder):
    """Send SIGTERM once a step is done."""
    while not (folder / "metrics.jsonl").exists():
        assert running.poll() is None, running.communicate()[0]
        time.sleep(0.02)
    running.send_signal(signal.SIGTERM)


def test_all_processes_leave_together(start, tmp_path):
    """30 s after the first has left with a code that is not 0, torchrun kills the others, whatever their flag says."""
    env = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    writes, waits = (start(sys.executable, **env, RANK=f"{rank}", LOCAL_RANK=f"{rank}") for rank in range(2))
    stop_in_training(waits, tmp_path / "run")
    code = waits.wait(timeout=120)
    written = (tmp_path / "run" / "written").exists()
    said = [p.communicate(timeout=10)[0] for p in (writes, waits)]
    assert code == writes.returncode == 130 and written, said  # written before anybody left


def test_a_stop_under_torchrun(start, tmp_path):
    """It saves and ends with torchrun's own code."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]
    running = start(*torchrun, "--shutdown-timeout=77")
    stop_in_training(running, tmp_path / "run")
    said, _ = running.communicate(timeout=120)
    assert running.returncode == 1, said
    assert "77 seconds to leave" in said and "saved step" in said and "forcefully" not in said
    assert checkpoint.newest(tmp_path / "run" / "checkpoints") and (tmp_path / "run" / "written").exists()


def test_the_time_to_leave_is_torchrun_s(monkeypatch):
    for name in ("TORCHELASTIC_RUN_ID", "PET_SHUTDOWN_TIMEOUT", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    assert parallel.grace() == math.inf
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert parallel.grace() == 30
    monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "600")
    assert parallel.grace() == 600


@pytest.mark.parametrize(("seconds", "warnings"), [(1e-9, 1), (1e9, 0)])
def test_too_short_a_time_to_leave_is_told_once(real_path, tmp_path, monkeypatch, run_program, seconds, warnings):
    monkeypatch.setattr(parallel, "grace", lambda: seconds)
    given = ["--model", real_path / "model", "--data", real_path / "problems.jsonl", "--out", tmp_path / "run"]
    code, said = run_program(train.main, *given, *SIZES, "--steps", 2, "--save-every", 1)
    assert code == 0 and said.count("so a stop may be lost: start it with --shutdown-timeout 1800") == warnings
