# ruff: noqa: RUF001
"""Is this answer right? The final answer of a response, read as mathematics and compared with the gold answer.

Four steps, in the order of this file: find the final answer in a response (`extract_answer`), cut it into tokens
(`scan`), build a value by recursive descent (`parse`), compare two values (`judge`). Nothing is ever evaluated as a
program. `python -m tools.grade` shows both readings of an answer, and scores a file of labelled ones.

Read, in LaTeX and in plain notation: integers, fractions and mixed numbers, decimals, radicals, pi, e, i, powers,
factorials, binomials, functions, finite sums and products, gcd, remainders and congruences; expressions in variables;
units, currency, percent; tuples, lists, sets, +-, "or"; intervals, unions, inequalities; equations; ratios and times of
day; matrices, vectors, determinants; numbers in a base; words and choices.

Equality of two expressions is decided the cheapest way that settles it:
  1. Rationals are exact, up to MAX_BITS.
  2. Expressions of + - * / and whole powers over rationals, variables, pi, e and i (1/2^{99}, (t-1)(t+6)) are compared
     at a pseudo-random point modulo a prime of 125 bits. Point and prime are drawn from both texts. pi and e are
     variables here: no polynomial relation between them is known. Unequal ones of degree d pass with probability below
     d / 2^124.
  3. All others are evaluated in decimal arithmetic and are equal where they agree to 50 significant digits, worked out
     with 70 and three more for each digit of the longest rational, so sqrt(10^{200}+1) is not 10^{100}; sums of terms
     too far apart for it (1 + e^{-200}) are refused. This is a stated bound, not a proof of equality. With variables
     they have to agree wherever both are real, at two or more of nine points of several sizes and signs, some of them
     whole; analytic expressions that differ pass with probability 0 up to rounding.
  4. What has a value at whole numbers only, such as (-2)^n or n!, and what has a floor or ceiling, has to agree at 32
     points in whole numbers as well: in one variable at 16 consecutive ones upwards and 16 downwards. That decides it
     where the difference has a period of at most 16; a difference that is rarer passes.

The work of a call is bounded by construction, never by a clock: every step of reading, comparing and evaluating is
counted, with its number of digits, and spent from one budget (BUDGET) before it is done. Past it, and beyond the other
MAX_ constants, an answer is equal only to its own text. What is not counted is linear in the text. Nothing here raises
on text, keeps state, or uses signals, so it is safe in threads; points derive from the input alone, so verdicts repeat.

What is policy, not mathematics, and why:
  - Boxes side by side are a list only where the gold answer is one; else the last counts: models repeat themselves.
  - An open last box, a value that is denied or doubted, and what stands only in the thinking part are no answer, and
    "or" between two values makes both part of it: a guess must not be paid.
  - \\log without a base is base 10 or e, whichever the other side asks for: sources use both.
  - A base, unit or degree sign may be left out on one side: the question has it. Two that differ are never equal.
  - 35% is 35 and 0.35, since golds are written both ways; but 0.35 is not 35.
  - Decimals get no tolerance: 0.333 is not 1/3. Only an exact answer to a gold decimal of seven digits or more may
    differ in the last one, as such golds were computed; and a chain that ends in one correct rounding is worth both.
  - x = 5, m+n = 5 and f(x) = 5 are worth 5, since they name what is asked; x+y = 5 and 2x = 5 are not.
  - A letter in a floor or ceiling is whole unless it is one of r to z or Greek; 10:40 may be a time and is no 1:4.
  - Case does not count in words and choices, and yes or no may be followed by a reason.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import (
    MAX_EMAX,
    MIN_EMIN,
    Context,
    Decimal,
    DivisionByZero,
    InvalidOperation,
    Overflow,
    getcontext,
    localcontext,
)
from fractions import Fraction
from functools import cached_property, partial, reduce
from hashlib import blake2b
from itertools import pairwise
from operator import add, and_, ge, gt, le, lt, mul, ne, or_, sub
from unicodedata import normalize

BUDGET = 80_000  # units of work a call
MAX_LENGTH = 10_000  # characters of an answer that is read; a longer one equals only its own text
MAX_TOKENS = 1000  # of an answer that is parsed
MAX_DEPTH = 40  # of nesting
MAX_DIGITS = 4000  # of a number in arithmetic; plain integers of any length are compared as text
MAX_BITS = 60_000  # of an exact rational: larger powers and products stay symbolic
MAX_WHOLE = 3000  # of which a factorial is taken; of binomials 8000
MAX_WIDTH = 1300  # digits of a rational in an expression that needs decimal arithmetic
MAX_MEMBERS = 100  # of an unordered list
MAX_SIGNS = 4  # of independent +- in one member, which then stands for 16

Node = int | Fraction | str | tuple  # a rational, a name, or (operation or kind, *parts)
Span = tuple[int, int, str]  # start, end, content
Run = list[str]  # values side by side; those that "or" joins are one


class Unread(Exception):
    """Why a text has no value here, or two values no verdict: no mathematics, undefined, or beyond a bound."""


def _refuse(when: object, why: str) -> None:
    if when:
        raise Unread(why)


class Spent(Exception):
    """The work of a call is used up."""


class Work:
    """The work left to one call, in units of about a microsecond. It is spent before the work is done."""

    def __init__(self, units: int = BUDGET):
        self.left = units

    def spend(self, units: int) -> None:
        """Take `units` away. Raises Spent where they are not left, and from then on always."""
        self.left -= units
        if self.left < 0:
            raise Spent("more work than the budget of a call")


def verify(response: str, gold: str, work: Work | None = None) -> bool:
    """Whether the final answer of `response` equals `gold`; False where either is missing. Never raises."""
    if not isinstance(response, str) or not isinstance(gold, str):
        return False
    work = work or Work()
    try:
        run = _final(response, work)
        joined = len(run) > 1 and _kind(read(gold, work)) in ("list", "set")
    except Spent:
        return False
    asked = joined and judge(" , ".join(run), gold, work)[0]
    return asked or (bool(run) and judge(run[-1], gold, work, directed=True)[0])


def extract_answer(response: str) -> str | None:
    """The final answer of a response, or None. Final values that "or" joins come together, as a hedged answer.

    In this order: the last non-empty balanced `\\boxed` or `\\fbox`, or None where the last one is not closed; what
    follows "answer is", `####` or another marker; the last bold text; a response that is nothing but an answer; the
    last formula or number, whichever comes later. Linear in the length of the response; never raises."""
    try:
        return [None, *_final(response, Work())][-1] if isinstance(response, str) else None
    except Spent:
        return None


def equivalent(a: str, b: str) -> bool:
    """Whether two answers are equal. Symmetric; and reflexive, but that an empty text equals nothing. Never raises."""
    return isinstance(a, str) and isinstance(b, str) and judge(a, b, Work())[0]


# -------------------------------------------------------------------------------------------- where the final answer is


def _phrases(lines: str) -> tuple[str, ...]:
    return tuple(lines.strip("\n").replace("\n", "|").split("|"))


ENDS = ("</s>", "<eos>", "<pad>", "<end_of_turn>", "<｜end▁of▁sentence｜>")
BLANKS = tuple(f"\\{x}" for x in "textasciitilde textbackslash overset square quad phantom underline".split())
RETRACTED = _phrases("""is wrong|is incorrect|is not correct|is not right|is not the|isn't|is false|is a mistake
was wrong|was incorrect|is impossible|cannot be|that was wrong|this was wrong|that is wrong|that's wrong|this is wrong
this is incorrect|wait, that|no, |on reflection|on second thought|scratch that""")
NOT = frozenset("not cannot never isn't can't couldn't aren't wasn't neither nor".split())
CUES = ("no", "n't", "n’t", "never", "neither", "unsure", "whether")  # one is in whatever denies a value
COPULAS = frozenset("be equal equals necessarily exactly just have".split())
UNSURE = _phrases("""not sure|unsure|not certain|whether|don't know|do not know|cannot tell|no idea|don't think
do not think""")
HYPOTHESES = ("if ", "suppose ", "assum", "whether")
JOINTS = frozenset("text quad qquad maybe perhaps possibly else".split())  # words that may stand beside "or"
# A number right after one of these is not what is asserted.
BARRED = frozenset("than except between twice half double instead depends none close problem step equation".split())
DOUBTS = ("maybe ", "perhaps ", "possibly ", "might ", "could be ", "may be ", *HYPOTHESES)
GAVE_UP = _phrases("""i cannot|i can't|i could not|i couldn't|i do not|i don't|i am not|i'm not|cannot tell|could not
unable to|not sure|no idea|stuck|hard to say|no answer|not clear|unclear""")
MARKERS = ("####", "choice is", "option is", "solutions are", "答案是", "答案为", "答案：", "答案:", "选")
AFTER_ANSWER = ("is", "are", ":", "：", "=", "should be", "must be", "would be", "will be", "was")
FILLERS = _phrases("""is |are |be |was |therefore |thus |simply |option |choice |that |exactly |only |just |around |is:
approximately |about |roughly |equal to |given by |should be |must be |would be |will be |：|是|选""")
STOPPERS = (". ", " because", " since", ", which", ", so ", " where ", " when ", "**", "</answer>", "。", "```")
CHOICES = frozenset("ABCDEFGHIJ")
BEFORE_CHOICE = frozenset("is be option choice letter answer choose pick select".split())
VERDICTS = {"yes": "no", "no": "yes", "true": "false", "false": "true"}


def _final(response: str, work: Work) -> Run:
    text = _said(response)
    boxes = _boxes(text, work)
    if boxes is None:
        return []
    if boxes:
        start, end, _ = boxes[-1]
        after = text[end : end + 80].lstrip(" $.,)]*\n\\")
        if after and after.lower().removeprefix("but ").startswith(RETRACTED):
            return _marked(text[end:], work)
        return [] if _denied(text[max(0, start - 80) : start]) else _run(text, boxes)
    return _marked(text, work) or _bold(text, work) or _whole(text, work) or _last(text, work)


def _said(response: str) -> str:
    """What a response says in the end: without end-of-text tokens, and after the thinking part."""
    text = response.rstrip()
    if "_of_box|>" in text:
        text = text.replace("<|begin_of_box|>", "\\boxed{").replace("<|end_of_box|>", "}")
    end = len(text)
    while text.endswith(">", 0, end) and (start := text.rfind("<", max(0, end - 40), end)) >= 0:
        token = text[start:end]
        if token not in ENDS and not (token.startswith("<|") and token.endswith("|>")):
            break
        end = start
        while text[end - 1 : end].isspace():
            end -= 1
    text = text[:end]
    if "<" in text and ("<think" in text or "</think" in text):
        text = text.rpartition("</think")[2].partition("<think")[0].removeprefix("ing").removeprefix(">")
    return text


def _boxes(text: str, work: Work) -> list[Span] | None:
    """The last non-empty box and those that end within 40 characters before it or one another; None if it is open."""
    found: list[Span] = []
    at = len(text)
    while len(found) < MAX_MEMBERS and (at := text.rfind("box", 0, at)) >= 0:
        work.spend(1)
        head, start = (at - 1, at + 5) if text.startswith("\\boxed", at - 1) else (at - 2, at + 3)
        if not text.startswith(("\\boxed", "\\fbox"), head):
            continue
        while text[start : start + 1].isspace():
            start += 1
        if text[start : start + 1] == "{":
            end = _closing(text, start, work)
            if end < 0:
                return found or None
            content = text[start + 1 : end - 1].strip()
        else:
            end = min((i for i in (text.find(c, start, start + 400) for c in " \n$") if i >= 0), default=start + 400)
            content = text[start:end].rstrip(".,;")
        if found and not head < end <= found[0][0] <= end + 40:
            break  # around the one found, or apart from it
        shown = content
        for blank in BLANKS if "\\" in content and "\\{" not in content else ():
            shown = shown.replace(blank, "")
        if shown.strip("{} $?.~_"):
            lead = text[max(0, head - 4) : head].replace("= - ", "=-")
            if lead[-1:] in ("-", "−") and lead[-2:-1] in tuple(" =($[{:"):
                content = f"-({content})" if "+" in content or "-" in content else "-" + content
            found.insert(0, (head, end, content))
    return found


def _closing(text: str, at: int, work: Work) -> int:
    """The index after the brace that closes the one at `at`, or -1. Escaped braces do not count."""
    depth = 0
    while (close := text.find("}", at)) >= 0:
        work.spend(1 + (close - at) // 1000)
        depth += text.count("{", at, close) - text.count("\\{", at, close)
        at = close + 1
        if text[close - 1] != "\\" or text[close - 2] == "\\":
            depth -= 1
            if depth <= 0:
                return at
    return -1


def _joint(gap: str) -> str:
    """What joins two values with `gap` between them: "or", "and" (a comma or nothing too), or "": they are apart."""
    words = "".join(c if c.isalpha() else " " for c in gap).split()
    words = [word for word in words if word not in JOINTS] or ["and"]
    joined = len(gap) <= 40 and words in (["and"], ["or"]) and not any(c in "=+*/^_<>.:" for c in gap)
    return words[0] if joined else ""


def _run(text: str, spans: list[Span]) -> Run:
    run, joints = [span[2] for span in spans[-1:]], set()
    for i in range(len(spans) - 1, 0, -1):
        joint = _joint(text[spans[i - 1][1] : spans[i][0]])
        if not joint:
            break
        joints.add(joint)
        run.insert(0, spans[i - 1][2])
    return [" or ".join(run)] if "or" in joints else run


def _formulas(text: str, work: Work) -> list[Span]:
    """The formulas $...$, $$...$$, \\(...\\), \\[...\\] of a text."""
    found: list[Span] = []
    at = 0
    closers = {opener: closer for opener, closer in (("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")) if opener in text}
    while openers := [(start, opener) for opener in closers if (start := text.find(opener, at)) >= 0]:
        work.spend(2)
        start, opener = min(openers)
        fence = "$$" if text.startswith("$$", start) else opener
        inside = start + len(fence)
        end = text.find("$$" if fence == "$$" else closers[opener], inside)
        while fence == "$" and end > 0 and text[end - 1] == "\\":
            end = text.find("$", end + 1)
        content = text[inside:end].strip()
        if end < 0:
            del closers[opener]
        elif not content or (
            fence == "$" and _price(text[inside:end], text[start - 1 : start], text[end + 1 : end + 3])
        ):
            at = inside
        else:
            at = end + len(fence)
            found.append((start, at, content))
    return found


def _price(content: str, before: str, after: str) -> bool:
    """Whether two dollar signs are prices: It costs $5 and $7; $17-$12 = $5; $<<3*4=12>>12."""
    if before == "\\" or after.removeprefix(".")[:1] in DIGITS or after == "<<" or content.rstrip()[-1] in "=+-*/(<":
        return True
    prose = "\\" not in content and any(len(word) > 2 and word.isalpha() for word in content.split())
    return prose and (content[0] in DIGITS or (content[0] == " ") != (content[-1] == " "))


def _denied(before: str) -> bool:
    """Whether the words right before a value say that it is not the answer, or not known to be."""
    if not any(cue in before for cue in CUES):
        return False
    clause = before.lower().replace("’", "'")
    for mark in (". ", ", ", ": ", "; ", "\n", "? ", "! ", " but ", "\\]", "so "):
        clause = clause.rpartition(mark)[2]
    words = "".join(" " if c in "$(=\\*[_" else c for c in clause).removesuffix(" to ").split()
    said = words[-3:] if words[-1:] and words[-1] in COPULAS else words[-1:]
    return bool(NOT.intersection(said)) or any(cue in clause for cue in UNSURE)


def _starts(lowered: str, work: Work) -> list[int]:
    lowered = lowered.rstrip("#")
    found = [lowered.rfind(marker) + len(marker) for marker in MARKERS if marker in lowered]
    line = lowered.rfind("\n") + 1
    found += [line + 3] * lowered.startswith("a: ", line)
    at = len(lowered)
    while len(found) < 30 and (at := lowered.rfind("answer", 0, at)) >= 0:
        work.spend(1)
        start = at + 6 + lowered.startswith("s", at + 6)
        after = lowered[start : start + 20].lstrip(" *_")
        if after.startswith(AFTER_ANSWER) or lowered.endswith(("final ", "<"), 0, at):
            clause = lowered[max(0, at - 30) : at].rpartition(".")[2].rpartition(",")[2]
            found += [start] * (not any(map(clause.__contains__, HYPOTHESES)))
    return sorted(found)


def _marked(text: str, work: Work) -> Run:
    """The value after the last marker that has one. A last statement that is cut off is passed over."""
    lowered = text.lower()
    if len(lowered) != len(text):  # the few letters that change length would shift what is found
        lowered = text
    for start in reversed(_starts(lowered, work)):
        run = _statement(text[start : start + 4000], work)
        if run and (sum(map(run[-1].count, "([{")) <= sum(map(run[-1].count, ")]}")) or not text.endswith(run[-1])):
            return run
    return []


def _statement(text: str, work: Work, depth: int = 0) -> Run:
    """The value that a text states: what it starts with, or the last formula or number of its first sentence."""
    head = text.partition("\n")[0].strip(" :*.").removeprefix("is ").strip("$")
    if head.isdecimal():
        return [head]  # the most frequent ones soon
    text = text.lstrip(" :*=#\n\t_：")
    text = text[text.find("\n") + 1 if text.startswith("```") else 0 :].lstrip(" :*=#\n\t_>`\"'") + " "
    while filler := next(filter(text[:14].lower().startswith, FILLERS), ""):
        text = text[len(filler) :].lstrip(" :*_`\"'\n")
    formulas = _formulas(text, work) if "$" in text or "\\" in text else []
    if formulas and formulas[0][0] == 0:
        apart = (i for i, (x, y) in enumerate(pairwise(formulas), 1) if not _joint(text[x[1] : y[0]]))
        return _run(text, formulas[: next(apart, None)])
    line = text.split("\n", 1)[0] + " "
    line = line[: min((end for end in map(line.find, STOPPERS) if end >= 0), default=len(line))]
    digits = any(c.isdigit() for c in line)
    if (" " + line.rstrip()).endswith((":", " is", " are")) and not digits:
        return _statement(text[len(line) :], work, depth + 1) if len(line) < len(text) and depth < 5 else []
    line = line.strip(" .*_`\"'。\t\r")
    words = line.split(None, 2)
    if not words:
        return []
    first = words[0].strip("().,:;*，")
    if first in CHOICES and words[0][-1] in ".,:;)，" and len(words) > 1 and len(words[1]) > 1 and words[1].islower():
        return [line if words[1] in ("or", "and") else first]  # B, for ...
    bare = len(first) < 2 or not first.isalpha() or first.lower() in VERDICTS or first in WORDS
    if bare or not (digits or "$" in line or "\\" in line):
        return [line]
    verb = max(line.rfind(word) + len(word) for word in (" is ", " are ", " equals "))
    said = " " in line[:verb] and line[verb : verb + 1] in (*DIGITS, "$", "\\", "-", "(")
    return _statement(line[verb:], work) if said else _last(line, work)


def _bold(text: str, work: Work) -> Run:
    """The last bold text, unless it is a heading: then a colon ends it, or something is worked out after it."""
    _, *parts = text.rsplit("**", 2)
    if len(parts) < 2 or parts[0].strip().endswith(":") or any(c.isdigit() or c == "$" for c in parts[1]):
        return []
    return _statement(parts[0].strip(), work)


def _whole(text: str, work: Work) -> Run:
    text = text.strip()
    if not 0 < len(text) < 200 or "$" in text or "box" in text:
        return []
    words = text.split()
    prose = any(word.isalpha() and len(word) > 1 for word in words)
    return [text] * (len(words) < 3 or (not prose and _kind(read(text, work)) != "text"))


def _last(text: str, work: Work) -> Run:
    """The last formula or number of a prose that asserts it, or the choice that it ends with."""
    for _ in range(3):  # the number of a heading at the end is no answer
        line = text.rstrip().rpartition("\n")[2]
        if not line.lstrip("0123456789").startswith(".") or line.rstrip()[-1:] not in (":", "*"):
            break
        text = text[: text.rindex(line)]
    *_, cue, label = ["", "", *text[-80:].split()]
    verb = max(text.rfind(verb, max(0, len(text) - 60)) for verb in (" is correct", " is the correct"))
    correct = text[max(0, verb - 10) : max(0, verb)].rpartition(" ")[2]  # so (B) is correct
    for choice in (label.strip("().*$") if cue.lower() in BEFORE_CHOICE else "", correct.strip("().*$")):
        if choice in CHOICES:
            return [choice]
    base = max(0, len(text) - 20_000)
    spans = _formulas(text[base:], work)
    digit = max(map(text.rfind, "0123456789"))
    if spans and base + spans[-1][1] > digit:
        start, end = base + spans[-1][0], base + spans[-1][1]
        run = _run(text[base:], spans)
        *_, prose, factor = ["", "", *text[max(0, start - 40) : start].split()]
        number = DIGITS.issuperset(factor.replace("/", "", 1).replace(".", "", 1).removeprefix("-")) and factor
        if len(run) == 1 and number and (prose.isalpha() or prose in ("", "=", "≈")) and text[start - 1] != "\n":
            run = [factor + " " + run[0]]  # the area is 16 $\pi$
    elif digit >= 0:
        start, end, value = _number_in(text, digit + 1)
        run = [value] * bool(value)
    else:
        return []
    before = text[max(0, start - 80) : start]
    words = before.lower().split()[-3:]
    doubtful = (
        any(cue in before.lower().rpartition(", ")[2].rpartition(". ")[2] for cue in DOUBTS)
        or text[end : end + 40].lstrip(" $.)*").lower().startswith(RETRACTED)
        or any(cue in text[end : end + 400].lower() for cue in GAVE_UP)
        or " ".join(words) in ("at least", "at most", "is at least", "is at most")
        or BARRED.intersection(words)
        or _denied(before)
    )
    return [] if doubtful else run


def _number_in(text: str, end: int) -> tuple[int, int, str]:
    """The number that ends at `end`, as (start, end, value): its word and the words before it that are mathematics."""
    after = text[end : end + 40].split(" ")[0].split("\n")[0]
    line = text[max(0, end - 300) : end].rsplit("\n", 1)[-1]
    opener = max(map(line.rfind, "(["))
    if after[:1] in (")", "]") and opener >= 0 and not any(c.isalpha() for c in line[opener:]):
        return end - len(line) + opener, end + 1, line[opener:] + after[0]
    words = (line + after).split()
    run = [words.pop().rpartition(">>")[2]]
    while words and (words[-1] == "or" or run[0] == "or" or not any(c.isalpha() or c in ".,:;" for c in words[-1])):
        run.insert(0, words.pop())
        if words[-1:] == ["x"] and run[0][-1] in DIGITS and words[-2:-1] and words[-2][-1] in DIGITS:
            words[-1] = "*"  # 4 x 5 = 20
    while len(run) > 1 and run[0] in ("=", "+", "*", "/", "or"):
        del run[0]
    value = " ".join(run)
    return end + len(after) - len(value), end, value.strip(" .,;:*!?#`\"'_")


# ---------------------------------------------------------------------------------------------------------- the scanner

DIGITS = frozenset("0123456789")
SPACES = frozenset(" \t\n\r\f\v~$\0")


def _table(lines: str) -> dict[str, str]:
    return {alias: group.split()[0] for group in lines.split(";") for alias in group.split()[1:]}


def _commands(names: str) -> frozenset[str]:
    return frozenset("\\" + name for name in names.split())


UNICODE = str.maketrans(
    {c: f"^{{{i}}}" for i, c in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
    | {c: f"_{{{i}}}" for i, c in enumerate("₀₁₂₃₄₅₆₇₈₉")}
    | {c: str(i) for i, c in enumerate("０１２３４５６７８９")}
    | {c: "\\frac{{{}}}{{{}}}".format(*normalize("NFKC", c).split("⁄")) for c in "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"}
    | {c: f" {token} " for token, cs in (
        ("-", "−–—－"), ("*", "×·⋅∗✕"), ("/", "÷⁄∕"), ("'", "′’"), (",", "，、"), (".", "。"), ("(", "（"), (")", "）"),
        (":", "：∶"), ("=", "＝"), ("%", "％"), ("...", "…")) for c in cs}
    | {c: f"\\{name} " for c, name in zip("≤≥≠≈≡±∓∞∪∩∈∅ℝ√°π∨∧∖¢€£¥₹αβγδθλμφωħ∠⌊⌋⌈⌉", (
        "le ge ne approx equiv pm mp infty cup cap in emptyset R sqrt circ pi or and setminus cent euro pound yen "
        "rupee alpha beta gamma delta theta lambda mu phi omega hbar angle lfloor rfloor lceil rceil").split())}
    | {"⁻": "^{-", "ⁿ": "^n", "ℤ": "\\mathbb{Z}", "ℕ": "\\mathbb{N}", "℃": "\\circ C"}
    | dict.fromkeys("\u00a0\u2009\u202f\u200b“”", " ")
)  # fmt: skip
COMMANDS = _table("""
\\frac dfrac tfrac cfrac; \\binom dbinom tbinom; * cdot times ast; / div; <= le leq leqslant leqq;
>= ge geq geqslant geqq; < lt; > gt; != ne neq; ~ approx simeq; \\or lor vee; \\and land wedge;
| lvert rvert vert mid middle; : colon; ( langle lparen; ) rangle rparen; [ lbrack; ] rbrack; \\{ lbrace; \\} rbrace;
% %; ' prime; \\circ degree; \\emptyset varnothing; \\setminus backslash; \\overline bar dot; \\\\ cr; \\phi varphi;
\\epsilon varepsilon; \\theta vartheta; => Rightarrow implies Longrightarrow therefore; \\bmod mod; \\pmod pod;
... ldots dots cdots dotsc""")
SKIPPED = frozenset("""left right big Big bigg Bigg bigl bigr Bigl Bigr displaystyle textstyle limits quad qquad ! , ; :
( ) [ ] > hline mathbf boldsymbol bm vec hat mathit mathcal angle rm bf it large Large LARGE huge Huge small normalsize
underline overrightarrow underbrace nolimits mathop _""".split()) | {" ", "\n", "\t"}  # fmt: skip
DROPPED = frozenset("color textcolor colorbox hspace vspace phantom hphantom vphantom label tag".split())
TEXTS = frozenset("text textbf textit textrm textsf texttt textnormal mbox hbox mathrm mathsf operatorname".split())
MATRICES = frozenset("pmatrix bmatrix matrix Bmatrix smallmatrix array".split())
GREEK = _commands("""alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau phi chi psi
omega ell Gamma Delta Theta Lambda Sigma Phi Psi Omega Pi hbar odot nabla partial""")
FUNCTIONS = _commands("""sin cos tan cot sec csc sinh cosh tanh coth sech csch arcsin arccos arctan arccot arcsec arccsc
ln log lg exp""")
FOLDS = {"\\gcd": math.gcd, "\\lcm": math.lcm, "\\max": max, "\\min": min}
WORDS = {name[1:]: name for name in FUNCTIONS | GREEK | FOLDS.keys() | {"\\sqrt", "\\pi", "\\or", "\\and"}}
WORDS |= _table("\\infty infinity inf oo; \\cup union; \\or OR; \\and AND; \\bmod mod")
# The first name stands for all of its group. Other words are units where nothing reads them as mathematics.
UNITS = _table("""
cm cm centimeter centimetre; mm mm millimeter millimetre; km km kilometer kilometre; meter meter metre m;
inch inch inche in; foot foot feet ft; yard yard yd; mile mile mi; kg kg kilogram; gram gram g; mg mg milligram;
pound pound lb; ounce ounce oz; liter liter litre l; ml ml milliliter; second second sec s; minute minute min;
hour hour hr h; day day; week week; month month; year year; degree degree deg; radian radian rad;
% percent pct; dollar dollar usd; euro euro eur; cent cent; mile/hour mph; km/hour kph; hertz hertz hz; khz khz;
mhz mhz; newton newton; joule joule; watt watt; volt volt; kw kw; kwh kwh; mol mol mole; gb gb; mb mb; db db;
cal cal; kcal kcal""")
LITTLE = frozenset("an the no yes of per old is are for lbs rpm sq cu with all any each if when".split())
KNOWN, CLOCK = UNITS.keys() | LITTLE, ("am", "pm")
RAISED = dict.fromkeys('"st "nd "rd "th'.split(), ()) | {"\\circ": ("\\circ",), "'": ("^", "'")}
# \1 is a comma within a number, if digits follow.
REWRITTEN = (("{,}", "\1"), (",\\!", "\1"), ("\\!,", "\1"), ("{}", " "))


def scan(text: str, grouped: bool = True) -> list[str]:
    """Cut an answer into tokens: numbers, single letters, commands ("\\\\frac"), words of text ('"cm'), signs.

    `grouped` reads 1,234 as one number where nothing tells against it. Linear in the text; every text has tokens."""
    if not text.isascii():
        text = text.translate(UNICODE).replace("}^{", "").replace("}_{", "").replace("^{-^{", "^{-")
    for old, new in REWRITTEN:
        text = text.replace(old, new)
    if grouped and ",\\," in text and not any(c in text for c in "([{"):
        text = text.replace(",\\,", ",")
    out: list[str] = []
    modes: list[bool] = []  # of the open braces: whether they hold text
    s, i, end, brackets, loose = text + "\0\0\0\0", 0, len(text), 0, 0
    while i < end:
        c = s[i]
        if c in SPACES:
            i += 1
        elif c in DIGITS or (c == "." and s[i + 1] in DIGITS):
            token, i, loose = _number(s, i, grouped and not brackets, loose)
            split = len(token) > 1 and out and out[-1] in ("\\frac", "\\binom") and token.isdecimal()
            out += [token[0], token[1:]] if split else [token]  # \frac12 is 1/2
        elif c == "\\":
            i = _command(s, i + 1, out, modes)
        elif c.isalpha():
            start = i
            while s[i].isalpha():
                i += 1
            _word(s, start, i, out, modes)
        elif c in "{}":
            in_text = bool(modes) and (modes[-1] if c == "{" else modes.pop())
            if c == "{":
                modes.append(in_text)
            out += [c] * (not in_text)
            i += 1
            if c == "}" and out[-4:-2] == ["^", "{"] and out[-2] in RAISED:
                out[-4:] = RAISED[out[-2]]
        else:
            sign = next((sign for sign in ("<=", ">=", "!=", "=>", "...", "**") if s.startswith(sign, i)), c)
            if sign == "!=" and s[i - 1] in DIGITS:  # 3!=6
                sign = c
            brackets += (c in "([") - (c in ")]")
            out.append({"**": "^", "\1": ","}.get(sign, sign))
            i += len(sign)
    while out and out[-1] == ".":
        out.pop()
    return out


def _number(s: str, i: int, group: bool, loose: int) -> tuple[str, int, int]:
    """The number at `i`, the index after it, and the index up to which commas separate numbers."""
    j = k = _digits(s, i)
    token, parts = s[i:j], []
    marks = ("\1 ", "\1", "\\,", *(", " if group else "")) if j > i >= loose else ()
    while (mark := next((mark for mark in marks if s.startswith(mark, k)), "")) and s[k + len(mark)] in DIGITS:
        start, k = k + len(mark), _digits(s, k + len(mark))
        parts.append(s[start:k])
    if token[:1] != "0" and j - i < 4 and all(len(part) == 3 for part in parts):
        token, j = token + "".join(parts), k
    loose = max(loose, k * (k > j))
    if s[j] == "." and (s[j + 1] in DIGITS or s[j + 1 : j + 3] in ("\\o", "\\b", "\\d") or s[j + 1] == "("):
        k = _digits(s, j + 1)
        token, j = token + s[j:k], k
        dots = next((dots for dots in ("...", " ...", "\\ldots", "\\dots", "\\cdots") if s.startswith(dots, j)), "")
        token, j = token + "…" * bool(dots), j + len(dots)
    elif s[j] == "." and s[j + 1] in " \0$}":
        j += 1
    if s[j] in "eE":  # 2e-1 is 2e - 1, but 2.5e-1 a number
        k = j + 1 + (s[j + 1] in "+-")
        if s[k] in DIGITS and (k == j + 1 or s[j] == "E" or "." in token or token == "1"):
            end = _digits(s, k)
            token, j = token + "E" + s[j + 1 : k].strip("+") + s[k:end], end
    return token, j, loose


def _digits(s: str, i: int) -> int:
    while s[i] in DIGITS:
        i += 1
    return i


def _command(s: str, i: int, out: list[str], modes: list[bool]) -> int:
    j = i
    while s[j].isalpha() and s[j].isascii():
        j += 1
    j = max(j, i + 1)
    name = s[i:j]
    if name in SKIPPED:
        return j + (name in ("left", "right") and s[j] == ".")
    if name in DROPPED:
        return s.find("}", j, j + 40) + 1 or j
    if name in TEXTS or name in ("begin", "end", "mathbb"):
        k = j
        while s[k] == " ":
            k += 1
        close = s.find("}", k, k + 20) if s[k] == "{" else k
        inner = s[k + 1 : close] if close > k else s[k]
        if name in ("begin", "end", "mathbb"):
            j = max(j, close + 1)
            if inner == "array" and s[j] == "{":
                j = s.find("}", j, j + 40) + 1 or j
            out.append("\\R" if inner == "R" else "\\" + name + ("" if inner in MATRICES else inner))
        elif name in ("mathrm", "operatorname") and (inner in WORDS or inner in ("e", "i")):
            out.append(WORDS.get(inner, inner))
            j = max(j, close + 1)
        elif s[k] == "{":
            modes.append(True)
            j = k + 1
        return j
    if name == "\\" and s[j] == "[":  # \\[4pt]
        j = s.find("]", j, j + 12) + 1 or j
    out.append(COMMANDS.get(name) or "\\" + name)
    return j


def _word(s: str, i: int, j: int, out: list[str], modes: list[bool]) -> None:
    """Append the letters s[i:j]: a name, a word of text, a unit, or a product of letters."""
    word = s[i:j]
    lower = word.lower()
    after_unit = len(out) > 1 and out[-1] == "/" and out[-2][0] == '"'
    if modes and modes[-1]:
        out.append(WORDS[lower] if lower in ("and", "or", "infinity") else '"' + (lower if j - i > 1 else word))
    elif j - i == 1 and word < "\u0400":
        unit = after_unit
        number = out and not modes and (out[-1][-1] in DIGITS or (out[-1] == "}" and s[j] == "/"))
        if word in "msg" and number and (s[i - 1] == " " or "." in out[-1]):
            rest = s[j:].strip("\0 ^{}23")  # 3 m^2 is an area and 5 m/s a speed, 3m a product
            unit |= not rest or (rest[0] == "/" and rest[1:].lower() in UNITS)
        out.append('"' + word if unit else word)
    elif word in WORDS:
        out.append(WORDS[word])
    elif '"' + lower in RAISED and s[i - 1] in DIGITS:
        return  # 18th
    elif {lower, lower.removesuffix("s") if j - i > 2 else ""} & KNOWN or after_unit or (lower in CLOCK and ":" in out):
        out.append('"' + lower)
    elif j - i > 3 or (j - i == 3 and word[0].isupper() and word[1:].islower()) or not word.isascii():
        head = word[:-1]
        out.extend((WORDS[head], word[-1]) if head in WORDS else ('"' + lower,))
    else:
        out.extend(word)


# --------------------------------------------------------------------------------------------------- building of values

KINDS = frozenset("text list set seq rel union without matrix quantity ratio clock based congruent R".split())
INFINITY = "\\infty"
INFINITIES: dict[Node, float] = {INFINITY: math.inf, ("*", -1, INFINITY): -math.inf}
CONSTANTS = frozenset(("\\pi", "e", "i", INFINITY))


def _kind(node: Node) -> str:
    """What a node is beyond an expression: "list", "rel", ...; "" for expressions."""
    return node[0] if type(node) is tuple and node[0] in KINDS else ""


def _rational(node: Node) -> bool:
    return type(node) is int or type(node) is Fraction


def _bits(x: int | Fraction) -> int:
    return x.numerator.bit_length() + x.denominator.bit_length()


def _lowest(x: int | Fraction) -> int | Fraction:
    return x.numerator if x.denominator == 1 else x


def names(node: Node) -> frozenset[str]:
    """The variables and constants of an expression or a quantity; none of anything else."""
    if type(node) is str:
        return frozenset((node,))
    inner = type(node) is tuple and _kind(node) in ("", "quantity")
    return frozenset().union(*map(names, node[1:])) if inner else frozenset()


def letters(node: Node) -> frozenset[str]:
    """The names in a node that stand for unknowns."""
    return names(node) - CONSTANTS


class Builder:
    """Makes expressions, with rationals folded up to MAX_BITS. Counts the work; raises Unread of what has no value."""

    def __init__(self, work: Work):
        self.work = work

    def numbers(self, *nodes: Node) -> None:
        """Nothing; raises Unread where a node is no expression, or infinite."""
        wrong = any(_kind(node) or node == INFINITY or (type(node) is tuple and INFINITY in node) for node in nodes)
        _refuse(wrong, "arithmetic with what is no number")

    def gather(self, parts: list[Node], value: int, fold: Callable) -> tuple[int | Fraction, list[Node]]:
        """The rationals among some parts in one, up to MAX_BITS, and the other parts."""
        rest = []
        for part in parts:
            if not _rational(part) or (bits := _bits(part) + _bits(value)) >= MAX_BITS:
                rest.append(part)
            else:
                self.work.spend(bits * bits // 400_000 + bits // 400)
                value = fold(value, part)
        return _lowest(value), rest

    def plus(self, terms: list[Node]) -> Node:
        total, rest = self.gather(terms, 0, add)
        rest += [total] * bool(total or not rest)
        if len(rest) > 1:
            self.numbers(*rest)
        return rest[0] if len(rest) == 1 else ("+", *rest)

    def times(self, factors: list[Node]) -> Node:
        """The product of expressions; or of a number and a matrix, of a sign and infinity or a number in a base."""
        product, rest = self.gather(factors, 1, mul)
        kind = _kind(rest[0]) if len(rest) == 1 else ""
        if kind == "matrix":
            return ("matrix", *(tuple(self.times([product, x]) for x in row) for row in rest[0][1:]))
        if kind == "based" and product == -1 and rest[0][1][0][0] != "-":
            return ("based", ("-" + rest[0][1][0], rest[0][1][1]))
        if rest != [INFINITY] or product not in (1, -1):
            self.numbers(*rest)
        rest[:0] = [product] * (product != 1 or not rest)
        return rest[0] if len(rest) == 1 else ("*", *rest)

    def power(self, base: Node, exponent: Node) -> Node:
        if type(exponent) is int and _rational(base):
            _refuse(not base and exponent <= 0, "division by zero")
            if (bits := _bits(base) * abs(exponent)) <= MAX_BITS:
                self.work.spend(bits * bits // 1_000_000)
                return _lowest(Fraction(base) ** exponent if exponent < 0 else base**exponent)
        self.numbers(base, exponent)
        return base if exponent == 1 else ("^", base, exponent)

    def over(self, above: Node, below: Node) -> Node:
        return self.times([above, self.power(below, -1)])

    def minus(self, node: Node) -> Node:
        return -node if type(node) is int else self.times([-1, node])

    def call(self, name: str, x: Node, base: Node = "e") -> Node:
        self.numbers(x, base)
        if name in DERIVED:
            return self.substitute(DERIVED[name], "x", x)
        return self.over(("\\ln", x), ("\\ln", base)) if base != "e" else ("\\ln" if name == "\\log" else name, x)

    def factorial(self, n: Node, step: int = 1) -> Node:
        self.numbers(n)
        if type(n) is not int:
            return ("!" * step, n)
        _refuse(not 0 <= n <= MAX_WHOLE, f"a factorial of a negative number or beyond {MAX_WHOLE}!")
        self.work.spend(1 + n * n // 20_000)
        return math.factorial(n) if step == 1 else math.prod(range(n, 0, -2))

    def choose(self, n: Node, k: Node) -> Node:
        if type(n) is type(k) is int and 0 <= n <= 8000 and k >= 0:
            self.work.spend(1 + n * n // 60_000)
            return math.comb(n, k)
        self.numbers(n, k)
        return ("\\binom", n, k)

    def literal(self, token: str) -> int | Fraction:
        """The exact value of a number token; 0.1666… repeats its last digits."""
        self.work.spend(1 + len(token) ** 2 // 100_000)
        _refuse(len(token) > MAX_DIGITS, f"a number of more than {MAX_DIGITS} digits")
        if token.isdecimal():
            return int(token)
        mantissa, _, exponent = token.partition("E")
        whole, _, part = mantissa.partition(".")
        _refuse(len(exponent) > 4, "an exponent of ten beyond the bound")
        if part.endswith("…"):
            part = part[:-1]
            period = next((n for n in range(1, 10) if len(part) >= 2 * n and part[-n:] == part[-2 * n : -n]), 0)
            _refuse(not period, "a decimal that goes on")
            return self.repeating(whole + part[:-period], len(part) - period, part[-period:])
        return _lowest(int(whole + part) * Fraction(10) ** (int(exponent or 0) - len(part)))

    def repeating(self, digits: str, places: int, period: str) -> Fraction:
        return (int(digits or 0) + Fraction(int(period), 10 ** len(period) - 1)) / 10**places

    def substitute(self, node: Node, name: str, value: Node) -> Node:
        self.work.spend(2)
        if type(node) is not tuple or _kind(node):
            return value if node == name else node
        parts = [self.substitute(x, name, value) for x in node[1:]]
        if node[0] in ("+", "*"):
            return (self.plus if node[0] == "+" else self.times)(parts)
        build = {"^": self.power, "!": self.factorial, "\\binom": self.choose}.get(node[0])
        return build(*parts) if build else (node[0], *parts)


# ----------------------------------------------------------------------------------------------------------- the parser

SCALES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
NO_UNITS = frozenset("""if is not no more less least most than about approximately when where for with mod modulo base
nor but""".split())  # fmt: skip
CURRENCIES = {"\\" + word: word for word in "euro pound yen rupee cent".split()} | {"\\$": "dollar"}
BASES = {word: str(i) for i, word in enumerate("two three four five six seven eight nine ten eleven twelve".split(), 2)}
SEPARATORS = frozenset((",", ";", "\\or", "\\and"))
RELATIONS = frozenset("= < > <= >= != ~ \\in \\equiv".split())
SIGNS = frozenset(("+", "-", "\\pm", "\\mp"))
STOPS = SEPARATORS | RELATIONS | SIGNS | CURRENCIES.keys() | {"", *""") ] } \\} & \\\\ \\end \\endvmatrix \\endcases :
\\cup \\cap \\setminus \\choose \\over \\rfloor \\rceil ' ? . => \\pmod ...""".split()}  # fmt: skip
BRACKETS = {"(": (")", "]"), "[": (")", "]"), "{": ("}",), "\\{": ("\\}",)}
FENCES = {"|": ("abs", "|"), "\\lfloor": ("floor", "\\rfloor"), "\\lceil": ("ceil", "\\rceil")}
SETS = {"real": ("R",), "reals": ("R",), "integer": ("text", "Z"), "integers": ("text", "Z"), "empty": ("set",)}
SET_WORDS = frozenset("all every any each the set of number numbers value values x real reals for".split())


class Parser(Builder):
    """Recursive descent over the tokens of one answer: `Parser(tokens, work).answer()` is its value, or raises Unread.

    members  = member {("," | ";" | "or" | "and") member}         a member with +- is read once for each sign
    relation = side {("=" | "<" | "\\in" | ...) side}
    side     = quantity {":" quantity} | quantity {("\\cup" | "\\setminus") quantity}
    quantity = words | sum [unit]
    sum      = ["-"] product {("+" | "-" | "\\pm") product}
    product  = powers {["*" | "/"] powers}
    powers   = atom {"^" exponent | "!" | "%" | "\\circ"}

    Each method steps past what it reads. Lists are ("list", (how it is joined,), *members), chains ("rel", (signs),
    *sides), tuples and intervals ("seq", (brackets,), *items)."""

    def __init__(self, tokens: list[str], work: Work, natural: bool = False):
        super().__init__(work)
        _refuse(len(tokens) > MAX_TOKENS, f"more than {MAX_TOKENS} tokens")
        self.tokens, self.depth = [*tokens, "", "", "", ""], 0  # ends that may be looked past
        self.go(0)
        self.signs = self.choice = 0  # how many +- the member has so far; the bits of those read as minus
        self.bars = 0  # open |...|
        self.angle = False  # in the argument of a function, where a degree is a number
        self.modular = False  # after a congruence sign
        self.unit = ""  # of a sign of degree, percent or currency
        self.base = "e" if natural else 10  # of a logarithm without one

    def go(self, at: int) -> None:
        self.at, self.token = at, self.tokens[at]

    def next(self) -> str:
        token = self.token
        self.go(self.at + 1)
        return token

    def take(self, token: str) -> None:
        """Nothing; steps past `token`, or raises Unread where another one stands."""
        _refuse(self.token != token, f"{token or 'the end'!r} expected, {self.token or 'the end'!r} found")
        self.next()

    def answer(self) -> Node:
        node = self.members("")
        self.take("")
        return node

    def members(self, close: str) -> Node:
        found, starts, joints = self.member(), [0], []
        while self.token in SEPARATORS:
            while self.token in SEPARATORS:
                joints.append(self.next())
            if self.token == close:
                break
            starts += [len(found)] * (joints[-1] != ",")
            found += self.member()
        if len(starts) > 1 and "," in joints and all(map(_assigns, found)):
            groups = [found[i:j] for i, j in zip(starts, [*starts[1:], len(found)], strict=True)]
            found = [group[0] if len(group) == 1 else ("list", (",",), *group) for group in groups]
        return found[0] if len(found) == 1 else ("list", (joints[-1] if joints else "",), *found)

    def member(self) -> list[Node]:
        """A member, read once for each choice of its signs +-."""
        start, self.signs, found = self.at, 0, []
        while len(found) < 1 << self.signs:
            self.go(start)
            self.signs, self.choice = 0, len(found)
            found.append(self.relation())
            _refuse(self.signs > MAX_SIGNS, f"more than {MAX_SIGNS} signs +-")
        self.signs = self.choice = 0
        return found

    def relation(self) -> Node:
        sides, signs = [self.side()], []
        while self.token in RELATIONS:
            signs.append(self.next())
            self.modular = signs[-1] == "\\equiv"
            sides.append(self.side())
        if signs in ([], ["\\equiv"]) and {self.token, self.token and self.tokens[self.at + 1]} & {"\\pmod", "\\bmod"}:
            self.go(self.at + 1 + (self.token == "("))
            modulus = self.argument()
            self.go(self.at + (self.token == ")"))
            if type(sides[-1]) is type(modulus) is int and modulus > 0:
                return ("congruent", sides[0] if signs else "", sides[-1] % modulus, modulus)
        return ("rel", tuple(signs), *sides) if signs else sides[0]

    def side(self) -> Node:
        parts, clock, unit = [self.quantity()], False, ()
        while self.token == ":":
            self.next()
            clock = self.token[:1] == "0" and len(self.token) == 2  # 3:05 is a time of day
            parts.append(self.quantity())
        if len(parts) == 2 and _kind(parts[0]) == "text":  # a label
            return parts[1]
        if len(parts) > 1:
            if _kind(parts[-1]) == "quantity":
                _, parts[-1], unit = parts[-1]
            node = ("clock" if clock else "ratio", *parts)
            return ("quantity", node, unit) if unit else node
        node = parts[0]
        while self.token in ("\\cup", "\\setminus") or (self.token == "U" and _kind(node)):
            node = ("without" if self.next() == "\\setminus" else "union", node, self.quantity())
        return node

    def quantity(self) -> Node:
        if self.token[:1] == '"':
            words = []
            while self.token[:1] == '"':
                words.append(self.next())
            kinds = [word[1:] for word in words if word[1:] in SETS]
            if kinds and SET_WORDS.issuperset(word[1:] for word in words if word[1:] != kinds[0]):
                self.go(self.at + (self.token == "x"))  # for all real x
                return SETS[kinds[0]]
            return ("text", _words(words) or "")
        self.unit = ""
        node = self.sum()
        while self.token[1:] in SCALES:
            node = self.times([node, SCALES[self.next()[1:]]])
        if self.token in CURRENCIES:  # 77 euros
            self.unit = CURRENCIES[self.next()]
        unit = (self.named_unit() if self.token[:1] == '"' or self.token == "'" else "") or self.unit
        self.unit = ""
        if not unit or unit.startswith("unit"):
            return node
        self.numbers(node)
        return ("quantity", node, (unit,))

    def named_unit(self) -> str:
        name = suffix = ""
        while True:
            token, word = self.token, self.token[1:] if self.token[:1] == '"' else ""
            if not word and token not in ("^", "/", "'") and (token != "*" or self.tokens[self.at + 1][:1] != '"'):
                return "%" if name == "/cent" else name
            self.next()
            _refuse(word in NO_UNITS, f"{word!r} after a number")
            if token == "^":
                exponent = self.argument()
                _refuse(type(exponent) is not int, "a unit to a power that is no integer")
                name += f"^{exponent}"
            elif not word or word == "per":
                name += "/" if word else token
            elif word in ("square", "sq", "cubic", "cu"):
                suffix = "^3" if word[0] == "c" else "^2"
            else:
                single = word[:-1] if word[-1] == "s" and word[-2:] != "ss" and len(word) > 2 else word
                name, suffix = name + (UNITS.get(word) or UNITS.get(single) or single) + suffix, ""

    def sum(self) -> Node:
        terms = [] if self.token in SIGNS else [self.product()]
        while self.token in SIGNS:
            negative = False
            while self.token in SIGNS:
                token = self.next()
                if token == "\\pm" or token == "\\mp":  # the latter is the other sign than its +-, if there was one
                    self.signs += token == "\\pm" or not self.signs
                    negative ^= (self.choice >> self.signs - 1 & 1) ^ (token == "\\mp")
                else:
                    negative ^= token == "-"
            node = self.product()
            terms.append(self.minus(node) if negative else node)
        return terms[0] if len(terms) == 1 else self.plus(terms)

    def product(self) -> Node:
        factors = [self.powers()]
        while True:
            token = self.token
            if token == "\\bmod" and self.modular:
                break
            if token in ("*", "\\bmod") or (token == "/" and self.tokens[self.at + 1][:1] != '"'):
                self.next()
                while self.token in ("-", "+"):
                    factors.append(-1 if self.next() == "-" else 1)
                node = self.powers()
                if token != "\\bmod":
                    factors.append(self.power(node, -1) if token == "/" else node)
                elif type(x := self.times(factors)) is type(node) is int and node > 0:
                    factors = [x % node]
                else:
                    raise Unread("a remainder of what are no whole numbers")
            elif token in STOPS or token[0] in '"/' or (token == "|" and self.bars):
                break
            elif token[0] in DIGITS and self.tokens[self.at - 1][0] in DIGITS:
                raise Unread("two numbers side by side")
            elif token == "U" and _kind(factors[-1]):
                break
            else:
                factors.append(self.powers())
        return factors[0] if len(factors) == 1 else self.times(factors)

    def powers(self) -> Node:
        node = self.atom()
        while True:
            token, following = self.token, self.tokens[self.at + 1]
            raised = token == "^" and following in ("\\circ", "'")
            _refuse(token == "\\circ" and following[:1].isdigit(), "an operation that is not known")  # 7 \circ 3
            if raised:
                token = self.next() and self.token
            if token == "\\circ":
                self.next()
                scale = self.next() if self.token in ("C", "F") else ""
                if self.angle:
                    node = self.times([node, "\\pi", Fraction(1, 180)])
                else:
                    self.unit = "fahrenheit" if scale == "F" else "degree"
            elif raised:  # f^\prime
                prime = self.next()
                node = node + prime if type(node) is str else node
            elif token == "^":
                exponent = self.exponent()
                node = self.power(node + self.subscript() if type(node) is str else node, exponent)  # v^2_0
            elif token == "!":
                self.next()
                node = self.factorial(node, 1 + (self.token == "!" and bool(self.next())))
                _refuse(self.token == "!", "a factorial of a factorial")
            elif token == "%":
                self.unit = self.next()
            else:
                return node

    def exponent(self) -> Node:
        self.next()
        self.enter()
        negative = self.token == "-" and bool(self.next())
        node = self.argument()
        if self.token == "^":
            node = self.power(node, self.exponent())
        self.depth -= 1
        return self.minus(node) if negative else node

    def argument(self) -> Node:
        """An argument, in braces or one token. A number ends there: the 2 of x^2\\\\frac12 begins no mixed number."""
        token, at = self.plain(self.at)
        if not token:
            return self.atom()
        self.go(at)
        return self.literal(token)

    def enter(self) -> None:
        self.depth += 1
        self.work.spend(3)
        _refuse(self.depth > MAX_DEPTH, f"nested deeper than {MAX_DEPTH}")

    def atom(self) -> Node:
        self.enter()
        token = self.next()
        if token[:1] in DIGITS or (token[:1] == "." and token[1:2] in DIGITS):
            node = self.number(token)
        elif token in CONSTANTS:
            node = token
        elif (len(token) == 1 and token.isalpha()) or token in GREEK:
            node = token + self.subscript()
            while self.token == "'":
                node += self.next()
        else:
            _refuse(token not in ATOMS, f"{token or 'the end'!r} is no mathematics here")
            node = ATOMS[token](self, token)
        self.depth -= 1
        return node

    def fraction(self, token: str) -> Node:
        above = self.argument()
        return (self.over if token == "\\frac" else self.choose)(above, self.argument())

    def root(self, _: str) -> Node:
        degree = self.atom() if self.token == "[" else 2
        return self.power(self.argument(), self.over(1, degree))

    def fenced(self, token: str) -> Node:
        name, close = FENCES[token]
        self.bars += token == "|"
        node = self.call(name, self.sum())
        self.bars -= token == "|"
        self.take(close)
        return node

    def price(self, token: str) -> Node:
        self.unit = CURRENCIES[token]
        return self.atom()

    def series(self, token: str) -> Node:
        self.take("_")
        start = self.atom()
        self.take("^")
        high, node = self.argument(), self.product()
        fits = _assigns(start) and type(start[3]) is type(high) is int and high - start[3] <= 1000
        _refuse(not fits, "a sum or product over no range of whole numbers")
        terms = [self.substitute(node, start[2], n) for n in range(start[3], high + 1)]
        return (self.plus if token == "\\sum" else self.times)(terms)

    def folded(self, token: str) -> Node:
        node, whole = self.atom(), token in ("\\gcd", "\\lcm")
        items = node[NESTED[_kind(node)] :] if _kind(node) in ("seq", "set") else ()
        fits = items and all(type(x) is int if whole else _rational(x) for x in items)
        _refuse(not fits, f"{token} of what are no numbers")
        return FOLDS[token](*items) if whole else FOLDS[token](items)

    def number(self, token: str) -> Node:
        following = self.token
        if following == "_":
            base = "".join(c for c in self.subscript()[1:].replace("base", "") if c not in "()")
            base = BASES.get(base, base)
            fits = token.isdecimal() and base.isdecimal() and int(max(token)) < int(base[:3]) < 37
            _refuse(not fits, "no number in a base")
            return ("based", (token.lstrip("0"), base))
        value = self.literal(token)
        if "." in token and (following == "\\overline" or (following == "(" and token[-1] == ".")):
            part, at = self.plain(self.at + 1)
            self.go(at)
            _refuse(not part.isdecimal(), "a repeating part that is no digits")
            if following == "(":
                self.take(")")
            self.literal(part)
            return self.repeating(token.replace(".", ""), len(token) - token.index(".") - 1, part)
        if type(value) is int and "." not in token and (following == "\\frac" or self.tokens[self.at + 1] == "/"):
            above, at = self.plain(self.at + (following == "\\frac"))
            below, at = self.plain(at + (following != "\\frac"))
            if (above + below).isdecimal() and len(above + below) < 40 and 0 < int(above or 0) < int(below or 0):
                self.go(at)
                return value + Fraction(int(above), int(below))
        return value

    def plain(self, at: int) -> tuple[str, int]:
        """The number at `at`, in braces or not, "" where there is none; and the index after it."""
        braced = self.tokens[at] == "{" and self.tokens[at + 2] == "}"
        token = self.tokens[at + braced]
        return token if token[:1] in DIGITS else "", at + 1 + 2 * braced

    def subscript(self) -> str:
        """The tokens of a subscript as one text, "" where there is none."""
        if self.token != "_":
            return ""
        start = self.at + 1
        braced = self.tokens[start] == "{" and "}" in self.tokens[start:]
        self.go(self.tokens.index("}", start) + 1 if braced else min(start + 1, len(self.tokens) - 4))
        return "_" + "".join(self.tokens[start + braced : self.at - braced]).replace('"', "")

    def bracketed(self, opener: str) -> Node:
        closers, bars, self.bars = BRACKETS[opener], self.bars, 0
        signs, choice = self.signs, self.choice
        if opener == "\\{" and self.tokens[self.at + 1] in ("|", ":"):
            self.go(self.at + 2)
        items: list[Node] = []
        if opener == "\\{" and self.token not in closers:
            node = self.members(closers[0])
            items = list(node[2:]) if _kind(node) == "list" else [node]
            self.signs, self.choice = signs, choice
        elif self.token not in closers:
            items.append(self.relation())
            if opener == "{" and self.token in ("\\choose", "\\over"):
                build = self.choose if self.next() == "\\choose" else self.over
                items = [build(items[0], self.relation())]
            while self.token in (SEPARATORS if opener == "{" else (",", ";")):
                self.next()
                items.append(self.relation())
        _refuse(self.token not in closers, "a bracket is not closed")
        brackets, self.bars = opener + self.next(), bars
        if opener in "([" and len(items) > 1:
            return ("seq", (brackets,), *items)
        if len(items) != 1 or opener == "\\{":
            return items[0] if len(items) == 1 and _kind(items[0]) in ("rel", "R") else ("set", *items)
        _refuse(brackets in ("(]", "[)"), "brackets do not match")
        return items[0]

    def function(self, name: str) -> Node:
        base, exponent = self.base if name == "\\log" else "e", 1
        if self.token == "_":
            self.next()
            base = self.argument()
            name = "\\log" if name == "\\lg" else name
        if self.token == "^":
            exponent = self.exponent()
            if exponent == -1 and name[1:] in ("sin", "cos", "tan", "cot", "sec", "csc"):
                name, exponent = "\\arc" + name[1:], 1
        outer, self.angle = self.angle, True
        factors = [self.powers() if self.token not in BRACKETS else self.atom()]
        if self.tokens[self.at - 1] not in (")", "]", "}"):
            while self.token not in STOPS and self.token not in FUNCTIONS and self.token[0] not in '*/(["0123456789':
                if self.token == "|" and self.bars:
                    break
                factors.append(self.powers())
        self.angle = outer
        return self.power(self.call(name, self.times(factors), base), exponent)

    def matrix(self, token: str) -> Node:
        rows: list[list[Node]] = [[]]
        while not self.token.startswith("\\end"):
            rows[-1].append(self.relation())
            self.go(self.at + (self.token == ","))
            if self.token == "\\\\":
                rows.append([])
            elif self.token != "&":
                break
            self.next()
        rows = rows[: len(rows) - (not rows[-1])]
        uneven = len({len(row) for row in rows}) != 1
        _refuse(uneven or not self.next().startswith("\\end"), "a matrix that is not closed, or of uneven rows")
        if token == "\\begincases" and len(rows[0]) == 1:
            return ("list", (",",), *sum(rows, []))
        return ("matrix", *map(tuple, rows))

    def determinant(self, token: str) -> Node:
        node = self.matrix(token) if token != "\\det" else self.atom()
        square = _kind(node) == "matrix" and len(node) == len(node[1]) + 1 <= 6
        _refuse(not square, "a determinant of no small square")
        return self.expand(node[1:])

    def expand(self, rows: tuple) -> Node:
        self.work.spend(3)
        minors = [self.expand(tuple(row[:j] + row[j + 1 :] for row in rows[1:])) for j in range(len(rows))]
        return self.plus([self.times([(-1) ** j, rows[0][j], minor]) for j, minor in enumerate(minors)]) if rows else 1


ATOMS: dict[str, Callable[[Parser, str], Node]] = {
    "\\frac": Parser.fraction, "\\binom": Parser.fraction, "\\sqrt": Parser.root, "\\begin": Parser.matrix,
    "\\begincases": Parser.matrix, "\\beginvmatrix": Parser.determinant, "\\det": Parser.determinant,
    "\\sum": Parser.series, "\\prod": Parser.series, "\\emptyset": lambda parser, token: ("set",),
    "\\R": lambda parser, token: ("R",),
    **{f"\\mathbb{name}": lambda parser, token: ("text", token[-1]) for name in "ZNQC"},
    **dict.fromkeys(BRACKETS, Parser.bracketed), **dict.fromkeys(FUNCTIONS, Parser.function),
    **dict.fromkeys(FENCES, Parser.fenced), **dict.fromkeys(CURRENCIES, Parser.price),
    **dict.fromkeys(FOLDS, Parser.folded),
}  # fmt: skip


# Functions in terms of others and of those before them.
DERIVED: dict[str, Node] = {}
for formula in _phrases(r"""
\exp e^x|\sec \frac{1}{\cos x}|\csc \frac{1}{\sin x}|\tan \frac{\sin x}{\cos x}|\cot \frac{\cos x}{\sin x}
\sinh \frac{e^x-e^{-x}}{2}|\cosh \frac{e^x+e^{-x}}{2}|\sech \frac{1}{\cosh x}|\csch \frac{1}{\sinh x}
\tanh \frac{\sinh x}{\cosh x}|\coth \frac{\cosh x}{\sinh x}|\lg \log_{10} x|\arcsin 2\arctan\frac{x}{1+\sqrt{1-xx}}
\arccos \frac\pi2-\arcsin x|\arccot \frac\pi2-\arctan x|\arcsec \arccos\frac1x|\arccsc \arcsin\frac1x"""):
    name, value = formula.split(None, 1)
    DERIVED[name] = Parser(scan(value), Work()).answer()


def _assigns(node: Node) -> bool:
    return _kind(node) == "rel" and node[1] == ("=",) and type(node[2]) is str


def read(text: str, work: Work | None = None) -> Node:
    """The value of an answer as a tree; ("text", the text, why) of what is no mathematics here. Never raises."""
    text = _bare(text)
    if len(text) > MAX_LENGTH:
        return ("text", text, f"longer than {MAX_LENGTH} characters")
    try:
        return parse(scan(text), work or Work())
    except Spent as error:
        return ("text", text, str(error))


CONDITIONS = frozenset('"for "where "with "approximately "approx "about "roughly "whenever "provided \\forall'.split())
DENIALS = frozenset('"not "no "most "least "more "less "than "about "if "or "never "neither "cannot'.split())


def parse(tokens: list[str], work: Work, natural: bool = False, depth: int = 0) -> Node:
    """The value of tokens as a tree, if need be without words before it, a condition after it, or sides that cannot be
    read; a text node with the reason where they have none. `natural` takes a logarithm without a base to base e."""
    try:
        return Parser(tokens, work, natural).answer()
    except (Unread, ArithmeticError, RecursionError) as error:
        why = str(error)
    for part in _parts(tokens) if depth < 3 and len(tokens) <= MAX_TOKENS else ():
        node = parse(part, work, natural, depth + 1)
        if _kind(node) != "text" and _agrees(tokens[: len(tokens) - len(part)], node, work):
            return node
    return ("text", "".join(tokens), why)


def _parts(tokens: list[str]) -> Iterator[list[str]]:
    if "=>" in tokens:
        yield tokens[len(tokens) - tokens[::-1].index("=>") :]
    if (at := _condition(tokens)) > 0:
        yield tokens[:at]
    depth, label, side = 0, 0, 0
    for i, token in enumerate(tokens):
        depth += (token in BRACKETS) - (token in (")", "]", "}", "\\}"))
        if depth == 0 and token in ('"is', '"are', '"equals', '"be', ":"):
            label = i + 1
        elif depth == 0 and token in ("=", "~"):
            side = i + 1
        elif depth == 0 and token in SEPARATORS | FLIPPED.keys():
            side = 0
    if label and tokens[0][0] == '"' and not DENIALS.intersection(tokens[:label]):
        yield tokens[label:]
    if any(token[-1].isalpha() for token in tokens[:side]):
        yield tokens[side:]


def _condition(tokens: list[str]) -> int:
    """Where a condition behind an answer begins, or -1: what follows has to be words, names and relations."""
    at = next((i for i, token in enumerate(tokens) if token in CONDITIONS), -1)
    if at < 0 and tokens[-1:] == [")"] and "(" in tokens and {"\\in", "!=", "~", *FLIPPED}.intersection(tokens):
        at = len(tokens) - 1 - tokens[::-1].index("(")
        return at if tokens[at - 1][-1] in "})]0123456789" else -1  # 2^{n} (n > 0)
    rest = [token for token in tokens[at:] if token[0] != '"'] if at > 0 else []
    more = CONDITIONS.intersection(tokens[at + 1 :]) or {"&", "\\\\", "\\or"}.intersection(rest)
    if more or ("," in rest and not RELATIONS.intersection(rest[len(rest) - rest[::-1].index(",") :])):
        return -1
    return at - (at > 0 and tokens[at - 1] in ("(", ","))


def _agrees(before: list[str], node: Node, work: Work) -> bool:
    """Whether no side before the last one is another number."""
    while before[-1:] in (["="], ["~"]):
        start = max((i + 1 for i, token in enumerate(before[:-1]) if token in ("=", "~")), default=0)
        value, before = parse(before[start:-1], work, depth=3), before[:start]
        if _rational(value) and _rational(node) and value != node:
            return False
    return True


# ---------------------------------------------------------------------------------------------------------- the numbers

ZERO, ONE = Decimal(0), Decimal(1)
Complex = tuple[Decimal, Decimal]
SMALL = math.prod(n for n in range(3, 100) if all(n % k for k in range(2, n)))


def _draw(seed: str) -> int:
    return int.from_bytes(blake2b(seed.encode(errors="replace"), digest_size=32).digest())


class Residues(dict):
    """A point modulo a prime of 125 bits, drawn from a seed, where i is a root of -1; and the values found there."""

    def __init__(self, seed: str, work: Work, prime: int = 0):
        super().__init__()
        self.seed, self.work = seed, work
        self.prime = prime or (_draw(seed) >> 131 | 1 << 124) // 4 * 4 + 1
        while math.gcd(self.prime, SMALL) > 1 or any(pow(n, self.prime - 1, self.prime) > 1 for n in (2, 3)):
            work.spend(4)
            self.prime += 4
        base = next(n for n in range(2, 1000) if pow(n, self.prime // 2, self.prime) == self.prime - 1)
        self["i"] = pow(base, self.prime // 4, self.prime)

    def of(self, node: Node) -> int:
        """The value of a rational expression modulo the prime. Raises NotImplementedError at any other operation."""
        if node in self:
            return self[node]
        self.work.spend(2)
        if type(node) is str:
            value = _draw(f"{node} {self.seed}")
        elif _rational(node):
            value = node.numerator * pow(node.denominator, -1, self.prime)
        elif node[0] in ("+", "*"):
            value = (sum if node[0] == "+" else math.prod)(map(self.of, node[1:]))
        elif node[0] != "^" or type(node[2]) is not int:
            raise NotImplementedError
        else:
            base, exponent = self.of(node[1]), node[2]
            _refuse(not base and exponent < 0, "division by zero")
            self.work.spend(20)
            value = pow(base, exponent if -9 < exponent < 99 else exponent % (self.prime - 1), self.prime)
        self[node] = value % self.prime
        return self[node]


class Reals:
    """Evaluates expressions at the point that `draw` gives, in the decimal context of `digits` digits that the caller
    has set. Complex values appear only where `imaginary` allows them. Raises Unread where no value is in reach."""

    def __init__(self, digits: int, draw: Callable[[str], Decimal], imaginary: bool, work: Work):
        self.digits, self.draw, self.imaginary, self.work = digits, draw, imaginary, work
        self.step = 1 + digits * digits // 40_000  # the work of a product
        self.long = 20 + digits + digits**3 // 60_000  # the work of a logarithm, exponential or power
        self.tiny = ONE.scaleb(12 - digits)
        self.point: dict[str, Complex] = {"i": (ZERO, ONE)}

    def value(self, node: Node) -> Complex:
        self.work.spend(self.step)
        if type(node) is str:
            if node not in self.point:
                self.work.spend(self.long if node in CONSTANTS else 1)
                x = 4 * self.arctan(ONE) if node == "\\pi" else ONE.exp() if node == "e" else self.draw(node)
                self.point[node] = x, ZERO
            return self.point[node]
        if _rational(node):
            self.work.spend(_bits(node) ** 2 // 600_000)
            return Decimal(node.numerator) / node.denominator, ZERO
        name = node[0]
        if name == "+":
            return tuple(map(self.total, zip(*map(self.value, node[1:]), strict=True)))
        if name == "*":
            return reduce(_product, map(self.value, node[1:]))
        x, y = self.value(node[1])
        if name == "^":
            return self.power(x, y, node)
        if name == "\\ln":
            return self.ln(x, y)
        if name == "abs":
            return ((x * x + y * y).sqrt() if y else abs(x)), ZERO
        _refuse(y, f"{name} of a complex number")
        return (REAL[name](self, x) if name in REAL else self.whole(name, x, node)), ZERO

    def total(self, terms: tuple[Decimal, ...]) -> Decimal:
        sizes, total = [abs(x) for x in terms if x], sum(terms)
        if len(sizes) < 2:
            return total
        rough = self.digits == ROUGH.prec and abs(total) < max(sizes) * ONE.scaleb(-12)
        apart = min(sizes) < max(sizes) * ONE.scaleb(20 - self.digits)
        _refuse(rough or apart, "a sum of terms too far apart, or too near for a rough value")
        return ZERO if abs(total) < max(sizes) * self.tiny else total

    def power(self, x: Decimal, y: Decimal, node: tuple) -> Complex:
        _, base, exponent = node
        u, v = self.value(exponent)
        if not x and not y:
            _refuse(u <= 0, "division by zero")
            return ZERO, ZERO
        p, q = (exponent.numerator, exponent.denominator) if type(exponent) is Fraction else (0, 0)
        if not q and abs(u) < 10**9 and u == u.to_integral_value():
            p, q = int(u), 1
        self.work.spend(self.step * (20 + 4 * p.bit_length()))
        if not y and not v and (x > 0 or q % 2):  # a negative number has a real odd root: (-8)^{1/3} = -2
            self.work.spend(2 * self.long * (q not in (1, 2)))
            if q == 2:
                shift = self.digits - x.adjusted() // 2
                size = Decimal(math.isqrt(int(x.scaleb(2 * shift)))).scaleb(-shift) ** p
            else:
                size = abs(x) ** (p if q == 1 else u)
            return (-size if x < 0 and p % 2 else size), ZERO
        size, angle = _product((u, v), (ONE, ZERO) if base == "e" else self.ln(x, y))
        self.work.spend(self.long)
        size = size.exp()
        return (size * self.sine(angle + self.value("\\pi")[0] / 2), size * self.sine(angle)) if angle else (size, ZERO)

    def ln(self, x: Decimal, y: Decimal) -> Complex:
        self.work.spend(self.long)
        if x > 0 and not y:
            return x.ln(), ZERO
        _refuse(not self.imaginary or not (x or y), "no real value, or the logarithm of 0")
        half = self.value("\\pi")[0] / (-2 if y < 0 else 2)
        return (x * x + y * y).ln() / 2, self.arctan(y / x) + (2 * half if x < 0 else 0) if x else half

    def sine(self, x: Decimal) -> Decimal:
        _refuse(abs(x) > 10**6, "an angle beyond a million")
        turn = self.value("\\pi")[0] * 2
        total = self.series(x - (x / turn).to_integral_value() * turn, True)
        return ZERO if abs(total) < self.tiny else total

    def arctan(self, x: Decimal) -> Decimal:
        self.work.spend(60 * self.step)
        for _ in range(3):  # atan x = 2 atan(x / (1 + sqrt(1 + x^2)))
            x /= 1 + (1 + x * x).sqrt()
        return 8 * self.series(x, False)

    def series(self, x: Decimal, factorials: bool) -> Decimal:
        """x - x^3 / 3 + x^5 / 5 - ..., or with 3! and 5! for 3 and 5."""
        term = power = total = x
        k = below = 1
        while abs(term) > self.tiny * self.tiny:
            self.work.spend(2 * self.step)
            k += 2
            power *= -x * x
            below = below * k * (k - 1) if factorials else k
            term = power / below
            total += term
        return total

    def rounded(self, x: Decimal, how: str = "") -> Decimal:
        near = x.to_integral_value()
        if abs(x - near) <= self.tiny * (1 + abs(x)):
            return near
        _refuse(not how, "a factorial or binomial of no whole number")
        return x.to_integral_value(how)

    def whole(self, name: str, x: Decimal, node: tuple) -> Decimal:
        n, k = self.rounded(x), self.rounded(self.value(node[2])[0]) if name == "\\binom" else ZERO
        _refuse(not (0 <= n <= MAX_WHOLE and 0 <= k <= MAX_WHOLE), "a factorial or binomial beyond the bounds")
        build = Builder(self.work)
        return self.value(build.choose(int(n), int(k)) if name == "\\binom" else build.factorial(int(n), len(name)))[0]


REAL: dict[str, Callable[[Reals, Decimal], Decimal]] = {
    "\\sin": Reals.sine,
    "\\cos": lambda reals, x: reals.sine(x + reals.value("\\pi")[0] / 2),
    "\\arctan": Reals.arctan,
    "floor": lambda reals, x: reals.rounded(x, "ROUND_FLOOR"),
    "ceil": lambda reals, x: reals.rounded(x, "ROUND_CEILING"),
}


def _product(x: Complex, y: Complex) -> Complex:
    (a, b), (c, d) = x, y
    return (a * c - b * d, a * d + b * c) if b or d else (a * c, ZERO)


def _close(a: Complex, b: Complex, tolerance: Decimal) -> bool:
    bound = max(map(abs, a + b)) * tolerance
    return abs(a[0] - b[0]) <= bound and abs(a[1] - b[1]) <= bound


def _width(node: Node) -> int:
    """About the number of digits of the longest whole number in a node."""
    if _rational(node):
        return max(node.numerator.bit_length(), node.denominator.bit_length()) * 3 // 10
    return max(map(_width, node), default=0) if type(node) is tuple else 0


# ------------------------------------------------------------------------------------------------------- the comparison

NESTED = {"seq": 2, "list": 2, "rel": 2, "set": 1, "union": 1, "without": 1}  # where the parts of a kind begin
REGIONS = frozenset(("rel", "union", "without", "R", "seq"))
HOLDS = {"<": lt, "<=": le, ">": gt, ">=": ge, "!=": ne, "\\in": None}
FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
REAL_LETTERS = frozenset("r s t u v w x y z".split()) | GREEK  # others are whole where there is a floor or ceiling
SCALE = (1, 0, 4, 1, 0, 30, 900, 0, 4)  # of the nine points; 0 is a whole one, for factorials and binomials
NEGATIVE = {3: 1, 5: 2, 6: 4, 8: 8}  # the bit that makes a letter negative at a point
BITS = (1, 2, 4, 8, 7, 11, 13, 14, 15)  # of the letters in order
RUN = range(9, 41)  # points in whole numbers: 16 from a small one upwards, 16 from -1 downwards
TRAPS = [InvalidOperation, DivisionByZero, Overflow]
ROUGH = Context(28, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=TRAPS)


def _bare(text: str) -> str:
    """An answer without its box, quotes, the spaces around it and a full stop; with a price for a lone dollar sign."""
    if "\\boxed" in text or "\\fbox" in text:
        boxes = _boxes(text, Work())
        text = boxes[-1][2] if boxes else ""
    text = text.strip()
    text = text if text.endswith("...") else text.rstrip(".。")
    while len(text) > 2 and text[0] == text[-1] and text[0] in '_`*"':
        text = text[1:-1].strip().rstrip(".")
    for time in ("a.m", "p.m", "A.M", "P.M") if ".m" in text or ".M" in text else ():
        text = text.replace(time + ".", time).replace(time, f"\\text{{ {time[0]}m}}")
    return "\\" + text if text[:1] == "$" and text.count("$") == 1 else text


def judge(a: str, b: str, work: Work, directed: bool = False) -> tuple[bool, str]:
    """The verdict on two answers, and why. `directed` says that b is the gold answer."""
    x, y = a.lstrip(" \\$").rstrip(" $."), b.lstrip(" \\$").rstrip(" $.")
    if x.isdecimal() and y.isdecimal() and x.isascii() and y.isascii():  # the most frequent ones soon
        return x.lstrip("0") == y.lstrip("0"), "not equal"
    a, b = _bare(a), _bare(b)
    if max(len(a), len(b)) > MAX_LENGTH:
        return bool(a) and a == b, f"not equal as far as decided: longer than {MAX_LENGTH} characters"
    left, right = scan(a), scan(b)
    if not all(any(token[-1].isalnum() or token[-1] in "}…" for token in tokens) for tokens in (left, right)):
        return False, "nothing to compare"
    if left == right:
        return True, "equal"
    try:
        return Judge(a, b, work).verdict(left, right, directed)
    except (ArithmeticError, RecursionError, Spent) as error:
        return False, f"not equal as far as decided: {error}"


def _words(tokens: list[str]) -> str | None:
    """Tokens that are only words and letters as one text, without case, article and brackets; None of others."""
    if tokens[0][0] in DIGITS:
        return None
    dropped = ("{", "}", ".", ":", "?", '"') + (() if {",", ";"}.intersection(tokens) else ("(", ")"))
    words = [token.strip('"') for token in tokens if token not in dropped]
    if not words or not all(word.strip("\\").isalpha() or word in "(),;" for word in words) or tokens in (["e"], ["i"]):
        return None
    if words[0] == "there" and words[1:2] in (["is"], ["are"]):
        words = words[2:] or words
    if words[0] in ("a", "an", "the") or (words[0] in ("option", "choice", "answer") and len(words[-1]) == 1):
        words = words[len(words) > 1 :]
    return "".join(word.removesuffix("s") if len(words) > 1 and len(word) > 4 else word for word in words).lower()


def _choice(tokens: list[str]) -> tuple[str, list[str]]:
    """The letter and the rest of a labelled choice, (C) 12 or C) 12 or C. 12; "" where it is none, or several."""
    opened = tokens[0] == "("
    head, mark, *rest = [*tokens[opened:], "", ""]
    letter = head.strip('"').upper()
    fits = letter in CHOICES and head in (letter, f'"{letter}', f'"{letter.lower()}')
    if not fits or (mark != ")" and (opened or mark not in (".", ":"))):
        return "", []
    several = any(x.strip('"').upper() in CHOICES and y in (")", ":") for x, y in pairwise(rest))
    return ("", []) if several else (letter.lower(), rest[:-2])


class Judge(Builder):
    """Compares two answers. The points at which it does depend on both, so that none is known beforehand."""

    def __init__(self, a: str, b: str, work: Work):
        super().__init__(work)
        self.a, self.b, self.seed = a, b, "\0".join(sorted((a, b)))
        self.directed, self.trees, self.context = False, (), None
        self.reals: dict[tuple[int, bool], Reals] = {}
        self.values: dict[tuple, Complex | Exception] = {}

    def verdict(self, left: list[str], right: list[str], directed: bool) -> tuple[bool, str]:
        self.directed = directed
        if self.same_words(left, right):
            return True, "equal"
        why, readings = "", [(left, right)]
        if "," in self.a or "," in self.b:  # 100,200 may be a list after all
            readings += [(scan(self.a, False), right), (left, scan(self.b, False))]
        for one, other in readings:
            for natural in (False, True) if "\\log" in one or "\\log" in other else (False,):
                x, y = self.trees = parse(one, self.work, natural), parse(other, self.work, natural)
                self.values, self.reals, self.context = {}, {}, None
                try:
                    equal = (self.match(x, y) and self.conditions(one, other)) or self.labelled(one, other, x, y)
                    if equal or (directed and self.rounds(x, y, other)):
                        return True, "equal"
                except Unread as error:
                    why = f" as far as decided: {error}"
        return False, "not equal" + why

    def same_words(self, left: list[str], right: list[str]) -> bool:
        words, others = _words(left), _words(right)
        if words and words == others:
            return True
        for one, other in ((words, right), (others, left)):
            if one in VERDICTS and other[0].strip('"') == one and not {'"' + VERDICTS[one], "\\or"} & {*other}:
                return one != "no" or other[1:2] in ([","], ["."], [";"], [":"], ["-"])
        return False

    def labelled(self, left: list[str], right: list[str], x: Node, y: Node) -> bool:
        """Whether one is a labelled choice and the other its label or its value: (C) 12 is both C and 12."""
        for one, other, value in ((left, right, y), (right, left, x)):
            letter, rest = _choice(one)
            if letter and not _choice(other)[1]:
                return letter == _words(other) or (bool(rest) and self.match(parse(rest, self.work), value))
        return False

    def conditions(self, left: list[str], right: list[str]) -> bool:
        """Whether not both answers have a condition behind them, or the same one but for its words."""
        found = [tokens[at:] if (at := _condition(tokens)) > 0 else [] for tokens in (left, right)]
        one, other = ([token for token in tokens if token[0] != '"'] for tokens in found)
        return not one or not other or one == other

    def rounds(self, x: Node, y: Node, gold: list[str]) -> bool:
        """Whether the gold answer is a decimal of seven digits or more, and x exact and the same but for the last."""
        places = len(gold[-1].partition(".")[2])
        if len(gold) > 2 or type(y) is not Fraction or _rational(x) or not places or gold[-1][-1] not in DIGITS:
            return False
        size = self.size(x)
        return len(gold[-1].lstrip("0.")) > 7 and size is not None and abs(size - y) < 5 * 10.0**-places

    def match(self, a: Node, b: Node) -> bool:
        self.work.spend(2)
        kind, other = kinds = _kind(a), _kind(b)
        if not kind and not other:
            return self.same(a, b)
        if "text" in kinds and "rel" not in kinds:
            return kind == other and a[1] == b[1]
        if a == b:
            return True
        if kind == other == "seq" and a[1] == b[1]:
            return len(a) == len(b) and all(map(self.match, a[2:], b[2:]))
        one, values = (_assigned(a), _assigned(b)) if "rel" in kinds or "list" in kinds else ({}, {})
        if one and values:
            return one.keys() == values.keys() and all(self.match(one[name], values[name]) for name in one)
        named, node = (one, b) if one else (values, a)
        if named and _kind(node) == "seq" and node[1] == ("()",):
            return len(named) == len(node) - 2 and all(map(self.match, named.values(), node[2:]))
        if kind in REGIONS or other in REGIONS:
            with suppress(Unread, KeyError):  # the latter of what is no end
                return self.same_region(a, b)
        if kind == other == "rel":
            return self.same_relation(a, b)
        return next((compare(self, a, b) for name, compare in COMPARISONS.items() if name in kinds), False)

    def same_members(self, a: Node, b: Node) -> bool:
        """Unordered and complete. In a set, or where "or" joins them, a member may come twice."""
        kinds = _kind(a), _kind(b)
        left, right = ([*x[NESTED[_kind(x)] :]] if _kind(x) in ("list", "set") else [x] for x in (a, b))
        _refuse(max(len(left), len(right)) > MAX_MEMBERS, f"more than {MAX_MEMBERS} members")
        if "set" in kinds or any(_kind(x) == "list" and x[1] == ("\\or",) for x in (a, b)):
            for found in (left, right):
                found[:] = [x for i, x in enumerate(found) if not any(self.match(x, y) for y in found[:i])]
        if len(left) != len(right):
            return self.same_conditioned(a, b) or self.same_conditioned(b, a)
        for x in left:
            at = next((i for i, y in enumerate(right) if self.match(x, y)), None)
            if at is None:
                return False
            del right[at]
        return True

    def same_conditioned(self, a: Node, b: Node) -> bool:
        """Whether a is b with a condition on its letters behind it: 2^n-1, n >= 1."""
        if _kind(a) != "list" or a[1] != (",",) or len(a) != 4 or _kind(b) == "list" or _kind(a[3]) != "rel":
            return False
        first, bound = a[2], letters(a[3][2])
        inside = bound and bound <= letters(first[-1] if _kind(first) == "rel" else first)
        return bool(inside) and not {"=", "~"}.intersection(a[3][1]) and self.match(first, b)

    def same_quantity(self, a: Node, b: Node) -> bool:
        """A unit may be left out on either side, but not differ; 35% is 35 or 0.35."""
        (x, (unit,)), (y, (other,)) = (node[1:] if _kind(node) == "quantity" else (node, ("",)) for node in (a, b))
        if (unit != other and unit and other) or _kind(x) != _kind(y):
            return False
        percent = unit != other and "%" in (unit, other) and not _kind(x)
        x_part, y_part = self.over(x, 100) if percent and unit else x, self.over(y, 100) if percent and other else y
        return self.match(x, y) or (percent and self.same(x_part, y_part))

    def same_based(self, a: Node, b: Node) -> bool:
        digits, value = (a[1][0], b) if _kind(a) == "based" else (b[1][0], a)
        return type(value) is int and len(digits) < MAX_DIGITS and int(digits) == value

    def same_matrix(self, a: Node, b: Node) -> bool:
        if any(_kind(x) not in ("matrix", "seq") or x[1] in (("[]",), ("(]",), ("[)",)) for x in (a, b)):
            return False
        one, other = (x[1:] if _kind(x) == "matrix" else tuple((y,) for y in x[2:]) for x in (a, b))
        return [*map(len, one)] == [*map(len, other)] and all(map(self.match, sum(one, ()), sum(other, ())))

    def same_ratio(self, a: Node, b: Node) -> bool:
        """Up to scale, and a : b is a/b; but 10:50 may be a time of day and is only itself, as is one with a zero."""
        left, right = (node[1:] if _kind(node) == "ratio" else (node, 1) for node in (a, b))
        both = left + right
        if len(left) != len(right) or any(map(_kind, both)):
            return False
        whole = len(both) == 4 and all(type(x) is int for x in both)
        times = [9 < x < 60 for x in both] if whole else []
        if [True, True] in (times[1::2], times[:2], times[2:]) or 0 in both:
            return all(map(self.same, left, right))
        return all(self.same(self.times([left[0], y]), self.times([right[0], x])) for x, y in zip(left, right))

    def same_solved(self, a: Node, b: Node) -> bool:
        found, value = (self.solved(a), b) if _kind(a) == "rel" else (self.solved(b), a)
        if self.directed and _kind(b) == "rel" and b[1] == ("=",) and letters(b[2]) and not _plain(b[2]):
            return False  # 9 is no answer to what asks for u+v = 9
        return any(self.match(x, value) for x in found)

    def solved(self, relation: Node) -> list[Node]:
        """What a chain of equal signs says a value is: 5 of x = 5 and of m+n = 5, t-2 of h(t) = t-2, 8 of n = 2^3 = 8,
        the last side and its rounding of x = 1/3 ~ 0.33; nothing of x+2y = 5, of 5 = 6, or of two roundings."""
        signs, sides = list(relation[1]), list(relation[2:])
        if not {*signs} <= {"=", "~"} or "~" in signs[:-1]:
            return sides[1:] if signs == ["\\in"] else []
        chain = len(sides) > 2
        if not chain and not _is_name(*sides) and _is_name(*sides[::-1]):
            sides.reverse()
        while len(sides) > 1 and _is_name(sides[0], sides[1]):
            del sides[0], signs[0]
        rounding = sides.pop() if len(sides) > 1 and signs[-1] == "~" else None
        value = sides[-1]
        for side in sides[:-1]:
            alike = letters(side) == letters(value)
            if not self.match(side, value) if alike else not chain or letters(value):
                return []
        exact = rounding is not None and self.rounding(value, rounding)
        return [] if exact is None else [value, rounding] if exact else [value]

    def rounding(self, value: Node, rounding: Node) -> bool | None:
        """Whether a decimal is the correct rounding of a value, not a truncation; None where it is neither."""
        size = self.size(value)
        if size is None or abs(size) > 1e15 or not _rational(rounding) or abs(size - rounding) > abs(size) / 10:
            return None
        places = next((n for n in range(-12, 16) if (rounding * Fraction(10) ** n).denominator == 1), None)
        if places is None:
            return None
        scaled, rounding = Fraction(size) * Fraction(10) ** places, rounding * Fraction(10) ** places
        if math.floor(scaled + Fraction(1, 2)) == rounding:
            return places >= 0
        return False if places > 0 and math.trunc(scaled) == rounding else None

    def same_relation(self, a: Node, b: Node) -> bool:
        """Equations up to scale and side, inequalities up to positive scale and side, longer chains side by side."""
        if len(a) != len(b):
            return a[2] == b[2] and any(self.match(x, y) for x in self.solved(a)[:1] for y in self.solved(b)[:1])
        signs, others, back = a[1], b[1], tuple(FLIPPED.get(sign, sign) for sign in b[1][::-1])
        straight = signs == others and (all(map(self.match, a[2:], b[2:])) or self.renamed(a, b))
        if straight or (signs == back and all(map(self.match, a[2:], b[:1:-1]))):
            return True
        if len(a) != 4 or any(map(_kind, a[2:] + b[2:])) or (signs != others and signs != back):
            return False
        f, g = self.plus([a[2], self.minus(a[3])]), self.plus([b[2], self.minus(b[3])])
        if 0 in (f, g):
            return False
        if signs[0] in FLIPPED:
            return self.proportion(f, g) == (1 if signs == others else -1)
        try:
            one, other = self.points
            x, y = one.of(f), one.of(g)
            return x != 0 != y and (x * other.of(g) - other.of(f) * y) % one.prime == 0
        except NotImplementedError:
            return self.proportion(f, g) != 0

    def renamed(self, a: Node, b: Node) -> bool:
        """Whether two definitions of a function differ only in the name of its variable: f(x) = x+1, f(n) = n+1."""
        heads = [node[2][1:] if type(node[2]) is tuple and node[2][0] == "*" else () for node in (a, b)]
        if a[1] != ("=",) or not all(len(head) == 2 and all(type(x) is str for x in head) for head in heads):
            return False
        (f, x), (g, y) = heads
        fits = f == g and f in (*"fghFGHPQpq",) and x not in letters(b[3]) and not _kind(b[3])
        return fits and self.match(a[3], self.substitute(b[3], y, x))

    def proportion(self, f: Node, g: Node) -> int:
        """The sign of the constant f / g; 0 where there is none. Raises Unread beyond a bound."""
        pairs: list[tuple[Complex, Complex]] = []

        def proportional(x: Complex, y: Complex, tolerance: Decimal) -> bool:
            if not any(x) or not any(y):
                return any(x) == any(y)
            pairs.append((x, y))
            return _close(_product(x, pairs[0][1]), _product(y, pairs[0][0]), tolerance)

        if not self.agree(f, g, proportional) or len(pairs) < 2:
            return 0
        (a, b), (c, d) = pairs[0]
        return 1 if a * c + b * d > 0 else -1

    def same_region(self, a: Node, b: Node) -> bool:
        """Whether two nodes are the same set of reals, said of the same letter. Raises Unread of others.

        The ends of both cut the line into cells: 2i+1 is the end i, 2i what is below it, 2i+2 what is above."""
        ends: list[tuple[float, Node]] = []
        sizes = [(self.size(node), node) for node in {*_leaves(a), *_leaves(b)}]
        finite = [(size, node) for size, node in sizes if size is not None and not math.isinf(size)]
        self.cells = dict(INFINITIES)
        for size, node in sorted(finite, key=lambda end: end[0]):
            self.work.spend(4)
            near = [i for i in range(max(0, len(ends) - 3), len(ends)) if math.isclose(ends[i][0], size, rel_tol=1e-12)]
            at = next((i for i in near if self.same(ends[i][1], node)), len(ends))
            ends += [(size, node)] * (at == len(ends))
            self.cells[node] = 2 * at + 1
        self.line = frozenset(range(2 * len(ends) + 1))
        one, other = _letter(a), _letter(b)
        return self.region(a) == self.region(b) and (one == other or not one or not other)

    def region(self, node: Node) -> frozenset[int]:
        self.work.spend(2 + len(self.line))
        kind, parts = _kind(node), node[NESTED.get(_kind(node), 1) :] if type(node) is tuple else ()
        if kind == "R":
            return self.line
        if kind == "set":
            return self.line.intersection(map(self.cells.__getitem__, parts))
        if kind == "seq" and len(parts) == 2:
            low, high = map(self.cells.__getitem__, parts)
            _refuse(low > high, "an empty interval")
            closed = {end for end, bracket in zip((low, high), node[1][0]) if bracket in "[]"}
            return frozenset(cell for cell in self.line if low < cell < high or cell in closed)
        if kind == "rel":
            letter = _letter(node)
            return frozenset.intersection(*(self.holds(*link, letter) for link in zip(parts, node[1], parts[1:])))
        if kind in ("union", "without") or (kind == "list" and all(_kind(x) == "rel" for x in parts)):
            combine = sub if kind == "without" else and_ if node[1] == ("\\and",) else or_
            return reduce(combine, map(self.region, parts))
        raise Unread("no set of reals")

    def holds(self, left: Node, sign: str, right: Node, letter: str) -> frozenset[int]:
        self.work.spend(1 + len(self.line) // 4)
        if left != letter:
            left, sign, right = right, FLIPPED.get(sign, sign), left
        _refuse(left != letter or not letter or sign not in HOLDS, "no inequality in one letter")
        if sign == "\\in":
            return self.region(right)
        return frozenset(cell for cell in self.line if HOLDS[sign](cell, self.cells[right]))

    def same(self, a: Node, b: Node) -> bool:
        self.work.spend(2)
        if a == b:
            return True
        if (_rational(a) and _rational(b)) or a in INFINITIES or b in INFINITIES:
            return False
        with suppress(NotImplementedError):
            return self.points[0].of(a) == self.points[0].of(b)
        x, y = self.size(a), self.size(b)  # far apart in cheap arithmetic is far apart
        if x is not None and y is not None and abs(x - y) > 1e-9 * max(abs(x), abs(y)):
            return False
        return self.agree(a, b, _close)

    @cached_property
    def points(self) -> tuple[Residues, Residues]:
        first = Residues(self.seed, self.work)
        return first, Residues(self.seed + "'", self.work, first.prime)

    def size(self, node: Node) -> float | None:
        """A real number as a float, infinities too; None of anything else."""
        if node in INFINITIES:
            return INFINITIES[node]
        if _kind(node) or names(node) - {"\\pi", "e"} or _width(node) > MAX_WIDTH:
            return None
        with localcontext(ROUGH):
            found = self.value(node, -1, True)
        return None if isinstance(found, Exception) or found[1] else float(found[0])

    def agree(self, a: Node, b: Node, check: Callable[[Complex, Complex, Decimal], bool]) -> bool:
        """Whether two expressions pass a check wherever both have a value. Raises Unread of too few points."""
        if not self.context:  # the first time for these two: the letters in order, and the working precision
            self.order, self.width = sorted(_texts(self.trees)), _width(self.trees)
            extra = max(0, min(self.width, MAX_WIDTH) - 5)
            self.tolerance = ONE.scaleb(-50 - 2 * extra)
            self.context = Context(70 + 3 * extra, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=TRAPS)
        _refuse(self.width > MAX_WIDTH, f"a number of more than {MAX_WIDTH} digits in what is not rational")
        found = letters(a) | letters(b)
        stepped = not {"floor", "ceil"}.isdisjoint(_texts((a, b)))
        imaginary = not found or "i" in names(a) | names(b)
        seen, real, error = 0, 0, None
        numbers = (0,) if not found else (1, 4, 7) if stepped and not found & REAL_LETTERS else range(9)
        with localcontext(self.context):
            for number in (*numbers, *RUN):
                if number == RUN[0] and (not found or (real and not stepped)):
                    break
                pair = self.value(a, number, imaginary), self.value(b, number, imaginary)
                error = next((x for x in pair if isinstance(x, Exception)), None)
                if error is None:
                    if not check(*pair, self.tolerance):
                        return False
                    seen += 1
                    real += number < 9 and SCALE[number] > 0
        _refuse(seen < (1 if not found else 2 if real and not stepped else 6), str(error or "too few points"))
        return True

    def value(self, node: Node, number: int, imaginary: bool) -> Complex | Exception:
        """The value at a point, or why there is none. The point -1 is for rough values of constants."""
        key = node, number, imaginary
        if key not in self.values:
            if key[1:] not in self.reals:
                made = Reals(getcontext().prec, partial(self.draw, number), imaginary, self.work)
                known = [old.point for old in self.reals.values() if old.digits == made.digits]
                made.point |= {name: point[name] for point in known for name in CONSTANTS & point.keys()}
                self.reals[key[1:]] = made
            try:
                self.values[key] = self.reals[key[1:]].value(node)
            except (Unread, ArithmeticError) as error:
                self.values[key] = error
        return self.values[key]

    def draw(self, number: int, letter: str) -> Decimal:
        """The value of a letter at a point: of the nine, or of the run in whole numbers."""
        place, draw = self.order.index(letter), _draw(f"{letter} {min(number, 9)} {self.seed}")
        if number >= 9:
            # The first letter takes 16 consecutive values of each sign, the others run slower: all parities meet.
            step = number - 9
            size = step // (place + 1) % 16 + draw % 5
            return Decimal(-1 - size if step >> max(0, 4 - place) & 1 else size)
        size = Decimal(draw % 10**9 + 10**8).scaleb(-9) * SCALE[number]
        size = size or Decimal(2 + draw % (6, 12, 24)[number // 3])
        return -size if NEGATIVE.get(number, 0) & BITS[place % 9] else size


COMPARISONS = {
    "rel": Judge.same_solved, "list": Judge.same_members, "set": Judge.same_members, "quantity": Judge.same_quantity,
    "matrix": Judge.same_matrix, "based": Judge.same_based, "ratio": Judge.same_ratio,
}  # fmt: skip


def _texts(node: Node) -> set[str]:
    return {node} if type(node) is str else set().union(*map(_texts, node)) if type(node) is tuple else set()


def _leaves(node: Node) -> Iterator[Node]:
    kind = _kind(node)
    if not kind:
        yield node
    for part in node[NESTED[kind] :] if kind in NESTED else ():
        yield from _leaves(part)


def _letter(node: Node) -> str:
    """The letter that a set of reals is said of, or "". Raises Unread of several."""
    kind = _kind(node)
    if kind == "rel":
        return next((x for x in node[2:] if type(x) is str and x not in CONSTANTS), "")
    found = {_letter(x) for x in node[NESTED[kind] :]} - {""} if kind in ("union", "without", "list") else set()
    _refuse(len(found) > 1, "inequalities of several letters")
    return max(found, default="")


def _assigned(node: Node) -> dict[str, Node]:
    """The values by name of a=2, b=7 or (a,b)=(2,7); empty of anything else."""
    pairs: list[tuple] = []
    if _kind(node) == "list" and node[1] != ("\\or",) and all(map(_assigns, node[2:])):
        pairs = [x[2:] for x in node[2:] if len(x) == 4]
    elif _kind(node) == "rel" and node[1] == ("=",) and _kind(node[2]) == _kind(node[3]) == "seq":
        pairs = [*zip(node[2][2:], node[3][2:], strict=False)] if len(node[2]) == len(node[3]) else []
    found = {name: value for name, value in pairs if type(name) is str and "_" not in name}
    if len(found) != len(pairs) or len(found) < 2:
        return {}
    return dict(sorted(found.items())) if _kind(node) == "list" and all(map(str.isalpha, found)) else found


def _plain(node: Node) -> bool:
    return type(node) is str or (type(node) is tuple and node[0] == "*" and all(type(x) is str for x in node[1:]))


def _is_name(node: Node, value: Node) -> bool:
    """Whether `node` = `value` names what is asked for: x, f(x), m+n, S_{10}, 10m+n; but no sum of unknowns x, y."""
    if _kind(node):
        return _kind(node) in ("text", "seq")
    found, constant = letters(node), not letters(value)
    terms = node[1:] if type(node) is tuple and node[0] == "+" else (node,)
    if len(terms) > 1 and found & set("stuvwxyz"):
        return False
    factors = [x[1:] if type(x) is tuple and x[0] == "*" else (x,) for x in terms]
    if all(type(x) is str or (x == -1 and len(parts) > 1) for parts in factors for x in parts):
        return bool(found) and (constant or len(terms) == 1)
    return bool(found) and constant and value != 0 and not found & {"x", "y", "z"}


if __name__ == "__main__":
    raise SystemExit("python -m tools.grade RESPONSE GOLD shows what this reads, and its verdict")
