"""Limits of a user that leave no plan: the smallest set that conflicts, and the fewest to drop."""

from __future__ import annotations

from dataclasses import replace

from planner.costs.model import CostModel
from planner.errors import ConflictingLimitsError, NoRepresentationError, Remedy
from planner.ir.graph import LayoutGraph
from planner.kernels.faults import Faults
from planner.kernels.limits import Limits
from planner.optimise.problem import LayoutProblem, build_problem
from solver import InfeasibleError, NoSolutionFoundError, contradiction, solve
from solver.levels import AMOUNTS, with_levels


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
        solve(with_levels(layout.problem, [AMOUNTS]))
    except InfeasibleError:
        return False
    return True
