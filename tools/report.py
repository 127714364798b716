"""Runs, to look at: how they went, and some of their micro-reflective trajectories with their parts marked.

python -m tools.report runs/NAME                                  # as text, also while it runs
python -m tools.report runs/NAME -n 5 --step 20 --outcome not_verbatim
python -m tools.report runs/NAME --page trajectories.html         # a page to read trajectories on (page.py)
python -m tools.report runs/A runs/B --curves curves.png          # runs over each other (curves.py; needs matplotlib)
"""

import sys
from pathlib import Path

import checkpoint
import config
from reflect import OUTCOMES
from tools.curves import Course, draw
from tools.page import page, split_turn

COLOURS = {"prefix": "\033[31m", "diagnosis": "\033[33m", "correction": "\033[32m"}
COLOURS |= {"quiet": "\033[2m", "off": "\033[0m"}
CURVES = ("step", "accuracy", "reflecting", "kept", "tried", "ots_weight", "entropy", "grad_norm", "gap_max")


def table(metrics: list[dict], lines: int = 10) -> str:
    """A table of about `lines` steps of a run, the first and the last among them."""
    stride = max(1, -(-len(metrics) // lines))
    shown = metrics[::stride] + ([metrics[-1]] if (len(metrics) - 1) % stride else [])
    shown_lines = ["".join(f"{name:>12}" for name in CURVES)]
    for row in shown:
        shown_lines.append("".join(f"{_number(row.get(name)):>12}" for name in CURVES))
    return "\n".join(shown_lines)


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
    """A text below its label, without control characters: a terminal would obey them."""
    text = "".join(c if c.isprintable() or c in "\n\t" or ord(c) >= 160 else "\ufffd" for c in text)
    return text.strip().replace("\n", "\n           ")


def _mean(values: list[float]) -> str:
    return f"{sum(values) / len(values):.2f}" if values else "-"


def _number(value) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.3g}"


def load(folder: str) -> tuple[Course, list[dict]]:
    """A run's course and its trajectories. Raises ValueError when the folder holds no run."""
    path = Path(folder)
    if not (path / "metrics.jsonl").is_file():
        raise ValueError(f"{folder} holds no metrics.jsonl: name the folder of a run, once its first step is done")
    kept = path / "config.json"
    settings = checkpoint.begun(kept) if kept.is_file() else {}
    metrics = checkpoint.read(path / "metrics.jsonl")
    if not metrics:
        raise ValueError(f"{folder}/metrics.jsonl holds no step yet")
    return Course(folder, settings, metrics), checkpoint.read(path / "trajectories.jsonl")


def spread(rows: list[dict], count: int) -> list[dict]:
    """At most `count` of the rows, at even distances, the last among them."""
    count = min(count, len(rows))
    return [rows[-1 - i * len(rows) // count] for i in reversed(range(count))]


def main():
    """The program; see the module's docstring and --help."""
    parser = config.Parser("Show how runs went, and some of their trajectories: as text, as a page, or as curves.")
    parser.add_argument("runs", nargs="+", metavar="run", help="the folder of a run of train.py")
    parser.add_argument("--curves", metavar="FILE", help="draw the curves of all runs into this .png, .svg or .pdf")
    parser.add_argument("--page", metavar="FILE", help="write the trajectories of all runs into this .html")
    parser.add_argument("-n", type=int, help="how many trajectories (default: the last 3; 60 over the run on a page)")
    parser.add_argument("--step", type=int, default=None, help="only those of this step (default: of all)")
    parser.add_argument("--outcome", choices=OUTCOMES, help="only those that ended so (default: kept; all on a page)")
    args = parser.parse_args()
    if args.page and not args.page.endswith(".html"):
        parser.error(f"--page {args.page}: the page is an .html file")
    if args.n is not None and args.n < 0:
        parser.error("-n must be at least 0")
    with config.bad_input():
        runs = {folder: load(folder) for folder in args.runs}
        if args.curves:
            draw([course for course, _ in runs.values()], args.curves)
            print(f"wrote {args.curves}")
        if args.page:
            count = 60 if args.n is None else args.n
            shown = {folder: spread(chosen(rows, args.step, args.outcome), count) for folder, (_, rows) in runs.items()}
            text = page("Micro-reflective trajectories", shown)
            Path(args.page).write_text(text, encoding="utf-8", errors="replace")
            print(f"wrote {args.page}")
    if not (args.curves or args.page):
        for course, rows in runs.values():
            print("\n".join(as_text(course, rows, args)))


def chosen(rows: list[dict], step: int | None, outcome: str | None) -> list[dict]:
    """The rows of this step and this outcome; None stands for all."""
    return [row for row in rows if step in (None, row["step"]) and outcome in (None, row["outcome"])]


def as_text(course: Course, rows: list[dict], args) -> list[str]:
    """How a run went, and its last trajectories."""
    outcome, count = args.outcome or "kept", 3 if args.n is None else args.n
    rows = chosen(rows, args.step, outcome)
    colours = COLOURS if sys.stdout.isatty() else dict.fromkeys(COLOURS, "")
    told = [course.name, table(course.metrics)]
    told += ["\n" + trajectory(row, colours) for row in rows[len(rows) - min(count, len(rows)) :]]
    if not rows:
        where = f" of step {args.step}" if args.step else ""
        told.append(f"\nno trajectory{where} that ended as '{outcome}' is stored")
    return told


if __name__ == "__main__":
    config.run(main)
