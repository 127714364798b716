"""Cold start: supervised fine-tuning on solutions and on the synthesis task, before any reinforcement learning.

Without it the policy cannot construct, and TAPO falls below GRPO (paper). The model makes its own examples
(examples.py) and is fine-tuned on a mixture of them, 2 : 1 as in the paper (30k and 15k), with the loss on responses:

    python coldstart.py --model PATH --data FILE.jsonl --out DIR           # DIR/model is for train.py --model
    python coldstart.py --model PATH --data FILE.jsonl --out DIR --shots   # for a model too weak to construct at all
    python coldstart.py                                                    # the toy's, into runs/toy-coldstart

The same command goes on with what was interrupted (the toy's begins anew). DIR holds sft.jsonl and ift.jsonl, an
example a line, whose `ids` are the very ids that were sampled; counts.json, what became of every response and every
output; and, while it is fine-tuned, checkpoints/. The toy's examples are generated instead (toy.py), and its model
starts from random weights.
"""

import argparse
import contextlib
import json
import math
import random
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from tqdm import tqdm

import checkpoint
import cli
import data
import eval as evaluation
import examples
import jsonl
import parallel
import policy
import toy

STEPS, DRILL_SHARE = 420, 0.2
# Examples a step. In the first DRILL_SHARE of the steps, drills stand in for synthesis.
PLAIN, SYNTHESIS, DRILLS = 104, 56, 120
LEARNING_RATE, WARMUP = 3e-3, 50
# The synthesis task is learnt suddenly, on some seeds late: rounds of STEPS go on until this share of constructions is
# valid.
SKILL, ROUNDS = 0.8, 4

LEAST = 64  # IFT examples to learn the synthesis task from

Example = tuple[list[int], list[int]]  # what is given, and what is learnt (end token included)


def finetune(
    model,
    batches: Iterable[list[Example]],
    steps: int,
    lr: float,
    warmup: int,
    micro_batch_tokens: int = 4096,
    *,
    tokenizer=None,
    folder: Path | None = None,
    save_every: int = 100,
):
    """Fine-tune `model` in place: mean negative log-likelihood of each batch's learnt tokens, AdamW, cosine decay.

    With a `folder`, a checkpoint is kept there every `save_every` steps and at a stop, and training goes on from the
    newest one; `batches` and the other arguments must then be the same."""
    network = policy.Policy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    newest = checkpoint.newest(folder) if folder else None
    first = checkpoint.restore(newest, model, optimizer) if newest else 0
    model.train()
    bar = tqdm(total=steps, initial=first, desc="cold start", unit="step")
    with bar, cli.uninterrupted() if folder else contextlib.nullcontext():
        for step, batch in zip(range(steps), batches):
            if step < first:
                continue
            for group in optimizer.param_groups:
                group["lr"] = lr * (min(1, (step + 1) / warmup) * (1 + math.cos(math.pi * step / steps)) / 2)
            total = sum(len(learnt) for _, learnt in batch)
            loss = 0.0
            for rows in policy.micro_batches([len(g) + len(t) for g, t in batch], micro_batch_tokens):
                with torch.autocast(model.device.type, torch.bfloat16, enabled=model.device.type == "cuda"):
                    logprobs_N, _ = network([batch[i][0] for i in rows], [batch[i][1] for i in rows])
                part = -logprobs_N.sum() / total
                part.backward()
                loss += part.item()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            bar.update()
            bar.set_postfix(loss=f"{loss:.3f}")
            stop = bool(folder) and cli.stopping()
            if stop or (folder and (step + 1) % save_every == 0):
                checkpoint.save(folder, step + 1, model, tokenizer, optimizer, keep=1)
            if stop:
                break  # and out of the block, which raises KeyboardInterrupt
    model.eval()


def mixture(sft: list, ift: list, ratio: float, seed: int) -> list:
    """`ratio` SFT examples to an IFT example, drawn at random, as many of both as there are."""
    rng = random.Random(seed)
    count = min(len(ift), int(len(sft) / ratio))
    return rng.sample(sft, min(len(sft), round(ratio * count))) + rng.sample(ift, count)


def batches_of(rows: list, size: int, seed: int) -> Iterator[list]:
    """Batches without end: every epoch goes through all rows, in an order of its own."""
    epoch = 0
    while True:
        order = random.Random(f"{seed} epoch {epoch}").sample(rows, len(rows))
        yield from (order[i : i + size] for i in range(0, len(order), size))
        epoch += 1


def toy_batches(tokenizer, seed: int | str, plain: bool = False) -> Iterable[list[Example]]:
    """The toy's cold-start examples, a batch a step. The synthesis task is learnt together with the y- and y+ of its
    prompt: that is where the network sees several attempts in a row. `plain` leaves the synthesis task out."""
    rng = random.Random(seed)  # the seed of a later round is a text
    problems, _ = toy.problems()
    wrong_id = tokenizer.convert_tokens_to_ids("wrong")
    for step in range(STEPS):
        second, count = (toy.synthesis, 0 if plain else SYNTHESIS)
        if step < DRILL_SHARE * STEPS:
            second, count = toy.drill, DRILLS
        made = [toy.demonstration(rng.choice(problems), rng) for _ in range(PLAIN)]
        made += [second(rng.choice(problems), rng) for _ in range(count)]
        prompts = data.prompt_ids(tokenizer, [text for text, _ in made])
        responses = tokenizer([f"{response} <eos>" for _, response in made]).input_ids
        starts = [p.index(wrong_id) + 1 if wrong_id in p else len(p) for p in prompts]
        yield [(p[:start], p[start:] + r) for p, r, start in zip(prompts, responses, starts)]


def recipe() -> str:
    """What the toy's cold start was made with; kept in its config.json, so that a stale one is noticed."""
    sizes = f"{STEPS} {DRILL_SHARE} {PLAIN} {SYNTHESIS} {DRILLS} {LEARNING_RATE} {WARMUP} {SKILL} {ROUNDS}"
    return f"{sizes} {toy.TEMPLATES} {toy.SHAPE}"


def toy_coldstart(folder: str | Path, seed: int = 0, plain: bool = False):
    """Train the toy's model from scratch and save it, with its tokeniser, as a model folder. A `plain` one has not
    seen the synthesis task: what a model without a cold start is elsewhere, able to answer and not to construct."""
    torch.manual_seed(seed)
    model, tokenizer = toy.model(), toy.tokenizer()
    model.config.toy_recipe = recipe()
    for number in range(ROUNDS):
        batches = toy_batches(tokenizer, f"{seed} round {number}" if number else seed, plain)
        finetune(model, batches, STEPS, LEARNING_RATE, WARMUP)
        valid = toy_skill(model, tokenizer)
        print(f"{100 * valid:.0f} % of its constructions are valid", flush=True)
        if plain or valid >= SKILL:
            break
    policy.save(model, tokenizer, folder)


def toy_maker(model, tokenizer, m_max: int) -> examples.Maker:
    """What lets a model of the toy construct from its own responses to the problems to train on."""
    args = argparse.Namespace(slots=512, k=8, m_max=m_max, seed=0, temperature=1.0, shots=False)
    args.max_new_tokens, args.max_synthesis_tokens = toy.MAX_NEW_TOKENS, 96
    return examples.Maker(args, model, tokenizer, toy.problems()[0])


def toy_skill(model, tokenizer) -> float:
    """The share of valid constructions among those that the model tries on some of the toy's problems."""
    _, _, counts = toy_maker(model, tokenizer, m_max=4).make(0)
    return (counts["ift"] + counts["output_ends_wrong"]) / max(1, counts["tried"])


def same_settings(file: Path, settings: dict):
    """Keep `settings` in `file`, or check that they are those that the work there was begun with."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        jsonl.write(file, json.dumps(settings, indent=2) + "\n")
    begun = json.loads(file.read_text(encoding="utf-8"))
    for name, value in settings.items():
        if begun.get(name) != value:
            raise ValueError(
                f"{file.parent} was begun with {name} {begun.get(name)}, not {value}: give the same flags to go on, or "
                "another folder with --out"
            )


def make(args, folder: Path):
    """Make the examples in `folder`, or what is not there of them. Raises ValueError when almost nothing came out."""
    problems = evaluation.load_problems(args.data, held_out=False)
    model, tokenizer = policy.load(args.model, parallel.device(), parallel.precision())
    is_toy = toy.speaks(tokenizer)
    if is_toy and args.shots:
        raise ValueError("--shots are worked examples in English, which the toy does not speak")
    args.max_new_tokens = args.max_new_tokens or (toy.MAX_NEW_TOKENS if is_toy else 8192)
    args.max_synthesis_tokens = args.max_synthesis_tokens or (96 if is_toy else 12288)
    maker = examples.Maker(args, model, tokenizer, problems)
    names = "seed k m_max temperature max_new_tokens max_synthesis_tokens shots".split()
    of = {"weights": evaluation.fingerprint(model), "problems": evaluation.digest(problems)}
    same_settings(folder / "data.json", {name: getattr(args, name) for name in names} | of)

    counts = examples.make_data(maker, folder)
    told = json.dumps({name: counts[name] for name in examples.COUNTED}, indent=2)
    jsonl.write(folder / "counts.json", told + "\n")
    valid = counts["ift"] + counts["output_ends_wrong"]
    print(f"{told}\n{valid} of {counts['tried']} outputs are valid constructions, {counts['ift']} of them right")
    print(f"wrote {folder}/sft.jsonl, ift.jsonl and counts.json", flush=True)
    if not args.data_only:
        enough(counts, args)


def enough(counts: dict, args):
    """Raises ValueError, with what to do, when there are too few IFT examples to learn from."""
    right, again = counts["sft"] + counts["repeated"], "begin again in another --out with"
    if counts["tried"] < LEAST:
        raise ValueError(
            f"only {counts['tried']} pairs of a wrong and a right response came of {counts['responses']} responses, of "
            f"which {right} are right, and {LEAST} are needed: {again} more problems, of a difficulty that the model "
            "neither masters nor always fails, or with a larger --k"
        )
    if counts["ift"] < LEAST:
        shots = "" if args.shots else "worked examples in the prompt (--shots), "
        raise ValueError(
            f"only {counts['ift']} of {counts['tried']} rewritten responses can be learnt from, and {LEAST} are needed "
            f"(reasons in {args.out}/counts.json): {again} {shots}more problems, a larger --k, or a stronger model"
        )
    if counts["sft"] / args.mixture < LEAST:
        raise ValueError(
            f"only {counts['sft']} right responses, which --mixture {args.mixture} lets {LEAST} rewritten ones go with "
            f"when there are {math.ceil(LEAST * args.mixture)}: lower --mixture, or {again} more problems"
        )


def learn(args, folder: Path):
    """Fine-tune the model on the examples in `folder`, from its newest checkpoint."""
    settings = {name: getattr(args, name) for name in ("mixture", "epochs", "batch", "lr")}
    same_settings(folder / "finetune.json", settings)
    model, tokenizer = policy.load(args.model, parallel.device())
    sft, ift = (jsonl.read(folder / f"{name}.jsonl") for name in ("sft", "ift"))
    rows = mixture(sft, ift, args.mixture, args.seed)
    prompts = data.prompt_ids(tokenizer, [row["prompt"] for row in rows])
    learnt = [(prompt, row["ids"]) for prompt, row in zip(prompts, rows)]
    steps = args.epochs * math.ceil(len(learnt) / args.batch)
    print(f"fine-tuning on {len(learnt)} examples, {steps} steps", flush=True)
    finetune(
        model, batches_of(learnt, args.batch, args.seed), steps, args.lr, max(1, steps // 20),
        args.micro_batch_tokens, tokenizer=tokenizer, folder=folder / "checkpoints", save_every=args.save_every,
    )  # fmt: skip
    policy.save(model, tokenizer, folder / "model")
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    print(f"wrote {folder}/model: torchrun --standalone train.py --model {folder}/model --data {args.data}")


def cold_start(args):
    """Examples, then fine-tuning, each from where it was."""
    folder = Path(args.out)
    if (folder / "model").exists():
        raise ValueError(f"{folder}/model exists: this cold start is finished; name a new folder with --out")
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / "data.json").exists())):
        raise ValueError(f"{folder} is not empty, and no cold start was begun there: name a new folder with --out")
    make(args, folder)
    if not args.data_only:
        learn(args, folder)


def main():
    """The program; see the module's docstring and --help."""
    parser = cli.Parser("Make cold-start examples with a model and fine-tune it on them.")
    parser.add_argument(
        "--model",
        default="toy",
        help="a model folder, a hub id, or toy (default toy: only with --out, --seed, --plain)",
    )
    parser.add_argument("--data", help="problems, as for train.py")
    parser.add_argument("--out", help=f"the folder to write (default for the toy {toy.COLD_START})")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default 0)")
    parser.add_argument(
        "--plain", action="store_true", help="the toy's without the synthesis task: no cold start at all"
    )
    parser.add_argument("--k", type=int, default=8, help="responses a problem (default 8)")
    parser.add_argument("--m-max", type=int, default=4, help="rewrite so many wrong ones a problem (default 4)")
    parser.add_argument("--shots", action="store_true", help="worked examples of the synthesis task in its prompt")
    parser.add_argument("--temperature", type=float, default=1.0, help="sampling temperature (default 1.0)")
    parser.add_argument("--max-new-tokens", type=int, help="limit of a response (default: toy 60, else 8192)")
    parser.add_argument("--max-synthesis-tokens", type=int, help="limit of a rewriting (default: toy 96, else 12288)")
    parser.add_argument("--slots", type=int, default=64, help="responses sampled side by side (default 64)")
    parser.add_argument("--data-only", action="store_true", help="stop when the examples are made")
    parser.add_argument("--mixture", type=float, default=2.0, help="SFT examples to an IFT example (default 2)")
    parser.add_argument("--epochs", type=int, default=2, help="times the mixture is gone through (default 2)")
    parser.add_argument("--batch", type=int, default=64, help="examples a step (default 64)")
    parser.add_argument("--lr", type=float, default=1e-5, help="AdamW's learning rate (default 1e-5)")
    parser.add_argument("--micro-batch-tokens", type=int, default=16384, help="tokens of one forward (default 16384)")
    parser.add_argument("--save-every", type=int, default=100, help="steps between checkpoints (default 100)")
    args = parser.parse_args()
    with cli.bad_input():
        parallel.alone()
    if args.model == "toy":
        out = args.out or toy.COLD_START
        for name, value in vars(args).items():
            if value != parser.get_default(name) and name not in ("out", "seed", "plain"):
                flag = "--" + name.replace("_", "-")
                cli.fail(f"the toy's cold start has a recipe of its own: leave {flag} out, or name another --model")
        if args.plain and not args.out:
            cli.fail("--plain needs --out: a plain model does not stand in for the toy's cold start")
        if Path(out).exists():
            cli.fail(f"{out} exists already: remove it or name another folder with --out")
        toy_coldstart(out, args.seed, args.plain)
        print(f"wrote {out}")
        return
    if args.plain:
        cli.fail("--plain is for the toy: any other model without a cold start goes to train.py as it is")
    if not args.data or not args.out:
        cli.fail("--model needs --data, the problems, and --out, the folder to write")
    for name, value in vars(args).items():
        if type(value) in (int, float) and not value > 0 and name != "seed":
            cli.fail(f"--{name.replace('_', '-')} must be above 0, not {value}")
    with cli.bad_input():
        cold_start(args)


if __name__ == "__main__":
    cli.run(main)
