# ruff: noqa: RUF001
"""Is this answer right? The final answer of a response, read as mathematics and compared with the gold answer.

Four steps, in the order of this file: find the final answer in a response (`extract_answer`), cut it into tokens
(`scan`), build a value (`parse`), compare two values (`judge`). Nothing is ever evaluated as a program.
`python -m tools.grade` shows both readings of an answer, and scores a file of labelled ones.

Read, in LaTeX and in plain notation: integers, fractions and mixed numbers, decimals, radicals, pi, e, i, powers,
factorials, binomials, functions, finite sums and products, congruences; expressions in variables; units, currency,
percent; tuples, lists, sets, +-, "or"; intervals, unions, inequalities; equations; ratios and times of day; matrices
and vectors; numbers in a base; words and choices.

Equality of two expressions is decided the cheapest way that settles it:
  1. Rationals are exact, up to MAX_BITS.
  2. Expressions of + - * / and whole powers over rationals, variables, pi, e and i are compared at a pseudo-random
     point modulo a prime of 125 bits or more. The point is drawn from both texts, and so is the prime where one that is
     known could be added. pi and e are variables here: no polynomial relation between them is known. Unequal ones of
     degree d pass with probability below d / 2^124.
  3. All others are evaluated in decimal arithmetic and are equal where they agree to 50 significant digits, worked out
     with 70 and three more for each digit of the longest rational; terms and powers too far apart for it (1 + e^{-200})
     are refused. This is a stated bound, not a proof. With variables they have to agree wherever both are real, at two
     or more of nine points of several sizes and signs, some of them whole. i is a variable here: what is equal only by
     i^2 = -1 beside a root or a function, and complex powers and logarithms, are refused.
  4. What has a value at whole numbers only, such as (-2)^n or n!, and what has a floor or ceiling, has to agree at 32
     points in whole numbers as well (in one variable 16 consecutive ones upwards, 16 downwards), and with a floor or
     ceiling at four large ones. A difference with a period above 16 may pass.

The work of a call is bounded by construction, never by a clock: every step of reading, comparing and evaluating is
counted, with its number of digits, and spent from one budget (BUDGET) before it is done. Past it, and beyond the other
MAX_ constants, an answer is equal only to its own text. What is not counted is linear in the text. Nothing here raises
on text, keeps state, or uses signals, so it is safe in threads; points derive from the input alone: verdicts repeat.

What is policy, not mathematics, and why:
  - Boxes side by side are a list only where the gold answer is one; else the last counts: models repeat themselves. A
    gold answer of several boxes wants all of them, and of a box in a box the outer one counts.
  - A guess must not be paid. An open last box, what is denied, doubted, taken back or struck out, and what stands only
    in the thinking part are no answer; "or" between two values, and another answer stated behind a box, make both part
    of it. These are found by their words, in the sentence around the answer: no list of words is complete.
  - \\log without a base is base 10 or e, whichever the other side asks for: sources use both.
  - A base, unit or degree sign may be left out on one side: the question has it. Two that differ are never equal. A
    word behind a number is a unit where it is known as one or is a plural: 14 ways, but not 14 wrong or 14 tenths.
  - 35% is 35 and 0.35, since golds are written both ways; but 0.35 is not 35.
  - Decimals get no tolerance: 0.333 is not 1/3. Only an exact answer to a gold decimal of seven digits or more may be
    off by one and a half in the last, as such golds were computed; a chain that ends in one correct rounding is worth
    both; and a decimal of up to 12 digits may be printed as a float of 16 or 17 at most four floats away, as programs
    do (0.30000000000000004).
  - x = 5, m+n = 5 and f(3) = 5 are worth 5, since they name what is asked; x+y = 5, 2n = 5 and n+1 = 5 are not.
  - A label names one choice: (C) 12 is C and 12, but A. B is neither.
  - A letter in a floor or ceiling is whole unless it is one of r to z or Greek.
  - 10:40 may be a time of day and is no 1:4, so ratios are compared part by part.
  - A condition behind an answer (2^n-1 for n >= 1) does not count: the question has it.
  - Case does not count in words and choices, and yes or no may be followed by a reason that does not undo it.
"""

import math
from collections.abc import Callable, Container, Iterator, Sequence, Set
from contextlib import suppress
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow, localcontext
from fractions import Fraction
from functools import cached_property
from hashlib import blake2b
from itertools import pairwise
from operator import ge, gt, le, lt, ne
from unicodedata import normalize

BUDGET = 80_000  # units of work a call
MAX_LENGTH = 10_000  # characters of an answer that is read; a longer one equals only its own text
MAX_TOKENS = 1000  # of an answer that is parsed
MAX_DEPTH = 40  # of nesting
MAX_DIGITS = 4000  # of a number in arithmetic; plain integers of any length are compared as text
MAX_BITS = 60_000  # of an exact rational: larger powers and products stay symbolic
MAX_WHOLE = 5000  # of which factorials and binomials are taken
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


class Work:
    """The work left to one call, in units of about a microsecond. It is spent before the work is done."""

    def __init__(self, units: int = BUDGET):
        self.left = units

    def spend(self, units: int) -> None:
        """Take `units` away. Raises Unread where they are not left, and from then on always."""
        self.left = left = self.left - units
        if left < 0:
            raise Unread("more work than the budget of a call")


def verify(response: str, gold: str, work: Work | None = None) -> bool:
    """Whether the final answer of `response` equals `gold`; False where either is missing. Never raises."""
    if not isinstance(response, str) or not isinstance(gold, str):
        return False
    work = work or Work()
    try:
        run = _final(response, work)
        if len(run) > 1 and _kind(read(gold, work)) in ("list", "set") and judge(" , ".join(run), gold, work)[0]:
            return True
        return bool(run) and judge(run[-1], gold, work, directed=True)[0]
    except Unread:
        return False


def extract_answer(response: str) -> str | None:
    """The final answer of a response, or None. Final values that "or" joins come together, as a hedged answer. In this
    order: the last non-empty balanced `\\boxed` or `\\fbox`, or None where the last one is not closed; what
    follows "answer is", `####` or another marker; the last bold text; a response that is nothing but an answer; the
    last formula or number, whichever comes later. Linear in the length of the response; never raises."""
    with suppress(Unread):
        return [None, *_final(response, Work())][-1] if isinstance(response, str) else None


def equivalent(a: str, b: str) -> bool:
    """Whether two answers are equal. Symmetric; and reflexive, but that an empty text equals nothing. Never raises."""
    return isinstance(a, str) and isinstance(b, str) and judge(a, b, Work())[0]


# -------------------------------------------------------------------------------------------- where the final answer is


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


def _phrases(lines: str) -> tuple[str, ...]:
    return tuple(lines.strip("\n").replace("\n", "|").split("|"))


ENDS = """</s> <eos> <eoa> <pad> <end_of_turn> <|im_end|> <|endoftext|> <|eot_id|> <|end_of_text|> <|end|>
<|return|>""".split()
INVISIBLE = "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad"
# What stands between these is only thought, and what stands between the next ones is not shown, or struck out.
THOUGHTS = (("<think", "</think"), ("<reasoning>", "</reasoning>"), ("<scratchpad>", "</scratchpad>"),
    ("<thought>", "</thought>"), ("◁think▷", "◁/think▷"),
    ("<|channel|>analysis", "<|channel|>final<|message|>"))  # fmt: skip
HIDDEN = (("<!--", "-->"), ("<del>", "</del>"), ("~~", "~~"), ("\n%", "\n"), ("\\cancel{", "}"), ("\\xcancel{", "}"),
    ("\\bcancel{", "}"), ("\\sout{", "}"), ("\\phantom{", "}"))  # fmt: skip
POINTING = _phrases("but |which |that |this |it |oh, |hmm, |wait, |(")  # before a retraction
RETRACTED = _phrases("""is wrong|is incorrect|is not correct|is not right|is not the|isn't|is false|is a mistake
was wrong|was incorrect|is impossible|cannot be|wrong|incorrect|no, |no.|doesn't work|does not work|doesn't satisfy
does not satisfy|fails|contradicts|on reflection|on second thought|scratch that|that's wrong|correction|just kidding
ではない|不对|是错|错""")
NOT = _set("not cannot never isn't can't couldn't aren't wasn't neither nor")
COPULAS = _set("be equal equals necessarily exactly just have the following")
UNSURE = _phrases("""not sure|unsure|not certain|whether|don't know|do not know|cannot tell|no idea|don't think
not think|i cannot|i can't|could not|couldn't|i do not|i don't|i am not|i'm not|unable to|stuck|hard to say|no answer
not clear|unclear|false that|not true that|wrong answer|incorrect answer|might think|may think
if the answer|if it were""")
DOUBTS = _phrases("""maybe |perhaps |possibly |might |could be |may be |at least|at most|if |suppose |assum|whether
wrong|incorrect""")
CUES = _phrases("n't|n’t|no|never|unsure|whether|false|rong|correct|than|rom|most|least|xcept|but|if|If|think")
EXCLUDED = _phrases("different from|except|anything but|all but|if not")
BOUNDING = _phrases("less than|more than|greater than|at most|at least")
JOINTS = _set("text quad qquad maybe perhaps possibly for part")  # words that may stand beside "and"
OR = _set("or ou oder или o vs versus either else 或 或者 または 또는")
# A number right after one of these is not what is asserted.
BARRED = _set("""than except between twice half double instead depends none close problem step equation root modulo
near""")
MARKERS = ("####", "\na: ", "choice is", "option is", "solutions are")
FOREIGN = ("答案是", "答案为", "答案：", "答案:", "答案】", "选", "정답은")
AFTER_ANSWER = ("is", "are", ":", "：", "=", "should be", "must be", "would be", "will be", "was")
FILLERS = _phrases("""is |are |be |was |therefore |thus |simply |option |choice |that |exactly |only |just |around |is:
approximately |about |roughly |equal to |given by |should be |must be |would be |will be |：|是|选""")
STOPPERS = _phrases(". | because| since|, which|, so | where | when |**|</answer>|。|```|입니다")
CHOICES = frozenset("ABCDEFGHIJ")
BEFORE_CHOICE = _set("is be option choice letter answer choose pick select")
REASONS = _set('"because "since "as "for')
UNDOING = _set('\\or "but "except "unless "wrong "although "however "maybe')
VERDICTS = {"yes": "no nope never", "no": "yes", "true": "false never", "false": "true"}  # and what contradicts them


def _final(response: str, work: Work) -> Run:
    text = _shown("\n" + response.rstrip())
    boxes = _boxes(text, work)
    if boxes:
        start, end, _ = boxes[0]
        before, after = text[max(0, start - 80) : start], text[end:].lstrip(" $.,)]}*\n\\")
        if after and _retracted(after[:80]):
            return _marked(after, work)
        run = [] if before and _denied(before) else _run(text, boxes, True)
        return _unless(run, after, work) if after and run else run
    if boxes is None:
        return []
    for delimiter in ("\\(", "\\)", "\\[", "\\]") if "\\" in text else ():
        text = text.replace(delimiter, "$")
    text = text.replace("$$", "$") if "$" in text else text
    if run := _marked(text, work):
        return run
    _, *parts = text.rsplit("**", 2)  # the last bold text, unless it is a heading or something is worked out after it
    if len(parts) > 1 and not (parts[0].strip().endswith(":") or any(c.isdigit() or c == "$" for c in parts[1])):
        return _statement(parts[0], work)
    words = text.split()
    prose = len(words) > 2 and any(word.isalpha() and len(word) > 1 for word in words)
    if words and not prose and len(text) < 200 and "$" not in text and "\\boxed" not in text:
        return [text.strip()]  # nothing but an answer
    return _last(text, work)


def _shown(text: str) -> str:
    """A response without what is not shown, or not meant: marks of its end, thoughts, comments, what is struck out."""
    for character in INVISIBLE if not text.isascii() else ():
        text = text.replace(character, "")
    if "<" in text or "◁" in text:
        for token in ENDS if text[-1] == ">" else ():
            text = text.replace(token, " ")
        text = text.replace("<|begin_of_box|>", "\\boxed{").replace("<|end_of_box|>", "}")
        for opener, closer in THOUGHTS:
            text = text.rpartition(closer)[2].partition(opener)[0]
        text = text.removeprefix("ing").removeprefix(">")
    for opener, closer in HIDDEN:
        if opener in text and (opener != closer or text.count(opener) % 2 == 0):
            shown, *parts = text.split(opener)
            text = " ".join([shown, *(parts[1::2] if opener == closer else [x.partition(closer)[2] for x in parts])])
    return text.removeprefix("\n")


def _boxes(text: str, work: Work) -> list[Span] | None:
    """The last non-empty box and those that end within 80 characters before it or one another, or None where it is
    open. A box around others is one, and theirs are none."""
    found: list[Span] = []
    at = len(text)
    while len(found) < MAX_MEMBERS and (at := text.rfind("box", 0, at) - 1) >= 0:
        work.spend(1)
        if not text.startswith(("\\boxed", "fbox"), at):
            continue
        start = at + 4 + 2 * (text[at] == "\\")
        inner = text[start : start + 400].lstrip()
        if inner[:1] == "{":
            start = text.index("{", start)
            end = _closing(text, start, work)
            if end < 0:
                return found if found and "\n" in text[at : found[-1][0]] else None
            content = text[start + 1 : end - 1].strip()
        else:
            content = (inner.replace("$", " ").split() or [""])[0].rstrip(".,;")
            end = text.index(content, start) + len(content)
        while found and end >= found[-1][1]:
            first, last, within = found.pop()
            alone = content.strip("$ ") == text[first:last]
            content = within if alone else content.replace("\\boxed", "").replace("\\fbox", "")
        if found and not found[-1][0] <= end + 80:
            break
        if content.strip("{} $?.~_"):
            lead = text[max(0, at - 4) : at].replace("= - ", "=-")
            if lead and lead[-1] in "-−" and lead[-2:-1] in tuple(" =($[{:"):
                content = f"-({content})" if "+" in content or "-" in content else "-" + content
            found.append((at, end, content))
    return found


def _closing(text: str, at: int, work: Work) -> int:
    """The index after the brace that closes the one at `at`, or -1. Escaped braces do not count."""
    depth = 0
    while (close := text.find("}", at)) >= 0:
        work.spend(1 + (close - at) // 1000)
        depth += text.count("{", at, close) - text.count("\\{", at, close)
        at = close + 1
        depth -= text[close - 1] != "\\" or text[close - 2] == "\\"
        if depth <= 0:
            return at
    return -1


def _run(text: str, spans: list[Span], boxes: bool = False) -> Run:
    """The values of the first of some spans, in the order of the text or against it, and of those joined to it."""
    if len(spans) == 1:
        return [spans[0][2]]
    lead = text[max(0, spans[-1][0] - 20) : spans[-1][0]].lower().rstrip(" $")
    run, hedged = spans[:1], boxes and lead.endswith(("either", "if not"))
    for one, other in pairwise(spans):
        gap = text[min(one[1], other[1]) : max(one[0], other[0])]
        words = "".join(c if c.isalpha() else " " for c in gap.lower()).split()
        if len(gap) <= 80 and ((boxes and ". " not in gap) or JOINTS.issuperset({*words} - OR)):
            hedged |= not OR.isdisjoint(words) or gap.strip(" $") in {*"|/+-*^"}
        words = [word for word in words if word not in JOINTS and len(word) > 1]
        together = len(gap) <= 40 and words in ([], ["and"]) and not any(c in "+*/^_<>.:" for c in gap)
        if not hedged and not (together and ("=" not in gap or gap.rstrip(" $").endswith("="))):
            break
        run.append(other)
    values = [content for _, _, content in sorted(run)]
    return [" or ".join(values)] if hedged else values


def _retracted(after: str) -> bool:
    """Whether what follows a value takes it back."""
    after = after.lstrip("?! ").lower()
    while after.startswith(POINTING):
        after = after[len(next(filter(after.startswith, POINTING))) :]
    return after.startswith(RETRACTED)


def _unless(run: Run, after: str, work: Work, marked: bool = True) -> Run:
    """The values of a run and what the text behind it states as well: together, if not equal, a hedge."""
    rest = after[:400].lstrip(" $.,)]}*\n\\").removeprefix("quad").lstrip(" \\").removeprefix("text{").lstrip()
    opener = next((x for x in filter(rest[:9].lower().startswith, OR) if not rest[len(x) : len(x) + 1].isalpha()), "")
    if rest[:1] == "(" and rest[1:2] in CHOICES and rest[2:3] == ")":
        stated = [rest[1]]
    elif opener:
        words = rest[len(opener) : 80].split()
        if words and words[0].strip(".,;:)*") in ("so", "thereabouts"):
            return run
        stated = _statement(rest[len(opener) :], work) or [word for word in words if any(map(str.isdigit, word))][:1]
    else:
        stated = _marked(after, work, True) if marked else []
    value, other = " , ".join(run), "".join(stated[-1:])
    if not any(c.isdigit() or c in "\\ABCDEFGHIJ" for c in other) and not (opener and len(other.split()) == 1):
        return run
    if judge(value, other, work)[0] or (run[1:] and judge(run[-1], other, work)[0]):
        return run
    letters = [x for x in (value, other) if x.strip("(). ") in CHOICES]
    if len(letters) == 1:  # of a choice, beside its value
        return [f"({letters[0].strip('(). ')}) " + (other if letters == [value] else value)]
    return [f"{value} or {other}"]


def _formulas(text: str, work: Work) -> list[Span]:
    """What stands between two dollar signs that are no prices: It costs $5 and $7; $17-$12 = $5; $<<3*4=12>>12."""
    found: list[Span] = []
    start = text.find("$")
    while start >= 0:
        work.spend(2)
        end = text.find("$", start + 1)
        while end > 0 and text[end - 1] == "\\":
            end = text.find("$", end + 1)
        content, after = text[start + 1 : end], text[end + 1 : end + 3]
        price = text[start - 1 : start] == "\\" or after.removeprefix(".")[:1] in DIGITS or after == "<<"
        if end > 0 and content.strip() and not price and content.rstrip()[-1] not in "=+-*/(<":
            prose = "\\" not in content and any(len(word) > 2 and word.isalpha() for word in content.split())
            if not prose or (content[0] not in DIGITS and (content[0] == " ") == (content[-1] == " ")):
                found.append((start, end + 1, content.strip()))
                end = text.find("$", end + 1)
        start = end
    return found


def _denied(before: str, doubts: tuple[str, ...] = ()) -> bool:
    """Whether the clause right before a value says that it is not the answer, or not known to be, or doubts it."""
    if not doubts and not any(map(before.__contains__, CUES)):
        return False
    clause = before.lower().replace("’", "'")
    end = clause.rstrip(" $\\([*_:\n")
    if end.endswith(EXCLUDED) or (end.endswith(BOUNDING) and "answer" in end):
        return True
    clause = end + " " if ":" in clause[len(end) :] else clause
    for mark in (". ", ", ", ": ", "; ", "\n", "? ", "! ", " but ", "\\]", "so "):
        clause = clause.rpartition(mark)[2]
    words = "".join(" " if c in "$(=\\*[_" else c for c in clause).removesuffix(" to ").split()
    said = [word for word in words if word not in COPULAS][-1:]
    return bool(NOT.intersection(said)) or any(map(clause.__contains__, UNSURE + doubts))


def _marked(text: str, work: Work, bare: bool = False) -> Run:
    """The value after the last marker that has a whole one; `bare` passes over those that begin with words."""
    lowered = text.lower()
    markers = MARKERS if lowered.isascii() else MARKERS + FOREIGN
    starts = [lowered.rfind(marker) + len(marker) for marker in markers if marker in lowered]
    at = len(lowered)
    while len(starts) < 30 and (at := lowered.rfind("answer", 0, at)) >= 0:
        work.spend(2)
        start = at + 6 + lowered.startswith("s", at + 6)
        if lowered[start : start + 20].lstrip(" *_").startswith(AFTER_ANSWER) or text.endswith(("inal ", "<"), 0, at):
            clause = lowered[max(0, at - 30) : at].rpartition(".")[2].rpartition(",")[2]
            starts += [start] * (not any(cue in clause for cue in DOUBTS))
    for start in sorted(starts, reverse=True):
        run = _statement(text[start : start + 4000], work, bare)
        if run and sum(map(run[-1].count, "([{")) <= sum(map(run[-1].count, ")]}")):
            after = text[start : start + 4000].partition(run[-1])[2].lstrip(" $.,)]}*\n\\")
            return _unless(run, after, work, False) if after else run
    return []


def _statement(text: str, work: Work, bare: bool = False) -> Run:
    """The value that a text states: what it starts with, or the last formula or number of its first sentence."""
    line, stated = "", False
    head = text[:40].partition("\n")[0].strip(" :*.").removeprefix("is ").strip("$")
    if head.isdecimal():
        return [head]  # the most frequent ones soon
    for _ in range(5):
        text = text[len(line) :].lstrip(" :*=#\n\t_>`\"'：") + " "
        while (head := text[:14].lower()).startswith(FILLERS):
            work.spend(4)
            text = text[len(next(filter(head.startswith, FILLERS))) :].lstrip(" :*_`\"'\n")
        line = text.partition("\n")[0] + " "
        line = line[: min((end for end in map(line.find, STOPPERS) if end >= 0), default=len(line))]
        stated = "$" in line or "\\" in line or any(c.isdigit() for c in line)
        if stated or not (" " + line.rstrip()).endswith((":", " is", " are")):
            break
    formulas = _formulas(text, work) if "$" in line else []
    if formulas and formulas[0][0] == 0:
        return _run(text, formulas)
    line = line.strip(" .*_`\"'。\t\r")
    mark, *reason = line.split(None, 2) or [""]
    first = mark.strip("().,:;*，")
    if first in CHOICES and text[text.find(first) + 1 :].strip(" .):\n") in CHOICES:
        return []
    if first in CHOICES and mark[-1] in ".,:;)，" and reason and len(reason[0]) > 1 and reason[0].islower():
        return [line if reason[0] in ("or", "and") else first]  # B, for ...
    if bare and first[:1].isalpha() and first not in CHOICES and first.lower() not in VERDICTS:
        return []
    whole = len(first) < 2 or not first.isalpha() or first.lower() in VERDICTS or first in WORDS or not stated
    return ([line] if whole else _last(line, work)) if mark else []


def _last(text: str, work: Work) -> Run:
    """The last formula or number of a prose that asserts it, or the choice that it ends with."""
    *_, cue, label = ["", "", *text[-80:].split()]
    if cue.lower() in BEFORE_CHOICE and label.strip("().*$") in CHOICES:
        return [label.strip("().*$")]
    text = text[-20_000:]
    if text.rstrip(" *\n").endswith(":"):  # the number of a heading at the end is no answer
        text = text.rstrip().rpartition("\n")[0]
    spans, digit = _formulas(text, work), max(map(text.rfind, "0123456789"))
    if spans and spans[-1][1] > digit:
        (start, end, _), run = spans[-1], _run(text, spans[::-1])
        factor = "".join(text[max(0, start - 40) : start].split(" ")[-2:-1])
        if DIGITS.issuperset(factor.replace("/", "", 1).replace(".", "", 1).removeprefix("-")) and "=" not in run[0]:
            run = [(factor + " " + run[0]).strip(), *run[1:]]  # the area is 16 $\pi$
    elif digit >= 0:
        end = digit + 1
        after = text[end : end + 40].split(" ")[0].split("\n")[0]
        line = text[max(0, end - 300) : end].rsplit("\n", 1)[-1]
        opener = max(map(line.rfind, "(["))
        words = (line + after).split()
        run = [words.pop().rpartition(">>")[2]]
        while words:
            numbers = words[-1] == "and" and "".join(words[-2:-1]).strip(",")[-1:] in DIGITS
            joined = words[-1] == "or" or run[0] in ("or", "and") or numbers
            if not joined and any(c.isalpha() or c in ".,:;" for c in words[-1]):
                break
            run.insert(0, words.pop())
            if words[-1:] == ["x"] and run[0][-1] in DIGITS and words[-2:-1] and words[-2][-1] in DIGITS:
                words[-1] = "*"  # 4 x 5 = 20
        value = " ".join(run).lstrip("=+*/ ").removeprefix("or ")
        if after[:1] in (")", "]") and opener >= 0 and not any(c.isalpha() for c in line[opener:]):
            value = line[opener:] + after  # (4, 7)
        start = end + len(after) - len(value)
        run = [value.strip(" .,;:*!?#`\"'_")]
    else:
        return []
    before, after = text[max(0, start - 80) : start], text[end : end + 400].lower()
    gave_up = after.lstrip(" $.)*").startswith(RETRACTED) or any(cue in after for cue in UNSURE)
    return [] if gave_up or BARRED.intersection(before.lower().split()[-3:]) or _denied(before, DOUBTS) else run


# ---------------------------------------------------------------------------------------------------------- the scanner

DIGITS = frozenset("0123456789")
LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
SPACES = frozenset(" \t\n\r\f\v~$\0")


def _table(lines: str) -> dict[str, str]:
    return {alias: group.split()[0] for group in lines.split(";") for alias in group.split()[1:]}


def _commands(names: str) -> frozenset[str]:
    return frozenset("\\" + name for name in names.split())


UNICODE = str.maketrans(
    {c: f"^{{{i}}}" for i, c in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
    | {c: f"_{{{i}}}" for i, c in enumerate("₀₁₂₃₄₅₆₇₈₉")}
    | {c: "\\frac{{{}}}{{{}}}".format(*normalize("NFKC", c).split("⁄")) for c in "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"}
    | {c: f" {token} " for token, cs in (
        ("-", "−–—"), ("*", "×·⋅∗✕"), ("/", "÷⁄∕"), ("'", "′’"), (",", "、"), (".", "。"), (":", "∶")) for c in cs}
    | {c: f"\\{name} " for c, name in zip("≤≥≠≈≡±∓∞∪∩∈∅ℝ√°π∨∧∖¢€£¥₹αβγδθλμφωħ∠⌊⌋⌈⌉", (
        "le ge ne approx equiv pm mp infty cup cap in emptyset R sqrt circ pi or and setminus cent euro pound yen "
        "rupee alpha beta gamma delta theta lambda mu phi omega hbar angle lfloor rfloor lceil rceil").split())}
    | {"⁻": "^{-", "ⁿ": "^n", "ℤ": "\\mathbb{Z}", "ℕ": "\\mathbb{N}", "和": " and ", "或": " or ", "“": " ", "”": " "}
    | dict.fromkeys(INVISIBLE))  # fmt: skip
COMMANDS = _table("""
\\frac dfrac tfrac cfrac; \\binom dbinom tbinom; * cdot times ast; / div; <= le leq leqslant leqq;
>= ge geq geqslant geqq; < lt; > gt; != ne neq; ~ approx simeq; \\or lor vee; \\and land wedge;
| lvert rvert vert mid middle; : colon; ( langle lparen; ) rangle rparen; [ lbrack; ] rbrack; \\{ lbrace; \\} rbrace;
% %; ' prime; \\circ degree; \\emptyset varnothing; \\setminus backslash; \\overline bar dot; \\\\ cr; \\phi varphi;
\\epsilon varepsilon; \\theta vartheta; => Rightarrow implies Longrightarrow therefore; \\bmod mod; \\pmod pod;
... ldots dots cdots dotsc; "euro euro; "pound pound; "yen yen; "rupee rupee; "cent cent; "dollar $""")
SKIPPED = _set("""left right big Big bigg Bigg bigl bigr Bigl Bigr displaystyle textstyle limits quad qquad ! , ; :
( ) [ ] > hline mathbf boldsymbol bm vec hat mathit mathcal angle rm bf it large Large LARGE huge Huge small normalsize
underline overrightarrow underbrace nolimits mathop _""") | {" ", "\n", "\t"}  # fmt: skip
DROPPED = _set("color textcolor colorbox hspace vspace phantom hphantom vphantom label tag")
TEXTS = _set("text textbf textit textrm textsf texttt textnormal mbox hbox mathrm mathsf operatorname")
MATRICES = _set("pmatrix bmatrix matrix Bmatrix smallmatrix array")
GREEK = _commands("""alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau phi chi psi
omega ell Gamma Delta Theta Lambda Sigma Phi Psi Omega Pi hbar odot nabla partial""")
FUNCTIONS = _commands("""sin cos tan cot sec csc sinh cosh tanh coth sech csch arcsin arccos arctan arccot arcsec arccsc
ln log lg exp""")
WORDS = {name[1:]: name for name in FUNCTIONS | GREEK | _commands("gcd lcm max min sqrt pi or and")}
WORDS |= _table("\\abs abs; \\infty infinity inf oo; \\cup union; \\or OR; \\and AND; \\bmod mod")
# The first name stands for all of its group. Other words are units where nothing reads them as mathematics.
UNITS = _table("""
cm cm centimeter centimetre; mm mm millimeter millimetre; km km kilometer kilometre; meter meter metre m;
inch inch inche in; foot foot feet ft; yard yard yd; mile mile mi; kg kg kilogram; gram gram g; mg mg milligram;
pound pound lb; ounce ounce oz; liter liter litre l; ml ml milliliter; second second sec s; minute minute min;
hour hour hr h; day day; degree degree deg 度; radian radian rad; % percent pct; dollar dollar usd; euro euro eur;
mile/hour mph; km/hour kph; hertz hertz hz; khz khz; mhz mhz; kw kw; kwh kwh; mol mol mole; gb gb; mb mb; db db;
cal cal""")
KNOWN = UNITS.keys() | set("an the no yes of per old is are for lbs rpm sq cu th nd rd with all any if when".split())
SIGNS_OF_TWO = ("<=", ">=", "!=", "=>", "...", "**")
DOTS = ("...", " ...", "\\ldots", "\\dots", "\\cdots")  # behind a decimal that goes on
# \1 is a comma within a number, if digits follow.
REWRITTEN = (("{,}", "\1"), (",\\!", "\1"), ("\\!,", "\1"), ("\1 ", "\1"), ("\\,", " "), ("{}", " "))
REWRITTEN += (("a.m", "am"), ("p.m", "pm"), ("A.M", "am"), ("P.M", "pm"))


def scan(text: str, work: Work, grouped: bool = True) -> list[str]:
    """Cut an answer into tokens: numbers, single letters, commands ("\\frac"), words of text ('"cm'), signs.

    `grouped` reads 1,234 as one number where nothing tells against it. Linear in the text. Raises Unread of a text that
    is too long, also in its normal form, where a character may be eighteen."""
    if not text.isascii() and len(text) <= MAX_LENGTH:
        text = text.translate(UNICODE)  # in pieces, since the order of combining marks takes quadratic time
        text = "".join(normalize("NFKC", text[i : i + 400]) for i in range(0, len(text), 400))
        text = text.replace("}^{", "").replace("}_{", "").replace("^{-^{", "^{-")
    _refuse(len(text) > MAX_LENGTH, "too many characters in normal form")
    work.spend(len(text))
    if text.isdecimal():
        return [text]
    if ("," in text and ("{" in text or "\\" in text)) or "{}" in text or ".m" in text or ".M" in text:
        if grouped and ",\\," in text and not any(c in text for c in "([{"):
            text = text.replace(",\\,", ",")
        for old, new in REWRITTEN:
            text = text.replace(old, new)
    out: list[str] = []
    modes: list[bool] = []  # of the open braces: whether they hold text
    s, i, brackets, length = text + "\0\0\0\0", 0, 0, len(text)
    while i < length:
        c = s[i]
        if c in SPACES:
            i += 1
        elif c in DIGITS or (c == "." and s[i + 1] in DIGITS):
            i = _number(s, i, out, "\1, " if grouped and not brackets else "\1")
        elif c == "\\":
            i = _command(s, i + 1, out, modes)
        elif c.isalpha():
            i = _word(s, i, out, bool(modes) and modes[-1])
        elif c == "{" or c == "}":
            i += 1
            in_text = bool(modes) and (modes[-1] if c == "{" else modes.pop())
            if c == "{":
                modes.append(in_text)
            if not in_text:
                out.append(c)
        else:
            sign = c
            if s[i + 1] in "=>.*" and not (c == "!" and s[i - 1] in DIGITS):  # 3!=6
                sign = next((sign for sign in SIGNS_OF_TWO if s.startswith(sign, i)), c)
            i += len(sign)
            brackets += (c in "([") - (c in ")]")
            out.append("^" if sign == "**" else "," if sign == "\1" else sign)
            if c in "([" and len(out) > 2 and out[-2] == "U" and out[-3] in (")", "]"):
                out[-2] = "\\cup"
    if "\\equiv" in out:
        at = out.index("\\equiv")
        out[at:] = ["\\pmod" if token == "\\bmod" else token for token in out[at:]]
    return out[: len(out) - (out[-1:] == ["."])]


def _end(s: str, i: int, characters: Container[str]) -> int:
    """The first index from `i` where another character stands."""
    while s[i] in characters:
        i += 1
    return i


def _number(s: str, i: int, out: list[str], joins: str) -> int:
    """Append the number at `i`, or several that commas separate; the index after it."""
    end = _end(s, i, DIGITS)
    token, mark = s[i:end], s[end]
    if mark == " " and mark in joins and 0 < len(token) < 4 and token[0] != "0":
        while s[end] == mark and _end(s, end + 1, DIGITS) == end + 4:  # a group of three digits
            end += 4
        token = s[i:end].replace(mark, "")
    elif mark in joins and end > i:
        while s[end] == mark and s[end + 1] in DIGITS:
            end = _end(s, end + 1, DIGITS)
        *parts, token = s[i:end].split(mark)
        if parts and parts[0][0] != "0" and len(parts[0]) < 4 and {3}.issuperset(map(len, (*parts[1:], token))):
            token = "".join([*parts, token])
        else:
            out += [x for part in parts for x in (part, ",")]
    if s[end] == "." and (s[end + 1] in DIGITS or s.startswith(("\\o", "\\b", "\\d", "("), end + 1)):
        start, end = end, _end(s, end + 1, DIGITS)
        token = (token or "0") + s[start:end]
        if s.startswith(DOTS, end):
            token, end = token + "…", end + next(len(dots) for dots in DOTS if s.startswith(dots, end))
    if s[end] == ".":
        end += s[end + 1] in " \0$}"
    elif s[end] in "eE":
        start = end + 1 + (s[end + 1] in "+-")
        scientific = s[end + 1] in DIGITS or s[end] == "E" or "." in token or token == "1"  # 2e-1 is 2e - 1
        if scientific and s[start] in DIGITS:
            last = _end(s, start, DIGITS)
            token, end = token + "E" + s[end + 1 : last].strip("+"), last
    if token == "0" and s[end] in "xX" and s[end + 1] in DIGITS | LETTERS:  # 0x1F
        start, end = end, _end(s, end + 1, DIGITS | LETTERS)
        token = '"0' + s[start:end]
    split = len(token) > 1 and out and out[-1] in ("\\frac", "\\binom") and token.isdecimal()
    out += [token[0], token[1:]] if split else [token]  # \frac12 is 1/2
    return end


def _command(s: str, i: int, out: list[str], modes: list[bool]) -> int:
    """Append the command whose name begins at `i`; the index after it."""
    j = max(i + 1, _end(s, i, LETTERS))
    name = s[i:j]
    if name in SKIPPED:
        return j + (name in ("left", "right") and s[j] == ".")
    if name in DROPPED or (name == "\\" and s[j] == "["):  # \\[4pt]
        out += ["\\\\"] * (name == "\\")
        return s.find("}" if name in DROPPED else "]", j, j + 40) + 1 or j
    if name not in TEXTS and name not in ("begin", "end", "mathbb"):
        out.append(COMMANDS.get(name) or "\\" + name)
        return j
    start = j + (s[j] == " ")
    close = s.find("}", start, start + 20) if s[start] == "{" else start
    inner = s[start + 1 : close] or s[start]
    if name in ("begin", "end", "mathbb"):
        j = max(j, close + 1)
        if inner == "array" and s[j] == "{":
            j = s.find("}", j, j + 40) + 1 or j
        out.append("\\R" if inner == "R" else "\\" + name + inner * (inner not in MATRICES))
    elif name in ("mathrm", "operatorname") and (inner in WORDS or inner in ("e", "i")):
        out.append(WORDS.get(inner, inner))
        j = max(j, close + 1)
    else:
        modes += [True] * (s[start] == "{")
        j = start + (s[start] == "{")
    return j


def _word(s: str, i: int, out: list[str], prose: bool) -> int:
    """Append the letters at `i`: a name, a word of text, a unit, or a product of letters; the index after them."""
    j = i + 1
    while s[j].isalpha():
        j += 1
    word = s[i:j]
    lower, after_unit = word.lower(), len(out) > 1 and out[-1] == "/" and out[-2][0] == '"'
    if prose:
        out.append(WORDS[lower] if lower in ("and", "or", "infinity") else '"' + (lower if j - i > 1 else word))
    elif word == "j" and out and out[-1][-1] in DIGITS:  # 3+2j
        out.append("i")
    elif j - i == 1 and word < "\u0400":
        measured = word in "msg" and out and out[-1][-1] in DIGITS and (s[i - 1] == " " or "." in out[-1])
        if measured:  # 3 m^2 is an area and 5 m/s a speed, 3m a product
            rest = s[j : j + 20].rstrip("\0").strip(" ^{}23").lower()
            measured = len(s) < j + 20 and (not rest or (rest[0] == "/" and rest[1:] in UNITS))
        out.append('"' + word if measured or after_unit else word)
    elif word in WORDS:
        out.append(WORDS[word])
    elif after_unit or lower in KNOWN or (j - i > 2 and lower.removesuffix("s") in KNOWN) or out[-2:-1] == [":"]:
        out.append('"' + lower)
    elif j - i > 3 or (j - i == 3 and word[0].isupper() and word[1:].islower()) or not word.isascii():
        out += [WORDS[word[:-1]], word[-1]] if word[:-1] in WORDS else ['"' + lower]
    else:
        out += word
    return j


# ----------------------------------------------------------------------------------------------------------- the values

KINDS = _set("text list set seq rel union without matrix quantity R")
RATIONAL = frozenset((int, Fraction))
INFINITY = "\\infty"
INFINITIES: dict[Node, float] = {INFINITY: math.inf, ("*", -1, INFINITY): -math.inf}
CONSTANTS = frozenset(("\\pi", "e", "i", INFINITY))
# What is worked out of rationals; counts of whole numbers up to MAX_WHOLE.
COUNTS = {"!": math.factorial, "!!": lambda n: math.prod(range(n, 0, -2)), "\\binom": math.comb}
EXACT: dict[str, Callable] = COUNTS | {
    "+": lambda *terms: sum(terms), "*": lambda *factors: math.prod(factors), "abs": abs, "floor": math.floor,
    "ceil": math.ceil, "^": lambda base, n: base**n if n > 0 else Fraction(base) ** n}  # fmt: skip


def _kind(node: Node) -> str:
    """What a node is beyond an expression: "list", "rel", ...; "" for expressions."""
    return node[0] if type(node) is tuple and node[0] in KINDS else ""


def _bits(x: int | Fraction) -> int:
    return x.numerator.bit_length() + x.denominator.bit_length()


def names(node: Node) -> frozenset[str]:
    """The variables and constants of an expression or a quantity; none of anything else."""
    if type(node) is str:
        return frozenset((node,))
    inner = type(node) is tuple and _kind(node) in ("", "quantity")
    return frozenset().union(*map(names, node[1:])) if inner else frozenset()


def _nodes(node: Node) -> Iterator[Node]:
    """A node and all that it consists of."""
    yield node
    for part in node if type(node) is tuple else ():
        yield from _nodes(part)


def letters(node: Node) -> frozenset[str]:
    """The names in a node that stand for unknowns."""
    return names(node) - CONSTANTS


class Algebra:
    """Makes expressions, worked out where all parts are rationals. Raises Unread of what has no value."""

    def __init__(self, work: Work, natural: bool = False):
        self.work, self.natural = work, natural  # whether a logarithm without a base has the base e

    def make(self, op: str, *parts: Node) -> Node:
        """The node of an operation; a product may also be of numbers and a matrix, or of a sign and infinity."""
        if op == "*" and len(parts) > 1:
            if 1 in parts:
                parts = tuple(x for x in parts if x != 1) or (1,)
            if _kind(parts[-1]) == "matrix":
                return (*parts[-1][:2], *(self.make("*", *parts[:-1], x) for x in parts[-1][2:]))
        if len(parts) == 1 and op in ("+", "*"):
            return parts[0]
        if parts == (-1, INFINITY):
            return (op, *parts)
        if op in EXACT and RATIONAL.issuperset(map(type, parts)):
            if op == "^":
                _refuse(not parts[0] and parts[1] <= 0, "division by zero")
                bits = _bits(parts[0]) * abs(parts[1]) if type(parts[1]) is int else MAX_BITS
            elif op in COUNTS:
                fits = all(type(x) is int and 0 <= x <= MAX_WHOLE for x in parts)
                _refuse(not fits, f"a factorial or binomial of others than whole numbers up to {MAX_WHOLE}")
                bits = 8 * max(parts)
            else:
                bits = sum(map(_bits, parts))
            if bits < MAX_BITS:
                self.work.spend(1 + bits * bits // 1_000_000)
                value = EXACT[op](*parts)
                return value.numerator if value.denominator == 1 else value
        for x in parts:
            if x == INFINITY or (type(x) is tuple and (x[0] in KINDS or INFINITY in x)):
                raise Unread("arithmetic with what is no number")
        return (op, *parts)

    def over(self, above: Node, below: Node) -> Node:
        if type(above) is type(below) is int and below and below not in (1, -1) and above % below:
            return Fraction(above, below)
        return self.make("*", above, self.make("^", below, -1))

    def substitute(self, node: Node, values: dict[str, Node]) -> Node:
        self.work.spend(2)
        if type(node) is not tuple or _kind(node):
            return values.get(node, node)
        return self.make(node[0], *(self.substitute(x, values) for x in node[1:]))


# ----------------------------------------------------------------------------------------------------------- the parser

SCALES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
# Words that change a value or deny it are no units behind it; the others are one if a thing or a plural is among them.
NO_UNITS = _set("""if is not no more less least most than about when where for with mod modulo base nor but wrong
false maybe squared cubed plus minus times half halves third thirds fourths quarters fifths sixths sevenths eighths
ninths tenths hundredths thousandths millionths hundreds thousands millions dozens crores lakhs scores""")
THINGS = _set("""th st nd rd place grade floor unit percent people men women children person child way time square sq
cubic cu per mph am pm 个 人 元 种 只 条 次 天 米 度 岁 块 本 支 张 名 页 件 棵 辆 组 对 千克 千米 厘米 毫米 小时
分钟 公里 平方米 平方厘米 立方厘米""")
THINGS |= UNITS.keys()
MONEY = _set('"dollar "euro "pound "yen "rupee "cent')
BASES = {word: str(i) for i, word in enumerate("two three four five six seven eight nine ten eleven twelve".split(), 2)}
SEPARATORS = frozenset((",", ";", "\\or", "\\and"))
GROUPED = frozenset((";", "\\or"))
JOINED = frozenset((":", "\\cup", "\\setminus"))
POSTFIXES = frozenset(("^", "!", "\\circ", "%"))
FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
RELATIONS = frozenset(("=", "!=", "~", "\\in", "\\equiv", "\\pmod", *FLIPPED))
SIGNS = frozenset(("+", "-", "\\pm", "\\mp"))
FRACTIONS = frozenset(("\\choose", "\\over"))
MARKS = RELATIONS | SEPARATORS | JOINED | FRACTIONS
OPERATORS = SIGNS | RELATIONS | SEPARATORS | {"*", "/", "^"}
CLOSERS = {"(": (")", "]"), "[": (")", "]"), "{": ("}",), "\\{": ("\\}",), "|": ("|",), "\\lfloor": ("\\rfloor",)}
CLOSERS |= {"\\lceil": ("\\rceil",)} | {f"\\begin{name}": (f"\\end{name}",) for name in ("", "cases")}
BRACKETS = frozenset((*CLOSERS, *(closer for closers in CLOSERS.values() for closer in closers)))
FENCES = {"||": "abs", "\\lfloor\\rfloor": "floor", "\\lceil\\rceil": "ceil"}
SETS = {"real": ("R",), "reals": ("R",), "integer": ("text", "Z"), "integers": ("text", "Z"), "empty": ("set",)}
SET_WORDS = _set("all every any each the set of number numbers value values x for")
CONDITIONS = _set('"for "where "with "approximately "approx "about "roughly "whenever "provided \\forall')
BOUNDS = CONDITIONS | FLIPPED.keys() | {"\\in", "!=", "~"}
DENIALS = _set("""\\not "not "no "most "least "more "less "than "about "if "or "never "neither "cannot "twice "half
"double "wrong "false "incorrect "doubt "unsure "whether "nobody "opposite "negative "reciprocal""")


class Group:
    """What stands between two brackets or bars, or in an environment: both ends as one text, and the items."""

    def __init__(self, brackets: str, items: list):
        self.brackets, self.items = brackets, items


Item = str | Group


def _nest(tokens: list[str]) -> list[Item]:
    """The tokens with what stands in brackets gathered in groups."""
    _refuse(len(tokens) > MAX_TOKENS, "too many tokens")
    if BRACKETS.isdisjoint(tokens):
        return [*tokens]
    outer: list[tuple[str, list[Item]]] = []
    opener, items = "", []
    for token in tokens:
        if token not in BRACKETS and token != ":":
            items.append(token)
        elif opener == "\\{" and token in ("|", ":") and len(items) == 1 and _named(items[0]):
            items.clear()  # {x : x > 2}
        elif token in CLOSERS.get(opener, ()) and not (token == "|" and (not items or items[-1] in OPERATORS)):
            group = Group(opener + token, items)
            opener, items = outer.pop()
            items.append(group)
        elif token in CLOSERS:
            _refuse(len(outer) >= MAX_DEPTH, "nested too deeply")
            outer.append((opener, items))
            opener, items = token, []
        else:
            _refuse(token != ":", "a bracket that closes nothing")
            items.append(token)
    _refuse(outer, "a bracket that is not closed")
    return items


def _split(items: list[Item], marks: Set[str]) -> tuple[list[list[Item]], list[str]]:
    """The parts of some items between marks, and the marks."""
    if marks.isdisjoint(items):
        return [items], []
    at = [i for i, item in enumerate(items) if item in marks]
    return [items[i + 1 : j] for i, j in pairwise((-1, *at, len(items)))], [items[i] for i in at]


def _flat(items: list[Item]) -> str:
    return "".join(x.strip('"') if type(x) is str else _flat(x.items) for x in items)


def _named(item: Item) -> bool:
    """Whether an item is the name of a variable or constant."""
    return type(item) is str and ((len(item) == 1 and item.isalpha()) or item in GREEK or item in CONSTANTS)


def _wording(item: Item) -> str:
    """The word of text that an item is, or ""."""
    return item[1:] if type(item) is str and item[:1] == '"' else ""


class Parser(Algebra):
    """Reads the items of one answer: `Parser(work).members(items)` is their value, or raises Unread.

    members  = relation {("," | ";" | "or" | "and") relation}     a member with +- is read once for each sign
    relation = side {("=" | "<" | "\\in" | ...) side}
    side     = quantity {(":" | "\\cup" | "\\setminus") quantity}
    quantity = words | sum [unit]
    sum      = ["-"] product {("+" | "-" | "\\pm") product}
    product  = powers {["*" | "/"] powers}
    powers   = atom {"^" exponent | "!" | "%" | "\\circ"}

    Lists are ("list", (how it is joined,), *members), chains ("rel", (signs), *sides), tuples and intervals ("seq",
    (brackets,), *items)."""

    items: Sequence[Item] = ("",)
    token: Item = ""  # the item at `at`
    at = signs = choice = 0  # how many +- the member has so far; the bits of those read as minus
    angle = False  # in the argument of a function, where a degree is a number
    unit = ""  # of a sign of degree, percent or currency, or of a base

    def next(self, tokens: int = 1) -> Item:
        """Steps past a token, or several: the first of them."""
        token = self.token
        self.at += tokens
        self.token = self.items[self.at]
        return token

    def skip(self, *tokens: str) -> str:
        """Steps past one of some tokens, if one stands here: it, else ""."""
        return self.next() if self.token in tokens else ""

    def digit(self) -> bool:
        return type(self.token) is str and self.token[:1] in DIGITS

    def starts(self) -> bool:
        """Whether a factor starts here."""
        return type(self.token) is Group or self.digit() or _named(self.token) or self.token in ATOMS

    def whole(self, items: list[Item], rule: Callable[[], Node]) -> Node:
        """What a rule makes of all of these items."""
        if len(items) == 1 and type(item := items[0]) is str and (item[0] in DIGITS or _named(item)):  # soon
            return self.literal(item) if item[0] in DIGITS else item
        self.work.spend(4 + len(items) // 8)
        outer = self.items, self.at, self.token
        self.items, self.at = [*items, "", "", "", ""], 0  # ends that may be looked past
        self.token = self.items[0]
        node = rule()
        if self.token != "":
            raise Unread(f"{self.token!r} is not understood here")
        self.items, self.at, self.token = outer
        return node

    def members(self, items: list[Item]) -> Node:
        self.signs = self.choice = 0
        if MARKS.isdisjoint(items):  # the most frequent ones soon
            node = self.whole(items, self.quantity)
            if not self.signs:
                return node
        self.work.spend(1 + len(items) // 8)
        parts, joints = _split(items, SEPARATORS)
        found: list[Node] = []
        for part in parts:
            choice = self.signs = 0
            while part and choice < 1 << self.signs:  # read once for each choice of its signs +-
                self.signs, self.choice = 0, choice
                found.append(self.relation(part))
                _refuse(self.signs > MAX_SIGNS, f"more than {MAX_SIGNS} signs +-")
                choice += 1
        _refuse(not found, "nothing to read")
        groups = [part for part in _split(items, GROUPED)[0] if part] if "," in joints else []
        if len(groups) > 1 and all(map(_assigns, found)):  # m=1, n=5; m=6, n=2
            found = [self.members(group) for group in groups]
        if joints == [","] and len(found) == 2 and _kind(found[1]) == "rel" and {"=", "~"}.isdisjoint(found[1][1]):
            bound, inside = letters(found[1][2]), letters(found[0][-1] if _kind(found[0]) == "rel" else found[0])
            del found[1 + (not bound or not bound <= inside) :]  # 2^n-1, n >= 1
        return ("list", (joints[-1] if joints else "",), *found) if len(found) > 1 else found[0]

    def relation(self, items: list[Item]) -> Node:
        if MARKS.isdisjoint(items):
            return self.whole(items, self.quantity)
        parts, signs = _split(items, RELATIONS)
        sides = [self.side(part) for part in parts]
        return ("rel", tuple(signs), *sides) if signs else sides[0]

    def side(self, items: list[Item]) -> Node:
        if JOINED.isdisjoint(items):
            return self.whole(items, self.quantity)
        parts, marks = _split(items, JOINED)
        node, *others = [self.whole(part, self.quantity) for part in parts]
        if ":" in marks:  # a label, a ratio or a time of day
            label = node[1] if _kind(node) == "text" and len(others) == 1 else ""
            labelled = label and label.upper() not in CHOICES and '"' + label not in DENIALS
            return others[0] if labelled else ("seq", ("::",), node, *others)
        for mark, other in zip(marks, others):
            node = ("without" if mark == "\\setminus" else "union", node, other)
        return node

    def quantity(self) -> Node:
        words = []
        while (word := _wording(self.token)) and self.token not in MONEY:
            words.append(word)
            self.next()
        if words:
            core = [word for word in words if word not in SET_WORDS]
            if len(core) == 1 and core[0] in SETS:
                self.skip("x")  # for all real x
                return SETS[core[0]]
            return ("text", _words(words) or "")
        self.unit = ""
        node = self.sum()
        if self.token == self.unit == "":
            return node
        while _wording(self.token) in SCALES:
            node = self.make("*", node, SCALES[_wording(self.next())])
        name = suffix = ""
        measured = False  # whether a word is a thing or a plural
        while (word := _wording(self.token)) or self.token == "'" or (name and self.token in ("^", "/", "*")):
            token = self.next()
            if word in NO_UNITS:
                raise Unread(f"{word!r} after a number")
            single = word[:-1] if word[-1:] == "s" and word[-2:] != "ss" and len(word) > 2 else word
            measured |= token == "'" or word in THINGS or single != word
            if token == "^":
                name += "^" + _flat([self.next()])
            elif not word or word == "per":
                name += "/" if word else token
            elif word in ("square", "sq", "cubic", "cu"):
                suffix = "^3" if word[0] == "c" else "^2"
            else:
                name, suffix = name + (UNITS.get(word) or UNITS.get(single) or single) + suffix, ""
        if name and not measured:
            raise Unread(f"{name!r} is no unit")
        unit, self.unit = "%" if name == "/cent" else name or self.unit, ""
        if not unit or unit.startswith("unit"):
            return node
        if type(node) not in RATIONAL:
            self.make("+", node, 0)  # refuses a unit of what is no number
        return ("quantity", node, (unit,))

    def sum(self) -> Node:
        terms: list[Node] = []
        while not terms or self.token in SIGNS:
            negative = False
            while self.token in SIGNS:
                sign = self.next()
                if sign in ("\\pm", "\\mp"):  # the latter is the other sign than its +-, if there was one
                    self.signs += sign == "\\pm" or not self.signs
                    negative ^= self.choice >> self.signs - 1 & 1
                negative ^= sign in ("-", "\\mp")
            node = self.product()
            terms.append(self.make("*", -1, node) if negative else node)
        return self.make("+", *terms) if terms[1:] else terms[0]

    def product(self) -> Node:
        factors = [self.powers()]
        while (token := self.token) != "":
            if token == "*" or (token == "/" and not _wording(self.items[self.at + 1])):
                self.next()
                while sign := self.skip("-", "+"):
                    factors.append(-1 if sign == "-" else 1)
                node = self.powers()
                factors.append(self.make("^", node, -1) if token == "/" else node)
            elif self.starts():
                before = self.items[self.at - 1]
                _refuse(self.digit() and type(before) is str and before[0] in DIGITS, "two numbers side by side")
                factors.append(self.powers())
            else:
                break
        return self.make("*", *factors) if factors[1:] else factors[0]

    def powers(self) -> Node:
        node = self.atom()
        while self.token in POSTFIXES:
            mark = self.next()
            inner = self.token.items if type(self.token) is Group else [self.token]
            if mark == "^" and len(inner) == 1 and inner[0] in ("\\circ", "'", '"th'):
                mark = _flat([self.next()])
            if mark == "^":
                exponent = self.exponent()
                node = self.make("^", node + self.subscript() if type(node) is str else node, exponent)  # v^2_0
            elif mark == "!":
                node = self.make("!!" if self.skip("!") else "!", node)
                _refuse(self.token == "!", "a factorial of a factorial")
            elif mark == "\\circ" and self.angle:
                node = self.make("*", node, "\\pi", Fraction(1, 180))
            elif mark in ("\\circ", "%"):
                self.unit = "%" if mark == "%" else "fahrenheit" if self.skip("C", "F") == "F" else "degree"
                _refuse(self.starts(), "an operation that is not known")  # 7 \circ 3
            elif mark == "'" and type(node) is str:
                node += mark
        return node

    def exponent(self) -> Node:
        negative, node = self.skip("-"), self.argument()
        if self.skip("^"):
            node = self.make("^", node, self.exponent())
        return self.make("*", -1, node) if negative else node

    def argument(self) -> Node:
        """An argument, in braces or one token. A number ends there: the 2 of x^2\\\\frac12 begins no mixed number."""
        return self.literal(self.next()) if self.digit() else self.atom()

    def subscript(self) -> str:
        return "_" + _flat([self.next()]) if self.skip("_") else ""

    def atom(self) -> Node:
        self.work.spend(6)
        token = self.next()
        if type(token) is Group:
            return self.group(token.brackets, token.items)
        if token[:1] in DIGITS:
            return self.number(token)
        if _named(token):
            name = token if token in CONSTANTS else token + self.subscript()
            while self.skip("'"):
                name += "'"
            return name
        if token in MONEY:
            self.unit = _wording(token)
            return self.atom()
        if token not in ATOMS:
            raise Unread(f"{token or 'the end'!r} is no mathematics here")
        return ATOMS[token](self, token)

    def group(self, brackets: str, items: list[Item]) -> Node:
        if brackets in ("{}", "()") and items and MARKS.isdisjoint(items):
            return self.whole(items, self.quantity)
        if brackets in FENCES:
            return self.make(FENCES[brackets], self.whole(items, self.sum))
        if brackets.startswith("\\begin"):
            return self.matrix(brackets, items)
        if brackets == "\\{\\}":
            outer = self.signs, self.choice
            node = self.members(items) if items else ("set",)
            self.signs, self.choice = outer
            nodes = node[2:] if _kind(node) == "list" else (node,)
            return node if _kind(node) in ("rel", "R", "set") else ("set", *nodes)
        parts, marks = _split(items, FRACTIONS)
        if len(marks) == 1:
            above, below = (self.whole(part, self.sum) for part in parts)
            return self.over(above, below) if marks == ["\\over"] else self.make("\\binom", above, below)
        nodes = [self.relation(part) for part in _split(items, {",", ";"})[0]]
        _refuse(len(nodes) == 1 and brackets in ("(]", "[)"), "brackets do not match")
        return nodes[0] if len(nodes) == 1 else ("set", *nodes) if brackets == "{}" else ("seq", (brackets,), *nodes)

    def number(self, token: str) -> Node:
        if self.token == "_":
            base = "".join(c for c in self.subscript()[1:].replace("base", "") if c not in "()")
            base = BASES.get(base, base)
            fits = token.isdecimal() and base.isdecimal() and int(max(token)) < int(base[:3]) < 37
            _refuse(not fits, "no number in a base")
            self.unit = "_" + base  # 101_2 is 101 of that kind
        elif "." in token and (self.skip("\\overline") or (token[-1] == "." and type(self.token) is Group)):  # 0.(3)
            period = _flat([self.next()])
            return self.literal(token, period if period.isdecimal() else "")
        elif token.isdecimal() and (self.token == "\\frac" or self.items[self.at + 1] == "/"):
            above, below = (_flat([self.items[self.at + i]]) for i in ((1, 2) if self.token == "\\frac" else (0, 2)))
            whole = above.isdecimal() and below.isdecimal() and len(above + below) < 40
            if whole and 0 < int(above) < int(below):  # a mixed number
                self.next(3)
                return self.literal(token) + Fraction(int(above), int(below))
        return self.literal(token)

    def literal(self, token: str, period: str | None = None) -> int | Fraction:
        """The value of a number, with the period that follows it; 0.1666… repeats its last digits."""
        if period is None and len(token) < 16 and token.isdecimal():
            return int(token)
        self.work.spend(1 + len(token) ** 2 // 100_000)
        if len(token + (period or "")) > MAX_DIGITS:
            raise Unread(f"a number of more than {MAX_DIGITS} digits")
        mantissa, _, exponent = token.partition("E")
        whole, _, part = mantissa.partition(".")
        if part.endswith("…"):
            part = part[:-1]
            period = next((part[-n:] for n in range(1, 10) if part.endswith(2 * part[-n:]) and len(part) >= 2 * n), "")
            part = part.removesuffix(period)
        _refuse(period == "" or len(exponent) > 4, "a decimal that goes on, or an exponent of ten beyond the bound")
        value = int(whole + part) + (Fraction(int(period), 10 ** len(period) - 1) if period else 0)
        shift = int(exponent or 0) - len(part)
        value *= Fraction(10) ** shift if shift < 0 else 10**shift
        return value.numerator if value.denominator == 1 else value

    def root(self, _: str) -> Node:
        degree = self.atom() if type(self.token) is Group and self.token.brackets == "[]" else 2
        return self.make("^", self.argument(), self.over(1, degree))

    def series(self, token: str) -> Node:
        start = self.skip("_") and self.atom()
        high, node = self.skip("^") and self.argument(), self.product()
        fits = start and _assigns(start) and type(start[3]) is type(high) is int and high - start[3] <= 1000
        _refuse(not fits, "a sum or product over no range of whole numbers")
        terms = [self.substitute(node, {start[2]: n}) for n in range(start[3], high + 1)]
        return self.make("+", 0, *terms) if token == "\\sum" else self.make("*", 1, *terms)

    def function(self, name: str) -> Node:
        base, exponent = 10 if name == "\\lg" or (name == "\\log" and not self.natural) else "e", 1
        if self.skip("_"):
            base, name = self.argument(), "\\log"
        if self.skip("^"):
            exponent = self.exponent()
            if exponent == -1 and "\\arc" + name[1:] in FUNCTIONS:
                name, exponent = "\\arc" + name[1:], 1
        outer, self.angle = self.angle, True
        factors = [self.atom() if type(self.token) is Group else self.powers()]
        while type(self.items[self.at - 1]) is type(self.token) is str and self.starts():
            if self.digit() or self.token in FUNCTIONS:
                break
            factors.append(self.powers())
        self.angle = outer
        x = self.make("*", *factors)
        if name in ("\\ln", "\\log", "\\lg"):
            node = self.make("\\ln", x) if base == "e" else self.over(self.make("\\ln", x), self.make("\\ln", base))
        else:
            node = self.substitute(DERIVED[name], {"x": x}) if name in DERIVED else self.make(name, x)
        return node if exponent == 1 else self.make("^", node, exponent)

    def matrix(self, brackets: str, items: list[Item]) -> Node:
        rows = [_split(row, {"&"})[0] for row in _split(items, {"\\\\"})[0] if row]
        cells = [[self.relation(cell[: len(cell) - (cell[-1:] == [","])]) for cell in row] for row in rows]
        _refuse(len({*map(len, cells)}) != 1, "a matrix of uneven rows")
        head = ("list", (",",)) if "cases" in brackets and len(cells[0]) == 1 else ("matrix", (len(cells[0]),))
        return (*head, *sum(cells, []))


ATOMS: dict[str, Callable[[Parser, str], Node]] = {
    "\\frac": lambda parser, _: parser.over(parser.argument(), parser.argument()),
    "\\abs": lambda parser, _: parser.make("abs", parser.argument()),
    "\\binom": lambda parser, token: parser.make(token, parser.argument(), parser.argument()),
    "\\sqrt": Parser.root, "\\sum": Parser.series, "\\prod": Parser.series,
    "\\emptyset": lambda parser, _: ("set",), "\\R": lambda parser, _: ("R",),
    **{f"\\mathbb{name}": lambda parser, token: ("text", token[-1]) for name in "ZNQC"},
    **dict.fromkeys(FUNCTIONS, Parser.function)}  # fmt: skip
# Functions in terms of others and of those before them.
DERIVED: dict[str, Node] = {}
for formula in _phrases(r"""
\exp e^x|\sec \frac{1}{\cos x}|\csc \frac{1}{\sin x}|\tan \frac{\sin x}{\cos x}|\cot \frac{\cos x}{\sin x}
\sinh \frac{e^x-e^{-x}}{2}|\cosh \frac{e^x+e^{-x}}{2}|\sech \frac{1}{\cosh x}|\csch \frac{1}{\sinh x}
\tanh \frac{\sinh x}{\cosh x}|\coth \frac{\cosh x}{\sinh x}|\arcsin 2\arctan\frac{x}{1+\sqrt{1-xx}}
\arccos \frac\pi2-\arcsin x|\arccot \frac\pi2-\arctan x|\arcsec \arccos\frac1x|\arccsc \arcsin\frac1x"""):
    name, value = formula.split(None, 1)
    DERIVED[name] = Parser(Work()).members(_nest(scan(value, Work())))


def _assigns(node: Node) -> bool:
    return _kind(node) == "rel" and node[1] == ("=",) and type(node[2]) is str


def read(text: str, work: Work | None = None) -> Node:
    """The value of an answer as a tree; ("text", the text, why) of what is no mathematics here. Never raises."""
    work = work or Work()
    with suppress(Unread):
        return parse(scan(_bare(text, work), work), work)
    return ("text", text, "too long")


def parse(tokens: list[str], work: Work, natural: bool = False) -> Node:
    """The value of tokens as a tree; a text node with the reason where they have none. Never raises."""
    why = ""
    if len(tokens) == 1 and len(tokens[0]) < 16 and tokens[0].isdecimal():
        return int(tokens[0])
    try:
        for items in _readings(_nest(tokens)):
            try:
                node = Parser(work, natural).members(items)
                if not why or _kind(node) != "text":
                    return node
            except (Unread, ArithmeticError) as error:
                why = why or str(error)
    except (Unread, RecursionError) as error:
        why = str(error)
    return ("text", "".join(tokens), why)


def _readings(items: list[Item]) -> Iterator[list[Item]]:
    """Some items, and what may be the answer in them: without premise, condition, words before it, unread sides."""
    yield items
    if items[:1] == ["\\forall"] and "," in items:
        yield (items := items[items.index(",") + 1 :])
    if "=>" in items:
        yield (items := _split(items, {"=>"})[0][-1])
    at, last = next((i for i, item in enumerate(items) if item in CONDITIONS), 0), items[-1] if items else ""
    if not at and type(last) is Group and last.brackets == "()" and not BOUNDS.isdisjoint(last.items):
        at = len(items) - 1  # 2^{n} (n > 0)
    value, condition = items[: at - (items[at - 1] == ",")] if at else [], items[at + 1 :]
    if (SEPARATORS | CONDITIONS).isdisjoint(condition) and not all(map(_wording, value)) and value[-1] not in OPERATORS:
        yield (items := value)
    label = max((i + 1 for i, item in enumerate(items) if item in ('"is', '"are', '"equals', '"be', ":")), default=0)
    lead = items[:label]  # but no choice, nor what is said of the answer: "twice the answer is"
    said = DENIALS.isdisjoint(lead) and not ('"of' in lead and '"answer' in lead[lead.index('"of') :])
    if label and _wording(items[0]) and said and (label > 2 or _wording(items[0]) not in CHOICES):
        yield (items := items[label:])
    for i, item in enumerate(items):
        if item in SEPARATORS or item in FLIPPED or item in DENIALS:
            break
        if item in ("=", "~") and any(type(x) is Group or x[-1].isalpha() for x in items[:i]):
            yield items[i + 1 :]


# ---------------------------------------------------------------------------------------------------------- the numbers

ZERO, ONE, NEAR = Decimal(0), Decimal(1), Decimal("1E-25")
PRIME = 2**250 + 2493  # 5 modulo 8
ROOT = pow(2, PRIME // 4, PRIME)  # of -1
SMALL = math.prod(n for n in range(3, 100) if all(n % k for k in range(2, n)))


def _draw(seed: str) -> int:
    return int.from_bytes(blake2b(seed.encode(errors="replace"), digest_size=32).digest())


class Residues(dict):
    """The values of rational expressions at a point modulo a prime, where i is a root of -1. The point is drawn from a
    seed, and so is the prime, but where it may be known. Raises NotImplementedError at any other operation."""

    def __init__(self, seed: str, work: Work, known: bool):
        self.seed, self.work, self.prime = seed, work, PRIME
        if not known:
            self.prime = (_draw(seed) >> 131 | 1 << 124) // 8 * 8 + 5  # 2 is no square modulo such a prime
            while math.gcd(self.prime, SMALL) > 1 or pow(2, self.prime // 2, self.prime) != self.prime - 1:
                work.spend(4)
                self.prime += 8
        self["i"] = ROOT if known else pow(2, self.prime // 4, self.prime)

    def __missing__(self, node: Node) -> int:
        self.work.spend(2)
        if type(node) is str:
            value = _draw(f"{node} {self.seed}")
        elif type(node) in RATIONAL:
            value = node.numerator * pow(node.denominator, -1, self.prime)
        elif node[0] in ("+", "*"):
            value = EXACT[node[0]](*(self[x] for x in node[1:]))
        elif node[0] != "^" or type(node[2]) is not int:
            raise NotImplementedError
        else:
            base, exponent = self[node[1]], node[2]
            _refuse(not base and exponent < 0, "division by zero")
            self.work.spend(20)
            value = pow(base, exponent if -9 < exponent < 99 else exponent % (self.prime - 1), self.prime)
        self[node] = value % self.prime
        return self[node]


def _height(node: Node) -> int:
    """A bound on the bits of the coefficients of some rational expressions, over and under the fraction bar."""
    if type(node) is not tuple:
        return _bits(node) if type(node) in RATIONAL else 0
    power = abs(node[2]) if node and node[0] == "^" and type(node[2]) is int else 1
    return (sum(map(_height, node)) + len(node)) * power


class Reals(dict):
    """The values of expressions at numbered points, in decimals of some digits; or why there is none. `draw` gives the
    value of a letter at a point; i is one of them here: what agrees whatever it is agrees."""

    def __init__(self, digits: int, draw: Callable[[str, int], Decimal], work: Work):
        self.digits, self.draw, self.work = digits, draw, work
        self.context = Context(digits, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[InvalidOperation, DivisionByZero, Overflow])
        self.step = 1 + digits * digits // 40_000  # the work of a product
        self.long = 20 + digits + digits**3 // 60_000  # the work of a logarithm, exponential or power
        self.tiny = ONE.scaleb(12 - digits)

    def __missing__(self, key: tuple[Node, int]) -> Decimal | Exception:
        try:
            with localcontext(self.context):
                self[key] = self.value(*key)
        except (Unread, ArithmeticError) as error:
            self[key] = error
        return self[key]

    def value(self, node: Node, point: int) -> Decimal:
        self.work.spend(self.step)
        if type(node) is str:
            key = node, 0 if node in ("\\pi", "e") else point
            if key not in self:
                self.work.spend(self.long)
                known = {"\\pi": lambda: 4 * self.arctan(ONE), "e": ONE.exp}
                self[key] = known[node]() if node in known else self.draw(node, point)
            return self[key]
        if type(node) in RATIONAL:
            self.work.spend(_bits(node) ** 2 // 600_000)
            return Decimal(node.numerator) / node.denominator
        name, x, *more = node[0], *(self.value(part, point) for part in node[1:])
        if name == "*":
            return math.prod(more, start=x)
        if name == "+":
            sizes, total = [abs(x) for x in (x, *more) if x], sum(more, x)
            _refuse(sizes and min(sizes) < max(sizes).scaleb(20 - self.digits), "a sum of terms too far apart")
            return ZERO if sizes[1:] and abs(total) < max(sizes) * self.tiny else total
        if name == "^":
            return self.power(x, more[0], node[2])
        if name in REAL:
            self.work.spend(self.long)
            return REAL[name](self, x)
        wholes = [int(self.rounded(x)) for x in (x, *more)]
        return self.value(Algebra(self.work).make(name, *wholes), point)

    def power(self, x: Decimal, y: Decimal, exponent: Node) -> Decimal:
        _refuse(not x and y <= 0, "division by zero")
        p, q = (exponent.numerator, exponent.denominator) if type(exponent) is Fraction else (0, 0)
        if not q and abs(y) < 10**9 and y == y.to_integral_value():
            p, q = int(y), 1
        self.work.spend(self.step * (20 + 4 * p.bit_length()) + 2 * self.long * (q not in (1, 2)))
        _refuse(x < 0 and q % 2 == 0, "no real value")  # but a negative number has a real odd root: (-8)^{1/3} = -2
        if q == 2:  # faster than sqrt()
            shift = self.digits - x.adjusted() // 2
            return Decimal(math.isqrt(int(x.scaleb(2 * shift)))).scaleb(-shift) ** p
        size = abs(x) ** (p if q == 1 else y)
        _refuse(q != 1 and y and abs(x) != 1 and abs(size - 1) < NEAR, "a power that is nearly 1")
        return -size if x < 0 and p % 2 else size

    def sine(self, x: Decimal, quarters: int = 0) -> Decimal:
        """The sine of x, a quarter of a turn further its cosine."""
        _refuse(abs(x) > 10**6 or (x and abs(x) < NEAR), "an angle beyond a million, or nearly 0")
        pi = self.value("\\pi", 0)
        x += quarters * pi / 2
        total = self.series(x - (x / (2 * pi)).to_integral_value() * 2 * pi, True)
        return ZERO if abs(total) < self.tiny else total

    def arctan(self, x: Decimal) -> Decimal:
        self.work.spend(60 * self.step)
        _refuse(abs(x) * NEAR > 1, "nearly a right angle")
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
        exact = abs(x - near) <= self.tiny * (1 + abs(x))
        _refuse(not how and (not exact or abs(x) > MAX_WHOLE), "a factorial or binomial beyond the bounds")
        return near if exact else x.to_integral_value(how)


REAL: dict[str, Callable[[Reals, Decimal], Decimal]] = {
    "\\ln": lambda _, x: (x or -ONE).ln(), "\\sin": Reals.sine, "\\cos": lambda reals, x: reals.sine(x, 1),
    "\\arctan": Reals.arctan, "abs": lambda _, x: abs(x), "floor": lambda reals, x: reals.rounded(x, "ROUND_FLOOR"),
    "ceil": lambda reals, x: reals.rounded(x, "ROUND_CEILING")}  # fmt: skip

# ------------------------------------------------------------------------------------------------------- the comparison

NESTED = {"seq": 2, "list": 2, "rel": 2, "matrix": 2, "set": 1, "union": 1, "without": 1}  # where parts begin
EXPRESSIONS = frozenset(("", "quantity"))
REGIONS = frozenset(("rel", "union", "without", "R", "seq"))
HOLDS = {"<": lt, "<=": le, ">": gt, ">=": ge, "!=": ne, "(": lt, ")": lt, "[": le, "]": le}
REAL_LETTERS = frozenset("rstuvwxyz") | GREEK  # others are whole where there is a floor or ceiling
SCALE = (1, 0, 4, 1, 0, 30, 900, 0, 4)  # of the nine points; 0 is a whole one, for factorials and binomials
NEGATIVE = {3: 1, 5: 2, 6: 4, 8: 8}  # the bit that makes a letter negative at a point
BITS = (1, 2, 4, 8, 7, 11, 13, 14, 15)  # of the letters in order
RUN = range(9, 45)  # points in whole numbers: 16 from a small one upwards, 16 from -1 downwards, four large ones


def _bare(text: str, work: Work) -> str:
    """An answer without its boxes, quotes, the spaces around it, a full stop; with a price for a lone dollar sign."""
    if "\\boxed" in text or "\\fbox" in text:
        boxes = _boxes(text, work)
        text = " , ".join(_run(text, boxes, True)) if boxes else ""
    text = text.strip(' \n\t\r_`*"')
    text = text if text.endswith("...") else text.rstrip(' .。_`*"')
    return "\\" + text if text[:1] == "$" and text.count("$") == 1 else text


def _fraction(text: str) -> int | Fraction | None:
    """The value of a short number in the most frequent forms, 0.75 and -3/4 and frac{3}{4}; None of all others."""
    if len(text) > 14 or not text.isascii():
        return None
    if text.isdecimal():
        return int(text)
    above, slash, below = text.removeprefix("-").removeprefix("\\").partition("/")
    if above[-1:] == "}":
        above, slash, below = above[:-1].removeprefix("d").removeprefix("t").removeprefix("frac{").partition("}{")
    whole, _, part = (above, "", "") if slash else above.partition(".")
    if not (whole + part).isdecimal() or (slash and not (below.isdecimal() and int(below))):
        return None
    value = Fraction(int(whole + part), int(below) if slash else 10 ** len(part))
    return -value if text[0] == "-" else value


def judge(a: str, b: str, work: Work, directed: bool = False) -> tuple[bool, str]:
    """The verdict on two answers, and why. `directed` says that b is the gold answer."""
    x, y = a.lstrip(" \\$").rstrip(" $."), b.lstrip(" \\$").rstrip(" $.")
    if x.isdecimal() and y.isdecimal() and x.isascii() and y.isascii():  # the most frequent ones soon
        return x.lstrip("0") == y.lstrip("0"), "not equal"
    if (value := _fraction(x)) is not None and (other := _fraction(y)) is not None:
        return value == other, "not equal"
    why = "not equal"
    try:
        a, b = _bare(a, work), _bare(b, work)
        left, right = scan(a, work), scan(b, work)
        if left == right or not left or not right:
            alike = any(map(str.isalnum, "".join(left))) or not {*left}.isdisjoint("()[]<>}") or "\\}" in left
            return left == right and alike, "equal" if alike else "nothing to compare"
        words, others = _words(left), _words(right)
        if (words or others) and (words == others or _reasoned(words, right) or _reasoned(others, left)):
            return True, "equal"
        readings = [(left, right)]
        if "," in a and max(map(len, left)) > 3:  # 100,200 may be a list after all
            readings.append((scan(a, work, False), right))
        if "," in b and max(map(len, right)) > 3:
            readings.append((left, scan(b, work, False)))
    except Unread as error:
        return bool(a) and a == b, f"not equal as far as decided: {error}"
    (letter, rest), (other, reason) = _choice(left), _choice(right)
    if letter + other and not (rest and reason):  # (C) 12 is both C and 12
        if (letter and letter == others) or (other and other == words):
            return True, "equal"
        readings += [(rest, right)] * bool(rest) + [(left, reason)] * bool(reason)
    seed = "\0".join((a, b) if a < b else (b, a))
    for pair in readings:
        for natural in (False, True) if "\\log" in pair[0] or "\\log" in pair[1] else (False,):
            try:
                x, y = parse(pair[0], work, natural), parse(pair[1], work, natural)
                if Judge(x, y, seed, work, right if directed else ()).match(x, y):
                    return True, "equal"
            except (Unread, ArithmeticError, RecursionError) as error:
                why = f"not equal as far as decided: {error}"
    return False, why


def _words(tokens: list[str]) -> str:
    """Tokens that are only words and letters as one text, without case, article and brackets; "" of others."""
    if not DIGITS.isdisjoint("".join(tokens)):
        return ""
    dropped = ("{", "}", ".", ":", "?", '"') + (() if "," in tokens or ";" in tokens else ("(", ")"))
    words = [token.strip('"') for token in tokens if token not in dropped]
    if not words or not all(word.strip("\\").isalpha() or word in "(),;" for word in words) or tokens in (["e"], ["i"]):
        return ""
    if words[0] in ("a", "an", "the") or (words[0] in ("option", "choice", "answer") and len(words[-1]) == 1):
        words = words[len(words) > 1 :]
    return "".join(word.removesuffix("s") if len(words) > 1 and len(word) > 4 else word for word in words).lower()


def _reasoned(verdict: str, tokens: list[str]) -> bool:
    """Whether an answer is yes or no, or true or false, and gives nothing but a reason for it."""
    if verdict not in VERDICTS or tokens[0].strip('"') != verdict or len(tokens) < 2:
        return False
    given = tokens[1] in (",", ".", ";", ":", "-") or (verdict != "no" and tokens[1] in REASONS)
    return given and UNDOING.isdisjoint(tokens) and not {*VERDICTS[verdict].split()} & {*map(_wording, tokens)}


def _choice(tokens: list[str]) -> tuple[str, list[str]]:
    """The letter and the rest of a labelled choice, (C) 12 or C) 12 or C. 12; "" where it is none, or several."""
    at = int(tokens[0] == "(")
    if tokens[at : at + 1] and tokens[at].strip('"').upper() not in CHOICES:
        return "", []
    letter, mark, *rest = *(_wording(token).upper() or token for token in tokens[at:]), "", ""
    if letter not in CHOICES or not mark or mark not in (")" if at else ").:"):
        return "", []
    several = any(x in CHOICES and y in (")", ":") for x, y in pairwise(rest))
    several |= any(x in CHOICES for x in rest) and all(x in CHOICES or not x.isalnum() for x in rest)
    return ("", []) if several else (letter.lower(), tokens[at + 2 :])


class Judge(Algebra):
    """Compares two trees at points that derive from a seed: from both texts, so that no point is known beforehand."""

    def __init__(self, x: Node, y: Node, seed: str, work: Work, gold: Sequence[str] = ()):
        super().__init__(work)
        self.trees, self.seed, self.gold = (x, y), seed, gold  # the tokens of the gold answer, where y is one

    def match(self, a: Node, b: Node) -> bool:
        self.work.spend(2)
        if type(a) is type(b) is int:  # the most frequent ones soon
            return a == b
        kinds = {_kind(a), _kind(b)}
        if kinds <= EXPRESSIONS:
            return self.same_quantity(a, b) if "quantity" in kinds else self.same(a, b)
        if "matrix" in kinds:
            a, b = (("seq", ("()",), *x[2:]) if _kind(x) == "matrix" and x[1] == (1,) else x for x in (a, b))
        kinds = kind, other = _kind(a), _kind(b)
        if a == b:
            return True
        if kind == other and kind in ("seq", "matrix") and a[1] == b[1]:
            return len(a) == len(b) and all(map(self.match, a[2:], b[2:]))
        if "list" in kinds and "seq" in kinds:
            named, node = (a, b) if kind == "list" else (b, a)  # a=2, b=7 is (2,7) in the order of the names
            values = {x[2]: x[3] for x in sorted(named[2:], key=repr) if _assigns(x) and "_" not in x[2]}
            fits = node[1] == ("()",) and named[1] != ("\\or",) and len(values) + 2 == len(named) == len(node)
            return fits and all(map(self.match, values.values(), node[2:]))
        if not REGIONS.isdisjoint(kinds) and not any(_kind(x) == "rel" and x[1][-1] in ("=", "~") for x in (a, b)):
            with suppress(Unread, KeyError):  # the latter of what is no end
                return self.same_region(a, b)
        if kind == other == "rel":
            return self.same_relation(a, b)
        if "rel" in kinds:
            return self.same_solved(a, b)
        if "list" in kinds or "set" in kinds:
            return self.same_members(a, b)
        return False

    def same_members(self, a: Node, b: Node) -> bool:
        """Unordered and complete. In a set, or where "or" joins them, a member may come twice."""
        left, right = ([*x[NESTED[_kind(x)] :]] if _kind(x) in ("list", "set") else [x] for x in (a, b))
        _refuse(max(len(left), len(right)) > MAX_MEMBERS, f"more than {MAX_MEMBERS} members")
        if any(_kind(x) == "set" or (_kind(x) == "list" and x[1] == ("\\or",)) for x in (a, b)):
            for found in (left, right):
                found[:] = [x for i, x in enumerate(found) if not any(self.match(x, y) for y in found[:i])]
        if len(left) != len(right):
            return False
        for x in left:
            at = next((i for i, y in enumerate(right) if self.match(x, y)), None)
            if at is None:
                return False
            del right[at]
        return True

    def same_quantity(self, a: Node, b: Node) -> bool:
        """A unit may be left out on either side, but not differ; 35% is 35 or 0.35."""
        x, (unit,) = a[1:] if _kind(a) == "quantity" else (a, ("",))
        y, (other,) = b[1:] if _kind(b) == "quantity" else (b, ("",))
        if unit and other and unit != other:
            return False
        if self.same(x, y):
            return True
        percent = Fraction(1, 100)
        x, y = (self.make("*", percent, x), y) if unit == "%" else (x, self.make("*", percent, y))
        return unit != other and "%" in (unit, other) and self.same(x, y)

    def same_solved(self, a: Node, b: Node) -> bool:
        sums = self.gold and _kind(b) == "rel" and type(b[2]) is tuple and b[2][0] == "+"
        if sums and b[1] == ("=",) and letters(b[2]):  # 9 is no answer to what asks for m+n = 9
            return False
        if _kind(a) == "rel":
            return any(self.match(x, b) for x in self.solved(a))
        return any(self.match(a, x) for x in self.solved(b))

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
        value, values = sides[-1], sides[-1:]
        if len(sides) > 1 and signs[-1] == "~":
            *sides, value, rounding = sides
            error = self.units_off(value, rounding)
            values, sides = [value] * (-0.5 <= error < 1) + [rounding] * (-0.5 <= error <= 0.5), [*sides, value]
        for side in sides[:-1]:
            alike = letters(side) == letters(value)
            if not self.match(side, value) if alike else not chain or letters(value):
                return []
        return values

    def units_off(self, exact: Node, decimal: Node) -> float:
        """How far a decimal is below a value, in units of its last place; infinity of what is no number or decimal."""
        size = self.size(exact)
        places = next((n for n in range(16) if type(decimal) in RATIONAL and 10**n % decimal.denominator == 0), None)
        known = size is not None and places is not None and abs(size) < 1e15
        return math.copysign(1, size) * float((Fraction(size) - decimal) * 10**places) if known else math.inf

    def same_relation(self, a: Node, b: Node) -> bool:
        """Equations up to scale and side, inequalities up to positive scale and side, longer chains side by side."""
        signs, others, back = a[1], b[1], tuple(FLIPPED.get(sign, sign) for sign in b[1][::-1])
        for turned, sides in ((others, b[2:]), (back, b[:1:-1])):
            if signs == turned and all(map(self.match, a[2:], sides)):  # as many sides, too
                return True
        if not len(a) == len(b) == 4 or any(map(_kind, a[2:] + b[2:])) or (signs != others and signs != back):
            return False
        (head, f), (other, g) = a[2:], b[2:]
        defined = all(_product_of_names(x) and x[:1] == ("*",) and len(x) == 3 for x in (head, other))
        if defined and head[:2] == other[:2] and head[1] in (*"fghFGHPQpq",) and head[2] not in letters(g):
            return self.match(f, self.substitute(g, {other[2]: head[2]}))  # f(x) = x+1 is f(n) = n+1
        f, g = (self.make("+", left, self.make("*", -1, right)) for left, right in ((head, f), (other, g)))
        there = {name: name + "\0" for name in letters(f) | letters(g)}  # f / g is constant if f(x) g(y) is g(x) f(y)
        crossed = (self.make("*", x, self.substitute(y, there)) for x, y in ((f, g), (g, f)))
        if not there or not self.same(*crossed):
            return False
        values = (self.fine[self.make("*", f, g), number] for number in range(9))
        scale = next((x > 0 for x in values if not isinstance(x, Exception) and x), None)
        return scale is not None and (signs[0] not in FLIPPED or scale == (signs == others))

    def same_region(self, a: Node, b: Node) -> bool:
        """Whether two nodes are the same set of reals, said of the same letter. Raises Unread of others.
        The ends of both cut the line into cells: 2i+1 is the end i, 2i what is below it, 2i+2 what is above."""
        sizes = {node: size for node in {*_nodes(a), *_nodes(b)} if (size := self.size(node)) is not None}
        self.cells, self.said, ends = dict(INFINITIES), set(), []
        for node in sorted(sizes.keys() - INFINITIES.keys(), key=sizes.get):
            self.work.spend(4 + len(ends) // 4)
            near = (i for i, end in enumerate(ends) if math.isclose(sizes[end], sizes[node], rel_tol=1e-12))
            at = next((i for i in near if self.same(ends[i], node)), len(ends))
            ends += [node] * (at == len(ends))
            self.cells[node] = 2 * at + 1
        alike = [self.inside(cell, a) == self.inside(cell, b) for cell in range(2 * len(ends) + 1)]
        return all(alike) and len(self.said) < 2

    def inside(self, cell: int, node: Node) -> bool:
        """Whether a cell of the line belongs to a set of reals."""
        self.work.spend(2)
        kind = _kind(node)
        parts = node[NESTED[kind] :] if kind in NESTED else ()
        if kind == "R":
            return True
        if kind == "set":
            return cell in [self.cells[x] for x in parts]
        if kind == "seq" and len(parts) == 2:
            (opener, closer), low, high = node[1][0], self.cells[parts[0]], self.cells[parts[1]]
            _refuse(low > high, "an empty interval")
            return HOLDS[opener](low, cell) and HOLDS[closer](cell, high)
        if kind == "rel":
            letter, held = next((x for x in parts if type(x) is str and x not in CONSTANTS), ""), []
            self.said.add(letter)
            for left, sign, right in zip(parts, node[1], parts[1:]):
                if left != letter:
                    left, sign, right = right, FLIPPED.get(sign, sign), left
                _refuse(left != letter or sign not in (*HOLDS, "\\in"), "no inequality in one letter")
                held.append(self.inside(cell, right) if sign == "\\in" else HOLDS[sign](cell, self.cells[right]))
            return all(held)
        if kind == "without":
            return self.inside(cell, parts[0]) and not self.inside(cell, parts[1])
        _refuse(kind != "union" and (kind != "list" or any(_kind(x) != "rel" for x in parts)), "no set of reals")
        return (all if node[1] == ("\\and",) else any)([self.inside(cell, x) for x in parts])

    def same(self, a: Node, b: Node) -> bool:
        self.work.spend(2)
        if a == b:
            return True
        if type(a) in RATIONAL and type(b) in RATIONAL:
            return self.printed(a, b) or self.printed(b, a)
        if a in INFINITIES or b in INFINITIES:
            return False
        if type(b) is Fraction and abs(b.numerator) > 10**6 and b in self.decimals and abs(self.units_off(a, b)) < 1.5:
            return True  # such a gold answer was computed
        with suppress(NotImplementedError):
            return self.residues[a] == self.residues[b]
        return self.agree(a, b)

    def printed(self, a: int | Fraction, b: int | Fraction) -> bool:
        """Whether a is the decimal b with the error of a float: 16 or 17 digits as a program prints them, at most four
        floats from a b of at most 12 digits."""
        if abs(a.numerator) < 10**9 or not 0 < abs(a - b) < 1 or not 1e-4 < abs(a) < 1e15:
            return False
        x, y = float(abs(a)), float(abs(b))
        close = abs(x - y) <= 4 * math.ulp(y) and Fraction(repr(x)) == abs(a) and Fraction(repr(y)) == abs(b)
        digits, others = (len(repr(z).strip("0.").replace(".", "")) for z in (x, y))
        return close and others < 13 and digits > 15 and repr(x) in self.seed

    @cached_property
    def decimals(self) -> set[Fraction]:
        """The decimals of the gold answer, with either sign."""
        found = {Fraction(x) for x in self.gold if "." in x and x.replace(".", "", 1).isdecimal()}
        return found | {-x for x in found}

    @cached_property
    def residues(self) -> Residues:
        # A multiple of a known prime could be added, but not in numbers as small as its root.
        return Residues(self.seed, self.work, _height(self.trees) < 60)

    @cached_property
    def fine(self) -> Reals:
        width = max((_bits(x) for x in _nodes(self.trees) if type(x) in RATIONAL), default=0) * 3 // 10  # in digits
        self.order = sorted({x for x in _nodes(self.trees) if type(x) is str})
        _refuse(width > MAX_WIDTH, f"a number of more than {MAX_WIDTH} digits in what is not rational")
        return Reals(70 + 3 * max(0, width - 5), self.draw, self.work)

    def size(self, node: Node) -> float | None:
        """A real number as a float, infinities too; None of anything else."""
        known = not _kind(node) and names(node) <= {"\\pi", "e"} and (type(node) is not tuple or len(node) > 1)
        found = self.fine[node, 0] if known else None
        return float(found) if isinstance(found, Decimal) else INFINITIES.get(node)

    def agree(self, a: Node, b: Node) -> bool:
        """Whether two expressions agree wherever both have a value. Raises Unread of too few points."""
        found = (names(a) | names(b)) - {"\\pi", "e"}
        stepped = any(x in ("floor", "ceil") for x in _nodes((a, b)))
        seen, real, error = 0, 0, None
        numbers = (0,) if not found else (1, 4, 7) if stepped and not found & REAL_LETTERS else range(9)
        for number in (*numbers, *RUN):
            if (number == 9 and (not found or (real and not stepped))) or (number == 41 and not stepped):
                break
            self.work.spend(4)
            x, y = self.fine[a, number], self.fine[b, number]
            error = x if isinstance(x, Exception) else y if isinstance(y, Exception) else None
            if error is None:
                if abs(x - y) > max(abs(x), abs(y)).scaleb(-50 - (self.fine.digits - 70) * 2 // 3):
                    return False
                seen += 1
                real += number < 9 and SCALE[number] > 0
        _refuse(seen < (1 if not found else 2 if real and not stepped else 6), str(error or "too few points"))
        return True

    def draw(self, letter: str, number: int) -> Decimal:
        """The value of a letter at a point: of the nine, or of the run in whole numbers."""
        place = self.order.index(letter.rstrip("\0"))
        draw = _draw(f"{letter} {number if number > 40 else min(number, 9)} {self.seed}")
        if number >= 9:
            # The first letter takes 16 consecutive values of each sign, the others run slower: all parities meet.
            if number > 40:
                return Decimal(draw % 10**5)
            step = number - 9
            size = step // (place + 1) % 16 + draw % 5
            return Decimal(-1 - size if step >> max(0, 4 - place) & 1 else size)
        size = Decimal(draw % 10**9 + 10**8).scaleb(-9) * SCALE[number]
        size = size or Decimal(2 + draw % (6, 12, 24)[number // 3])
        return -size if NEGATIVE.get(number, 0) & BITS[place % 9] else size


def _product_of_names(node: Node) -> bool:
    return type(node) is str or (type(node) is tuple and node[0] == "*" and all(type(x) is str for x in node[1:]))


def _is_name(node: Node, value: Node) -> bool:
    """Whether `node` = `value` names what is asked for: x, f(x), f(3), |AB|, m+n, S_{10}, 10m+n; but nothing that is
    worked out of one unknown, such as 2n, n+1 and 2^n, nor a sum of unknowns x, y."""
    if _kind(node):
        return _kind(node) in ("text", "seq")
    if _product_of_names(node):
        return type(value) is not str or value not in CHOICES
    found = letters(node)
    if not found or any(name[0] in "stuvwxyz" for name in found) or letters(value) or not value:
        return False
    called = node[0] in ("\\sin", "\\cos") or (node[0] == "*" and node[1] in {*"fghFGHPQpq"})
    return len(found) > 1 or called or (node[0] == "abs" and not min(found).islower())


if __name__ == "__main__":
    raise SystemExit("python -m tools.grade RESPONSE GOLD shows what this reads, and its verdict")
