"""All that two criteria can be together: elimination that keeps several pairs for each choice.

Where elimination keeps the least cost of what lies behind a node, for each choice of its
neighbours, this keeps each pair of cost and amount that no other one beats. Only pairs count whose
weighted sum can stay below a limit: what the rest costs at least by that sum is known from one pass
of elimination and one back. Near the least weighted sum, few are left.

Further levels, which decide between equal costs, are the digits of one more number.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from solver.eliminate import Elimination, Table, eliminate
from solver.lanes import pack
from solver.minmarginals import everything
from solver.order import quick_order
from solver.prepared import KEPT_LIMIT, TABLE_LIMIT
from solver.problem import FORBIDDEN, Costs, Problem
from solver.reduce import Reduced, reduce

PAIRS_LIMIT: Final = 2**22
"""Most pairs at a time."""

_TIMES: Final = 8
"""So many times as many pairs may be put together in all, so that it ends."""

_LARGEST: Final = 2**62

Integers: TypeAlias = NDArray[np.int64]
Places: TypeAlias = NDArray[np.intp]


class TooManyPairsError(Exception):
    """There are too many pairs below the limit, or elimination needs tables that are too large."""


def pairs_below(
    problem: Problem, weights: tuple[int, int], most: int, *, pairs_limit: int = PAIRS_LIMIT
) -> list[tuple[tuple[int, int], tuple[int, ...]]]:
    """The pairs of the first two levels of a problem, cost and amount, to which no other is as good
    in both, by rising cost.

    They come with an assignment each, and are all of those whose weighted sum is ``most`` or less.
    Of equal costs that is better which is by the further levels, one after the other.
    ``weights`` are such that sums are exact. The problem has an assignment.

    Raises ``TooManyPairsError`` for more than ``pairs_limit`` at a time or many times as many in
    all, and where further levels do not fit into one number.
    """
    reduced = reduce(problem, TABLE_LIMIT)
    order = quick_order(reduced.sizes, reduced.scopes, TABLE_LIMIT)
    if order.core or order.work > KEPT_LIMIT:
        raise TooManyPairsError
    of_cost, of_amount = weights
    sums: dict[int, Costs] = {}
    for table in reduced.tables:
        if id(table) not in sums:
            weighed = of_cost * table[:1] + of_amount * table[1:2]
            sums[id(table)] = np.where(table[:1] >= FORBIDDEN, FORBIDDEN, weighed)
    packed = pack([sums[id(table)] for table in reduced.tables], 1)
    elimination = eliminate(order, reduced.sizes, reduced.scopes, packed, keep="both")
    wholes = everything(order, elimination.sums, packed.lanes)
    constant = of_cost * reduced.constant[0] + of_amount * reduced.constant[1]
    digits = _Digits(reduced.tables)
    search = _Search(reduced, digits, elimination, weights, most - constant, pairs_limit)
    for v, whole in zip(order.nodes, wholes, strict=True):
        search.eliminate(v, whole[0])
    cost, amount = reduced.constant[:2]
    return [
        ((cost + own[0], amount + own[1]), reduced.labels(values)) for own, values in search.found()
    ]


class _Digits:
    """The levels after the first two as one number, which adds up and compares as they do."""

    def __init__(self, tables: Sequence[Costs]) -> None:
        times = Counter(map(id, tables))
        unique = {id(table): table for table in tables}
        levels = len(tables[0]) if tables else 2
        spans = np.zeros(levels, np.int64)
        self._least: dict[int, Integers] = {}
        for key, table in unique.items():
            allowed = table[:, table[0] < FORBIDDEN]
            self._least[key] = allowed.min(axis=1, initial=0)
            spans += times[key] * (allowed.max(axis=1, initial=0) - self._least[key])
        sizes = [1 + span for span in spans[2:].tolist()]
        self._units = [math.prod(sizes[place + 1 :]) for place in range(len(sizes))]
        if math.prod(sizes) >= _LARGEST:
            raise TooManyPairsError

    def of(self, table: Costs) -> Integers:
        """Those of a table of the problem; of no use where it forbids."""
        digits = np.zeros(table.shape[1:], np.int64)
        for level, unit in enumerate(self._units, 2):
            digits += (table[level] - self._least[id(table)][level]) * unit
        return digits


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Pairs by a choice, and how each came about."""

    starts: Places
    """By the number of the choice: where its pairs start, and where the last one ends."""
    cost: Integers
    digits: Integers
    amount: Integers
    values: Places
    """The node's value."""
    parts: list[tuple[int, Places]]
    """Nodes whose pairs are in these, and the place of their own."""


class _Search:
    def __init__(
        self,
        reduced: Reduced,
        digits: _Digits,
        elimination: Elimination,
        weights: tuple[int, int],
        most: int,
        pairs_limit: int,
    ) -> None:
        self._reduced, self._digits, self._elimination = reduced, digits, elimination
        self._weights, self._most, self._pairs_limit = weights, most, pairs_limit
        self._left = _TIMES * pairs_limit
        self._pairs: dict[int, _Pairs] = {}
        self._best = {
            v: best[0].ravel()
            for v, (_, best) in zip(elimination.order.nodes, elimination.sums, strict=True)
        }
        """By node, the least weighted sum that it left, by the number of the choice."""
        self._made: dict[int, Costs] = {}

    def eliminate(self, v: int, whole: NDArray[np.floating[Any]]) -> None:
        """Finds the pairs that a node leaves; ``whole`` is by its value and its neighbours'."""
        bucket = self._elimination.buckets[v]
        if not bucket:
            return
        order, sizes = self._elimination.order, self._reduced.sizes
        near = order.neighbours[order.position[v]]
        scope = (v, *near)
        at = np.flatnonzero(whole.ravel() <= self._most)
        values = dict(zip(scope, np.unravel_index(at, whole.shape), strict=True))
        choice = _numbers(near, values, sizes, len(at))
        # What everything else costs at least.
        rest = whole.min(axis=0).ravel()[choice] - self._best[v][choice]
        rows = _Rows(len(at))
        below = []
        for table in bucket:
            own = _numbers(table[0], values, sizes, len(at))
            if table[2] >= 0:
                costs = self._costs(table)
                rows.cost += costs[0, own]
                rows.amount += costs[1, own]
                rows.digits += costs[2, own]
            else:
                below.append((~table[2], own))
                rest += self._best[~table[2]][own]
        for u, own in below:
            rest -= self._best[u][own]
            self._join(rows, u, own, rest)
        kept = _unbeaten(choice[rows.entry], rows)
        rows.keep(kept)
        count = math.prod([sizes[u] for u in near])
        starts = np.searchsorted(choice[rows.entry], np.arange(count + 1))
        own_values = np.asarray(values[v])[rows.entry]
        self._pairs[v] = _Pairs(starts, rows.cost, rows.digits, rows.amount, own_values, rows.parts)

    def found(self) -> list[tuple[tuple[int, int], list[int]]]:
        """The pairs of all together, with the values of all nodes."""
        order = self._elimination.order
        roots = [v for v, near in zip(order.nodes, order.neighbours, strict=True) if not near]
        roots = [v for v in roots if v in self._pairs]
        rows = _Rows(1)
        rest = np.array([sum(float(self._best[v][0]) for v in roots)])
        for v in roots:
            rest = rest - self._best[v][0]
            self._join(rows, v, np.zeros(1, np.intp), rest)
            rows.keep(_unbeaten(np.zeros(len(rows.cost), np.intp), rows))
        pairs = zip(rows.cost.tolist(), rows.amount.tolist(), strict=True)
        return [(pair, self._values(rows.parts, row)) for row, pair in enumerate(pairs)]

    def _costs(self, entry: Table) -> Costs:
        """Costs, amounts and digits (3, choices) of one of the problem's tables, by the number of
        the choice there."""
        scope, _, number = entry
        given = self._reduced.scopes[number]
        axes = [1 + given.index(u) for u in scope]
        table = self._reduced.tables[number]
        if id(table) not in self._made:
            self._made[id(table)] = np.stack([*table[:2], self._digits.of(table)])
        return self._made[id(table)].transpose(0, *axes).reshape(3, -1)

    def _join(self, rows: _Rows, u: int, own: Places, rest: NDArray[np.floating[Any]]) -> None:
        """Adds each pair of another node to each row, by the number of the choice there."""
        pairs = self._pairs[u]
        starts = pairs.starts[own[rows.entry]]
        counts = pairs.starts[own[rows.entry] + 1] - starts
        total = int(counts.sum())
        self._left -= total
        if total > self._pairs_limit or self._left < 0:
            raise TooManyPairsError
        repeated = np.repeat(np.arange(len(counts)), counts)
        first = np.cumsum(counts) - counts
        places = np.arange(total) - first[repeated] + starts[repeated]
        rows.keep(repeated)
        rows.cost += pairs.cost[places]
        rows.digits += pairs.digits[places]
        rows.amount += pairs.amount[places]
        rows.parts.append((u, places))
        weighed = self._weights[0] * rows.cost + self._weights[1] * rows.amount
        rows.keep(np.flatnonzero(weighed + rest[rows.entry] <= self._most))

    def _values(self, parts: list[tuple[int, Places]], row: int) -> list[int]:
        values = [0] * len(self._reduced.sizes)
        stack = [(u, int(places[row])) for u, places in parts]
        while stack:
            v, at = stack.pop()
            pairs = self._pairs[v]
            values[v] = int(pairs.values[at])
            stack += [(u, int(places[at])) for u, places in pairs.parts]
        return values


class _Rows:
    """Pairs that are put together, of entries of a table."""

    def __init__(self, count: int) -> None:
        self.entry: Places = np.arange(count)
        self.cost: Integers = np.zeros(count, np.int64)
        self.digits: Integers = np.zeros(count, np.int64)
        self.amount: Integers = np.zeros(count, np.int64)
        self.parts: list[tuple[int, Places]] = []

    def keep(self, rows: Places) -> None:
        """Keeps these, in this order."""
        self.entry, self.amount = self.entry[rows], self.amount[rows]
        self.cost, self.digits = self.cost[rows], self.digits[rows]
        self.parts = [(u, places[rows]) for u, places in self.parts]


def _numbers(
    scope: Sequence[int], values: dict[int, Any], sizes: Sequence[int], count: int
) -> Places:
    """The number of the choice that nodes make, for each of their values."""
    found = np.zeros(count, np.intp)
    for u in scope:
        found = found * sizes[u] + values[u]
    return found


def _unbeaten(choice: Places, rows: _Rows) -> Places:
    """The rows to which no other of their choice is as good in both, by choice and cost."""
    amount = rows.amount
    ranked = np.lexsort((amount, rows.digits, rows.cost, choice))
    if not len(ranked):
        return ranked
    # Later choices start below all before, so that one running least serves for all.
    own = amount[ranked] - int(amount.min())
    own = own - choice[ranked] * (int(own.max()) + 1)
    is_less = np.ones(len(own), np.bool_)
    is_less[1:] = own[1:] < np.minimum.accumulate(own)[:-1]
    return ranked[is_less]
