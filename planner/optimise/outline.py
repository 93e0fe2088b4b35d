"""The outlines of trade-offs: the plans that are the best by some weighted sum, soon found."""

from __future__ import annotations

from collections.abc import Mapping

from planner.ir.graph import LayoutGraph
from planner.optimise.plan import LayoutPlan
from planner.optimise.tradeoff import SUMMED, Summed, amounts
from solver import Status, TooDenseError, corners

Corners = tuple[tuple[int, int], ...]
"""Costs in integer steps and amounts of a criterion, by rising cost."""


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
