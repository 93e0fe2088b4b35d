"""Sums of a cost and of amounts, with weights: what the best assignments by many of them cost.

The problems have the same tables but for weights, so that one pass of elimination goes over all.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import prod

import numpy as np
from numpy.typing import NDArray

from solver.eliminate import eliminate_each
from solver.order import elimination_order
from solver.prepared import KEPT_LIMIT, TABLE_LIMIT
from solver.problem import FORBIDDEN, Costs, CostTable, Factor, Problem, ProblemError, SharedCopies
from solver.reduce import reduce
from solver.solution import TooDenseError

Amounts = Sequence[CostTable | SharedCopies]
"""Factors with costs of one level, none of them negative or forbidden."""

Pair = tuple[int, int]
"""The cost and the amount of an assignment; or their weights."""

Places = NDArray[np.intp]

LARGEST = 2**52
"""Weighted sums stay below this, so that they are exact."""


def weigh(pair: Pair, weights: Pair) -> int:
    """A weighted sum."""
    return weights[0] * pair[0] + weights[1] * pair[1]


def between(first: Pair, last: Pair, spans: Pair) -> Pair | None:
    """Weights by which two pairs are as good, or nearly so where sums would not be exact.

    The last one costs more, of a smaller amount; ``spans`` are what costs and amounts do not
    exceed. None where there are no weights.
    """
    of_cost, of_amount = first[1] - last[1], last[0] - first[0]
    common = math.gcd(of_cost, of_amount)
    of_cost, of_amount = of_cost // common, of_amount // common
    while of_cost * spans[0] + of_amount * spans[1] >= LARGEST:
        if of_cost == of_amount == 1:
            return None
        of_cost, of_amount = max(of_cost // 2, 1), max(of_amount // 2, 1)
    return of_cost, of_amount


class WeightedSums:
    """Sums of a problem's first level and one of its others, with weights, that are minimised."""

    def __init__(
        self, problem: Problem, amounts: Sequence[Amounts], *, is_strict: bool = False
    ) -> None:
        """Each of the ``amounts`` becomes a level.

        To amounts of shared copies belong those of the problem with the same source and users; if
        it has several, they go together in order. Unless it ``is_strict``, it may have none.

        Raises ``ProblemError`` where it has none, ``TooDenseError`` where elimination leaves a
        core.
        """
        self._problem = problem = _with_levels(problem, amounts, is_strict=is_strict)
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

    def of(self, assignment: Sequence[int]) -> tuple[int, ...]:
        """The cost and the amounts of an assignment; raises ``ProblemError`` if it is forbidden."""
        cost = self._problem.cost(assignment)
        if cost is None:
            raise ProblemError("the assignment is forbidden")
        return cost

    def best(self, weighed: Sequence[tuple[int, Pair]]) -> list[Pair]:
        """The cost and the amount of the best assignment by each sum: a level, and the weights.

        With a weight that is nothing, what it weighs may be more than it has to be.
        """
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


def _with_levels(problem: Problem, prices: Sequence[Amounts], *, is_strict: bool) -> Problem:
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
        if left and is_strict:
            raise ProblemError(f"the problem has no copies of {source} for {users}")
        factors += [SharedCopies(source, users, widened(parts)) for parts in left]
    return Problem(problem.labels, levels, problem.variables, tuple(factors))
