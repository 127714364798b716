"""What the policy wrote as one HTML page: rollouts, and micro-reflective trajectories as in the paper's Figure 2.

A trajectory shows its kept error prefix, the diagnosis and the correction, told apart by colour and by underline. The
strength of the colour is a token's OTS weight, so a suppressed token is a pale one; one at the floor is framed. Beside
it stand reward and advantage; y-, y+ and the analysis unfold. All of a step stand together. What is long is folded but
for its beginning and its end. The page says what its own words mean.

The page is one file that needs no network. It holds no script, and its content security policy allows none: filtering
is by CSS, text is escaped, and nothing of what a model wrote can be more than text, or turn the text beside it round.
"""

import base64
import hashlib
import html
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import groupby

from metrics import shown
from reflect import LEAD_INS, OUTCOMES
from tapo import CEILING, FLOOR

SHADES = (0.05, 0.25, 0.75, 1.5)  # bounds of the OTS weight between the five strengths of a colour
LONG, BEGINNING, END = 1500, 1000, 300  # characters: of a text that is folded, and of what is shown of it

# Okabe and Ito's vermilion, blue and bluish green, each with an underline of its own.
STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1c; --quiet: #5c5c5c; --paper: #fafafa; --card: #ffffff; --line: #d8d8d8;
  --prefix: 213 94 0; --diagnosis: 0 114 178; --correction: 0 158 115; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --quiet: #a8a8a8; --paper: #161616; --card: #202020;
  --line: #3c3c3c; --prefix: 240 125 45; --diagnosis: 86 180 233; --correction: 40 190 145; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; margin: 0 0 .2rem; }
h2 { font-size: 1.1rem; margin: 1.6rem 0 .6rem; }
h3 { display: inline; font-size: 1rem; margin: 0 .6rem 0 0; color: var(--ink); }
p { margin: .2rem 0 .6rem; }
.quiet, dt, summary { color: var(--quiet); }
.legend { display: flex; flex-wrap: wrap; gap: .3rem .8rem; margin: .6rem 0; font-size: .92rem; }
.filters { display: flex; flex-wrap: wrap; align-items: baseline; gap: .4rem; margin: .5rem 0; font-size: .9rem; }
.filters > span { min-width: 6.5rem; }
input[type=radio] { position: absolute; opacity: 0; }
label { padding: .1rem .7rem; border: 1px solid var(--line); border-radius: 1rem; background: var(--card);
  cursor: pointer; }
article { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .8rem 1rem;
  margin: 0 0 .9rem; content-visibility: auto; contain-intrinsic-size: auto 14rem; }
header { display: flex; flex-wrap: wrap; gap: 0 1rem; font-size: .9rem; color: var(--quiet); }
.badge { font-weight: 600; color: var(--ink); }
.text { white-space: pre-wrap; font: .92rem/1.75 ui-monospace, monospace; margin: .4rem 0; }
.question { font-weight: 600; }
.part { unicode-bidi: isolate; }
.body { display: grid; grid-template-columns: 1fr 13rem; gap: 1.2rem; }
dl { display: grid; grid-template-columns: auto auto; gap: .1rem .6rem; align-content: start; margin: .4rem 0;
  font-size: .88rem; }
dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums; }
article.rollout .body { display: block; }
article.rollout dl { display: flex; flex-wrap: wrap; gap: 0 .3rem; margin: .2rem 0 0; }
article.rollout dd { margin-inline-end: .5rem; text-align: start; }
.words { margin: .6rem 0 .8rem; }
.words h3 { display: block; margin: .8rem 0 .2rem; color: var(--quiet); font-weight: normal; }
.words dl { grid-template-columns: 8.4rem 1fr; gap: .3rem 1rem; }
.words dt { color: var(--ink); font-weight: 600; }
.words dd { text-align: left; }
details { margin: .15rem 0; font-size: .92rem; }
.step { margin: 0 0 1.2rem; font-size: 1rem; }
.step > summary { padding: .3rem 0; font-size: .9rem; }
summary { cursor: pointer; }
.prefix { --part: var(--prefix); text-decoration: underline wavy 1px rgb(var(--part)); }
.diagnosis { --part: var(--diagnosis); text-decoration: underline dotted 2px rgb(var(--part)); font-weight: 600; }
.correction { --part: var(--correction); text-decoration: underline solid 2px rgb(var(--part)); }
.text span, .legend span { text-underline-offset: 4px; text-decoration-skip-ink: none; padding: .1rem 0; }
.w0 { background: rgb(var(--part) / .02); } .w1 { background: rgb(var(--part) / .08); }
.w2 { background: rgb(var(--part) / .16); } .w3 { background: rgb(var(--part) / .28); }
.w4 { background: rgb(var(--part) / .45); }
.floor { outline: 1px dashed var(--ink); }
@media (max-width: 40rem) { .body { grid-template-columns: 1fr; gap: 0; }
  article.construction dl { grid-template-columns: repeat(4, auto); }
  .filters > span { min-width: 100%; } }
"""

# What can be filtered by, of rollouts and of constructions: the class of a card, what the filter is called, and what it
# means.
ROLLOUTS = {
    "rollout": ("all", "every rollout of this page"),
    "rollout-right": ("right", "its reward is above 0"),
    "rollout-wrong": ("wrong", "its reward is not above 0"),
    "rollout-reflects": ("reflecting", 'it holds a phrase like "wait" (the list REFLECTIONS of reflect.py)'),
    "rollout-cut": ("cut", "it reached the limit of a response (--max-new-tokens), so its reward is 0"),
}
CONSTRUCTIONS = {
    "construction": ("all", "every construction of this page"),
    "right": ("kept, right", f"{OUTCOMES['kept']}, with a reward above 0"),
    "wrong": ("kept, wrong", f"{OUTCOMES['kept']}, too, but its reward is not above 0"),
} | {name: (name, f"thrown away: {meaning}") for name, meaning in OUTCOMES.items() if name != "kept"}

WORDS = {
    "step": "a training step; the figures beside it are of all that was sampled in it, not only of what is shown",
    "reward": "what the reward function gave; above 0 is right",
    "advantage": "how hard the step pushes the text to be likelier (above 0) or less likely (below). GRPO and TAPO: a "
    "rollout's reward less the mean of its query's responses, over their deviation; a construction's as --ref-baseline "
    "says. OPSD: 1 where there is a teacher to follow. SFT: 1 where the text is learnt",
}
OF_ROLLOUTS = {
    "rollout": "a response that the policy sampled in training; right and wrong ones are kept by turns, so they are no "
    "fair sample of a step",
    "answer": "the problem's own, with which the response was compared",
    "tokens": "the length of the response, its end token included",
}
OF_CONSTRUCTIONS = {
    "construction": "a wrong response, rewritten by the policy itself; if kept, trained on for the plain question",
    "y\u2212, y+": "the wrong response that was rewritten, and the right one that the policy saw beside it",
    "analysis": "what the policy wrote about the error of y\u2212 before it rewrote it",
    "error prefix": "the beginning of y\u2212, up to its error and with it, in the very tokens that were sampled",
    "diagnosis": "the first sentence after it, with which the text turns; what follows is the correction",
    "tokens kept": "how many tokens the error prefix has, of all",
    "OTS weight": f"how much a token counts in the loss, from {FLOOR} to {CEILING:g}: little where the policy would "
    "hardly write it and is sure of another (out-of-distribution token suppression). With --no-ots and --algo sft it "
    "would count so much",
    "OTS, prefix": "the mean weight of the error prefix",
    "OTS, turn": "the mean weight of diagnosis, correction and end token",
    "at the floor": f"which tokens have the least weight there is, {FLOOR}, and are framed in the text: the policy "
    "would never write them there, so they are hardly learnt. If the turn is among them in most constructions, the "
    "policy does not learn to turn; if the end token is, it does not learn to end",
    "end: 0.02": "the weight of the end token, which has no text to be coloured",
}


def page(title: str, runs: dict[str, list[dict]], figures: dict[str, dict[int, str]] | None = None) -> str:
    """The page of some runs, by name: rows of their rollouts.jsonl and trajectories.jsonl, in the order of their steps.
    `figures`: what is said of a run's step."""
    kinds = Counter(name for rows in runs.values() for row in rows for name in classes(row))
    kinds["all"] = sum(map(len, runs.values()))
    rollouts, constructions = ({k: said for k, said in g.items() if kinds[k]} for g in (ROLLOUTS, CONSTRUCTIONS))
    everything = {"all": ("everything", "rollouts and constructions")}
    choice, rules = filters({"": everything, "rollouts": rollouts, "constructions": constructions}, kinds)
    style = "\n".join([STYLE, *rules])
    sections = "".join(section(name, rows, (figures or {}).get(name, {})) for name, rows in runs.items())
    policy = f"default-src 'none'; style-src 'sha256-{_sha256(style)}'; base-uri 'none'; form-action 'none'"
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
        f'content="{policy}"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{style}</style></head><body>"
        f'<h1 dir="auto">{html.escape(title)}</h1>{explained(rollouts, constructions)}{choice}{sections}'
        "</body></html>\n"
    )


def filters(groups: dict[str, dict[str, tuple[str, str]]], counts: Counter) -> tuple[str, list[str]]:
    """Groups of filters, with the count of each: as HTML, and as rules that hide what is not chosen. One that would
    hide nothing is left out. The buttons come before all else, because a rule reaches only what follows them."""
    hides = {name for name in counts if counts[name] < counts["all"]} | {"all"}
    groups = {title: {name: group[name] for name in group if name in hides} for title, group in groups.items()}
    names = [name for group in groups.values() for name in group]
    made = "".join(f'<input type="radio" name="kind" id="only-{k}"{" checked" * (k == "all")}>' for k in names)
    for title, group in groups.items():
        labels = "".join(
            f'<label for="only-{name}" title="{html.escape(meaning)}">{html.escape(text)} ({counts[name]})</label>'
            for name, (text, meaning) in group.items()
        )
        if labels:
            made += f'<div class="filters">{f"<span>{title}</span>" if title else ""}{labels}</div>'
    rules = [f"#only-{k}:checked ~ section :is(article, .step):not(.{k}) {{ display: none; }}" for k in names[1:]]
    looks = {"checked": "background: var(--ink); color: var(--paper)", "focus-visible": "outline: 2px solid"}
    for state, look in looks.items():
        those = ", ".join(f"#only-{k}:{state} ~ .filters label[for=only-{k}]" for k in names)
        rules.append(f"{those} {{ {look}; }}")
    return made, rules


LEGEND = (
    '<div class="legend"><span class="prefix w3">kept error prefix</span><span class="diagnosis w3">diagnosis</span>'
    '<span class="correction w3">correction</span></div>'
    '<div class="legend"><span class="quiet">OTS weight of a token</span>'
    + "".join(
        f'<span class="correction w{i}">{text}</span>'
        for i, text in enumerate(("below 0.05", "to 0.25", "to 0.75", "to 1.5", "above"))
    )
    + f'<span class="correction w0 floor">at the floor, {FLOOR}</span></div>'
)


def explained(rollouts: dict, constructions: dict) -> str:
    """What the words of a page mean that shows these rollouts and constructions."""
    words = {"both": WORDS} if rollouts and constructions else {"": WORDS}
    if rollouts:
        words["rollouts"] = OF_ROLLOUTS | {text: meaning for text, meaning in ROLLOUTS.values() if text != "all"}
    if constructions:
        of_filters = {text: meaning for text, meaning in CONSTRUCTIONS.values() if text != "all"}
        words["constructions"] = OF_CONSTRUCTIONS | of_filters
    lists = ""
    for title, meanings in words.items():
        pairs = "".join(f"<dt>{html.escape(word)}</dt><dd>{html.escape(said)}</dd>" for word, said in meanings.items())
        lists += f"{f'<h3>{title}</h3>' if title else ''}<dl>{pairs}</dl>"
    legend = LEGEND if constructions else ""
    return f'{legend}<details class="words"><summary>What the words and figures mean</summary>{lists}</details>'


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def section(name: str, rows: list[dict], figures: dict[int, str]) -> str:
    """One run, step by step."""
    steps = []
    for step, those in groupby(rows, key=lambda row: row["step"]):
        those = list(those)
        names = " ".join(dict.fromkeys(name for row in those for name in classes(row)))
        head = f"<summary><h3>step {html.escape(str(step))}</h3>{html.escape(figures.get(step, ''))}</summary>"
        steps.append(f'<details class="step {names}" open>{head}{"".join(map(card, those))}</details>')
    nothing = '<p class="quiet">Nothing of what it wrote is stored.</p>'
    return f'<section><h2 dir="auto">{html.escape(name)}</h2>{"".join(steps) or nothing}</section>'


def classes(row: dict) -> list[str]:
    """What a card is filtered by."""
    if "outcome" not in row:
        more = [name for name, holds in {"reflects": row["reflects"], "cut": not row["finished"]}.items() if holds]
        return ["rollout", *(f"rollout-{name}" for name in (verdict(row), *more))]
    return ["construction", verdict(row) or row["outcome"]]


def verdict(row: dict) -> str | None:
    """Whether a rollout or a kept construction is "right" or "wrong"; None of one that was thrown away."""
    return ("right" if row["reward"] > 0 else "wrong") if row.get("outcome", "kept") == "kept" else None


def card(row: dict) -> str:
    """One rollout, or one construction."""
    (kind, *names), unfolding = classes(row), {}
    if kind == "rollout":
        said, figures = _text(plain(row["text"])), {"answer": f'<div dir="auto">{plain(row["answer"])}</div>'}
        badges = [ROLLOUTS[name][0] for name in names]
    else:
        badges, figures = [CONSTRUCTIONS[name][0] for name in names], {}
        unfolding = {"analysis": row["analysis"], "y\u2212 (wrong)": row["wrong"], "y+ (right)": row["right"]}
        if row["outcome"] == "kept":
            said = _text(marked(row))
        else:
            said = f'<p class="quiet">thrown away: {html.escape(OUTCOMES[row["outcome"]])}</p>'
            said += _text(plain(row["prefix"] + row["turn"]))
    if verdict(row):
        figures |= {"reward": f"{row['reward']:g}", "advantage": f"{row['advantage']:+.2f}"}
        figures |= {"tokens": html.escape(str(row["tokens"]))} if kind == "rollout" else _of_weights(row)
    head = f"<span>{kind}</span>" + "".join(f'<span class="badge">{html.escape(badge)}</span>' for badge in badges)
    beside = "".join(f"<dt>{key}</dt><dd>{value}</dd>" for key, value in figures.items())
    unfold = "".join(
        f"<details><summary>{key}</summary>{_text(html.escape(text))}</details>"
        for key, text in unfolding.items()
        if text
    )
    written = f"{_text(plain(row['question']), ' question')}{said}{unfold}"
    body = f'<div class="body"><div>{written}</div><dl>{beside}</dl></div>'
    return f'<article class="{" ".join(classes(row))}"><header>{head}</header>{body}</article>'


def _of_weights(row: dict) -> dict[str, str]:
    weights, kept = row["ots_weights"], row["kept_tokens"]
    said = {"tokens kept": f"{kept} of {len(weights)}", "OTS, prefix": _mean(weights[:kept])}
    last = len(weights) - 1
    low = ["end" if i == last else shown(row["tokens"][i]) for i, weight in enumerate(weights) if weight <= FLOOR]
    named = f': <div dir="auto">{html.escape(", ".join(dict.fromkeys(low)))}</div>' if low else ""
    return said | {"OTS, turn": _mean(weights[kept:]), "at the floor": f"{len(low)} of {len(weights)}{named}"}


def _text(written: str, more: str = "") -> str:
    return f'<div class="text{more}" dir="auto">{written}</div>' if written else ""


def plain(text: str) -> str:
    """A text as HTML, folded if it is long."""
    return folded(text, 0, len(text), lambda begin, end: html.escape(text[begin:end]))


def folded(text: str, begin: int, end: int, write: Callable[[int, int], str]) -> str:
    """What `write` makes of the characters of `text` from `begin` to `end`; if they are many, all but the beginning and
    the end is folded."""
    if end - begin <= LONG:
        return write(begin, end)
    first, last = (max(at, text.rfind(" ", at, at + 50) + 1) for at in (begin + BEGINNING, end - END))  # no half word
    more = f"<details><summary>{last - first:,} characters more</summary>{write(first, last)}</details>"
    return write(begin, first) + more + write(last, end)


def marked(row: dict) -> str:
    """The text of a kept trajectory with its parts and weights marked: neighbours of equal look are one span."""
    text, begin = row["prefix"] + row["turn"], len(row["prefix"])
    diagnosis, _ = split_turn(row["turn"])
    turned = text.find(diagnosis, begin) + len(diagnosis)
    pieces = align(row["tokens"], text)
    weights = [weight for piece, weight in zip(pieces, row["ots_weights"]) for _ in piece]
    shades = [f"w{sum(weight >= bound for bound in SHADES)}{_floor(weight)}" for weight in weights]

    def spans(part: str, at: int, end: int) -> str:
        said = ""
        for shade, same in groupby(shades[at:end]):
            size = len(list(same))
            mean = sum(weights[at : at + size]) / size
            looks = f'class="{part} {shade}" title="{part}, OTS weight {mean:.2f}"'
            said += f"<span {looks}>{html.escape(text[at : at + size])}</span>"
            at += size
        return f'<span class="part">{said}</span>'

    parts = {"prefix": (0, begin), "diagnosis": (begin, turned), "correction": (turned, len(text))}
    said = [folded(text, *ends, partial(spans, part)) for part, ends in parts.items() if ends[0] < ends[1]]
    if not pieces[-1]:
        looks = f'class="part quiet{_floor(row["ots_weights"][-1])}" title="end token"'
        said.append(f" <span {looks}>end: {row['ots_weights'][-1]:.2f}</span>")
    return "".join(said)


def _floor(weight: float) -> str:
    """A class more, of what stands at OTS's floor."""
    return " floor" if weight <= FLOOR else ""


def align(tokens: list[str], text: str) -> list[str]:
    """The piece of `text` that each decoded token stands for; together they are the text. What a token alone does not
    show (the space before a word, a character of several tokens) goes to it or the first of those tokens; an end token
    gets nothing."""
    pieces, at, waiting = [], 0, 0
    for token in tokens:
        found = text.find(token, at, at + len(token) + 2 + 2 * waiting) if token and "\ufffd" not in token else -1
        if found < 0:
            pieces.append("")
            waiting += 1
            continue
        if waiting:
            pieces[-waiting] = text[at:found]
            at = found
        pieces.append(text[at : found + len(token)])
        at, waiting = found + len(token), 0
    if at < len(text) and pieces:
        pieces[-waiting if waiting else -1] += text[at:]
    return pieces


def split_turn(turn: str) -> tuple[str, str]:
    """The diagnosis, which is the first sentence of a turn that says more than "." or "No.", and the correction after
    it."""
    turn, at = turn.strip(), 0
    letters = "".join(c if c.isalnum() else " " for c in turn)
    for word in letters.split():
        at = letters.index(word, at)
        if word.lower() not in LEAD_INS:
            break
        at += len(word)
    else:
        return turn, ""
    end = min(
        (found for found in (turn.find(s, at) for s in (". ", "; ", ".\n", "\n")) if found >= 0), default=len(turn)
    )
    return turn[: end + 1].strip(), turn[end + 1 :].strip()


def _mean(values: list[float]) -> str:
    return f"{sum(values) / len(values):.2f}" if values else "-"
