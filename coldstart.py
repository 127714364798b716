"""Cold start: supervised fine-tuning on solutions and on the synthesis task, before any reinforcement learning.

Without it the policy cannot construct, and TAPO falls below GRPO (paper, section 3.2). The model makes its examples:

    SFT   sample K responses a problem, judge them: the right ones
    IFT   of a problem with right and wrong ones, let the model rewrite wrong ones as it will in training (reflect.py):
          the outputs that parse, keep y-'s own words up to the error, turn, and end right

and is fine-tuned on a mixture of them, 2 : 1 as in the paper (30k and 15k), with the loss on responses. A share of
--turning of the SFT examples are right constructions, y_ref, to the plain prompt: a model that never turned there gives
the turn the least OTS weight in TAPO, and hardly learns it.

    python coldstart.py --model PATH --data FILE.jsonl --out DIR           # DIR/model is for train.py --model
    python coldstart.py ... --shots                            # for a model that constructs badly, and knows examples
    python coldstart.py ... --demonstrations WRITTEN.jsonl     # for one that cannot construct at all
    python coldstart.py                                        # the toy's, into runs/toy-coldstart

    torchrun --standalone --nproc-per-node 8 coldstart.py --model PATH --data FILE.jsonl --out DIR      # on eight GPUs

The same command goes on with what was interrupted (the toy's begins anew), with whatever number of processes. Each
makes a chunk of examples by itself, and they share the weights and micro-batches of the fine-tuning as in train.py: so
their number changes no example, and in weights rounding only. DIR holds sft.jsonl, ift.jsonl and turns.jsonl (y_ref of
each IFT example), an example a line, whose `ids` are the very ids that were sampled, or spliced; counts.json, what
became of every response and every output; and, while it is fine-tuned, checkpoints/. At the end a sentence says whether
the model turns by itself. The toy's examples are generated instead (toy.py), and its model starts from random weights.

Demonstrations are examples that somebody wrote, a JSON object a line (DEMONSTRATED): solutions, and constructions. The
model learns them in round 0, then makes examples of its own: if a share of --skill of its constructions is valid, it is
DIR/model. Else it learns those examples beside the demonstrations in round 1, and so on up to --rounds. DIR/round-N
holds what the model of round N - 1 made, and the model that learnt from it. Turns of written constructions come beside
all written solutions, not in place of some: so many that they, too, are a share of --turning of both.

Ours, not the paper's: --turning; every distinct right response is an SFT example, and at most m_max outputs a problem
are tried; demonstrations and rounds. With --shots the model sees the task done in front of it (WORKED); what it learns
is the task without that.
"""

import config

if __name__ == "__main__":
    config.importing()

import json
import math
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

import checkpoint
import data
import parallel
import policy
import reflect
import rollouts
import toy
from config import ColdStart, FineTuning, Prompting, Sampling
from parallel import say
from rollouts import Actor, Reward, decode, load_reward, problems_of, prompted_as_made, prompting_of
from toy import Example

CHUNK = 64  # problems between two saves
# The data would never come together: so many outputs tried, or responses sampled, and no more good outputs, or pairs to
# make an output of.
TRIED, SAMPLED, FEW = 512, 4096, 5
LEAST = 64  # IFT examples to learn the synthesis task from
KINDS = ("sft", "ift", "turns")  # of examples: solutions, outputs of the synthesis task, y_ref of each of those

# What is counted. A response is `sft`, `repeated` (the same text again), `wrong` or `cut`. One of the `tried` outputs
# is `ift`, or has a reason why not.
COUNTED = "problems responses sft repeated wrong cut tried ift".split()
COUNTED += [f"output_{outcome}" for outcome in reflect.OUTCOMES if outcome != "kept"] + ["output_ends_wrong"]

WORKED = (  # question, wrong attempt, right attempt, output
    (
        "A crate holds 12 bottles. How many bottles are in 5 crates if 4 of them are broken and taken out?",
        "There are 12 * 5 = 50 bottles. Without the broken ones 50 - 4 = 46 are left. \\boxed{46}",
        "In 5 crates there are 5 * 12 = 60 bottles. 4 are taken out, so 60 - 4 = 56 stay. \\boxed{56}",
        "<analysis>\nThe product 12 * 5 is 60, not 50. All that follows uses the 50.\n</analysis>\n<reconstruction>\n"
        "There are 12 * 5 = 50 bottles. Wait, 12 * 5 is more than that: 10 * 5 = 50 and 2 * 5 = 10, so there are 60. "
        "Without the broken ones 60 - 4 = 56 are left. \\boxed{56}\n</reconstruction>",
    ),
    (
        "What is x if 3x + 6 = 21?",
        "Subtract 6 from both sides:\n3x = 15.\nThen x = 15 - 3 = 12.\n\\boxed{12}",
        "3x = 21 - 6 = 15, so x = 15 / 3 = 5. \\boxed{5}",
        "<analysis>\nThe factor 3 was subtracted, where it has to be divided by.\n</analysis>\n<reconstruction>\n"
        "Subtract 6 from both sides:\n3x = 15.\nThen x = 15 - 3 = 12.\nWait, 3x means 3 times x, so I have to divide "
        "by 3, not to subtract it. x = 15 / 3 = 5, and 3 * 5 + 6 = 21 is right.\n\\boxed{5}\n</reconstruction>",
    ),
)


# ------------------------------------------------------------------------------------------------------ making examples


class Maker:
    """Makes SFT and IFT examples with a model, a chunk of problems at a time. What it makes of a chunk depends on the
    settings and the chunk alone."""

    def __init__(self, actor: Actor, m_max: int):
        self.actor, self.m_max = actor, m_max

    def attempts(self, problems: list[int], seed: int):
        """Responses to some problems, given by their numbers, [Q][K]; and what became of rewriting wrong ones."""
        return self.actor.attempts(problems, self.m_max, seed)

    def make(self, first: int) -> tuple[dict[str, list[dict]], Counter]:
        """The rows of each kind of example (KINDS) of problems first .. first + CHUNK - 1, and what became of
        everything else. The worked examples of --shots help to make an output, but are no part of what is learnt from
        it."""
        actor = self.actor
        problems = list(range(first, min(first + CHUNK, len(actor.problems))))
        groups, attempts = self.attempts(problems, first)
        sft, ift, turns, counts = [], [], [], Counter(tried=len(attempts))
        for number, group in zip(problems, groups):
            prompt = actor.templates.plain.format(question=actor.problems[number].question)
            right = {r.text: r for r in group if r.correct}
            sft += [example(number, prompt, text, response.ids) for text, response in right.items()]
            counts += Counter(
                problems=1, responses=len(group), sft=len(right),
                repeated=sum(r.correct for r in group) - len(right), cut=sum(not r.finished for r in group),
                wrong=sum(r.finished and not r.correct for r in group),
            )  # fmt: skip
        for attempt in attempts:
            if not attempt.trajectory:
                counts[f"output_{attempt.construction.outcome}"] += 1
            elif not attempt.trajectory.correct:
                counts["output_ends_wrong"] += 1
            else:
                counts["ift"] += 1
                number, output, y_ref = problems[attempt.wrong.query], attempt.output, attempt.trajectory
                ift.append(example(number, attempt.task, output.text, output.ids))
                prompt = actor.templates.plain.format(question=attempt.problem.question)
                turns.append(example(number, prompt, y_ref.text, y_ref.ids) | {"kept": attempt.construction.kept})
        return dict(zip(KINDS, (sft, ift, turns))), counts


def valid(counts: dict) -> int:
    """How many constructions are valid, whether they end right or not."""
    return counts["ift"] + counts["output_ends_wrong"]


def skill(counts: dict) -> float:
    """Their share of those that were tried."""
    return valid(counts) / max(1, counts["tried"])


def lost(counts: dict) -> dict[str, int]:
    """How many were lost to what (reflect.OUTCOMES), the most first."""
    found = {name: counts[f"output_{name}"] for name in reflect.OUTCOMES if counts.get(f"output_{name}")}
    return dict(sorted(found.items(), key=lambda one: -one[1]))


def example(problem: int, prompt: str, response: str, ids: list[int]) -> dict:
    """An example as its file holds it: `prompt` is the user's turn, `ids` are the response's. One of turns.jsonl has
    `kept`, too: how many of them are y-'s."""
    return {"problem": problem, "prompt": prompt, "response": response, "ids": ids}


def worked_examples() -> str:
    """The synthesis task done, as a text to put in front of it."""
    done = [
        reflect.SYNTHESIS.format(question=question, wrong=wrong, right=right) + "\n\n" + output
        for question, wrong, right, output in WORKED
    ]
    return "\n\n---\n\n".join([*done, ""])


def hopeless(counts: Counter) -> bool:
    """Whether what was made so far shows that nothing will come of it."""
    no_pairs = counts["responses"] >= SAMPLED and counts["tried"] <= FEW
    return no_pairs or (counts["tried"] >= TRIED and counts["ift"] <= FEW)


def make_data(maker: Maker, folder: Path) -> Counter:
    """Make what is not yet there of the examples in `folder`; returns the counts of all of it.

    progress.jsonl gets a line, the counts of a chunk, when the chunk's rows are on disk: what stands beyond them after
    an interruption is dropped and made again."""

    def kept() -> Counter:
        done = checkpoint.read(folder / "progress.jsonl")
        counts = sum(map(Counter, done), Counter())
        for name, length in zip((*KINDS, "progress"), (counts["sft"], counts["ift"], counts["ift"], len(done))):
            cut(folder / f"{name}.jsonl", length)
        return counts

    def keep(made: dict[str, list[dict]], found: Counter):
        with config.uninterrupted():
            for name, rows in (made | {"progress": [found]}).items():
                checkpoint.append(folder / f"{name}.jsonl", rows)

    counts, total = parallel.first(kept), len(maker.actor.problems)
    done, quiet = counts["problems"], not parallel.heard()
    chunks = () if hopeless(counts) else range(done, total, CHUNK)
    with tqdm(total=total, initial=done, desc="making examples", unit="problem", disable=quiet) as bar:
        for made, found in parallel.by_turns(maker.make, chunks):
            parallel.first(partial(keep, made, found))
            counts += found
            bar.update(found["problems"])
            bar.set_postfix(sft=counts["sft"], ift=f"{counts['ift']} of {counts['tried']}")
            if hopeless(counts):
                break
    if counts["problems"] < total:
        say(f"gave up after {counts['problems']} of {total} problems")
    return counts


def cut(file: Path, length: int):
    """Leave the first `length` rows of a file. Raises ValueError when it has lost some of them."""
    rows = checkpoint.read(file)
    if len(rows) < length:
        raise ValueError(f"{file} has lost rows since it was written: begin anew in another folder")
    checkpoint.rewrite(file, rows[:length])


def enough(counts: dict, shots: bool, mixture: float, out: str):
    """Raises ValueError, with what to do, when there are too few IFT examples to learn from."""
    right, again = counts["sft"] + counts["repeated"], "begin again in another --out with"
    if counts["tried"] < LEAST:
        raise ValueError(
            f"only {counts['tried']} pairs of a wrong and a right response came of {counts['responses']} responses, of "
            f"which {right} are right, and {LEAST} are needed: {again} more problems, of a difficulty that the model "
            "neither masters nor always fails, or with a larger --k"
        )
    if counts["ift"] < LEAST:
        shots = "" if shots else "worked examples in the prompt (--shots), "
        raise ValueError(
            f"only {counts['ift']} of {counts['tried']} rewritten responses can be learnt from, and {LEAST} are needed "
            f"(reasons in {out}/counts.json): {again} {shots}more problems, a larger --k, or a stronger model"
        )
    if counts["sft"] / mixture < LEAST:
        raise ValueError(
            f"only {counts['sft']} right responses, which --mixture {mixture} lets {LEAST} rewritten ones go with "
            f"when there are {math.ceil(LEAST * mixture)}: lower --mixture, or {again} more problems"
        )


# ------------------------------------------------------------------------------------------------------- demonstrations

# What a demonstration holds beside `problem` and `answer`: a solution, or a construction.
DEMONSTRATED = (("solution",), ("wrong", "right", "analysis", "reconstruction"))
RIGHT = ("solution", "right", "reconstruction")  # of these, what ends right


def demonstrations(file: str, tokenizer, how: Prompting, reward: Reward) -> tuple[list[dict], list[dict]]:
    """The examples of a file of demonstrations, and y_ref of each of its constructions. Raises ValueError naming the
    line of one that does not show what it should: a right solution; or y-, which is wrong, y+, which is right, and a
    valid construction that ends right."""
    templates, _ = prompting_of(tokenizer, how)
    end, rows, turns = policy.end_of_response(tokenizer), [], []

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False).input_ids

    for number, row in enumerate(checkpoint.read(Path(file), {"problem": str, "answer": str}), 1):
        problem = data.Problem(row["problem"], row["answer"])
        given = next((names for names in DEMONSTRATED if all(isinstance(row.get(name), str) for name in names)), None)
        if given is None:
            raise ValueError(f"{file}, line {number}: neither solution nor {', '.join(DEMONSTRATED[1])}, as texts")
        texts = {name: row[name].strip() for name in given}
        plain = templates.plain.format(question=problem.question)
        reasons = [name for name, text in texts.items() if name in RIGHT and reward(text, problem) <= 0]
        reasons = [f"its {name} is not right" for name in reasons]
        if "solution" in texts:
            prompt, said = plain, texts["solution"]
        else:
            prompt = templates.synthesis.format(question=problem.question, **{k: texts[k] for k in ("wrong", "right")})
            said = reflect.OUTPUT.format(**texts)
            made = reflect.construct(
                ids(texts["wrong"]), said, decode=lambda ids: decode(tokenizer, ids), encode=ids, eos_id=end,
                max_tokens=sys.maxsize,
            )  # fmt: skip
            reasons += [] if made.outcome == "kept" else [reflect.OUTCOMES[made.outcome]]
            reasons += ["its wrong attempt is right"] if reward(texts["wrong"], problem) > 0 else []
            turns.append(example(number - 1, plain, made.prefix + made.turn, made.ids))
        if reasons:
            raise ValueError(f"{file}, line {number}: {'; '.join(reasons)}")
        rows.append(example(number - 1, prompt, said, [*ids(said), end]))
    if not rows:
        raise ValueError(f"{file} holds no demonstrations, or is not there")
    return rows, turns


# ---------------------------------------------------------------------------------------------------------- fine-tuning


def finetune(
    model,
    batches: Iterable[list[Example]],
    steps: int,
    lr: float,
    warmup: int,
    micro_batch_tokens: int = 4096,
    *,
    optimizer=None,
    gradient_checkpointing: bool = False,
    tokenizer=None,
    folder: Path | None = None,
    save_every: int = 100,
    save_minutes: float = 30.0,
    source: str | None = None,
):
    """Fine-tune `model` in place: mean negative log-likelihood of each batch's learnt tokens, cosine decay, and AdamW
    unless there is another `optimizer`. From now on its weights are shards where there is a process group. Raises
    ValueError when gradients are not finite.

    With a `folder`, a checkpoint is kept there every `save_every` steps, after `save_minutes` and at a stop, and
    training goes on from the newest one; `batches` and the other arguments must then be the same. `source`: the folder
    or hub id of the weights, where `model` is without (policy.outline)."""
    network = policy.sharded(policy.Policy(model), gradient_checkpointing)
    optimizer = optimizer or torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    newest = checkpoint.newest(folder) if folder else None
    if source and not newest:
        policy.fill(model, source)
        policy.check(network, source)
    first = checkpoint.restore(newest, model, optimizer) if newest else 0
    saves, failed = checkpoint.Saves(save_every, save_minutes), 0  # steps in a row without a finite gradient
    model.train()
    bar = tqdm(total=steps, initial=first, desc="cold start", unit="step", disable=not parallel.heard())
    with bar, config.uninterrupted():
        for step, batch in zip(range(steps), batches):
            if step < first:
                continue
            for group in optimizer.param_groups:
                group["lr"] = lr * (min(1, (step + 1) / warmup) * (1 + math.cos(math.pi * step / steps)) / 2)
            told: list[float] = []
            begun = time.monotonic()
            norm = policy.descend(model, optimizer, losses(network, batch, micro_batch_tokens, told), 1.0)
            failed = 0 if math.isfinite(norm) else failed + 1
            if failed == policy.MAX_FAILED:
                raise ValueError(f"no finite gradient in {failed} steps in a row: lower --lr, or look at the examples")
            parts = parallel.gather((sum(told), config.stopping()))
            bar.update()
            bar.set_postfix(loss=f"{sum(loss for loss, _ in parts):.3f}")
            stop = any(stopping for _, stopping in parts)
            if folder and (stop or saves.due(step + 1)):
                with saves.saving(time.monotonic() - begun):
                    checkpoint.save(folder, step + 1, model, tokenizer, optimizer, keep=1)
            if stop:
                raise parallel.Stopped
    model.eval()


def losses(network: policy.Policy, batch: list[Example], micro_batch_tokens: int, told: list[float]) -> Iterator:
    """What each of this process's micro-batches adds to the loss of a batch; `told` gets its values."""
    total = sum(len(learnt) for _, learnt in batch)
    sizes = [len(given) + len(learnt) for given, learnt in batch]
    made = [[batch[i] for i in rows] for rows in policy.micro_batches(sizes, micro_batch_tokens)]
    idle = [([0], [0])]
    for rows, _ in parallel.side_by_side(made, idle):
        logprobs_N, _ = network(*map(list, zip(*rows)))
        loss = -logprobs_N.sum() / total
        if rows is idle:
            loss = 0 * loss
        told.append(loss.item())
        yield loss


def mixture(sft: list, ift: list, turns: list, ratio: float, turning: float, seed: int) -> list:
    """`ratio` SFT examples to an IFT example, drawn at random, as many of both as there are; of the SFT examples a
    share of `turning` are turns, or as many as there are."""
    rng = random.Random(seed)
    count = min(len(ift), int(len(sft) / ratio))
    plain = min(len(sft), round(ratio * count))
    drawn = some(turns, turning * plain, seed)
    return rng.sample(sft, plain - len(drawn)) + rng.sample(ift, count) + drawn


def with_turns(shown: list, solutions: int, turns: list, turning: float, seed: int) -> list:
    """Demonstrations, of which some are `solutions`, and beside them so many turns that they are a share of `turning`
    of both."""
    return shown + some(turns, turning / (1 - turning) * solutions, seed)


def some(turns: list, wanted: float, seed: int) -> list:
    """So many turns, drawn at random; all of them, and a sentence that says so, where there are fewer."""
    if round(wanted) > len(turns):
        say(f"--turning asks for {round(wanted)} turns, and there are {len(turns)}: all of them are learnt")
    return random.Random(f"{seed} turns").sample(turns, min(round(wanted), len(turns)))


def batches_of(rows: list, size: int, seed: int) -> Iterator[list]:
    """Batches without end: every epoch goes through all rows, in an order of its own."""
    epoch = 0
    while True:
        order = random.Random(f"{seed} epoch {epoch}").sample(rows, len(rows))
        yield from (order[i : i + size] for i in range(0, len(order), size))
        epoch += 1


# ------------------------------------------------------------------------------------------------- the toy's cold start


def toy_coldstart(folder: str | Path, seed: int = 0, plain: bool = False, recipe: toy.Recipe = toy.RECIPE):
    """Train the toy's model from scratch and save it, with its tokeniser, as a model folder. A `plain` one has not
    seen the synthesis task: what a model without a cold start is elsewhere, able to answer and not to construct."""
    torch.manual_seed(seed)
    model, tokenizer = toy.model(), toy.tokenizer()
    model.config.toy_recipe = toy.recipe()
    batches, optimizer = toy.batches(tokenizer, seed, plain, recipe), toy.optimizer(model)
    finetune(model, batches, toy.STEPS, toy.LEARNING_RATE, toy.WARMUP, toy.MICRO_BATCH, optimizer=optimizer)
    print(f"{100 * toy_skill(model, tokenizer):.0f} % of its constructions are valid", flush=True)
    policy.save(model, tokenizer, folder)
    actor = toy_maker(model, tokenizer, m_max=4).actor
    print(rollouts.turning(actor, rollouts.constructions(actor, range(len(actor.problems)))), flush=True)


def toy_maker(model, tokenizer, m_max: int) -> Maker:
    """What lets a model of the toy construct from its own responses to the problems to train on."""
    sampling = config.settle(Sampling, {}, toy.SETTINGS)
    return Maker(Actor(model, tokenizer, toy.problems()[0], sampling, seed=0), m_max)


def toy_skill(model, tokenizer) -> float:
    """The share of valid constructions among those that the model tries on some of the toy's problems."""
    _, counts = toy_maker(model, tokenizer, m_max=4).make(0)
    return skill(counts)


# ---------------------------------------------------------------------------------------------------------- the program


def begin(settings: ColdStart, folder: Path, **of):
    """Keep in `folder`/data.json what examples are made with and `of`, or find that they were begun with the same.
    From now on nobody else writes in --out."""
    names = "seed k m_max temperature max_new_tokens max_synthesis_tokens shots reward engine".split()
    names += [one.name for one in fields(Prompting) if one.default is None]
    flat = config.flat(settings)
    of |= {f"{name}_digest": checkpoint.code_digest(flat[name]) for name in ("reward", "engine")}

    def keep():
        checkpoint.lock(Path(settings.making.out) / ".lock")
        checkpoint.begin(folder / "data.json", {name: flat[name] for name in names} | of)

    parallel.first(keep)


def opened(settings: ColdStart, path: str | Path, problems: list[data.Problem], worked: str = "") -> Actor:
    """The model at `path`, to make examples with."""
    s, (model, tokenizer) = settings.making, policy.load_to_sample(str(path))
    if toy.speaks(tokenizer) and worked:
        raise ValueError("--shots are worked examples in English, which the toy does not speak")
    how = {"prompting": settings.prompting, "reward": load_reward(s.reward), "worked": worked, "name": s.data}
    return Actor(model, tokenizer, problems, settings.sampling, seed=s.seed, **how)


def make(settings: ColdStart, path: str | Path, problems: list[data.Problem], folder: Path) -> Counter:
    """Make examples in `folder` with the model at `path`, or what is not there of them; returns their counts."""
    s = settings.making
    actor = opened(settings, path, problems, worked_examples() if s.shots else "")
    begin(settings, folder, weights=policy.fingerprint(actor.model), problems=data.digest(actor.problems))
    counts = make_data(Maker(actor, s.m_max), folder)
    told = json.dumps({name: counts[name] for name in COUNTED}, indent=2)
    parallel.first(lambda: checkpoint.write(folder / "counts.json", told + "\n"))
    say(f"{told}\n{funnel(counts)}\nwrote {folder}/{', '.join(f'{name}.jsonl' for name in KINDS)} and counts.json")
    rows = parallel.first(lambda: checkpoint.read(folder / "turns.jsonl")[: rollouts.ENOUGH])
    prompts = actor.prompt_ids([row["prompt"] for row in rows])
    turns = [(prompt, row["ids"], row["kept"]) for prompt, row in zip(prompts, rows)]
    say(f"{path}: {rollouts.turning(actor, turns)}")
    return counts


def funnel(counts: Counter) -> str:
    """What became of the constructions, in one line."""
    reasons = ", ".join(f"{count} {name}" for name, count in lost(counts).items())
    share = f"{valid(counts)} of {counts['tried']} constructions are valid ({100 * skill(counts):.0f} %)"
    return f"{share}, {counts['ift']} of them right; lost: {reasons or 'none'}"


def own_examples(settings: ColdStart, folder: Path) -> list[dict]:
    """The mixture of what was made in `folder`."""
    made, s = (checkpoint.read(folder / f"{name}.jsonl") for name in KINDS), settings.finetuning
    return mixture(*made, s.mixture, s.turning, settings.making.seed)


def learn(settings: ColdStart, path: str | Path, rows: list[dict], folder: Path):
    """Fine-tune the model at `path` on examples, into `folder`/model, from its newest checkpoint; or find it done."""
    s, seed, checkpoints = settings.finetuning, settings.making.seed, folder / "checkpoints"

    def done() -> bool:
        if (folder / "model").exists():
            shutil.rmtree(checkpoints, ignore_errors=True)
            return True
        checkpoint.begin(folder / "finetune.json", config.flat(s), free=config.free(FineTuning))
        return False

    if parallel.first(done):
        return
    by_shards = parallel.grouped()
    model, tokenizer = policy.load(str(path), weights=not by_shards)
    _, chat = prompting_of(tokenizer, settings.prompting)
    prompts = data.prompt_ids(tokenizer, [row["prompt"] for row in rows], **chat)
    learnt = [(prompt, row["ids"]) for prompt, row in zip(prompts, rows)]
    steps = s.epochs * math.ceil(len(learnt) / s.batch)
    say(f"fine-tuning on {len(learnt)} examples, {steps} steps")
    finetune(
        model, batches_of(learnt, s.batch, seed), steps, s.lr, max(1, steps // 20),
        s.micro_batch_tokens, gradient_checkpointing=s.gradient_checkpointing, tokenizer=tokenizer, folder=checkpoints,
        save_every=s.save_every, save_minutes=s.save_minutes, source=str(path) if by_shards else None,
    )  # fmt: skip
    policy.save(model, tokenizer, folder / "model")
    parallel.first(lambda: shutil.rmtree(checkpoints, ignore_errors=True))


def in_rounds(settings: ColdStart, problems: list[data.Problem], folder: Path):
    """Learn demonstrations, then own examples beside them, until enough of the constructions are valid: DIR/model.
    Raises ValueError when they are not after the last round."""
    s = settings.making
    tokenizer = policy.load_tokenizer(s.model)
    shown, turns = demonstrations(s.demonstrations, tokenizer, settings.prompting, load_reward(s.reward))
    of = {"demonstrations": data.digest(shown), "problems": data.digest(problems)}
    begin(settings, folder, **of)
    begin(settings, folder / "round-0", **of)
    shown = with_turns(shown, len(shown) - len(turns), turns, settings.finetuning.turning, s.seed)
    learn(settings, s.model, shown, folder / "round-0")
    told = []
    for number in range(s.rounds):
        model, place = folder / f"round-{number}" / "model", folder / f"round-{number + 1}"
        counts = make(settings, model, problems, place)
        told.append(f"round {number}: {funnel(counts)}")
        if counts["tried"] >= LEAST and skill(counts) >= s.skill:
            say("\n".join(told))
            parallel.first(partial(model.rename, folder / "model"))
            return
        if counts["tried"] < LEAST:
            enough(counts, s.shots, settings.finetuning.mixture, place)
        if number + 1 < s.rounds:
            learn(settings, model, own_examples(settings, place) + shown, place)
    say("\n".join(told))
    raise ValueError(
        f"after {s.rounds} rounds {100 * skill(counts):.0f} % of the constructions are valid, and --skill asks for "
        f"{100 * s.skill:.0f} %: {model} is there all the same. Begin again in another --out with more demonstrations, "
        "more --epochs or --rounds, a higher --lr, or a lower --skill"
    )


def cold_start(given: dict):
    """Examples, then fine-tuning, each from where it was."""
    if given.get("plain"):
        raise ValueError("--plain is for the toy: any other model without a cold start goes to train.py as it is")
    if not given.get("data") or not given.get("out"):
        raise ValueError("--model needs --data, the problems, and --out, the folder to write")
    policy.trust(given.get(config.TRUST, False))
    is_toy, given = toy.speaks(policy.load_tokenizer(given["model"])), prompted_as_made(given, given["model"])
    settings = config.settle(ColdStart, given, toy.SETTINGS if is_toy else None)
    s, folder = settings.making, Path(settings.making.out)

    def unfinished():
        if (folder / "model").exists():
            raise ValueError(f"{folder}/model exists: this cold start is finished; name a new folder with --out")
        if not checkpoint.empty(folder) and not (folder / "data.json").exists():
            raise ValueError(f"{folder} is not empty, and no cold start was begun there: name a new folder with --out")

    parallel.first(unfinished)
    if settings.sampling.k < 2:
        raise ValueError("--k 1: no query has a right and a wrong response then")
    problems = problems_of(s.data, reward=s.reward)
    if s.demonstrations:
        in_rounds(settings, problems, folder)
    else:
        counts = make(settings, s.model, problems, folder)
        if not s.data_only:
            enough(counts, s.shots, settings.finetuning.mixture, s.out)
            learn(settings, s.model, own_examples(settings, folder), folder)
            actor = opened(settings, folder / "model", problems)
            made = rollouts.constructions(actor, range(len(actor.problems)))
            say(f"{folder}/model: {rollouts.turning(actor, made)}")
    checkpoint.unlock(folder / ".lock")
    if (folder / "model").exists():
        model = {"model": f"{folder}/model", "data": s.data, config.TRUST: settings.loading.trust_remote_code}
        say(f"wrote {folder}/model: torchrun --standalone train.py {config.as_flags(model)}")


def the_toy_s(given: dict):
    """The toy's cold start, which has a recipe of its own."""
    if others := given.keys() - {"model", "out", "seed", "plain"}:
        flag = config.flag_of(min(others))
        raise ValueError(f"the toy's cold start has a recipe of its own: leave {flag} out, or name another --model")
    settings = config.settle(config.Making, given)
    out = settings.out or toy.COLD_START
    if settings.plain and not settings.out:
        raise ValueError("--plain needs --out: a plain model does not stand in for the toy's cold start")
    if Path(out).exists():
        raise ValueError(f"{out} exists already: remove it or name another folder with --out")
    toy.few_threads()
    toy_coldstart(out, settings.seed, settings.plain)
    print(f"wrote {out}")


def main():
    """The program; see the module's docstring and --help."""
    given = config.read(ColdStart, "Make cold-start examples with a model and fine-tune it on them.", toy.SETTINGS)
    parallel.start()
    with config.bad_input(), config.uninterrupted():
        if given.get("model", "toy") == "toy":
            parallel.first(lambda: the_toy_s(given))  # it is small: one process makes it
        else:
            cold_start(given)
        parallel.stop()


if __name__ == "__main__":
    config.run(main)
