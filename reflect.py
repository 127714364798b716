"""Micro-reflective trajectories: the synthesis prompt, the parsing of its output, and the splice (TAPO, step 3).

The policy is shown a query, one of its own wrong responses y- and one of its own right responses y+, and rewrites y-:

    <analysis> what the first critical error of y- is </analysis>
    <reconstruction> y- verbatim up to and including that error, a turn ("Wait, ..."), the rest </reconstruction>

The reconstruction becomes y_ref, a training trajectory for the plain query:

    y_ref = y-[:kept] + encode(text of y_ref)[new:] + [end]

where y-[:kept] are the very ids that were sampled, up to the turn, and only the rest is new. The rest cannot be encoded
by itself: a tokeniser treats the beginning of a text in its own way (SentencePiece puts a space there), and may have
one token for what stands on both sides of the splice. So the whole text is encoded, and the two sequences of ids are
joined at the last place before the turn where both have a border between tokens. `construct` checks what the paper asks
for, that the ids spell the text, and names the reason of everything it throws away (OUTCOMES). Whether y_ref is correct
is not decided here: it is verified like any response.

Ours, not the paper's: what counts as a turn (REFLECTIONS, right where the reconstruction leaves y-) and the wording.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from unicodedata import category

# What makes a response "reflect", in lower case: used to recognise the turn here, and for DSR and ERR in eval.py.
REFLECTIONS = (
    "wait",
    "hold on",
    "on second thought",
    "let me check again",
    "let me double-check",
    "let me double check",
    "let me recheck",
    "let me re-check",
    "let me re-examine",
    "let me reexamine",
    "let me reconsider",
    "let me rethink",
    "let me try again",
    "let me redo",
    "i made a mistake",
    "i made an error",
    "that's not right",
    "that is not right",
    "that can't be right",
    "that's wrong",
    "that is wrong",
)
# What may stand between the error and the turn: these words, space, what ends a sentence, a formula or emphasis, and
# pictures such as \N{THINKING FACE}.
LEAD_INS = ("but", "so", "well", "oh", "oops", "hm", "hmm", "no", "ah", "actually", "ok", "okay")
PUNCTUATION = ".,;:!?*_-#\u2013\u2014\u2026\ufe0f\"'()[]{}$\\"

OUTCOMES = {
    "kept": "a trajectory for training",
    "too_long_prompt": "query, y- and y+ do not fit the context: nothing was sampled",
    "cut": "the output reached its token limit",
    "tags": "not exactly one analysis followed by one reconstruction, which says something",
    "not_verbatim": "the reconstruction leaves y- before it turns",
    "no_turn": "the reconstruction never turns",
    "splice": "the spliced ids do not decode to the reconstruction",
    "too_long": "the trajectory is longer than a response may be",
}

_TASK = """Below are a problem and two attempts of yours at it. The first attempt ends wrong, the second ends right.

Problem:
{question}

Wrong attempt:
{wrong}

Right attempt:
{right}

Show how the wrong attempt could have been saved halfway. Answer in exactly this form:

<analysis>
Name the first critical error of the wrong attempt, and why it is one.
</analysis>
<reconstruction>
"""
_COPY = """Copy the wrong attempt word for word from its beginning up to and including that error, and stop copying \
there. """
_ANEW = "Write a whole solution in your own words, which makes that error on its way. "
_TURN = """Go on with "Wait," and say in a sentence what is wrong, as if you had just noticed it yourself. Then \
continue correctly, to the final answer in \\boxed{{}}. Mention neither attempt.
</reconstruction>"""
SYNTHESIS = _TASK + _COPY + _TURN
ANEW = _TASK + _ANEW + _TURN  # of the ablation "full reconstruction"
OUTPUT = "<analysis>\n{analysis}\n</analysis>\n<reconstruction>\n{reconstruction}\n</reconstruction>"  # as it asks for


@dataclass(frozen=True)
class Construction:
    """What became of one synthesis output. When outcome is "kept": `ids` is y_ref (end token included), its first
    `kept` ids are y-'s, and prefix + turn is its text. The prefix is all that it shares with y- before the turn; those
    ids may spell a token less. Other outcomes (see OUTCOMES) leave `ids` empty."""

    outcome: str
    analysis: str = ""
    prefix: str = ""
    turn: str = ""
    ids: list[int] = field(default_factory=list)
    kept: int = 0


def construct(
    wrong_ids: list[int],
    output: str,
    *,
    finished: bool = True,
    decode: Callable[[list[int]], str],
    encode: Callable[[str], list[int]],
    eos_id: int,
    max_tokens: int,
    verbatim: bool = True,
) -> Construction:
    """y_ref from the ids of y- (no end token) and the text of a synthesis output, or the reason why there is none.

    Without `verbatim` y_ref is the whole reconstruction as it was written, be it y-'s words or not, and kept is 0: the
    paper's ablation "full reconstruction", whose prompt is ANEW.

    `decode` and `encode` are the tokeniser's, exact and without special tokens: decode(encode(text)) is the text, or
    else the outcome is "splice"."""
    if not finished:
        return Construction("cut")
    parsed = parse(output)
    if parsed is None:
        return Construction("tags")
    analysis, rewritten = parsed
    wrong = decode(wrong_ids)
    rewritten = wrong[: len(wrong) - len(wrong.lstrip())] + rewritten.strip()
    whole, cut, kept, new = encode(rewritten), 0, 0, 0
    if verbatim:
        cut = turn_position(wrong, rewritten)
        if isinstance(cut, str):
            return Construction(cut, analysis)
        kept = _ids_within(wrong_ids, rewritten[:cut], decode)
        if kept == 0:
            return Construction("not_verbatim", analysis)
        if decode(whole) == rewritten:  # else there is no border to look for
            kept, new = _last_common_border(wrong_ids[:kept], whole, rewritten[:cut], decode)
    prefix, turn, ids = rewritten[:cut], rewritten[cut:], wrong_ids[:kept] + whole[new:]
    if decode(ids) != rewritten or (verbatim and not kept):
        return Construction("splice", analysis, prefix, turn)
    if len(ids) >= max_tokens:
        return Construction("too_long", analysis, prefix, turn)
    return Construction("kept", analysis, prefix, turn, ids + [eos_id], kept)


def parse(output: str) -> tuple[str, str] | None:
    """(analysis, reconstruction) of a synthesis output, or None unless each of the four tags stands there once, in
    order, and the reconstruction is not empty."""
    tags = ("<analysis>", "</analysis>", "<reconstruction>", "</reconstruction>")
    places = [output.find(tag) for tag in tags]
    if any(output.count(tag) != 1 for tag in tags) or places != sorted(places):
        return None
    a, b, c, d = places
    analysis, reconstruction = output[a + len(tags[0]) : b].strip(), output[c + len(tags[2]) : d].strip()
    return (analysis, reconstruction) if reconstruction else None


def turn_position(wrong: str, rewritten: str) -> int | str:
    """Where in `rewritten` the turn begins; all before it is a prefix of `wrong`, in whole words. Or "no_turn": no
    reflection after the words shared with y- (a "wait" that y- holds itself does not count); or "not_verbatim": there
    is one, but more than LEAD_INS, PUNCTUATION and pictures stands between the shared words and it."""
    shared = next((i for i, (a, b) in enumerate(zip(wrong, rewritten)) if a != b), min(len(wrong), len(rewritten)))
    text = _folded(rewritten)
    starts = [at for phrase in REFLECTIONS for at in _occurrences(text, phrase) if at + len(phrase) > shared]
    if not starts:
        return "no_turn"
    start = min(starts)
    while shared and (_inside_word(wrong, shared) or _inside_word(rewritten, shared)):
        shared -= 1
    between = rewritten[:start].replace("\n>", "\n ")[shared:]  # a line may be quoted
    between = "".join(" " if c in PUNCTUATION or category(c) == "So" else c for c in between).lower().split()
    if any(word not in LEAD_INS for word in between):
        return "not_verbatim"
    return min(start, shared)


def reflects(text: str) -> bool:
    """Whether a response holds a reflection: any of REFLECTIONS, as whole words. Linear in the length of the text."""
    text = _folded(text)
    return any(True for phrase in REFLECTIONS for _ in _occurrences(text, phrase))


def _folded(text: str) -> str:
    """The text in lower case and with plain apostrophes, each character at its place."""
    low = text.lower()
    if len(low) != len(text):  # a few capitals become two characters: those are left as they are
        low = "".join(one if len(one := c.lower()) == 1 else c for c in text)
    return low.replace("\u2019", "'")


def _occurrences(text: str, phrase: str) -> Iterator[int]:
    """Where a folded text holds a phrase as whole words."""
    at = text.find(phrase)
    while at >= 0:
        if not _inside_word(text, at) and not _inside_word(text, at + len(phrase)):
            yield at
        at = text.find(phrase, at + 1)


def _inside_word(text: str, at: int) -> bool:
    return 0 < at < len(text) and text[at - 1].isalnum() and text[at].isalnum()


def _last_common_border(ids: list[int], whole: list[int], text: str, decode) -> tuple[int, int]:
    """The last (i, j) where ids[:i] and whole[:j] spell the same; `ids` spells a beginning of `text`, and `whole` all
    of it and more. Tokens right before that place that spell nothing (special ones) are left out."""
    i, j = len(ids), _ids_within(whole, text, decode)
    one, two = decode(ids[:i]), decode(whole[:j])
    while one != two or not text.startswith(one):
        if len(one) >= len(two):
            i -= 1
            one = decode(ids[:i])
        else:
            j -= 1
            two = decode(whole[:j])
    while i and decode(ids[: i - 1]) == one:
        i -= 1
    return i, j


def _ids_within(ids: list[int], text: str, decode) -> int:
    """The most leading ids whose decoding is a prefix of `text`: by bisection on lengths, then down past any token that
    ends inside a character or spans the end of `text`."""
    low, high = 0, len(ids)
    while low < high:
        middle = (low + high + 1) // 2
        if len(decode(ids[:middle])) <= len(text):
            low = middle
        else:
            high = middle - 1
    while low and not text.startswith(decode(ids[:low])):
        low -= 1
    return low
