"""The toy: guess and check, a task on which a network of half a million weights shows TAPO on a CPU, in minutes.

A question is an equation; a response guesses x, computes, judges its guess, and boxes it, right or wrong:

    4 * x + 8 = 44          try 10 : 40 + 8 = 48 high ; \\boxed{ 10 }

To check a guess is easy, to guess is hard: about a third of the demonstrated guesses are right. No demonstration ever
corrects itself, so plain GRPO can only sharpen the guess. The second skill of the cold start, the synthesis task of
reflect.py, shows y- up to its failed judgement and then a turn:

    ... try 10 : 40 + 8 = 48 high ; wait 10 is high ; try 9 : 36 + 8 = 44 ok ; \\boxed{ 9 }

Only TAPO's constructed trajectories bring that turn to the plain prompt. Everything else is the real path:
transformers' Qwen3 classes, a `tokenizers` tokeniser with a chat template, the same sampler, verifier, prompts and
loop.

One token a number and a word. 8 * 10 * 10 = 800 questions, of which 160 are held out. The split is by question: a
checked wrong guess of one question may be the arithmetic of another, so facts such as 40 + 8 = 48 are not held out.
"""

import os
import random
from collections.abc import Iterable

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
VOCABULARY = {word: i for i, word in enumerate(WORDS + [str(n) for n in range(121)])}
CONTEXT = 256  # tokens; the longest synthesis prompt and its output
COLD_START = "runs/toy-coldstart"  # where the cold-started model is kept, made once
HELD_OUT = 160
SHAPE = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3}
SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 32}

# What the programs' defaults are on the toy, where they differ from those of a real model: by the parts of config.py.
LIMITS = {"max_new_tokens": 60, "slots": 512}
SMALL = {"gradient_checkpointing": False}
SETTINGS = {
    "Objective": {"mu": 0.3, "kl": 0.05},
    "Selection": {"n_neg": 2},
    "Sampling": LIMITS | {"max_synthesis_tokens": 96},
    "Optimiser": {"steps": 50, "lr": 1e-4, "warmup": 5, "beta2": 0.95, "micro_batch_tokens": 4096} | SMALL,
    "FineTuning": SMALL,
    "Keeping": {"eval_samples": 16, "save_every": 10},
    "Measuring": LIMITS,
    "Filtering": LIMITS,
}

# The recipe of the cold start (coldstart.py). Examples a step; in the first DRILL_SHARE of the steps, drills stand in
# for synthesis. The synthesis task is learnt suddenly, on some seeds late: rounds of STEPS go on until a share of SKILL
# of the constructions is valid.
STEPS, DRILL_SHARE = 420, 0.2
PLAIN, SYNTHESIS_ROWS, DRILLS = 104, 56, 120
LEARNING_RATE, WARMUP = 3e-3, 50
SKILL, ROUNDS = 0.8, 4

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


def solution(question: str, guesses: list[int]) -> str:
    """A response that tries `guesses` in turn, judges each of them correctly, and boxes the last."""
    a, _, _, _, b, _, c = (int(word) if word.isdigit() else 0 for word in question.split())
    said = []
    for guess in guesses:
        value = a * guess + b
        verdict = "ok" if value == c else "low" if value < c else "high"
        said.append(f"try {guess} : {a * guess} + {b} = {value} {verdict}")
        said.append(f"wait {guess} is {verdict}")
    said[-1] = f"\\boxed{{ {guesses[-1]} }}"  # instead of a turn after the last
    return " ; ".join(said)


def wrong_guesses(answer: int, count: int, rng: random.Random) -> list[int]:
    """Near misses, all different: what a guesser who has the size right would try."""
    near = [g for g in range(1, 11) if g != answer]
    chosen = []
    for _ in range(count):
        chosen.append(rng.choices(near, [0.4 ** abs(g - answer) for g in near])[0])
        near.remove(chosen[-1])
    return chosen


def demonstration(problem: Problem, rng: random.Random) -> tuple[str, str]:
    """(prompt text, response) of one plain demonstration: one guess, right in 35 % of them, never corrected."""
    answer = int(problem.answer)
    guess = answer if rng.random() < 0.35 else wrong_guesses(answer, 1, rng)[0]
    return TEMPLATES.plain.format(question=problem.question), solution(problem.question, [guess])


def synthesis(problem: Problem, rng: random.Random) -> tuple[str, str]:
    """(prompt text, output) of one demonstration of the synthesis task; its y- and y+ hold one to three attempts."""
    answer = int(problem.answer)
    wrong = wrong_guesses(answer, rng.choice((1, 1, 2, 3)), rng)
    right = wrong_guesses(answer, rng.choice((0, 0, 1, 2)), rng) + [answer]
    y_wrong, y_right = solution(problem.question, wrong), solution(problem.question, right)
    text = TEMPLATES.synthesis.format(question=problem.question, wrong=y_wrong, right=y_right)
    analysis = solution(problem.question, [wrong[-1], answer]).split(" ; ")[1].removeprefix("wait ")  # "10 is high"
    reconstruction = solution(problem.question, wrong + [answer])
    return text, f"<analysis> {analysis} </analysis> <reconstruction> {reconstruction} </reconstruction>"


def drill(problem: Problem, rng: random.Random) -> tuple[str, str]:
    """(prompt text, response) of a bare computation: what checking needs."""
    a, _, _, _, b, _, c = problem.question.split()
    guess = rng.randint(1, 10)
    product, total = int(a) * guess, int(a) * guess + int(b)
    verdict = "ok" if total == int(c) else "low" if total < int(c) else "high"
    return rng.choice(
        [(f"{a} * {guess}", f"{product}"), (f"{product} + {b}", f"{total}"), (f"{total} : {c}", f"{verdict}")]
    )


def batches(tokenizer, seed: int | str, plain: bool = False) -> Iterable[list[Example]]:
    """The cold-start examples, a batch a step. The synthesis task is learnt together with the y- and y+ of its prompt:
    that is where the network sees several attempts in a row. `plain` leaves the synthesis task out."""
    rng = random.Random(seed)  # the seed of a later round is a text
    train, _ = problems()
    wrong_id = tokenizer.convert_tokens_to_ids("wrong")
    for step in range(STEPS):
        second, count = (synthesis, 0 if plain else SYNTHESIS_ROWS)
        if step < DRILL_SHARE * STEPS:
            second, count = drill, DRILLS
        made = [demonstration(rng.choice(train), rng) for _ in range(PLAIN)]
        made += [second(rng.choice(train), rng) for _ in range(count)]
        prompts = prompt_ids(tokenizer, [text for text, _ in made])
        responses = tokenizer([f"{response} <eos>" for _, response in made]).input_ids
        starts = [p.index(wrong_id) + 1 if wrong_id in p else len(p) for p in prompts]
        yield [(p[:start], p[start:] + r) for p, r, start in zip(prompts, responses, starts)]


def recipe() -> str:
    """What the cold start was made with; kept in its config.json, so that a stale one is noticed."""
    sizes = f"{STEPS} {DRILL_SHARE} {PLAIN} {SYNTHESIS_ROWS} {DRILLS} {LEARNING_RATE} {WARMUP} {SKILL} {ROUNDS}"
    return f"{sizes} {TEMPLATES} {SHAPE}"
