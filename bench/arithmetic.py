"""Arithmetic in words for small language models: problems whose written solutions have steps that can be wrong.

    Solve for x: 4x + 10 = 34        4x = 34 - 10 = 24, x = 24 / 4 = 6. \\boxed{6}

A wrong attempt has one false equation, and goes on from its value. So its first error is known, and a construction that
turns right behind it can be written by a program: the demonstrations of `coldstart.py --demonstrations`.

Problems to train on and held-out ones differ by their numbers. The kind HELD_OUT is in no demonstration and no
training.
"""

import operator
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from zlib import crc32

Step = Callable[[list[int]], tuple[str, str, int]]  # of the values before it: what leads in, an expression, its value
HELD_OUT = "hours"
NAMES = "Anna Ben Carla David Emma Felix Grace Henry Iris Jack Kate Leo".split()
THINGS = "apples books coins pens shells stamps cards marbles".split()


@dataclass(frozen=True)
class Exercise:
    """A question and the steps of its solution; the last one's value is the answer."""

    kind: str
    question: str
    steps: tuple[Step, ...]

    def values(self, slip: Callable[[int], int] | None = None, at: int = -1) -> list[tuple[str, str, int]]:
        """All steps; with a `slip`, step `at` has slip(its value) and the others go on from there."""
        done: list[tuple[str, str, int]] = []
        for number, step in enumerate(self.steps):
            lead, expression, value = step([value for _, _, value in done])
            done.append((lead, expression, slip(value) if number == at else value))
        return done

    @property
    def answer(self) -> str:
        """The answer."""
        return str(self.values()[-1][2])


def said(steps: list[tuple[str, str, int]]) -> str:
    """Steps as a solution says them."""
    equations = ", ".join(f"{lead}{expression} = {value}" for lead, expression, value in steps)
    return f"{equations}. \\boxed{{{steps[-1][2]}}}"


# ---------------------------------------------------------------------------------------------------------------- kinds


def product(rng: random.Random):
    """Two digits times one."""
    a, b = rng.randint(11, 39), rng.randint(2, 6)
    tens, ones = a - a % 10, a % 10
    return f"What is {a} * {b}?", (
        lambda v: ("", f"{tens} * {b}", tens * b),
        lambda v: ("", f"{ones} * {b}", ones * b),
        lambda v: ("", f"{v[0]} + {v[1]}", v[0] + v[1]),
    )


def stock(rng: random.Random):
    """Something is given away, and something is added."""
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    have, less, more = rng.randint(10, 30), rng.randint(2, 9), rng.randint(2, 20)
    question = f"{name} has {have} {thing}, gives away {less} and then buys {more}. How many {thing} does {name} have?"
    return question, (
        lambda v: ("", f"{have} - {less}", have - less),
        lambda v: ("", f"{v[0]} + {more}", v[0] + more),
    )


def equation(rng: random.Random):
    """A linear equation."""
    a, x, b = rng.randint(2, 6), rng.randint(2, 9), rng.randint(2, 20)
    total = a * x + b
    return f"Solve for x: {a}x + {b} = {total}", (
        lambda v: (f"{a}x = ", f"{total} - {b}", total - b),
        lambda v: ("x = ", f"{v[0]} / {a}", v[0] // a),
    )


def total(rng: random.Random):
    """A sum of five numbers."""
    numbers = [rng.randint(1, 9) for _ in range(5)]
    first = lambda v: ("", f"{numbers[0]} + {numbers[1]}", numbers[0] + numbers[1])  # noqa: E731
    rest = [lambda v, n=n: ("", f"{v[-1]} + {n}", v[-1] + n) for n in numbers[2:]]
    return f"Add {', '.join(map(str, numbers[:4]))} and {numbers[4]}.", (first, *rest)


def hours(rng: random.Random):
    """Hours and minutes in minutes."""
    h, m = rng.randint(2, 9), rng.randint(5, 55)
    return f"How many minutes are {h} hours and {m} minutes?", (
        lambda v: ("", f"{h} * 60", h * 60),
        lambda v: ("", f"{v[0]} + {m}", v[0] + m),
    )


def product_and_sum(rng: random.Random):
    """A product, and a number added to it or taken from it."""
    a, b, c = rng.randint(2, 9), rng.randint(3, 9), rng.randint(2, 20)
    sign = "-" if c < a * b and rng.random() < 0.5 else "+"
    return f"What is {a} * {b} {sign} {c}?", (
        lambda v: ("", f"{a} * {b}", a * b),
        lambda v: ("", f"{v[0]} {sign} {c}", v[0] + (c if sign == "+" else -c)),
    )


def prices(rng: random.Random):
    """Two kinds of goods at two prices."""
    n, m, p, q = rng.randint(2, 5), rng.randint(2, 5), rng.randint(2, 9), rng.randint(2, 9)
    one, two = rng.sample(THINGS, 2)
    return f"{one.title()} cost {p} dollars each and {two} {q} dollars each. What do {n} {one} and {m} {two} cost?", (
        lambda v: ("", f"{n} * {p}", n * p),
        lambda v: ("", f"{m} * {q}", m * q),
        lambda v: ("", f"{v[0]} + {v[1]}", v[0] + v[1]),
    )


KINDS = {f.__name__: f for f in (product, stock, equation, total, hours, product_and_sum, prices)}


# ------------------------------------------------------------------------------------------------ problems and examples


def exercises(seed: str, held_out: bool, kinds: list[str] | None = None) -> Iterator[Exercise]:
    """Exercises without end, kind by kind in turn, none twice: the `held_out` ones, a fifth by their numbers, or the
    others."""
    rng, seen = random.Random(seed), set()
    kinds = kinds or [kind for kind in KINDS if kind != HELD_OUT]
    while True:
        for kind in kinds:
            question, steps = KINDS[kind](rng)
            if (crc32(question.encode()) % 5 == 0) == held_out and question not in seen:
                seen.add(question)
                yield Exercise(kind, question, steps)


def slipped(rng: random.Random, value: int) -> int:
    """A value as a hasty reckoner gets it: off by one, by two, by ten, or with two digits the wrong way round."""
    digits = list(str(abs(value)))
    turned = int("".join(reversed(digits))) if len(digits) == 2 else value + 10
    near = [value + 1, value - 1, value + 2, value + 10, value - 10, turned]
    return rng.choice([v for v in near if v > 0 and v != value])


def solution(exercise: Exercise) -> dict:
    """A demonstration of a solution."""
    problem = {"problem": exercise.question, "answer": exercise.answer}
    return problem | {"solution": said(exercise.values())}


def construction(exercise: Exercise, rng: random.Random) -> dict:
    """A demonstration of a construction: y- with one false equation, the written solution as y+, and a turn right
    behind the false equation."""
    right, at = exercise.values(), rng.randrange(len(exercise.steps))
    wrong = exercise.values(lambda value: slipped(rng, value), at)
    while wrong[-1][2] == right[-1][2]:  # a quotient that hides the slip
        wrong = exercise.values(lambda value: slipped(rng, value), at)
    attempt, (_, expression, value) = said(wrong), right[at]
    false = ", ".join(f"{lead}{text} = {v}" for lead, text, v in wrong[: at + 1])
    kept = attempt[: len(false) + 1]  # with the comma or full stop behind it
    return {
        "problem": exercise.question,
        "answer": exercise.answer,
        "wrong": attempt,
        "right": said(right),
        "analysis": f"{expression} is {value}, not {wrong[at][2]}.",
        "reconstruction": f"{kept} Wait, {said(right[at:])}",
    }


SIGNS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def truths(text: str) -> list[bool]:
    """Which equations of a solution hold, in order: those that say what two whole numbers give."""
    found = []
    for clause in text.replace(". ", ", ").rstrip(" .").split(","):
        for left, right in pairwise(side.split() for side in clause.split("=")):
            if len(left) == 3 and [word.isdecimal() for word in (*left, *right[:1])] == [True, False, True, True]:
                a, sign, b, c = int(left[0]), left[1], int(left[2]), int(right[0])
                if sign in SIGNS or sign == "/":
                    found.append(a == b * c if sign == "/" else SIGNS[sign](a, b) == c)
    return found


def turns_at_its_error(prefix: str) -> bool:
    """Whether a kept error prefix ends with its only false equation."""
    found = truths(prefix)
    return found.count(False) == 1 and not found[-1]
