"""What a set of verified responses says about a model: its figures, their uncertainty, and a comparison of two models.

pass@k, unbiased (Chen et al., arXiv 2107.03374): with c of n responses correct, 1 - C(n-c, k) / C(n, k).
majority: whether the most frequent final answer is right.
DSR, direct solution rate (TAPO; definition inferred): of the correct responses, the share that holds no reflection.
ERR, effective reflection rate (TAPO): of the responses that reflect, the share that ends correct.
What counts as a reflection is the list REFLECTIONS in reflect.py.

Every figure is a ratio of two sums over problems (`ratios`). So a problem is the unit of uncertainty everywhere: its
responses are not independent, and the problems stand for others of their kind (Miller, arXiv 2411.00640).
"""

from dataclasses import dataclass
from math import comb

import numpy as np

from verifier import equivalent


@dataclass
class Response:
    """One judged response to problem number `problem` of its set. `tokens` counts ids, the end token included; a cut
    response (not `finished`) is never correct. `final` is the answer found in it, if any."""

    problem: int
    text: str
    correct: bool
    reflects: bool
    finished: bool
    tokens: int
    final: str | None = None


FIGURES = {  # beside pass@k, and what the tables call them
    "majority": "majority vote",
    "direct": "right, of the direct ones",
    "err": "ERR: right, of the reflecting ones",
    "dsr": "DSR: direct, of the right ones",
    "reflecting": "reflecting",
    "cut": "cut at the limit",
    "tokens": "tokens a response",
}


def pass_at_k(n: int, correct: int, k: int) -> float:
    """The probability that k responses, drawn without replacement from n of which `correct` are right, hold a right
    one."""
    if not 0 <= correct <= n or not 1 <= k <= n:
        raise ValueError(f"needed: 0 <= correct <= n and 1 <= k <= n, not n={n}, correct={correct}, k={k}")
    return 1 - comb(n - correct, k) / comb(n, k)


def majority(group: list[Response]) -> float:
    """1 if the most frequent final answer of one problem's responses is right, 0 if it is wrong or there is none, a
    share where several are equally frequent. Equivalent answers count together; cut responses have no vote."""
    texts: dict[str, list[bool]] = {}
    for response in group:
        if response.finished and response.final is not None:
            texts.setdefault(response.final, []).append(response.correct)
    votes: dict[str, list[bool]] = {}
    for final, verdicts in texts.items():
        same = next((known for known in votes if equivalent(known, final)), final)
        votes[same] = votes.get(same, []) + verdicts
    most = max(map(len, votes.values()), default=0)
    winners = [sum(verdicts) / most for verdicts in votes.values() if len(verdicts) == most]
    return sum(winners) / len(winners) if winners else 0.0


def ratios(responses: list[Response], ks: tuple[int, ...]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Numerator and denominator of every figure, [Q] each: one number a problem, in the order of their numbers. A
    figure of any selection of problems is the sum of its numerators over the sum of its denominators."""
    groups: dict[int, list[Response]] = {}
    for response in sorted(responses, key=lambda r: r.problem):
        groups.setdefault(response.problem, []).append(response)

    def count_Q(what):
        return np.array([sum(map(what, group)) for group in groups.values()], dtype=float)

    one_Q, n_Q = np.ones(len(groups)), count_Q(lambda r: 1)
    figures = {}
    for k in ks:
        passes = [pass_at_k(len(group), sum(r.correct for r in group), k) for group in groups.values()]
        figures[f"pass@{k}"] = np.array(passes, dtype=float), one_Q
    return figures | {
        "majority": (np.array([majority(group) for group in groups.values()], dtype=float), one_Q),
        "direct": (count_Q(lambda r: r.correct and not r.reflects), count_Q(lambda r: not r.reflects)),
        "err": (count_Q(lambda r: r.correct and r.reflects), count_Q(lambda r: r.reflects)),
        "dsr": (count_Q(lambda r: r.correct and not r.reflects), count_Q(lambda r: r.correct)),
        "reflecting": (count_Q(lambda r: r.reflects), n_Q),
        "cut": (count_Q(lambda r: not r.finished), n_Q),
        "tokens": (count_Q(lambda r: r.tokens), n_Q),
    }


def summary(responses: list[Response], ks: tuple[int, ...] = (1,)) -> dict[str, float | None]:
    """The figures of a set of responses, equally many of each problem, with the standard error "se" of pass@1,
    clustered by problem. What has nothing to be taken of is None."""
    sums = ratios(responses, tuple({1, *ks}))
    pass_Q, _ = sums["pass@1"]
    Q = len(pass_Q)
    error = {"se": pass_Q.std(ddof=1).item() / Q**0.5 if Q > 1 else None}
    figures = {name: _ratio(*sums[name]) for name in (*(f"pass@{k}" for k in ks), *FIGURES)}
    return error | figures


def _ratio(numerator_Q, denominator_Q) -> float | None:
    return numerator_Q.sum().item() / denominator_Q.sum().item() if denominator_Q.any() else None


def compare(
    a: list[Response], b: list[Response], ks: tuple[int, ...] = (1,), resamples: int = 10_000, seed: int = 0
) -> dict[str, tuple[float | None, ...]]:
    """Two models on the same problems: (figure of a, of b, their difference b - a, low, high) for each figure.

    [low, high] is the 95 % percentile interval of the difference under a paired bootstrap: problems are drawn with
    replacement, and both models get the same draw. Raises ValueError when the problems are not the same."""
    if not a or {r.problem for r in a} != {r.problem for r in b}:
        raise ValueError("only responses to the same problems can be compared")
    sums_a, sums_b = ratios(a, ks), ratios(b, ks)
    Q = len({r.problem for r in a})
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
        of_a, of_b = _ratio(*sums_a[name]), _ratio(*sums_b[name])
        drawn = np.concatenate(drawn)
        drawn = drawn[np.isfinite(drawn)]  # a draw may hold nothing to take DSR or ERR of
        interval = np.quantile(drawn, (0.025, 0.975)).tolist() if len(drawn) else (None, None)
        found[name] = of_a, of_b, None if None in (of_a, of_b) else of_b - of_a, *interval
    return found


def table(columns: dict[str, dict[str, float | None]]) -> str:
    """Summaries as a text table, a column each: rates in percent, pass@1 with its standard error, "-" where there is
    nothing to take a rate of."""
    cells = {name: [_cell(row, figures) for row in figures if row != "se"] for name, figures in columns.items()}
    rows = [row for row in next(iter(columns.values())) if row != "se"]
    widths = {name: max(map(len, (name, *column))) + 3 for name, column in cells.items()}
    first = max(len(FIGURES.get(row, row)) for row in rows)
    lines = [" " * first + "".join(f"{name:>{width}}" for name, width in widths.items())]
    for i, row in enumerate(rows):
        lines.append(
            f"{FIGURES.get(row, row):<{first}}" + "".join(f"{cells[name][i]:>{widths[name]}}" for name in cells)
        )
    return "\n".join(lines)


def _cell(row: str, figures: dict[str, float | None]) -> str:
    shown = _number(row, figures[row])
    return f"{shown} +- {100 * figures['se']:.1f}" if row == "pass@1" and figures.get("se") is not None else shown


def _number(row: str, value: float | None, sign: str = "") -> str:
    if value is None:
        return "-"
    return f"{value:{sign}.1f}" if row == "tokens" else f"{100 * value:{sign}.1f}" + ("" if sign else " %")


def comparison_table(found: dict[str, tuple[float | None, ...]]) -> str:
    """What `compare` found, as a text table."""
    width = max(map(len, FIGURES.values()))
    lines = [" " * width + f"{'A':>10}{'B':>10}{'B - A':>10}   95 % interval"]
    for row, (a, b, difference, low, high) in found.items():
        numbers = f"{_number(row, a):>10}{_number(row, b):>10}{_number(row, difference, '+'):>10}"
        interval = "-" if low is None else f"[{_number(row, low, '+')}, {_number(row, high, '+')}]"
        lines.append(f"{FIGURES.get(row, row):<{width}}{numbers}   {interval}")
    return "\n".join(lines)
