"""Adapters (--lora) beside full training of a real model on a CPU: memory, time, and the sampler beside the trainer.

    python bench/adapters.py --model PATH_OR_HUB_ID [--lora 16] [--steps 5]

Each way runs in a process of its own: GRPO steps of 8 responses of up to 64 tokens to arithmetic in words. Every second
response is rewarded, whatever it says, so that every step has something to learn. Memory is the process's peak; of it
`before` was there when the model was not loaded yet. An update's time is the median of those after the first. The gap
is between log-probabilities of sampler and trainer, after updates that changed both.
"""

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import arithmetic

import config
import train

SIZES = {"algo": "grpo", "queries": 2, "k": 4, "n_pos": 1, "n_neg": 1, "max_new_tokens": 64, "warmup": 1}


def peak() -> float:
    """The most memory that this process ever had, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(args, folder: Path) -> dict:
    """Train in this process; returns what it took."""
    before, problems = peak(), folder / "problems.jsonl"
    rows = ({"problem": e.question, "answer": e.answer} for e in arithmetic.exercises("lora", False))
    problems.write_text("".join(json.dumps(row) + "\n" for row in itertools.islice(rows, 64)))
    given = {"model": args.model, "data": str(problems), "out": str(folder / "run"), "steps": args.steps}
    rates = {"lora": args.rank, "lr": 1e-4} if args.rank else {"lr": 1e-5}
    trainer, *_ = train.set_up(given | SIZES | rates)
    seconds, tokens, gaps = [], 0, []
    for number in range(args.steps):
        queries = trainer.queries(number)
        groups = trainer.actor.sample(queries, number)
        groups = [[replace(one, reward=float(j % 2)) for j, one in enumerate(group)] for group in groups]
        tokens += sum(len(one.prompt) + len(one.ids) for group in groups for one in group)
        batch, start = trainer.batch(queries, groups, [], number), time.perf_counter()
        figures = trainer.update(batch, number)
        seconds.append(time.perf_counter() - start)
        gaps.append((figures["gap_mean"], figures["gap_max"]))
    trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    means, largest = zip(*gaps)
    return {
        "trained": trained, "before": before, "peak": peak(), "seconds": seconds, "tokens": tokens / args.steps,
        "gap_mean": statistics.mean(means), "gap_max": max(largest),
    }  # fmt: skip


def main():
    """The program; see the module's docstring."""
    parser = config.Parser(__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--lora", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)  # measure this way alone, in this process; 0: full
    args = parser.parse_args()
    if args.rank is not None:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(args, Path(folder))))
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print("| | trained | peak memory | before the model | an update | tokens | gap, mean and largest |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, rank in (("full training", 0), (f"--lora {args.lora}", args.lora)):
        command = [sys.executable, __file__, "--model", args.model, "--steps", str(args.steps), "--rank", str(rank)]
        out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        found = json.loads(out.splitlines()[-1])
        first, *others = found["seconds"]
        took = f"{statistics.median(others):.1f} s ({min(others):.1f} to {max(others):.1f}; the first {first:.1f})"
        memory = f"{found['peak']:.2f} GiB | {found['before']:.2f} GiB"
        gap = f"{found['gap_mean']:.1e}, {found['gap_max']:.1e}"
        print(
            f"| {name} | {found['trained'] / 1e6:.1f} M | {memory} | {took} | {found['tokens']:.0f} | {gap} |",
            flush=True,
        )


if __name__ == "__main__":
    config.run(main)
