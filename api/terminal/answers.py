"""Why repacks remain, and what would help, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from api.terminal.console import visible
from api.terminal.figures import cost
from planner.result.explanation import BlockerReport, Explanation, ReasonReport

_NAMED: Final = 2
_WHY: Final = {
    "kernel": "",
    "avoided": " (avoided: a fault, or textures first)",
    "limits": " (limits)",
}


def explanation_table(explanation: Explanation) -> Table:
    """A row for each repack: what keeps it on both sides, and what the plan without it costs."""
    what = "time of operators and repacks" if explanation.objective == "latency" else "repack cost"
    table = Table(
        title=escape(f"{visible(explanation.source)}: why repacks remain, by {what}"),
        caption="made and read: operators, the nearest ones, that do not take the other "
        "representation\nwithout: the cheapest plan in which nothing is repacked there",
    )
    for heading in ("delegate", "tensor", "repack"):
        table.add_column(heading, overflow="fold")
    table.add_column("cost", justify="right")
    table.add_column("made", overflow="fold")
    table.add_column("read", overflow="fold")
    table.add_column("without", justify="right")
    for delegate in explanation.delegates:
        for reason in delegate.repacks:
            table.add_row(
                delegate.name,
                Text(visible(reason.tensor)),
                f"{reason.from_} → {reason.to}",
                cost(reason.cost, explanation.unit),
                _blockers(reason.made),
                _blockers(reason.read),
                _without(reason, explanation.unit),
            )
    if not table.row_count:
        table.add_row("", "no repack remains")
    return table


def _blockers(blockers: Sequence[BlockerReport]) -> Text:
    lines = [
        f"{visible(b.operator)} #{b.operator_index} {b.operand}"
        + _WHY[b.why]
        + (f", {b.distance} away" if b.distance else "")
        for b in blockers[:_NAMED]
    ]
    if len(blockers) > _NAMED:
        lines.append(f"and {len(blockers) - _NAMED} more")
    return Text("\n".join(lines) or "none: it is the cost of operators")


def _without(reason: ReasonReport, unit: str) -> str:
    if not reason.is_known:
        return "not known"
    if reason.without is None:
        return "impossible"
    extra = reason.without.extra
    return f"{'+' if extra >= 0 else '−'}{cost(abs(extra), unit)}"
