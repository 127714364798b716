"""Accuracy and time per call of verifier.py and of Math-Verify, side by side, in one run.

    python bench/verifier.py                   the tables of tests/test_verifier.py and test_verifier_attacks.py
    python bench/verifier.py FILE.jsonl        rows of response, gold, expected, kind

Math-Verify is optional (pip install math-verify antlr4-python3-runtime); its own limit is 5 s.
Each row counts with the fastest of a few passes, so that what is compared is work and not the noise of the machine.
"""

import logging
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder: it holds a verifier.py too

import verifier  # noqa: E402
from tools.grade import load  # noqa: E402

LIMIT = 2.0  # seconds: a slower call counts as a time-out


def measure(rows: list[dict], check: Callable[[str, str], bool], passes: int) -> tuple[str, float]:
    """A line of the table and the median time of a call in us."""
    verdicts: list[bool | None] = [None] * len(rows)
    times = [float("inf")] * len(rows)
    for _ in range(passes):  # over all rows, not row by row: a cache of the last call would answer the next
        for i, row in enumerate(rows):
            start = time.perf_counter()
            try:
                verdicts[i] = bool(check(row["response"], row["gold"]))
            except Exception:  # whatever a checker raises, a reward loop would have to survive it
                verdicts[i] = None
            times[i] = min(times[i], (time.perf_counter() - start) * 1e6)
    right = sum(verdict == row["expected"] for verdict, row in zip(verdicts, rows, strict=True))
    up = sum(verdict is True and not row["expected"] for verdict, row in zip(verdicts, rows, strict=True))
    late = sum(x > LIMIT * 1e6 for x in times)
    median, p99 = statistics.median(times), sorted(times)[int(len(times) * 0.99)]
    return f"{right / len(rows):8.2%} {up:8} {verdicts.count(None):11} {late:10} {median:11.1f} {p99:10.1f}", median


def math_verify() -> Callable[[str, str], bool] | None:
    """Math-Verify's check of a response, the gold given as a formula; None where it is not installed."""
    try:
        from math_verify import parse, verify
    except ImportError:
        return None
    logging.disable(logging.CRITICAL)
    return lambda response, gold: verify(
        parse(gold if "$" in gold or "\\boxed" in gold else f"${gold}$"), parse(response)
    )


def of_the_tests() -> list[dict]:
    """The labelled answers that the tests hold: each answer of a table in a box, and the attacks as they are."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    import test_verifier
    import test_verifier_attacks

    rows = [{"response": f"\\boxed{{{a}}}", "gold": gold, "expected": e} for _, gold, a, e in test_verifier.CASES]
    return rows + [
        {"response": response, "gold": gold, "expected": False} for _, response, gold in test_verifier_attacks.CASES
    ]


def main(arguments: list[str]) -> int:
    if len(arguments) > 1:
        print("usage: python bench/verifier.py [FILE.jsonl]", file=sys.stderr)
        return 2
    try:
        rows = load(arguments[0]) if arguments else of_the_tests()
    except (OSError, ValueError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    theirs = math_verify()
    for name, part in (("all rows", rows), ("integers", [row for row in rows if row["gold"].lstrip("-").isdecimal()])):
        if not part:
            continue
        print(f"{name} ({len(part)})  right  false +  exceptions  time-outs  median, us    p99, us")
        line, ours = measure(part, verifier.verify, 5)
        print(f"verifier.py   {line}")
        if theirs:
            line, median = measure(part, theirs, 2)
            print(f"Math-Verify   {line}")
            print(f"one call of theirs takes as long as {median / ours:.0f} of ours (medians)")
    if not theirs:
        print("Math-Verify is not installed: only verifier.py was measured")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
