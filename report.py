"""A run, to look at: how it went, and some of its micro-reflective trajectories with their parts marked.

python report.py runs/NAME            # also while it runs
python report.py runs/NAME -n 5 --step 20 --outcome not_verbatim
"""

import json
import sys
from pathlib import Path

import cli
from reflect import OUTCOMES

COLOURS = {"prefix": "\033[31m", "diagnosis": "\033[33m", "correction": "\033[32m"}
COLOURS |= {"quiet": "\033[2m", "off": "\033[0m"}
CURVES = ("step", "accuracy", "reflecting", "kept", "tried", "ots_weight", "entropy", "grad_norm", "gap_max")


def read_rows(file: Path) -> list[dict]:
    """The rows of a JSON-lines file; a last line still being written is left out."""
    rows = []
    for line in file.read_text(encoding="utf-8").split("\n"):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
    return rows


def course(metrics: list[dict], lines: int = 10) -> str:
    """A table of about `lines` steps of a run, the first and the last among them."""
    stride = max(1, -(-len(metrics) // lines))
    shown = metrics[::stride] + ([metrics[-1]] if (len(metrics) - 1) % stride else [])
    table = ["".join(f"{name:>12}" for name in CURVES)]
    for row in shown:
        table.append("".join(f"{_number(row[name]):>12}" for name in CURVES))
    return "\n".join(table)


def trajectory(row: dict, colours: dict[str, str]) -> str:
    """One construction as text: the kept error prefix, the diagnosis and the correction, apart."""
    quiet, off = colours["quiet"], colours["off"]
    lines = [f"step {row['step']}: {row['question']}", f"{quiet}  y-       {off}{_indent(row['wrong'])}"]
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


def split_turn(turn: str) -> tuple[str, str]:
    """The diagnosis, which is the first sentence of a turn, and the correction after it."""
    turn = turn.strip()
    end = min((at for at in map(turn.find, (". ", "; ", ".\n", "\n")) if at >= 0), default=len(turn)) + 1
    return turn[:end].strip(), turn[end:].strip()


def _indent(text: str) -> str:
    return text.strip().replace("\n", "\n           ")


def _mean(values: list[float]) -> str:
    return f"{sum(values) / len(values):.2f}" if values else "-"


def _number(value) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.3g}"


def main():
    """The program; see the module's docstring and --help."""
    parser = cli.Parser("Print how a run went, and some of its trajectories with their parts marked.")
    parser.add_argument("run", help="the folder of a run of train.py")
    parser.add_argument("-n", type=int, default=3, help="how many trajectories (default: 3)")
    parser.add_argument("--step", type=int, default=None, help="only those of this step (default: the last ones)")
    parser.add_argument("--outcome", choices=OUTCOMES, default="kept", help="only those that ended so (default: kept)")
    args = parser.parse_args()
    with cli.bad_input():
        if not (Path(args.run) / "metrics.jsonl").is_file():
            raise ValueError(
                f"{args.run} holds no metrics.jsonl: name the folder of a run, once its first step is done"
            )
        metrics = read_rows(Path(args.run) / "metrics.jsonl")
        rows = read_rows(Path(args.run) / "trajectories.jsonl")
    print(course(metrics))
    rows = [row for row in rows if row["outcome"] == args.outcome and args.step in (None, row["step"])]
    colours = COLOURS if sys.stdout.isatty() else dict.fromkeys(COLOURS, "")
    for row in rows[-args.n :] if args.n > 0 else []:
        print("\n" + trajectory(row, colours))
    if not rows:
        where = f" of step {args.step}" if args.step else ""
        print(f"\nno trajectory{where} that ended as '{args.outcome}' is stored")


if __name__ == "__main__":
    cli.run(main)
