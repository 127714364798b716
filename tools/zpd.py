"""The offline filter for the zone of proximal development: problems that the model neither masters nor always fails.

    python -m tools.zpd --model PATH --data FILE.jsonl --out kept.jsonl        # then: train.py --data kept.jsonl

    torchrun --standalone --nproc-per-node 8 -m tools.zpd ...          # each process has problems of its own

Every problem's accuracy is estimated from n samples; those from --low to --high are kept (paper: 12.5 % to 87.5 %, so
of 8 samples at least one is right and one wrong). Estimates are written to kept.estimates.jsonl as they come, and are
never made twice: the same command goes on after an interruption, with more problems, or with other bounds.
kept.config.json keeps what they were made with. At the end the model rewrites some wrong responses to the kept
problems, and a sentence says whether it turns by itself, without which TAPO hardly begins; kept.turning.txt keeps it.
"""

import config

if __name__ == "__main__":
    config.importing()

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

import checkpoint
import data
import parallel
import policy
import toy
from config import MANY, MISSING, Loading, Prompting, Sampling, flag, reward_flag, slots_flag
from parallel import say
from rollouts import Actor, constructions, evaluate, load_reward, problems_of, prompted_as_made, turning
from sampler import Sampler

CHUNK = 64  # problems between two saves
FIELDS = {"problem": str, "answer": str, "n": int, "right": int, "accuracy": float}  # of an estimate


@dataclass(frozen=True)
class Filtering:
    """which problems to keep, by the accuracy of which model"""

    model: str = flag(MISSING, "a model folder, a hub id, or toy (its cold start)")
    data: str = flag(MISSING, "problems, as for train.py")
    out: str = flag(MISSING, "the JSON-lines file for the problems that are kept", metavar="FILE")
    reward: str | None = reward_flag()
    n: int = flag(8, "samples a problem", most=MANY)
    low: float = flag(0.125, "keep from this accuracy", zero=True, free=True)
    high: float = flag(0.875, "... to this", zero=True, free=True)
    temperature: float = flag(1.0, "sampling temperature")
    max_new_tokens: int = flag(8192, "limit of a response")
    max_synthesis_tokens: int | None = flag(None, "limit of a rewritten one with its analysis (default: half as many "
        "again)", free=True)  # fmt: skip
    slots: int | None = slots_flag(free=True)
    seed: int = flag(0, "seed of the sampling", zero=True)

    def check(self):
        """Raises ValueError with a sentence about bounds that cannot be."""
        if not self.low <= self.high <= 1:
            raise ValueError(f"--low {self.low} and --high {self.high} must be shares from 0 to 1, the lower first")


class Filter(NamedTuple):
    """The settings of this program."""

    filtering: Filtering
    loading: Loading
    prompting: Prompting


def estimate(actor: Actor, file: Path):
    """Append to `file` the estimate of every problem that has none there: a row with problem, answer, n, right and
    accuracy."""
    distinct, n = list(dict.fromkeys(actor.problems)), actor.sampling.k
    sampling = {name: getattr(actor.sampling, name) for name in ("max_new_tokens", "temperature")}

    def missing() -> list[int]:
        rows = checkpoint.read(file, FIELDS)
        done = {(row["problem"], row["answer"]) for row in rows}
        if file.exists():
            checkpoint.rewrite(file, rows)  # without a line that was torn
        return [i for i, p in enumerate(distinct) if (p.question, p.answer) not in done]

    def estimated(chunk: list[data.Problem]) -> list[dict]:
        prompts, right = data.prompts_of(chunk, actor.tokenizer, actor.templates, **actor.chat), [0] * len(chunk)
        given = actor.sampler, actor.tokenizer, chunk, prompts, n, actor.reward
        for response in evaluate(*given, seed=actor.seed, **sampling):
            right[response.query] += response.correct
        return [
            p.row | {"problem": p.question, "answer": p.answer, "n": n, "right": k, "accuracy": k / n}
            for p, k in zip(chunk, right)
        ]

    def add(rows: list[dict]):
        with config.uninterrupted():
            checkpoint.append(file, rows)

    todo = [distinct[i] for i in parallel.first(missing)]
    chunks = [todo[start : start + CHUNK] for start in range(0, len(todo), CHUNK)]
    with tqdm(total=len(todo), desc="estimating", unit="problem", disable=not parallel.heard()) as bar:
        for rows in parallel.by_turns(estimated, chunks):
            parallel.first(partial(add, rows))
            bar.update(len(rows))


def keep(file: Path, out: Path, problems: list[data.Problem], low: float, high: float) -> str:
    """Write to `out` the rows of `file` that are about `problems` and within the bounds; returns what became of all."""
    wanted = {(p.question, p.answer) for p in problems}
    rows = [row for row in checkpoint.read(file, FIELDS) if (row["problem"], row["answer"]) in wanted]
    kept = [row for row in rows if low <= row["accuracy"] <= high]
    checkpoint.rewrite(out, kept)
    too_hard, too_easy = (
        sum(map(test, rows)) for test in (lambda r: r["accuracy"] < low, lambda r: r["accuracy"] > high)
    )
    return f"kept {len(kept)} of {len(rows)} problems in {out}: {too_hard} are too hard, {too_easy} too easy"


def turns(actor: Actor, kept: Path, file: Path) -> str:
    """Whether the model turns by itself, on some of the problems that are `kept`: found once, and kept in `file`."""
    if known := parallel.first(lambda: file.read_text(encoding="utf-8") if file.exists() else ""):
        return known.strip()
    wanted = parallel.first(lambda: {(row["problem"], row["answer"]) for row in checkpoint.read(kept, FIELDS)})
    made = constructions(actor, [i for i, p in enumerate(actor.problems) if (p.question, p.answer) in wanted])
    told = turning(actor, made)
    if made:  # of other bounds there may be some
        parallel.first(lambda: checkpoint.write(file, told + "\n"))
    return told


def filtered(given: dict):
    """Estimate what was not estimated yet, keep what is within the bounds, and say what became of all."""
    out = Path(given["out"])
    if out.suffix != ".jsonl" or not out.parent.is_dir():
        raise ValueError(f"--out {out} must be a .jsonl file in a folder that exists")
    estimates, begun = out.with_suffix(".estimates.jsonl"), out.with_suffix(".config.json")

    def unspoilt():
        if out.exists() and not estimates.exists():
            raise ValueError(f"{out} exists already, and no estimates beside it: name another file with --out")
        if estimates.exists() and not begun.exists():
            raise ValueError(f"{begun}, which tells how {estimates} was made, is missing: name another file with --out")

    parallel.first(unspoilt)
    policy.trust(given.get(config.TRUST, False))
    path = toy.folder(given["model"])
    tokenizer = policy.load_tokenizer(path)
    given = prompted_as_made(given, path)
    settings = config.settle(Filter, given, toy.SETTINGS if toy.speaks(tokenizer) else None)
    s = settings.filtering
    problems, reward = problems_of(s.data, reward=s.reward), load_reward(s.reward)
    model, _ = policy.load_to_sample(path)
    limits = {"max_new_tokens": s.max_new_tokens}
    limits["max_synthesis_tokens"] = s.max_synthesis_tokens or 3 * s.max_new_tokens // 2
    sampling = Sampling(k=s.n, temperature=s.temperature, slots=s.slots, **limits)
    how = {"prompting": settings.prompting, "reward": reward, "name": s.data, "constructs": False}
    actor = Actor(model, tokenizer, problems, sampling, seed=s.seed, engine=Sampler, **how)
    made_with = config.flat(settings) | {"weights": policy.fingerprint(model)}
    made_with |= {"reward_digest": checkpoint.code_digest(s.reward)}
    moved = {*config.free(Filter), "model", "data", "out"}  # the model is known by its weights, a problem by its text,
    moved |= {"drop_long_prompts"}  # and which ones are estimated changes no estimate

    def begin():
        checkpoint.lock(out.with_suffix(".lock"))
        checkpoint.begin(begun, made_with, moved)

    parallel.first(begin)
    estimate(actor, estimates)
    say(parallel.first(lambda: keep(estimates, out, actor.problems, s.low, s.high)))
    say(turns(actor, out, out.with_suffix(".turning.txt")))
    checkpoint.unlock(out.with_suffix(".lock"))


def main():
    """The program; see the module's docstring and --help."""
    text = "Keep the problems whose accuracy under a model is neither too low nor too high."
    given = config.read(Filter, text, toy.SETTINGS)
    parallel.start()
    with config.bad_input(), config.uninterrupted():
        filtered(given)
        parallel.stop()


if __name__ == "__main__":
    config.run(main)
