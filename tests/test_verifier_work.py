"""One work budget a call: no input keeps the verifier busy, whatever it is made of."""

# ruff: noqa: E501, RUF001

import random
import sys
import time

import pytest
from hypothesis import HealthCheck, given, settings, target
from hypothesis import strategies as st

from verifier import BUDGET, MAX_LENGTH, Work, equivalent, extract_answer, judge, verify

LIMIT = 0.5  # seconds of processor time, on a slow machine


def chain(form, numbers, joint="+"):
    return joint.join(form.format(n) for n in numbers)


def shifted(form, count, joint="+", start=2):
    """Two long answers that differ in one member."""
    return chain(form, range(start, start + count), joint), chain(form, range(start + 1, start + count + 1), joint)


LONG = "7" * 590
BIG = [random.Random(k).randrange(10**60, 10**61) for k in range(120)]
KINDS = {
    "logarithms and a long number": (
        shifted("\\ln(x+{})", 120)[0] + "+" + LONG,
        shifted("\\ln(x+{})", 120)[1] + "+1" + LONG,
    ),
    "the same in an equation": (shifted("\\ln(x+{})", 120)[0] + f"={LONG}", shifted("\\ln(x+{})", 120)[1] + f"={LONG}"),
    "a set of such sums": tuple(
        "\\{" + ",".join(chain("\\ln(x+{})", range(n, n + 11)) + f"+{LONG}{n}" for n in range(k, k + 14)) + "\\}"
        for k in (1, 2)
    ),
    "sines in a set": tuple("\\{" + part + "\\}" for part in shifted("\\sin(x)+{}", 99, ",")),
    "sines": shifted("\\sin(x+{})", 140),
    "logarithms": shifted("\\ln {}", 188),
    "or of arctangents": shifted("\\arctan {}", 99, " or "),
    "or of arctangents of x": shifted("\\arctan(x+{})", 99, " or "),
    "logarithms without a base": shifted("\\log({}x)", 90, ","),
    "irrational powers": shifted("{0}^{{\\sqrt{{{0}}}}}", 150),
    "complex powers": shifted("(i+x)^{{{}/3}}", 88),
    "long roots": shifted("\\sqrt{{" + "7" * 1200 + "{}}}", 8),
    "a long root": ("\\sqrt[7]{" + "7" * 3900 + "}", "\\sqrt[7]{" + "7" * 3899 + "6}"),
    "fractions": ("+".join(f"\\frac{{1}}{{{n}}}" for n in BIG), "x"),
    "powers": (chain("{}^{{1000}}", range(90_000, 90_110)), "x"),
    "powers of fractions": (chain("(3/{})^{{1500}}", range(90_001, 90_090)), "x"),
    "factorials": ("3000!*2999!*" * 150 + "1", "x"),
    "factorials of n": shifted("(n+{})!", 90),
    "binomials": ("\\binom{8000}{4000}+" * 180 + "1", "x"),
    "floors": (chain("\\lfloor n/{}\\rfloor", range(2, 90)), chain("\\lfloor n/{}\\rfloor", range(2, 91))),
    "a sum over a range": ("\\sum_{k=1}^{1000} " + "*".join(["(k+1)"] * 120), "5"),
    "a sum of sums": ("\\sum_{k=1}^{1000}\\sum_{j=1}^{1000} k^j", "5"),
    "a sum of logarithms": ("\\sum_{k=1}^{1000} \\ln(k)", "5.5"),
    "many +-": (",".join(["\\pm 1\\pm 2\\pm 3\\pm 4"] * 60), "6"),
    "differences of sets": tuple("\\mathbb{R}" + chain("\\setminus[{},1000]", range(k, k + 150), "") for k in (1, 2)),
    "unions": tuple("[1,2]" + chain("\\cup[{},2000)", range(k, k + 150), "") for k in (1, 2)),
    "conditions": shifted("x\\ne {}", 150, "\\text{ and }"),
    "a chain of equal signs": (chain("\\sqrt{{{}}}", range(2, 150), "="), "6"),
    "words to be left out": ("\\text{a is}" * 160 + "5", "6"),
    "a permuted list": (chain("\\sqrt{{2}}+{}", range(100), ","), chain("{}+\\sqrt{{2}}", range(99, -1, -1), ",")),
    "boxes that are not closed": ("\\boxed{" + ("x" * 4600 + "\\boxed{") * 20, "6"),
    "boxes that are not closed before one that is": (("\\boxed{" + "{}" * 2300) * 20 + "\\boxed{5}", "6"),
    "nested boxes": ("\\boxed{" * 7000 + "1" + "}" * 7000, "6"),
    "boxes side by side": ("\\boxed{\\sqrt{2}+1}," * 5000, "\\{1,2\\}"),
    "empty boxes": ("\\boxed{}" * 12_000, "6"),
    "boxes in the gold answer": ("\\boxed{5}", "\\boxed{" * 14_000),
    "markers": ("answer is [ " * 9000, "6"),
    "answers that are no markers": ("the answer " * 9000, "6"),
    "dollar signs": ("$" * 100_000, "6"),
    "pairs of dollar signs": ("$x $y" * 20_000, "6"),
    "escaped dollar signs": ("$" + "\\$" * 49_000, "6"),
    "escaped dollar signs in formulas": ("$x\\$ " * 19_000, "6"),
    "formulas that are not closed": ("\\(" * 50_000, "6"),
    "end-of-text tokens": ("5" + "</s>" * 24_000, "6"),
    "thoughts": ("<think>" * 14_000, "6"),
    "bold": ("**" * 50_000, "6"),
    "digits": ("9" * 100_000, "9" * 99_999 + "8"),
}


def spent(call, *arguments):
    """The units of work of a call; it has to end within the limit."""
    work, start = Work(), time.process_time()
    call(*arguments, work)
    assert time.process_time() - start < LIMIT
    return BUDGET - work.left


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_kept_a_verifier_busy_ends_soon(kind):
    a, b = KINDS[kind]
    for one, other in ((a, b), (b, a)):
        spent(judge, one, other)
        spent(verify, one, other)
        spent(verify, f"so \\boxed{{{one}}}", other)
        spent(verify, f"The answer is ${one}$, or ${other}$.", other)


def test_beyond_the_budget_an_answer_equals_its_own_text():
    a, b = KINDS["or of arctangents of x"]
    assert equivalent(a, a)
    assert not equivalent(a, b)
    assert "more work" in judge(*KINDS["logarithms and a long number"], Work())[1]


PIECES = (
    "\\ln(x+2) \\sin(x) \\arctan(y) \\sqrt{2} \\sqrt[5]{x} e^{x} \\pi x n! \\binom{n}{k} 2^{n} (-1)^{n} \\lfloor\\frac{n}{7}\\rfloor i 7 "
    + "9" * 40 + " " + "8" * 400 + " \\frac{1}{" + "7" * 100 + "} 3^{99} 2999! \\sum_{k=1}^{900}k^{k} \\log(x) |x| (1,2) [0,x) \\infty 0.12345 "
    "\\boxed{ } $ answer \\text{is} for"
).split(" ")  # fmt: skip
JOINTS = ("+", "-", "*", "/", "^", ",", " or ", "=", "<", "\\cup", "\\setminus", "\\pm", "", " ")


@settings(derandomize=True, database=None, deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=6),
    st.lists(st.sampled_from(JOINTS), min_size=1, max_size=4),
    st.sampled_from([1, 7, 40, 160, 900]),
    st.sampled_from(["{}", "\\{{{}\\}}", "({})", "{}=0", "\\boxed{{{}}}", "\\sqrt{{{}}}"]),
    st.sampled_from([("", ""), ("x", "y"), ("7", "6"), ("+", "-"), ("n", "(n+1)")]),
)
def test_search_for_more_work(pieces, joints, count, form, change):
    """A search that is led by the work counted finds nothing that takes longer than its budget allows."""
    text = "".join(piece + joints[i % len(joints)] for i, piece in enumerate((pieces * count)[: count * 3]))
    text = form.format(text[:100_000])
    other = text.replace(*change, 1) + ("" if change[0] else "+1")
    units = max(spent(judge, text, other), spent(verify, text, other), spent(verify, f"\\boxed{{{other}}}", text))
    target(float(min(units, BUDGET)))


# What a text may be made of. Every piece is repeated to five thousand and to a hundred thousand characters.
GROWN = """
1 12 123 1, 1. .5 1.5 0.5 1e5 1E1 1{,} 1\\,000 1\\! x xy x1 x^2 x^ x_ x_1 x² x₁ x' |x | $x $x$ x$ \\$ \\$1 ( ) () [ ] { } {} \\{ \\} \\left(
abc words sin \\sin \\frac \\frac12 \\sqrt \\pi \\text{ \\text{a} cm am 1m / 1/ 5/m + - +- * ** ^ _ ! !! 1! = x= =1 == < <= != => ... , ; : 1: a: % 1%
& \\\\ \\\\[ or 1or is answer answer: #### ####1 **1** \\boxed \\boxed{ \\boxed{1} \\boxed{1}or \\boxed{} box fbox{ <think> </think> < </s> <|im_end|>
<|begin_of_box|>1 \\( \\) \\(x\\) $$ \\equiv \\bmod \\equiv\\bmod \\in \\cup \\pm \\mp \\infty \\ldots \\begin{ \\begin{pmatrix} \\end{pmatrix} \\overline
\\color{ \\hspace{ ½ ² ⁻ √ ∞ \ufdfa é e\u0301 \u0301\u0327 \u0327\u0301 𝟙 Ⅷ 中 和 或 答案 答案是 选 【答案】 “ ` # \ud800 A) (A) A. yes, million square km/ \\%
\\circ ° € "a" ~ ~~ ~~1~~ <del> </del> \\cancel{ \\cancel{1} <!-- --> <reasoning> <answer>1 <|channel|> \\not \\not= \\forall abs( 0.(3) 0x1 \\text{a}= ， 。 \u200b \u200c
\u200d \u200e \u2060 \ufeff \u00ad
""".split()
GROWN = [
    *GROWN,
    *(piece + " " for piece in GROWN if len(piece) < 6),
    *" \t\n\xa0",
    "\n%",
    "%\n",
    "1\n",
    "the answer is 1. ",
    " or ",
    "1 or ",
]
CALLS_A_UNIT = 20  # at most so many calls of functions are made for a unit of work or a character


def test_search_for_work_that_is_not_counted():
    """The work counted stays within the budget, and what is done without counting is linear in the text."""
    made = 0

    def count(frame, event, argument):
        nonlocal made
        made += event in ("call", "c_call")

    found = []
    for piece in GROWN:
        grown, long = piece * (4900 // len(piece)), piece * (100_000 // len(piece))
        for response, gold in ((f"\\boxed{{{grown}}}", "1,2"), ("\\boxed{6}", grown), (long, "6")):
            work, made, before = Work(), 0, sys.getprofile()
            sys.setprofile(before if response == long else count)
            try:
                verify(response, gold, work)
            finally:
                sys.setprofile(before)
            units = BUDGET - work.left
            if units > BUDGET + MAX_LENGTH or made > CALLS_A_UNIT * (units + 2000):
                found.append((piece, response[:9], units, made))
    assert not found


def test_equality_is_decided_in_linear_time_too():
    for piece in ("1 ", "1\u200b", "x²", "\ufdfa", "\u0301\u0327"):
        work = Work()
        assert not judge(piece * (9900 // len(piece)), "6", work)[0]
        assert BUDGET - work.left < 5 * MAX_LENGTH
    assert not verify("\\boxed{1}, \\boxed{" + "\ufdfa" * 9000 + ",1}", "1,2")
    assert not equivalent("\u0327" * 5000 + "\u0301" * 5000, "6")


def test_the_work_of_an_everyday_call_is_small():
    for response, gold in (
        ("\\boxed{12}", "12"),
        ("The answer is $\\frac{3}{4}$.", "0.75"),
        ("\\boxed{2\\sqrt3}", "\\sqrt{12}"),
    ):
        work = Work()
        assert verify(response, gold, work)
        assert BUDGET - work.left < BUDGET / 100
    assert extract_answer("so it is 12") == "12"
