"""Is this answer right? The final answer of a response, read and compared with the gold answer, exactly.

Plain Python, no regular expressions, no evaluation of what a model wrote. So far it reads integers, decimals and
fractions (`1,234`, `-3/4`, `\\frac{3}{4}`, `\\dfrac34`, `2.50`) as exact rationals; anything else is compared as
text, spaces aside. Work is bounded by the length of the text: it never raises, and 0.333 is not 1/3.
"""

from fractions import Fraction

MARKERS = ("answer is", "answer:", "####")  # where a response without a box says its answer
MAX_DIGITS = 4000  # of a number: longer ones are compared as text


def verify(response: str, gold: str) -> bool:
    """Whether the final answer of `response` equals `gold`. Never raises; an empty gold matches nothing."""
    answer = extract_answer(response)
    return answer is not None and equivalent(answer, gold)


def extract_answer(response: str) -> str | None:
    """The final answer of a response: the last non-empty `\\boxed{...}`, or else what follows the last of MARKERS on
    its line, or else the last number; None when there is neither."""
    end = len(response)
    while (at := response.rfind("\\boxed{", 0, end)) >= 0:
        content = _braced(response, at + len("\\boxed"))
        if content and content.strip():
            return content.strip()
        end = at
    lowered = response.lower()
    at, marker = max((lowered.rfind(marker), marker) for marker in MARKERS)
    if at >= 0:
        rest = response[at + len(marker) :].strip().split("\n")[0].strip(" :.$")
        return rest or None
    return _last_number(response)


def equivalent(a: str, b: str) -> bool:
    """Whether two answers are the same number, or, where one is no number, the same text. Symmetric."""
    a, b = _plain(a), _plain(b)
    if not a or not b:
        return False
    value_a, value_b = _rational(a), _rational(b)
    if value_a is None or value_b is None:
        return a.lower() == b.lower()
    return value_a == value_b


def _braced(text: str, at: int) -> str | None:
    """What the brace that opens at `at` encloses; None when it never closes."""
    depth = 0
    for i in range(at, len(text)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[at + 1 : i]
    return None


def _last_number(text: str) -> str | None:
    end = len(text)
    while end and not text[end - 1].isdecimal():
        end -= 1
    start = end
    while start and (text[start - 1].isdecimal() or text[start - 1] in ",./"):
        start -= 1
    if start and text[start - 1] == "-":
        start -= 1
    return text[start:end].lstrip(",./") or None


def _plain(text: str) -> str:
    """Without spaces, dollar signs, thousands separators' decoration and a final period."""
    for old, new in (
        ("\u2212", "-"),
        ("\\!", ""),
        ("{,}", ","),
        ("\\,", ""),
        ("\\$", ""),
        ("\\left", ""),
        ("\\right", ""),
    ):
        text = text.replace(old, new)
    text = "".join(text.replace("$", "").split())
    return text.removesuffix(".")


def _rational(text: str) -> Fraction | None:
    """The exact value of a plain integer, decimal or fraction."""
    sign = -1 if text.startswith("-") else 1
    text = text.lstrip("+-") if text[:1] in "+-" else text
    for name in ("\\frac", "\\dfrac", "\\tfrac"):
        if text.startswith(name):
            above, rest = _argument(text[len(name) :])
            below, rest = _argument(rest)
            if rest:
                return None
            return _quotient(sign, above, below)
    above, slash, below = text.partition("/")
    return _quotient(sign, above, below if slash else "1")


def _argument(text: str) -> tuple[str, str]:
    """A LaTeX argument, in braces or one character, and what follows it."""
    if text.startswith("{"):
        content = _braced(text, 0)
        return ("", "?") if content is None else (content, text[len(content) + 2 :])
    return text[:1], text[1:]


def _quotient(sign: int, above: str, below: str) -> Fraction | None:
    top, bottom = _decimal(above), _decimal(below)
    return sign * top / bottom if top is not None and bottom else None


def _decimal(text: str) -> Fraction | None:
    negative = text.startswith("-")
    whole, point, part = text[negative:].partition(".")
    if "," in whole:
        groups = whole.split(",")
        if not 1 <= len(groups[0]) <= 3 or any(len(group) != 3 for group in groups[1:]):
            return None
        whole = "".join(groups)
    digits = whole + part
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > MAX_DIGITS or (point and not part):
        return None
    return Fraction(-int(digits) if negative else int(digits), 10 ** len(part))
