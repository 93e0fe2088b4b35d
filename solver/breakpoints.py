"""How far prices may change before an assignment is no longer the best.

With a price that rises, the cost of an assignment rises by what it pays of it: its amount. It stays
the best until another that pays less costs as little. That is where a line through the two, in the
plane of costs and amounts, has no point below it. A few solutions find it: each takes the weight at
which the last one found would be as good (Newton's method, as Dinkelbach has it for ratios).

The solutions that all prices need next are found together: the problems have the same tables but
for weights, so that one pass of elimination goes over all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import prod

import numpy as np
from numpy.typing import NDArray

from solver.eliminate import eliminate_each
from solver.fronts import LARGEST
from solver.marginals import KEPT_LIMIT, TABLE_LIMIT, TooDenseError
from solver.order import elimination_order
from solver.problem import FORBIDDEN, Costs, CostTable, Factor, Problem, ProblemError, SharedCopies
from solver.reduce import reduce

Amounts = Sequence[CostTable | SharedCopies]
"""Factors with costs of one level: what a price is multiplied by."""

Pair = tuple[int, int]
"""The cost and the amount of an assignment; or their weights."""

Places = NDArray[np.intp]

_TOGETHER = 64
"""Prices that are looked at together: each is a level of one problem."""


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
    problem: Problem, prices: Sequence[tuple[Amounts, Fraction]], assignment: Sequence[int]
) -> Iterator[Steadiness]:
    """How much may be added to the first level for each unit of an amount, for each price alone.

    A price is its amounts, and the least that may be added. The assignment has to be the best by
    the first level. No amount is negative or forbidden. For each one of shared copies the problem
    has one with the same source and users, whose prices stay zero or more at the least; if it has
    several, amounts go with them in order.

    Raises ``ProblemError`` for other amounts, ``TooDenseError`` where elimination leaves a core.
    """
    for start in range(0, len(prices), _TOGETHER):
        yield from _Search(problem, prices[start : start + _TOGETHER], assignment).found()


@dataclass(frozen=True, slots=True)
class _Look:
    """An end of a price that is looked for; ``end`` is as near as it is known to be, if it is."""

    number: int
    rising: bool
    end: Fraction | None = None


class _Search:
    def __init__(
        self,
        problem: Problem,
        prices: Sequence[tuple[Amounts, Fraction]],
        assignment: Sequence[int],
    ) -> None:
        self._least = [least for _, least in prices]
        widened = _with_levels(problem, [amounts for amounts, _ in prices])
        own = widened.cost(assignment)
        if own is None:
            raise ProblemError("the assignment is forbidden")
        self._own = [(own[0], amount) for amount in own[1:]]
        self._sums = _Sums(widened)
        self._is_exact = [True] * len(prices)

    def found(self) -> Iterator[Steadiness]:
        """The ends of all prices, in their order."""
        ends: dict[tuple[int, bool], Fraction | None] = {}
        looks = [
            _Look(number, rising) for number in range(len(self._own)) for rising in (False, True)
        ]
        while looks:
            weighed = [(look.number, *self._weights(look)) for look in looks]
            best = self._sums.best([(1 + number, weights) for number, weights, _ in weighed])
            further = []
            for look, other, (number, weights, is_exact) in zip(looks, best, weighed, strict=True):
                own = self._own[number]
                if _weigh(other, weights) < _weigh(own, weights):
                    end = Fraction(other[0] - own[0], own[1] - other[1])
                    further.append(_Look(number, look.rising, end))
                else:
                    ends[number, look.rising] = look.end
                    self._is_exact[number] &= is_exact or look.end is None
            looks = further
        for number, is_exact in enumerate(self._is_exact):
            yield Steadiness(ends[number, False], ends[number, True], is_exact)

    def _weights(self, look: _Look) -> tuple[Pair, bool]:
        """Weights of cost and amount whose sums are exact: those of an end, or from before it.

        Where no end is known: those of the least, or of a price that is all that counts.
        """
        if look.end is None and look.rising:
            return (0, 1), True
        end = self._least[look.number] if look.end is None else look.end
        of_cost, of_amount = self._sums.spans[0], self._sums.spans[1 + look.number]
        most = int(LARGEST / (of_cost + abs(end) * of_amount + 1))
        if end.denominator <= most:
            return (end.denominator, end.numerator), True
        if most < 1:
            raise TooDenseError("the costs are too large to be weighed")
        scaled = end * most
        return (most, scaled.__floor__() if look.rising else scaled.__ceil__()), False


class _Sums:
    """Sums of a problem's first level and one of its others, with weights, that are minimised."""

    def __init__(self, problem: Problem) -> None:
        reduced = reduce(problem, TABLE_LIMIT)
        order = elimination_order(reduced.sizes, reduced.scopes, TABLE_LIMIT)
        if order.core:
            raise TooDenseError("elimination would need tables that are too large")
        self._order, self._sizes, self._constant = order, reduced.sizes, reduced.constant
        joined: dict[tuple[int, ...], NDArray[np.float64]] = {}
        spans = np.zeros(problem.levels)
        for scope, table in zip(reduced.scopes, reduced.tables, strict=True):
            barred = table[0] >= FORBIDDEN
            costs = np.where(barred, 0.0, table)
            spans += np.abs(costs).max(axis=tuple(range(1, costs.ndim)))
            costs[0, barred] = np.inf
            axes = sorted(range(len(scope)), key=[order.position[v] for v in scope].__getitem__)
            costs = costs.transpose(0, *[1 + axis for axis in axes])
            own = tuple([scope[axis] for axis in axes])
            joined[own] = joined[own] + costs if own in joined else costs
        self.spans: list[int] = spans.astype(np.int64).tolist()
        """By level: what no sum of entries exceeds, on either side of zero."""
        self._scopes = list(joined)
        self._shapes = [costs.shape[1:] for costs in joined.values()]
        sizes = [prod(shape) for shape in self._shapes]
        self._starts: list[int] = [0, *np.cumsum(sizes).tolist()]
        flat = [costs.reshape(problem.levels, -1) for costs in joined.values()]
        self._costs = np.concatenate([np.zeros((problem.levels, 0)), *flat], axis=1)
        self._barred = np.isinf(self._costs[0])
        self._costs[0, self._barred] = 0.0
        self._lookups = list(self._by_arity())

    def best(self, weighed: Sequence[tuple[int, Pair]]) -> list[Pair]:
        """The cost and the amount of the best assignment by each sum: a level, and the weights."""
        if not self._scopes:
            return [(self._constant[0], self._constant[level]) for level, _ in weighed]
        most = max(KEPT_LIMIT // self._order.work, 1)
        parts = [weighed[start : start + most] for start in range(0, len(weighed), most)]
        return [pair for part in parts for pair in self._best(part)]

    def _best(self, weighed: Sequence[tuple[int, Pair]]) -> Iterator[Pair]:
        levels = np.array([level for level, _ in weighed])
        weights = np.array([pair for _, pair in weighed])
        sums = weights[:, :1] * self._costs[0] + weights[:, 1:] * self._costs[levels]
        lanes = np.where(self._barred, np.inf, sums)
        tables = [
            lanes[:, start:end].reshape(-1, *shape)
            for (start, end), shape in zip(pairwise(self._starts), self._shapes, strict=True)
        ]
        values = eliminate_each(self._order, self._sizes, self._scopes, tables)
        entries = [
            starts + (values[:, scopes] * strides).sum(axis=2)
            for starts, scopes, strides in self._lookups
        ]
        at = np.concatenate(entries, axis=1)
        costs = self._costs[0][at].sum(axis=1).astype(np.int64).tolist()
        amounts = self._costs[levels[:, None], at].sum(axis=1).astype(np.int64).tolist()
        for level, cost, amount in zip(levels.tolist(), costs, amounts, strict=True):
            yield cost + self._constant[0], amount + self._constant[level]

    def _by_arity(self) -> Iterator[tuple[Places, Places, Places]]:
        """Of tables over equally many nodes: their starts, and their scopes with the strides."""
        for arity in {len(scope) for scope in self._scopes}:
            rows = [n for n, scope in enumerate(self._scopes) if len(scope) == arity]
            strides = [[prod(self._shapes[n][axis + 1 :]) for axis in range(arity)] for n in rows]
            starts, scopes = [self._starts[n] for n in rows], [self._scopes[n] for n in rows]
            yield np.array(starts), np.array(scopes), np.array(strides)


def _with_levels(problem: Problem, prices: Sequence[Amounts]) -> Problem:
    """The problem's first level, with the amounts of each price as a level of its own."""
    levels = 1 + len(prices)
    made: dict[tuple[int, ...], Costs] = {}

    def widened(parts: Sequence[tuple[int, Costs]]) -> Costs:
        key = tuple([part for level, costs in parts for part in (level, id(costs))])
        if key not in made:
            made[key] = np.zeros((levels, *parts[0][1].shape[1:]), np.int64)
            for level, costs in parts:
                made[key][level] = costs[0]
        return made[key]

    factors: list[Factor] = []
    copied: dict[tuple[int, tuple[int, ...]], list[list[tuple[int, Costs]]]] = {}
    for level, amounts in enumerate(prices, 1):
        places: Counter[tuple[int, tuple[int, ...]]] = Counter()
        for amount in amounts:
            if isinstance(amount, CostTable):
                factors.append(CostTable(amount.scope, widened([(level, amount.costs)])))
                continue
            key = amount.source, amount.users
            parts = copied.setdefault(key, [])
            if places[key] == len(parts):
                parts.append([])
            parts[places[key]].append((level, amount.prices))
            places[key] += 1
    counts: dict[int, bool] = {}
    for factor in problem.factors:
        if isinstance(factor, CostTable):
            costs = factor.costs
            if id(costs) not in counts:
                counts[id(costs)] = bool(costs[0].any())
            if counts[id(costs)]:
                factors.append(CostTable(factor.scope, widened([(0, costs)])))
        elif isinstance(factor, SharedCopies):
            left = copied.get((factor.source, factor.users))
            own = widened([(0, factor.prices), *(left.pop(0) if left else [])])
            factors.append(SharedCopies(factor.source, factor.users, own))
        else:
            factors.append(factor)
    for (source, users), left in copied.items():
        if left:
            raise ProblemError(f"the problem has no copies of {source} for {users}")
    return Problem(problem.labels, levels, problem.variables, tuple(factors))


def _weigh(pair: Pair, weights: Pair) -> int:
    return weights[0] * pair[0] + weights[1] * pair[1]
