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
from planner.result.opportunities import (
    Opportunities,
    OpportunityReport,
    RankedOpportunity,
    Ranking,
)
from planner.result.sensitivity import PriceReport, SensitivityReport

_NAMED: Final = 2
_WHY: Final = {
    "kernel": "",
    "avoided": " (avoided: a fault, or textures first)",
    "limits": " (limits)",
}
_MOST_ROWS: Final = 20
_MOST_MODELS: Final = 4
_AT_LEAST: Final = "≥ marks what is known for one operator, and not found for all of them"
_PREDICTED: Final = "costs of operators in representations that kernels do not take are predicted"


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


def opportunities_table(found: Opportunities) -> Table:
    """A row for each thing that kernels could accept: what the program would cost then."""
    table = Table(
        title=escape(
            f"{visible(found.source)}: what kernels could take, of {found.candidates} candidates; "
            f"the plan costs {cost(found.objective_cost, found.unit)}"
        ),
        caption=_caption(
            len(found.opportunities),
            all(row.is_exact for row in found.opportunities),
            found.is_predicted,
            "" if found.is_known else "too dense to find what single operators would save",
        ),
    )
    _add_what(table)
    table.add_column("operators", justify="right")
    table.add_column("saves", justify="right")
    table.add_column("of the cost", justify="right")
    table.add_column("one alone", overflow="fold")
    for row in found.opportunities[:_MOST_ROWS]:
        table.add_row(
            *_what(row),
            str(row.operators),
            _at_least(row.is_exact) + cost(row.saved, found.unit),
            f"{row.share:.1%}",
            _alone(row, found.unit),
        )
    if not table.row_count:
        table.add_row("none makes the plan cheaper")
    return table


def ranking_table(ranking: Ranking) -> Table:
    """A row for each thing that kernels could accept: which programs would be cheaper then."""
    count = len(ranking.models)
    table = Table(
        title=f"What kernels could take, over {count} programs",
        caption=_caption(
            len(ranking.opportunities),
            all(model.is_exact for row in ranking.opportunities for model in row.models),
            ranking.is_predicted,
            "saves: the mean over all programs, as a share of their cost",
        ),
    )
    _add_what(table)
    table.add_column("saves", justify="right")
    table.add_column("programs", overflow="fold")
    for row in ranking.opportunities[:_MOST_ROWS]:
        models = [
            f"{visible(m.source)} {_at_least(m.is_exact)}{m.share:.1%}"
            for m in row.models[:_MOST_MODELS]
        ]
        if len(row.models) > _MOST_MODELS:
            models.append(f"and {len(row.models) - _MOST_MODELS} more")
        table.add_row(*_what(row), f"{row.share:.1%}", Text("\n".join(models)))
    if not table.row_count:
        table.add_row("none makes a plan cheaper")
    return table


def _add_what(table: Table) -> None:
    for heading in ("operator", "operand", "could take"):
        table.add_column(heading, overflow="fold")


def _what(row: OpportunityReport | RankedOpportunity) -> tuple[Text, str, str]:
    why = " (avoided)" if row.why == "avoided" else ""
    return Text(visible(row.operator)), row.operand, row.representation + why


def _at_least(is_exact: bool) -> str:
    return "" if is_exact else "≥ "


def _alone(row: OpportunityReport, unit: str) -> Text:
    lines = [
        f"#{one.operator_index} {visible(one.tensor)}: {cost(one.saved, unit)}"
        for one in row.occurrences[:_NAMED]
    ]
    if len(row.occurrences) > _NAMED:
        lines.append("and more")
    return Text("\n".join(lines) or "nothing")


def _caption(rows: int, all_exact: bool, is_predicted: bool, more: str) -> str:
    lines = [more] if more else []
    if not all_exact:
        lines.append(_AT_LEAST)
    if is_predicted:
        lines.append(_PREDICTED)
    if rows > _MOST_ROWS:
        lines.append(f"the first {_MOST_ROWS} of {rows}: --json has all")
    return "\n".join(lines)


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
