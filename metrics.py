"""What is measured: of a training step, and of a set of responses.

Of a step, no signal may vanish silently. The funnel of the constructions is logged at every step: eligible queries,
tried, parsed, verbatim (y-'s own words and then a turn), kept (within the limits), correct, and with an advantage that
is not 0. Of the update, the figures to look at when training goes wrong: first `gap_mean` and `gap_max`, how far the
sampler's log-probabilities are from the trainer's on the very same tokens. They should differ by rounding only. Then
`turn_weight`: at OTS's floor, which is the least weight, the turn is hardly learnt, and TAPO is GRPO (`of_turns`).

Of a set of responses, rows as rollouts.Response.row makes them and a log keeps them:

pass@k, unbiased (Chen et al., arXiv 2107.03374): with c of n responses correct, 1 - C(n-c, k) / C(n, k).
majority: whether the most frequent final answer is right.
DSR, direct solution rate (TAPO; definition inferred): of the correct responses, the share that holds no reflection.
ERR, effective reflection rate (TAPO): of the responses that reflect, the share that ends correct.
What counts as a reflection is the list REFLECTIONS in reflect.py.

Every figure of a set is a ratio of two sums over problems (`ratios`). So a problem is the unit of uncertainty: its
responses are not independent, and the problems stand for others of their kind (Miller, arXiv 2411.00640).
"""

import math
import os
import shlex
import sys
from collections import Counter
from math import comb
from pathlib import Path

import numpy as np

import checkpoint
from config import TRUST, as_flags
from reflect import OUTCOMES
from tapo import FLOOR, ORIG, REF
from verifier import equivalent

# --------------------------------------------------------------------------------------------------------------- a step

PARSED = OUTCOMES.keys() - {"too_long_prompt", "cut", "tags"}
VERBATIM = PARSED - {"not_verbatim", "no_turn"}


def of_groups(groups) -> dict:
    """Figures of G_orig, [Q][K] responses."""
    responses = [response for group in groups for response in group]
    lengths = [len(r.ids) for r in responses]
    return {
        "reward_mean": _mean([r.reward for r in responses]),
        "accuracy": _mean([r.correct for r in responses]),
        "zero_variance": _mean([len({r.reward for r in group}) == 1 for group in groups]),
        "reflecting": _mean([r.reflects for r in responses]),
        "length_mean": _mean(lengths),
        "length_max": max(lengths),
        "cut": _mean([not r.finished for r in responses]),
    }


def of_constructions(attempts, advantages_M: list[float]) -> dict:
    """The funnel of the constructions of a step, and the count of each outcome. advantages_M: of those kept."""
    outcomes = Counter(attempt.construction.outcome for attempt in attempts)
    kept = [attempt.trajectory for attempt in attempts if attempt.trajectory]
    return {
        "eligible_queries": len({attempt.wrong.query for attempt in attempts}),
        "tried": len(attempts),
        "parsed": sum(outcomes[o] for o in PARSED),
        "verbatim": sum(outcomes[o] for o in VERBATIM),
        "kept": len(kept),
        "correct": sum(r.correct for r in kept),
        "nonzero_advantage": sum(advantage != 0 for advantage in advantages_M),
        "outcomes": {name: outcomes[name] for name in OUTCOMES},
    }


def of_time(sampling: float, training: float, groups, attempts) -> dict:
    """Seconds of a step, and tokens of its sampled responses and its synthesis outputs."""
    sampled = sum(len(response.ids) for group in groups for response in group)
    synthesised = sum(len(attempt.output.ids) for attempt in attempts if attempt.output)
    return {
        "seconds_sampling": sampling,
        "seconds_training": training,
        "tokens_sampled": sampled,
        "tokens_synthesised": synthesised,
        "tokens_per_second": (sampled + synthesised) / sampling,
    }


class Tally:
    """Adds up the figures of an update over its micro-batches."""

    def __init__(self):
        self.sums = Counter()

    def add(self, tokens, parts: dict, sampled_N: list[float]):
        """A micro-batch: its tokens (grpo.Tokens), the parts of its loss, and the sampler's log-probabilities of those
        tokens that were sampled, in order."""
        sums, group_N = self.sums, tokens.group
        sums["tokens"] += len(group_N)
        sums["orig"] += (group_N == ORIG).sum().item()
        sums["ref"] += (group_N == REF).sum().item()
        sums["entropy"] += tokens.entropy[group_N == ORIG].sum().item()
        sums["weight"] += tokens.weights[group_N == REF].sum().item()
        for name, value in parts.items():
            sums[name] += value.item()
        gap = (tokens.logprobs.detach()[group_N != REF] - tokens.logprobs.new_tensor(sampled_N)).abs()
        sums["sampled"] += len(gap)
        sums["gap"] += gap.sum().item()
        sums["gap_max"] = max(sums["gap_max"], gap.max().item() if len(gap) else 0.0)

    def figures(self, total, norms: list[float]) -> dict:
        """Means over tokens and optimiser steps, given the gradient `norms` of those and `total`, which adds up over
        processes. None where there was nothing to measure, or nothing finite."""
        sums = Counter(total(dict(self.sums), largest=("gap_max",)))

        def mean(name, over):
            return sums[name] / sums[over] if sums[over] else None

        finite = [norm for norm in norms if math.isfinite(norm)]
        figures = {name: sums[name] / len(norms) for name in ("loss_orig", "loss_ref", "loss_syn")} | {
            "kl": mean("kl", "orig") if "kl" in sums else None,
            "entropy": mean("entropy", "orig"),
            "ots_weight": mean("weight", "ref"),
            "clip_fraction": mean("clipped", "tokens"),
            "gap_mean": mean("gap", "sampled"),
            "gap_max": sums["gap_max"],
            "tokens_trained": sums["tokens"],
            "grad_norm": _mean(finite) if finite else None,
            "skipped": len(norms) - len(finite),
        }
        return _finite(figures)


# Of the mean OTS weight of the turn's first token. On the toy, where 0.01 is no turn at all, starts at 0.010 learnt it
# after 40 steps or never, one at 0.033 in 13, and one at 0.134 in 5.
NEVER, SELDOM = 0.015, 0.1
NAMED = 8  # tokens at the floor that are named
IN_A_ROW, TRIED, KEPT = 5, 32, 1 / 3  # of `Signs`: steps; constructions in them; the share that should be kept


def of_turns(made, logprobs_M: list[list[float]], weights_M: list[list[float]], tokenizer) -> dict:
    """What the policy knows of the trajectories that were `made`: [M] pairs, of the ids of y_ref and of how many are
    y-'s. Given are the log-probabilities and the OTS weights of their tokens under the plain prompt.

    turn_weight, turn_probability   means of the turn's first token, which is the first that is not y-'s: None in "full
                                    reconstruction", where no token is
    floor_share, floor_tokens       the share of all tokens that stand at OTS's floor, and which do most often

    Without OTS (--no-ots, SFT) it is the weight that a token would have."""
    turns = [(w[kept], math.exp(p[kept])) for (_, kept), p, w in zip(made, logprobs_M, weights_M) if kept]
    floor = Counter(i for (ids, _), weights in zip(made, weights_M) for i, w in zip(ids, weights) if w <= FLOOR)
    named = Counter()
    for i, count in floor.items():
        named[tokenizer.decode([i])] += count
    figures = {
        "turn_weight": _mean([weight for weight, _ in turns]) if turns else None,
        "turn_probability": _mean([probability for _, probability in turns]) if turns else None,
        "floor_share": floor.total() / sum(map(len, weights_M)) if made else None,
    }
    most = sorted(named.items(), key=lambda one: (-one[1], one[0]))[:NAMED]
    return _finite(figures) | {"floor_tokens": dict(most)}


def turning(count: int, figures: dict) -> str:
    """What the figures (`of_turns`) of a start's `count` constructions mean, in a sentence."""
    weight, share = figures["turn_weight"], figures["floor_share"]
    if weight is None:
        return "no construction could be made, so whether the model turns by itself is not known"
    means = "TAPO can begin"
    if weight < SELDOM:
        means = "the model seldom turns by itself, so TAPO will learn it late (see coldstart.py --turning)"
    if weight < NEVER:
        means = "the model never turns by itself, so TAPO will hardly learn to (see coldstart.py --turning)"
    at_floor = f"{100 * share:.0f} % of the tokens stand at the floor"
    at_floor += f" ({', '.join(map(shown, figures['floor_tokens']))})" if share else ""
    likely = f"a mean OTS weight of {weight:.2g} (probability {figures['turn_probability']:.0e})"
    return f"of {count} constructions the turn's first token has {likely}, and {at_floor}: {means}"


def shown(token: str) -> str:
    """A decoded token, as a line names it."""
    return token.strip() or repr(token)[1:-1]


class Signs:
    """Signs in the steps of a run that TAPO does not do what it is for; each is told once."""

    def __init__(self, suppresses: bool):
        """`suppresses`: whether OTS weights count (grpo.GRPO)."""
        self.suppresses = suppresses
        self.low, self.lost, self.told = [], [], set()  # of the last steps in a row: the turn's weight; all figures

    def after(self, figures: dict) -> list[str]:
        """The sentences that are due after a step. One without constructions is no sign, and no end of one."""
        due, weight = {}, figures["turn_weight"]
        if weight is not None and self.suppresses:
            self.low = [*self.low, weight] if weight < NEVER else []
        if figures["tried"]:
            self.lost = [*self.lost, figures] if figures["kept"] < KEPT * figures["tried"] else []
        if len(self.low) >= IN_A_ROW:
            due["turn"] = (
                f"in {len(self.low)} steps the turn's first token had a mean OTS weight of {_mean(self.low):.2g}, and "
                f"{FLOOR} is the least: the policy never turns by itself and will hardly learn to, so begin with a "
                "cold start that does (coldstart.py --turning)"
            )
        counts = sum((Counter(row["outcomes"]) for row in self.lost), Counter())
        if len(self.lost) >= IN_A_ROW and counts.total() >= TRIED:
            told = f"of {counts.total()} constructions in {len(self.lost)} steps {counts.pop('kept', 0)} were kept"
            [(most, _)] = counts.most_common(1)
            due["kept"] = (
                f"{told} (most were lost to {most}: {OUTCOMES[most]}), and without them TAPO is GRPO: coldstart.py "
                "teaches to construct, --mu keeps it up"
            )
        new = {name: sentence for name, sentence in due.items() if name not in self.told}
        self.told.update(new)
        return [*new.values()]


def trajectories(
    attempts, advantages_M: list[float], weights_M: list[list[float]], tokenizer, limit: int
) -> list[dict]:
    """Rows for trajectories.jsonl: kept constructions, with their advantages and the OTS weights of their tokens, and
    up to a quarter thrown-away ones with their reason."""
    learnt = zip(advantages_M, weights_M)
    kept = [(attempt, *next(learnt)) for attempt in attempts if attempt.trajectory]
    thrown = [(attempt, 0.0, []) for attempt in attempts if not attempt.trajectory]
    thrown = thrown[: max(limit // 4, limit - len(kept))]
    rows = []
    for attempt, advantage, weights in kept[: limit - len(thrown)] + thrown:
        made, trajectory = attempt.construction, attempt.trajectory
        row = {"question": attempt.problem.question, "outcome": made.outcome}
        row |= {"wrong": attempt.wrong.text, "right": attempt.right.text, "analysis": made.analysis}
        row |= {"prefix": made.prefix, "turn": made.turn}
        if trajectory:
            row |= {"reward": trajectory.reward, "advantage": advantage, "kept_tokens": made.kept}
            row |= {"tokens": [tokenizer.decode([i]) for i in trajectory.ids]}
            row |= {"ots_weights": [round(w, 4) for w in weights]}  # fine enough to tell what stands at the floor
        rows.append(row)
    return rows


def rollouts(responses, advantages: list[float], problems, limit: int) -> list[dict]:
    """Rows for rollouts.jsonl: up to `limit` of a step's responses, with their advantages; right and wrong ones by
    turns, the rarer first, and of another query each time while there is one. `problems`: of each query."""
    verdicts = ([i for i, response in enumerate(responses) if response.correct == right] for right in (True, False))
    rarer, other = sorted(verdicts, key=len)
    rows, seen = [], set()
    for turn in range(min(limit, len(responses))):
        waiting = (other or rarer) if turn % 2 or not rarer else rarer
        chosen = next((i for i in waiting if responses[i].query not in seen), waiting[0])
        waiting.remove(chosen)
        response, problem = responses[chosen], problems[responses[chosen].query]
        seen.add(response.query)
        row = {"question": problem.question, "answer": problem.answer, "text": response.text}
        row |= {"reward": response.reward, "correct": response.correct, "reflects": response.reflects}
        rows.append(row | {"advantage": advantages[chosen], "tokens": len(response.ids), "finished": response.finished})
    return rows


def headline(figures: dict) -> str:
    """What a progress bar shows of a step."""
    shown = f"reward {figures['reward_mean']:.3f}, accuracy {figures['accuracy']:.3f}"
    if figures["tried"]:
        shown += f", kept {figures['kept']}/{figures['tried']} ({figures['correct']} right)"
    if figures["turn_weight"] is not None:
        shown += f", turn's weight {figures['turn_weight']:.2g}, at the floor {100 * figures['floor_share']:.0f} %"
    return shown + f", {figures['tokens_per_second']:.0f} tokens/s"


def _mean(values) -> float:
    return sum(values) / len(values)


def _finite(figures: dict) -> dict:
    return {name: value if value is None or math.isfinite(value) else None for name, value in figures.items()}


# --------------------------------------------------------------------------------------------------- a set of responses

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


def majority(group: list[dict]) -> float:
    """1 if the most frequent final answer of one problem's responses is right, 0 if it is wrong or there is none, a
    share where several are equally frequent. Equivalent answers count together; cut responses have no vote."""
    texts: dict[str, list[bool]] = {}
    for row in group:
        if row["finished"] and row.get("final") is not None:
            texts.setdefault(row["final"], []).append(row["correct"])
    votes: dict[str, list[bool]] = {}
    for final, verdicts in texts.items():
        same = next((known for known in votes if equivalent(known, final)), final)
        votes[same] = votes.get(same, []) + verdicts
    most = max(map(len, votes.values()), default=0)
    winners = [sum(verdicts) / most for verdicts in votes.values() if len(verdicts) == most]
    return sum(winners) / len(winners) if winners else 0.0


def ratios(rows: list[dict], ks: tuple[int, ...]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Numerator and denominator of every figure, [Q] each: one number a problem, in the order of their numbers. A
    figure of any selection of problems is the sum of its numerators over the sum of its denominators."""
    groups: dict[int, list[dict]] = {}
    for row in sorted(rows, key=lambda r: r["problem"]):
        groups.setdefault(row["problem"], []).append(row)

    def count_Q(what):
        return np.array([sum(map(what, group)) for group in groups.values()], dtype=float)

    one_Q, n_Q = np.ones(len(groups)), count_Q(lambda r: 1)
    figures = {}
    for k in ks:
        passes = [pass_at_k(len(group), sum(r["correct"] for r in group), k) for group in groups.values()]
        figures[f"pass@{k}"] = np.array(passes, dtype=float), one_Q
    return figures | {
        "majority": (np.array([majority(group) for group in groups.values()], dtype=float), one_Q),
        "direct": (count_Q(lambda r: r["correct"] and not r["reflects"]), count_Q(lambda r: not r["reflects"])),
        "err": (count_Q(lambda r: r["correct"] and r["reflects"]), count_Q(lambda r: r["reflects"])),
        "dsr": (count_Q(lambda r: r["correct"] and not r["reflects"]), count_Q(lambda r: r["correct"])),
        "reflecting": (count_Q(lambda r: r["reflects"]), n_Q),
        "cut": (count_Q(lambda r: not r["finished"]), n_Q),
        "tokens": (count_Q(lambda r: r["tokens"]), n_Q),
    }


def summary(rows: list[dict], ks: tuple[int, ...] = (1,)) -> dict[str, float | None]:
    """The figures of a set of responses, equally many of each problem, with the standard error "se" of pass@1,
    clustered by problem. What has nothing to be taken of is None."""
    sums = ratios(rows, tuple({1, *ks}))
    pass_Q, _ = sums["pass@1"]
    Q = len(pass_Q)
    error = {"se": pass_Q.std(ddof=1).item() / Q**0.5 if Q > 1 else None}
    figures = {name: ratio(*sums[name]) for name in (*(f"pass@{k}" for k in ks), *FIGURES)}
    return error | figures


def ratio(numerator_Q, denominator_Q) -> float | None:
    """A figure of the problems whose sums these are; None where there is nothing to take it of."""
    return numerator_Q.sum().item() / denominator_Q.sum().item() if denominator_Q.any() else None


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
    shown = number(row, figures[row])
    return f"{shown} +- {100 * figures['se']:.1f}" if row == "pass@1" and figures.get("se") is not None else shown


def number(row: str, value: float | None, sign: str = "") -> str:
    """The figure `row` as a table shows it."""
    if value is None:
        return "-"
    return f"{value:{sign}.1f}" if row == "tokens" else f"{100 * value:{sign}.1f}" + ("" if sign else " %")


CLOSING = {
    "pass@1": "right answers, sampled",
    "greedy": "right answers, greedy",
    "reflecting": "responses with a reflection",
    "dsr": "DSR: right responses that needed none",
    "err": "ERR: reflecting responses that end right",
}


def closing(before: dict, after: dict) -> str:
    """The table at the end of a run: held-out figures before and after."""
    lines = [f"{'held-out problems':<44}{'before':>9}{'after':>9}"]
    for name, meaning in CLOSING.items():
        lines.append(f"  {meaning:<42}{number(name, before[name]):>9}{number(name, after[name]):>9}")
    lines.append(f"  {'tokens a response':<42}{before['tokens']:>9.1f}{after['tokens']:>9.1f}")
    return "\n".join(lines)


def next_steps(folder: Path, settings: dict) -> str:
    """Where the files are of a run with these settings (config.flat), and the commands to go on with. That to sample
    again samples as training did, whatever the generation config says; how to prompt, eval.py takes over."""
    here = Path(os.path.relpath(sys.executable)).parent if Path.cwd() in Path(sys.executable).parents else None
    python, torchrun = (f"{here}/{name}" if here else name for name in ("python", "torchrun"))
    again = {"model": f"{folder}/model", "data": settings["eval_data"] or settings["data"], "n": 16}
    again |= {name: settings[name] for name in ("reward", "temperature", "max_new_tokens") if settings[name]}
    trusted = {TRUST: settings[TRUST]}
    again |= {"top_p": 1, "top_k": 0, "drop_long_prompts": settings["drop_long_prompts"]} | trusted
    same = {"config": f"{folder}/config.json"} | trusted  # model, data and all the rest
    other = {"algo": "grpo" if settings["algo"] == "tapo" else "tapo"}
    return (
        f"files          {folder}: metrics.jsonl, rollouts.jsonl, trajectories.jsonl, config.json, model/\n"
        f"look closer    {python} -m tools.report {shlex.quote(str(folder))}\n"
        f"sample again   {python} eval.py {as_flags(again)}\n"
        f"compare with   {torchrun} --standalone train.py {as_flags(same | other)}\n"
        f"other seeds    {torchrun} --standalone train.py {as_flags(same | {'seed': settings['seed'] + 1})}"
    )


# ------------------------------------------------------------------------------------------------------- kept responses

KS = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # each k of pass@k that is told, as far as the responses reach
# What a line of responses.jsonl has to hold to be counted.
FIELDS = {"data": str, "question": str, "answer": str, "problem": int, "sample": int, "text": str}
FIELDS |= {"correct": bool, "reflects": bool, "finished": bool, "tokens": int}


def read(path: str | Path) -> list[dict]:
    """The rows of a file of responses or of an evaluation's folder, also of one that still runs or was killed: a last
    line that is no JSON is left out. Raises ValueError naming the file and line of any other that cannot be used."""
    path = Path(path)
    files = [path / "responses.jsonl", *sorted(path.glob("part-*.jsonl"))] if path.is_dir() else [path]
    rows: dict[tuple, dict] = {}
    for row in (row for file in files for row in checkpoint.read(file, FIELDS)):
        rows.setdefault((row["data"], row["problem"], row["sample"]), row)
    if not rows and not path.is_dir():
        raise ValueError(f"{path} holds no responses: name the responses.jsonl or the folder of an evaluation")
    return [rows[key] for key in sorted(rows)]


def ks_of(*sets: list[dict]) -> tuple[int, ...]:
    """Each k for which every problem of these sets has enough responses to estimate pass@k."""
    least = min(min(Counter(row["problem"] for row in rows).values()) for rows in sets)
    return tuple(k for k in KS if k <= least)


def figures_of(rows: list[dict]) -> dict[str, dict]:
    """The summary of each set in what `read` gave."""
    sets: dict[str, list[dict]] = {}
    for row in rows:
        sets.setdefault(row["data"], []).append(row)
    return {name: summary(rows, ks_of(rows)) for name, rows in sets.items()}
