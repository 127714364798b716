"""Parsing and splicing of micro-reflective trajectories."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import make_sentencepiece, make_tokenizer

import reflect
import toy
from reflect import OUTCOMES, construct, parse, reflects, turn_position

SETTINGS = settings(max_examples=150, deadline=None, derandomize=True, database=None)

Y_WRONG = "We compute 36 + 8 = 44. So x is 9. Therefore the answer is \\boxed{9}."
REST = " Take x = 10: 40 + 8 = 48.\nSo \\boxed{10}."
TURNS = [
    " Wait, 44 is too low.",
    "\n\nWait, that is off.",
    " But wait, 9 is wrong.",
    " Hold on: let me see.",
    "\nHmm, wait.",
]
SAMPLES = [Y_WRONG + turn + REST for turn in TURNS] + ["a" * 40, "\u00e9\u00e8 \u4e16\u754c \U0001f600 wait"]


def output(reconstruction, analysis="the sum is right, the guess is not"):
    return f"<analysis>\n{analysis}\n</analysis>\n<reconstruction>\n{reconstruction}\n</reconstruction>"


def tokenizer_functions(vocab):
    """Byte-level tokenisers from no merges at all to long ones, which span words and the splice; and one that puts a
    space in front of any text."""
    tokenizer = make_tokenizer(SAMPLES * 3, vocab=vocab, chat=False) if vocab else make_sentencepiece(SAMPLES)
    return {
        "decode": lambda ids: tokenizer.decode(ids, skip_special_tokens=True),
        "encode": lambda text: tokenizer(text, add_special_tokens=False).input_ids,
        "eos_id": tokenizer.eos_token_id,
    }


TOKENIZERS = {vocab: tokenizer_functions(vocab) for vocab in (0, 260, 290, 340, 420)}


@SETTINGS
@given(st.sampled_from(list(TOKENIZERS)), st.integers(3, 12), st.sampled_from(TURNS), st.integers(0, 9))
def test_the_splice(vocab, error_at, turn, seed):
    """Whatever the tokeniser merges: y_ref begins with the sampled ids of y-, decodes to the reconstruction, goes on as
    the tokeniser writes it, and what is kept is as much of y- as whole tokens before the turn allow."""
    functions, rng = TOKENIZERS[vocab], random.Random(seed)
    words = Y_WRONG.split(" ")
    wrong = "\n" * rng.randint(0, 1) + Y_WRONG
    shared = " ".join(words[:error_at])
    rewritten = shared + turn + REST
    ids = functions["encode"](wrong)
    made = construct(ids, output(rewritten), max_tokens=500, **functions)
    assert made.outcome == "kept"
    assert made.ids[: made.kept] == ids[: made.kept] and made.kept >= 1
    assert made.ids[-1] == functions["eos_id"] and made.ids.count(functions["eos_id"]) == 1
    assert functions["decode"](made.ids).strip() == rewritten
    assert made.ids[:-1] == functions["encode"](made.prefix + made.turn)
    assert made.prefix + made.turn == functions["decode"](made.ids)
    assert wrong.startswith(made.prefix) and made.prefix.strip() == shared
    assert turn.strip() in made.turn and REST in made.turn
    lost = wrong.find(shared) + len(shared) - len(functions["decode"](made.ids[: made.kept]))
    assert lost <= 12  # the longest token of these tokenisers


@SETTINGS
@given(st.text(max_size=200), st.text(max_size=200), st.sampled_from(list(TOKENIZERS)))
def test_any_texts_end_in_a_named_outcome(wrong, reconstruction, vocab):
    functions = TOKENIZERS[vocab]
    ids = functions["encode"](wrong)
    made = construct(ids, output(reconstruction), max_tokens=100, **functions)
    assert made.outcome in OUTCOMES
    if made.outcome == "kept":
        assert made.ids[: made.kept] == ids[: made.kept] and len(made.ids) <= 100
    else:
        assert made.ids == []


@pytest.mark.parametrize("vocab", [0, 260, 420])
def test_y_wrong_need_not_be_as_the_tokeniser_would_write_it(vocab):
    """A model samples " the" as two tokens now and then. These ids stay as they are."""
    functions, rng, kept = TOKENIZERS[vocab], random.Random(3), 0
    for _ in range(100):
        cuts = [0, *sorted(rng.sample(range(1, len(Y_WRONG)), 10)), len(Y_WRONG)]
        ids = [id_ for start, end in pairwise(cuts) for id_ in functions["encode"](Y_WRONG[start:end])]
        wrong = functions["decode"](ids)
        shared = wrong[: rng.randint(4, len(wrong))]
        made = construct(ids, output(shared + " Wait, no." + REST), max_tokens=500, **functions)
        if made.outcome == "not_verbatim":
            assert shared[-1].isalnum() and wrong[len(shared)].isalnum()  # cut inside a word
            continue
        kept += 1
        assert made.outcome == "kept" and made.ids[: made.kept] == ids[: made.kept]
        assert functions["decode"](made.ids) == shared + " Wait, no." + REST
        assert made.prefix.startswith(functions["decode"](made.ids[: made.kept]))
        assert len(shared) - len(functions["decode"](made.ids[: made.kept])) <= 12  # the longest token
    assert kept > 40


def test_characters_of_several_tokens_are_never_cut():
    functions = TOKENIZERS[260]
    wrong = "\u4e16\u754c \U0001f600 is 5"
    made = construct(functions["encode"](wrong), output("\u4e16\u754d wait, no"), max_tokens=99, **functions)
    assert made.outcome == "not_verbatim"  # another character, whose first two bytes are the same
    made = construct(functions["encode"](wrong), output("\u4e16\u754c \U0001f600 wait, no"), max_tokens=99, **functions)
    assert made.outcome == "kept" and made.prefix.strip() == "\u4e16\u754c \U0001f600"


@pytest.mark.parametrize(
    ("reconstruction", "outcome"),
    [
        (Y_WRONG[:23] + " Wait, no. \\boxed{10}", "kept"),
        (Y_WRONG + " Wait, no. \\boxed{10}", "kept"),  # all of y-, then the turn
        (Y_WRONG[:22] + "5. Wait, no. \\boxed{10}", "not_verbatim"),  # 44 became 45
        (Y_WRONG[:23] + "\n\n> Wait, no. \\boxed{10}", "kept"),
        (Y_WRONG[:23] + " Oops. Well, wait, no. \\boxed{10}", "kept"),
        (Y_WRONG[:23] + " \U0001f914 Wait, no. \\boxed{10}", "kept"),
        (Y_WRONG[:23] + "\n\n\u26a0\ufe0f **Wait**, no. \\boxed{10}", "kept"),
        (Y_WRONG[:21] + ". Wait, no. \\boxed{10}", "not_verbatim"),  # 44 became 4
        ("We get 36 + 8 = 44. Wait, no. \\boxed{10}", "not_verbatim"),
        ("Wait, no. \\boxed{10}", "not_verbatim"),  # nothing kept
        (Y_WRONG[:18] + "> Wait, no. \\boxed{10}", "not_verbatim"),  # = became >
        (Y_WRONG[:23] + " So x is 10: \\boxed{10}.", "no_turn"),
        (Y_WRONG, "no_turn"),
        (Y_WRONG[:23] + " Awaiting more. \\boxed{10}.", "no_turn"),
        ("", "tags"),
    ],
)
def test_outcomes(reconstruction, outcome):
    functions = TOKENIZERS[340]
    made = construct(functions["encode"](Y_WRONG), output(reconstruction), max_tokens=200, **functions)
    assert made.outcome == outcome


def test_a_turn_that_y_wrong_holds_itself_does_not_count():
    wrong = "36 + 8 = 44. Wait, 9 is low. Try 11: 52. So 11."
    assert turn_position(wrong, "36 + 8 = 44. Wait, 9 is low. Try 10: 48. So 10.") == "no_turn"
    again = "36 + 8 = 44. Wait, 9 is low. Try 11: 52. Wait, that is high. So 10."
    assert again[turn_position(wrong, again) :].startswith((" Wait, that", "Wait, that"))
    assert turn_position(wrong, "36 + 8 = 44. Wait, 8 is low. So 10.") == "no_turn"


def test_letters_that_grow_in_lower_case_move_no_position():
    wrong, rewritten = "\u0130\u0130\u0130 = 5. So it is 5.", "\u0130\u0130\u0130 = 5. Wait, it is 6."
    assert rewritten[turn_position(wrong, rewritten) :] == "Wait, it is 6."


def test_limits_and_unfinished_outputs():
    functions = TOKENIZERS[340]
    ids, good = functions["encode"](Y_WRONG), output(Y_WRONG[:23] + " Wait, no. \\boxed{10}")
    full = construct(ids, good, max_tokens=200, **functions)
    assert construct(ids, good, max_tokens=len(full.ids), **functions) == full
    assert construct(ids, good, max_tokens=len(full.ids) - 1, **functions).outcome == "too_long"
    assert construct(ids, good, finished=False, max_tokens=200, **functions).outcome == "cut"


def test_a_tokeniser_that_changes_a_text_is_noticed():
    functions = TOKENIZERS[340]
    ids, good = functions["encode"](Y_WRONG), output(Y_WRONG[:23] + " Wait, no.")
    for change in (" {}".format, str.lower, lambda text: text.replace("no.", "no .")):
        changing = functions | {"encode": lambda text, change=change: functions["encode"](change(text))}
        assert construct(ids, good, max_tokens=200, **changing).outcome == "splice"


def test_special_tokens_stay_inside_what_is_kept_and_never_stand_at_its_end():
    """gpt-oss changes its channel by such tokens: kept at the border, they would put the turn into a role's name."""
    functions = TOKENIZERS[340]
    first, last = functions["encode"](Y_WRONG[:18]), functions["encode"](Y_WRONG[18:22])
    ids = [*first, 2, 3, *last, 3, 2, *functions["encode"](Y_WRONG[22:])]  # 2 and 3 are special and not the end
    made = construct(ids, output(Y_WRONG[:22] + " Wait, no."), max_tokens=200, **functions)
    assert made.outcome == "kept" and made.ids[: made.kept] == [*first, 2, 3, *last]
    assert made.prefix == Y_WRONG[:22] and functions["decode"](made.ids) == Y_WRONG[:22] + " Wait, no."
    typed = construct(ids, output(Y_WRONG[:22] + " Wait, no.<|end|> And 5."), max_tokens=200, **functions)
    assert typed.outcome == "splice"  # as a word, not as a token: nothing may stand behind an end token


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<analysis>a</analysis>",
        "<analysis>a</analysis><reconstruction>b",
        "<reconstruction>b</reconstruction><analysis>a</analysis>",
        "<analysis>a</analysis><analysis>a</analysis><reconstruction>b</reconstruction>",
        "<analysis>a</analysis><reconstruction>b</reconstruction><reconstruction>c</reconstruction>",
        "<analysis>a<reconstruction>b</reconstruction></analysis>",
    ],
)
def test_unclear_tags_do_not_parse(text):
    assert parse(text) is None


def test_tags_parse_with_text_around_them():
    assert parse("Sure.\n<analysis> a\n</analysis>\n<reconstruction>\nb </reconstruction> Done.") == ("a", "b")


def test_reflections_are_whole_words():
    assert reflects("So 5. Wait, no.") and reflects("WAIT") and reflects("Let me double-check that.")
    assert reflects("That\u2019s wrong.") and reflects("Hold on.")
    assert not reflects("The waiter is awaited; hold onto it.") and not reflects("")


def test_the_toy_s_demonstrations_are_constructions_that_are_kept():
    tokenizer, rng = toy.tokenizer(), random.Random(0)
    problems, _ = toy.problems()
    for _ in range(300):
        problem = rng.choice(problems)
        prompt, text = toy.synthesis(problem, rng)
        wrong = prompt.split(" wrong ")[1].split(" right ")[0]
        ids = tokenizer(wrong).input_ids
        made = construct(
            ids, text, decode=tokenizer.decode, encode=lambda t: tokenizer(t).input_ids, eos_id=1, max_tokens=99
        )
        assert made.outcome == "kept"
        assert made.kept == len(ids) - 3  # all but the boxed answer
        assert made.turn.startswith("wait ") and made.turn.endswith(f"\\boxed{{ {problem.answer} }}")
        assert made.ids[: made.kept] == ids[: made.kept]


def test_the_synthesis_prompt_takes_any_texts():
    text = reflect.SYNTHESIS.format(question="{wrong}", wrong="{right} }{", right="\\boxed{1}")
    assert "{right} }{" in text and "in \\boxed{}" in text and "<reconstruction>" in text
