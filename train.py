"""TAPO, and what it is measured against: the loop.

    torchrun --standalone train.py                                    # the toy: on a CPU, in minutes
    torchrun --standalone --nproc-per-node 8 train.py --model PATH --data FILE.jsonl    # any transformers causal LM
    torchrun ... train.py --resume --out runs/NAME                    # go on where a run was stopped or killed
    torchrun ... train.py --config runs/NAME/config.json --seed 1     # the same again, but for what is given

One step, as README.md explains it:

    1. sample K responses to each of Q queries, judge them: G_orig                             (rollouts.py)
    2. select pairs (y-, y+) of queries that are neither mastered nor out of reach             (tapo.py)
    3. let the policy rewrite each y- with y+ in sight; check, splice, judge: G_ref            (reflect.py)
    4. advantages: of G_orig, and apart from them those of G_ref                               (grpo.py, tapo.py)
    5. one pass over all tokens: log-probabilities, OTS weights, clipped surrogates, gradient  (policy.py, tapo.py)
    6. one optimiser step, or with --epochs and --minibatches several

The other algorithms are the same loop with another class of OBJECTIVES: GRPO skips steps 2 and 3; so does OPSD, whose
loss is a divergence from a teacher (opsd.py); SFT's is the log-likelihood of the right constructions. All divide by the
size of G_orig, all keep --kl. An ablation is one line where TAPO decides (tapo.TAPO).

With one optimiser step a batch the old log-probabilities are the policy's own and the clip never acts; with several
they are taken before the first, and so are the OTS weights.

Several processes: each samples its share of the prompts, all gather everything, and each trains on its share of the
micro-batches (parallel.py). Everything random follows from --seed and the number of the step, so the number of
processes changes rounding only.
"""

import config

if __name__ == "__main__":
    config.importing()

import contextlib
import os
import time
from pathlib import Path

import torch
from tqdm import tqdm

import data
import lora
import metrics
import parallel
import policy
import toy
from checkpoint import Run, Saves, code_digest, lock, restore, unlock
from grpo import GRPO, Tokens, active, k3_kl, sequence_coefficients
from opsd import OPSD
from parallel import say
from policy import MAX_FAILED, sharded
from rollouts import Actor, Attempt, Batch, CodeError, Response, evaluate, load_reward, problems_of, prompted_as_made
from sampler import NotFinite
from tapo import ORIG, REF, SFT, TAPO, one_group_advantages
from tools.memory import GIB, Plan
from tools.trackers import Trackers

OBJECTIVES = {"grpo": GRPO, "tapo": TAPO, "opsd": OPSD, "sft": SFT}
MOST_RESPONSES = 2**20  # a step; more is a slip of the keyboard


class Trainer:
    """A policy that learns. The model stays in evaluation mode: dropout would make the trainer's log-probabilities
    differ from the sampler's."""

    def __init__(
        self, settings: config.Training, model, tokenizer, problems: list[data.Problem], device: str = "cpu",
        source: str | None = None,
    ):  # fmt: skip
        """`source`: the folder or hub id of the weights, where `model` is without (policy.outline). Raises ValueError
        when they are not what they should be, or a prompt does not fit."""
        self.settings, self.model, self.tokenizer = settings, model, tokenizer
        task, selection, optimiser = settings.task, settings.selection, settings.optimiser
        self.objective = OBJECTIVES[settings.objective.algo](settings.objective, selection)
        if optimiser.lora:
            lora.adapt(model, optimiser.lora, parallel.precision())
        self.weights_to_sample = parallel.WholeWeights(model, device)
        another = settings.objective.kl and not optimiser.lora
        self.reference = policy.Policy(parallel.twin(model, parallel.room)) if another else None
        network = (self.objective.network or policy.Policy)(model)
        self.network = sharded(network, optimiser.gradient_checkpointing)
        if source:
            policy.fill(model, source)
        lora.begin(model, task.seed)
        if self.reference:  # read by forwards alone, so nothing else would free what they gather
            parallel.take_over(sharded(self.reference, resharded=True).model, model)
        if settings.objective.kl and optimiser.lora:
            self.reference = self.without_adapters
        self.weights_to_sample.refresh()
        if source:
            policy.check(policy.Policy(self.weights_to_sample.model), source)
        self.network.packs = policy.packs(self.weights_to_sample.model)
        if another:
            self.reference.packs = self.network.packs
        self.actor = Actor(
            self.weights_to_sample.model, tokenizer, problems, settings.sampling, seed=task.seed,
            prompting=settings.prompting, reward=load_reward(task.reward), constructs=self.objective.constructs,
            anew=selection.full_reconstruction, name=task.data,
        )  # fmt: skip
        self.problems = self.actor.problems  # those that fit
        betas = (0.9, optimiser.beta2)
        trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=optimiser.lr, betas=betas, weight_decay=optimiser.weight_decay)

    def without_adapters(self, prompts, responses, temperature):
        """The reference of --kl under --lora: log-probabilities and entropies [N] of the model as it was."""
        with lora.off(self.model):
            nobody = [None] * len(prompts)
            return self.objective.forward(self.network, prompts, nobody, responses, temperature)[:2]

    def step(self, number: int) -> tuple[dict, list[Attempt], Batch]:
        """One training step: its metrics, the constructions that were tried, and what was trained on."""
        seed, start = self.settings.task.seed, time.perf_counter()
        queries = self.queries(number)
        with enough_memory("--slots"):
            groups = self.actor.sample(queries, number)  # 1: G_orig
            pairs = self.objective.select(correct(groups), f"{seed} {number}")  # 2: DCS
            attempts = self.actor.construct(queries, groups, pairs, number)  # 3: G_ref, and G_syn
        sampled = time.perf_counter()
        batch = self.batch(queries, groups, attempts, number)  # 4: advantages, DAE
        figures = {"step": number + 1} | metrics.of_groups(groups)
        figures |= metrics.of_constructions(attempts, [batch.advantage[i] for i in batch.of(REF)])
        with enough_memory("--micro-batch-tokens, and leave --gradient-checkpointing on"):
            figures |= self.update(batch, number)  # 5 and 6: OTS, loss, gradient, step
        made = [(a.construction.ids, a.construction.kept) for a in attempts if a.trajectory]
        learnt = ([column[i] for i in batch.of(REF)] for column in (batch.old, batch.weights))
        figures |= metrics.of_turns(made, *learnt, self.tokenizer)
        figures |= metrics.of_time(sampled - start, time.perf_counter() - sampled, groups, attempts)
        return figures, attempts, batch

    def queries(self, number: int) -> list[int]:
        """Which problems a step asks."""
        count, seed = self.settings.optimiser.queries, self.settings.task.seed
        return data.queries_of_step(len(self.problems), count, seed, number)

    def batch(self, queries, groups: list[list[Response]], attempts: list[Attempt], number: int) -> Batch:
        """What a step trains on, with the advantages of each group."""
        orig = [response for group in groups for response in group]
        ref = [attempt.trajectory for attempt in attempts if attempt.trajectory]
        syn = [attempt.output for attempt in attempts if attempt.output] if self.objective.outputs else []
        teachers_QK = self.actor.teach(queries, groups, number) if self.objective.teaches else []
        advantages_QK, ref_advantages_M = self.objective.advantages(
            torch.tensor([[response.reward for response in group] for group in groups]),
            torch.tensor([response.reward for response in ref]),
            torch.tensor([response.query for response in ref], dtype=torch.long),
            torch.tensor([[teacher is not None for teacher in group] for group in teachers_QK]),
        )
        syn_advantages = one_group_advantages(torch.tensor([response.reward for response in syn]))
        advantages = torch.cat([advantages_QK.flatten(), ref_advantages_M, syn_advantages])
        return Batch(orig, ref, syn, advantages, [teacher for group in teachers_QK for teacher in group])

    def update(self, batch: Batch, number: int) -> dict:
        """Optimiser steps on the objective's loss (TAPO's: tapo.tapo_loss) plus kl * KL on G_orig: one, or in each of
        --epochs passes one on each of --minibatches parts of the queries. For a batch once. Returns its metrics."""
        s, tally = self.settings.optimiser, metrics.Tally()
        lr = s.lr * min(1.0, (number + 1) / s.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        parts = batch.parts(s.minibatches) * s.epochs
        if len(parts) > 1:
            self.freeze(batch)
        norms = [self.descend(batch, part, tally) for part in parts]
        batch.share()
        self.refresh()
        return tally.figures(parallel.total, norms) | {"lr": lr}

    def refresh(self):
        """Let what samples have the present weights."""
        self.weights_to_sample.refresh()
        self.actor.sampler.refresh()

    def descend(self, batch: Batch, rows: list[int], tally: metrics.Tally) -> float:
        """One optimiser step on `rows`, unless the gradient is not finite; returns the gradient's norm.

        A token's coefficient is fixed by all rows, before the first backward: so neither micro-batches nor processes
        change the gradient. Rows without an advantage push nothing and are left out."""
        average, limit = self.settings.objective.average, self.settings.sampling.max_new_tokens
        lengths, orig = [batch.length[i] for i in rows], batch.of(ORIG, rows)
        over = orig
        if average == "active":
            over = [orig[i] for i in active([batch.advantage[i] for i in orig], [batch.rows[i].query for i in orig])]
        left_out = {*orig} - {*over}
        coefficients = sequence_coefficients(lengths, average, limit, [batch.length[i] for i in over])
        for i, coefficient in zip(rows, coefficients.tolist()):
            batch.coefficient[i] = 0.0 if i in left_out else coefficient
        needed = {REF} | ({ORIG} if self.reference else set())  # REF: its OTS weights are logged; ORIG: its KL
        pushing = [i for i in rows if batch.advantage[i] or batch.group[i] in needed]
        losses = (  # 5
            self.loss(batch, mine, any(batch.group[rows[0]] == ORIG for rows in beside), tally)
            for mine, beside in self.micro_batches(batch, pushing)
        )
        return policy.descend(self.model, self.optimizer, losses, self.settings.optimiser.max_grad_norm)  # 6

    def micro_batches(self, batch: Batch, rows: list[int]):
        """This process's micro-batches, each with all that the processes compute at the same time."""
        sizes = [len(batch.teachers[i] or batch.rows[i].prompt) + len(batch.rows[i].ids) for i in rows]
        limit, groups = self.settings.optimiser.micro_batch_tokens, [batch.group[i] for i in rows]
        batches = [[rows[i] for i in b] for b in policy.micro_batches(sizes, limit, groups)]
        return parallel.side_by_side(batches, batch.idle)

    def loss(self, batch: Batch, rows: list[int], orig: bool, tally: metrics.Tally) -> torch.Tensor:
        """What a micro-batch, of one group only, adds to the loss. `orig`: whether any process has one of G_orig."""
        tokens, kept = self.tokens(batch, rows), batch.old[rows[0]] is not None
        if batch.group[rows[0]] == REF and not kept:
            batch.keep(rows, old=tokens.old, weights=tokens.weights)  # to be looked at beside the trajectory
        loss, parts = self.objective.loss(tokens)
        if self.reference and orig:  # every process or none, because its forward gathers shards
            prompts, ids = [batch.rows[i].prompt for i in rows], [batch.rows[i].ids for i in rows]
            with torch.no_grad():
                reference_N, _ = self.reference(prompts, ids, self.settings.sampling.temperature)
            kl_N = k3_kl(tokens.logprobs, reference_N) * (tokens.group == ORIG)
            loss = loss + self.settings.objective.kl * (tokens.coefficients * kl_N).sum()
            parts["kl"] = kl_N.detach().sum()
        if rows is not batch.idle:
            tally.add(tokens, parts, [p for i in rows for p in batch.rows[i].logprobs])
        return loss

    def tokens(self, batch: Batch, rows: list[int]) -> Tokens:
        """All that is known of the tokens of a micro-batch."""
        device, temperature = self.model.device, self.settings.sampling.temperature
        prompts, ids = [batch.rows[i].prompt for i in rows], [batch.rows[i].ids for i in rows]
        logprobs_N, entropy_N, divergence_N = self.objective.forward(
            self.network, prompts, [batch.teachers[i] for i in rows], ids, temperature
        )
        if batch.old[rows[0]] is None:
            old_N, weights_N = logprobs_N.detach(), self.objective.weights(logprobs_N, entropy_N)
        else:
            old_N, weights_N = (
                torch.tensor([x for i in rows for x in column[i]], device=device)
                for column in (batch.old, batch.weights)
            )
        advantages_N, coefficients_N, group_N = (
            batch.each_token(column, rows).to(device) for column in (batch.advantage, batch.coefficient, batch.group)
        )
        return Tokens(logprobs_N, old_N, entropy_N, advantages_N, coefficients_N, group_N, weights_N, divergence_N)

    @torch.no_grad()
    def freeze(self, batch: Batch):
        """Keep each row's log-probabilities and OTS weights of before the first optimiser step."""
        for mine, _ in self.micro_batches(batch, list(range(len(batch.rows) - 1))):
            tokens = self.tokens(batch, mine)
            if mine is not batch.idle:
                batch.keep(mine, old=tokens.logprobs, weights=tokens.weights)
        batch.share()

    def evaluate(self, problems: list[data.Problem]) -> dict:
        """Held-out figures: sampled as in training, and pass@1 of the likeliest response (greedy)."""
        rank, size, actor = parallel.rank(), parallel.size(), self.actor
        mine, limit = problems[rank::size], self.settings.sampling.max_new_tokens
        prompts = data.prompts_of(mine, self.tokenizer, actor.templates, **actor.chat)
        how = {"max_new_tokens": limit, "seed": actor.seed, "progress": "evaluation" if rank == 0 else ""}

        def figures(n: int, temperature: float) -> dict:
            def work() -> list[dict]:
                responses = evaluate(
                    actor.sampler, self.tokenizer, mine, prompts, n, actor.reward, temperature=temperature, **how
                )
                return [r.row() | {"problem": r.query * size + rank} for r in responses]

            rows = [row for part in parallel.together(work) for row in part]
            return metrics.summary(rows, tuple(k for k in (1, 4) if k <= n))

        sampled = figures(self.settings.keeping.eval_samples, self.settings.sampling.temperature)
        return sampled | {"greedy": figures(1, 0.0)["pass@1"]}


def correct(groups: list[list[Response]]) -> list[list[bool]]:
    """Which responses of each group are right, [Q][K]."""
    return [[response.correct for response in group] for group in groups]


@contextlib.contextmanager
def enough_memory(flag: str):
    """Name the flag to lower when memory runs out in this block."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU's allocator raises a plain one
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise SystemExit(f"error: out of memory: lower {flag}; then go on with --resume") from None


# ------------------------------------------------------------------------------------------------------- a run of steps


class Course:
    """The course of a run: how many steps are done, and what is kept and measured on the way. As a context it saves
    what is done when it is left, be it done, stopped or given up."""

    def __init__(self, trainer: Trainer, run: Run, held_out: list[data.Problem], done: int):
        self.trainer, self.run, self.held_out, self.done = trainer, run, held_out, done
        self.saved = done or None  # the step of the newest checkpoint
        self.failed = 0  # steps in a row without a finite gradient
        self.signs = metrics.Signs(trainer.objective.suppresses)
        self.updating = 0.0  # how long the last update took
        s = trainer.settings
        self.steps, self.keeping = s.optimiser.steps, s.keeping
        self.saves = Saves(s.keeping.save_every, s.keeping.save_minutes)
        names = self.keeping.log if parallel.rank() == 0 else ()
        self.trackers = Trackers(names, run, config.flat(s), done)
        self.bar = tqdm(total=self.steps, initial=done, desc=s.objective.algo, unit="step", disable=parallel.rank() > 0)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.bar.close()
        if kind in (None, parallel.Stopped, CodeError):  # then all processes are here, and no update is half done
            self.save()
            trusted = {config.TRUST: self.trainer.settings.loading.trust_remote_code}
            again = config.as_flags({"resume": True, "out": self.run.folder} | trusted)
            say(f"saved step {self.done}: " + (f"go on with {again}" if kind else f"{self.run.folder}/model"))
        self.trackers.close()
        given_up = kind is None and self.failed == MAX_FAILED
        if given_up or kind in (parallel.Stopped, CodeError):
            parallel.stop()  # together: 30 s after the first has left, torchrun kills the others, who may still save
        if given_up:
            raise SystemExit(f"error: no finite gradient in {MAX_FAILED} steps in a row: lower --lr, look at the data")

    def unfinished(self) -> bool:
        """Whether there is another step to do."""
        return self.done < self.steps and self.failed < MAX_FAILED

    def note(self, figures: dict, attempts: list[Attempt], batch: Batch):
        """A step was done: log it, and save and measure where that is due."""
        problems = [self.trainer.problems[q] for q in self.trainer.queries(self.done)]
        self.done += 1
        self.updating = figures["seconds_training"]
        self.run.append("metrics.jsonl", [figures])
        self.trackers.add("metrics.jsonl", figures)
        orig, ref = batch.of(ORIG), batch.of(REF)
        of_orig = [batch.rows[i] for i in orig], [batch.advantage[i] for i in orig]
        said = metrics.rollouts(*of_orig, problems, self.keeping.keep_rollouts)
        self.run.append("rollouts.jsonl", [{"step": self.done} | row for row in said])
        learnt = [batch.advantage[i] for i in ref], [batch.weights[i] for i in ref]
        shown = metrics.trajectories(attempts, *learnt, self.trainer.tokenizer, self.keeping.keep_trajectories)
        self.run.append("trajectories.jsonl", [{"step": self.done} | row for row in shown])
        self.bar.set_postfix_str(metrics.headline(figures))
        self.bar.update()
        self.failed = self.failed + 1 if figures["skipped"] else 0
        notices = ["the gradient is not finite, so the policy was left as it was"] if self.failed else []
        for notice in notices + self.signs.after(figures) if parallel.rank() == 0 else ():
            self.bar.write(f"step {self.done}: {notice}")
        if self.done == self.steps or self.saves.due(self.done):
            self.save()
        self.measure_if_due()

    def save(self):
        """Write a checkpoint, unless the step has one."""
        trainer = self.trainer
        if self.saved != self.done:
            with self.saves.saving(self.updating):
                kept = trainer.model, trainer.tokenizer, trainer.optimizer, self.keeping.keep_saves
                self.run.save(self.done, *kept)
            self.saved = self.done
        if trainer.settings.optimiser.lora and self.done == self.steps:
            self.run.export(trainer.model, trainer.tokenizer)

    def measure_if_due(self):
        """Measure at the start, at the end, and where --eval-every says so."""
        if self.done in (0, self.steps) or (self.keeping.eval_every and self.done % self.keeping.eval_every == 0):
            self.measure()

    def measure(self):
        """Measure the policy on the held-out problems, unless it was measured at this step."""
        known = parallel.gather(self.run.measured(self.done))[0]
        if self.held_out and not known:
            figures = {"step": self.done} | self.trainer.evaluate(self.held_out)
            self.run.append("evaluations.jsonl", [figures])
            self.trackers.add("evaluations.jsonl", figures)


def set_up(given: dict) -> tuple[Trainer, Run, list[data.Problem], int]:
    """Load everything and check it together: the trainer, the run, held-out problems, and how many steps are done. What
    goes wrong here is about what the user gave."""
    if "config" in given:
        given = with_file(given)
    run = Run(given.get("out"), given.get("resume", False))
    if run.settings:
        config.typed(config.Training, run.settings, run.folder / "config.json")
    given = config.take_over(config.Training, given, run.settings, run.folder)
    nothing_forgotten(given)
    name, set_name = given.get("model", "toy"), given.get("data", "toy")
    problems = problems_of(set_name, reward=given.get("reward"))
    measured = given.get("eval_data") or ("toy" if set_name == "toy" else None)
    held_out = problems_of(measured, True, given.get("reward")) if measured else []
    policy.trust(given.get(config.TRUST, False))
    given = prompted_as_made(given, toy.folder(name))
    tokenizer = toy.tokenizer() if name == "toy" else policy.load_tokenizer(name)
    settings = config.settle(config.Training, given, toy.SETTINGS if toy.speaks(tokenizer) else None)
    check(settings)
    if toy.speaks(tokenizer):
        toy.few_threads()
    else:
        plan(settings, policy.load_config(name), tokenizer, problems)
    if name == "toy":
        parallel.first(lambda: make_toy_coldstart(settings, problems))
    by_shards, source = parallel.grouped(), toy.folder(name)
    model, tokenizer = policy.load(source, weights=not by_shards)
    if name == "toy" and getattr(model.config, "toy_recipe", "") != toy.recipe():
        raise ValueError(
            f"{toy.COLD_START} was made by another version of the toy: remove the folder, and it is made anew"
        )
    trainer = Trainer(settings, model, tokenizer, problems, parallel.device(), source if by_shards else None)
    held_out, prompts = trainer.actor.fitting(held_out, measured)
    trainer.actor.sampler.check(prompts, 1, settings.sampling.max_new_tokens)
    return trainer, run, held_out, begin(trainer, run, held_out)


def with_file(given: dict) -> dict:
    """What was given, and for the rest what the file of --config says. If another algorithm than the file's is given,
    the file's ablations are left out that it does not have."""
    if given.get("resume"):
        raise ValueError("--resume goes on with the settings that the run was begun with: leave --config out")
    filed = config.of_file(config.Training, given["config"])
    algo = given.get("algo", filed.get("algo"))
    if algo != filed.get("algo"):
        filed = {n: value for n, value in filed.items() if n not in TAPO.ablations or n in OBJECTIVES[algo].ablations}
    return filed | given


def nothing_forgotten(given: dict):
    """Raises ValueError where the toy would stand in for what was forgotten: a model of the user's own would learn the
    toy's equations, or the toy's model English. Who means that says so."""
    own = [name for name in ("model", "data", "eval_data") if given.get(name) not in (None, "toy")]
    for name, what in (("model", "the model to train"), ("data", "the problems to train on")):
        if own and name not in given:
            said = f"{config.flag_of(own[0])} {given[own[0]]} needs --{name}, {what}"
            raise ValueError(f"{said} (--{name} toy, if the toy's is meant)")


def check(settings: config.Training):
    """Raises ValueError with a sentence about settings that contradict each other."""
    k, s, kind = settings.sampling.k, settings.selection, OBJECTIVES.get(settings.objective.algo)
    if not kind:
        raise ValueError(f"--algo {settings.objective.algo}: there are {', '.join(OBJECTIVES)}")
    if k < 2:
        raise ValueError("--k 1: a group needs at least 2 responses, because a single one is its own baseline")
    if settings.optimiser.queries * k > MOST_RESPONSES:
        raise ValueError(f"--queries times --k is more than {MOST_RESPONSES} responses a step: lower one of them")
    if settings.optimiser.lora and settings.sampling.engine:
        raise ValueError("--lora needs the sampler of sampler.py, which runs with the adapters: leave --engine out")
    for name in TAPO.ablations:
        if config.flat(settings)[name] and name not in kind.ablations:
            raise ValueError(f"{config.flag_of(name)} takes a part of TAPO away: use it with --algo tapo")
    if kind.constructs and not s.no_dcs and k < s.n_pos + s.n_neg:
        raise ValueError(
            f"--k {k} is less than --n-pos {s.n_pos} plus --n-neg {s.n_neg}, so no query could ever be reflected on: "
            "raise --k or lower the others"
        )


def plan(settings: config.Training, described, tokenizer, problems: list[data.Problem]):
    """Say what memory a model of the config `described` will take. Raises ValueError when it is more than a GPU has;
    without a GPU, where what is available changes, that is said only."""
    longest = max((problem.question for problem in problems), key=len)
    prompt = len(tokenizer(settings.prompting.system or "").input_ids) + len(tokenizer(longest).input_ids)
    gpu, memory = parallel.memory()
    try:
        planned = Plan(described, settings, parallel.local()[1], memory, prompt, gpu)
    except Exception as error:  # of any kind: whatever a model's code does on the meta device
        return say(f"memory: not known, because {type(described).__name__} cannot be counted: {type(error).__name__}")
    for line in planned.lines():
        say(line)
    if not planned.fits:
        told = f"{planned.needed / GIB:.1f} GiB of memory are needed, and {planned.usable / GIB:.1f} are there"
        if gpu:
            raise ValueError(f"{told}{planned.advice()} (python -m tools.plan tells more)")
        say(f"warning: {told}{planned.advice()}")


def make_toy_coldstart(settings: config.Training, problems: list[data.Problem]):
    """Make the toy's cold start, if it is not there, once the settings are known to be good."""
    how = {"prompting": settings.prompting, "constructs": OBJECTIVES[settings.objective.algo].constructs}
    Actor(toy.model(), toy.tokenizer(), problems, settings.sampling, seed=0, **how)
    load_reward(settings.task.reward)
    if not (folder := Path(toy.COLD_START)).exists():
        lock(folder.with_suffix(".lock"))
        from coldstart import toy_coldstart  # a program, too: only the toy's first run needs it

        print(f"making the toy's cold start, once, in {toy.COLD_START}", flush=True)
        toy_coldstart(folder)
        unlock(folder.with_suffix(".lock"))


def begin(trainer: Trainer, run: Run, held_out: list[data.Problem]) -> int:
    """Open the run's folder, or go on in it; returns how many steps are done."""
    task, steps = trainer.settings.task, trainer.settings.optimiser.steps
    kept = config.flat(trainer.settings)
    digests = {"problems": data.digest(trainer.problems), "held_out": data.digest(held_out)}
    code = {"reward_digest": task.reward, "engine_digest": trainer.settings.sampling.engine}
    digests |= {name: code_digest(place) for name, place in code.items()}
    if not task.resume:
        set_name = "toy" if task.data == "toy" else Path(task.data).stem
        run.start(f"{trainer.settings.objective.algo}-{set_name}-seed{task.seed}", kept, **digests)
        return 0
    for name, file in (("problems", task.data), ("held_out", task.eval_data)):
        if run.known.get(name, digests[name]) != digests[name]:
            raise ValueError(f"the problems of {file} are not those that {run.folder} was begun with")
    if not run.newest and any(os.path.lexists(run.folder / name) for name in ("model", "adapter")):
        raise ValueError(f"{run.folder} has lost its checkpoints: put them back, or begin anew in another --out")
    done = restore(run.newest, trainer.model, trainer.optimizer) if run.newest else 0
    trainer.refresh()
    complete = not trainer.settings.optimiser.lora or not run.newest or run.exported
    if done > steps or (done == steps and complete and (not held_out or run.measured(steps))):
        raise ValueError(f"{run.folder} has its {done} steps already: raise --steps to go on")
    if not run.newest:
        again = len(run.rows("metrics.jsonl"))
        say(f"{run.folder} has no checkpoint: it begins anew at step 0, and replaces what it logged ({again} steps)")
    for name, place in code.items():
        if run.known.get(name, digests[name]) != digests[name]:
            say(f"warning: {place} was changed since the run had it: from step {done + 1} on it counts as it is now")
    run.cut(done)
    run.go_on(kept, **digests)
    return done


def main():
    """The program; see the module's docstring and --help."""
    text = "Train a language model with TAPO, or its baselines, on problems with verifiable answers."
    given = config.read(config.Training, text, toy.SETTINGS, algo=OBJECTIVES)
    parallel.start()
    with config.bad_input():
        trainer, run, held_out, done = set_up(given)
    task, steps = trainer.settings.task, trainer.settings.optimiser.steps
    if trainer.settings.optimiser.queries > len(trainer.problems):
        say(f"{len(trainer.problems)} problems are fewer than --queries: a step samples some of them more than once")
    scale = f"{len(trainer.problems)} problems, {done} of {steps} steps done, {parallel.size()} processes"
    say(f"{trainer.settings.objective.algo} on {task.data}: {scale}, into {run.folder}")
    # A full disk, a failing reward, broken weights are told in a sentence; a stop waits for the end of an update.
    with config.bad_input(OSError, CodeError, NotFinite), config.uninterrupted():
        with Course(trainer, run, held_out, done) as course:
            course.measure_if_due()
            while course.unfinished():
                course.note(*trainer.step(course.done))
        if held_out and parallel.rank() == 0:
            rows = {row["step"]: row for row in run.rows("evaluations.jsonl")}
            told = (
                metrics.closing(rows[0], rows[steps]) if 0 in rows else "what it measured before is not there any more"
            )
            print(told, flush=True)
    say(metrics.next_steps(run.folder, config.flat(trainer.settings)))
    unlock(run.folder / ".lock")
    parallel.stop()


if __name__ == "__main__":
    config.run(main)
