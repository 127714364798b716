"""The paper in miniature on a real model (bench/real.py), and adapters beside full training, at their smallest."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
import adapters
import algorithms
import map as map_of_starts
import real
import rounding

import coldstart
import eval as evaluation
import policy
import train
from tools import report, zpd

PROGRAMS = {
    "coldstart.py": coldstart,
    "train.py": train,
    "eval.py": evaluation,
    "tools.zpd": zpd,
    "tools.report": report,
}
SIZES = "--steps 2 --every 1 --grpo-steps 3 --queries 2 --k 8 --problems 3 --held-out 3 --demonstrations 4".split()


def test_real_goes_from_a_cold_start_to_its_tables(real_path, tmp_path, monkeypatch, run_program):
    """With a cold start that was made before: the tiny model that knows its problems by heart."""
    begun = []

    def program(folder, command, processes, threads=1):
        name, *given = command[1:] if command[0] == "-m" else command
        begun.append(name)
        code, said = run_program(PROGRAMS[name].main, *given)
        assert code == 0, said

    monkeypatch.setattr(algorithms, "program", program)
    out = tmp_path / "out"
    (out / "cold" / "round-1").mkdir(parents=True)
    (out / "cold" / "model").symlink_to(real_path / "model")
    counts = dict.fromkeys(coldstart.COUNTED, 0) | {"tried": 10, "ift": 6, "output_ends_wrong": 1, "output_tags": 3}
    (out / "cold" / "round-1" / "counts.json").write_text(json.dumps(counts))
    for name in ("train", "numbers", "hours"):
        (out / f"{name}.jsonl").write_text((real_path / "problems.jsonl").read_text())
    given = ["--model", real_path / "model", "--out", out, "--keep", tmp_path / "kept", *SIZES]
    code, said = run_program(real.main, *given)
    assert code == 0, said
    each = ["train.py", "tools.report", "eval.py"]
    assert begun == ["tools.zpd", "eval.py", *each, *each] and (out / "tapo-0.html").stat().st_size > 10_000
    assert "| 0 | 10 | 7 (70 %) | 6 | 3 |" in said and "tools.zpd kept" in said and "TAPO - GRPO" in said
    for name, steps in (("grpo", 3), ("tapo", 2)):
        rows = [json.loads(line) for line in (out / f"{name}-0" / "metrics.jsonl").open()]
        assert len(rows) == steps and rows[0]["lr"] > 0
    run_program(real.main, *given)
    assert len(begun) == 8  # everything is there
    code, again = run_program(real.main, "--table", tmp_path / "kept.json", "--every", 1)
    assert code == 0 and again.strip() == said[said.index(str(real_path)) :].strip()


@pytest.mark.parametrize("rank", [0, 4])
def test_adapters_and_full_training_learn_and_agree_with_the_sampler(real_path, tmp_path, rank):
    found = adapters.measure(SimpleNamespace(model=str(real_path / "model"), rank=rank, steps=3), tmp_path)
    assert len(found["seconds"]) == 3 and found["tokens"] > 8 and found["peak"] >= found["before"] > 0
    assert 0 < found["gap_mean"] <= found["gap_max"] < 1e-4
    whole = sum(p.numel() for p in policy.load_model(str(real_path / "model")).parameters())
    assert found["trained"] < 0.5 * whole if rank else found["trained"] == whole


def evaluated(step: int, right: float, greedy: float, reflecting: float = 0.5) -> dict:
    figures = {"step": step, "pass@1": right, "pass@4": right, "greedy": greedy, "reflecting": reflecting}
    return figures | {"dsr": 0.5, "err": 0.4, "tokens": 20.0, "generated": 1000.0 * step, "seconds": 1.0}


@pytest.mark.parametrize(
    ("after", "fails"), [((0.61, 0.71), False), ((0.59, 0.9), True), ((0.9, 0.69), True), ((0.3, 0.7), True)]
)
def test_a_row_of_rounding_fails_without_a_take_off(tmp_path, run_program, after, fails):
    """At least 30 points above the start, and greedy not below it."""
    row = {"set": "AVX2", "threads": 1, "seed": 0, "kept": [[3, 4], [0, 0], [1, 2]]}
    row |= {"TAPO": [evaluated(0, 0.3, 0.7), evaluated(30, *after)]}
    (tmp_path / "kept.json").write_text(json.dumps({"where": "here", "steps": 30, "rows": [row]}))
    code, said = run_program(rounding.main, "--table", tmp_path / "kept.json")
    assert ("**failed**" in said) == bool(code) == fails
    assert (
        f"| AVX2 | 1 | 0 | 30.0 % | 70.0 % | 50.0 % | 40.0 % | {100 * after[0]:.1f} % |" in said and "| 50 % |" in said
    )


def test_the_map_compares_at_equal_steps_and_at_equal_tokens(tmp_path, run_program):
    """GRPO takes half of TAPO's tokens a step here; at equal tokens it is therefore ahead."""
    tapo = [[evaluated(0, 0.2, 0.5), evaluated(30, 0.5 + s, 0.6)] for s in (0.0, 0.02)]
    grpo = [[evaluated(0, 0.2, 0.5), evaluated(30, 0.4, 0.6), evaluated(60, 0.6, 0.6)] for _ in range(2)]
    for row in sum(tapo, []):
        row["generated"] *= 2
    results = {"where": "here", "seeds": [0, 1], "steps": 30, "cells": [{"task": "toy", "target": 0.1}]}
    results["cells"][0] |= {"TAPO": tapo, "GRPO": grpo}
    (tmp_path / "kept.json").write_text(json.dumps(results))
    code, said = run_program(map_of_starts.main, "--table", tmp_path / "kept.json")
    assert code == 0 and "| toy | 50.0 ± 0.0 % |" in said
    equal_steps, equal_tokens = [line for line in said.splitlines() if "**TAPO - GRPO**" in line]
    assert "+11.0 ±" in equal_steps and "-9.0 ±" in equal_tokens
    recipe = map_of_starts.recipe("harder", 0.17)
    assert recipe.turning == pytest.approx(0.2) and recipe.right == 0.15
