"""What an evaluation keeps: a line of JSON for every response, in a file or in the folder of eval.py.

    {"data": "aime24", "problem": 0, "sample": 0, "question": ..., "answer": the gold, "text": ..., "final": ...,
     "correct": ..., "reflects": ..., "finished": ..., "tokens": ..., "sampling": {seed, temperature, ...}}

So it can be scored again, compared with another one, and continued.
"""

import json
from collections import Counter
from pathlib import Path

import jsonl
from scores import Response, compare, comparison_table

KS = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # each k of pass@k that is told, as far as the responses reach
# What a line has to hold to be scored.
FIELDS = {"data": str, "question": str, "answer": str, "problem": int, "sample": int, "text": str}
FIELDS |= {"correct": bool, "reflects": bool, "finished": bool, "tokens": int}


def read(path: str | Path) -> list[dict]:
    """The rows of a file of responses or of an evaluation's folder, also of one that still runs or was killed: a last
    line that is no JSON is left out. Raises ValueError naming the file and line of any other that cannot be used."""
    path = Path(path)
    files = [path / "responses.jsonl", *sorted(path.glob("part-*.jsonl"))] if path.is_dir() else [path]
    rows: dict[tuple, dict] = {}
    for file in (file for file in files if file.is_file()):
        lines = file.read_bytes().rstrip(b"\n").split(b"\n")
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                if number == len(lines):
                    break  # torn
                raise ValueError(f"{file}, line {number}: no JSON") from None
            wrong = [f for f, kind in FIELDS.items() if not isinstance(row, dict) or not isinstance(row.get(f), kind)]
            if wrong:
                raise ValueError(f"{file}, line {number}: no response of an evaluation, as it lacks {', '.join(wrong)}")
            rows.setdefault((row["data"], row["problem"], row["sample"]), row)
    if not rows and not path.is_dir():
        raise ValueError(f"{path} holds no responses: name the responses.jsonl or the folder of an evaluation")
    return [rows[key] for key in sorted(rows)]


def collect(folder: Path, n: int) -> list[dict]:
    """Merge what all processes sampled into responses.jsonl, in order, and remove the parts. A problem of which a kill
    tore lines, so that it has fewer than n responses, is dropped: it will be sampled again."""
    rows = read(folder)
    complete = {(row["data"], row["problem"]) for row in rows if row["sample"] == n - 1}
    rows = [row for row in rows if (row["data"], row["problem"]) in complete]
    jsonl.rewrite(folder / "responses.jsonl", rows)
    for part in folder.glob("part-*.jsonl"):
        part.unlink()
    return rows


def response_of(row: dict) -> Response:
    """A row as what scores.py counts."""
    verdict = row["correct"], row["reflects"], row["finished"]
    return Response(row["problem"], row["text"], *verdict, row["tokens"], row.get("final"))


def ks_of(*sets: list[Response]) -> tuple[int, ...]:
    """Each k for which every problem of these sets has enough responses to estimate pass@k."""
    least = min(min(Counter(response.problem for response in responses).values()) for responses in sets)
    return tuple(k for k in KS if k <= least)


def compare_kept(path_a: str, path_b: str) -> str:
    """Two evaluations, set by set, on the problems that both hold."""

    def key(row):
        return row["question"], row["answer"]

    rows_a, rows_b = read(path_a), read(path_b)
    told = [f"A: {path_a}\nB: {path_b}"]
    for name in dict.fromkeys(row["data"] for row in rows_a):
        rows = [[row for row in rows if row["data"] == name] for rows in (rows_a, rows_b)]
        keys_a, keys_b = ({*map(key, one)} for one in rows)
        number = {both: i for i, both in enumerate(sorted(keys_a & keys_b))}
        if number:
            a, b = ([response_of(r | {"problem": number[key(r)]}) for r in one if key(r) in number] for one in rows)
            alone = len(keys_a ^ keys_b)
            told.append(f"{name}: {len(number)} problems" + (f" in both, {alone} in one only" if alone else ""))
            told.append(comparison_table(compare(a, b, ks_of(a, b))))
    if len(told) == 1:
        raise ValueError(f"{path_a} and {path_b} have no set with the same name and problems: see --data NAME=PATH")
    return "\n\n".join(told)
