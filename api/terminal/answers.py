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
from planner.result.sensitivity import PriceReport, SensitivityReport

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


def sensitivity_table(found: SensitivityReport) -> Table:
    """A row for each price whose change would change the plan."""
    caption = ["a price may change so far, by itself, before another plan is better"]
    still = sum(price.fall is None and price.rise is None for price in found.prices)
    if still:
        caption.append(f"{still} other prices change no plan, however far they fall or rise")
    if not all(price.is_exact for price in found.prices):
        caption.append("~: another plan may win a little before")
    if found.unknown:
        caption.append(f"connected too densely, or not proven: {', '.join(found.unknown)}")
    table = Table(
        title=escape(f"{visible(found.source)}: how far prices may change"),
        caption="\n".join(caption),
    )
    table.add_column("price", overflow="fold")
    for heading in ("paid", "may fall", "may rise", "uncertain"):
        table.add_column(heading, justify="right")
    table.add_column("measure it?")
    for price in found.prices:
        if price.fall is not None or price.rise is not None:
            table.add_row(
                Text(visible(price.name)),
                f"{price.paid:.0f} ×" if price.kind == "launch" else cost(price.paid, found.unit),
                _change(price, price.fall, found.unit),
                _change(price, price.rise, found.unit),
                _uncertain(price),
                "it would settle the plan" if price.settles else "",
            )
    return table


def _change(price: PriceReport, change: float | None, unit: str) -> str:
    if change is None:
        return "any"
    about = "" if price.is_exact else "~"
    if price.kind == "launch":
        return f"{about}{'−' if change < 0 else '+'}{cost(abs(change), unit)}"
    return f"{about}{change:+.1%}".replace("-", "−")


def _uncertain(price: PriceReport) -> str:
    if price.uncertain_fall is None or price.uncertain_rise is None:
        return ""
    return f"{price.uncertain_fall:+.0%} to {price.uncertain_rise:+.0%}".replace("-", "−")
