"""Why constructions grow rare while the toy is trained: what is still wrong is wrong in another way.

    python bench/fading.py runs/study/algo-tapo-lr-0.0004-?        # training runs of the toy

A wrong response of the toy ends in an honest check ("36 + 8 = 44 low ; \\boxed{ 9 }": the guess was wrong) or in a
mistaken one ("30 + 8 = 44 ok ; ..."). The cold start shows how to rewrite the first kind only. For the start and the
end of each run: how many wrong responses of either kind queries with a right one have, and which share of their
constructions is valid.
"""

import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import checkpoint
import coldstart
import config
import parallel
import policy
import toy

QUERIES = 320  # half of the problems to train on


def counted(model: Path) -> Counter:
    """Constructions tried and valid of a model's own wrong responses, by whether the last check is mistaken."""
    maker = coldstart.toy_maker(*policy.load(str(model), parallel.device()), m_max=8)  # all that can be tried
    _, attempts = maker.attempts(list(range(QUERIES)), seed=0)
    counts = Counter()
    for attempt in attempts:
        mistaken = " ok ; \\boxed" in attempt.wrong.text
        counts[mistaken, "tried"] += 1
        counts[mistaken, "valid"] += attempt.construction.outcome == "kept"
    return counts


def main():
    """The program; see the module's docstring."""
    parser = config.Parser("Which wrong responses a run of the toy leaves, and which of them can still be rewritten.")
    parser.add_argument("runs", nargs="+", type=Path, help="folders of training runs of the toy")
    args = parser.parse_args()
    with config.bad_input():
        starts = [toy.folder(checkpoint.begun(run / "config.json")["model"]) for run in args.runs]
    print("| run | | honest checks: wrong responses, valid | mistaken checks: wrong responses, valid |")
    print("| --- " * 4 + "|")
    for run, start in zip(args.runs, starts):
        for name, model in (("start", start), ("end", run / "model")):
            counts = counted(model)
            cells = [
                f"{counts[kind, 'tried']}, {100 * counts[kind, 'valid'] / max(1, counts[kind, 'tried']):.0f} %"
                for kind in (False, True)
            ]
            print(f"| {run.name} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    config.run(main)
