"""The paper in miniature: TAPO against GRPO on the toy, many seeds, with error bars.

    python bench/study.py                       # 5 seeds, two runs side by side, a thread each
    python bench/study.py --also "SFT on the constructions" "TAPO without OTS"      # names: bench/algorithms.py
    python bench/study.py --plain               # from models that never learnt the synthesis task
    python bench/study.py --seeds 0 1 2 3 4 --rates 1e-4 2e-4 4e-4 8e-4     # GRPO alone: which learning rate?
    python bench/study.py --table docs/study.json       # the table again, from what --keep wrote: runs nothing

A seed makes its own cold start, and everything is paired by it: same start, same held-out problems, same Q, K and
learning rate. Two comparisons: after the same numbers of steps, and after the same number of generated tokens. TAPO
generates more a step, so GRPO goes on for --grpo-steps; the evaluations of each are interpolated to the tokens that
both took. What was stopped goes on with the same command.
"""

import os
import sys
from collections.abc import Iterable
from functools import partial
from itertools import cycle
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import algorithms
from algorithms import COLUMNS, RUNS, told

import config

T_975 = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # Student's t, of 1 to 9 degrees of freedom
PAIR = "TAPO", "GRPO"  # whose paired difference is told
COLOURS = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"
EVERY = 10  # steps between evaluations
RATE = 4e-4  # GRPO's best of 1e-4, 2e-4, 4e-4 and 8e-4 after 80 steps, on seeds 0 to 4
SEEDS = [5, 6, 7, 8, 9]  # others than those that anything was chosen on


def interval(values) -> tuple[float | None, float | None]:
    """Mean over seeds and half width of its 95 % interval (Student's t); None where there is none."""
    values = np.array([v for v in values if v is not None], dtype=float)
    if len(values) < 2:
        return (values[0].item() if len(values) else None), None
    return values.mean().item(), T_975[min(len(values), 10) - 2] * values.std(ddof=1).item() / len(values) ** 0.5


def upto(rows: list[dict], steps: int) -> list[dict]:
    """The evaluations of the first `steps` steps: a run may have been made longer for another study."""
    return [row for row in rows if row["step"] <= steps]


def at_step(rows: list[dict], step: int) -> dict:
    """The evaluation after `step` steps; ends the program with a sentence where there is none."""
    measured = {row["step"]: row for row in rows}
    return measured.get(step) or config.fail(f"--at {step}: a run was measured after {', '.join(map(str, measured))}")


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


def table(results: dict, at: list[int]) -> str:
    """Mean and interval over seeds of each figure of each algorithm: at the start, after the steps `at`, and, of TAPO
    and GRPO, after the same number of generated tokens; with the paired differences of the two."""
    found = results["evaluations"]
    sections = {"": {"start": [rows[0] for rows in next(iter(found.values()))]}}
    for step in at:
        sections[f"{step} steps"] = {name: [at_step(rows, step) for rows in seeds] for name, seeds in found.items()}
    if {*PAIR} <= {*found}:
        both = [min(rows[-1]["generated"] for rows in pair) for pair in zip(*(found[name] for name in PAIR))]
        sections[f"{np.mean(both) / 1e6:.2f} M tokens"] = {
            name: [at_tokens(rows, tokens) for rows, tokens in zip(seeds, both)]
            for name, seeds in found.items()
            if name in PAIR
        }
    lines = [["", "", *COLUMNS.values()]]
    for section, rows in sections.items():
        for name, seeds in rows.items():
            lines.append([section, name, *(told(f, *interval([row[f] for row in seeds])) for f in COLUMNS)])
            section = ""
        if {*PAIR} <= {*rows}:
            lines.append(["", f"**{' - '.join(PAIR)}**", *differences(*(rows[name] for name in PAIR))])
    return algorithms.markdown(lines)


def differences(one: list[dict], two: list[dict], figures: Iterable[str] = COLUMNS) -> list[str]:
    """Each figure's mean difference over seeds, with its interval, as cells of a table."""
    cells = []
    for f in figures:
        pairs = [(a[f], b[f]) for a, b in zip(one, two) if None not in (a[f], b[f])]
        cells.append(told(f, *interval([a - b for a, b in pairs]), "+"))
    return cells


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


def flags() -> config.Parser:
    """The command line."""
    parser = config.Parser("TAPO against GRPO on the toy, over seeds of cold start and training.")
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
    parser.add_argument("--table", metavar="FILE.json", help="instead: print the table of what --keep wrote")
    return parser


def check(args):
    """End the program with a sentence about flags that cannot be, before any work."""
    if any(step % EVERY or not 0 < step <= args.steps for step in args.at) or args.grpo_steps < args.steps:
        config.fail(f"--at takes multiples of {EVERY} up to --steps, and --grpo-steps cannot be below --steps")
    if args.rates and args.lr:
        config.fail("--rates are the learning rates: leave --lr out")
    if args.jobs < 1:
        config.fail("--jobs must be at least 1")
    if args.keep and not Path(args.keep).parent.is_dir():
        config.fail(f"--keep {args.keep}: there is no such folder")


def main():
    """The program; see the module's docstring and --help."""
    args = flags().parse_args()
    if args.table:
        results = algorithms.kept(args.table, "where", "seeds", "evaluations")
    else:
        check(args)
        results = made(args)
    seeds = " ".join(map(str, results["seeds"]))
    print(f"seeds {seeds}, mean ± half of the 95 % interval; {results['where']}\n\n{table(results, args.at)}")
    if args.keep:
        algorithms.keep(f"{args.keep}.json", results)
        draw(f"{args.keep}.png", results["evaluations"])


def made(args) -> dict:
    """The results of all runs, those that were not made before included."""
    folder, processes = Path(args.out).resolve(), []
    folder.mkdir(parents=True, exist_ok=True)
    kind, plain = ("plain-", ["--plain"]) if args.plain else ("", [])
    starts = {seed: folder / f"{kind}coldstart-{seed}" for seed in args.seeds}
    work = {}
    todo = [seed for seed, start in starts.items() if not start.exists()]
    threads = max(1, (os.cpu_count() or 1) // max(1, min(args.jobs, len(todo))))  # a single seed gets all cores
    for seed in todo:
        command = ["coldstart.py", "--out", starts[seed], "--seed", seed, *plain]
        work[seed] = partial(algorithms.program, starts[seed], command, processes, threads)
    algorithms.side_by_side(args.jobs, work, processes)

    runs = {str(rate): f"--algo grpo --lr {rate}" for rate in args.rates or ()}
    runs = runs or {name: f"{RUNS[name]} --lr {args.lr or RATE}" for name in ("GRPO", "TAPO", *args.also)}
    lengths = {name: args.grpo_steps if name == "GRPO" else args.steps for name in runs}
    places = {(name, seed): folder / f"{kind}{flags.replace('--', '').replace(' ', '-')}-{seed}"
              for name, flags in runs.items() for seed in args.seeds}  # fmt: skip
    work = {}
    for (name, seed), place in places.items():
        if not algorithms.ended(place, lengths[name]):
            given = f"--model {starts[seed]} --data toy --seed {seed} --eval-every {EVERY} {runs[name]}"
            work[name, seed] = partial(algorithms.train, place, lengths[name], given, processes)
    algorithms.side_by_side(args.jobs, work, processes)
    found: dict[str, list[list[dict]]] = {name: [] for name in runs}
    for (name, _), place in places.items():
        found[name].append(upto(algorithms.evaluations(place), lengths[name]))
    return {"where": algorithms.where(places.values()), "seeds": args.seeds, "evaluations": found}


if __name__ == "__main__":
    config.run(main)
