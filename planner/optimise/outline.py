"""The outlines of trade-offs: the plans that are the best by some weighted sum, soon found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from planner.ir.graph import LayoutGraph
from planner.optimise.peak import Part, Peaks, peak_front
from planner.optimise.plan import LayoutPlan
from planner.optimise.tradeoff import SUMMED, Summed, amounts
from solver import Status, TooDenseError, corners

Corners = tuple[tuple[int, int], ...]
"""Costs in integer steps and amounts of a criterion, by rising cost."""


_MOST_POINTS: Final = 10
"""Most plans with ever less memory at once that are looked for: each takes some eliminations."""


def outline(graph: LayoutGraph, plan: LayoutPlan) -> Mapping[Summed, Corners]:
    """The corners of a graph's trade-offs: no plan lies below the lines between them.

    Raises ``TooDenseError`` for a graph that is connected too densely, or whose plan is not proven.
    """
    if plan.status is not Status.OPTIMAL:
        raise TooDenseError("the plan is not proven, so that others may cost less")
    if not plan.transitions:
        # Nothing has less, and nothing costs less.
        return dict.fromkeys(SUMMED, ((plan.cost, 0),))
    problem = plan.layout.problem
    wanted = [amounts(graph, plan.layout, criterion) for criterion in SUMMED]
    found = corners(problem, wanted, plan.solution.assignment)
    return dict(zip(SUMMED, found, strict=True))


def least_alive(plan: LayoutPlan) -> Corners:
    """The points of a graph's trade-off with memory, by the most bytes that are alive at once.

    That is all of them, and what nobody beats, not the outline alone. Raises ``TooDenseError``
    where elimination alone does not find them, or they are many.
    """
    if plan.status is not Status.OPTIMAL:
        raise TooDenseError("the plan is not proven, so that others may cost less")
    peaks = Peaks(plan.layout.problem, [Part(plan.live)])
    front = peak_front(
        peaks, plan.solution.assignment, most_points=_MOST_POINTS, search_seconds=0.0
    )
    if front.gaps:
        raise TooDenseError("elimination alone does not find all points")
    return tuple((point.cost, point.amount) for point in front.points)
