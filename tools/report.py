"""Runs, to look at: how they went, and what the policy wrote: rollouts, which are sampled responses, and constructions,
which are micro-reflective trajectories with their parts marked.

python -m tools.report runs/NAME                                  # as text, also while it runs
python -m tools.report runs/NAME -n 5 --show rollouts --only wrong
python -m tools.report runs/NAME -n 5 --step 20 --outcome not_verbatim
python -m tools.report runs/NAME --page page.html                 # a page to read them on (page.py)
python -m tools.report runs/A runs/B --curves curves.png          # runs over each other (curves.py; needs matplotlib)
"""

import config

if __name__ == "__main__":
    config.importing()

import sys
from pathlib import Path

import checkpoint
import policy
from reflect import OUTCOMES
from tools.curves import Course, draw
from tools.page import BEGINNING, END, LONG, page, split_turn, verdict

TURNS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # change the direction of all that follows
NUMBER = (int, float)
# What a row of rollouts.jsonl and of trajectories.jsonl has to hold to be shown; a kept one holds more.
ROLLOUT = {"step": int, "question": str, "answer": str, "text": str, "reward": NUMBER, "correct": bool}
ROLLOUT |= {"reflects": bool, "advantage": NUMBER, "tokens": int, "finished": bool}
CONSTRUCTION = {"step": int} | dict.fromkeys("question outcome wrong right analysis prefix turn".split(), str)
KEPT = {"reward": NUMBER, "advantage": NUMBER, "kept_tokens": int, "tokens": list, "ots_weights": list}
COLOURS = {"prefix": "\033[31m", "diagnosis": "\033[33m", "correction": "\033[32m"}
COLOURS |= {"quiet": "\033[2m", "off": "\033[0m"}
CURVES = "step accuracy reflecting kept tried ots_weight turn_weight floor_share entropy grad_norm gap_max".split()


def table(metrics: list[dict], lines: int = 10) -> str:
    """A table of about `lines` steps of a run, the first and the last among them."""
    stride = max(1, -(-len(metrics) // lines))
    shown = metrics[::stride] + ([metrics[-1]] if (len(metrics) - 1) % stride else [])
    columns = [[name, *(_number(row.get(name)) for row in shown)] for name in CURVES]
    widths = [max(map(len, column)) + 2 for column in columns]
    return "\n".join("".join(f"{cell:>{width}}" for cell, width in zip(line, widths)) for line in zip(*columns))


def rollout(row: dict, colours: dict[str, str]) -> str:
    """One sampled response as text."""
    quiet, off = colours["quiet"], colours["off"]
    figures = f"{verdict(row)}, reward {row['reward']:g}, advantage {row['advantage']:+.2f}, {row['tokens']} tokens"
    figures += ", it reflects" * row["reflects"] + ", cut at the limit" * (not row["finished"])
    return (
        f"step {row['step']}: {_indent(row['question'])}\n"
        f"{quiet}  answer   {off}{_indent(row['answer'])}\n"
        f"{quiet}  response {off}{_indent(row['text'])}\n"
        f"{quiet}           {off}{figures}"
    )


def trajectory(row: dict, colours: dict[str, str]) -> str:
    """One construction as text: the kept error prefix, the diagnosis and the correction, apart."""
    quiet, off = colours["quiet"], colours["off"]
    lines = [f"step {row['step']}: {_indent(row['question'])}", f"{quiet}  y-       {off}{_indent(row['wrong'])}"]
    lines.append(f"{quiet}  y+       {off}{_indent(row['right'])}")
    if row["analysis"]:
        lines.append(f"{quiet}  analysis {off}{_indent(row['analysis'])}")
    if row["outcome"] == "kept":
        prefix = f"{colours['prefix']}[{_indent(row['prefix'])}]{off}"
        diagnosis, correction = split_turn(row["turn"])
        diagnosis = f"{colours['diagnosis']}[{_indent(diagnosis)}]{off}"
        correction = f"{colours['correction']}[{_indent(correction)}]{off}"
        lines.append(f"{quiet}  y_ref    {off}{prefix} {diagnosis} {correction}")
        weights, kept = row["ots_weights"], row["kept_tokens"]
        lines.append(
            f"{quiet}           {off}[kept error prefix: {kept} tokens, mean OTS weight {_mean(weights[:kept])}] "
            f"[diagnosis and correction: {len(weights) - kept} tokens, {_mean(weights[kept:])}]"
        )
        lines.append(f"{quiet}           {off}reward {row['reward']:.0f}, advantage {row['advantage']:+.2f}")
    else:
        lines.append(f"{quiet}  thrown away: {off}{row['outcome']}, {OUTCOMES[row['outcome']]}")
    return "\n".join(lines)


def _indent(text: str) -> str:
    """A text below its label, the middle of a long one left out, without control characters: a terminal would obey
    them, or write the rest of the line backwards."""
    if len(text) > LONG:
        text = f"{text[:BEGINNING]}\n[{len(text) - BEGINNING - END:,} characters more: see --page]\n{text[-END:]}"
    text = "".join(
        c if (c.isprintable() or c in "\n\t" or ord(c) >= 160) and c not in TURNS else "\ufffd" for c in text
    )
    return text.strip().replace("\n", "\n           ")


def _mean(values: list[float]) -> str:
    return f"{sum(values) / len(values):.2f}" if values else "-"


def _number(value) -> str:
    return "-" if not isinstance(value, NUMBER) else str(value) if isinstance(value, int) else f"{value:.3g}"


def _whole(row: dict) -> bool:
    """Whether a kept construction has all that is shown of it."""
    typed = all(isinstance(row.get(name), kind) for name, kind in KEPT.items())
    return (
        typed
        and len(row["tokens"]) == len(row["ots_weights"])
        and all(isinstance(token, str) for token in row["tokens"])
        and all(isinstance(weight, NUMBER) for weight in row["ots_weights"])
    )


def load(folder: str) -> tuple[Course, list[dict], list[dict]]:
    """A run's course, its rollouts and its constructions. Raises ValueError when the folder holds no run."""
    path = Path(folder)
    if not (path / "metrics.jsonl").is_file():
        raise ValueError(f"{folder} holds no metrics.jsonl: name the folder of a run, once its first step is done")
    kept = path / "config.json"
    settings = checkpoint.begun(kept) if kept.is_file() else {}
    metrics = checkpoint.read(path / "metrics.jsonl", {"step": int})
    if not metrics:
        raise ValueError(f"{folder}/metrics.jsonl holds no step yet")
    rollouts = checkpoint.read(path / "rollouts.jsonl", ROLLOUT)
    constructions = checkpoint.read(path / "trajectories.jsonl", CONSTRUCTION)
    for row in constructions:
        wrong = row["outcome"] not in OUTCOMES or (row["outcome"] == "kept" and not _whole(row))
        if wrong:
            raise ValueError(f"{path / 'trajectories.jsonl'}: a row of step {row['step']} is no construction of a run")
    return Course(folder, settings, metrics), rollouts, constructions


def spread(kinds: list[list[dict]], count: int) -> list[dict]:
    """All rows of some steps, at even distances and the last among them, in the order of the steps: so many steps that
    no kind has more than `count` rows. Of a single step with more, the first `count`."""
    steps = sorted({row["step"] for rows in kinds for row in rows})
    most = max(map(len, kinds))
    enough = len(steps) if most <= count else max(1, count * len(steps) // most)
    for few in range(min(len(steps), enough), 0, -1):
        taken = {steps[-1 - i * len(steps) // few] for i in range(few)}
        shown = [[row for row in rows if row["step"] in taken] for rows in kinds]
        if few == 1 or max(map(len, shown)) <= count:
            return sorted((row for rows in shown for row in rows[:count]), key=lambda row: row["step"])
    return []


def main():
    """The program; see the module's docstring and --help."""
    parser = config.Parser("Show how runs went, and what the policy wrote: as text, as a page, or as curves.")
    parser.add_argument("runs", nargs="+", metavar="run", help="the folder of a run of train.py")
    parser.add_argument("--curves", metavar="FILE", help="draw the curves of all runs into this .png, .svg or .pdf")
    parser.add_argument("--page", metavar="FILE", help="write what the policy wrote in all runs into this .html")
    parser.add_argument("-n", type=int, help="how many rollouts, and how many constructions (default: the last 3 of "
        "each; on a page at most 60 of each, over the run)")  # fmt: skip
    parser.add_argument("--show", choices=("rollouts", "constructions", "both"), default="both", help="rollouts are "
        "sampled responses, constructions are rewritten ones (default: both)")  # fmt: skip
    parser.add_argument("--step", type=int, default=None, help="only those of this step (default: of all)")
    parser.add_argument("--only", choices=("right", "wrong"), help="only what is right, or what is wrong")
    parser.add_argument("--outcome", choices=OUTCOMES, help="only constructions that ended so, and no rollouts "
        "(default: kept; all on a page)")  # fmt: skip
    args = parser.parse_args()
    if args.page and not args.page.endswith(".html"):
        parser.error(f"--page {args.page}: the page is an .html file")
    if args.n is not None and args.n < 0:
        parser.error("-n must be at least 0")
    if args.outcome and args.show == "rollouts":
        parser.error(f"--outcome {args.outcome} is about constructions, --show rollouts leaves them out")
    with config.bad_input():
        runs = [load(folder) for folder in dict.fromkeys(args.runs)]
        if args.curves:
            with policy.writing(args.curves):
                draw([course for course, *_ in runs], args.curves)
            print(f"wrote {args.curves}")
        if args.page:
            checkpoint.write(Path(args.page), as_page(runs, args))
            print(f"wrote {args.page}")
    if not (args.curves or args.page):
        for course, *kinds in runs:
            print("\n".join(as_text(course, kinds, args)))


def chosen(kinds: list[list[dict]], args) -> list[list[dict]]:
    """Those of the rollouts and of the constructions that were asked for."""

    def wanted(row: dict) -> bool:
        shown = args.show in ("both", "constructions" if "outcome" in row else "rollouts")
        by_step = args.step in (None, row["step"])
        return shown and by_step and args.only in (None, verdict(row)) and args.outcome in (None, row.get("outcome"))

    return [[row for row in rows if wanted(row)] for rows in kinds]


def as_page(runs: list[tuple], args) -> str:
    """The page of these runs, as `load` gives them."""
    shown, figures = {}, {}
    for course, *kinds in runs:
        shown[course.name] = spread(chosen(kinds, args), 60 if args.n is None else args.n)
        figures[course.name] = {row["step"]: in_short(row) for row in course.metrics}
    return page("What the policy wrote", shown, figures)


def in_short(row: dict) -> str:
    """A step's figures in a line."""
    said = f"accuracy {_number(row.get('accuracy'))}, {_number(row.get('length_mean'))} tokens a response"
    return said + (
        f", {_number(row.get('kept'))} of {_number(row['tried'])} constructions kept" if row.get("tried") else ""
    )


def as_text(course: Course, kinds: list[list[dict]], args) -> list[str]:
    """How a run went, its last rollouts, and its last kept constructions."""
    count, colours = 3 if args.n is None else args.n, COLOURS if sys.stdout.isatty() else dict.fromkeys(COLOURS, "")
    shown, kept = chosen(kinds, args)
    kept = kept if args.outcome else [row for row in kept if row["outcome"] == "kept"]
    told = [course.name, table(course.metrics)]
    for name, rows, write in (("rollouts", shown, rollout), ("constructions", kept, trajectory)):
        if rows and count:
            told += [f"\n{name}", "\n\n".join(write(row, colours) for row in rows[-count:])]
    if not (shown or kept):
        what = {"rollouts": "rollout", "constructions": "kept construction"}.get(args.show, "rollout or construction")
        what = f"construction that ended as '{args.outcome}'" if args.outcome else what
        where = f" of step {args.step}" if args.step is not None else ""
        told.append(f"\nno {args.only + ' ' if args.only else ''}{what}{where} is stored")
    return told


if __name__ == "__main__":
    config.run(main)
