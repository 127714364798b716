"""Every side of the comparison on the toy: each algorithm and ablation from the same cold start, one seed, one table.

    python bench/algorithms.py                 # the demo's number of steps, two runs side by side, a thread each
    python bench/algorithms.py --steps 5       # a quick look

A run that ended is kept under --out and not run again, one that was stopped is resumed: the same command goes on.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))
import cli
import coldstart
import jsonl
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


def program(folder: Path, command: list, processes: list[subprocess.Popen], threads: int = 1):
    """Run one of our programs, its output into a log beside `folder`; RuntimeError when it fails."""
    log = folder.with_name(f"{folder.name}.log")
    with open(log, "a", encoding="utf-8") as file:
        command, env = [sys.executable, *map(str, command)], os.environ | {"OMP_NUM_THREADS": str(threads)}
        process = subprocess.Popen(command, stdout=file, stderr=file, cwd=ROOT, env=env)
        processes.append(process)
    if process.wait():
        raise RuntimeError(f"{' '.join(command[1:])} ended with code {process.returncode}: see {log}")


def train(folder: Path, steps: int, flags: str, processes: list[subprocess.Popen]):
    """One run of train.py, or what is left of it."""
    resume = ["--resume"] if (folder / "config.json").exists() else []
    program(folder, ["train.py", "--steps", steps, *flags.split(), "--out", folder, *resume], processes)


def ended(folder: Path, steps: int) -> bool:
    """Whether a run has been measured after its last step."""
    return any(row["step"] >= steps for row in jsonl.read(folder / "evaluations.jsonl"))


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
                cli.fail(str(error))
            raise


def evaluations(folder: Path) -> list[dict]:
    """The held-out figures of a run in the order of steps, each with what it had cost by then."""
    steps, rows = jsonl.read(folder / "metrics.jsonl"), jsonl.read(folder / "evaluations.jsonl")
    for row in rows:
        past = steps[: row["step"]]
        row["generated"] = sum(step["tokens_sampled"] + step["tokens_synthesised"] for step in past)
        row["seconds"] = sum(step["seconds_sampling"] + step["seconds_training"] for step in past)
    return rows


def table(rows: dict[str, dict]) -> str:
    """The rows as a Markdown table."""

    def cell(name, value):
        if value is None:
            return "-"
        if name == "generated":
            return f"{value / 1e6:.2f} M"
        return f"{100 * value:.1f} %" if name not in ("tokens", "seconds") else f"{value:.{int(name == 'tokens')}f}"

    lines = [["", "flags", *COLUMNS.values()], ["---"] * (2 + len(COLUMNS))]
    for name, row in rows.items():
        shown = f"`{RUNS[name]}`" if name in RUNS else ""
        lines.append([name, shown, *(cell(column, row.get(column)) for column in COLUMNS)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main():
    """The program; see the module's docstring and --help."""
    parser = cli.Parser("Run every algorithm and ablation on the toy and print their table.")
    parser.add_argument("--steps", type=int, default=50, help="training steps of a run (default 50)")
    parser.add_argument("--seed", type=int, default=0, help="seed of every run (default 0)")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, a thread each (default 2)")
    parser.add_argument(
        "--out", default=str(ROOT / "runs" / "algorithms"), help="where runs are kept (default runs/algorithms)"
    )
    args = parser.parse_args()
    if min(args.steps, args.jobs) < 1:
        cli.fail("--steps and --jobs must be at least 1")
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
    print(table({"cold start": next(iter(found.values()))[0]} | {name: rows[-1] for name, rows in found.items()}))


if __name__ == "__main__":
    cli.run(main)
