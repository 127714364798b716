"""bench/gpu.py, at the size that it has without a GPU."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from tiny import make_model

from sampler import Sampler

SPEC = importlib.util.spec_from_file_location("gpu", Path(__file__).parents[1] / "bench" / "gpu.py")
gpu = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(gpu)


def test_all_sections_run_and_one_that_fails_is_named(run_program, monkeypatch, tmp_path):
    def too_large(size, cards):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB\nmore")

    every = gpu.sections()
    monkeypatch.setattr(gpu, "sections", lambda: [("too large", too_large, "8B", 1), *every])
    code, said = run_program(gpu.main, "--out", tmp_path / "gpu.json")
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert code == 0 and found["sections"].pop("too large")["failed"] == "CUDA out of memory. Tried to allocate 9 GiB"
    assert "failed             CUDA out of memory" in said and "no GPU" in found["card"]
    assert not [name for name, figures in found["sections"].items() if "failed" in figures]
    assert list(found["sections"]) == [name for name, *_ in every]
    figures = found["sections"]
    assert figures["greedy tiny float32"]["equal"] == "3 of 3" and 0 < figures["gap tiny"]["gap_max"] < 0.1
    read = figures["bytes 8B"]
    assert read["weights_mb"] < read["least_mb"] < read["now_mb"] < 1.001 * read["least_mb"]
    assert read["least_mb"] - read["weights_mb"] < 0.6 * (read["before_mb"] - read["weights_mb"])
    assert read["cache_now_mb"] < 0.5 * read["cache_before_mb"]


def test_what_is_left_when_time_is_up_is_named(run_program, tmp_path):
    _, said = run_program(gpu.main, "--out", tmp_path / "gpu.json", "--limit", -1)
    assert said.count("no time was left") == len(gpu.sections())


def test_the_steps_are_those_of_the_sampler():
    """As many, with as many rows in each, of as many positions."""
    prompts, lengths = gpu.work(97, most=20, count=2)
    steps = gpu.steps_of(prompts, lengths, 3)
    sampler = Sampler(make_model(tied=False), eos_ids=(), slots=3)
    sampler.sample(prompts, max_new_tokens=lengths)
    assert len(steps) == sampler.stats.steps and sum(map(len, steps)) == sampler.stats.decode_tokens
    assert sum(map(sum, steps)) == sum(len(p) + t for p, length in zip(prompts, lengths) for t in range(length))


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_parameters_are_counted(size):
    model = gpu.make_model(size, torch.float32)
    norms = sum(p.numel() for p in model.parameters() if p.ndim == 1)
    embedding = 0 if gpu.SHAPES[size][-1] else model.get_input_embeddings().weight.numel()
    assert gpu.parameters(size) == sum(p.numel() for p in model.parameters()) - norms - embedding


def test_bytes_of_a_step():
    """Two rows of 300 and 700 positions, then the longer one alone, of 10 bytes a position; 4 slots of up to 1,000."""
    read = gpu.step_bytes([[300, 700], [701]], 10, 1000, 1000, 4)
    assert read["least"] == 1000 + 10 * (300 + 700 + 701) / 2
    assert read["now"] == read["least"] + 4 * (2 + 3 + 3) / 2
    assert read["before"] == 1000 + 10 * (2 * 1000 + 1000) / 2  # buckets of 512 end at the longest possible row
    assert (read["cache_now"], read["cache_before"]) == (10 * 256 * 5, 10 * 4 * 1000)
