"""Micro-reflective trajectories as one HTML page, in the manner of the paper's Figure 2.

A trajectory shows its kept error prefix, the diagnosis and the correction, told apart by colour and by underline. The
strength of the colour is a token's OTS weight, so a suppressed token is a pale one. Beside it stand reward and
advantage; y-, y+ and the analysis unfold.

The page is one file that needs no network. It holds no script, and its content security policy allows none: filtering
is by CSS, text is escaped, and nothing of what a model wrote can be more than text.
"""

import base64
import hashlib
import html
from collections import Counter
from itertools import groupby

from reflect import OUTCOMES

SHADES = (0.05, 0.25, 0.75, 1.5)  # bounds of the OTS weight between the five strengths of a colour

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
p { margin: .2rem 0 .6rem; }
.quiet, dt, summary { color: var(--quiet); }
.legend { display: flex; flex-wrap: wrap; gap: .3rem .8rem; margin: .6rem 0; font-size: .92rem; }
input[type=radio] { position: absolute; opacity: 0; }
label { display: inline-block; margin: 0 .3rem .4rem 0; padding: .1rem .7rem; border: 1px solid var(--line);
  border-radius: 1rem; background: var(--card); font-size: .9rem; cursor: pointer; }
article { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .8rem 1rem;
  margin: 0 0 .9rem; content-visibility: auto; contain-intrinsic-size: auto 14rem; }
header { display: flex; flex-wrap: wrap; gap: 0 1rem; font-size: .9rem; color: var(--quiet); }
.badge { font-weight: 600; color: var(--ink); }
.text { white-space: pre-wrap; font: .92rem/1.75 ui-monospace, monospace; margin: .4rem 0; }
.body { display: grid; grid-template-columns: 1fr 13rem; gap: 1.2rem; }
dl { display: grid; grid-template-columns: auto auto; gap: .1rem .6rem; align-content: start; margin: .4rem 0;
  font-size: .88rem; }
dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums; }
details { margin: .15rem 0; font-size: .92rem; }
summary { cursor: pointer; }
.prefix { --part: var(--prefix); text-decoration: underline wavy 1px rgb(var(--part)); }
.diagnosis { --part: var(--diagnosis); text-decoration: underline dotted 2px rgb(var(--part)); font-weight: 600; }
.correction { --part: var(--correction); text-decoration: underline solid 2px rgb(var(--part)); }
.text span, .legend span { text-underline-offset: 4px; text-decoration-skip-ink: none; padding: .1rem 0; }
.w0 { background: rgb(var(--part) / .02); } .w1 { background: rgb(var(--part) / .08); }
.w2 { background: rgb(var(--part) / .16); } .w3 { background: rgb(var(--part) / .28); }
.w4 { background: rgb(var(--part) / .45); }
@media (max-width: 40rem) { .body { grid-template-columns: 1fr; gap: 0; }
  dl { grid-template-columns: repeat(4, auto); } }
"""


def page(title: str, runs: dict[str, list[dict]]) -> str:
    """The page of some runs, by name: rows of their trajectories.jsonl."""
    kinds = Counter(kind(row) for rows in runs.values() for row in rows)
    shown = {"all": f"all ({kinds.total()})"}
    for name, meaning in KINDS.items():
        if kinds[name]:
            shown[name] = f"{meaning} ({kinds[name]})"
    filters = "".join(
        f'<input type="radio" name="kind" id="only-{name}"{" checked" if name == "all" else ""}>'
        f'<label for="only-{name}" title="{html.escape(OUTCOMES.get(name, ""))}">{html.escape(text)}</label>'
        for name, text in shown.items()
    )
    rules = [f"#only-{k}:checked ~ section article:not(.{k}) {{ display: none; }}" for k in shown if k != "all"]
    for state, look in {
        "checked": "background: var(--ink); color: var(--paper)",
        "focus-visible": "outline: 2px solid",
    }.items():
        rules.append(f"{', '.join(f'#only-{k}:{state} + label' for k in shown)} {{ {look}; }}")
    style = "\n".join([STYLE, *rules])
    nothing = '<p class="quiet">No trajectory is stored.</p>'
    sections = "".join(
        f"<section><h2>{html.escape(name)}</h2>{''.join(map(card, rows)) or nothing}</section>"
        for name, rows in runs.items()
    )
    policy = f"default-src 'none'; style-src 'sha256-{_sha256(style)}'; base-uri 'none'; form-action 'none'"
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
        f'content="{policy}"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{style}</style></head><body><h1>{html.escape(title)}</h1>"
        f"{LEGEND}{filters}{sections}</body></html>\n"
    )


KINDS = {"right": "kept, right", "wrong": "kept, wrong"} | {name: name for name in OUTCOMES if name != "kept"}

LEGEND = (
    '<p class="quiet">Wrong responses, rewritten by the policy itself and trained on for the plain question.</p>'
    '<div class="legend"><span class="prefix w3">kept error prefix</span><span class="diagnosis w3">diagnosis</span>'
    '<span class="correction w3">correction</span></div>'
    '<div class="legend"><span class="quiet">OTS weight of a token</span>'
    + "".join(
        f'<span class="correction w{i}">{text}</span>'
        for i, text in enumerate(("below 0.05", "to 0.25", "to 0.75", "to 1.5", "above"))
    )
    + "</div>"
)


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def kind(row: dict) -> str:
    """What a trajectory is filtered by: "right" or "wrong" when it was kept, else its outcome."""
    return ("right" if row["reward"] > 0 else "wrong") if row["outcome"] == "kept" else row["outcome"]


def card(row: dict) -> str:
    """One construction."""
    name = kind(row)
    head = f"<header><span>step {row['step']}</span><span class=badge>{html.escape(KINDS[name])}</span></header>"
    if row["outcome"] == "kept":
        weights, kept = row["ots_weights"], row["kept_tokens"]
        figures = {
            "reward": f"{row['reward']:g}",
            "advantage": f"{row['advantage']:+.2f}",
            "tokens kept": f"{kept} of {len(weights)}",
            "OTS, prefix": _mean(weights[:kept]),
            "OTS, turn": _mean(weights[kept:]),
        }
        beside = "".join(f"<dt>{key}</dt><dd>{value}</dd>" for key, value in figures.items())
        said = f'<div class="text">{marked(row)}</div>'
    else:
        beside, said = "", f'<p class="quiet">thrown away: {html.escape(OUTCOMES[row["outcome"]])}</p>'
        if row["prefix"] or row["turn"]:
            said += f'<div class="text">{html.escape(row["prefix"] + row["turn"])}</div>'
    folded = {"analysis": row["analysis"], "y\u2212 (wrong)": row["wrong"], "y+ (right)": row["right"]}
    unfold = "".join(
        f'<details><summary>{key}</summary><div class="text">{html.escape(text)}</div></details>'
        for key, text in folded.items()
        if text
    )
    question = f'<div class="text">{html.escape(row["question"])}</div>'
    body = f'<div class="body"><div>{question}{said}{unfold}</div><dl>{beside}</dl></div>'
    return f'<article class="{name}">{head}{body}</article>'


def marked(row: dict) -> str:
    """The text of a kept trajectory with its parts and weights marked: neighbours of equal look are one span."""
    text = row["prefix"] + row["turn"]
    diagnosis, _ = split_turn(row["turn"])
    begin = len(row["prefix"])
    turned = text.find(diagnosis, begin) + len(diagnosis)
    pieces = align(row["tokens"], text)
    weights = [weight for piece, weight in zip(pieces, row["ots_weights"]) for _ in piece]
    parts = ["prefix" if i < begin else "diagnosis" if i < turned else "correction" for i in range(len(text))]
    looks = [(part, sum(weight >= bound for bound in SHADES)) for part, weight in zip(parts, weights)]
    spans, at = [], 0
    for (part, shade), same in groupby(looks):
        size = len(list(same))
        mean = sum(weights[at : at + size]) / size
        said = html.escape(text[at : at + size])
        spans.append(f'<span class="{part} w{shade}" title="{part}, OTS weight {mean:.2f}">{said}</span>')
        at += size
    if not pieces[-1]:
        spans.append(f' <span class="quiet" title="end token">end: {row["ots_weights"][-1]:.2f}</span>')
    return "".join(spans)


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
    """The diagnosis, which is the first sentence of a turn, and the correction after it."""
    turn = turn.strip()
    end = min((at for at in map(turn.find, (". ", "; ", ".\n", "\n")) if at >= 0), default=len(turn)) + 1
    return turn[:end].strip(), turn[end:].strip()


def _mean(values: list[float]) -> str:
    return f"{sum(values) / len(values):.2f}" if values else "-"
