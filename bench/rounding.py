"""Does the demonstration hang on rounding? The toy's cold start and training as other processors would round them.

    python bench/rounding.py                            # 10 starts, two runs side by side, a thread each
    python bench/rounding.py --keep docs/rounding.json  # writes the raw results, too
    python bench/rounding.py --table docs/rounding.json # their table again, from the file alone: runs nothing

A processor's instructions and its number of threads decide in which order sums are made. Both can be chosen before a
process starts (SETS), so one machine stands for several. Each row is a cold start of its own and TAPO from it, with
seed 0 by every instruction set and with 1 and 2 threads, and with other seeds by the machine's own; there GRPO runs
from the same start, too. A row fails when TAPO ends less than GAIN above its start, or greedy below it; then the
program ends with code 1. What was stopped goes on with the same command.
"""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import algorithms
from algorithms import told

import checkpoint
import config

SETS = {  # instruction sets, by what the environment says; products and softmaxes get other last bits with each
    "its own": {},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "none": {"ATEN_CPU_CAPABILITY": "default"},
}
GAIN = 0.30  # of pass@1
SHOWN = ("pass@1", "greedy", "reflecting", "err")
LAST = ("step", *SHOWN, "dsr", "tokens")


def plan(seeds: list[int]) -> list[dict]:
    """The rows: seed 0 in all ways, the other seeds in the machine's own."""
    ways = [(name, threads, 0) for name in SETS for threads in (1, 2)] + [("its own", 1, seed) for seed in seeds[1:]]
    return [{"set": name, "threads": threads, "seed": seed} for name, threads, seed in ways]


def made(args) -> dict:
    """The results of all rows, those that were not made before included."""
    out, processes = Path(args.out).resolve(), []
    out.mkdir(parents=True, exist_ok=True)
    rows, work, places = plan(args.seeds), {1: {}, 2: {}}, []
    for i, row in enumerate(rows):
        folder = out / f"{row['set'].replace(' ', '-')}-{row['threads']}-{row['seed']}"
        folder.mkdir(exist_ok=True)
        both = row["set"] == "its own" and row["threads"] == 1
        row["algorithms"] = {"TAPO": "tapo", "GRPO": "grpo"} if both else {"TAPO": "tapo"}
        work[row["threads"]][i] = partial(run, folder, row, args.steps, processes)
        places += [folder / algo for algo in row["algorithms"].values()]
    algorithms.side_by_side(args.jobs, work[1], processes)
    algorithms.side_by_side(1, work[2], processes)
    for row in rows:
        folder = out / f"{row['set'].replace(' ', '-')}-{row['threads']}-{row['seed']}"
        for name, algo in row.pop("algorithms").items():
            measured = algorithms.evaluations(folder / algo)
            row[name] = [{key: one[key] for key in (*LAST, "generated")} for one in measured]
            steps = checkpoint.read(folder / algo / "metrics.jsonl")
            if name == "TAPO":
                row["kept"] = [[step["kept"], step["tried"]] for step in steps]
                row["turn_weight"] = [step["turn_weight"] for step in steps]
    return {"where": algorithms.where(places, None), "steps": args.steps, "rows": rows}


def run(folder: Path, row: dict, steps: int, processes: list):
    """A row's cold start and trainings, what is not there of them."""
    how = row["threads"], SETS[row["set"]]
    if not (folder / "start").exists():
        command = ["coldstart.py", "--out", folder / "start", "--seed", row["seed"]]
        algorithms.program(folder / "start", command, processes, *how)
    for algo in row["algorithms"].values():
        if not algorithms.ended(folder / algo, steps):
            flags = f"--algo {algo} --model {folder / 'start'} --data toy --seed {row['seed']}"
            algorithms.train(folder / algo, steps, flags, processes, *how)


def failed(row: dict) -> bool:
    """Whether TAPO did not take off."""
    before, after = row["TAPO"][0], row["TAPO"][-1]
    return after["pass@1"] - before["pass@1"] < GAIN or after["greedy"] < before["greedy"]


def table(results: dict) -> str:
    """A line a row, and the range of each figure."""
    figures = {"start": ("TAPO", 0), "TAPO": ("TAPO", -1), "GRPO": ("GRPO", -1)}
    shown = [(title, name) for title in figures for name in (SHOWN if title != "GRPO" else SHOWN[:2])]
    heads = [f"{title}: {'ERR' if name == 'err' else name}" for title, name in shown]
    lines = [["instructions", "threads", "seed", *heads, "kept, least", ""]]

    def values(row: dict) -> list:
        return [row[figures[t][0]][figures[t][1]][name] if figures[t][0] in row else None for t, name in shown]

    for row in results["rows"]:
        cells = ["" if v is None else told(name, v, None) for (_, name), v in zip(shown, values(row))]
        least = min((kept / tried for kept, tried in row["kept"] if tried), default=0)
        cells += [f"{100 * least:.0f} %", "**failed**" if failed(row) else ""]
        lines.append([row["set"], str(row["threads"]), str(row["seed"]), *cells])
    columns = [[v for v in column if v is not None] for column in zip(*map(values, results["rows"]))]
    ranges = [f"{100 * min(c):.1f} to {100 * max(c):.1f} %" if c else "" for c in columns]
    return algorithms.markdown([*lines, ["**range**", "", "", *ranges, "", ""]])


def main():
    """The program; see the module's docstring and --help."""
    parser = config.Parser("The toy's cold start and training, with sums made as other processors make them.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="default 0 1 2 3 4")
    parser.add_argument("--steps", type=int, default=30, help="training steps (default 30, the demonstration's)")
    parser.add_argument("--jobs", type=int, default=2, help="runs of one thread side by side (default 2)")
    parser.add_argument("--out", default="runs/rounding", help="where runs are kept (default runs/rounding)")
    parser.add_argument("--keep", metavar="FILE.json", help="write the raw results there")
    parser.add_argument("--table", metavar="FILE.json", help="instead: print the table of what --keep wrote")
    args = parser.parse_args()
    results = algorithms.kept(args.table, "where", "steps", "rows") if args.table else made(args)
    print(f"{results['steps']} steps; {results['where']}\n\n{table(results)}")
    if args.keep:
        algorithms.keep(args.keep, results)
    if any(map(failed, results["rows"])):
        config.fail("a row failed: the demonstration hangs on rounding")


if __name__ == "__main__":
    config.run(main)
