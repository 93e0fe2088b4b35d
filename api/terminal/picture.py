"""Draws what two runs of a program took: where the time goes, and the largest changes."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, Final
from warnings import catch_warnings, filterwarnings

from api.terminal.console import visible
from api.terminal.runs import group_name, layouts, place, step_name, verdict
from planner.compare.comparison import ComparedStep, Comparison, StepTime
from planner.errors import OptionError
from planner.extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_KINDS: Final = (".svg", ".png")
_MOST_STEPS: Final = 20
_LONGEST_NAME: Final = 48
_LEAST_LABELLED: Final = 0.045
"""The least part of a bar that has room for its number."""

_NS: Final = 1e6

# Okabe and Ito's colours, which colour-blind people tell apart, and greys.
_A: Final = "#A0A0A0"
_B: Final = "#0072B2"
_GROUPS: Final = ("#56B4E9", "#F0E442", "#009E73", "#CC79A7", "#E69F00")
_TRANSITIONS: Final = "#D55E00"
_OTHERS: Final = "#DDDDDD"
_STAGING: Final = "#555555"
_DARK: Final = (_TRANSITIONS, _STAGING, "#009E73")
_QUIET: Final = "#555555"


def check_picture(path: Path | None) -> None:
    """Raises ``OptionError`` for a file that is no picture that can be drawn, by its ending.

    And ``MissingExtraError`` where there is nothing to draw it with.
    """
    if path is None:
        return
    if path.suffix.lower() not in _KINDS:
        raise OptionError(f"cannot draw {path}: end its name in {' or '.join(_KINDS)}")
    require("a picture", "matplotlib")


def draw(comparison: Comparison, path: Path) -> bytes:
    """A picture of the kind that the path's ending names; the same comparison, the same bytes."""
    with plain_style():
        return _drawn(comparison, path.suffix.lower())


@contextmanager
def plain_style() -> Iterator[None]:
    """Draws the same for everyone, and to the same bytes."""
    import matplotlib as mpl

    with mpl.rc_context(), catch_warnings():
        filterwarnings("ignore", "Glyph .* missing")  # drawn as a box
        mpl.rcdefaults()  # whatever style the user has
        mpl.rcParams.update(
            {
                "svg.hashsalt": "layout-planner",
                "text.parse_math": False,
                "font.size": 9,
                "axes.spines.top": False,
                "axes.spines.right": False,
            }
        )
        yield


def saved(figure: Figure, kind: str) -> bytes:
    """A figure as a file of a kind, ``.svg`` or ``.png``."""
    file = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if kind == ".svg" else {"Software": None}
    figure.savefig(file, format=kind.removeprefix("."), dpi=120, metadata=metadata)
    return file.getvalue()


def _drawn(comparison: Comparison, kind: str) -> bytes:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    steps = [step for step in comparison.steps[:_MOST_STEPS] if step.change]
    heights = 1.5, 0.9 + 0.42 * max(1, len(steps))
    padded = ConstrainedLayoutEngine(h_pad=0.15, w_pad=0.15)
    figure = Figure(figsize=(12, sum(heights) + 2.2), layout=padded)
    figure.suptitle(_title(comparison), x=0.01, ha="left", fontsize=10)
    above, below = figure.subplots(2, 1, height_ratios=heights)
    _draw_groups(above, comparison)
    _draw_steps(below, comparison, steps)
    return saved(figure, kind)


def _title(comparison: Comparison) -> str:
    names = f"A: {visible(comparison.a.name)}      B: {visible(comparison.b.name)}"
    return "\n".join([names, *(fill(line, 150) for line in verdict(comparison)[:3])])


def _draw_groups(axes: Axes, comparison: Comparison) -> None:
    """A bar for each run, of its operators by name, repacks and staging; predictions as marks."""
    total = comparison.everything
    most = max(total.a_measured, total.b_measured)
    left = [0.0, 0.0]
    for name, times, color in _parts(comparison):
        widths = [ns / _NS for ns in times]
        bars = axes.barh(
            [0, 1], widths, left=left, height=0.62, color=color, edgecolor="white", label=name
        )
        labels = [f"{ns / _NS:,.1f}" if ns > most * _LEAST_LABELLED else "" for ns in times]
        ink = "white" if color in _DARK else "black"
        axes.bar_label(bars, labels, label_type="center", fontsize=8, color=ink)
        left = [x + width for x, width in zip(left, widths, strict=True)]
    for y, (end, predicted) in enumerate(
        zip(left, (total.a_predicted / _NS, total.b_predicted / _NS), strict=True)
    ):
        axes.plot(predicted, y - 0.4, marker="v", markersize=6, color="black")
        axes.annotate(
            f"{end:,.1f} ms\npredicted {predicted:,.1f}",
            (max(end, predicted), y),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_yticks([0, 1], ["A", "B"], fontweight="bold")
    axes.set_ylim(1.5, -0.5)
    axes.margins(x=0.15)
    axes.set_xlim(left=0)
    axes.set_xlabel("ms an inference, measured; a triangle is what was predicted")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.02), ncols=4, fontsize=8, frameon=False)


def _parts(comparison: Comparison) -> Iterator[tuple[str, tuple[float, float], str]]:
    """What the bars are made of: name, ns in A and B, colour; the longest operators first."""
    times = {g.name: (g.total.a_measured, g.total.b_measured) for g in comparison.groups}
    special = {name: times.pop(name) for name in ("transition", "staging") if name in times}
    names = sorted(times, key=lambda name: (-max(times[name]), name))
    for name, color in zip(names, _GROUPS, strict=False):
        yield _cut(group_name(name).removesuffix(".default"), 36), times[name], color
    rest = [*(times[name] for name in names[len(_GROUPS) :]), comparison.unknown]
    if any(map(any, rest)):
        a, b = (sum(column) for column in zip(*rest, strict=True))
        yield "others", (a, b), _OTHERS
    for name, color in (("transition", _TRANSITIONS), ("staging", _STAGING)):
        if name in special:
            yield group_name(name), special[name], color


def _draw_steps(axes: Axes, comparison: Comparison, steps: Sequence[ComparedStep]) -> None:
    """Two bars for each step, A's above B's; predictions as marks."""
    if not steps:
        axes.text(0.5, 0.5, "Every step took the same time in both.", ha="center", va="center")
        axes.set_axis_off()
        return
    are_many = len(comparison.a.program.delegates) > 1
    for side, offset, color in (("a", -0.2, _A), ("b", 0.2, _B)):
        times: list[StepTime | None] = [getattr(step, side) for step in steps]
        axes.barh(
            [y + offset for y in range(len(steps))],
            [0 if time is None else time.measured / _NS for time in times],
            height=0.38,
            color=color,
            label=f"{side.upper()}, measured",
        )
        for y, time in enumerate(times):
            if time is not None:
                _mark(axes, time.predicted / _NS, y + offset, 0.19)
    for y, step in enumerate(steps):
        axes.annotate(
            f"{step.change / _NS:+,.2f}",
            (_longest(step) / _NS, y),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            fontweight="normal" if step.is_alike else "bold",
            color=_QUIET if step.is_alike else "black",
        )
    axes.set_yticks(range(len(steps)), [_label(step, are_many) for step in steps], fontsize=8)
    for text, step in zip(axes.get_yticklabels(), steps, strict=True):
        text.set_color(_QUIET if step.is_alike else "black")
    axes.set_ylim(len(steps) - 0.4, -0.6)
    axes.margins(x=0.08)
    axes.set_xlim(left=0)
    axes.set_xlabel(
        "ms an inference; a black line is what was predicted; beside the bars the change, "
        "bold where representations changed"
    )
    axes.set_title(
        f"The {len(steps)} largest changes of {len(comparison.steps)} steps",
        loc="left",
        fontsize=10,
    )
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=8, frameon=False)


def _label(step: ComparedStep, are_many: bool) -> str:
    """Two lines: the step, and its representations before and after."""
    where = place(step, are_many)
    name = f"{_cut(step_name(step))}  {where}"
    if step.a is None or step.b is None:
        time = step.b if step.a is None else step.a
        only = "A" if step.b is None else "B"
        return f"{name}\nonly in {only}: {layouts(time.operands)}" if time else name
    if step.is_alike:
        return f"{name}\nboth {_cut(layouts(step.a.operands))}"
    return f"{name}\nA {_cut(layouts(step.a.operands))}   B {_cut(layouts(step.b.operands))}"


def _longest(step: ComparedStep) -> float:
    return max(max(time.measured, time.predicted) for time in (step.a, step.b) if time is not None)


def _mark(axes: Axes, x: float, y: float, half: float) -> None:
    """A line across a bar, with a white seam that shows it on any colour."""
    for color, width in (("white", 4.0), ("black", 1.8)):
        axes.plot([x, x], [y - half, y + half], color=color, linewidth=width, solid_capstyle="butt")


def _cut(text: str, most: int = _LONGEST_NAME) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
