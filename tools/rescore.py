"""Judge the kept responses of an evaluation again, after a change of the verifier or by another reward. Loads no model.

python -m tools.rescore runs/eval-A-1                      # the table, and how many verdicts changed
python -m tools.rescore runs/eval-A-1 --out again.jsonl    # ... and the rows, as tools.compare reads them
"""

import config

if __name__ == "__main__":
    config.importing()

from pathlib import Path

from tqdm import tqdm

import checkpoint
import metrics
from data import Problem
from reflect import reflects
from rollouts import load_reward
from verifier import extract_answer


def rescore(path: str, out: str | None = None, reward_of: str | None = None) -> str:
    """The table of what the rows in `path` are judged now, and how many verdicts changed. The rows go to `out`, if
    given."""
    if out and Path(out).exists():
        raise ValueError(f"{out} exists already: name another file with --out")
    rows, changed, reward = metrics.read(path), 0, load_reward(reward_of)
    if not rows:
        raise ValueError(f"{path} holds no responses yet")
    for row in tqdm(rows, desc="judging", unit="response", delay=3, leave=False):
        text, problem = row["text"], Problem(row["question"], row["answer"])
        correct = row["finished"] and reward(text, problem) > 0
        changed += correct != row["correct"]
        row |= {"final": extract_answer(text), "correct": correct, "reflects": reflects(text)}
    if out:
        checkpoint.rewrite(Path(out), rows)
    return f"{metrics.table(metrics.figures_of(rows))}\n{changed} of {len(rows)} verdicts changed"


def main():
    """The program; see the module's docstring and --help."""
    parser = config.Parser("Judge the kept responses of an evaluation again. No model is loaded.")
    parser.add_argument("path", metavar="PATH", help="the folder of an evaluation, or its responses")
    parser.add_argument("--out", metavar="FILE", help="write the rows with their new verdicts into this file")
    parser.add_argument("--reward", metavar="FILE.py:FUNCTION", help="judge by this (default: as the evaluation did)")
    args, kept = (given := parser.parse_args()), Path(given.path) / "config.json"
    with config.bad_input():
        begun = checkpoint.begun(kept) if kept.is_file() else {}
        print(rescore(args.path, args.out, args.reward or begun.get("reward")))


if __name__ == "__main__":
    config.run(main)
