# ruff: noqa: RUF001
"""Is this answer right? The final answer of a response, read as mathematics and compared with the gold answer.

Four steps, in the order of this file: find the final answer in a response (`extract_answer`), cut it into tokens
(`scan`), build a value by recursive descent (`Parser`), compare two values (`match`). Nothing is ever evaluated as a
program.

Read, in LaTeX and in plain notation: integers, fractions and mixed numbers, decimals (repeating, scientific), radicals,
pi, e, i, powers, factorials, binomials, logarithms, trigonometry, floor, ceiling and absolute value; expressions in
variables; degrees, units, currency, percent; tuples, lists, sets, +-, "or"; intervals, unions, inequalities; equations;
ratios; matrices and vectors; numbers in a base; words and choices.

Equality of two expressions is decided the cheapest way that settles it:
  1. Rationals are exact, up to MAX_BITS.
  2. Expressions of + - * / and whole powers over rationals, variables, pi, e and i (1/2^{99}, 2^{1000000}, (t-1)(t+6))
     are compared at a pseudo-random point modulo PRIME. pi and e are variables here: no polynomial relation between
     them is known. Unequal ones of degree d pass with probability below d / 2^124.
  3. All others are evaluated in decimal arithmetic and are equal where they agree to 50 significant digits. The working
     precision is 70 digits and two more for each digit of the longest rational, so sqrt(10^{200}+1) is not 10^{100};
     sums of terms too far apart for it (1 + e^{-200}) are refused. This is a stated bound, not a proof of equality.
     With variables they have to agree wherever both are real, at two or more of nine points of several sizes and signs,
     some of them whole; analytic expressions that differ pass with probability 0 up to rounding.
Points derive from the input alone, so verdicts repeat.

Work is bounded by construction (the MAX_ constants), never by a clock: beyond a bound an answer is equal only to its
own text, and the reading says so. Nothing here raises on text, keeps state, or uses signals, so it is safe in threads.

    python verifier.py RESPONSE GOLD          both readings and the verdict; exit code 0 equal, 1 not, 2 wrong use
    python verifier.py --score FILE.jsonl     rows of response, gold, expected, kind: a table and the wrong verdicts
"""

import json
import math
import sys
from collections.abc import Iterator
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow, localcontext
from fractions import Fraction
from hashlib import blake2b

MAX_LENGTH = 10_000  # characters of an answer that is read; a longer one equals only its own text
MAX_TOKENS = 1000  # of an answer that is parsed
MAX_DEPTH = 40  # of nesting
MAX_STEPS = 10_000  # atoms read, as the signs of +- take several passes
MAX_DIGITS = 4000  # of a number in arithmetic; plain integers of any length are compared as text
MAX_BITS = 60_000  # of an exact rational: larger powers and products stay symbolic
MAX_FACTORIAL = 3000
MAX_CHOOSE = 8000  # upper index of an exact binomial
MAX_WIDTH = 600  # digits of a rational in an expression that needs decimal arithmetic
MAX_MEMBERS = 100  # of an unordered list
MAX_SIGNS = 4  # of independent +- in one member, which then stands for 16
PRIME = 31415926535897932384626433832795029177  # the first prime that is 1 mod 4 after pi * 10^37
ROOT = pow(5, PRIME // 4, PRIME)  # ROOT^2 = -1 modulo PRIME, as 5 is no square: it stands for i

Node = int | Fraction | str | tuple  # a rational, a name, or (operation or kind, *parts)


class Unread(Exception):
    """Why a text has no value here, or two values no verdict: no mathematics, undefined, or beyond a bound."""


def verify(response: str, gold: str) -> bool:
    """Whether the final answer of `response` equals `gold`; False where either is missing. Never raises."""
    if not isinstance(response, str) or not isinstance(gold, str):
        return False
    run, hedged = _final(response)
    if len(run) > 1 and (hedged or _kind(read(gold)) in ("list", "set")):
        return equivalent(" or ".join(run) if hedged else " , ".join(run), gold) or (
            not hedged and equivalent(run[-1], gold)
        )
    return bool(run) and equivalent(run[-1], gold)


def extract_answer(response: str) -> str | None:
    """The final answer of a response, or None. In this order: the last non-empty balanced `\\boxed` or `\\fbox`; what
    follows "answer is", `####` or `<answer>`; the last bold text; the last formula; the last number. Final values that
    "or" joins come together, as a hedged answer. Linear in the length of the response; never raises."""
    run, hedged = _final(response) if isinstance(response, str) else ([], False)
    return (" or ".join(run) if hedged else run[-1]) if run else None


def equivalent(a: str, b: str) -> bool:
    """Whether two answers are equal. Symmetric; and reflexive, but that an empty text equals nothing. Never raises."""
    return isinstance(a, str) and isinstance(b, str) and _judge(a, b)[0]


# -------------------------------------------------------------------------------------------- where the final answer is

Span = tuple[int, int, str]  # start, end, content
Run = tuple[list[str], bool]  # values side by side, and whether "or" joins them


def _final(response: str) -> Run:
    """The final values of a response, found in the first way that finds any."""
    boxes = _boxes(response)
    if boxes:
        return _run(response, boxes)
    for find in (_marked, _bold, _whole, _last_formula, _last_number):
        run = find(response)
        if run[0]:
            return run
    return [], False


def _boxes(text: str) -> list[Span]:
    """The last non-empty box and those that end within 40 characters before it or one another."""
    found: list[Span] = []
    at, unclosed = len(text), 0
    while unclosed < 20 and len(found) < MAX_MEMBERS and (at := text.rfind("box", 0, at)) >= 0:
        if text.startswith("\\boxed", at - 1):
            head, start = at - 1, at + 5
        elif text.startswith("\\fbox", at - 2):
            head, start = at - 2, at + 3
        else:
            continue
        while text[start : start + 1].isspace():
            start += 1
        if text[start : start + 1] == "{":
            end = _closing(text, start)
            unclosed += end < 0  # each costs a look at the rest of the text
            content = text[start + 1 : end - 1].strip() if end > 0 else ""
        else:
            end = min((i for i in (text.find(c, start, start + 400) for c in " \n$") if i >= 0), default=start + 400)
            content = text[start:end].rstrip(".,;")
        if found and end > 0 and not head < end <= found[0][0] <= end + 40:
            break  # around the one found, or apart from it
        if content.strip(" $?.~"):
            found.insert(0, (head, end, content))
    return found


def _closing(text: str, at: int) -> int:
    """The index after the brace that closes the one at `at`, or -1. Escaped braces do not count."""
    depth = 0
    while (close := text.find("}", at)) >= 0:
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
    words = [word for word in words if word not in ("text", "quad", "qquad")] or ["and"]
    if len(gap) > 40 or len(words) > 1 or words[0] not in ("and", "or") or any(c in "=+*/^_<>.:" for c in gap):
        return ""
    return words[0]


def _run(text: str, spans: list[Span]) -> Run:
    """The last of the spans, with those side by side with it."""
    run, hedged = [span[2] for span in spans[-1:]], False
    for (_, end, content), (start, _, _) in zip(spans[-2::-1], spans[:0:-1], strict=True):
        joint = _joint(text[end:start])
        if not joint:
            break
        hedged |= joint == "or"
        run.insert(0, content)
    return run, hedged


def _formulas(text: str) -> list[Span]:
    """The formulas $...$, $$...$$, \\(...\\), \\[...\\] of a text."""
    found, at = [], 0
    nexts = dict.fromkeys(("$", "\\(", "\\["), -2)
    while True:
        for opener, start in nexts.items():
            if start != -1 and start < at:
                nexts[opener] = text.find(opener, at)
        start, opener = min(((start, opener) for opener, start in nexts.items() if start >= 0), default=(-1, ""))
        if start < 0:
            return found
        if text.startswith("$$", start):
            opener = "$$"
        inside = start + len(opener)
        end = text.find({"\\(": "\\)", "\\[": "\\]"}.get(opener, opener), inside)
        content = text[inside:end] if end >= 0 else ""
        # "It costs $5 and $7" is no formula: there the space is on one side only.
        price = opener == "$" and (content[-1:] == " " != content[:1] or text[start - 1 : start] == "\\")
        if content.strip() and not price:
            at = end + len(opener)
            found.append((start, at, content.strip()))
        elif end < 0:
            return found
        else:
            at = inside


MARKERS = ("answer is", "answer:", "answer**:", "final answer", "####", "<answer>")
FILLERS = ("is ", "is:", "therefore ", "simply ", "option ", "choice ")
STOPPERS = (". ", " because", " since", ", which", ", so ", " where ", " when ", "**", "</answer>")


def _marked(response: str) -> Run:
    """The value after the last of MARKERS."""
    lowered = response.lower()
    if len(lowered) != len(response):  # the few letters that change length would shift what is found
        lowered = response
    at, marker = max((lowered.rfind(marker), marker) for marker in MARKERS)
    if at < 0:
        return [], False
    rest = response[at + len(marker) : at + len(marker) + 4000].lstrip(" :*=#\n\t")
    while filler := next((word for word in FILLERS if rest.lower().startswith(word)), ""):
        rest = rest[len(filler) :].lstrip(" :*")
    return _statement(rest)


def _statement(text: str) -> Run:
    """The value that a text starts with: its formulas side by side, or else its first sentence."""
    formulas = _formulas(text)
    if formulas and formulas[0][0] == 0:
        count = 1
        while count < len(formulas) and _joint(text[formulas[count - 1][1] : formulas[count][0]]):
            count += 1
        return _run(text, formulas[:count])
    line = text.split("\n", 1)[0] + " "
    line = line[: min((end for end in map(line.find, STOPPERS) if end >= 0), default=len(line))].strip(" .*")
    return [line] * bool(line), False


def _bold(response: str) -> Run:
    """The last bold text, unless it is a heading: then a colon ends it, or something is worked out after it."""
    _, *parts = response.rsplit("**", 2)
    if len(parts) < 2 or parts[0].strip().endswith(":") or any(c.isdigit() or c == "$" for c in parts[1]):
        return [], False
    return _statement(parts[0].strip())


def _whole(response: str) -> Run:
    """A short response that is nothing but mathematics or a word."""
    text = response.strip()
    words = text[:200].split()
    prose = any(word.isalpha() and len(word) > 1 for word in words)
    bare = len(words) < 3 or (not prose and _kind(read(text)) != "text")
    return [text] * (bare and 0 < len(text) < 200 and "$" not in text and "box" not in text), False


def _last_formula(response: str) -> Run:
    """The last formula, with those side by side with it."""
    tail = response[-20_000:]
    return _run(tail, _formulas(tail))


def _last_number(response: str) -> Run:
    """The last word with a digit, and the neighbours before it that are mathematics or "or"."""
    end = max((response.rfind(digit) for digit in "0123456789"), default=-1) + 1
    after = response[end : end + 40].split(" ")[0].split("\n")[0]
    words = (response[max(0, end - 300) : end].rsplit("\n", 1)[-1] + after).split()
    if not end or not words:
        return [], False
    run = [words.pop()]
    while words and (words[-1] == "or" or run[0] == "or" or not any(c.isalpha() or c in ".,:;" for c in words[-1])):
        run.insert(0, words.pop())
    while len(run) > 1 and run[0] in ("=", "+", "*", "/", "or"):
        del run[0]
    return [" ".join(run).strip(" .,;:*!?")], False


# ---------------------------------------------------------------------------------------------------------- the scanner

DIGITS = frozenset("0123456789")
SPACES = frozenset(" \t\n\r\f\v~$\0")


def _table(lines: str) -> dict[str, str]:
    """{alias: token} from lines of "token alias alias"."""
    return {alias: line.split()[0] for line in lines.strip().splitlines() for alias in line.split()[1:]}


UNICODE = str.maketrans({
    **{c: f"^{{{i}}}" for i, c in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    **{c: f" {token} " for token, cs in (("-", "−–—"), ("*", "×·⋅∗"), ("/", "÷⁄∕"), ("'", "′’"), (",", "，、"))
       for c in cs},
    **{c: f"\\{name} " for c, name in zip("≤≥≠≈±∓∞∪∈∅ℝ√°π∨∖¢€£αβθλμφω∠", (
        "le ge ne approx pm mp infty cup in emptyset R sqrt circ pi or setminus cent euro pound alpha beta theta "
        "lambda mu phi omega angle").split(), strict=True)},
    **dict.fromkeys("\u00a0\u2009\u202f\u200b“”", " "),
})  # fmt: skip
COMMANDS = _table("""
\\frac dfrac tfrac cfrac
\\binom dbinom tbinom
* cdot times ast
/ div
<= le leq leqslant leqq
>= ge geq geqslant geqq
< lt
> gt
!= ne neq
~ approx simeq
\\or lor vee
\\and land wedge
| lvert rvert vert mid middle
: colon
( langle lparen
) rangle rparen
[ lbrack
] rbrack
\\{ lbrace
\\} rbrace
% %
' prime
\\circ degree
\\emptyset varnothing
\\setminus backslash
\\overline bar dot
\\\\ cr
\\phi varphi
\\epsilon varepsilon
\\theta vartheta
""")
SKIPPED = frozenset(
    "left right big Big bigg Bigg bigl bigr Bigl Bigr displaystyle textstyle limits quad qquad ! , ; : ( ) [ ] "
    "hline mathbf boldsymbol bm vec hat mathit mathcal angle rm bf it".split()
) | {" ", "\n", "\t"}  # fmt: skip
TEXTS = frozenset(
    "text textbf textit textrm textsf texttt textnormal mbox hbox mathrm mathsf operatorname emph".split()
)
MATRICES = frozenset("pmatrix bmatrix matrix Bmatrix smallmatrix array".split())
FUNCTIONS = frozenset(
    "\\" + name for name in "sin cos tan cot sec csc sinh cosh tanh arcsin arccos arctan ln log lg exp".split()
)
GREEK = frozenset("\\" + name for name in (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau phi chi psi omega ell "
    "Gamma Delta Theta Lambda Sigma Phi Psi Omega").split())  # fmt: skip
WORDS = {name[1:]: name for name in FUNCTIONS | GREEK} | {
    **{name: "\\" + name for name in ("sqrt", "pi", "or", "and")},
    **{"infinity": "\\infty", "inf": "\\infty", "oo": "\\infty", "union": "\\cup", "OR": "\\or", "AND": "\\and"},
}
# The first name stands for all on its line. Other words are units where nothing reads them as mathematics.
UNITS = {unit: line.split()[0] for line in """
cm centimeter centimetre
mm millimeter millimetre
km kilometer kilometre
meter metre m
inch inche in
foot feet ft
yard yd
mile mi
kg kilogram
gram g
mg milligram
pound lb
ounce oz
liter litre l
ml milliliter
second sec s
minute min
hour hr h
day
week
month
year
degree deg
radian rad
% percent
dollar usd
cent
mile/hour mph
km/hour kph
""".strip().splitlines() for unit in line.split()}  # fmt: skip


def scan(text: str, grouped: bool = True) -> list[str]:
    """Cut an answer into tokens: numbers, single letters, commands ("\\\\frac"), words of text ('"cm'), signs.

    `grouped` reads 1,234 as one number where nothing tells against it. Linear in the text; every text has tokens."""
    if not text.isascii():
        text = text.translate(UNICODE).replace("}^{", "")
    if "\\!" in text or "{,}" in text:  # \1 is a comma within a number, if digits follow
        text = text.replace("{,}", "\1").replace(",\\!", "\1").replace("\\!,", "\1")
    if "{}" in text:
        text = text.replace("{}", " ")
    out: list[str] = []
    modes: list[bool] = []  # of the open braces: whether they hold text
    s, i, end, brackets, loose = text + "\0\0\0\0", 0, len(text), 0, 0
    while i < end:
        c = s[i]
        if c in SPACES:
            i += 1
        elif c in DIGITS or (c == "." and s[i + 1] in DIGITS):
            token, i, loose = _number(s, i, grouped and not brackets and i >= loose, loose)
            if len(token) > 1 and out and out[-1] in ("\\frac", "\\binom") and token.isdecimal():
                out.append(token[0])  # \frac12 is 1/2
                token = token[1:]
            out.append(token)
        elif c == "\\":
            i = _command(s, i + 1, out, modes)
        elif c.isalpha():
            start = i
            while s[i].isalpha():
                i += 1
            _word(s, start, i, out, bool(modes) and modes[-1])
        elif c == "{" or c == "}":
            in_text = bool(modes) and (modes[-1] if c == "{" else modes.pop())
            if c == "{":
                modes.append(in_text)
            if not in_text:
                out.append(c)
            i += 1
        else:
            pair = s[i : i + 2]
            if pair == "!=" and s[i - 1] in DIGITS:  # 3!=6
                pair = ""
            brackets += (c in "([") - (c in ")]")
            out.append("^" if pair == "**" else pair if pair in ("<=", ">=", "!=") else "," if c == "\1" else c)
            i += len(pair) if pair in ("**", "<=", ">=", "!=") else 1
    return out


def _number(s: str, i: int, group: bool, loose: int) -> tuple[str, int, int]:
    """The number at `i`, the index after it, and the index up to which commas separate numbers."""
    j = i
    while s[j] in DIGITS:
        j += 1
    token = s[i:j]
    if group and s[j] == "," and 0 < j - i < 4:
        k = j
        while s[k] in DIGITS or (s[k] == "," and s[k + 1] in DIGITS):
            k += 1
        groups = s[i:k].split(",")
        if token[0] != "0" and all(len(part) == 3 for part in groups[1:]):
            token, j = "".join(groups), k
        else:
            loose = k
    while token and s[j] in "\1\\ ":  # 1{,}234, 1\,234, 1 234
        width = 2 if s[j : j + 2] in ("\\,", "\1 ") else 1 if s[j] == "\1" or (s[j] == " " and group) else 0
        k = j + width
        if not width or not DIGITS.issuperset(s[k : k + 3]) or s[k + 3] in DIGITS:
            break
        token, j = token + s[k : k + 3], k + 3
    if s[j] == "." and (s[j + 1] in DIGITS or s[j + 1 : j + 3] in ("\\o", "\\b", "\\d") or s[j + 1] == "("):
        k = j + 1
        while s[k] in DIGITS:
            k += 1
        token, j = token + s[j:k], k
    elif s[j] == "." and s[j + 1] in " \0$}":
        j += 1
    if s[j] in "eE":  # 2e-1 is 2e - 1, but 2.5e-1 a number
        k = j + 1 + (s[j + 1] in "+-")
        if s[k] in DIGITS and (k == j + 1 or s[j] == "E" or "." in token or token == "1"):
            start = k
            while s[k] in DIGITS:
                k += 1
            token, j = token + "E" + s[j + 1 : start].strip("+") + s[start:k], k
    return token, j, loose


def _command(s: str, i: int, out: list[str], modes: list[bool]) -> int:
    """Append the command whose name starts at `i`; the index after it."""
    j = i
    while s[j].isalpha() and s[j].isascii():
        j += 1
    j = max(j, i + 1)
    name = s[i:j]
    if name in SKIPPED:
        return j + (name in ("left", "right") and s[j] == ".")
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


def _word(s: str, i: int, j: int, out: list[str], text: bool) -> None:
    """Append the letters s[i:j]: a name, a word of text, a unit, or a product of letters."""
    word = s[i:j]
    lower = word.lower()
    if text:
        out.append(WORDS[lower] if lower in ("and", "or", "infinity") else '"' + lower)
    elif j - i == 1:
        # 3 m^2 is an area, 3m a product
        area = word in "msg" and s[i - 1] == " " and out and out[-1][-1] in DIGITS and s[j:].strip("\0 ^{}23") == ""
        out.append('"' + word if area else word)
    elif word in WORDS:
        out.append(WORDS[word])
    elif lower in UNITS or (lower[:-1] in UNITS and word[-1] == "s" and j - i > 2):
        out.append('"' + lower)
    elif j - i > 3 or (j - i == 3 and word[0].isupper() and word[1:].islower()) or lower in ("an", "the", "no", "yes"):
        head = word[:-1]
        out.extend((WORDS[head], word[-1]) if head in WORDS else ('"' + lower,))
    else:
        out.extend(word)


# --------------------------------------------------------------------------------------------------- building of values


def _kind(node: Node) -> str:
    """What a node is beyond an expression: "list", "rel", ...; "" for expressions."""
    return node[0] if type(node) is tuple and node[0] in KINDS else ""


KINDS = frozenset("text list set seq rel union without matrix quantity ratio based R".split())


def _bits(x: int | Fraction) -> int:
    """The length of numerator and denominator together, in bits."""
    return x.numerator.bit_length() + x.denominator.bit_length()


def _lowest(x: int | Fraction) -> int | Fraction:
    """The rational as an int where it is whole."""
    return x.numerator if x.denominator == 1 else x


def _number_only(*nodes: Node) -> None:
    """Nothing; raises Unread where a node is no expression."""
    for node in nodes:
        if _kind(node):
            raise Unread("arithmetic with what is no number")


def plus(terms: list[Node]) -> Node:
    """The sum of expressions, rationals folded up to MAX_BITS."""
    _number_only(*terms)
    total, rest = 0, []
    for term in terms:
        if type(term) in (int, Fraction) and _bits(term) + _bits(total) < MAX_BITS:
            total += term
        else:
            rest.append(term)
    if total or not rest:
        rest.append(_lowest(total))
    return rest[0] if len(rest) == 1 else ("+", *rest)


def times(factors: list[Node]) -> Node:
    """The product of expressions, rationals folded up to MAX_BITS; or of a number and a matrix."""
    product, rest = 1, []
    for factor in factors:
        if type(factor) in (int, Fraction) and _bits(factor) + _bits(product) < MAX_BITS:
            product *= factor
        else:
            rest.append(factor)
    if not rest:
        return _lowest(product)
    if len(rest) == 1 and _kind(rest[0]) == "matrix":
        return ("matrix", *(tuple(times([product, x]) for x in row) for row in rest[0][1:]))
    _number_only(*rest)
    if product != 1:
        rest.insert(0, _lowest(product))
    return rest[0] if len(rest) == 1 else ("*", *rest)


def power(base: Node, exponent: Node) -> Node:
    """base^exponent, folded where both are rational, the exponent whole and the result within MAX_BITS."""
    if type(exponent) is int and type(base) in (int, Fraction):
        if not base and exponent <= 0:
            raise Unread("division by zero")
        if _bits(base) * abs(exponent) <= MAX_BITS:
            return _lowest(Fraction(base) ** exponent if exponent < 0 else base**exponent)
    _number_only(base, exponent)
    return base if exponent == 1 else ("^", base, exponent)


def over(above: Node, below: Node) -> Node:
    """above / below."""
    if type(above) is type(below) is int and below:
        return _lowest(Fraction(above, below))
    return times([above, power(below, -1)])


def minus(node: Node) -> Node:
    """-node."""
    return -node if type(node) is int else times([-1, node])


def call(name: str, x: Node, base: Node = 10) -> Node:
    """A function of one argument in terms of the few that `Reals` evaluates."""
    _number_only(x)
    if name in ("\\tan", "\\cot", "\\tanh"):
        above, below = (
            call(name.replace("tan", "sin").replace("cot", "cos"), x),
            call(name.replace("tan", "cos").replace("cot", "sin"), x),
        )
        return over(above, below)
    if name in ("\\sec", "\\csc"):
        return power(("\\cos" if name == "\\sec" else "\\sin", x), -1)
    if name in ("\\log", "\\lg"):
        return over(("\\ln", x), ("\\ln", base))
    if name in ("\\sinh", "\\cosh"):
        down = power("e", minus(x))
        return over(plus([power("e", x), minus(down) if name == "\\sinh" else down]), 2)
    return power("e", x) if name == "\\exp" else (name, x)


def factorial(n: Node, step: int = 1) -> Node:
    """n! (step 1) or n!! (step 2). Raises Unread beyond MAX_FACTORIAL."""
    _number_only(n)
    if type(n) is not int:
        return ("!" * step, n)
    if not 0 <= n <= MAX_FACTORIAL:
        raise Unread(f"a factorial of a negative number or beyond {MAX_FACTORIAL}!")
    return math.factorial(n) if step == 1 else math.prod(range(n, 0, -2))


def choose(n: Node, k: Node) -> Node:
    """The binomial of n over k; symbolic beyond MAX_CHOOSE."""
    if type(n) is type(k) is int and 0 <= n <= MAX_CHOOSE and k >= 0:
        return math.comb(n, k)
    _number_only(n, k)
    return ("\\binom", n, k)


def literal(token: str) -> int | Fraction:
    """The exact value of a number token."""
    if len(token) > MAX_DIGITS:
        raise Unread(f"a number of more than {MAX_DIGITS} digits")
    if token.isdecimal():
        return int(token)
    mantissa, _, exponent = token.partition("E")
    whole, _, part = mantissa.partition(".")
    if len(exponent) > 4:
        raise Unread("an exponent of ten beyond the bound")
    return _lowest(int(whole + part) * Fraction(10) ** (int(exponent or 0) - len(part)))


# ----------------------------------------------------------------------------------------------------------- the parser

TIMES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
NO_UNITS = frozenset(
    "if is not no more less least most than about approximately when where for mod modulo base nor but".split()
)
CURRENCIES = {"\\$": "dollar", "\\euro": "euro", "\\pound": "pound"}
BASES = {word: str(i) for i, word in enumerate("two three four five six seven eight nine ten eleven twelve".split(), 2)}
SEPARATORS = frozenset((",", ";", "\\or", "\\and"))
RELATIONS = frozenset(("=", "<", ">", "<=", ">=", "!=", "~", "\\in"))
SIGNS = frozenset(("+", "-", "\\pm", "\\mp"))
STOPS = (
    SEPARATORS
    | RELATIONS
    | SIGNS
    | frozenset(
        (
            "",
            ")",
            "]",
            "}",
            "\\}",
            "&",
            "\\\\",
            "\\end",
            ":",
            "\\cup",
            "\\setminus",
            "\\choose",
            "\\over",
            "\\rfloor",
            "\\rceil",
            "'",
            "?",
            ".",
        )
    )
)
CONSTANTS = frozenset(("\\pi", "e", "i", "\\infty"))


class Parser:
    """Recursive descent over the tokens of one answer: `Parser(tokens).answer()` is its value, or raises Unread.

    answer   = member {("," | ";" | "or" | "and") member}         a member with +- is read once for each sign
    relation = side {("=" | "<" | "\\in" | ...) side}
    side     = quantity {":" quantity} | quantity {("\\cup" | "\\setminus") quantity}
    quantity = words | ["\\$"] sum [unit]
    sum      = ["-"] product {("+" | "-" | "\\pm") product}
    product  = power {["*" | "/"] power}
    power    = atom {"^" exponent | "!" | "%" | "\\circ"}
    """

    def __init__(self, tokens: list[str]):
        if len(tokens) > MAX_TOKENS:
            raise Unread(f"more than {MAX_TOKENS} tokens")
        self.tokens, self.at, self.depth = [*tokens, "", "", "", ""], 0, 0  # ends that may be looked past
        self.signs = self.choice = 0  # how many +- the member has so far; the bits of those read as minus
        self.bars = self.steps = 0  # open |...|; atoms read, those of every pass
        self.angle = False  # in the argument of a function, where a degree is a number
        self.unit = ""  # of a degree or percent sign

    def answer(self) -> Node:
        """The value of all the tokens."""
        node = self.members("")
        self.take("")
        return node

    def take(self, token: str) -> None:
        """Nothing; steps past `token`, or raises Unread where another one stands."""
        if self.tokens[self.at] != token:
            raise Unread(f"{token or 'the end'!r} expected, {self.tokens[self.at] or 'the end'!r} found")
        self.at += 1

    def enter(self) -> None:
        """Nothing; counts one level and one step more, or raises Unread beyond the bounds."""
        self.depth += 1
        self.steps += 1
        if self.depth > MAX_DEPTH:
            raise Unread(f"nested deeper than {MAX_DEPTH}")
        if self.steps > MAX_STEPS:
            raise Unread(f"more than {MAX_STEPS} steps of reading")

    def members(self, close: str) -> Node:
        """One member, or a list: ("list", (how it is joined,), *members)."""
        found, joint = self.member(), ""
        while self.tokens[self.at] in SEPARATORS:
            while self.tokens[self.at] in SEPARATORS:
                joint = self.tokens[self.at]
                self.at += 1
            if self.tokens[self.at] == close:
                break
            found += self.member()
        return found[0] if len(found) == 1 else ("list", (joint,), *found)

    def member(self) -> list[Node]:
        """The readings of one member, one for each choice of its signs +-."""
        start, self.signs, self.choice = self.at, 0, 0
        found = [self.relation()]
        if self.signs > MAX_SIGNS:
            raise Unread(f"more than {MAX_SIGNS} signs +-")
        for choice in range(1, 1 << self.signs):
            self.at, self.signs, self.choice = start, 0, choice
            found.append(self.relation())
        self.signs = self.choice = 0
        return found

    def relation(self) -> Node:
        """A side, or a chain of sides: ("rel", (signs), *sides)."""
        sides, signs = [self.side()], []
        while self.tokens[self.at] in RELATIONS:
            signs.append(self.tokens[self.at])
            self.at += 1
            sides.append(self.side())
        return ("rel", tuple(signs), *sides) if signs else sides[0]

    def side(self) -> Node:
        """A quantity, a ratio, or a union or difference of sets."""
        node = self.quantity()
        if self.tokens[self.at] == ":":
            label, parts = _kind(node) == "text", [node]
            while self.tokens[self.at] == ":":
                self.at += 1
                parts.append(self.quantity())
            return parts[1] if label and len(parts) == 2 else ("ratio", *parts)
        while self.tokens[self.at] in ("\\cup", "\\setminus") or (self.tokens[self.at] == "U" and _kind(node)):
            name = "without" if self.tokens[self.at] == "\\setminus" else "union"
            self.at += 1
            node = (name, node, self.quantity())
        return node

    def quantity(self) -> Node:
        """Words as a text, or an expression with its unit if it has one."""
        token = self.tokens[self.at]
        if token[:1] == '"':
            start = self.at
            while self.tokens[self.at][:1] == '"':
                self.at += 1
            return ("text", _words(self.tokens[start : self.at]) or "")
        negative = token == "-" and self.tokens[self.at + 1] in CURRENCIES
        self.at += negative
        currency = CURRENCIES.get(self.tokens[self.at], "")
        self.at += bool(currency)
        self.unit = ""
        node = minus(self.sum()) if negative else self.sum()
        while self.tokens[self.at][1:] in TIMES:
            node = times([node, TIMES[self.tokens[self.at][1:]]])
            self.at += 1
        token = self.tokens[self.at]
        unit = (self.named_unit() if token[:1] == '"' or token == "'" else "") or currency or self.unit
        self.unit = ""
        if not unit or unit.startswith("unit"):
            return node
        _number_only(node)
        return ("quantity", node, (unit,))

    def named_unit(self) -> str:
        """The unit after a number in one spelling, as cm^2 or meter/second."""
        name = suffix = ""
        while True:
            token = self.tokens[self.at]
            word = token[1:] if token[:1] == '"' else ""
            if token == "^":
                self.at += 1
                exponent = self.argument()
                if type(exponent) is not int:
                    raise Unread("a unit to a power that is no integer")
                name += f"^{exponent}"
                continue
            if word in NO_UNITS and word:
                raise Unread(f"{word!r} after a number")
            if token in ("/", "'") or word == "per":
                name += "'" if token == "'" else "/"
            elif word in ("square", "sq", "cubic"):
                suffix = "^3" if word == "cubic" else "^2"
            elif word:
                single = word[:-1] if word[-1] == "s" and word[-2:] != "ss" and len(word) > 2 else word
                name += (UNITS.get(word) or UNITS.get(single) or single) + suffix
                suffix = ""
            else:
                return name
            self.at += 1

    def sum(self) -> Node:
        """The sum of products, each with its sign."""
        tokens, terms = self.tokens, []
        if tokens[self.at] not in SIGNS:
            node = self.product()
            if tokens[self.at] not in SIGNS:
                return node
            terms.append(node)
        while tokens[self.at] in SIGNS:
            negative = False
            while (token := tokens[self.at]) in SIGNS:
                self.at += 1
                if token == "\\pm":
                    negative ^= self.choice >> self.signs & 1
                    self.signs += 1
                elif token == "\\mp":  # the other sign than its +-, if there was one
                    self.signs += not self.signs
                    negative ^= not self.choice >> self.signs - 1 & 1
                else:
                    negative ^= token == "-"
            node = self.product()
            terms.append(minus(node) if negative else node)
        return terms[0] if len(terms) == 1 else plus(terms)

    def product(self) -> Node:
        """The product and quotient of powers, signed or side by side."""
        node = self.power()
        token = self.tokens[self.at]
        if token in STOPS or token[0] == '"':
            return node
        factors = [node]
        while True:
            if token == "*" or (token == "/" and self.tokens[self.at + 1][:1] != '"'):
                self.at += 1
                while self.tokens[self.at] in ("-", "+"):
                    factors.append(-1 if self.tokens[self.at] == "-" else 1)
                    self.at += 1
                node = self.power()
                factors.append(power(node, -1) if token == "/" else node)
            elif token in STOPS or token[0] == '"' or token == "/" or (token == "|" and self.bars):
                return times(factors)
            elif token[0] in DIGITS and self.tokens[self.at - 1][0] in DIGITS:
                raise Unread("two numbers side by side")
            elif token == "U" and _kind(node):
                return node
            else:
                node = self.power()
                factors.append(node)
            token = self.tokens[self.at]

    def power(self) -> Node:
        """An atom with the exponents, factorials, degree and percent signs after it."""
        node = self.atom()
        while True:
            token = self.tokens[self.at]
            if token == "\\circ" or (token == "^" and "\\circ" in self.tokens[self.at + 1 : self.at + 3]):
                self.at += 1 if token != "^" else 2 if self.tokens[self.at + 1] == "\\circ" else 4
                if self.angle:
                    node = times([node, "\\pi", Fraction(1, 180)])
                else:
                    self.unit = "degree"
            elif token == "^":
                node = power(node, self.exponent())
            elif token == "!":
                step = 1 + (self.tokens[self.at + 1] == "!")
                self.at += step
                node = factorial(node, step)
                if self.tokens[self.at] == "!":
                    raise Unread("a factorial of a factorial")
            elif token == "%":
                self.at += 1
                self.unit = "%"
            else:
                return node

    def exponent(self) -> Node:
        """What follows ^; towers associate to the right."""
        self.at += 1
        self.enter()
        negative = self.tokens[self.at] == "-"
        self.at += negative
        node = self.argument()
        if self.tokens[self.at] == "^":
            node = power(node, self.exponent())
        self.depth -= 1
        return minus(node) if negative else node

    def argument(self) -> Node:
        """An argument, in braces or one token. A number ends there: the 2 of x^2\\\\frac12 begins no mixed number."""
        token = self.tokens[self.at]
        if token == "{" and self.tokens[self.at + 1][:1] in DIGITS and self.tokens[self.at + 2] == "}":
            self.at += 3
            return literal(self.tokens[self.at - 2])
        if token[:1] in DIGITS:
            self.at += 1
            return literal(token)
        return self.atom()

    def atom(self) -> Node:
        """The value of one token, bracket, command or function with what belongs to it."""
        self.enter()
        token = self.tokens[self.at]
        self.at += 1
        if token[:1] in DIGITS or token[:1] == "." != token:
            node = self.number(token)
        elif token == "\\frac" or token == "\\binom":
            above = self.argument()
            node = (over if token == "\\frac" else choose)(above, self.argument())
        elif token in BRACKETS:
            node = self.bracketed(token)
        elif token in CONSTANTS:
            node = token
        elif (len(token) == 1 and token.isalpha()) or token in GREEK:
            node = token + self.subscript()
            while self.tokens[self.at] == "'":
                node += "'"
                self.at += 1
        elif token == "\\sqrt":
            degree = 2
            if self.tokens[self.at] == "[":
                self.at += 1
                degree = self.sum()
                self.take("]")
            node = power(self.argument(), over(1, degree))
        elif token in FUNCTIONS:
            node = self.function(token)
        elif token == "\\begin":
            node = self.matrix()
        elif token == "|" or token == "\\lfloor" or token == "\\lceil":
            name, close = {"|": ("abs", "|"), "\\lfloor": ("floor", "\\rfloor"), "\\lceil": ("ceil", "\\rceil")}[token]
            self.bars += token == "|"
            node = call(name, self.sum())
            self.bars -= token == "|"
            self.take(close)
        elif token == "\\emptyset":
            node = ("set",)
        elif token == "\\R":
            node = ("R",)
        else:
            raise Unread(f"{token!r} is no mathematics here" if token else "ends too soon")
        self.depth -= 1
        return node

    def number(self, token: str) -> Node:
        """A number and what belongs to it: a base, a repeating part, the fraction of a mixed number."""
        tokens, following = self.tokens, self.tokens[self.at]
        if following == "_":
            base = "".join(c for c in self.subscript()[1:].replace("base", "") if c not in '"()')
            base = BASES.get(base, base)
            if not token.isdecimal() or not base.isdecimal() or not int(max(token)) < int(base[:3]) < 37:
                raise Unread("no number in a base")
            return ("based", (token.lstrip("0"), base))
        value = literal(token)
        if "." in token:
            opener = tokens[self.at + (following == "\\overline")]
            if following == "\\overline" or (following == "(" and token[-1] == "."):
                self.at += 1 + (following == "\\overline" and opener == "{")
                part = tokens[self.at]
                if not part.isdecimal() or opener not in ("{", "("):
                    raise Unread("a repeating part that is no digits")
                self.at += 1
                self.take("}" if opener == "{" else ")")
                return value + Fraction(
                    literal(part), 10 ** (len(token) - token.index(".") - 1) * (10 ** len(part) - 1)
                )
        elif type(value) is int and (following == "\\frac" or tokens[self.at + 1] == "/"):
            above, at = self.digits(self.at + (following == "\\frac"))
            below, at = self.digits(at + (following != "\\frac"))
            if 0 < above < below:
                self.at = at
                return value + Fraction(above, below)
        return value

    def digits(self, at: int) -> tuple[int, int]:
        """The whole number at `at`, in braces or not, and the index after it; -1 where there is none."""
        braced = self.tokens[at] == "{" and self.tokens[at + 2] == "}"
        token = self.tokens[at + braced]
        return (int(token) if token.isdecimal() and len(token) < 20 else -1), at + 1 + 2 * braced

    def subscript(self) -> str:
        """The tokens of a subscript as one text, "" where there is none."""
        if self.tokens[self.at] != "_":
            return ""
        start = self.at + 1
        braced = self.tokens[start] == "{"
        self.at = self.tokens.index("}", start) + 1 if braced and "}" in self.tokens[start:] else start + 1
        return "_" + "".join(self.tokens[start + braced : self.at - braced])

    def bracketed(self, opener: str) -> Node:
        """A value in brackets, a tuple or interval ("seq", (brackets,), *items), a set, or x of \\\\{x : x > 2\\\\}."""
        closers, bars, self.bars = BRACKETS[opener], self.bars, 0
        signs, choice = self.signs, self.choice
        if opener == "\\{" and self.tokens[self.at + 1] in ("|", ":"):
            self.at += 2
        if self.tokens[self.at] in closers:
            items = []
        elif opener in "([":
            items = [self.relation()]
            while self.tokens[self.at] in (",", ";"):
                self.at += 1
                items.append(self.relation())
        elif opener == "\\{":
            node = self.members(closers[0])
            items = list(node[2:]) if _kind(node) == "list" else [node]
            self.signs, self.choice = signs, choice
        else:
            items = [self.relation()]
            if self.tokens[self.at] in ("\\choose", "\\over"):
                self.at += 1
                items = [(choose if self.tokens[self.at - 1] == "\\choose" else over)(items[0], self.relation())]
            while self.tokens[self.at] in SEPARATORS:
                self.at += 1
                items.append(self.relation())
        closer = self.tokens[self.at]
        self.bars = bars
        if closer not in closers or not closer:
            raise Unread("a bracket is not closed")
        self.at += 1
        if opener in "([" and len(items) > 1:
            return ("seq", (opener + closer,), *items)
        if len(items) != 1 or opener == "\\{":
            return items[0] if len(items) == 1 and _kind(items[0]) == "rel" else ("set", *items)
        if opener + closer in ("(]", "[)"):
            raise Unread("brackets do not match")
        return items[0]

    def function(self, name: str) -> Node:
        """The value of a function with its base, exponent and argument."""
        base, exponent = 10, 1
        if self.tokens[self.at] == "_":
            self.at += 1
            base = self.argument()
        if self.tokens[self.at] == "^":
            exponent = self.exponent()
            if exponent == -1 and name in ("\\sin", "\\cos", "\\tan"):
                name, exponent = "\\arc" + name[1:], 1
        outer, self.angle = self.angle, True
        factors = [self.power() if self.tokens[self.at] not in BRACKETS else self.atom()]
        if self.tokens[self.at - 1] not in (")", "]", "}"):
            while (
                (token := self.tokens[self.at]) not in STOPS
                and token not in FUNCTIONS
                and token not in ("*", "/", "(", "[")
            ):
                if token[0] == '"' or token[0] in DIGITS or (token == "|" and self.bars):
                    break
                factors.append(self.power())
        self.angle = outer
        return power(call(name, times(factors), base), exponent)

    def matrix(self) -> Node:
        """The matrix up to its \\end: ("matrix", *rows)."""
        rows: list[list[Node]] = [[]]
        while self.tokens[self.at] != "\\end":
            rows[-1].append(self.sum())
            if self.tokens[self.at] == "\\\\":
                rows.append([])
            elif self.tokens[self.at] != "&":
                break
            self.at += 1
        self.take("\\end")
        rows = rows[: len(rows) - (not rows[-1])]
        if len({len(row) for row in rows}) != 1:
            raise Unread("a matrix of uneven rows")
        return ("matrix", *map(tuple, rows))


BRACKETS = {"(": (")", "]"), "[": (")", "]"), "{": ("}",), "\\{": ("\\}",)}


def read(text: str) -> Node:
    """The value of an answer as a tree; ("text", the text, why) of what is no mathematics here. Never raises."""
    text = _bare(text)
    return _parse(scan(text)) if len(text) <= MAX_LENGTH else ("text", text, f"longer than {MAX_LENGTH} characters")


def _parse(tokens: list[str]) -> Node:
    """The value of tokens as a tree; a text node with the reason where they have none."""
    try:
        return Parser(tokens).answer()
    except (Unread, ZeroDivisionError, RecursionError) as error:
        return ("text", "".join(tokens), str(error))


# ---------------------------------------------------------------------------------------------------------- the numbers


def _draw(seed: str) -> int:
    """A pseudo-random number below 2^256."""
    return int.from_bytes(blake2b(seed.encode(errors="replace"), digest_size=32).digest())


class Residues(dict):
    """A point modulo PRIME: names get pseudo-random residues, i a square root of -1."""

    def __init__(self, seed: str):
        super().__init__(i=ROOT)
        self.seed = seed

    def __missing__(self, name: str) -> int:
        """The residue of a name, drawn once."""
        self[name] = value = _draw(f"{name} {self.seed}") % PRIME
        return value


class Irrational(Exception):
    """An operation that residues do not have."""


def residue(node: Node, point: Residues) -> int:
    """The value of a rational expression modulo PRIME. Raises Irrational at any other operation."""
    kind = type(node)
    if kind is int:
        return node % PRIME
    if kind is str:
        return point[node]
    if kind is Fraction:
        return node.numerator * pow(node.denominator, -1, PRIME) % PRIME
    if node[0] == "+":
        return sum([residue(term, point) for term in node[1:]]) % PRIME
    if node[0] == "*":
        value = 1
        for factor in node[1:]:
            value = value * residue(factor, point) % PRIME
        return value
    if node[0] == "^" and type(node[2]) is int:
        base, exponent = residue(node[1], point), node[2]
        if not base and exponent < 0:
            raise Unread("division by zero")
        return pow(base, exponent if -9 < exponent < 99 else exponent % (PRIME - 1), PRIME)
    raise Irrational


ZERO, ONE = Decimal(0), Decimal(1)
Complex = tuple[Decimal, Decimal]


def _pi(digits: int) -> Decimal:
    """pi to `digits` digits by Machin's formula, 16 atan(1/5) - 4 atan(1/239), in whole numbers."""
    total, one = 0, 10 ** (digits + 10)
    for weight, x in ((16, 5), (-4, 239)):
        term, k = weight * one // x, 1
        while abs(term) > 1:
            total += term // k
            term, k = -term // (x * x), k + 2
    return Decimal(total).scaleb(-digits - 10)


class Reals:
    """Evaluates expressions at a point, in the decimal context of `digits` digits that the caller has set.

    Complex values appear only where `imaginary` allows them. Raises Unread where there is no value, or none in reach.
    """

    def __init__(self, digits: int, point: dict[str, Decimal], imaginary: bool):
        self.digits, self.imaginary = digits, imaginary
        self.tiny = ONE.scaleb(12 - digits)
        self.point = {"i": (ZERO, ONE)} | {name: (x, ZERO) for name, x in point.items()}

    def pi(self) -> Decimal:
        """pi to the working precision."""
        return self.value("\\pi")[0]

    def value(self, node: Node) -> Complex:
        """The real and the imaginary part of an expression."""
        kind = type(node)
        if kind is int:
            return +Decimal(node), ZERO
        if kind is Fraction:
            return Decimal(node.numerator) / node.denominator, ZERO
        if kind is str:
            if node not in self.point:
                if node not in ("\\pi", "e"):
                    raise Unread(f"{node} has no value")
                self.point[node] = (_pi(self.digits) if node == "\\pi" else ONE.exp()), ZERO
            return self.point[node]
        name = node[0]
        if name == "+":
            re, im = zip(*map(self.value, node[1:]), strict=True)
            return self.total(re), self.total(im)
        if name == "*":
            product = ONE, ZERO
            for factor in node[1:]:
                product = _product(product, self.value(factor))
            return product
        if name == "^":
            return self.power(node[1], node[2])
        x, y = self.value(node[1])
        if name == "abs":
            return ((x * x + y * y).sqrt() if y else abs(x)), ZERO
        if name == "\\ln":
            return self.ln(x, y)
        if y:
            raise Unread(f"{name} of a complex number")
        return self.real(name, x, node), ZERO

    def total(self, terms: tuple[Decimal, ...]) -> Decimal:
        """The sum; 0 where it cancels to nothing but rounding."""
        sizes = [abs(x) for x in terms if x]
        if len(sizes) < 2:
            return sum(terms)
        total, largest = sum(terms), max(sizes)
        if min(sizes) < largest * ONE.scaleb(20 - self.digits):
            raise Unread("a sum of terms too far apart")
        return ZERO if abs(total) < largest * self.tiny else total

    def power(self, base: Node, exponent: Node) -> Complex:
        """base^exponent: the real odd root of a negative number, else the principal value."""
        x, y = self.value(base)
        u, v = self.value(exponent)
        if not x and not y:
            if u <= 0:
                raise Unread("division by zero")
            return ZERO, ZERO
        if type(exponent) is Fraction:
            p, q = exponent.numerator, exponent.denominator
        elif abs(u) < 10**9 and u == u.to_integral_value():
            p, q = int(u), 1
        else:
            p, q = 0, 0
        if not y and not v and (x > 0 or q % 2):
            # A negative number has a real odd root: (-8)^{1/3} = -2.
            size = abs(x).sqrt() ** p if q == 2 else abs(x) ** u
            return (-size if x < 0 and p % 2 else size), ZERO
        if q == 1 and 0 < abs(p) <= 1000:
            result = ONE, ZERO
            for bit in bin(abs(p))[2:]:
                result = _product(result, result)
                result = _product(result, (x, y)) if bit == "1" else result
            size = result[0] * result[0] + result[1] * result[1]
            return result if p > 0 else (result[0] / size, -result[1] / size)
        size, angle = _product((u, v), (ONE, ZERO) if base == "e" else self.ln(x, y))
        size = size.exp()
        return (size * self.sine(angle, 1), size * self.sine(angle, 0)) if angle else (size, ZERO)

    def ln(self, x: Decimal, y: Decimal) -> Complex:
        """The principal logarithm of x + iy."""
        if not x and not y:
            raise Unread("the logarithm of 0")
        if x > 0 and not y:
            return x.ln(), ZERO
        if not self.imaginary:
            raise Unread("no real value")
        side = -1 if y < 0 else 1
        angle = self.arctan(y / x) + (self.pi() * side if x < 0 else 0) if x else self.pi() / 2 * side
        return (x * x + y * y).ln() / 2, angle

    def sine(self, x: Decimal, quarter: int) -> Decimal:
        """sin(x + quarter pi/2), by Taylor's series once |x| is at most pi/4."""
        if abs(x) > 10**6:
            raise Unread("an angle beyond a million")
        turns = (x / self.pi() * 2).to_integral_value()
        x -= turns * self.pi() / 2
        quarter = (quarter + int(turns)) % 4
        k, term = (1, ONE) if quarter % 2 else (2, x)
        total = term
        while abs(term) > self.tiny * self.tiny:
            term *= -x * x / (k * (k + 1))
            total += term
            k += 2
        return ZERO if abs(total) < self.tiny else -total if quarter > 1 else total

    def arctan(self, x: Decimal) -> Decimal:
        """arctan(x), by Taylor's series after three halvings of the angle."""
        for _ in range(3):  # atan x = 2 atan(x / (1 + sqrt(1 + x^2)))
            x /= 1 + (1 + x * x).sqrt()
        term, total, k = x, x, 3
        while abs(term) > self.tiny * self.tiny:
            term *= -x * x
            total += term / k
            k += 2
        return 8 * total

    def real(self, name: str, x: Decimal, node: tuple) -> Decimal:
        """A function of one real number, or a binomial."""
        if name in ("\\sin", "\\cos"):
            return self.sine(x, int(name == "\\cos"))
        if name == "\\arctan":
            return self.arctan(x)
        if name in ("\\arcsin", "\\arccos"):
            if abs(x) > 1:
                raise Unread("no real value")
            angle = self.arctan(x / (1 - x * x).sqrt()) if abs(x) < 1 else self.pi() / 2 * x
            return angle if name == "\\arcsin" else self.pi() / 2 - angle
        near = x.to_integral_value()
        whole = abs(x - near) <= self.tiny * (1 + abs(x))
        if name in ("floor", "ceil"):
            return near if whole else x.to_integral_value("ROUND_FLOOR" if name == "floor" else "ROUND_CEILING")
        k = self.value(node[2])[0] if name == "\\binom" else ZERO
        if not whole or k != k.to_integral_value() or not (0 <= near <= MAX_FACTORIAL and 0 <= k <= MAX_FACTORIAL):
            raise Unread("a factorial or binomial of no natural number, or beyond the bound")
        return +Decimal(math.comb(int(near), int(k)) if name == "\\binom" else factorial(int(near), len(name)))


def _product(x: Complex, y: Complex) -> Complex:
    """The product of two complex numbers."""
    (a, b), (c, d) = x, y
    return (a * c - b * d, a * d + b * c) if b or d else (a * c, ZERO)


def _close(a: Complex, b: Complex, tolerance: Decimal) -> bool:
    """Whether two complex numbers agree up to a relative tolerance."""
    bound = max(map(abs, a + b)) * tolerance
    return abs(a[0] - b[0]) <= bound and abs(a[1] - b[1]) <= bound


def names(node: Node) -> set[str]:
    """The variables and constants of an expression or a quantity; none of anything else."""
    if type(node) is str:
        return {node}
    if type(node) is not tuple or _kind(node) not in ("", "quantity"):
        return set()
    return set().union(*map(names, node[1:]))


def _width(node: Node) -> int:
    """About the number of digits of the longest rational of an expression."""
    if type(node) is tuple:
        return max(map(_width, node[1:]))
    return 0 if type(node) is str else _bits(node) * 3 // 10


def values(a: Node, b: Node, digits: int = 0) -> Iterator[tuple[Complex, Complex, Decimal]]:
    """The values of two expressions and the relative tolerance, at each of the points where both have one.

    With no variables that is one point, and Unread is raised where it has no values."""
    width = max(_width(a), _width(b))
    if width > MAX_WIDTH:
        raise Unread(f"a number of more than {MAX_WIDTH} digits in what is not rational")
    digits = digits or 70 + 2 * max(0, width - 5)
    constants = names(a) | names(b)
    letters = sorted(constants - CONSTANTS)
    seed = "".join(sorted((repr(a), repr(b)))) if letters else ""
    with localcontext(
        Context(prec=digits, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[InvalidOperation, DivisionByZero, Overflow])
    ):
        for number in range(9 if letters else 1):
            point = {}
            for letter in letters:
                draw = _draw(f"{letter} {number} {seed}")
                size = Decimal(draw % 10**9 + 10**8).scaleb(-9) * (1, 0, 4, 1, 0, 30, 900, 0, 4)[number]
                size = size or Decimal(2 + draw % (6, 12, 24)[number // 3])  # whole, for factorials and binomials
                point[letter] = -size if number in (3, 5, 6, 8) and draw >> 40 & 1 else size
            try:
                reals = Reals(digits, point, not letters or "i" in constants)
                pair = reals.value(a), reals.value(b)
            except (Unread, ArithmeticError):
                if not letters:
                    raise
            else:
                yield *pair, ONE.scaleb(20 - digits)


def same(a: Node, b: Node) -> bool:
    """Whether two expressions are equal. Raises Unread beyond a bound."""
    if a == b:
        return True
    if type(a) in (int, Fraction) and type(b) in (int, Fraction):
        return False
    try:
        point = Residues("")
        return residue(a, point) == residue(b, point)
    except Irrational:
        pass
    x, y = size(a, 28), size(b, 28)  # far apart in cheap arithmetic is far apart
    if x is not None and y is not None and abs(x - y) > 1e-9 * max(abs(x), abs(y)):
        return False
    points = 0
    for u, v, tolerance in values(a, b):
        if not _close(u, v, tolerance):
            return False
        points += 1
    return points > bool((names(a) | names(b)) - CONSTANTS)


def size(node: Node, digits: int = 40) -> float | None:
    """A real number as a float, infinities too; None of anything else."""
    if node == "\\infty" or node == ("*", -1, "\\infty"):
        return math.inf if node == "\\infty" else -math.inf
    if _kind(node) or names(node) - {"\\pi", "e"}:
        return None
    try:
        x, y = next(values(node, 0, digits))[0]
        return None if y else float(x)
    except (Unread, ArithmeticError):
        return None


def proportion(f: Node, g: Node) -> int:
    """The sign of the constant f / g; 0 where there is none. Raises Unread beyond a bound."""
    pairs: list[tuple[Complex, Complex]] = []
    for x, y, tolerance in values(f, g):
        if any(x) != any(y):
            return 0
        if any(x):
            pairs.append((x, y))
            if not _close(_product(x, pairs[0][1]), _product(y, pairs[0][0]), tolerance):
                return 0
    if len(pairs) < 2:
        return 0
    (a, b), (c, d) = pairs[0]
    return 1 if a * c + b * d > 0 else -1


# ------------------------------------------------------------------------------------------------------- the comparison


def _bare(text: str) -> str:
    """An answer without its box, the spaces around it and a full stop; with a price for a lone dollar sign."""
    if "\\boxed" in text or "\\fbox" in text:
        boxes = _boxes(text)
        text = boxes[-1][2] if boxes else ""
    text = text.strip().rstrip(".")
    return "\\" + text if text[:1] == "$" and text.count("$") == 1 else text


def _judge(a: str, b: str) -> tuple[bool, str]:
    """The verdict on two answers, and why."""
    if a.isdecimal() and b.isdecimal() and a.isascii() and b.isascii():
        return a.lstrip("0") == b.lstrip("0"), "not equal"
    a, b = _bare(a), _bare(b)
    if max(len(a), len(b)) > MAX_LENGTH:
        return bool(a) and a == b, f"not equal as far as decided: longer than {MAX_LENGTH} characters"
    left, right = scan(a), scan(b)
    for tokens in (left, right):
        if not any(token[-1].isalnum() or token[-1] == "}" for token in tokens):
            return False, "nothing to compare"
    if left == right:
        return True, "equal"
    try:
        x, y = _parse(left), _parse(right)
        if match(x, y) or _same_words(left, right, x, y):
            return True, "equal"
        if ("," in a and match(_parse(scan(a, False)), y)) or ("," in b and match(x, _parse(scan(b, False)))):
            return True, "equal"  # 100,200 may be a list after all
    except (Unread, ArithmeticError, RecursionError) as error:
        return False, f"not equal as far as decided: {error}"
    return False, "not equal"


def _words(tokens: list[str]) -> str | None:
    """Tokens that are only words and letters as one text, without case, article and brackets; None of others."""
    words = [token.strip('"') for token in tokens if token not in ("(", ")", "{", "}", ",", ".", ";", ":", "?", '"')]
    if not words or not all(word.strip("\\").isalpha() for word in words) or tokens in (["e"], ["i"]):
        return None
    return "".join(words[words[0] in ("a", "an", "the") and len(words) > 1 :]).lower()


def _same_words(left: list[str], right: list[str], x: Node, y: Node) -> bool:
    """Whether two answers are the same words or choice; (C) 12 is both C and 12."""
    words = _words(left)
    if words and words == _words(right):
        return True
    for one, other, value in ((left, right, y), (right, left, x)):
        labelled = (
            len(one) > 3 and one[0] + one[2] == "()" and one[1].strip('"') in ("a", "b", "c", "d", "e", *"ABCDEF")
        )
        if (
            labelled
            and (one[1][0] == '"' or one[1].isupper())
            and not (len(other) > 3 and other[2] == ")")
            and (one[1].strip('"').lower() == _words(other) or match(_parse(one[3:]), value))
        ):
            return True
    return False


def match(a: Node, b: Node) -> bool:
    """Whether two values are equal as answers. Raises Unread beyond a bound."""
    kind, other = kinds = _kind(a), _kind(b)
    if not kind and not other:
        return same(a, b)
    if "text" in kinds:
        return kind == other and a[1] == b[1]
    if a == b:
        return True
    if kind == other == "seq" and a[1] == b[1]:
        return len(a) == len(b) and all(map(match, a[2:], b[2:]))
    if kind in REGIONS or other in REGIONS:
        try:
            return _same_region(a, b)
        except Unread:
            pass
    if kind == other == "rel":
        return _same_relation(a, b)
    if "rel" in kinds:
        found, value = (_solved(a), b) if kind == "rel" else (_solved(b), a)
        return any(match(x, value) for x in found)
    if "list" in kinds or "set" in kinds:
        return _same_members(a, b)
    if "quantity" in kinds:
        return _same_quantity(a, b)
    if "matrix" in kinds:
        return _same_matrix(a, b)
    return "ratio" in kinds and _same_ratio(a, b)


REGIONS = frozenset(("rel", "union", "without", "R", "seq"))


def _same_members(a: Node, b: Node) -> bool:
    """Unordered and complete. In a set, or where "or" joins them, a member may come twice."""
    members = []
    for node in (a, b):
        kind = _kind(node)
        members.append(list(node[2:] if kind == "list" else node[1:] if kind == "set" else [node]))
    if max(map(len, members)) > MAX_MEMBERS:
        raise Unread(f"more than {MAX_MEMBERS} members")
    if any(_kind(node) == "set" or (_kind(node) == "list" and node[1] == ("\\or",)) for node in (a, b)):
        members = [[x for i, x in enumerate(found) if not any(match(x, y) for y in found[:i])] for found in members]
    left, right = members
    if len(left) != len(right):
        return False
    for x in left:
        at = next((i for i, y in enumerate(right) if match(x, y)), None)
        if at is None:
            return False
        del right[at]
    return True


def _same_quantity(a: Node, b: Node) -> bool:
    """A unit may be left out on either side, but not differ; 35% is 35 or 0.35."""
    (x, unit), (y, other) = (node[1:] if _kind(node) == "quantity" else (node, ("",)) for node in (a, b))
    if (unit != other and unit[0] and other[0]) or _kind(x) or _kind(y):
        return False
    if same(x, y):
        return True
    return unit != other and ((unit == ("%",) and same(over(x, 100), y)) or (other == ("%",) and same(x, over(y, 100))))


def _same_matrix(a: Node, b: Node) -> bool:
    """Entry by entry; a column may be written as a tuple."""
    tables = []
    for node in (a, b):
        if _kind(node) not in ("matrix", "seq") or node[1] in (("[]",), ("(]",), ("[)",)):
            return False
        tables.append(node[1:] if _kind(node) == "matrix" else tuple((x,) for x in node[2:]))
    shapes = [[len(row) for row in table] for table in tables]
    return shapes[0] == shapes[1] and all(all(map(match, r, s)) for r, s in zip(*tables, strict=True))


def _same_ratio(a: Node, b: Node) -> bool:
    """Up to scale, and a : b is a/b; but 10:50 may be a time of day and is only itself."""
    left, right = (node[1:] if _kind(node) == "ratio" else (node, 1) for node in (a, b))
    if len(left) != len(right) or any(map(_kind, left + right)):
        return False
    if any(len(parts) == 2 and all(type(x) is int and 9 < x < 60 for x in parts) for parts in (left, right)):
        return all(map(same, left, right))
    return all(same(times([left[0], y]), times([right[0], x])) for x, y in zip(left[1:], right[1:], strict=True))


def _solved(relation: Node) -> list[Node]:
    """What a chain of equal signs says a value is: 5 of x = 5 and of m+n = 5, t-2 of h(t) = t-2, 8 of n = 2^3 = 8, both
    sides of 1/3 ~ 0.33; nothing of x+2y = 5."""
    signs, sides = list(relation[1]), list(relation[2:])
    if signs == ["\\in"]:
        return sides[1:]
    if not {*signs} <= {"=", "~"}:
        return []
    if len(sides) == 2 and not _is_name(*sides) and _is_name(*sides[::-1]):
        sides.reverse()
    while len(sides) > 1 and _is_name(sides[0], sides[1]):
        del sides[0], signs[0]
    found = sides[:1]
    for sign, side in zip(signs, sides[1:], strict=True):
        x, y = size(found[0]), size(side)
        if sign == "~" and x is not None and y is not None and abs(x - y) <= abs(x) / 100:
            found.append(side)
        elif (sign == "=" and not match(found[0], side)) or names(side) - CONSTANTS:
            return []
    return found


def _is_name(node: Node, value: Node) -> bool:
    """Whether `node` = `value` names what is asked for: x, f(x), m+n, S_{10}, 10m+n; of x, y, z only plain sums."""
    if _kind(node):
        return _kind(node) in ("text", "seq")
    letters, constant = names(node) - CONSTANTS, not names(value) - CONSTANTS
    terms = node[1:] if type(node) is tuple and node[0] == "+" else (node,)
    if all(
        type(x) is str or (type(x) is tuple and x[0] == "*" and all(type(y) is str or y == -1 for y in x[1:]))
        for x in terms
    ):
        return bool(letters) and (constant or len(terms) == 1)
    return bool(letters) and constant and value != 0 and not letters & {"x", "y", "z"}


FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


def _same_relation(a: Node, b: Node) -> bool:
    """Equations up to scale and side, inequalities up to positive scale and side, longer chains side by side."""
    if len(a) != len(b):
        return False
    signs, others, back = a[1], b[1], tuple(FLIPPED.get(sign, sign) for sign in b[1][::-1])
    if (signs == others and all(map(match, a[2:], b[2:]))) or (signs == back and all(map(match, a[2:], b[:1:-1]))):
        return True
    if len(a) != 4 or any(map(_kind, a[2:] + b[2:])) or (signs != others and signs != back):
        return False
    f, g = plus([a[2], minus(a[3])]), plus([b[2], minus(b[3])])
    if f == 0 or g == 0:
        return False
    if signs[0] not in FLIPPED:
        try:
            point, second = Residues("1"), Residues("2")
            return (residue(f, point) * residue(g, second) - residue(f, second) * residue(g, point)) % PRIME == 0 and (
                residue(f, point) != 0 != residue(g, point)
            )
        except Irrational:
            return proportion(f, g) != 0
    return proportion(f, g) == (1 if signs == others else -1)


# An end of an interval: its size; 1 or -1 if it is an open lower or upper end, else 0; its exact value.
End = tuple[float, int, Node]
Interval = tuple[End, End]
LINE: list[Interval] = [((-math.inf, 1, ("*", -1, "\\infty")), (math.inf, -1, "\\infty"))]


def region(node: Node) -> tuple[str, list[Interval]]:
    """A set of reals as disjoint intervals in order, and the letter they are said of or "". Raises Unread of others."""
    kind, letter = _kind(node), ""
    if kind == "seq" and len(node) == 4:
        brackets = node[1][0]
        parts = _between((node[2], brackets[0] == "("), (node[3], brackets[1] == ")"))
    elif kind == "R":
        parts = LINE
    elif kind == "set":
        parts = [part for x in node[1:] for part in _between((x, False), (x, False))]
    elif kind == "rel":
        letter, parts = next((x for x in node[2:] if type(x) is str and x not in CONSTANTS), ""), LINE
        for sign, left, right in zip(node[1], node[2:], node[3:], strict=False):
            if left != letter:
                sign, left, right = FLIPPED.get(sign, sign), right, left
            if left != letter or not letter:
                raise Unread("no inequality in one letter")
            parts = _common(parts, _half(sign, right))
    elif kind in ("union", "without") or (kind == "list" and all(_kind(x) == "rel" for x in node[2:])):
        letters, (parts, *others) = zip(*map(region, node[1 + (kind == "list") :]), strict=True)
        letter = max(letters)
        if {*letters} - {letter, ""}:
            raise Unread("inequalities of several letters")
        for other in others:
            if kind == "without" or (kind == "list" and node[1] == ("\\and",)):
                parts = _common(parts, _complement(other) if kind == "without" else other)
            else:
                parts = parts + other
    else:
        raise Unread("no set of reals")
    merged: list[Interval] = []
    for low, high in sorted(parts, key=lambda part: part[0][:2]):
        if merged and low[:2] <= (merged[-1][1][0], merged[-1][1][1] + 1):
            merged[-1] = merged[-1][0], max(merged[-1][1], high, key=lambda end: end[:2])
        else:
            merged.append((low, high))
    return letter, merged


def _between(low: tuple[Node, bool], high: tuple[Node, bool]) -> list[Interval]:
    """The interval between two ends, each a value and whether it is open; none where it would be empty."""
    x, y = size(low[0]), size(high[0])
    if x is None or y is None:
        raise Unread("an interval between no real numbers")
    if x > y:
        raise Unread("an empty interval")
    return _common([((x, int(low[1] or math.isinf(x)), low[0]), (y, -int(high[1] or math.isinf(y)), high[0]))], LINE)


def _half(sign: str, bound: Node) -> list[Interval]:
    """The reals x with x `sign` bound."""
    if sign == "\\in":
        return region(bound)[1]
    if sign == "!=":
        return _complement(_between((bound, False), (bound, False)))
    if sign not in FLIPPED:
        raise Unread("no inequality")
    end, infinity = (bound, len(sign) == 1), LINE[0]
    return _between((infinity[0][2], True), end) if sign[0] == "<" else _between(end, (infinity[1][2], True))


def _common(left: list[Interval], right: list[Interval]) -> list[Interval]:
    """The intersection of two unions of intervals."""
    pairs = [(max(a[0], b[0], key=lambda e: e[:2]), min(a[1], b[1], key=lambda e: e[:2])) for a in left for b in right]
    return [(low, high) for low, high in pairs if low[:2] <= high[:2]]


def _complement(parts: list[Interval]) -> list[Interval]:
    """The reals outside disjoint intervals in order."""
    ends = [LINE[0][0], *(end for part in parts for end in part), LINE[0][1]]
    ends[1:-1] = [(x, shift + (-1 if i % 2 == 0 else 1), node) for i, (x, shift, node) in enumerate(ends[1:-1])]
    return [(low, high) for low, high in zip(ends[::2], ends[1::2], strict=True) if low[:2] <= high[:2]]


def _same_region(a: Node, b: Node) -> bool:
    """Whether two nodes are the same set of reals, said of the same letter. Raises Unread of others."""
    (letter, left), (other, right) = region(a), region(b)
    return len(left) == len(right) and (letter == other or not letter or not other) and all(
        x[1] == y[1] and same(x[2], y[2]) for p, q in zip(left, right, strict=True) for x, y in zip(p, q, strict=True)
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------- the command line


def show(node: Node) -> str:
    """A reading in plain notation."""
    if type(node) in (int, Fraction):
        return str(node) if _bits(node) < 400 else f"a rational of {_bits(node)} bits"
    if type(node) is str:
        return node.lstrip("\\")
    kind = node[0]
    if kind == "text":
        return f"the text {node[1]!r}" + (f" (not mathematics: {node[2]})" if len(node) > 2 else "")
    if kind == "seq":
        return node[1][0][0] + ", ".join(map(show, node[2:])) + node[1][0][1]
    if kind == "list":
        return "the list " + ", ".join(map(show, node[2:]))
    if kind == "rel":
        return show(node[2]) + "".join(
            f" {sign.lstrip(chr(92))} {show(x)}" for sign, x in zip(node[1], node[3:], strict=True)
        )
    if kind == "quantity":
        return f"{show(node[1])} {node[2][0]}"
    if kind == "based":
        return f"{node[1][0]} in base {node[1][1]}"
    if kind == "matrix":
        return "the matrix " + "; ".join(", ".join(map(show, row)) for row in node[1:])
    parts = [*map(show, node[1:])]
    return f"({f' {kind} '.join(parts)})" if kind in "+*^" else f"{kind.lstrip(chr(92))}({', '.join(parts)})"


def score(rows: list[dict]) -> str:
    """A table of verdicts by kind, and every wrong one."""
    kinds: dict[str, list[int]] = {}
    wrong = []
    for row in rows:
        verdict, expected = verify(row["response"], row["gold"]), row["expected"]
        counts = (1, verdict == expected, verdict > expected, verdict < expected)
        kind = str(row.get("kind", ""))
        kinds[kind] = [x + y for x, y in zip(kinds.get(kind, (0, 0, 0, 0)), counts, strict=True)]
        if verdict != expected:
            what = "false positive" if verdict else "false negative"
            wrong.append(f"{what}: gold {row['gold']!r}, answer {extract_answer(row['response'])!r}")
    total = [sum(column) for column in zip(*kinds.values(), strict=True)]
    lines = [f"{'kind':12} {'rows':>6} {'right':>6} {'false +':>8} {'false -':>8}"]
    lines += [
        f"{kind:12} {n:6} {right:6} {up:8} {down:8}"
        for kind, (n, right, up, down) in [*sorted(kinds.items()), ("all", total)]
    ]
    return "\n".join([*lines, f"{total[1] / total[0]:.2%} right", *wrong])


def load(path: str) -> list[dict]:
    """The rows of a labelled JSONL file. Raises OSError, or ValueError with a sentence on what is wrong."""
    rows = []
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line) if line.strip() else None
                if row is not None:
                    rows.append(row)
                    fine = (
                        isinstance(row["response"], str)
                        and isinstance(row["gold"], str)
                        and type(row["expected"]) is bool
                    )
                    _ = fine or row["unfit"]
            except (ValueError, KeyError, TypeError, RecursionError):
                raise ValueError(
                    f"{path}, line {number}: no object with response, gold (texts) and expected (true or false)"
                ) from None
    if not rows:
        raise ValueError(f"{path} has no rows")
    return rows


def main(arguments: list[str]) -> int:
    """The program of the module's docstring: its exit code."""
    if len(arguments) != 2:
        print("usage: python verifier.py RESPONSE GOLD | --score FILE.jsonl", file=sys.stderr)
        return 2
    if arguments[0] == "--score":
        try:
            print(score(load(arguments[1])))
        except (OSError, ValueError) as error:
            print(f"verifier: {error}", file=sys.stderr)
            return 2
        return 0
    response, gold = arguments
    answer, verdict = extract_answer(response), verify(response, gold)
    print("answer: ", "none found" if answer is None else f"{answer!r}, read as {show(read(answer))}")
    print("gold:   ", f"{gold!r}, read as {show(read(gold))}")
    print("verdict:", "equal" if verdict else "no answer" if answer is None else _judge(answer, gold)[1])
    return 0 if verdict else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
