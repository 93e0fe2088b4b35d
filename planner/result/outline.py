"""The outlines of a planned program's trade-offs, as a document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from typing import Any

from planner.costs.profile import DeviceProfile
from planner.optimise.outline import Corners, least_alive, outline
from planner.optimise.tradeoff import SUMMED, Summed
from planner.result.program import DelegateResult
from planner.result.report import read_document, to_document, to_number
from planner.result.tradeoffs import Sum, unbeaten
from schema import PlannedProgram
from schema.frozen import frozen
from solver import TooDenseError


@frozen
class CornerReport:
    """A plan that is the best by some weighted sum of the cost and a criterion."""

    objective_cost: float
    extra: float
    """What it costs more than the cheapest."""
    amount: int
    """What it has of the criterion: transitions, bytes of their copies, or the most bytes that are
    alive at once."""


@frozen
class OutlineReport:
    """What less of a criterion costs at least: no plan lies below the lines between corners."""

    criterion: str
    """``transitions``, ``bytes`` or ``memory``."""
    corners: tuple[CornerReport, ...]
    """Of the whole program, the cheapest first."""


@frozen
class Outlines:
    """The outlines of a planned program's trade-offs. Costs are in ``unit``."""

    source: str
    objective: str
    unit: str
    outlines: tuple[OutlineReport, ...]
    """That of ``memory`` is there if elimination alone finds it for each delegate."""
    unknown: tuple[str, ...]
    """Delegates that others leave out: they are connected too densely, or not proven."""

    def document(self) -> dict[str, Any]:
        """The outlines as a JSON document."""
        found: dict[str, Any] = to_document(self)
        return found


def read_outlines(document: Mapping[str, Any]) -> Outlines:
    """The outlines of a JSON document that ``Outlines.document`` made."""
    return read_document(Outlines, document)


def outlines(
    program: PlannedProgram, delegates: Sequence[DelegateResult], profile: DeviceProfile
) -> Outlines:
    """The outlines of a planned program; ``profile`` has the unit of its costs."""
    known: dict[int, Mapping[Summed, Corners] | None] = {}
    unknown = []
    for result in delegates:
        key = id(result.layout_plan)
        if key not in known:
            try:
                known[key] = outline(result.graph, result.layout_plan)
            except TooDenseError:
                known[key] = None
        if known[key] is None:
            unknown.append(result.plan.name)
    every = [found for d in delegates if (found := known[id(d.layout_plan)]) is not None]
    reports = tuple(
        OutlineReport(criterion, _reported(together(found[criterion] for found in every), profile))
        for criterion in SUMMED
        if every
    )
    with suppress(TooDenseError):
        plans = {id(d.layout_plan): d.layout_plan for d in delegates}
        points = {key: least_alive(plan) for key, plan in plans.items()}
        whole = highest(points[id(d.layout_plan)] for d in delegates)
        reports += (OutlineReport("memory", _reported(whole, profile)),)
    return Outlines(program.source_name, program.objective, profile.unit, reports, tuple(unknown))


def together(every: Iterable[Corners]) -> Corners:
    """The corners of a whole, of whose parts each is at one of its own: the steepest edges first.

    What an edge costs for each unit of the amount is the same wherever it begins.
    """
    edges: dict[Fraction, tuple[int, int]] = {}
    cost = amount = 0
    for corners in every:
        cost, amount = cost + corners[0][0], amount + corners[0][1]
        for (a, b), (c, d) in pairwise(corners):
            slope = Fraction(c - a, b - d)
            more, less = edges.get(slope, (0, 0))
            edges[slope] = more + c - a, less + b - d
    found = [(cost, amount)]
    for _, (more, less) in sorted(edges.items()):
        found.append((found[-1][0] + more, found[-1][1] - less))
    return tuple(found)


def highest(every: Iterable[Corners]) -> Corners:
    """The corners of a whole that has the amount of the part with the most, of all their points.

    Parts do not run at once.
    """
    parts = [[Sum(cost, 0, 0, amount) for cost, amount in points] for points in every]
    found: list[tuple[int, int]] = []
    for point in unbeaten(parts, "memory"):
        while len(found) > 1 and not _is_corner(found[-2], found[-1], point):
            found.pop()
        found.append((point.cost, point.peak_bytes))
    return tuple(found)


def _is_corner(before: tuple[int, int], point: tuple[int, int], after: Sum) -> bool:
    """Whether a point is below the line between its neighbours."""
    rise = (after.cost - before[0]) * (point[1] - before[1])
    return rise < (point[0] - before[0]) * (after.peak_bytes - before[1])


def _reported(corners: Corners, profile: DeviceProfile) -> tuple[CornerReport, ...]:
    def number(steps: int) -> float:
        return to_number(profile.in_units(steps), profile.unit)

    return tuple(
        CornerReport(number(cost), number(cost - corners[0][0]), amount) for cost, amount in corners
    )
