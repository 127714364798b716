"""One, two and four processes compute the same (invariants 2 and 10), on a CPU with gloo and FSDP2."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from processes import free_port
from tiny import make_model

import parallel

HERE = Path(__file__).parent
TIMES = ("seconds_sampling", "seconds_training", "tokens_per_second")


def processes(count, *command, local=None, **more):
    """Start a program in `count` processes, as torchrun does; with `local`, as on nodes of so many."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    env["PYTHONPATH"] = f"{HERE.parent}{os.pathsep}{HERE}"
    env |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(local or count)}
    command = [sys.executable, *map(str, command)]
    each = [{"RANK": str(i), "LOCAL_RANK": str(i % (local or count))} for i in range(count)]
    return [subprocess.Popen(command, env=env | one, **more) for one in each]


def finish(started):
    """Wait for the end of processes that all go well."""
    try:
        assert [process.wait(timeout=600) for process in started] == [0] * len(started)
    finally:
        for process in started:
            process.kill()


def ranks(tmp_path, count, *flags, local=None):
    """Start tests/ranks.py in `count` processes; what the first one wrote."""
    out = tmp_path / f"{count}.pt"
    finish(processes(count, HERE / "ranks.py", out, *flags, local=local))
    return torch.load(out, weights_only=True)


def same(one, two):
    assert len(one["gradients"]) == len(two["gradients"])
    for i, (g, h) in enumerate(zip(one["gradients"], two["gradients"])):
        # The first is of the same weights. Later ones are not quite: Adam turns rounding of tiny gradients into steps.
        assert (g - h).norm() <= (1e-3 if i else 1e-5) * g.norm()
    for name in ("weights", "last", "merged"):
        assert (one[name] - two[name]).norm() <= 1e-4 * one[name].norm()
    for mine, theirs in zip(one["figures"], two["figures"], strict=True):
        for key in mine.keys() - set(TIMES):
            exact = mine[key] is None or isinstance(mine[key], (int, dict))
            assert theirs[key] == (mine[key] if exact else pytest.approx(mine[key], rel=2e-3, abs=2e-5)), key
    for mine, theirs in zip(one["ots"], two["ots"], strict=True):
        assert theirs == pytest.approx(mine, rel=1e-4)
    dealt_out(one["asked"], two["asked"])


def dealt_out(one, several):
    """What the sampler was asked for in a step, rank by rank and call by call: the prompts of one process, each asked
    for by one of the ranks, and of the distinct ones no rank has two more than another."""
    [whole] = one
    for everything, shares in zip(whole, zip(*several, strict=True), strict=True):
        assert sorted(everything) == sorted(sum(shares, []))
        distinct = [set(map(tuple, share)) for share in shares]
        assert sum(map(len, distinct)) == len(set().union(*distinct))  # equal prompts are together
        assert max(map(len, distinct)) - min(map(len, distinct)) <= 1


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9])
def test_equal_things_are_dealt_to_one_process_and_the_different_ones_evenly(monkeypatch, size):
    things = list("abacdbbefga")
    monkeypatch.setattr(parallel, "size", lambda: size)
    shares = []
    for rank in range(size):
        monkeypatch.setattr(parallel, "rank", lambda rank=rank: rank)
        shares.append(parallel.deal(things))
    assert sorted(sum(shares, [])) == list(range(len(things)))  # each place once
    distinct = [{things[i] for i in share} for share in shares]
    assert sorted(sum(map(sorted, distinct), [])) == list("abcdefg")  # and equal ones on one rank
    assert sorted(map(len, distinct)) == [(7 + rank) // size for rank in range(size)]


def test_processes_change_rounding_only(tmp_path):
    one = ranks(tmp_path, 1, "--micro-batch-tokens", "100000")
    assert one["gradients"][0].norm() > 0 and not one["gradients"][-1].isnan().any()
    [[queries, tasks]] = one["asked"]
    assert 0 < one["figures"][0]["turn_probability"] < 0.1 < one["figures"][0]["turn_weight"]
    assert len(queries) == 3 and len(tasks) == one["figures"][3]["tried"] > 4  # constructions are dealt out, too
    same(one, ranks(tmp_path, 2, "--micro-batch-tokens", "60"))
    same(one, ranks(tmp_path, 4, "--micro-batch-tokens", "90", local=2))  # two nodes of two: hybrid sharding


def test_opsd_s_two_forwards(tmp_path):
    one = ranks(tmp_path, 1, "--algo", "opsd", "--micro-batch-tokens", "100000")
    same(one, ranks(tmp_path, 2, "--algo", "opsd", "--micro-batch-tokens", "60"))


def test_adapters(tmp_path):
    """Frozen weights are shards, too, and the reference is the model without its adapters."""
    one = ranks(tmp_path, 1, "--lora", "4", "--micro-batch-tokens", "100000")
    same(one, ranks(tmp_path, 2, "--lora", "4", "--micro-batch-tokens", "60"))
    assert one["gradients"][1].norm() > 0


def test_the_average_over_groups_with_an_advantage(tmp_path):
    one = ranks(tmp_path, 1, "--average", "active", "--micro-batch-tokens", "100000")
    same(one, ranks(tmp_path, 2, "--average", "active", "--micro-batch-tokens", "60"))
    assert one["gradients"][0].norm() > 0


def test_several_optimiser_steps_and_checkpointing(tmp_path):
    several = ("--epochs", "2", "--minibatches", "3", "--clip-low", "1e-3", "--clip-high", "1e-3")
    one = ranks(tmp_path, 1, *several, "--micro-batch-tokens", "100000")
    assert one["figures"][0]["clip_fraction"] > 0
    same(one, ranks(tmp_path, 2, *several, "--gradient-checkpointing", "--micro-batch-tokens", "60"))


@pytest.mark.parametrize(
    "ends, code", [("pass", 0), ("sys.exit(3)", 3), ("sys.exit('no')", 1), ("signal.raise_signal(2)", 130)]
)
def test_a_process_of_a_group_ends_with_its_code_whatever_its_threads_do(ends, code):
    program = f"""
import atexit, signal, sys, threading
import config
def main():
    config.end_abruptly()
    atexit.register(print, "gave its lock back")
    threading.Thread(target=threading.Event().wait).start()  # Python would wait for it
    {ends}
config.run(main)
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=HERE.parent, capture_output=True, text=True, timeout=60)
    assert ended.returncode == code and ended.stdout == "gave its lock back\n"
    assert ("no" in ended.stderr) == (code == 1) and ("stopped" in ended.stderr) == (code == 130)


@pytest.fixture
def group():
    """A process group of one, as on a GPU."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_the_sampler_s_copy_keeps_the_rotary_frequencies(group, monkeypatch):
    """In bfloat16 they would be another model, the more so the further apart two tokens are."""
    monkeypatch.setattr(parallel, "precision", lambda: torch.bfloat16)
    model = make_model()
    copied = parallel.WholeWeights(model, "cpu").model
    assert {p.dtype for p in copied.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    mine, theirs = dict(copied.named_buffers()), dict(model.named_buffers())
    assert mine and all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_more_processes_than_gpus_are_refused_in_a_sentence(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(SystemExit) as ended:
        parallel.start()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said == "error: 2 processes need a GPU each, and this node has 1: use --nproc-per-node 1\n"
