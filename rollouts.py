"""What the policy does before it learns: it samples responses, and rewrites its wrong ones.

    G_orig   K verified responses to each query
    G_ref    constructed trajectories: a wrong response up to its error, and a turn (reflect.py); verified, too
    G_syn    the synthesis outputs that those were made of

OPSD has no G_ref; each of its responses gets the prompt of its teacher instead. Several processes share the queries.
"""

import random
import sys
from dataclasses import dataclass

import cli
import data
import eval as evaluation
import parallel
import policy
from reflect import Construction, construct
from sampler import Completion, Sampler
from tapo import ORIG, select_candidates
from verifier import verify


@dataclass
class Rollout:
    """A response to train on: a sampled one, a constructed one (G_ref), or a synthesis output (G_syn)."""

    query: int  # which of the step's queries it belongs to
    prompt: list[int]
    ids: list[int]
    text: str
    reward: float
    finished: bool = True
    logprobs: list[float] | None = None  # the sampler's; a constructed response has none
    group: int = ORIG
    advantage: float = 0.0
    coefficient: float = 0.0  # what one of its tokens counts in the loss
    old: list[float] | None = None  # log-probabilities before the first of several optimiser steps
    weights: list[float] | None = None  # OTS weights
    teacher: list[int] | None = None  # the prompt under which OPSD's teacher scores it; None if it has none


@dataclass
class Attempt:
    """A construction that was tried: of what, and what became of it."""

    query: int
    problem: data.Problem
    wrong: Rollout
    right: Rollout
    task: str  # the synthesis task, as it was put to the policy
    construction: Construction
    output: Rollout | None = None  # of the synthesis task
    rollout: Rollout | None = None  # y_ref, when it was kept


class Actor:
    """A policy that samples from `model`, its whole weights, with a method for each part."""

    def __init__(self, args, model, tokenizer, problems: list[data.Problem], worked: str = ""):
        """`worked` is put in front of the synthesis task. Raises ValueError when a prompt does not fit."""
        self.args, self.tokenizer, self.problems, self.worked = args, tokenizer, problems, worked
        self.templates = evaluation.templates_for(tokenizer)
        self.prompts = evaluation.prompts_of(problems, tokenizer, self.templates)
        self.context = getattr(model.config, "max_position_embeddings", None) or sys.maxsize
        self.sampler = Sampler(model, eos_ids=policy.eos_ids(model, tokenizer), slots=args.slots)
        self.sampler.check(self.prompts, args.k, args.max_new_tokens, args.temperature)
        self.task = self.templates.anew if args.full_reconstruction else self.templates.synthesis
        if args.algo in ("tapo", "sft"):
            shortest = min(problems, key=lambda problem: len(problem.question))
            task = worked + self.task.format(question=shortest.question, wrong="", right="")
            [prompt] = data.prompt_ids(tokenizer, [task])
            if len(prompt) + args.max_synthesis_tokens > self.context:
                raise ValueError(
                    f"no synthesis task fits: the shortest prompt has {len(prompt)} tokens, --max-synthesis-tokens "
                    f"are {args.max_synthesis_tokens}, and the model's context holds {self.context}: lower the limit"
                )

    def roll_out(self, queries: list[int], number: int) -> dict | None:
        """This process's part of G_orig and of the constructions, by query; None when it was told to stop."""
        mine = dict(list(enumerate(queries))[parallel.rank() :: parallel.size()])
        try:
            with cli.interruptible():
                groups = self.sample_groups(mine, number)
                attempts = self.reflect(mine, groups, number) if self.args.algo in ("tapo", "sft") else []
                if self.args.algo == "opsd":
                    self.teach(mine, groups, number)
        except KeyboardInterrupt:
            return None
        return {i: (groups[i], [attempt for attempt in attempts if attempt.query == i]) for i in mine}

    def gathered(self, part: dict | None) -> tuple[list[list[Rollout]], list[Attempt]]:
        """The parts of all processes, query by query. Raises parallel.Stopped when one of them was told to."""
        parts = parallel.gather(None if cli.stopping() else part)
        by_query = dict(sorted(item for part in parts for item in part.items()))
        return [group for group, _ in by_query.values()], [a for _, tried in by_query.values() for a in tried]

    def sample_groups(self, queries: dict[int, int], number: int) -> dict[int, list[Rollout]]:
        """G_orig: K verified responses to each query."""
        prompts = [self.prompts[q] for q in queries.values()]
        sampled = self.sample(prompts, self.args.k, self.args.max_new_tokens, number, "rollouts")
        groups = {i: [] for i in queries}
        for i, prompt, completions in zip(queries, prompts, sampled):
            for c in completions:
                judged = evaluation.judge(c, self.tokenizer, self.problems[queries[i]].answer, i)
                rollout = Rollout(i, prompt, c.ids, judged.text, float(judged.correct), c.finished, c.logprobs)
                groups[i].append(rollout)
        return groups

    def reflect(self, queries: dict[int, int], groups: dict[int, list[Rollout]], number: int) -> list[Attempt]:
        """G_ref and G_syn: the constructions tried, each with its outcome."""
        args = self.args
        bounds = (1, 1, args.k) if args.no_dcs else (args.n_pos, args.n_neg, args.m_max)
        attempts = []
        for query, group in groups.items():
            problem = self.problems[queries[query]]
            correct_K, rng = [r.reward > 0 for r in group], random.Random(f"{args.seed} {number} {query}")
            for _, negative, positive in select_candidates([correct_K], *bounds, rng):
                wrong, right = group[negative], group[positive]
                fields = {"question": problem.question, "wrong": wrong.text, "right": right.text}
                task = self.task.format(**fields)
                attempts.append(Attempt(query, problem, wrong, right, task, Construction("too_long_prompt")))
        prompts = data.prompt_ids(self.tokenizer, [self.worked + attempt.task for attempt in attempts])
        fitting = [i for i, p in enumerate(prompts) if len(p) + args.max_synthesis_tokens <= self.context]
        outputs = self.sample([prompts[i] for i in fitting], 1, args.max_synthesis_tokens, number, "constructions")
        for i, [output] in zip(fitting, outputs):
            self.construct(attempts[i], prompts[i], output)
        return attempts

    def construct(self, attempt: Attempt, prompt: list[int], output: Completion):
        """Parse, check and splice a synthesis output; what is kept is verified like any response."""
        wrong, said, reward = attempt.wrong, self.decode(output.ids), 0.0
        attempt.construction = made = construct(
            wrong.ids[:-1] if wrong.finished else wrong.ids,
            said,
            finished=output.finished,
            decode=self.decode,
            encode=self.encode,
            eos_id=attempt.right.ids[-1],  # a right response ended, and so
            max_tokens=self.args.max_new_tokens,
            verbatim=not self.args.full_reconstruction,
        )
        if made.outcome == "kept":
            text = made.prefix + made.turn
            reward = float(verify(text, attempt.problem.answer))
            attempt.rollout = Rollout(attempt.query, wrong.prompt, made.ids, text, reward)
        attempt.output = Rollout(attempt.query, prompt, output.ids, said, reward, output.finished, output.logprobs)

    def teach(self, queries: dict[int, int], groups: dict[int, list[Rollout]], number: int):
        """OPSD: give each response its teacher's prompt, which holds another right response of the group, drawn at
        random. A response of a group without one, or whose prompt does not fit the context, has no teacher."""
        taught, texts = [], []
        for query, group in groups.items():
            rng = random.Random(f"{self.args.seed} {number} {query}")
            for rollout in group:
                if right := [other for other in group if other.reward > 0 and other is not rollout]:
                    fields = {"question": self.problems[queries[query]].question, "right": rng.choice(right).text}
                    texts.append(self.templates.teacher.format(**fields))
                    taught.append(rollout)
        for rollout, prompt in zip(taught, data.prompt_ids(self.tokenizer, texts)):
            rollout.teacher = prompt if len(prompt) + len(rollout.ids) <= self.context else None

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def sample(self, prompts, n: int, limit: int, number: int, progress: str) -> list[list[Completion]]:
        seed = (self.args.seed << 32) + number
        return self.sampler.sample(
            prompts, n, max_new_tokens=limit, temperature=self.args.temperature, seed=seed,
            progress=progress if parallel.rank() == 0 else "",
        )  # fmt: skip
