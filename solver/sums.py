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
from solver.lanes import Lanes
from solver.order import Order, elimination_order
from solver.prepared import KEPT_LIMIT, TABLE_LIMIT
from solver.problem import FORBIDDEN, Costs, CostTable, Factor, Problem, ProblemError, SharedCopies
from solver.reduce import Reduced, reduce
from solver.solution import TooDenseError

Amounts = Sequence[CostTable | SharedCopies]
"""Factors with costs of one level, none of them negative or forbidden."""

Pair = tuple[int, int]
"""The cost and the amount of an assignment; or their weights."""

Places = NDArray[np.intp]

LARGEST = 2**52
"""Sums below this are exact in one number."""

CARRY = 2**36
"""What the second of two numbers stays below, as the lower digits of a sum. Sums of more tables
than a node can have are exact before digits are carried."""

WIDEST = LARGEST * CARRY
"""Weighted sums stay below this, so that they are exact in two numbers."""


def weigh(pair: Pair, weights: Pair) -> int:
    """A weighted sum."""
    return weights[0] * pair[0] + weights[1] * pair[1]


def between(
    first: Pair, last: Pair, spans: Pair, steps: Pair = (1, 1), largest: int = LARGEST
) -> Pair | None:
    """Weights by which two pairs are as good, or nearly so where sums would not stay below the
    ``largest``.

    The last one costs more, of a smaller amount. Costs and amounts are multiples of ``steps``, of
    which sums do not exceed ``spans``. None where there are no weights.
    """
    of_cost, of_amount = (first[1] - last[1]) * steps[0], (last[0] - first[0]) * steps[1]
    common = math.gcd(of_cost, of_amount)
    of_cost, of_amount = of_cost // common, of_amount // common
    while of_cost * spans[0] + of_amount * spans[1] >= largest:
        if of_cost == of_amount == 1:
            return None
        of_cost, of_amount = max(of_cost // 2, 1), max(of_amount // 2, 1)
    return of_cost * steps[1], of_amount * steps[0]


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
        self._order, self._sizes = order, reduced.sizes
        joined = _joined(reduced, order)
        self._scopes = list(joined)
        self._shapes = [barred.shape for _, barred in joined.values()]
        sizes = [prod(shape) for shape in self._shapes]
        self._starts: list[int] = [0, *np.cumsum(sizes).tolist()]
        entries = np.zeros((problem.levels, self._starts[-1]), np.int64)
        self._barred = np.zeros(self._starts[-1], np.bool_)
        spans = np.zeros(problem.levels, np.int64)
        # What all have in common is a part of the constant, so that numbers are small.
        self._constant = np.array(reduced.constant, np.int64)
        for start, (costs, barred) in zip(self._starts, joined.values(), strict=False):
            flat, is_barred = costs.reshape(problem.levels, -1), barred.reshape(-1)
            least = flat[:, ~is_barred].min(axis=1) if not is_barred.all() else flat[:, 0]
            flat = np.where(is_barred, 0, flat - least[:, None])
            spans += flat.max(axis=1)
            self._constant += least
            entries[:, start : start + flat.shape[1]] = flat
            self._barred[start : start + flat.shape[1]] = is_barred
        each = np.maximum(np.gcd.reduce(entries, axis=1, initial=0), 1)
        self._steps: list[int] = each.tolist()
        self._spans: list[int] = (spans // each).tolist()
        self._costs = (entries // each[:, None]).astype(np.float64)
        self._lookups = list(self._by_arity())

    def extent(self, level: int) -> tuple[Pair, Pair]:
        """How many steps no sum of costs and none of amounts exceeds; and these steps: what all
        differences are multiples of."""
        spans, steps = self._spans, self._steps
        return (spans[0], spans[level]), (steps[0], steps[level])

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
            constant: list[int] = self._constant.tolist()
            return [(constant[0], constant[level]) for level, _ in weighed]
        most = max(KEPT_LIMIT // self._order.work, 1)
        found: dict[int, Pair] = {}
        places: dict[bool, list[int]] = {False: [], True: []}
        for place, (level, weights) in enumerate(weighed):
            places[self._is_wide(level, weights)].append(place)
        for is_wide, own in places.items():
            for start in range(0, len(own), most):
                part = own[start : start + most]
                best = self._best([weighed[place] for place in part], is_wide=is_wide)
                found |= zip(part, best, strict=True)
        return [found[place] for place in range(len(weighed))]

    def bounds(self, weighed: Sequence[tuple[int, Pair]]) -> list[int]:
        """What no assignment is below, by each sum: the least entries of all tables together."""
        constant: list[int] = self._constant.tolist()
        found = []
        for level, weights in weighed:
            found.append(weigh((constant[0], constant[level]), weights))
            if self._scopes:
                is_wide = self._is_wide(level, weights)
                sums = self._weighted([(level, weights)], is_wide=is_wide)[0]
                least = np.minimum.reduceat(sums, self._starts[:-1])
                bound = int(least.real.sum())
                if is_wide:
                    bound = bound * CARRY + int(least.imag.astype(np.int64).sum())
                found[-1] += self._in_steps(level, weights)[1] * bound
        return found

    def _best(self, weighed: Sequence[tuple[int, Pair]], *, is_wide: bool) -> Iterator[Pair]:
        levels = np.array([level for level, _ in weighed])
        lanes = self._weighted(weighed, is_wide=is_wide)
        tables = [
            lanes[:, start:end].reshape(-1, *shape)
            for (start, end), shape in zip(pairwise(self._starts), self._shapes, strict=True)
        ]
        carry = CARRY if is_wide else None
        values = eliminate_each(self._order, self._sizes, self._scopes, tables, carry)
        entries = [
            starts + (values[:, scopes] * strides).sum(axis=2)
            for starts, scopes, strides in self._lookups
        ]
        at = np.concatenate(entries, axis=1)
        costs = self._costs[0][at].sum(axis=1).astype(np.int64).tolist()
        amounts = self._costs[levels[:, None], at].sum(axis=1).astype(np.int64).tolist()
        constant: list[int] = self._constant.tolist()
        for level, cost, amount in zip(levels.tolist(), costs, amounts, strict=True):
            yield (
                cost * self._steps[0] + constant[0],
                amount * self._steps[level] + constant[level],
            )

    def _is_wide(self, level: int, weights: Pair) -> bool:
        """Whether sums take two numbers."""
        of_cost, of_amount = self._in_steps(level, weights)[0]
        spans = self._spans
        return abs(of_cost) * spans[0] + abs(of_amount) * spans[level] >= LARGEST

    def _weighted(self, weighed: Sequence[tuple[int, Pair]], *, is_wide: bool) -> Lanes:
        """The entries (sums, entries) of all tables, in steps."""
        sums: Lanes
        if not is_wide:
            levels = np.array([level for level, _ in weighed])
            weights = np.array([self._in_steps(level, pair)[0] for level, pair in weighed])
            sums = weights[:, :1] * self._costs[0] + weights[:, 1:] * self._costs[levels]
        else:
            sums = np.empty((len(weighed), len(self._barred)), np.complex128)
            whole = self._costs.astype(np.int64).astype(object)
            for row, (level, pair) in zip(sums, weighed, strict=True):
                of_cost, of_amount = self._in_steps(level, pair)[0]
                each = of_cost * whole[0] + of_amount * whole[level]
                row.real, row.imag = each // CARRY, each % CARRY
        sums[:, self._barred] = np.inf
        return sums

    def _in_steps(self, level: int, weights: Pair) -> tuple[Pair, int]:
        """Weights of whole steps in lowest terms, and what they were divided by."""
        of_cost, of_amount = weights[0] * self._steps[0], weights[1] * self._steps[level]
        common = math.gcd(of_cost, of_amount)
        return (of_cost // common, of_amount // common), common

    def _by_arity(self) -> Iterator[tuple[Places, Places, Places]]:
        """Of tables over equally many nodes: their starts, and their scopes with the strides."""
        for arity in {len(scope) for scope in self._scopes}:
            rows = [n for n, scope in enumerate(self._scopes) if len(scope) == arity]
            strides = [[prod(self._shapes[n][axis + 1 :]) for axis in range(arity)] for n in rows]
            starts, scopes = [self._starts[n] for n in rows], [self._scopes[n] for n in rows]
            yield np.array(starts), np.array(scopes), np.array(strides)


def _joined(
    reduced: Reduced, order: Order
) -> dict[tuple[int, ...], tuple[Costs, NDArray[np.bool_]]]:
    """The tables by scope, in the order's order: entries, and which of them are forbidden."""
    joined: dict[tuple[int, ...], tuple[Costs, NDArray[np.bool_]]] = {}
    for scope, table in zip(reduced.scopes, reduced.tables, strict=True):
        barred = table[0] >= FORBIDDEN
        axes = sorted(range(len(scope)), key=[order.position[v] for v in scope].__getitem__)
        costs = np.where(barred, 0, table).transpose(0, *[1 + axis for axis in axes])
        barred = barred.transpose(axes)
        own = tuple([scope[axis] for axis in axes])
        if own in joined:
            costs, barred = costs + joined[own][0], barred | joined[own][1]
        joined[own] = costs, barred
    return joined


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
