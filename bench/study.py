"""The paper in miniature: TAPO against GRPO on the toy, many seeds, with error bars.

    python bench/study.py                       # 5 seeds, two runs side by side, a thread each
    python bench/study.py --also "SFT on the constructions" "TAPO without OTS"      # names: bench/algorithms.py
    python bench/study.py --plain               # from models that never learnt the synthesis task
    python bench/study.py --seeds 0 1 2 3 4 --rates 1e-4 2e-4 4e-4 8e-4     # GRPO alone: which learning rate?

A seed makes its own cold start, and everything is paired by it: same start, same held-out problems, same Q, K and
learning rate. Two comparisons: after the same numbers of steps, and after the same number of generated tokens. TAPO
generates more a step, so GRPO goes on for --grpo-steps; the evaluations of each are interpolated to the tokens that
both took. What was stopped goes on with the same command.
"""

import json
import math
import os
import platform
import sys
from datetime import date
from functools import partial
from itertools import cycle
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from algorithms import COLUMNS, RUNS, ended, evaluations, program, side_by_side, train

import cli
from checkpoint import commit

T_975 = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # Student's t, of 1 to 9 degrees of freedom

COLOURS = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"
EVERY = 10  # steps between evaluations
RATE = 4e-4  # GRPO's best of 1e-4, 2e-4, 4e-4 and 8e-4 after 80 steps, on seeds 0 to 4
SEEDS = [5, 6, 7, 8, 9]  # others than those that anything was chosen on


def interval(values) -> tuple[float, float]:
    """Mean and half width of its 95 % interval over seeds (Student's t)."""
    values = np.array([v for v in values if v is not None], dtype=float)
    if len(values) < 2:
        return values.mean().item() if len(values) else float("nan"), float("nan")
    return values.mean().item(), T_975[min(len(values), 10) - 2] * values.std(ddof=1).item() / len(values) ** 0.5


def upto(rows: list[dict], steps: int) -> list[dict]:
    """The evaluations of the first `steps` steps: a run may have been made longer for another study."""
    return [row for row in rows if row["step"] <= steps]


def at_step(rows: list[dict], step: int) -> dict:
    """The evaluation after `step` steps."""
    return next(row for row in rows if row["step"] == step)


def at_tokens(rows: list[dict], tokens: float) -> dict:
    """Every figure, linearly between the two evaluations around `tokens` generated ones; None where one of them is."""
    i = next((i for i, row in enumerate(rows) if row["generated"] >= tokens and i), len(rows) - 1)
    before, after = rows[i - 1], rows[i]
    share = (tokens - before["generated"]) / (after["generated"] - before["generated"])
    figures = {}
    for name in COLUMNS:
        known = before[name] is not None and after[name] is not None
        figures[name] = before[name] + share * (after[name] - before[name]) if known else None
    return figures


def told(name: str, mean: float, half: float, sign: str = "") -> str:
    """A figure with its interval, as a cell of a table."""
    scale, unit = {"generated": (1e-6, " M"), "seconds": (1, ""), "tokens": (1, "")}.get(name, (100, " %"))
    digits = {"generated": 2, "seconds": 0}.get(name, 1)
    if math.isnan(mean):
        return "-"
    spread = "" if math.isnan(half) else f" ± {scale * half:.{digits}f}"
    return f"{scale * mean:{sign}.{digits}f}{spread}{unit}"


def table(rows: dict[str, list[dict]], difference: tuple[str, str] | None = None) -> str:
    """Mean and interval of each figure over seeds, a row each; and of the paired difference of two of the rows."""
    lines = [["", *COLUMNS.values()], ["---"] * (1 + len(COLUMNS))]
    for name, seeds in rows.items():
        lines.append([name, *(told(f, *interval([row[f] for row in seeds])) for f in COLUMNS)])
    if difference:
        one, two = (rows[name] for name in difference)
        cells = []
        for f in COLUMNS:
            pairs = [(a[f], b[f]) for a, b in zip(one, two) if None not in (a[f], b[f])]
            cells.append(told(f, *interval([a - b for a, b in pairs]), "+"))
        lines.append([f"**{difference[0]} - {difference[1]}**", *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def draw(file: str, found: dict[str, list[list[dict]]]):
    """pass@1 of each algorithm over steps and over generated tokens: mean, and the seeds as thin lines."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no figure: pip install matplotlib draws one")
        return
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, x, label in zip(figure.subplots(1, 2, sharey=True), ("step", "generated"), ("steps", "generated tokens")):
        for (name, seeds), colour in zip(found.items(), cycle(COLOURS)):
            for rows in seeds:
                axes.plot([r[x] for r in rows], [100 * r["pass@1"] for r in rows], color=colour, alpha=0.35, lw=0.8)
            mean = {k: np.mean([[r[k] for r in rows] for rows in seeds], axis=0) for k in (x, "pass@1")}
            axes.plot(mean[x], 100 * mean["pass@1"], color=colour, lw=2, label=name)
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("held-out pass@1, %")
    figure.axes[0].legend(frameon=False)
    figure.savefig(file, dpi=110)


def machine() -> str:
    """What this ran on, in a line."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{len(model)} cores of {model[0].partition(': ')[2] if model else platform.processor()}"


def main():
    """The program; see the module's docstring and --help."""
    parser = cli.Parser("TAPO against GRPO on the toy, over seeds of cold start and training.")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="default 5 6 7 8 9")
    parser.add_argument("--steps", type=int, default=80, help="training steps (default 80)")
    parser.add_argument("--at", type=int, nargs="+", default=[50, 80], help="steps to compare at (default 50 80)")
    parser.add_argument("--grpo-steps", type=int, default=110, help="steps of GRPO, for equal tokens (default 110)")
    parser.add_argument("--also", nargs="+", default=[], choices=RUNS, metavar="NAME", help="more algorithms")
    parser.add_argument("--lr", type=float, help=f"learning rate of all runs (default {RATE}, GRPO's best)")
    parser.add_argument("--rates", nargs="+", type=float, help="instead: GRPO with these learning rates")
    parser.add_argument("--plain", action="store_true", help="start from models that never saw the synthesis task")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, a thread each (default 2)")
    parser.add_argument("--out", default="runs/study", help="where runs are kept (default runs/study)")
    parser.add_argument("--keep", metavar="NAME", help="write NAME.json, the raw results, and NAME.png")
    args = parser.parse_args()
    if any(step % EVERY or not 0 < step <= args.steps for step in args.at) or args.grpo_steps < args.steps:
        cli.fail(f"--at takes multiples of {EVERY} up to --steps, and --grpo-steps cannot be below --steps")
    if args.rates and args.lr:
        cli.fail("--rates are the learning rates: leave --lr out")
    folder, processes = Path(args.out).resolve(), []
    folder.mkdir(parents=True, exist_ok=True)
    kind, plain = ("plain-", ["--plain"]) if args.plain else ("", [])
    starts = {seed: folder / f"{kind}coldstart-{seed}" for seed in args.seeds}
    work = {}
    todo = [seed for seed, start in starts.items() if not start.exists()]
    threads = max(1, (os.cpu_count() or 1) // max(1, min(args.jobs, len(todo))))  # a single seed gets all cores
    for seed in todo:
        command = ["coldstart.py", "--out", starts[seed], "--seed", seed, *plain]
        work[seed] = partial(program, starts[seed], command, processes, threads)
    side_by_side(args.jobs, work, processes)
    runs = {rate: f"--algo grpo --lr {rate}" for rate in args.rates or ()}
    runs = runs or {name: f"{RUNS[name]} --lr {args.lr or RATE}" for name in ("GRPO", "TAPO", *args.also)}
    lengths = {name: args.grpo_steps if name == "GRPO" else args.steps for name in runs}
    places = {(name, seed): folder / f"{kind}{flags.replace('--', '').replace(' ', '-')}-{seed}"
              for name, flags in runs.items() for seed in args.seeds}  # fmt: skip
    work = {}
    for (name, seed), place in places.items():
        if not ended(place, lengths[name]):
            given = f"--model {starts[seed]} --data toy --seed {seed} --eval-every {EVERY} {runs[name]}"
            work[name, seed] = partial(train, place, lengths[name], given, processes)
    side_by_side(args.jobs, work, processes)

    found = {name: [upto(evaluations(places[name, seed]), lengths[name]) for seed in args.seeds] for name in runs}
    where = f"{machine()}, torch {torch.__version__}, commit {commit()}, {date.today()}"
    print(f"seeds {' '.join(map(str, args.seeds))}, mean ± half of the 95 % interval; {where}")
    pair = None if args.rates else ("TAPO", "GRPO")
    start = {"start": [e[0] for e in next(iter(found.values()))]}
    for step in args.at:
        rows = {str(name): [at_step(e, step) for e in runs_of] for name, runs_of in found.items()}
        print(f"\nafter {step} steps\n\n{table(start | rows, pair)}")
    if pair:
        both = [min(found[name][i][-1]["generated"] for name in pair) for i in range(len(args.seeds))]
        rows = {name: [at_tokens(e, tokens) for e, tokens in zip(found[name], both)] for name in pair}
        print(f"\nafter the same number of generated tokens\n\n{table(rows, pair)}")
    if args.keep:
        raw = {"where": where, "seeds": args.seeds, "evaluations": {str(name): found[name] for name in found}}
        Path(f"{args.keep}.json").write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
        draw(f"{args.keep}.png", {name: found[name] for name in found})


if __name__ == "__main__":
    cli.run(main)
