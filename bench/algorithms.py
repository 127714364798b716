"""Every side of the comparison on the toy: each algorithm and ablation from the same cold start, one seed, one table.

    python bench/algorithms.py                               # the demo's number of steps, two runs side by side
    python bench/algorithms.py --steps 5                     # a quick look
    python bench/algorithms.py --keep docs/algorithms.json   # writes the raw results, too
    python bench/algorithms.py --table docs/algorithms.json  # their table again, from the file alone: runs nothing

A run that ended stays under --out and is not run again, one that was stopped is resumed: the same command goes on.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import date
from functools import partial
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))
import checkpoint
import coldstart
import config
import toy

ROOT = Path(__file__).parents[1]

RUNS = {
    "GRPO": "--algo grpo",
    "TAPO": "--algo tapo",
    "OPSD": "--algo opsd",
    "SFT on the constructions": "--algo sft",
    "TAPO without DCS": "--no-dcs",
    "TAPO without DAE": "--no-dae",
    "TAPO without OTS": "--no-ots",
    "TAPO, full reconstruction": "--full-reconstruction",
    "TAPO, G_ref by group": "--ref-baseline group",
    "TAPO, G_ref by batch": "--ref-baseline batch",
    "TAPO, lambda 0.3": "--lam 0.3",
    "TAPO, mu 0": "--mu 0",
    "TAPO, n_pos 1": "--n-pos 1",
    "TAPO, n_neg 4": "--n-neg 4",
    "TAPO, m_max 1": "--m-max 1",
}
COLUMNS = {
    "pass@1": "pass@1",
    "pass@4": "pass@4",
    "greedy": "greedy",
    "reflecting": "reflecting",
    "dsr": "DSR",
    "err": "ERR",
    "tokens": "length",
    "generated": "generated",
    "seconds": "seconds",
}

# ----------------------------------------------------------------------------------------------------- running programs


def program(folder: Path, command: list, processes: list[subprocess.Popen], threads: int = 1, env: dict | None = None):
    """Run one of our programs, its output into a log beside `folder`; RuntimeError when it fails. `env`: more of its
    environment."""
    log = folder.with_name(f"{folder.name}.log")
    with open(log, "a", encoding="utf-8") as file:
        command = [sys.executable, *map(str, command)]
        env = os.environ | {"OMP_NUM_THREADS": str(threads)} | (env or {})
        process = subprocess.Popen(command, stdout=file, stderr=file, cwd=ROOT, env=env)
        processes.append(process)
    if process.wait():
        raise RuntimeError(f"{' '.join(command[1:])} ended with code {process.returncode}: see {log}")


def train(folder: Path, steps: int, flags: str, processes: list[subprocess.Popen], *how):
    """One run of train.py, or what is left of it. `how`: threads and environment, as for `program`."""
    resume = ["--resume"] if (folder / "config.json").exists() else []
    program(folder, ["train.py", "--steps", steps, *flags.split(), "--out", folder, *resume], processes, *how)


def ended(folder: Path, steps: int) -> bool:
    """Whether a run has been measured after its last step."""
    return any(row["step"] >= steps for row in checkpoint.read(folder / "evaluations.jsonl"))


def side_by_side(jobs: int, work: dict, processes: list[subprocess.Popen]):
    """Do `work`, functions by name, in `jobs` threads. When one fails, or on Ctrl-C, the others and the program end."""
    with ThreadPoolExecutor(jobs) as pool:
        try:
            futures = [pool.submit(task) for task in work.values()]
            for future in tqdm(as_completed(futures), total=len(futures), desc="runs", unit="run"):
                future.result()
        except (KeyboardInterrupt, RuntimeError) as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()  # a run that ended already does not mind
            if isinstance(error, RuntimeError):
                config.fail(str(error))
            raise


# ---------------------------------------------------------------------------------------------------- what came of them


def evaluations(folder: Path) -> list[dict]:
    """The held-out figures of a run in the order of steps, each with what it had cost by then."""
    steps, rows = (checkpoint.read(folder / f"{name}.jsonl") for name in ("metrics", "evaluations"))
    for row in rows:
        past = steps[: row["step"]]
        row["generated"] = sum(step["tokens_sampled"] + step["tokens_synthesised"] for step in past)
        row["seconds"] = sum(step["seconds_sampling"] + step["seconds_training"] for step in past)
    return rows


def where(folders: Iterable[Path], threads: int | None = 1) -> str:
    """With which commit and which torch these runs were begun, when they ended, and this machine."""
    begun = [json.loads((folder / "config.json").read_text(encoding="utf-8")) for folder in folders]
    versions, commits = ([*dict.fromkeys(str(one[name]) for one in begun)] for name in ("torch", "commit"))
    times = [(folder / "evaluations.jsonl").stat().st_mtime for folder in folders]
    days = dict.fromkeys(date.fromtimestamp(time(times)).isoformat() for time in (min, max))
    made = f"torch {' and '.join(versions)}, commit {' and '.join(commits)}, {' to '.join(days)}"
    each = f", {threads} thread{'s' * (threads > 1)} a run" if threads else ""
    return f"{machine()}{each}, {made}"


def machine() -> str:
    """What this runs on, in a line."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{len(model)} cores of {model[0].partition(': ')[2] if model else platform.processor()}"


def keep(file: str, results: dict):
    """Write results to a JSON file."""
    checkpoint.write(Path(file), json.dumps(results, indent=1) + "\n")


def kept(file: str, *names: str) -> dict:
    """What `keep` wrote; ends the program with a sentence when the file does not hold all of `names`."""
    with config.bad_input():
        results = json.loads(Path(file).read_text(encoding="utf-8"))
    if not isinstance(results, dict) or not {*names} <= {*results}:
        config.fail(f"{file} was not written by --keep of this program: it should hold {', '.join(names)}")
    return results


def told(name: str, mean: float | None, half: float | None = None, sign: str = "") -> str:
    """A figure, with half of its interval if it has one, as a cell of a table; with a sign it is a difference, of
    shares in points."""
    if mean is None:
        return "-"
    share = 100, "" if sign else " %"
    scale, unit = {"generated": (1e-6, " M"), "seconds": (1, ""), "tokens": (1, "")}.get(name, share)
    digits = {"generated": 2, "seconds": 0}.get(name, 1)
    spread = "" if half is None else f" ± {scale * half:.{digits}f}"
    return f"{scale * mean:{sign}.{digits}f}{spread}{unit}"


def markdown(rows: list[list[str]]) -> str:
    """Rows as a table; the first is its head."""
    head, *rest = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rest))


def table(results: dict) -> str:
    """The last figures of every run, after those of the cold start."""
    runs, flags = results["evaluations"], results["flags"]
    shown = {"cold start": next(iter(runs.values()))[0]} | {name: rows[-1] for name, rows in runs.items()}
    rows = [["", "flags", *COLUMNS.values()]]
    for name, figures in shown.items():
        given = f"`{flags[name]}`" if name in flags else ""
        rows.append([name, given, *(told(column, figures[column]) for column in COLUMNS)])
    return markdown(rows)


def main():
    """The program; see the module's docstring and --help."""
    parser = config.Parser("Run every algorithm and ablation on the toy and print their table.")
    parser.add_argument("--steps", type=int, default=50, help="training steps of a run (default 50)")
    parser.add_argument("--seed", type=int, default=0, help="seed of every run (default 0)")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, a thread each (default 2)")
    parser.add_argument(
        "--out", default=str(ROOT / "runs" / "algorithms"), help="where runs are kept (default runs/algorithms)"
    )
    parser.add_argument("--keep", metavar="FILE.json", help="write the raw results, too")
    parser.add_argument("--table", metavar="FILE.json", help="instead: print the table of what --keep wrote")
    args = parser.parse_args()
    if min(args.steps, args.jobs) < 1:
        config.fail("--steps and --jobs must be at least 1")
    if args.keep and not Path(args.keep).parent.is_dir():
        config.fail(f"--keep {args.keep}: there is no such folder")
    names = "where", "steps", "seed", "flags", "evaluations"
    results = kept(args.table, *names) if args.table else made(args)
    print(f"{results['steps']} steps, seed {results['seed']}; {results['where']}\n\n{table(results)}")
    if args.keep:
        keep(args.keep, results)


def made(args) -> dict:
    """The results of all runs, those that were not made before included."""
    if not (ROOT / toy.COLD_START).exists():
        coldstart.toy_coldstart(ROOT / toy.COLD_START)
    folder = Path(args.out).resolve() / f"steps{args.steps}-seed{args.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    folders = {name: folder / flags.replace("--", "").replace(" ", "-") for name, flags in RUNS.items()}
    processes: list[subprocess.Popen] = []
    todo = {
        name: partial(train, folders[name], args.steps, f"--seed {args.seed} {flags}", processes)
        for name, flags in RUNS.items()
        if not ended(folders[name], args.steps)
    }
    side_by_side(args.jobs, todo, processes)
    found = {name: evaluations(folders[name]) for name in RUNS}
    about = {"where": where(folders.values()), "steps": args.steps, "seed": args.seed, "flags": RUNS}
    return about | {"evaluations": found}


if __name__ == "__main__":
    config.run(main)
