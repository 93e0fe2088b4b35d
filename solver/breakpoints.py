"""How far a price may change before an assignment is no longer the best.

With a price that rises, the cost of an assignment rises by what it pays of it: its amount. It stays
the best until another that pays less costs as little. That is where a line through the two, in the
plane of costs and amounts, has no point below it. A few solutions find it: each takes the weight at
which the last one found would be as good (Newton's method, as Dinkelbach has it for ratios).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from solver.compact import Limit
from solver.fronts import LARGEST, span_of
from solver.marginals import TooDenseError
from solver.problem import FORBIDDEN, Costs, CostTable, Factor, Problem, ProblemError, SharedCopies
from solver.solution import Status
from solver.solve import solve

Pair = tuple[int, int]
"""The cost and the amount of an assignment; or their weights."""


@dataclass(frozen=True, slots=True)
class Steadiness:
    """What may be added to the cost for each unit of an amount: from ``low`` to ``high``.

    Within that, the assignment is the best. At an end another is as good, and beyond it better;
    None where there is no end. Where numbers are too large to be weighed to the last digit
    (``is_exact`` is false), the assignment may be beaten a little before an end.
    """

    low: Fraction | None
    high: Fraction | None
    is_exact: bool


def steadiness(
    problem: Problem,
    amounts: Sequence[CostTable | SharedCopies],
    assignment: Sequence[int],
    least: Fraction,
) -> Steadiness:
    """How much may be added to the first level for each unit of an amount; at least ``least``.

    The assignment has to be the best by the first level. The ``amounts`` are factors with costs of
    one level, none of them negative or forbidden. For each one of shared copies the problem has one
    with the same source and users, whose prices stay zero or more at ``least``; if it has several,
    amounts go with them in order.

    Raises ``ProblemError`` for other amounts, ``TooDenseError`` where elimination leaves a core.
    """
    search = _Search(problem, amounts, assignment)
    return Steadiness(search.low(least), search.high(), search.is_exact)


class _Search:
    def __init__(
        self,
        problem: Problem,
        amounts: Sequence[CostTable | SharedCopies],
        assignment: Sequence[int],
    ) -> None:
        self._problem = problem
        self._limit = Limit(tuple(amounts), 0)
        self._tables = [factor for factor in amounts if isinstance(factor, CostTable)]
        self._copies: dict[tuple[int, tuple[int, ...]], list[Costs]] = {}
        for factor in amounts:
            if isinstance(factor, SharedCopies):
                self._copies.setdefault((factor.source, factor.users), []).append(factor.prices)
        self._spans = span_of(problem.factors), span_of(amounts)
        self._own = self._pair(assignment)
        self.is_exact = True

    def high(self) -> Fraction | None:
        """Where an assignment that pays less becomes as good; None where none does."""
        amount = self._own[1]
        if not amount:
            return None
        # The cheapest of those that pay least are as good as this one at last.
        other = self._best([(0, 1), (1, 0)])
        if other[1] == amount:
            return None
        return self._closer(other, rising=True)

    def low(self, least: Fraction) -> Fraction | None:
        """Where an assignment that pays more becomes as good; None where none does."""
        weights, _ = self._weights(least, rising=False)
        other = self._best([weights])
        if _weigh(other, weights) >= _weigh(self._own, weights):
            return None
        return self._closer(other, rising=False)

    def _closer(self, other: Pair, *, rising: bool) -> Fraction:
        """The end, from one side: where this one and another are equal, and none is better."""
        while True:
            cost, amount = self._own
            end = Fraction(other[0] - cost, amount - other[1])
            weights, is_exact = self._weights(end, rising=rising)
            found = self._best([weights])
            if _weigh(found, weights) >= _weigh(self._own, weights):
                self.is_exact &= is_exact
                return end
            other = found

    def _weights(self, end: Fraction, *, rising: bool) -> tuple[Pair, bool]:
        """Weights of cost and amount whose sums are exact: those of an end, or from before it."""
        most = int(LARGEST / (self._spans[0] + abs(end) * self._spans[1] + 1))
        if end.denominator <= most:
            return (end.denominator, end.numerator), True
        if most < 1:
            raise TooDenseError("the costs are too large to be weighed")
        scaled = end * most
        return (most, scaled.__floor__() if rising else scaled.__ceil__()), False

    def _best(self, levels: Sequence[Pair]) -> Pair:
        solution = solve(self._weighted(levels))
        if solution.status is not Status.OPTIMAL:
            raise TooDenseError("the problem is too dense for weighted sums to be proven")
        return self._pair(solution.assignment)

    def _pair(self, assignment: Sequence[int]) -> Pair:
        cost = self._problem.cost(assignment)
        if cost is None:
            raise ProblemError("the assignment is forbidden")
        return cost[0], self._limit.amount(self._problem, assignment)

    def _weighted(self, levels: Sequence[Pair]) -> Problem:
        """The problem with these sums of costs and amounts for levels."""
        made: dict[tuple[int, int], Costs] = {}

        def summed(costs: Costs, amounts: Costs | None) -> Costs:
            key = id(costs), id(amounts)
            if key not in made:
                forbidden = costs[0] >= FORBIDDEN
                own = np.where(forbidden, 0, costs[0])
                more = np.zeros_like(own) if amounts is None else amounts[0]
                found = np.stack([of_cost * own + by * more for of_cost, by in levels])
                found[0, forbidden] = FORBIDDEN
                made[key] = found
            return made[key]

        factors: list[Factor] = []
        left = {key: prices[::-1] for key, prices in self._copies.items()}
        for factor in self._problem.factors:
            if isinstance(factor, CostTable):
                factors.append(CostTable(factor.scope, summed(factor.costs, None)))
            elif isinstance(factor, SharedCopies):
                amounts = left.get((factor.source, factor.users))
                prices = summed(factor.prices, amounts.pop() if amounts else None)
                factors.append(SharedCopies(factor.source, factor.users, prices))
            else:
                factors.append(factor)
        for (source, users), amounts in left.items():
            if amounts:
                raise ProblemError(f"the problem has no copies of {source} for {users}")
        for table in self._tables:
            costs = np.stack([by * table.costs[0] for _, by in levels])
            factors.append(CostTable(table.scope, costs))
        return Problem(self._problem.labels, len(levels), self._problem.variables, tuple(factors))


def _weigh(pair: Pair, weights: Pair) -> int:
    return weights[0] * pair[0] + weights[1] * pair[1]
