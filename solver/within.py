"""The best assignment within a limit, by elimination.

Weighted sums of cost and amount lead to the two corners of the trade-off that the limit is between.
What is within it, and costs no more than the second of them, is near the line between the two.
Elimination that keeps pairs finds all of that.
"""

from __future__ import annotations

from time import perf_counter

from solver.compact import Limit
from solver.fronts import Criteria, ParetoPoint
from solver.pairs import TooManyPairsError, pairs_below
from solver.prepared import Prepared
from solver.problem import Problem
from solver.solution import InfeasibleError, Solution, Status, TooDenseError
from solver.solve import statistics_of


def least_within(problem: Problem, limit: Limit) -> Solution:
    """Finds an assignment of least cost within a limit, by all levels; it is proven.

    No factor of the limit is negative anywhere.

    Raises ``ProblemError`` for a problem that is not well formed, ``InfeasibleError`` where no
    assignment is within the limit, and ``TooDenseError`` where elimination would leave a core or
    keep too many pairs: ``solve_ilp`` may find it then.
    """
    started = perf_counter()
    prepared = Prepared(problem)
    order = prepared.order
    if order is None:
        raise TooDenseError("elimination would need tables that are too large")
    criteria = Criteria(problem, limit.factors)
    first, last = _corners(criteria, limit.most)
    weights = (1, 0) if first is last else criteria.weights(first, last)
    if weights is None:
        raise TooDenseError("the costs are too large to be weighed")
    most = weights[0] * last.cost + weights[1] * limit.most
    try:
        found = pairs_below(criteria.with_levels([(1, 0), (0, 1)]), weights, most)
    except TooManyPairsError:
        raise TooDenseError("there are too many assignments near the limit") from None
    assignment = next(own for (_, amount), own in found if amount <= limit.most)
    cost = problem.cost(assignment)
    assert cost is not None
    seconds = {"within": perf_counter() - started}
    statistics = statistics_of(problem, prepared.reduced, order, 1, seconds)
    return Solution(assignment, cost, cost, Status.OPTIMAL, statistics)


def _corners(criteria: Criteria, most: int) -> tuple[ParetoPoint, ParetoPoint]:
    """The neighbours on the convex hull of the trade-off of which only the second is within a
    limit; the first point of all for both where it is."""
    first = criteria.point([(1, 0), (0, 1)])
    if first.amount <= most:
        return first, first
    last = criteria.point([(0, 1), (1, 0)])
    if last.amount > most:
        raise InfeasibleError
    while (found := criteria.corner(first, last)) is not None:
        if found.amount <= most:
            last = found
        else:
            first = found
    return first, last
