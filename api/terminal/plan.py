"""A plan's report as a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.markup import escape
from rich.table import Table

from api.terminal.figures import cost, ratio, seconds
from planner.result.report import DifferenceReport, PlanFigures, Report

_SHOWN: Final = 4
"""Most differences of an alternative that a table lists; the report has all."""


def plan_table(report: Report) -> Table:
    """Before and after, per delegate and in total, of a plan."""
    unit, total = report.unit, report.total
    is_latency = report.objective == "latency"
    what = "time of operators and repacks" if is_latency else "repack cost"
    table = Table(
        title=escape(f"{report.source.name}: {what}, profile {report.profile.name}"),
        caption=_caption(report),
    )
    table.add_column("delegate")
    theirs = "ExecuTorch" if report.baseline == "executorch" else "before"
    for heading in ("operators", "transitions", theirs, "ours", "ratio"):
        table.add_column(heading, justify="right")
    table.add_column("proof")
    for heading in ("ExecuTorch's pass", "planning"):
        table.add_column(heading, justify="right")
    if is_latency:
        table.add_column("of it repacks", justify="right")
    for delegate in report.delegates:
        table.add_row(*_figures(delegate.name, delegate, unit, is_latency))
    table.add_section()
    table.add_row(*_figures("total", total, unit, is_latency), style="bold")
    return table


def alternatives_tables(report: Report) -> Iterator[Table]:
    """The plans that come next, for each delegate for which they were asked."""
    for delegate in report.delegates:
        if not delegate.alternatives:
            continue
        table = Table(title=escape(f"{delegate.name}: the plans that come next"))
        for heading in ("", "cost", "more", "transitions"):
            table.add_column(heading, justify="right")
        table.add_column("what differs")
        for number, other in enumerate(delegate.alternatives, 1):
            table.add_row(
                str(number),
                cost(other.objective_cost, report.unit),
                cost(other.objective_cost - delegate.objective_cost, report.unit),
                str(other.transitions),
                escape("\n".join(_differences(other.differences))),
            )
        if not all(other.is_proven for other in delegate.alternatives):
            table.caption = "their order is not proven"
        yield table


def _differences(differences: tuple[DifferenceReport, ...]) -> Iterator[str]:
    """The first few, in words."""
    for found in differences[:_SHOWN]:
        place = f"{found.operand} of {found.operator}" if found.operator else found.operand
        yield f"{found.tensor}, {place}: {found.plan} → {found.alternative}"
    if len(differences) > _SHOWN:
        yield f"and {len(differences) - _SHOWN} more"


def _caption(report: Report) -> str:
    total = report.total
    lines = [f"checking the plan took {seconds(total.verify_seconds)}"]
    if report.runtime:
        later = report.runtime.endswith("+")
        of = "" if report.target == "vulkan" else "the WebGPU runtime of "
        lines.append(f"for {of}ExecuTorch {report.runtime.rstrip('+')}{' and later' * later}")
    if report.kind == "pt2":
        lines[0] = f"lowering took {seconds(report.lowering_seconds)}, {lines[0]}"
    if total.memory_bytes is not None and total.greedy_memory_bytes is not None:
        lines.append(
            f"tensors take {cost(total.memory_bytes, 'bytes')}, "
            f"{cost(total.greedy_memory_bytes, 'bytes')} by ExecuTorch's memory planner"
            + (
                f"; at most {cost(total.peak_memory_bytes, 'bytes')} are alive at once"
                if total.peak_memory_bytes is not None
                else ""
            )
        )
    origins = {name: part for name, part in total.cost_origins.items() if part}
    if origins.keys() - {"modelled"}:
        parts = ", ".join(f"{part:.1%} {name}" for name, part in origins.items())
        lines.append(f"of the predicted time: {parts}")
    lines += [f"on the CPU, beyond the limits: {operator}" for operator in report.on_cpu]
    for delegate in report.delegates:
        lines += [f"{delegate.name}, {warning}" for warning in delegate.warnings]
        lines += [f"mended: {delegate.name}, {fault}" for fault in delegate.mended]
    pinned = sorted({name for d in report.delegates for name in d.pinned_operators})
    if pinned:
        lines.append(f"not in the registry, left as they were: {', '.join(pinned)}")
    return escape("\n".join(lines))


def _figures(name: str, figures: PlanFigures, unit: str, is_latency: bool) -> list[str]:
    repacks = figures.baseline_repack_cost, figures.repack_cost
    whole = figures.baseline_objective_cost, figures.objective_cost
    before, after = whole if is_latency else repacks
    row = [
        name,
        str(figures.operators),
        f"{figures.baseline_transitions} → {figures.transitions}",
        cost(before, unit),
        cost(after, unit),
        ratio(figures.objective_ratio if is_latency else figures.ratio),
        proof(figures, unit),
        seconds(figures.baseline_seconds) if figures.baseline_seconds else "–",
        seconds(figures.plan_seconds),
    ]
    if is_latency:
        row.append(" → ".join(cost(value, unit) for value in repacks))
    return row


def proof(figures: PlanFigures, unit: str) -> str:
    """How good the plan is known to be."""
    if figures.status == "OPTIMAL":
        return "optimal"
    return f"feasible, at least {cost(figures.bound, unit)}"
