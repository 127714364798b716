"""What a training step tells about itself, and the table at the end of a run.

No signal may vanish silently. Of the constructions, the funnel is logged at every step: eligible queries, tried,
parsed, verbatim (y-'s own words and then a turn), kept (within the limits), correct, and with an advantage that is
not 0. Of the update, the figures to look at when training goes wrong: first `gap_mean` and `gap_max`, how far the
sampler's log-probabilities are from the trainer's on the very same tokens. They should differ by rounding only.
"""

import math
import os
import sys
from collections import Counter
from pathlib import Path

from reflect import OUTCOMES, reflects
from tapo import ORIG, REF

PARSED = OUTCOMES.keys() - {"too_long_prompt", "cut", "tags"}
VERBATIM = PARSED - {"not_verbatim", "no_turn"}


def of_groups(groups) -> dict:
    """Figures of G_orig, [Q][K] rollouts."""
    rollouts = [rollout for group in groups for rollout in group]
    lengths = [len(r.ids) for r in rollouts]
    return {
        "reward_mean": _mean([r.reward for r in rollouts]),
        "accuracy": _mean([r.reward > 0 for r in rollouts]),
        "zero_variance": _mean([len({r.reward for r in group}) == 1 for group in groups]),
        "reflecting": _mean([reflects(r.text) for r in rollouts]),
        "length_mean": _mean(lengths),
        "length_max": max(lengths),
        "cut": _mean([not r.finished for r in rollouts]),
    }


def of_constructions(attempts) -> dict:
    """The funnel of the constructions of a step, and the count of each outcome."""
    outcomes = Counter(attempt.construction.outcome for attempt in attempts)
    kept = [attempt.rollout for attempt in attempts if attempt.rollout]
    return {
        "eligible_queries": len({attempt.query for attempt in attempts}),
        "tried": len(attempts),
        "parsed": sum(outcomes[o] for o in PARSED),
        "verbatim": sum(outcomes[o] for o in VERBATIM),
        "kept": len(kept),
        "correct": sum(r.reward > 0 for r in kept),
        "nonzero_advantage": sum(r.advantage != 0 for r in kept),
        "outcomes": {name: outcomes[name] for name in OUTCOMES},
    }


def of_time(sampling: float, training: float, orig, syn) -> dict:
    """Seconds of a step, and tokens of its sampled responses and its synthesis outputs."""
    sampled, synthesised = (sum(len(r.ids) for r in group) for group in (orig, syn))
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

    def add(self, rollouts, parts, logprobs_N, entropy_N, weights_N, group_N):
        """A micro-batch: its rollouts, the parts of its loss, and what its tokens [N] got."""
        sums = self.sums
        sums["tokens"] += len(group_N)
        sums["orig"] += (group_N == ORIG).sum().item()
        sums["ref"] += (group_N == REF).sum().item()
        sums["entropy"] += entropy_N[group_N == ORIG].sum().item()
        sums["weight"] += weights_N[group_N == REF].sum().item()
        for name, value in parts.items():
            sums[name] += value.item()
        theirs = [p for r in rollouts if r.logprobs for p in r.logprobs]
        gap = (logprobs_N.detach()[group_N != REF] - logprobs_N.new_tensor(theirs)).abs()
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
        return {name: value if value is None or math.isfinite(value) else None for name, value in figures.items()}


def trajectories(attempts, tokenizer, limit: int) -> list[dict]:
    """Rows for trajectories.jsonl: kept constructions, and up to a quarter thrown-away ones with their reason."""
    kept = [attempt for attempt in attempts if attempt.rollout]
    thrown = [attempt for attempt in attempts if not attempt.rollout][: max(limit // 4, limit - len(kept))]
    rows = []
    for attempt in kept[: limit - len(thrown)] + thrown:
        made, rollout = attempt.construction, attempt.rollout
        row = {"question": attempt.problem.question, "outcome": made.outcome}
        row |= {"wrong": attempt.wrong.text, "right": attempt.right.text, "analysis": made.analysis}
        row |= {"prefix": made.prefix, "turn": made.turn}
        if rollout:
            row |= {"reward": rollout.reward, "advantage": rollout.advantage, "kept_tokens": made.kept}
            row |= {"tokens": [tokenizer.decode([i]) for i in rollout.ids]}
            row |= {"ots_weights": [round(w, 3) for w in rollout.weights]}
        rows.append(row)
    return rows


def headline(figures: dict) -> str:
    """What a progress bar shows of a step."""
    shown = f"reward {figures['reward_mean']:.3f}, accuracy {figures['accuracy']:.3f}"
    if figures["tried"]:
        shown += f", kept {figures['kept']}/{figures['tried']} ({figures['correct']} right)"
    return shown + f", {figures['tokens_per_second']:.0f} tokens/s"


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
        lines.append(f"  {meaning:<42}{_percent(before[name]):>9}{_percent(after[name]):>9}")
    lines.append(f"  {'tokens a response':<42}{before['tokens']:>9.1f}{after['tokens']:>9.1f}")
    return "\n".join(lines)


def next_steps(folder: Path, algo: str, model: str, data: str) -> str:
    """Where a run's files are, and the commands to go on with."""
    here = Path(os.path.relpath(sys.executable)).parent if Path.cwd() in Path(sys.executable).parents else None
    python, torchrun = (f"{here}/{name}" if here else name for name in ("python", "torchrun"))
    other = "grpo" if algo == "tapo" else "tapo"
    lines = (
        f"files          {folder}: metrics.jsonl, trajectories.jsonl, config.json, model/\n"
        f"look closer    {python} report.py {folder}\n"
        f"sample again   {python} eval.py --model {folder}/model --data {data} -n 16"
    )
    return lines + (f"\ncompare with   {torchrun} --standalone train.py --algo {other}" if model == "toy" else "")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _mean(values) -> float:
    return sum(values) / len(values)
