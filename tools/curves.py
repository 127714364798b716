"""Training curves of one or several runs in one picture: the paper's six and ours.

The paper plots mean OTS weight, policy-gradient loss, training accuracy, gradient norm, response length and KL. Ours
are the weight of the turn and the share of tokens at OTS's floor, the reward, where it is not the accuracy, the
construction funnel (how many were tried, had the right tags, were kept, ended correct), the gap between the sampler's
and the trainer's log-probabilities, which must be rounding noise, and the learning rate.

Runs whose flags differ in nothing but the seed are one line, the mean at each step, within a band from the least to the
greatest. Needs matplotlib.
"""

import math
import textwrap
from dataclasses import dataclass
from pathlib import Path

from config import Training, free

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito's, for any eyes
MARKERS = ("o", "s", "^", "D", "v", "P")  # the second way to tell lines apart
FUNNEL = {"tried": ":", "parsed": "-.", "kept": "--", "correct": "-"}
PANELS = {  # title: the figures of metrics.jsonl in it, each with the style of its line
    "mean OTS weight": {"ots_weight": "-"},
    "turn and floor": {"turn_weight": "-", "floor_share": ":"},
    "policy-gradient loss": {"loss": "-"},
    "training accuracy": {"accuracy": "-"},
    "gradient norm": {"grad_norm": "-"},
    "response length (tokens)": {"length_mean": "-"},
    "KL to the start (nats a token)": {"kl": "-"},
    "mean reward": {"reward_mean": "-"},
    "constructions": FUNNEL,
    "sampler-trainer gap (nats)": {"gap_max": ":", "gap_mean": "-"},
    "learning rate": {"lr": "-"},
}
DRAWN = {
    ":": "\u00b7\u00b7\u00b7\u00b7",
    "-.": "-\u00b7-",
    "--": "\u2013 \u2013",
    "-": "\u2014",
}  # line styles, in a title
LOGARITHMIC = "sampler-trainer gap (nats)"
UNIMPORTANT = {"seed"} | free(Training)  # settings that do not make another line


@dataclass
class Course:
    """How a run went: its name, its settings, and the rows of its metrics.jsonl."""

    name: str
    settings: dict
    metrics: list[dict]


def draw(courses: list[Course], file: str | Path):
    """Draw the curves of some runs into a PNG, SVG or PDF. Raises ValueError without matplotlib, or for another
    format."""
    if Path(file).suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"{file}: curves are drawn as .png, .svg or .pdf")
    try:
        from matplotlib import rc_context
    except ImportError:
        raise ValueError("to draw curves, matplotlib is needed: pip install matplotlib") from None
    settings = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True}
    settings |= {"grid.color": "#e4e4e4", "axes.titlesize": 10, "svg.hashsalt": "", "lines.linewidth": 1.4}
    with rc_context(settings):
        figure = picture(courses)
        stamp = {"CreationDate": None} if Path(file).suffix == ".pdf" else {"Date": None}
        figure.savefig(file, dpi=80, metadata={} if Path(file).suffix == ".png" else stamp)


def picture(courses: list[Course]):
    """The curves of some runs as a figure of matplotlib."""
    from matplotlib.figure import Figure

    groups, panels = grouped(courses), {title: names for title, names in PANELS.items() if _tells(title, courses)}
    rows = -(-len(panels) // 3)
    figure = Figure(figsize=(11, 2.6 * rows + 0.4), layout="constrained")
    every = figure.subplots(rows, 3).flatten()
    for axes in every[len(panels) :]:
        axes.remove()
    for axes, (title, figures) in zip(every, panels.items()):
        axes.set_title(title, loc="left")
        drawn = [
            _line(axes, group, i, name, figures[name]) for name in figures for i, group in enumerate(groups.values())
        ]
        if not any(drawn):
            axes.text(0.5, 0.5, "not in these runs", transform=axes.transAxes, ha="center", color="#666666")
        if title == LOGARITHMIC and any(drawn):
            axes.set_yscale("log")
        if len(figures) > 1:
            key = "  ".join(f"{DRAWN[style]} {name.removeprefix('gap_')}" for name, style in figures.items())
            axes.set_title(key, loc="right", fontsize=7.5)
        axes.xaxis.get_major_locator().set_params(integer=True)
    _legend(figure, {name: len(group) for name, group in groups.items()})
    figure.supxlabel("step", fontsize=9)
    return figure


def _tells(title: str, courses: list[Course]) -> bool:
    """Whether a panel says something that no other says: the mean reward is the accuracy where rewards are 0 and 1."""
    rows = [row for course in courses for row in course.metrics]
    return title != "mean reward" or any(row.get("reward_mean") != row.get("accuracy") for row in rows)


def _legend(figure, groups: dict[str, int]):
    """Name the lines above the panels, in as many columns as fit; long names are wrapped, and very long ones lose their
    middle. The figure grows by what the legend needs."""
    handles = [figure.axes[0].plot([], [], color=c, marker=m)[0] for c, m in _looks(len(groups))]
    names = [f"{name} ({seeds} seeds)" if seeds > 1 else name for name, seeds in groups.items()]
    names = [name if len(name) <= 240 else f"{name[:80]} \u2026 {name[-157:]}" for name in names]
    names = [textwrap.fill(name, 80).replace("$", "\\$") for name in names]  # no formula
    for columns in range(min(4, len(names)), 0, -1):
        legend = figure.legend(handles, names, loc="outside upper center", ncols=columns, frameon=False)
        size = legend.get_window_extent()
        if size.width <= figure.bbox.width or columns == 1:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + size.height / figure.dpi)


def _looks(count: int) -> list[tuple[str, str]]:
    """A colour and a marker a line; beyond six lines the markers shift, so that no two lines look the same."""
    return [(COLOURS[i % 6], MARKERS[(i + i // 6) % 6]) for i in range(count)]


def _line(axes, group: list[Course], index: int, name: str, style: str) -> bool:
    """Draw one figure of a group of runs; whether there was anything to draw."""
    steps, low, mean, high = band([series(course, name) for course in group])
    colour, marker = _looks(index + 1)[index]
    every = max(1, len(steps) // 8)
    axes.plot(steps, mean, style, color=colour, marker=marker, markersize=4, markevery=(index % every, every))
    if len(group) > 1:
        axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
    return any(not math.isnan(value) for value in mean)


def series(course: Course, name: str) -> dict[int, float]:
    """A figure at each step that has it. "loss" is all of the policy-gradient loss. A run that never tried to construct
    has no funnel."""
    if name in FUNNEL and not any(row.get("tried") for row in course.metrics):
        return {}
    values = {row["step"]: _loss(row, course.settings) if name == "loss" else row.get(name) for row in course.metrics}
    return {step: value for step, value in values.items() if isinstance(value, (int, float))}


def _loss(row: dict, settings: dict) -> float | None:
    """L_GRPO + lambda * L_ref + mu * L_syn of a step: metrics.jsonl has the parts without their weights."""
    weights = {"loss_orig": 1.0, "loss_ref": settings.get("lam", 1.0), "loss_syn": settings.get("mu", 0.0)}
    return sum(weights[part] * row[part] for part in weights if part in row) if "loss_orig" in row else None


def band(runs: list[dict[int, float]]) -> tuple[list[int], list[float], list[float], list[float]]:
    """Steps, and the least, mean and greatest value of the runs that have the step; NaN, a gap in the line, at steps
    between the first and the last that none has."""
    have = sorted({step for run in runs for step in run})
    steps = list(range(have[0], have[-1] + 1)) if have else []
    values = [[run[step] for run in runs if step in run] or [math.nan] for step in steps]
    return steps, [min(v) for v in values], [sum(v) / len(v) for v in values], [max(v) for v in values]


def grouped(courses: list[Course]) -> dict[str, list[Course]]:
    """Runs by their flags, seed and the like aside, under names made of the flags that differ between the groups."""
    groups: dict[str, list[Course]] = {}
    for course in courses:
        flags = {name: value for name, value in course.settings.items() if name not in UNIMPORTANT}
        groups.setdefault(repr(sorted(flags.items())) if flags else course.name, []).append(course)
    firsts = [group[0].settings for group in groups.values()]
    names = dict.fromkeys(name for flags in firsts for name in flags if name not in UNIMPORTANT)
    differing = [name for name in names if len({repr(flags.get(name)) for flags in firsts}) > 1]
    labelled: dict[str, list[Course]] = {}
    for group in groups.values():
        said = ", ".join(f"{n.replace('_', '-')} {group[0].settings[n]}" for n in differing if n in group[0].settings)
        labelled[said if said and len(said) <= 60 and said not in labelled else group[0].name] = group
    return labelled
