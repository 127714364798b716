"""TAPO, and what it is measured against: the loop.

    torchrun --standalone train.py                                    # the toy: on a CPU, in minutes
    torchrun --standalone --nproc-per-node 8 train.py --model PATH --data FILE.jsonl    # any transformers causal LM
    torchrun ... train.py --resume --out runs/NAME                    # go on where a run was stopped or killed

One step, as in the paper:

    1. sample K responses to each of Q queries, verify them: G_orig                            (rollouts.py)
    2. select pairs (y-, y+) of queries that are neither mastered nor out of reach             (tapo.py)
    3. let the policy rewrite each y- with y+ in sight; check, splice, verify: G_ref           (reflect.py)
    4. advantages: of G_orig, and apart from them those of G_ref                               (grpo.py, tapo.py)
    5. one pass over all tokens: log-probabilities, OTS weights, clipped surrogates, gradient  (policy.py, tapo.py)
    6. one optimiser step, or with --epochs and --minibatches several

The other algorithms are the same loop: GRPO without parts 2 and 3; OPSD, too, with the divergence from a teacher as its
loss (opsd.py); SFT with the log-likelihood of the right constructions. All divide by the size of G_orig, all keep --kl.
An ablation (--no-dcs, --no-dae, --no-ots, --full-reconstruction) is one line where TAPO decides.

With one optimiser step a batch the old log-probabilities are the policy's own and the clip never acts; with several
they are taken before the first, and so are the OTS weights.

Several processes: each samples its share of the queries, all gather everything, and each trains on its share of the
micro-batches (parallel.py). Everything random follows from --seed and the number of the step, so the number of
processes changes rounding only.
"""

import contextlib
import copy
import functools
import math
import random
import time
from pathlib import Path

import torch
from torch.utils.checkpoint import checkpoint as torch_checkpoint
from tqdm import tqdm

import checkpoint
import cli
import coldstart
import data
import eval as evaluation
import flags
import metrics
import parallel
import policy
import toy
from checkpoint import Run
from grpo import group_advantages, k3_kl, sequence_coefficients
from opsd import OPSD
from rollouts import Actor, Attempt, Rollout
from tapo import (
    ORIG,
    REF,
    SYN,
    contaminated_advantages,
    one_group_advantages,
    ots_weights,
    reference_advantages,
    tapo_loss,
)

MAX_FAILED = 3  # steps in a row without a finite gradient before a run gives up
IDLE = Rollout(0, [0], [0], "", 0.0)  # stands in where a process has no micro-batch while others have: counts nothing


class Trainer(Actor):
    """An actor that learns, with a method for each part of a step. The model stays in evaluation mode: dropout would
    part the trainer's log-probabilities from the sampler's."""

    def __init__(self, args, model, tokenizer, problems: list[data.Problem], device: str = "cpu"):
        self.weights_to_sample = parallel.WholeWeights(model, device)
        super().__init__(args, self.weights_to_sample.model, tokenizer, problems)
        self.model = model
        self.reference = sharded(policy.Policy(copy.deepcopy(model).requires_grad_(False))) if args.kl else None
        kind = OPSD if args.algo == "opsd" else policy.Policy
        self.network = sharded(kind(model), args.gradient_checkpointing)
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=args.lr, betas=(0.9, args.beta2), weight_decay=args.weight_decay
        )

    def restore(self, path: Path) -> int:
        """Take over a checkpoint's weights and optimiser state; returns its step."""
        step = checkpoint.restore(path, self.model, self.optimizer)
        self.weights_to_sample.refresh()
        return step

    def step(self, number: int) -> tuple[dict, list[Attempt]]:
        """One training step: its metrics, and the constructions that were tried."""
        args, start = self.args, time.perf_counter()
        queries = queries_of_step(len(self.problems), args.queries, args.seed, number)
        with enough_memory("--slots"):
            groups, attempts = self.gathered(self.roll_out(queries, number))
        sampled = time.perf_counter()

        rewards_QK = torch.tensor([[rollout.reward for rollout in group] for group in groups])
        orig = [rollout for group in groups for rollout in group]
        ref = [attempt.rollout for attempt in attempts if attempt.rollout]
        ref_rewards_M = torch.tensor([rollout.reward for rollout in ref])
        ref_query_M = torch.tensor([rollout.query for rollout in ref], dtype=torch.long)
        advantages_QK, ref_advantages_M = self.advantages(groups, rewards_QK, ref_rewards_M, ref_query_M)
        assign(orig, advantages_QK.flatten())
        assign(ref, ref_advantages_M)

        syn = [attempt.output for attempt in attempts if attempt.output]
        assign(syn, one_group_advantages(torch.tensor([output.reward for output in syn])))

        figures = {"step": number + 1}
        figures |= metrics.of_groups(groups)
        figures |= metrics.of_constructions(attempts)
        with enough_memory("--micro-batch-tokens, or add --gradient-checkpointing"):
            figures |= self.update(orig, ref, syn if args.mu and args.algo == "tapo" else [], number)
        figures |= metrics.of_time(sampled - start, time.perf_counter() - sampled, orig, syn)
        return figures, attempts

    def advantages(self, groups, rewards_QK, ref_rewards_M, ref_query_M) -> tuple[torch.Tensor, torch.Tensor]:
        """Advantages [Q, K] of G_orig and [M] of G_ref. Where there is no policy gradient, 1 is what is learnt."""
        args = self.args
        if args.algo == "opsd":
            return torch.tensor([[float(r.teacher is not None) for r in group] for group in groups]), ref_rewards_M
        if args.algo == "sft":
            return torch.zeros_like(rewards_QK), ref_rewards_M
        if args.no_dae:
            return contaminated_advantages(rewards_QK, ref_rewards_M, ref_query_M)
        ref_advantages_M = reference_advantages(ref_rewards_M, ref_query_M, rewards_QK, args.ref_baseline)
        return group_advantages(rewards_QK), ref_advantages_M

    def update(self, orig: list[Rollout], ref: list[Rollout], syn: list[Rollout], number: int) -> dict:
        """Optimiser steps on L_GRPO(G_orig) + lambda * L_ref(G_ref) + mu * L_GRPO(G_syn) (+ kl * KL on G_orig): one, or
        in each of --epochs passes one on each of --minibatches parts of the queries."""
        args, tally, rows = self.args, metrics.Tally(), orig + ref + syn
        for rollouts, group in ((orig, ORIG), (ref, REF), (syn, SYN)):
            for rollout in rollouts:
                rollout.group, rollout.old, rollout.weights = group, None, None
        for group in self.optimizer.param_groups:
            group["lr"] = args.lr * min(1.0, (number + 1) / args.warmup)
        parts = [[r for r in rows if r.query % args.minibatches == m] for m in range(args.minibatches)] * args.epochs
        if len(parts) > 1:
            self.freeze(rows)
        norms = [self.descend(part, tally) for part in parts]
        share(rows)
        self.weights_to_sample.refresh()
        return tally.figures(parallel.total, norms)

    def descend(self, rows: list[Rollout], tally: metrics.Tally) -> float:
        """One optimiser step on `rows`, unless the gradient is not finite; returns the gradient's norm.

        A token's coefficient is fixed by all rows, before the first backward: so neither micro-batches nor processes
        change the gradient. Rows without an advantage push nothing and are left out."""
        args = self.args
        over = [len(r.ids) for r in rows if r.group == ORIG]
        coefficients = sequence_coefficients([len(r.ids) for r in rows], args.average, args.max_new_tokens, over)
        for rollout, coefficient in zip(rows, coefficients.tolist()):
            rollout.coefficient = coefficient
        pushing = [r for r in rows if r.advantage or r.group == REF or (r.group == ORIG and self.reference)]
        for mine, together in self.micro_batches(pushing):
            with_reference = self.reference and any(batch[0].group == ORIG for batch in together)
            loss = self.loss(mine, with_reference, tally)
            (loss * parallel.size()).backward()  # FSDP averages over processes; the loss is a sum
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), args.max_grad_norm)
        norm = parallel.whole(norm).item()
        if math.isfinite(norm):
            self.optimizer.step()
        self.optimizer.zero_grad()
        return norm

    def micro_batches(self, rows: list[Rollout]):
        """This process's micro-batches, each with those that the other processes compute at the same time. All
        processes get equally many, at least one: where there is none left it is IDLE."""
        sizes, groups = [len(r.teacher or r.prompt) + len(r.ids) for r in rows], [r.group for r in rows]
        batches = [[rows[i] for i in b] for b in policy.micro_batches(sizes, self.args.micro_batch_tokens, groups)]
        for first in range(0, len(batches) or 1, parallel.size()):
            together = batches[first : first + parallel.size()]
            mine = together[parallel.rank()] if parallel.rank() < len(together) else [IDLE]
            yield mine, together

    def loss(self, rows: list[Rollout], with_reference: bool, tally: metrics.Tally) -> torch.Tensor:
        """What a micro-batch, of one group only, adds to the loss."""
        args, device = self.args, self.model.device
        lengths_B = torch.tensor([len(r.ids) for r in rows])

        def each_token(values):
            return torch.tensor(values).repeat_interleave(lengths_B).to(device)

        group_N, coefficients_N, advantages_N = (
            each_token([getattr(r, name) for r in rows]) for name in ("group", "coefficient", "advantage")
        )
        *divergences, logprobs_N, entropy_N = self.forward(rows)
        if rows[0].old is None:
            old_N, weights_N = logprobs_N.detach(), self.weights(logprobs_N, entropy_N)
            if rows[0].group == REF:
                keep(rows, weights=weights_N)  # to be looked at beside the trajectory
        else:
            old_N = torch.tensor([x for r in rows for x in r.old], device=device)
            weights_N = torch.tensor([x for r in rows for x in r.weights], device=device)
        if args.algo == "opsd":
            loss = (coefficients_N * advantages_N * divergences[0]).sum()
            parts = {"loss_orig": loss.detach()}
        elif args.algo == "sft":
            loss = -args.lam * (coefficients_N * advantages_N * logprobs_N).sum()
            parts = {"loss_ref": loss.detach()}
        else:
            loss, parts = tapo_loss(
                logprobs_N, old_N, advantages_N, coefficients_N, group_N, weights_N,
                lam=args.lam, mu=args.mu, clip_low=args.clip_low, clip_high=args.clip_high,
            )  # fmt: skip
        if with_reference:  # every process or none, because its forward gathers shards
            with torch.no_grad():
                reference_N, _ = self.reference([r.prompt for r in rows], [r.ids for r in rows], args.temperature)
            kl_N = k3_kl(logprobs_N, reference_N) * (group_N == ORIG)
            loss = loss + args.kl * (coefficients_N * kl_N).sum()
            parts["kl"] = kl_N.detach().sum()
        if rows[0] is not IDLE:
            tally.add(rows, parts, logprobs_N, entropy_N, weights_N, group_N)
        return loss

    def forward(self, rows: list[Rollout]):
        """Log-probabilities and entropies [N] of the rows' tokens; with OPSD their divergences before them."""
        prompts, ids = [r.prompt for r in rows], [r.ids for r in rows]
        if self.args.algo == "opsd":
            teachers = [r.teacher or r.prompt for r in rows]
            return self.network(prompts, teachers, ids, self.args.temperature, self.args.opsd_beta)
        return self.network(prompts, ids, self.args.temperature)

    def weights(self, logprobs_N, entropy_N) -> torch.Tensor:
        """OTS weights [N]."""
        return torch.ones_like(logprobs_N) if self.args.no_ots else ots_weights(logprobs_N, entropy_N)

    @torch.no_grad()
    def freeze(self, rows: list[Rollout]):
        """Keep each row's log-probabilities and OTS weights of before the first optimiser step."""
        for mine, _ in self.micro_batches(rows):
            *_, logprobs_N, entropy_N = self.forward(mine)
            if mine[0] is not IDLE:
                keep(mine, old=logprobs_N, weights=self.weights(logprobs_N, entropy_N))
        share(rows)

    def evaluate(self, problems: list[data.Problem]) -> dict:
        """Held-out figures: sampled as in training, and pass@1 of the likeliest response (greedy)."""

        def figures(n, temperature):
            rank, size, limit = parallel.rank(), parallel.size(), self.args.max_new_tokens
            sampling = {"max_new_tokens": limit, "temperature": temperature, "seed": self.args.seed}
            sampling["progress"] = "evaluation" if rank == 0 else ""
            try:
                with cli.interruptible():
                    mine = evaluation.evaluate(
                        self.sampler, self.tokenizer, self.templates, problems[rank::size], n, **sampling
                    )
            except KeyboardInterrupt:
                mine = None
            for response in mine or ():
                response.problem = response.problem * size + rank
            responses = [r for part in parallel.gather(mine) for r in part]
            return evaluation.summary(sorted(responses, key=lambda r: r.problem), tuple(k for k in (1, 4) if k <= n))

        return figures(self.args.eval_samples, self.args.temperature) | {"greedy": figures(1, 0.0)["pass@1"]}


def sharded(network: policy.Policy, gradient_checkpointing: bool = False) -> policy.Policy:
    """The network, whose weights are from now on shards where there are several processes."""
    layers = policy.decoder_layers(network.model)
    for layer in layers if gradient_checkpointing else ():
        layer.forward = functools.partial(recomputed, layer.forward)
    parallel.shard(network, layers)
    return network


def recomputed(forward, *args, **kwargs):
    """A layer's output, whose activations are computed again in the backward. On a CPU one process samples with these
    very layers, and needs none of it."""
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return torch_checkpoint(forward, *args, use_reentrant=False, **kwargs)


def keep(rows: list[Rollout], **values_N):
    """Give each row its part of values over the rows' tokens."""
    lengths = [len(r.ids) for r in rows]
    for name, values in values_N.items():
        for rollout, part in zip(rows, values.split(lengths)):
            setattr(rollout, name, part.tolist())


def share(rows: list[Rollout]):
    """Let all processes know what each of them kept of its rows."""
    mine = {i: (r.old, r.weights) for i, r in enumerate(rows) if r.weights and parallel.size() > 1}
    for part in parallel.gather(mine):
        for i, (old, weights) in part.items():
            rows[i].old, rows[i].weights = old, weights


@contextlib.contextmanager
def enough_memory(flag: str):
    """Name the flag to lower when memory runs out in this block."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU's allocator raises a plain one
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise SystemExit(f"error: out of memory: lower {flag}; then go on with --resume") from None


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


def set_up(args, given: dict) -> tuple[Trainer, list[data.Problem], Run]:
    """Load everything and check it together. What goes wrong here is about what the user gave."""
    run = Run(args.out, "", args.resume)
    if args.resume:
        flags.take_over(args, given, run.flags)
    problems = evaluation.load_problems(args.data, held_out=False)
    measured = args.eval_data or ("toy" if args.data == "toy" else None)
    held_out = evaluation.load_problems(measured) if measured else []
    if args.model == "toy":
        flags.settle(args, is_toy=True)
    run.name = f"{args.algo}-{'toy' if args.data == 'toy' else Path(args.data).stem}-seed{args.seed}"
    if args.model == "toy" and parallel.rank() == 0:
        Actor(args, toy.model(), toy.tokenizer(), problems)  # finds bad flags before the cold start is made
        if not Path(toy.COLD_START).exists():
            print(f"making the toy's cold start, once, in {toy.COLD_START}", flush=True)
            coldstart.toy_coldstart(toy.COLD_START)
    parallel.gather("the cold start is there")
    path = toy.folder(args.model)
    tokenizer = policy.load_tokenizer(path)
    flags.settle(args, toy.speaks(tokenizer))
    model = policy.load_model(path)
    if args.model == "toy" and getattr(model.config, "toy_recipe", "") != coldstart.recipe():
        raise ValueError(f"{path} was made by another version of the toy: remove the folder, and it is made anew")
    trainer = Trainer(args, model, tokenizer, problems, parallel.device())
    trainer.sampler.check(evaluation.prompts_of(held_out, tokenizer, trainer.templates), 1, args.max_new_tokens)
    return trainer, held_out, run


def main():
    """The program; see the module's docstring and --help."""
    args, given = flags.parse()
    parallel.start()
    with cli.bad_input():
        trainer, held_out, run = set_up(args, given)
        first = begin(args, trainer, run, held_out)
    scale = f"{len(trainer.problems)} problems, {first} of {args.steps} steps done, {parallel.size()} processes"
    say(f"{args.algo} on {args.data}: {scale}, into {run.folder}")
    with cli.bad_input(OSError), cli.uninterrupted():  # a full disk; and a stop waits for the end of an update
        train(args, trainer, held_out, run, first)
    say(metrics.next_steps(run.folder, args.algo, args.model, args.eval_data or args.data))
    parallel.stop()


def begin(args, trainer: Trainer, run: Run, held_out: list[data.Problem]) -> int:
    """Open the run's folder, or go on in it; returns how many steps are done."""
    if not args.resume:
        run.start(vars(args))
        return 0
    first = trainer.restore(run.newest) if run.newest else 0
    measured = not held_out or any(row["step"] == args.steps for row in run.rows("evaluations.jsonl"))
    if first > args.steps or (first == args.steps and measured):
        raise ValueError(f"{run.folder} has its {first} steps already: raise --steps to go on")
    run.cut(first)
    return first


def train(args, trainer: Trainer, held_out: list[data.Problem], run: Run, first: int):
    """Measure, train, keep the policy, measure again."""
    saved = [first] if first else []  # steps of which there is a checkpoint

    def save(step):
        if step not in saved:
            run.save(step, trainer.model, trainer.tokenizer, trainer.optimizer, args.keep_saves)
            saved.append(step)

    def measure(step):
        known = parallel.gather(any(row["step"] == step for row in run.rows("evaluations.jsonl")))[0]
        if held_out and not known:
            run.append("evaluations.jsonl", [{"step": step} | trainer.evaluate(held_out)])

    done = first
    failed = 0  # steps in a row without a finite gradient
    bar = tqdm(total=args.steps, initial=first, desc=args.algo, unit="step", disable=parallel.rank() > 0)
    try:
        with bar:
            measure(0)
            if first and args.eval_every and first % args.eval_every == 0:
                measure(first)  # if it was stopped in that
            while done < args.steps and failed < MAX_FAILED:
                figures, attempts = trainer.step(done)
                done += 1
                run.append("metrics.jsonl", [figures])
                shown = metrics.trajectories(attempts, trainer.tokenizer, args.keep_trajectories)
                run.append("trajectories.jsonl", [{"step": done} | row for row in shown])
                bar.set_postfix_str(metrics.headline(figures))
                bar.update()
                failed = failed + 1 if figures["skipped"] else 0
                if failed:
                    bar.write(f"step {done}: the gradient is not finite, so the policy was left as it was")
                if done % args.save_every == 0:
                    save(done)
                if args.eval_every and done % args.eval_every == 0:
                    measure(done)
        save(done)
        say(f"saved step {done}: {run.folder}/model")
        if failed == MAX_FAILED:
            raise SystemExit(f"error: no finite gradient in {failed} steps in a row: lower --lr, look at the data")
        measure(done)
    except parallel.Stopped:  # all processes are here, and no update is half done
        save(done)
        say(f"saved step {done}: go on with --resume --out {run.folder}")
        raise
    if held_out and parallel.rank() == 0:
        rows = {row["step"]: row for row in run.rows("evaluations.jsonl")}
        print(metrics.closing(rows[0], rows[done]))


def say(text: str):
    """Print, once for all processes."""
    if parallel.rank() == 0:
        print(text, flush=True)


if __name__ == "__main__":
    cli.run(main)
