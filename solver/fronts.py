"""Trade-offs: how much of one thing the best assignments cost for less of another.

A point of a trade-off is an assignment to which no other is better in one criterion without being
worse in the other. Points on the convex hull are optima of weighted sums, which elimination finds.
Between two of them there can be others that no weights lead to. Elimination that keeps several
pairs finds all of them. Where those would be too many, integer programs with a limit on the second
criterion find each, or prove that there is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from time import perf_counter

import numpy as np

from solver.compact import Limit
from solver.ilp import WORK_LIMIT, solve_ilp
from solver.minmarginals import Marginals, marginals
from solver.pairs import TooManyPairsError, pairs_below
from solver.problem import (
    FORBIDDEN,
    Agree,
    Costs,
    CostTable,
    Factor,
    Problem,
    SharedCopies,
    costs_of,
    with_domains,
)
from solver.solution import InfeasibleError, NoSolutionFoundError, Status, TooDenseError
from solver.solve import solve
from solver.sums import between

GAP_LIMIT = 100
"""Most integer programs that are solved for the points between those of the convex hull."""

Weights = tuple[int, int]


@dataclass(frozen=True, slots=True)
class ParetoPoint:
    """An assignment to which no other is better in one criterion without being worse in the other.

    ``cost`` is the problem's first level, ``amount`` the second criterion. A point is ``supported``
    if it is on the convex hull of all.
    """

    assignment: tuple[int, ...]
    cost: int
    amount: int
    supported: bool = True


@dataclass(frozen=True, slots=True)
class Front:
    """The points of a trade-off by rising cost and falling amount, each of them proven.

    ``gaps`` are the places after which there may be points that were not found: the first of two
    neighbours each. There are none if the work was done before its limits. Where not even the first
    point ``is_proven`` it is the only one: it has the least cost, but perhaps not the least amount.
    """

    points: tuple[ParetoPoint, ...]
    gaps: tuple[int, ...]
    is_proven: bool = True


def pareto(
    problem: Problem,
    amounts: Sequence[CostTable | SharedCopies],
    *,
    gap_limit: int = GAP_LIMIT,
    work_limit: int = WORK_LIMIT,
    search_seconds: float = math.inf,
) -> Front:
    """All points of the trade-off between a problem's first level and another sum of factors.

    The ``amounts`` are factors over the problem's variables with costs of one level, none of them
    negative or forbidden. Of assignments with equal cost and amount a point has one; on the convex
    hull it is the best by the problem's other levels.

    Integer programs end after ``search_seconds`` in all, or a ``work_limit`` of each, and there are
    at most ``gap_limit`` of them.

    Raises ``ProblemError`` for a problem that is not well formed, ``InfeasibleError`` for one
    without a solution, and ``TooDenseError`` where elimination leaves a core.
    """
    deadline = perf_counter() + search_seconds
    problem.validate()
    sums = Criteria(problem, amounts)
    cheapest, least = sums.point([(1, 0), (0, 1)]), sums.point([(0, 1), (1, 0)])
    if (cheapest.cost, cheapest.amount) == (least.cost, least.amount):
        return Front((cheapest,), ())
    hull = [cheapest, *sums.between(cheapest, least), least]
    points: list[ParetoPoint] = []
    gaps: list[int] = []
    left = gap_limit
    for first, last in pairwise(hull):
        points.append(first)
        every = sums.inside(first, last)
        if every is not None:
            points += every
            continue
        gap = _Gap(sums, first, last)
        while gap.has_room(points[-1]):
            seconds = deadline - perf_counter()
            found = gap.next_after(points[-1], work_limit, seconds) if left else None
            left = max(left - 1, 0)
            if found is None:
                gaps.append(len(points) - 1)
                break
            if found.cost == last.cost:
                break
            points.append(found)
    return Front(marked([*points, least]), tuple(gaps))


def marked(points: Sequence[ParetoPoint]) -> tuple[ParetoPoint, ...]:
    """The points, of which those on their convex hull, and no others, are marked as supported."""
    hull: list[ParetoPoint] = []
    for point in points:
        while len(hull) > 1 and _is_above(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    on_hull = {point.cost for point in hull}
    return tuple(replace(point, supported=point.cost in on_hull) for point in points)


def _is_above(first: ParetoPoint, point: ParetoPoint, last: ParetoPoint) -> bool:
    """Whether a point is above the line between its neighbours."""
    rise = (last.cost - first.cost) * (point.amount - first.amount)
    return rise > (point.cost - first.cost) * (last.amount - first.amount)


class Criteria:
    """The two criteria of a problem, cost and amount, in sums with weights and in levels."""

    def __init__(self, problem: Problem, amounts: Sequence[CostTable | SharedCopies]) -> None:
        self._problem = problem
        self._amounts = tuple(amounts)
        self._spans = span_of(problem.factors), span_of(amounts)
        self.steps = (
            _step(f for f in problem.factors if isinstance(f, (CostTable, SharedCopies))),
            _step(amounts),
        )

    def point(self, levels: Sequence[Weights]) -> ParetoPoint:
        """The best assignment by these sums, one after the other; then by the other levels."""
        solution = solve(self.with_levels(levels))
        if solution.status is not Status.OPTIMAL:
            raise TooDenseError("the problem is too dense for weighted sums to be proven")
        return self.at(solution.assignment)

    def between(self, first: ParetoPoint, last: ParetoPoint) -> list[ParetoPoint]:
        """Corners of the convex hull between two of its points."""
        found = self.corner(first, last)
        if found is None:
            return []
        return [*self.between(first, found), found, *self.between(found, last)]

    def corner(self, first: ParetoPoint, last: ParetoPoint) -> ParetoPoint | None:
        """A corner of the convex hull between two of its points; None if there is none."""
        weights = self.weights(first, last)
        if weights is None or not self.has_room(first, last):
            return None
        found = self.point([weights, (1, 0)])
        on_edge = min(_weigh(first, weights), _weigh(last, weights))
        if _weigh(found, weights) >= on_edge or found.cost in (first.cost, last.cost):
            return None
        return found

    def weights(self, first: ParetoPoint, last: ParetoPoint) -> Weights | None:
        """Weights by which two points are as good; None if there are none whose sums are exact."""
        pairs = (first.cost, first.amount), (last.cost, last.amount)
        return between(*pairs, self._spans)

    def has_room(self, first: ParetoPoint, last: ParetoPoint) -> bool:
        """Whether two points leave room for one between them."""
        steps = last.cost - first.cost, first.amount - last.amount
        return all(gap > step for gap, step in zip(steps, self.steps, strict=True))

    def inside(self, first: ParetoPoint, last: ParetoPoint) -> list[ParetoPoint] | None:
        """All points between two corners; None if they are too many to be found together."""
        weights = self.weights(first, last)
        if weights is None:
            return None
        if not self.has_room(first, last):
            return []
        of_cost, of_amount = self.steps
        corner = replace(first, cost=last.cost - of_cost, amount=first.amount - of_amount)
        problem = self.with_levels([(1, 0), (0, 1)], others=False)
        try:
            found = pairs_below(problem, weights, _weigh(corner, weights))
        except TooManyPairsError:
            return None
        return [
            ParetoPoint(assignment, cost, amount)
            for (cost, amount), assignment in found
            if first.cost < cost < last.cost and last.amount < amount < first.amount
        ]

    def marginals(self, weights: Weights) -> Marginals | None:
        """What each label costs at least by a weighted sum; None if elimination does not tell."""
        try:
            found = marginals(self.with_levels([weights], others=False))
        except TooDenseError:
            return None
        return None if found.left_out else found

    def limited(self, domains: Mapping[int, tuple[int, ...]], most: int) -> tuple[Problem, Limit]:
        """Both criteria, with fewer labels, and the limit of the second."""
        problem = self.with_levels([(1, 0), (0, 1)], others=False)
        amounts = with_domains(replace(problem, levels=1, factors=self._amounts), domains).factors
        limit = Limit(tuple(factor for factor in amounts if not isinstance(factor, Agree)), most)
        return with_domains(problem, domains), limit

    def at(self, assignment: tuple[int, ...]) -> ParetoPoint:
        """The point of an assignment."""
        cost = self._problem.cost(assignment)
        assert cost is not None
        amount = Limit(self._amounts, 0).amount(self._problem, assignment)
        return ParetoPoint(assignment, cost[0], amount)

    def with_levels(self, sums: Sequence[Weights], *, others: bool = True) -> Problem:
        """The problem with these sums as its first levels."""
        rest = self._problem.levels - 1 if others else 0
        levels = len(sums) + rest
        made: dict[int, Costs] = {}

        def of_cost(costs: Costs) -> Costs:
            if id(costs) not in made:
                forbidden = costs[0] >= FORBIDDEN
                allowed = np.where(forbidden, 0, costs)
                own = [weight * allowed[0] for weight, _ in sums]
                found = np.stack([*own, *allowed[1 : 1 + rest]])
                found[0, forbidden] = FORBIDDEN
                made[id(costs)] = found
            return made[id(costs)]

        def of_amount(costs: Costs) -> Costs:
            if id(costs) not in made:
                found = np.zeros((levels, *costs.shape[1:]), np.int64)
                for level, (_, weight) in enumerate(sums):
                    found[level] = weight * costs[0]
                made[id(costs)] = found
            return made[id(costs)]

        factors: list[Factor] = []
        for group, change in ((self._problem.factors, of_cost), (self._amounts, of_amount)):
            for factor in group:
                if isinstance(factor, CostTable):
                    factors.append(CostTable(factor.scope, change(factor.costs)))
                elif isinstance(factor, SharedCopies):
                    prices = change(factor.prices)
                    factors.append(SharedCopies(factor.source, factor.users, prices))
                else:
                    factors.append(factor)
        return Problem(self._problem.labels, levels, self._problem.variables, tuple(factors))


class _Gap:
    """What is between two neighbours of the convex hull: above the line, and below both of them."""

    def __init__(self, sums: Criteria, first: ParetoPoint, last: ParetoPoint) -> None:
        self._sums, self._last = sums, last
        self._weights = sums.weights(first, last)
        self._marginals: Marginals | None = None
        if self._weights is not None and self.has_room(first):
            self._marginals = sums.marginals(self._weights)

    def has_room(self, point: ParetoPoint) -> bool:
        """Whether there is room for a point between one and the last of the gap."""
        if not self._sums.has_room(point, self._last):
            return False
        found = self._marginals
        return found is None or found.optimum[0] <= self._most(point)

    def next_after(
        self, point: ParetoPoint, work_limit: int, search_seconds: float
    ) -> ParetoPoint | None:
        """The point that comes next on the way to the last; None if that was not proven.

        It is the last one itself where there is none between.
        """
        problem, limit = self._sums.limited(self._domains(point), point.amount - 1)
        start = self._last.assignment
        try:
            solution = solve_ilp(
                problem,
                [limit],
                start=start,
                work_limit=work_limit,
                search_seconds=search_seconds,
            )
        except (InfeasibleError, NoSolutionFoundError):
            return None
        if solution.status is not Status.OPTIMAL:
            return None
        return self._sums.at(solution.assignment)

    def _most(self, point: ParetoPoint) -> int:
        """The most that a point of the gap, after another one, can have by the weighted sum."""
        of_cost, of_amount = self._sums.steps
        corner = replace(point, cost=self._last.cost - of_cost, amount=point.amount - of_amount)
        assert self._weights is not None
        return _weigh(corner, self._weights)

    def _domains(self, point: ParetoPoint) -> dict[int, tuple[int, ...]]:
        """The labels with which the weighted sum can be low enough, and those of the last point."""
        found = self._marginals
        if found is None:
            return {}
        most = self._most(point)
        return {
            v: tuple(
                label
                for label, cost in zip(variable.domain, found.costs[v][0].tolist(), strict=True)
                if cost <= most or label == self._last.assignment[v]
            )
            for v, variable in enumerate(found.problem.variables)
        }


def _weigh(point: ParetoPoint, weights: Weights) -> int:
    return weights[0] * point.cost + weights[1] * point.amount


def span_of(factors: Iterable[Factor]) -> int:
    """A bound of what the first level of factors can sum to, on either side of zero."""
    total = 0
    largest: dict[int, int] = {}
    for factor in factors:
        if isinstance(factor, (CostTable, SharedCopies)):
            costs = costs_of(factor)
            if id(costs) not in largest:
                finite = costs[0][costs[0] < FORBIDDEN]
                largest[id(costs)] = int(np.abs(finite).max(initial=0))
            times = 2 if isinstance(factor, CostTable) else 2 * len(set(factor.users))
            total += times * largest[id(costs)]
    return total


def _step(factors: Iterable[CostTable | SharedCopies]) -> int:
    """What all sums of the first level are multiples of."""
    step = 0
    seen: set[int] = set()
    for factor in factors:
        costs = costs_of(factor)
        if id(costs) not in seen:
            seen.add(id(costs))
            step = math.gcd(step, int(np.gcd.reduce(costs[0][costs[0] < FORBIDDEN], initial=0)))
    return step
