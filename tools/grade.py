"""Grade answers: what was found, how it is read, and the verdict. The command line of verifier.py.

python -m tools.grade RESPONSE GOLD         both readings and the verdict; exit code 0 equal, 1 not, 2 wrong use
python -m tools.grade --score FILE.jsonl    rows of response, gold, expected, kind: a table and the wrong verdicts
python -m tools.grade --worst FILE.jsonl    the slowest rows, with their time and their units of work
"""

import json
import sys
import time
from fractions import Fraction

from verifier import BUDGET, Node, Work, extract_answer, judge, read, verify

WORST = 10  # rows that --worst prints
USAGE = "usage: python -m tools.grade RESPONSE GOLD | --score FILE.jsonl | --worst FILE.jsonl"


def show(node: Node) -> str:
    """A reading in plain notation."""
    if type(node) in (int, Fraction):
        bits = node.numerator.bit_length() + node.denominator.bit_length()
        return str(node) if bits < 400 else f"a rational of {bits} bits"
    if type(node) is str:
        return node.lstrip("\\")
    kind = node[0]
    if kind == "text":
        return f"the text {node[1]!r}" + (f" (not mathematics: {node[2]})" if len(node) > 2 else "")
    if kind == "seq":
        return node[1][0][0] + ", ".join(map(show, node[2:])) + node[1][0][1]
    if kind == "list":
        return "the list " + ", ".join(map(show, node[2:]))
    if kind == "rel":
        return show(node[2]) + "".join(f" {sign.lstrip(chr(92))} {show(x)}" for sign, x in zip(node[1], node[3:]))
    if kind == "quantity":
        return f"{show(node[1])} {node[2][0]}"
    if kind == "matrix":
        return f"the matrix of {node[1][0]} columns " + ", ".join(map(show, node[2:]))
    parts = [*map(show, node[1:])]
    return f"({f' {kind} '.join(parts)})" if kind in "+*^" else f"{kind.lstrip(chr(92))}({', '.join(parts)})"


def score(rows: list[dict]) -> str:
    """A table of verdicts by kind, and every wrong one."""
    kinds: dict[str, list[int]] = {}
    wrong = []
    for row in rows:
        verdict, expected = verify(row["response"], row["gold"]), row["expected"]
        counts = (1, verdict == expected, verdict > expected, verdict < expected)
        kind = str(row.get("kind", ""))
        kinds[kind] = [x + y for x, y in zip(kinds.get(kind, (0, 0, 0, 0)), counts, strict=True)]
        if verdict != expected:
            what = "false positive" if verdict else "false negative"
            wrong.append(f"{what}: gold {row['gold']!r}, answer {extract_answer(row['response'])!r}")
    total = [sum(column) for column in zip(*kinds.values(), strict=True)]
    width = max(map(len, kinds | {"all": 0, " " * 12: 0}))
    lines = [f"{'kind':{width}} {'rows':>6} {'right':>6} {'false +':>8} {'false -':>8}"]
    lines += [
        f"{kind:{width}} {n:6} {right:6} {up:8} {down:8}"
        for kind, (n, right, up, down) in [*sorted(kinds.items()), ("all", total)]
    ]
    return "\n".join([*lines, f"{total[1] / total[0]:.2%} right", *wrong])


def worst(rows: list[dict]) -> str:
    """The slowest rows: the best time of three, the units of work, gold and answer."""
    found = []
    for row in rows:
        times = []
        for _ in range(3):
            work, start = Work(), time.perf_counter()
            verify(row["response"], row["gold"], work)
            times.append(time.perf_counter() - start)
        found.append((min(times), BUDGET - work.left, row))
    found.sort(key=lambda item: -item[0])
    lines = [f"{'ms':>8} {'work':>8}  gold, answer"]
    for seconds, units, row in found[:WORST]:
        answer = extract_answer(row["response"])
        lines.append(f"{seconds * 1e3:8.2f} {units:8}  {row['gold'][:60]!r}, {(answer or '')[:60]!r}")
    return "\n".join(lines)


def load(path: str) -> list[dict]:
    """The rows of a labelled JSONL file. Raises OSError, or ValueError with a sentence on what is wrong."""
    rows = []
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line) if line.strip() else None
                if row is not None:
                    rows.append(row)
                    texts = isinstance(row["response"], str) and isinstance(row["gold"], str)
                    _ = (texts and type(row["expected"]) is bool) or row["unfit"]
            except (ValueError, KeyError, TypeError, RecursionError):
                raise ValueError(
                    f"{path}, line {number}: no object with response, gold (texts) and expected (true or false)"
                ) from None
    if not rows:
        raise ValueError(f"{path} has no rows")
    return rows


def main(arguments: list[str]) -> int:
    """The program of the module's docstring: its exit code."""
    if {"-h", "--help"} & {*arguments}:
        print(__doc__.strip())
        return 0
    if len(arguments) != 2:
        print(USAGE, file=sys.stderr)
        return 2
    if arguments[0] in ("--score", "--worst"):
        try:
            rows = load(arguments[1])
        except (OSError, ValueError) as error:
            print(f"grade: {error}", file=sys.stderr)
            return 2
        print((score if arguments[0] == "--score" else worst)(rows))
        return 0
    response, gold = arguments
    answer, verdict = extract_answer(response), verify(response, gold)
    print("answer: ", "none found" if answer is None else f"{answer!r}, read as {show(read(answer))}")
    print("gold:   ", f"{gold!r}, read as {show(read(gold))}")
    print("verdict:", "equal" if verdict else "no answer" if answer is None else judge(answer, gold, Work())[1])
    return 0 if verdict else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
