"""A map of where TAPO pays: starts that turn never, seldom and often, on the toy and on a harder one.

    python bench/map.py                       # 2 tasks x 5 starts x 3 seeds, two runs side by side, a thread each
    python bench/map.py --targets 0 0.05 --tasks harder     # some cells of it
    python bench/map.py --keep docs/map       # writes docs/map.json, the raw results, and docs/map.png
    python bench/map.py --table docs/map.json # the table again, from the file alone: runs nothing

A cell is a task and how many responses of its start turn behind their first guess: about the share TARGETS, which the
recipe of the cold start is given (`turning` = target / share of wrong first guesses). Each seed makes its own start,
and TAPO and GRPO go on from it, paired. They are compared after the same number of steps, and, as in study.py, after
the same number of generated tokens, for which GRPO goes on longer. The harder task is the toy's with demonstrations
that guess right in 15 % and miss widely: one or two of eight responses are right, and most corrections fail. What was
stopped goes on with the same command.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import algorithms
from algorithms import told
from study import at_step, at_tokens, differences, interval

import coldstart
import config
import toy

TASKS = {"toy": toy.RECIPE, "harder": toy.RECIPE._replace(right=0.15, spread=0.8)}
TARGETS = (0.0, 0.01, 0.05, 0.15, 0.4)
RUNS = {"TAPO": "tapo", "GRPO": "grpo"}
SHOWN = ("pass@1", "greedy", "reflecting", "dsr", "err")
EVERY = 10  # steps between evaluations


def recipe(task: str, target: float) -> toy.Recipe:
    """The recipe of a cell's start."""
    return TASKS[task]._replace(turning=target / (1 - TASKS[task].right))


def made(args) -> dict:
    """The results of all cells, those that were not made before included."""
    out, processes, work, places = Path(args.out).resolve(), [], {}, {}
    out.mkdir(parents=True, exist_ok=True)
    for task in args.tasks:
        for target in args.targets:
            for seed in args.seeds:
                places[task, target, seed] = out / f"{task}-{target:g}-{seed}"
                work[task, target, seed] = partial(run, places[task, target, seed], task, target, seed, args, processes)
    algorithms.side_by_side(args.jobs, work, processes)
    cells = [{"task": task, "target": target} for task in args.tasks for target in args.targets]
    for cell in cells:
        mine = [places[cell["task"], cell["target"], seed] for seed in args.seeds]
        cell |= {name: [algorithms.evaluations(place / algo) for place in mine] for name, algo in RUNS.items()}
    where = algorithms.where(place / algo for place in places.values() for algo in RUNS.values())
    return {"where": where, "seeds": args.seeds, "steps": args.steps, "cells": cells}


def run(folder: Path, task: str, target: float, seed: int, args, processes: list):
    """A seed's start and both trainings, what is not there of them."""
    folder.mkdir(exist_ok=True)
    if not (folder / "start").exists():
        command = [Path(__file__), "--make", folder / "start", task, target, seed]
        algorithms.program(folder / "start", command, processes)
    for name, algo in RUNS.items():
        steps = args.grpo_steps if name == "GRPO" else args.steps
        if not algorithms.ended(folder / algo, steps):
            flags = f"--algo {algo} --model {folder / 'start'} --data toy --seed {seed} --eval-every {EVERY}"
            algorithms.train(folder / algo, steps, flags, processes)


def compared(cell: dict, steps: int) -> dict[str, tuple[list[dict], list[dict]]]:
    """The figures of TAPO and of GRPO, a seed each, after the same steps and after the same tokens."""
    tapo, grpo = cell["TAPO"], cell["GRPO"]
    both = [min(one[-1]["generated"], two[-1]["generated"]) for one, two in zip(tapo, grpo)]
    return {
        f"{steps} steps": tuple([at_step(rows, steps) for rows in seeds] for seeds in (tapo, grpo)),
        "equal tokens": tuple([at_tokens(rows, n) for rows, n in zip(seeds, both)] for seeds in (tapo, grpo)),
    }


def table(results: dict) -> str:
    """A row a cell and comparison: the start, TAPO, the paired difference; mean and 95 % interval over seeds."""
    names = {name: "ERR" if name == "err" else "DSR" if name == "dsr" else name for name in SHOWN}
    lines = [["task", "start reflects", "", "compared", *names.values()]]
    for cell in results["cells"]:
        starts = [rows[0] for rows in cell["TAPO"]]
        head = [cell["task"], told("reflecting", *interval([s["reflecting"] for s in starts]))]
        lines.append([*head, "", "start", *(told(n, *interval([s[n] for s in starts])) for n in SHOWN)])
        for at, (tapo, grpo) in compared(cell, results["steps"]).items():
            for name, rows in (("TAPO", tapo), ("GRPO", grpo)):
                lines.append(["", "", at, name, *(told(n, *interval([row[n] for row in rows])) for n in SHOWN)])
            lines.append(["", "", "", "**TAPO - GRPO**", *differences(tapo, grpo, SHOWN)])
    return algorithms.markdown(lines)


def draw(file: str, results: dict):
    """The difference in pass@1 over how much the start reflects, a panel a task."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no figure: pip install matplotlib draws one")
        return
    tasks = list(dict.fromkeys(cell["task"] for cell in results["cells"]))
    figure = Figure(figsize=(4.5 * len(tasks), 3.4), layout="constrained")
    for axes, task in zip(figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0], tasks):
        cells = [cell for cell in results["cells"] if cell["task"] == task]
        for at, colour in zip(compared(cells[0], results["steps"]), ("#0072B2", "#D55E00")):
            means, halves, x = [], [], []
            for cell in cells:
                tapo, grpo = compared(cell, results["steps"])[at]
                mean, half = interval([100 * (a["pass@1"] - b["pass@1"]) for a, b in zip(tapo, grpo)])
                means, halves = [*means, mean], [*halves, half or 0]
                x.append(100 * np.mean([rows[0]["reflecting"] for rows in cell["TAPO"]]))
            axes.errorbar(x, means, halves, marker="o", color=colour, capsize=3, label=at)
        axes.axhline(0, color="#888888", lw=0.8)
        axes.set_xscale("symlog", linthresh=1)
        axes.set_title(task)
        axes.set_xlabel("the start reflects in, %")
    figure.axes[0].set_ylabel("TAPO - GRPO, points of pass@1")
    figure.axes[0].legend(frameon=False)
    figure.savefig(file, dpi=110)


def main():
    """The program; see the module's docstring and --help."""
    if sys.argv[1:2] == ["--make"]:  # this program, for one start
        folder, task, target, seed = sys.argv[2:]
        toy.few_threads()
        return coldstart.toy_coldstart(folder, int(seed), recipe=recipe(task, float(target)))
    parser = config.Parser("Where TAPO is ahead of GRPO, level and behind, by how much its start turns.")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="default toy harder")
    parser.add_argument("--targets", type=float, nargs="+", default=list(TARGETS), metavar="SHARE",
        help="how many responses of a start turn (default 0 0.01 0.05 0.15 0.4)")  # fmt: skip
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12], help="default 10 11 12")
    parser.add_argument("--steps", type=int, default=30, help="training steps (default 30)")
    parser.add_argument("--grpo-steps", type=int, default=60, help="steps of GRPO, for equal tokens (default 60)")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, a thread each (default 2)")
    parser.add_argument("--out", default="runs/map", help="where runs are kept (default runs/map)")
    parser.add_argument("--keep", metavar="NAME", help="write NAME.json, the raw results, and NAME.png")
    parser.add_argument("--table", metavar="FILE.json", help="instead: print the table of what --keep wrote")
    args = parser.parse_args()
    if args.steps % EVERY or args.grpo_steps % EVERY or args.grpo_steps < args.steps:
        config.fail(f"--steps and --grpo-steps are multiples of {EVERY}, and the second is not the smaller one")
    names = "where", "seeds", "steps", "cells"
    results = algorithms.kept(args.table, *names) if args.table else made(args)
    seeds = " ".join(map(str, results["seeds"]))
    print(f"seeds {seeds}, mean ± half of the 95 % interval; {results['where']}\n\n{table(results)}")
    if args.keep:
        algorithms.keep(f"{args.keep}.json", results)
        draw(f"{args.keep}.png", results)


if __name__ == "__main__":
    config.run(main)
