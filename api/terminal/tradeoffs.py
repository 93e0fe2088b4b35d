"""Trade-offs of a planned program: tables of their points, and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.markup import escape
from rich.table import Table

from api.terminal.console import visible
from api.terminal.figures import cost
from api.terminal.picture import plain_style, saved
from planner.result.tradeoffs import PointReport, TradeoffReport, Tradeoffs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NAMES: Final = {
    "transitions": "transitions",
    "bytes": "bytes of copies",
    "memory": "bytes alive at once",
}
_LINE: Final = "#0072B2"


def tradeoff_tables(found: Tradeoffs) -> Iterator[Table]:
    """For each criterion the points of the whole program."""
    for tradeoff in found.tradeoffs:
        table = Table(
            title=escape(f"{visible(found.source)}: {_what(found)} against {_name(tradeoff)}"),
            caption=_caption(tradeoff),
        )
        for heading in ("cost", "more", *_NAMES.values()):
            table.add_column(heading, justify="right")
        table.add_column("proof")
        for point in tradeoff.points:
            table.add_row(
                cost(point.objective_cost, found.unit),
                cost(point.extra, found.unit) if point.extra else "",
                str(point.transitions),
                cost(point.copied_bytes, "bytes"),
                cost(point.peak_memory_bytes, "bytes"),
                "proven" if point.is_proven else "not proven",
            )
        yield table


def _what(found: Tradeoffs) -> str:
    return "time of operators and repacks" if found.objective == "latency" else "repack cost"


def _name(tradeoff: TradeoffReport) -> str:
    return _NAMES[tradeoff.criterion]


def _caption(tradeoff: TradeoffReport) -> str:
    dense = [delegate.name for delegate in tradeoff.delegates if not delegate.is_known]
    lines = ["no plan beats a point that is proven in both"]
    if dense:
        lines.append(f"connected too densely, of which only the plan counts: {', '.join(dense)}")
    if any(
        not (p.is_followed and p.is_proven)
        for delegate in tradeoff.delegates
        if delegate.is_known
        for p in delegate.points
    ):
        lines.append("there may be more: the work ended before all were found or ruled out")
    return "\n".join(lines)


def draw_tradeoffs(found: Tradeoffs, path: Path) -> bytes:
    """A picture of the kind that the path's ending names; the same trade-offs, the same bytes."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    count = len(found.tradeoffs)
    with plain_style():
        padded = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15)
        figure = Figure(figsize=(5.5 * count, 4.2), layout=padded)
        figure.suptitle(visible(found.source), x=0.01, ha="left", fontsize=10)
        row = figure.subplots(1, count, squeeze=False)[0]
        for axes, tradeoff in zip(row, found.tradeoffs, strict=True):
            _draw(axes, found, tradeoff)
        return saved(figure, path.suffix.lower())


def _draw(axes: Axes, found: Tradeoffs, tradeoff: TradeoffReport) -> None:
    """Points, and between them what can be had: less of the one only for the next one's cost."""
    points = tradeoff.points
    across = [_amount(tradeoff, point) for point in points]
    up = [point.objective_cost / 1e6 for point in points]
    axes.step(across, up, where="pre", color=_LINE, linewidth=1, alpha=0.6)
    for is_supported, face in ((True, _LINE), (False, "white")):
        chosen = [place for place, p in enumerate(points) if p.is_supported == is_supported]
        axes.plot(
            [across[place] for place in chosen],
            [up[place] for place in chosen],
            linestyle="none",
            marker="o",
            markersize=6,
            color=_LINE,
            markerfacecolor=face,
        )
    axes.annotate(
        "cheapest", (across[0], up[0]), xytext=(0, -14), textcoords="offset points", ha="center"
    )
    axes.margins(0.12)
    is_counted = tradeoff.criterion == "transitions"
    if is_counted:
        axes.locator_params(axis="x", integer=True)
    axes.set_xlabel(f"{_name(tradeoff)}{'' if is_counted else ', MB'}")
    axes.set_ylabel(f"{_what(found)}, {'MB' if found.unit == 'bytes' else 'ms'}")


def _amount(tradeoff: TradeoffReport, point: PointReport) -> float:
    if tradeoff.criterion == "transitions":
        return point.transitions
    is_memory = tradeoff.criterion == "memory"
    return (point.peak_memory_bytes if is_memory else point.copied_bytes) / 1e6
