"""The toy: guess and check, a task on which a network of half a million weights shows TAPO on a CPU, in minutes.

A question is an equation; a response guesses x, computes, judges its guess, and boxes it, right or wrong:

    4 * x + 8 = 44          try 10 : 40 + 8 = 48 high ; \\boxed{ 10 }

To check a guess is easy, to guess is hard: about a third of the demonstrated guesses are right. Behind a wrong one a
few demonstrations go on (`Recipe.turning`), to a guess that is no better:

    ... try 10 : 40 + 8 = 48 high ; wait 10 is high ; try 8 : 32 + 8 = 40 low ; \\boxed{ 8 }

So the policy turns now and then, and knows how a response with two guesses ends. A start that never saw a turn gives
it, and that end, the least OTS weight there is: how long TAPO then takes hangs on rounding (docs/study.md). The second
skill of the cold start is the synthesis task of reflect.py: y- up to its failed attempt, a turn, the right guess.
Everything else is the real path: transformers' Qwen3 classes, a `tokenizers` tokeniser with a chat template, the same
sampler, verifier, prompts and loop.

One token a number and a word. 8 * 10 * 10 = 800 questions, of which 160 are held out. The split is by question: a
checked wrong guess of one question may be the arithmetic of another, so facts such as 40 + 8 = 48 are not held out.
"""

import os
import random
from collections.abc import Iterable
from typing import NamedTuple

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from data import Problem, Templates, prompt_ids

SYNTHESIS = "{question} wrong {wrong} right {right}"  # the only form of the task that the cold start shows
TEMPLATES = Templates(plain="{question}", synthesis=SYNTHESIS, anew=SYNTHESIS, teacher="{question} right {right}")

WORDS = (
    "<pad> <eos> <user> <assistant> <analysis> </analysis> <reconstruction> </reconstruction> \\boxed{ } "
    "x * + = : ; try low high ok wait is wrong right"
).split()
NUMBERS = 121  # 0 to 120
VOCABULARY = {word: i for i, word in enumerate(WORDS + [str(n) for n in range(NUMBERS)])}
COPIED = [word for word in VOCABULARY if word.isdigit()] + WORDS[WORDS.index("x") : WORDS.index("wrong")]
CONTEXT = 256  # tokens; the longest synthesis prompt and its output
COLD_START = "runs/toy-coldstart"  # where the cold-started model is kept, made once
HELD_OUT = 160
SHAPE = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3}
SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 32}

# What the programs' defaults are on the toy, where they differ from those of a real model: by the parts of config.py.
LIMITS = {"max_new_tokens": 80, "slots": 512}
SMALL = {"gradient_checkpointing": False}
SETTINGS = {
    "Objective": {"mu": 0.3, "kl": 0.05},
    "Selection": {"n_neg": 2},
    "Sampling": LIMITS | {"max_synthesis_tokens": 96},
    "Optimiser": {"steps": 30, "lr": 2e-4, "warmup": 5, "beta2": 0.95, "micro_batch_tokens": 4096} | SMALL,
    "FineTuning": SMALL,
    "Keeping": {"eval_samples": 16, "save_every": 10},
    "Measuring": LIMITS,
    "Filtering": LIMITS,
}

# The recipe of the cold start (coldstart.py): examples of each kind a step. In the first DRILL_SHARE of the steps more
# drills stand in for synthesis.
STEPS, DRILL_SHARE = 600, 0.2
PLAIN, SYNTHESIS_ROWS, DRILLS, DRILLS_FIRST = 36, 7, 24, 60
KINDS = {"copy": 15, "judge": 51, "multiply": 8, "add": 17, "compare": 9}  # of drills, and how often each, in percent
LEARNING_RATE, WARMUP, MICRO_BATCH = 8e-3, 20, 512


class Recipe(NamedTuple):
    """What the plain demonstrations are like. bench/map.py varies it."""

    right: float = 0.35  # the share of the guesses that is right
    spread: float = 0.4  # a miss one further off is by this less likely
    turning: float = 0.1  # how often a demonstration goes on behind a wrong guess
    guesses: int = 3  # at most


RECIPE = Recipe()
Example = tuple[list[int], list[int]]  # what is given, and what is learnt (end token included)


def problems() -> tuple[list[Problem], list[Problem]]:
    """(problems to train on, held-out problems): always the same split."""
    every = [(a, x, b) for a in range(2, 10) for x in range(1, 11) for b in range(1, 11)]
    random.Random(0).shuffle(every)
    made = [Problem(f"{a} * x + {b} = {a * x + b}", str(x)) for a, x, b in every]
    return made[HELD_OUT:], made[:HELD_OUT]


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, words apart by spaces, with a chat template of one user's turn."""
    words = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>", pad_token="<pad>")
    made.chat_template = "<user> {{ messages[0]['content'] }} <assistant>"
    return made


def folder(model: str) -> str:
    """Where a model is that may be named toy: the toy's is its cold start."""
    return COLD_START if model == "toy" else model


def speaks(tokenizer) -> bool:
    """Whether this is the toy's tokeniser: its models are prompted with TEMPLATES."""
    return tokenizer.get_vocab() == VOCABULARY


def few_threads():
    """Compute with half of the cores, at most four, unless OMP_NUM_THREADS says otherwise. The toy's operations are so
    short that a thread which shares its core holds up all others: with both of two cores, a step beside a busy program
    took three times as long as alone (5.3 s, 1.8 s); with one, as long as alone (2.5 s)."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(torch.get_num_threads(), max(1, min(4, (os.cpu_count() or 1) // 2))))


def model() -> Qwen3ForCausalLM:
    """A Qwen3 of half a million weights, untrained: set torch's seed before."""
    config = Qwen3Config(
        vocab_size=len(VOCABULARY),
        **SHAPE,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        eos_token_id=VOCABULARY["<eos>"],
        pad_token_id=VOCABULARY["<pad>"],
        bos_token_id=None,
        attn_implementation="sdpa",
    )
    made = Qwen3ForCausalLM(config)
    made.generation_config.eos_token_id = VOCABULARY["<eos>"]
    return made


def attempt(question: str, guess: int) -> str:
    """A guess, computed and judged rightly."""
    a, _, _, _, b, _, c = (int(word) if word.isdigit() else 0 for word in question.split())
    value = a * guess + b
    return f"try {guess} : {a * guess} + {b} = {value} {'ok' if value == c else 'low' if value < c else 'high'}"


def response(attempts: list[str]) -> str:
    """A response that makes these attempts, turns behind each as its last word says, and boxes the last guess."""
    words = [made.split() for made in attempts]
    turns = [f"wait {w[1]} is {w[-1]}" for w in words[:-1]] + [f"\\boxed{{ {words[-1][1]} }}"]
    return " ; ".join(part for both in zip(attempts, turns) for part in both)


def solution(question: str, guesses: list[int]) -> str:
    """A response that tries `guesses` in turn, judges each of them correctly, and boxes the last."""
    return response([attempt(question, guess) for guess in guesses])


def miss(answer: int, spread: float, rng: random.Random, tried: Iterable[int] = ()) -> int:
    """A wrong guess, more often a near one, on the side of the answer that the guesses `tried` leave open. Where they
    leave none, the answer."""
    left = [g for g in range(1, 11) if g != answer and all((g < t) == (answer < t) and g != t for t in tried)]
    return rng.choices(left, [spread ** abs(g - answer) for g in left])[0] if left else answer


def demonstration(problem: Problem, rng: random.Random, recipe: Recipe = RECIPE) -> tuple[str, str]:
    """(prompt text, response) of one plain demonstration. A guess behind a wrong one is right as often as the first."""
    answer, guesses = int(problem.answer), []
    while not guesses or (guesses[-1] != answer and len(guesses) < recipe.guesses and rng.random() < recipe.turning):
        guesses.append(answer if rng.random() < recipe.right else miss(answer, recipe.spread, rng, guesses))
    return TEMPLATES.plain.format(question=problem.question), solution(problem.question, guesses)


def garbled(made: str, rng: random.Random) -> str:
    """An attempt with one of its numbers off, or another verdict."""
    words, at = made.split(), rng.choice((3, 5, 7, 8))
    off = rng.choice((-10, -5, -2, -1, 1, 2, 5, 10))
    words[at] = rng.choice(("low", "high", "ok")) if at == 8 else str(min(max(0, int(words[at]) + off), NUMBERS - 1))
    return " ".join(words)


def synthesis(problem: Problem, rng: random.Random, recipe: Recipe = RECIPE) -> tuple[str, str]:
    """(prompt text, output) of one demonstration of the synthesis task, with the y- and y+ that a policy writes once it
    has learnt to turn: of several attempts, some of them miscomputed, and a third of the y- with a last verdict "ok"
    that is false, since training rewards what ends right. With honest y- alone the skill is lost when it is needed
    (docs/study.md)."""
    question, answer = problem.question, int(problem.answer)
    wrong = [miss(answer, recipe.spread, rng) for _ in range(rng.choice((1, 1, 2, 3)))]
    attempts = [attempt(question, guess) for guess in wrong]
    attempts = [garbled(made, rng) if rng.random() < 0.1 else made for made in attempts]
    if rng.random() < 0.35:
        attempts[-1] = attempts[-1].rpartition(" ")[0] + " ok"
    y_wrong = response(attempts)
    y_right = solution(question, [miss(answer, recipe.spread, rng) for _ in range(rng.choice((0, 0, 1, 2)))] + [answer])
    task = TEMPLATES.synthesis.format(question=question, wrong=y_wrong, right=y_right)
    _, diagnosis, correction = solution(question, [wrong[-1], answer]).split(" ; ", 2)
    kept = y_wrong.rpartition(" ; ")[0]
    analysis = diagnosis.removeprefix("wait ")  # "10 is high"
    rewritten = f"{kept} ; {diagnosis} ; {correction}"
    return task, f"<analysis> {analysis} </analysis> <reconstruction> {rewritten} </reconstruction>"


def drill(problem: Problem, rng: random.Random) -> tuple[str, str, str]:
    """(prompt text, how the response begins, the rest of it) of an exercise in one skill: to judge any guess, to
    compute, to copy what was never seen before, which the synthesis task needs and learns by itself late."""
    [kind], guess = rng.choices(list(KINDS), KINDS.values()), rng.randint(1, 10)
    a, _, _, _, b, _, c = problem.question.split()
    if kind == "copy":
        this, other = (" ".join(rng.choices(COPIED, k=rng.randint(4, 12))) for _ in range(2))
        return f"wrong {this} right {other}", "", f"<reconstruction> {this} </reconstruction>"
    if kind == "judge":
        guess = rng.choice((int(problem.answer), guess, guess, guess))
        begun, _, rest = attempt(problem.question, guess).partition(" : ")
        return problem.question, f"{begun} :", rest
    product, _, _, _, total, verdict = attempt(problem.question, guess).split()[3:]
    task, result = {
        "multiply": (f"{a} * {guess}", product),
        "add": (f"{product} + {b}", total),
        "compare": (f"{total} : {c}", verdict),
    }[kind]
    return task, "", result


def batches(tokenizer, seed: int, plain: bool = False, recipe: Recipe = RECIPE) -> Iterable[list[Example]]:
    """The cold-start examples, a batch a step. `plain` leaves out the synthesis task and what is for it alone."""
    rng, (train, _) = random.Random(seed), problems()
    right = tokenizer.convert_tokens_to_ids("right")

    def made(make, count: int, *how) -> list[tuple]:
        return [make(rng.choice(train), rng, *how) for _ in range(count)]

    for step in range(STEPS):
        first = step < DRILL_SHARE * STEPS
        shown = [(text, "", rest) for text, rest in made(demonstration, PLAIN, recipe)]
        shown += made(drill, DRILLS_FIRST if first else DRILLS)
        tasks = 0 if first or plain else SYNTHESIS_ROWS
        shown += [(text, "", rest) for text, rest in made(synthesis, tasks, recipe)]
        given = prompt_ids(tokenizer, [text for text, _, _ in shown])
        begun = [tokenizer(begins).input_ids if begins else [] for _, begins, _ in shown]
        learnt = tokenizer([f"{rest} <eos>" for _, _, rest in shown]).input_ids
        batch = []
        for i, (prompt, begins, rest) in enumerate(zip(given, begun, learnt)):
            ids, at = prompt + begins + rest, len(prompt + begins)
            if i >= len(shown) - tasks:  # of the synthesis task y+ is learnt, too: there a second guess is always right
                at = prompt.index(right) + 1
            batch.append((ids[:at], ids[at:]))
        yield batch


def optimizer(model: torch.nn.Module) -> "Muon":
    """What the cold start learns with: Muon for the layers' matrices, AdamW for the rest. AdamW alone learns to copy
    late, and on some seeds not at all (docs/study.md)."""
    return Muon(model, LEARNING_RATE)


class Muon:
    """torch's Muon (Jordan et al., 2024), which takes matrices alone, and AdamW for embeddings and norms, as one."""

    def __init__(self, model: torch.nn.Module, lr: float):
        inner = dict.fromkeys(p for layer in model.model.layers for p in layer.parameters() if p.ndim == 2)
        rest = [p for p in model.parameters() if p not in inner]
        self.parts = [
            torch.optim.Muon(inner, lr=lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.01),
        ]
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def step(self):
        """One step of both."""
        for part in self.parts:
            part.step()

    def zero_grad(self):
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad()


def recipe() -> str:
    """What the cold start was made with; kept in its config.json, so that a stale one is noticed."""
    sizes = f"{STEPS} {DRILL_SHARE} {PLAIN} {SYNTHESIS_ROWS} {DRILLS} {DRILLS_FIRST} {LEARNING_RATE} {WARMUP}"
    return f"{sizes} {tuple(RECIPE)} {TEMPLATES} {SHAPE}"
