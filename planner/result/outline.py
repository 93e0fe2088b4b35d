"""The outlines of a planned program's trade-offs, as a document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

from planner.costs.profile import DeviceProfile
from planner.optimise.outline import Corners, outline
from planner.optimise.tradeoff import SUMMED, Summed
from planner.result.program import DelegateResult
from planner.result.report import read_document, to_document, to_number
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
    """What it has of the criterion: transitions, or bytes of their copies."""


@frozen
class OutlineReport:
    """What less of a criterion costs at least: no plan lies below the lines between corners."""

    criterion: str
    """``transitions`` or ``bytes``."""
    corners: tuple[CornerReport, ...]
    """Of the whole program, the cheapest first."""


@frozen
class Outlines:
    """The outlines of a planned program's trade-offs. Costs are in ``unit``."""

    source: str
    objective: str
    unit: str
    outlines: tuple[OutlineReport, ...]
    unknown: tuple[str, ...]
    """Delegates that are left out: they are connected too densely, or not proven."""

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


def _reported(corners: Corners, profile: DeviceProfile) -> tuple[CornerReport, ...]:
    def number(steps: int) -> float:
        return to_number(profile.in_units(steps), profile.unit)

    return tuple(
        CornerReport(number(cost), number(cost - corners[0][0]), amount) for cost, amount in corners
    )
