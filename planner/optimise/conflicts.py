"""Limits of a user that leave no plan: the smallest set that conflicts, and the fewest to drop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from planner.costs.model import CostModel
from planner.errors import ConflictingLimitsError, NoRepresentationError, Remedy
from planner.ir.graph import LayoutGraph
from planner.kernels.faults import Faults
from planner.kernels.limits import Limits
from planner.optimise.problem import LayoutProblem, build_problem
from solver import (
    FORBIDDEN,
    CostTable,
    InfeasibleError,
    NoSolutionFoundError,
    Problem,
    SharedCopies,
    contradiction,
    solve,
)
from solver.problem import Costs, Factor


def conflict_of(
    graph: LayoutGraph, limits: Limits, costs: CostModel
) -> NoRepresentationError | None:
    """The error for restrictions that leave a graph no plan; None where others leave it none.

    Known faults are not avoided, and textures not preferred: neither rules out what a user wants.
    """
    plain, restrictions = replace(graph, textures_first=False), limits.restrictions
    without = replace(limits, faults=Faults(), restrictions=())

    def holds(chosen: frozenset[int]) -> bool:
        wanted = tuple(restrictions[i] for i in sorted(chosen))
        try:
            layout = build_problem(plain, replace(without, restrictions=wanted), costs)
        except NoRepresentationError:
            return False
        return _has_solution(layout)

    try:
        if holds(frozenset(range(len(restrictions)))) or not holds(frozenset()):
            return None
        found = contradiction(len(restrictions), holds)
    except NoSolutionFoundError:
        return None
    conflict = tuple(str(restrictions[i]) for i in found.conflict)
    dropped = tuple(str(restrictions[i]) for i in found.dropped)
    return conflicting(graph.name, conflict, dropped if found.is_least else ())


def conflicting(
    place: str, conflict: tuple[str, ...], dropped: tuple[str, ...]
) -> ConflictingLimitsError:
    """The error for limits that cannot hold together; ``dropped`` are the fewest to drop."""
    where = f"{place}: " if place else ""
    if len(conflict) == 1:
        what = f"{where}no plan keeps {conflict[0]}"
    else:
        what = f"{where}no plan keeps {', '.join(conflict[:-1])} and {conflict[-1]} together"
    if len(dropped) > 1:
        what += f" (at least {len(dropped)} limits have to go, such as {' and '.join(dropped)})"
    return ConflictingLimitsError(what, Remedy.DROP_LIMITS)


def _has_solution(layout: LayoutProblem) -> bool:
    """Whether the problem can be solved at all; raises ``NoSolutionFoundError`` if not known."""
    try:
        solve(_uncosted(layout.problem))
    except InfeasibleError:
        return False
    return True


def _uncosted(problem: Problem) -> Problem:
    """The problem with nothing of its costs but what they forbid."""
    made: dict[int, Costs] = {}

    def plain(costs: Costs) -> Costs:
        if id(costs) not in made:
            made[id(costs)] = np.where(costs[:1] >= FORBIDDEN, FORBIDDEN, 0)
        return made[id(costs)]

    factors: list[Factor] = []
    for factor in problem.factors:
        if isinstance(factor, SharedCopies):
            factors.append(SharedCopies(factor.source, factor.users, plain(factor.prices)))
        elif not isinstance(factor, CostTable):
            factors.append(factor)
        elif plain(factor.costs).any():
            factors.append(CostTable(factor.scope, plain(factor.costs)))
    return Problem(problem.labels, 1, problem.variables, tuple(factors))
