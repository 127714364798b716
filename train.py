"""TAPO, and what it is measured against: the loop.

    torchrun --standalone train.py                                    # the toy: on a CPU, in minutes
    torchrun --standalone train.py --model PATH --data FILE.jsonl     # any transformers causal LM

One step, as in the paper:

    1. sample K responses to each of Q queries, verify them: G_orig
    2. select pairs (y-, y+) of queries that are neither mastered nor out of reach             (TAPO; tapo.py)
    3. let the policy rewrite each y- with y+ in sight; check, splice, verify: G_ref           (TAPO; reflect.py)
    4. advantages: of G_orig, and apart from them those of G_ref                               (grpo.py, tapo.py)
    5. one pass over all tokens: log-probabilities, OTS weights, clipped surrogates, gradient  (policy.py, tapo.py)
    6. one optimiser step

The other algorithms are the same loop: GRPO without parts 2 and 3; OPSD, too, with the divergence from a teacher as its
loss (opsd.py); SFT with the log-likelihood of the right constructions. All divide by the size of G_orig, all keep --kl.
An ablation (--no-dcs, --no-dae, --no-ots, --full-reconstruction) is one line where TAPO decides.

The policy is updated once a batch, so its old log-probabilities are its own and the clip never acts.
Everything random follows from --seed and the number of the step. So far one process trains, on one GPU or on the CPU.
"""

import copy
import os
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

import cli
import coldstart
import data
import eval as evaluation
import flags
import metrics
import policy
import toy
from checkpoint import Run
from grpo import group_advantages, k3_kl, sequence_coefficients
from opsd import OPSD
from reflect import Construction, construct
from sampler import Completion, Sampler
from tapo import (
    ORIG,
    REF,
    SYN,
    contaminated_advantages,
    one_group_advantages,
    ots_weights,
    reference_advantages,
    select_candidates,
    tapo_loss,
)
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
    advantage: float = 0.0
    weights: list[float] | None = None  # OTS weights of a constructed response
    teacher: list[int] | None = None  # the prompt under which OPSD's teacher scores it; None if it has none


@dataclass
class Attempt:
    """A construction that was tried: of what, and what became of it."""

    query: int
    problem: data.Problem
    wrong: Rollout
    right: Rollout
    construction: Construction
    output: Rollout | None = None  # of the synthesis task
    rollout: Rollout | None = None  # y_ref, when it was kept


class Trainer:
    """A policy and what trains it, with a method for each part of a step. The model stays in evaluation mode: dropout
    would part the trainer's log-probabilities from the sampler's."""

    def __init__(self, args, model, tokenizer, problems: list[data.Problem]):
        self.args, self.model, self.tokenizer, self.problems = args, model, tokenizer, problems
        self.network = OPSD(model) if args.algo == "opsd" else policy.Policy(model)
        self.reference = policy.Policy(copy.deepcopy(model).requires_grad_(False)) if args.kl else None
        self.sampler = Sampler(model, eos_ids=policy.eos_ids(model, tokenizer), slots=args.slots)
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=args.lr, betas=(0.9, args.beta2), weight_decay=args.weight_decay
        )
        self.templates = evaluation.templates_for(tokenizer)
        self.prompts = evaluation.prompts_of(problems, tokenizer, self.templates)
        self.sampler.check(self.prompts, args.k, args.max_new_tokens, args.temperature)
        self.context = getattr(model.config, "max_position_embeddings", None) or sys.maxsize

    def step(self, number: int) -> tuple[dict, list[Attempt]]:
        """One training step: its metrics, and the constructions that were tried."""
        args, start = self.args, time.perf_counter()
        queries = queries_of_step(len(self.problems), args.queries, args.seed, number)
        groups = self.sample_groups(queries, number)
        attempts = self.reflect(queries, groups, number) if args.algo in ("tapo", "sft") else []
        if args.algo == "opsd":
            self.teach(queries, groups, number)
        sampled = time.perf_counter()

        rewards_QK = torch.tensor([[rollout.reward for rollout in group] for group in groups])
        orig = [rollout for group in groups for rollout in group]
        ref = [attempt.rollout for attempt in attempts if attempt.rollout]
        ref_rewards_M = torch.tensor([rollout.reward for rollout in ref])
        ref_query_M = torch.tensor([rollout.query for rollout in ref], dtype=torch.long)
        advantages_QK, ref_advantages_M = self.advantages(rewards_QK, ref_rewards_M, ref_query_M)
        assign(orig, advantages_QK.flatten())
        assign(ref, ref_advantages_M)

        syn = [attempt.output for attempt in attempts if attempt.output]
        assign(syn, one_group_advantages(torch.tensor([output.reward for output in syn])))

        figures = {"step": number + 1}
        figures |= metrics.of_groups(groups)
        figures |= metrics.of_constructions(attempts)
        figures |= self.update(orig, ref, syn if args.mu and args.algo == "tapo" else [], number)
        figures |= metrics.of_time(sampled - start, time.perf_counter() - sampled, orig, syn)
        return figures, attempts

    def advantages(self, rewards_QK, ref_rewards_M, ref_query_M) -> tuple[torch.Tensor, torch.Tensor]:
        """Advantages [Q, K] of G_orig and [M] of G_ref."""
        if self.args.no_dae:
            return contaminated_advantages(rewards_QK, ref_rewards_M, ref_query_M)
        if self.args.algo == "sft":  # the right constructions are learnt, all alike, and nothing else
            return torch.zeros_like(rewards_QK), ref_rewards_M
        ref_advantages_M = reference_advantages(ref_rewards_M, ref_query_M, rewards_QK, self.args.ref_baseline)
        return group_advantages(rewards_QK), ref_advantages_M

    def sample_groups(self, queries: list[int], number: int) -> list[list[Rollout]]:
        """G_orig: K verified responses to each query."""
        prompts = [self.prompts[q] for q in queries]
        groups = []
        sampled = self.sample(prompts, self.args.k, self.args.max_new_tokens, number, "rollouts")
        for i, completions in enumerate(sampled):
            groups.append([])
            for c in completions:
                judged = evaluation.judge(c, self.tokenizer, self.problems[queries[i]].answer, i)
                rollout = Rollout(i, prompts[i], c.ids, judged.text, float(judged.correct), c.finished, c.logprobs)
                groups[i].append(rollout)
        return groups

    def reflect(self, queries: list[int], groups: list[list[Rollout]], number: int) -> list[Attempt]:
        """G_ref and G_syn: the constructions tried, each with its outcome."""
        args = self.args
        correct_QK = [[rollout.reward > 0 for rollout in group] for group in groups]
        rng = random.Random(f"{args.seed} {number}")
        bounds = (1, 1, args.k) if args.no_dcs else (args.n_pos, args.n_neg, args.m_max)
        attempts, texts = [], []
        for query, negative, positive in select_candidates(correct_QK, *bounds, rng):
            wrong, right = groups[query][negative], groups[query][positive]
            problem = self.problems[queries[query]]
            fields = {"question": problem.question, "wrong": wrong.text, "right": right.text}
            texts.append(self.templates.synthesis.format(**fields))
            attempts.append(Attempt(query, problem, wrong, right, Construction("too_long_prompt")))
        prompts = data.prompt_ids(self.tokenizer, texts)
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

    def teach(self, queries: list[int], groups: list[list[Rollout]], number: int):
        """OPSD: give each response its teacher's prompt, which holds another right response of the group, drawn at
        random. A response of a group without one, or whose prompt does not fit the context, has no teacher."""
        rng = random.Random(f"{self.args.seed} {number} teacher")
        taught, texts = [], []
        for query, group in zip(queries, groups):
            for rollout in group:
                if right := [other for other in group if other.reward > 0 and other is not rollout]:
                    fields = {"question": self.problems[query].question, "right": rng.choice(right).text}
                    texts.append(self.templates.teacher.format(**fields))
                    taught.append(rollout)
        for rollout, prompt in zip(taught, data.prompt_ids(self.tokenizer, texts)):
            rollout.teacher = prompt if len(prompt) + len(rollout.ids) <= self.context else None

    def update(self, orig: list[Rollout], ref: list[Rollout], syn: list[Rollout], number: int) -> dict:
        """One optimiser step on L_GRPO(G_orig) + lambda * L_ref(G_ref) + mu * L_GRPO(G_syn) (+ kl * KL on G_orig)."""
        args, rows = self.args, orig + ref + syn
        groups = [ORIG] * len(orig) + [REF] * len(ref) + [SYN] * len(syn)
        lengths = [len(r.ids) for r in rows]
        over = lengths[: len(orig)]
        advantages = [r.advantage for r in rows]
        coefficients = sequence_coefficients(lengths, args.average, args.max_new_tokens, over).tolist()
        tally = metrics.Tally()
        sizes = [len(r.teacher or r.prompt) + len(r.ids) for r in rows]
        for batch in policy.micro_batches(sizes, args.micro_batch_tokens, groups):
            lengths_B = torch.tensor([lengths[i] for i in batch])

            def each_token(values, batch=batch, lengths_B=lengths_B):
                return torch.tensor([values[i] for i in batch]).repeat_interleave(lengths_B).to(self.model.device)

            group_N, coefficients_N, advantages_N = map(each_token, (groups, coefficients, advantages))
            given = [rows[i].prompt for i in batch], [rows[i].ids for i in batch], args.temperature
            with policy.compute_precision(self.model.device.type):
                if args.algo == "opsd":
                    teachers = [rows[i].teacher or rows[i].prompt for i in batch]
                    divergence_N, logprobs_N, entropy_N = self.network(given[0], teachers, *given[1:], args.opsd_beta)
                else:
                    logprobs_N, entropy_N = self.network(*given)
            weights_N = torch.ones_like(logprobs_N) if args.no_ots else ots_weights(logprobs_N, entropy_N)
            if args.algo == "opsd":
                taught_N = each_token([rollout.teacher is not None for rollout in rows])
                loss = (coefficients_N * taught_N * divergence_N).sum()
                parts = {"loss_orig": loss.detach()}
            elif args.algo == "sft":
                loss = -args.lam * (coefficients_N * advantages_N * logprobs_N).sum()
                parts = {"loss_ref": loss.detach()}
            else:
                loss, parts = tapo_loss(
                    logprobs_N, logprobs_N.detach(), advantages_N, coefficients_N, group_N, weights_N,
                    lam=args.lam, mu=args.mu, clip_low=args.clip_low, clip_high=args.clip_high,
                )  # fmt: skip
            if self.reference and groups[batch[0]] == ORIG:  # a micro-batch holds one group only
                with torch.no_grad(), policy.compute_precision(self.model.device.type):
                    reference_N, _ = self.reference(*given)
                kl_N = k3_kl(logprobs_N, reference_N)
                loss = loss + args.kl * (coefficients_N * kl_N).sum()
                parts["kl"] = kl_N.detach().sum()
            loss.backward()
            tally.add([rows[i] for i in batch], parts, logprobs_N, entropy_N, weights_N, group_N)
            for i, weights in zip(batch, weights_N.split(lengths_B.tolist())):
                rows[i].weights = weights.tolist() if groups[i] == REF else None
        for group in self.optimizer.param_groups:
            group["lr"] = args.lr * min(1.0, (number + 1) / args.warmup)
        with cli.uninterrupted():  # an interrupt never leaves half an update
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), args.max_grad_norm)
            if not norm.isfinite():
                raise SystemExit(f"step {number + 1}: the gradient is {norm.item()}; the policy before it is kept")
            self.optimizer.step()
        self.optimizer.zero_grad()
        return tally.figures() | {"grad_norm": norm.item()}

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def sample(self, prompts, n: int, limit: int, number: int, progress: str) -> list[list[Completion]]:
        seed = (self.args.seed << 32) + number
        with policy.compute_precision(self.model.device.type):
            return self.sampler.sample(
                prompts, n, max_new_tokens=limit, temperature=self.args.temperature, seed=seed, progress=progress
            )

    def evaluate(self, problems: list[data.Problem]) -> dict:
        """Held-out figures: sampled as in training, and pass@1 of the likeliest response (greedy)."""

        def figures(n, temperature):
            limit, seed = self.args.max_new_tokens, self.args.seed
            sampling = {"max_new_tokens": limit, "temperature": temperature, "seed": seed, "progress": "evaluation"}
            with policy.compute_precision(self.model.device.type):
                responses = evaluation.evaluate(self.sampler, self.tokenizer, self.templates, problems, n, **sampling)
            return evaluation.summary(responses)

        return figures(self.args.eval_samples, self.args.temperature) | {"greedy": figures(1, 0.0)["pass@1"]}


def assign(rollouts: list[Rollout], advantages_N: torch.Tensor):
    """Give each rollout its advantage."""
    for rollout, advantage in zip(rollouts, advantages_N.tolist(), strict=True):
        rollout.advantage = advantage


def queries_of_step(problems: int, queries: int, seed: int, number: int) -> list[int]:
    """Which problems step `number` samples: every epoch goes through all of them in an order of its own."""
    places = range(number * queries, (number + 1) * queries)
    epochs = range(places[0] // problems, places[-1] // problems + 1)
    orders = {e: random.Random(f"{seed} epoch {e}").sample(range(problems), problems) for e in epochs}
    return [orders[place // problems][place % problems] for place in places]


def set_up(args) -> tuple[Trainer, list[data.Problem], Run]:
    """Load everything and check it together. What goes wrong here is about what the user gave."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("train.py trains in one process so far: start it with --nproc-per-node 1")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    problems = toy.problems()[0] if args.data == "toy" else data.load(args.data)
    measured = args.eval_data or ("toy" if args.data == "toy" else None)
    held_out = evaluation.load_problems(measured) if measured else []
    if args.model == "toy":
        flags.settle(args, is_toy=True)
    kind = "toy" if args.data == "toy" else Path(args.data).stem
    run = Run(args.out, f"{args.algo}-{kind}-seed{args.seed}")
    if args.model == "toy":
        Trainer(args, toy.model(), toy.tokenizer(), problems)  # finds bad flags before the cold start is made
        if not Path(toy.COLD_START).exists():
            print(f"making the toy's cold start, once, in {toy.COLD_START}", flush=True)
            coldstart.toy_coldstart(toy.COLD_START)
    path = toy.COLD_START if args.model == "toy" else args.model
    tokenizer = policy.load_tokenizer(path)
    flags.settle(args, toy.speaks(tokenizer))
    model = policy.load_model(path, device)
    if args.model == "toy" and getattr(model.config, "toy_recipe", "") != coldstart.recipe():
        raise ValueError(f"{path} was made by another version of the toy: remove the folder, and it is made anew")
    trainer = Trainer(args, model, tokenizer, problems)
    trainer.sampler.check(evaluation.prompts_of(held_out, tokenizer, trainer.templates), 1, args.max_new_tokens)
    return trainer, held_out, run


def main():
    """The program; see the module's docstring and --help."""
    args = flags.parse()
    with cli.bad_input():
        trainer, held_out, run = set_up(args)
        run.start(vars(args))
    scale = f"{len(trainer.problems)} problems, {args.steps} steps"
    print(f"{args.algo} on {args.data}: {scale}, into {run.folder}", flush=True)
    with cli.bad_input(OSError):  # a full disk
        train(args, trainer, held_out, run)
    print(metrics.next_steps(run.folder, args.algo, args.model, args.eval_data or args.data))


def train(args, trainer: Trainer, held_out: list[data.Problem], run: Run):
    """Measure, train, keep the policy whatever happens, measure again."""
    before = trainer.evaluate(held_out) if held_out else None
    bar = tqdm(range(args.steps), desc=args.algo, unit="step")
    try:
        for number in bar:
            figures, attempts = trainer.step(number)
            run.append("metrics.jsonl", [figures])
            shown = metrics.trajectories(attempts, trainer.tokenizer, args.keep_trajectories)
            run.append("trajectories.jsonl", [{"step": number + 1} | row for row in shown])
            bar.set_postfix_str(metrics.headline(figures))
    finally:
        bar.close()
        with cli.uninterrupted():
            run.save_model(trainer.model, trainer.tokenizer)
        print(f"wrote {run.folder}/model", flush=True)
    if held_out:
        after = trainer.evaluate(held_out)
        run.append("evaluations.jsonl", [{"step": 0} | before, {"step": args.steps} | after])
        print(metrics.closing(before, after))


if __name__ == "__main__":
    cli.run(main)
