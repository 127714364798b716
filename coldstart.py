"""Cold start: supervised fine-tuning on solutions and on the synthesis task, before any reinforcement learning.

Without it the policy cannot construct, and TAPO falls below GRPO (paper). So far this program makes the toy's, from
generated data; the model starts from random weights:

    python coldstart.py --out runs/toy-coldstart
"""

import math
import random
from collections.abc import Iterable
from pathlib import Path

import torch
from tqdm import tqdm

import cli
import data
import policy
import toy

STEPS, DRILL_SHARE = 420, 0.2
# Examples a step. In the first DRILL_SHARE of the steps, drills stand in for synthesis.
PLAIN, SYNTHESIS, DRILLS = 104, 40, 120
LEARNING_RATE, WARMUP = 3e-3, 50

Example = tuple[list[int], list[int]]  # what is given, and what is learnt (end token included)


def finetune(
    model, batches: Iterable[list[Example]], steps: int, lr: float, warmup: int, micro_batch_tokens: int = 4096
):
    """Fine-tune `model` in place: mean negative log-likelihood of each batch's learnt tokens, AdamW, cosine decay."""
    network = policy.Policy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / warmup) * (1 + math.cos(math.pi * step / steps)) / 2
    )
    model.train()
    bar = tqdm(zip(range(steps), batches), total=steps, desc="cold start", unit="step")
    for _, batch in bar:
        total = sum(len(learnt) for _, learnt in batch)
        loss = 0.0
        for rows in policy.micro_batches([len(g) + len(t) for g, t in batch], micro_batch_tokens):
            logprobs_N, _ = network([batch[i][0] for i in rows], [batch[i][1] for i in rows])
            part = -logprobs_N.sum() / total
            part.backward()
            loss += part.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        rate.step()
        bar.set_postfix(loss=f"{loss:.3f}")
    model.eval()


def toy_batches(tokenizer, seed: int) -> Iterable[list[Example]]:
    """The toy's cold-start examples, a batch a step. The synthesis task is learnt together with the y- and y+ of its
    prompt: that is where the network sees several attempts in a row."""
    rng = random.Random(seed)
    problems, _ = toy.problems()
    wrong_id = tokenizer.convert_tokens_to_ids("wrong")
    for step in range(STEPS):
        second, count = (toy.drill, DRILLS) if step < DRILL_SHARE * STEPS else (toy.synthesis, SYNTHESIS)
        made = [toy.demonstration(rng.choice(problems), rng) for _ in range(PLAIN)]
        made += [second(rng.choice(problems), rng) for _ in range(count)]
        prompts = data.prompt_ids(tokenizer, [text for text, _ in made])
        responses = tokenizer([f"{response} <eos>" for _, response in made]).input_ids
        starts = [p.index(wrong_id) + 1 if wrong_id in p else len(p) for p in prompts]
        yield [(p[:start], p[start:] + r) for p, r, start in zip(prompts, responses, starts)]


def recipe() -> str:
    """What the toy's cold start was made with; kept in its config.json, so that a stale one is noticed."""
    return f"{STEPS} {DRILL_SHARE} {PLAIN} {SYNTHESIS} {DRILLS} {LEARNING_RATE} {WARMUP} {toy.TEMPLATES} {toy.SHAPE}"


def toy_coldstart(folder: str | Path, seed: int = 0):
    """Train the toy's model from scratch and save it, with its tokeniser, as a model folder."""
    torch.manual_seed(seed)
    model, tokenizer = toy.model(), toy.tokenizer()
    model.config.toy_recipe = recipe()
    finetune(model, toy_batches(tokenizer, seed), STEPS, LEARNING_RATE, WARMUP)
    policy.save(model, tokenizer, folder)


def main():
    """The program; see the module's docstring and --help."""
    parser = cli.Parser("Make the toy's cold-started model.")
    parser.add_argument("--out", default=toy.COLD_START, help=f"the model folder to write (default {toy.COLD_START})")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and data (default 0)")
    args = parser.parse_args()
    if Path(args.out).exists():
        cli.fail(f"{args.out} exists already: remove it or name another folder with --out")
    toy_coldstart(args.out, args.seed)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    cli.run(main)
