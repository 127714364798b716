"""Two evaluations of eval.py on the same problems: each figure of both, their difference, and its interval.

python -m tools.compare runs/eval-A-1 runs/eval-B-1        # folders of evaluations, or files of responses
"""

import config

if __name__ == "__main__":
    config.importing()

from pathlib import Path

import numpy as np

import checkpoint
import metrics


def compare(
    a: list[dict], b: list[dict], ks: tuple[int, ...] = (1,), resamples: int = 10_000, seed: int = 0
) -> dict[str, tuple[float | None, ...]]:
    """Two models on the same problems: (figure of a, of b, their difference b - a, low, high) for each figure.

    [low, high] is the 95 % percentile interval of the difference under a paired bootstrap: problems are drawn with
    replacement, and both models get the same draw. Raises ValueError when the problems are not the same."""
    if not a or {row["problem"] for row in a} != {row["problem"] for row in b}:
        raise ValueError("only responses to the same problems can be compared")
    sums_a, sums_b = metrics.ratios(a, ks), metrics.ratios(b, ks)
    Q = len({row["problem"] for row in a})
    rng, differences = np.random.default_rng(seed), {name: [] for name in sums_a}
    for _ in range(resamples // 100):  # in blocks, so that memory stays small for thousands of problems
        draws_RQ = rng.multinomial(Q, np.full(Q, 1 / Q), size=100)
        with np.errstate(invalid="ignore", divide="ignore"):
            for name, drawn in differences.items():
                of_a, of_b = (
                    (draws_RQ @ top_Q) / (draws_RQ @ below_Q) for top_Q, below_Q in (sums_a[name], sums_b[name])
                )
                drawn.append(of_b - of_a)
    found = {}
    for name, drawn in differences.items():
        of_a, of_b = metrics.ratio(*sums_a[name]), metrics.ratio(*sums_b[name])
        drawn = np.concatenate(drawn)
        drawn = drawn[np.isfinite(drawn)]  # a draw may hold nothing to take DSR or ERR of
        interval = np.quantile(drawn, (0.025, 0.975)).tolist() if len(drawn) else (None, None)
        found[name] = of_a, of_b, None if None in (of_a, of_b) else of_b - of_a, *interval
    return found


def comparison_table(found: dict[str, tuple[float | None, ...]]) -> str:
    """What `compare` found, as a text table."""
    names, number = metrics.FIGURES, metrics.number
    width = max(map(len, names.values()))
    lines = [" " * width + f"{'A':>10}{'B':>10}{'B - A':>10}   95 % interval"]
    for row, (a, b, difference, low, high) in found.items():
        numbers = f"{number(row, a):>10}{number(row, b):>10}{number(row, difference, '+'):>10}"
        interval = "-" if low is None else f"[{number(row, low, '+')}, {number(row, high, '+')}]"
        lines.append(f"{names.get(row, row):<{width}}{numbers}   {interval}")
    return "\n".join(lines)


def made_with(path: Path, rows: list[dict]) -> dict:
    """What responses were made with, as far as it is known, but for the model, its problems, and the seed."""
    kept = (path.parent if path.name == "responses.jsonl" else path) / "config.json"
    known = {"n": 1 + max(row["sample"] for row in rows)} | (rows[0].get("sampling") or {})
    known |= checkpoint.begun(kept) if kept.is_file() else {}
    return {name: value for name, value in known.items() if name not in ("model", "weights", "data", "seed")}


def compare_kept(path_a: str, path_b: str) -> str:
    """Two evaluations, set by set, on the problems that both hold."""

    def key(row):
        return row["question"], row["answer"]

    rows_a, rows_b = metrics.read(path_a), metrics.read(path_b)
    if not rows_a or not rows_b:
        raise ValueError(f"{path_b if rows_a else path_a} holds no responses yet")
    told = [f"A: {path_a}\nB: {path_b}"]
    a, b = made_with(Path(path_a), rows_a), made_with(Path(path_b), rows_b)
    others = [(name, *config.told_apart(a[name], b[name])) for name in a if a[name] != b.get(name, a[name])]
    if others := "; ".join(f"{name}: {one} and {two}" for name, one, two in others):
        told[0] += f"\nbeside the model they differ in {others}"
    for name in dict.fromkeys(row["data"] for row in rows_a):
        rows = [[row for row in rows if row["data"] == name] for rows in (rows_a, rows_b)]
        keys_a, keys_b = ({*map(key, one)} for one in rows)
        number = {both: i for i, both in enumerate(sorted(keys_a & keys_b))}
        if number:
            a, b = ([row | {"problem": number[key(row)]} for row in one if key(row) in number] for one in rows)
            alone = len(keys_a ^ keys_b)
            told.append(f"{name}: {len(number)} problems" + (f" in both, {alone} in one only" if alone else ""))
            told.append(comparison_table(compare(a, b, metrics.ks_of(a, b))))
    if len(told) == 1:
        raise ValueError(f"{path_a} and {path_b} have no set with the same name and problems: see --data NAME=PATH")
    return "\n\n".join(told)


def main():
    """The program; see the module's docstring and --help."""
    parser = config.Parser("Compare two evaluations problem by problem, with 95 % bootstrap intervals.")
    parser.add_argument(
        "paths", nargs=2, type=Path, metavar="PATH", help="the folder of an evaluation, or its responses"
    )
    with config.bad_input():
        print(compare_kept(*parser.parse_args().paths))


if __name__ == "__main__":
    config.run(main)
