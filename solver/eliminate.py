"""Exact min-plus elimination: nodes leave one at a time, each as a table of its best values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from solver.lanes import Lanes, Packed
from solver.order import Order

_SMALL: Final = 1024
"""Entries of a table of best values up to which there are many, so that equal ones are shared; only
larger ones are worth shrinking."""

Choices: TypeAlias = NDArray[np.integer[Any]]


Table: TypeAlias = tuple[tuple[int, ...], Lanes, int]
"""The scope in order of elimination, lanes over the scope, and the origin: the number of a table
of the reduced problem, or ~v for the message that node v left."""


class DeadEndError(Exception):
    """A node has no possible value; ``tables`` are the numbers of the tables that exclude them."""

    def __init__(self, tables: list[int]) -> None:
        self.tables = tables
        super().__init__(f"tables {tables} exclude each other")


@dataclass(frozen=True, slots=True)
class Elimination:
    """What elimination leaves: the tables of the core, and the eliminated nodes' best values."""

    order: Order
    choices: list[Choices | None]
    """For each eliminated node: its best value by the values of its neighbours; None if free."""
    core: list[Table]
    total: list[int]
    """What is not in the core's tables of the cost of eliminated parts, as the numbers of a packed
    vector."""
    sums: list[tuple[Lanes, Lanes]]
    """If kept, for each eliminated node: the sum of its tables, and that of its best values."""
    buckets: list[list[Table]]
    """If kept, by node: the tables that such a sum is of, each with the node first."""

    def complete(self, values: list[int]) -> None:
        """Fills in the values of the eliminated nodes, given those of the core."""
        nodes = self.order.nodes
        neighbours = self.order.neighbours
        for place in reversed(range(len(neighbours))):
            choice = self.choices[place]
            if choice is not None:
                at = tuple([values[u] for u in neighbours[place]])
                values[nodes[place]] = choice.item(at)


def eliminate(
    order: Order,
    sizes: Sequence[int],
    scopes: Sequence[tuple[int, ...]],
    packed: Packed,
    *,
    keep: Literal["sums", "buckets", "both"] | None = None,
) -> Elimination:
    """Eliminates all nodes of the order except the core; raises ``DeadEndError``."""
    buckets = _Buckets(order, scopes, packed.tables)
    kept: list[list[Table]] = [[] for _ in sizes] if keep in {"buckets", "both"} else []
    origins: dict[int, list[int]] = {}
    choices: list[Choices | None] = []
    sums: list[tuple[Lanes, Lanes]] = []
    total = [0] * len(packed.weights)
    known = _Known(packed, keeps_sums=keep in {"sums", "both"}, is_relative=keep is None)
    for v, near in zip(order.nodes, order.neighbours, strict=False):
        bucket = buckets.take(v)
        if not bucket:
            choices.append(None)
            if keep in {"sums", "both"}:
                sums.append((np.zeros((packed.lanes, sizes[v])), np.zeros(packed.lanes)))
            continue
        scope = (v, *near)
        joined, choice, best, least = known.of(bucket, scope, sizes)
        if least is not None:
            total = [a + b for a, b in zip(total, least, strict=True)]
        if packed.forbids:
            origins[v] = [origin for _, _, origin in bucket]
            if best.item(0).real == np.inf and np.isinf(best[0]).all():
                raise DeadEndError(_causes(v, origins))
        if kept:
            kept[v] = bucket
        if keep in {"sums", "both"}:
            sums.append((joined, best))
        choices.append(choice)
        if near:
            buckets.add(near[0], (scope[1:], best, ~v))
        else:
            total = [a + b for a, b in zip(total, packed.numbers(best), strict=True)]
    core = [table for v in order.core for table in buckets.take(v)]
    return Elimination(order, choices, core, total, sums, kept)


def eliminate_each(
    order: Order,
    sizes: Sequence[int],
    scopes: Sequence[tuple[int, ...]],
    tables: Sequence[Lanes],
    carry: int | None = None,
) -> NDArray[np.intp]:
    """The best values (problems, nodes) of problems with the same scopes, each for itself.

    The leading axis of a table runs over the problems. All have a solution, and none has a core.
    With a ``carry`` entries are complex: the digits above it, and those below.
    """
    buckets = _Buckets(order, scopes, tables)
    choices: list[Choices | None] = []
    count = 1
    for v, near in zip(order.nodes, order.neighbours, strict=True):
        bucket = buckets.take(v)
        if not bucket:
            choices.append(None)
            continue
        scope = (v, *near)
        joined = _join(bucket, scope, sizes)
        count = len(joined)
        if carry is not None:
            over = np.floor(joined.imag / carry)
            joined = joined + (over - 1j * carry * over)
        own, best = _first_least(joined)
        choices.append(own.astype(np.int16, copy=False))
        if near:
            buckets.add(near[0], (scope[1:], best, ~v))
    values = np.zeros((count, len(sizes)), np.intp)
    problems = np.arange(count)
    for place in reversed(range(len(choices))):
        choice = choices[place]
        if choice is not None:
            at = tuple([values[:, u] for u in order.neighbours[place]])
            values[:, order.nodes[place]] = choice[(problems, *at)]
    return values


def least_each(
    order: Order, sizes: Sequence[int], scopes: Sequence[tuple[int, ...]], tables: Sequence[Lanes]
) -> Lanes:
    """What the best values cost of problems with the same scopes, each for itself: infinite where
    all are forbidden.

    The leading axis of a table runs over the problems, or is 1 where they have it in common. None
    has a core.
    """
    buckets = _Buckets(order, scopes, tables)
    total: Lanes = np.zeros(1)
    for v, near in zip(order.nodes, order.neighbours, strict=True):
        bucket = buckets.take(v)
        if not bucket:
            continue
        best = np.minimum.reduce(_join(bucket, (v, *near), sizes), axis=1)
        if near:
            buckets.add(near[0], (tuple(near), best, ~v))
        else:
            total = total + best
    return total


class _Buckets:
    """The tables by the node of theirs that leaves first, with their axes in the order.

    Those that are there from the start are looked up when their node leaves: a tuple for each of
    them would take more memory than the tables of a graph of repeated blocks.
    """

    def __init__(
        self, order: Order, scopes: Sequence[tuple[int, ...]], tables: Sequence[Lanes]
    ) -> None:
        self._position, self._scopes, self._tables = order.position, scopes, tables
        place = order.position.__getitem__
        first = np.array([s[0] if len(s) == 1 else min(s, key=place) for s in scopes], np.int32)
        self._numbers = np.argsort(first, kind="stable").astype(np.int32)
        self._starts = np.searchsorted(first[self._numbers], np.arange(len(order.position) + 1))
        self._turned: dict[tuple[int, tuple[int, ...]], Lanes] = {}
        self._messages: list[tuple[Table, ...]] = [()] * len(order.position)

    def add(self, node: int, message: Table) -> None:
        """Adds what another node left."""
        self._messages[node] = (*self._messages[node], message)

    def take(self, node: int) -> list[Table]:
        """The tables of a node; what others left is forgotten here."""
        numbers = self._numbers[self._starts[node] : self._starts[node + 1]].tolist()
        messages, self._messages[node] = self._messages[node], ()
        return [*map(self._table, numbers), *messages]

    def _table(self, number: int) -> Table:
        scope, table = self._scopes[number], self._tables[number]
        if len(scope) == 1:
            return scope, table, number
        places = [self._position[v] for v in scope]
        if places == sorted(places):
            return scope, table, number
        axes = tuple(sorted(range(len(scope)), key=places.__getitem__))
        if (id(table), axes) not in self._turned:
            turned = table.transpose(0, *[axis + 1 for axis in axes])
            self._turned[id(table), axes] = turned
        return tuple([scope[axis] for axis in axes]), self._turned[id(table), axes], number


class _Known:
    """What comes of small buckets: equal ones, as repeated blocks have, are worked out once."""

    def __init__(self, packed: Packed, *, keeps_sums: bool, is_relative: bool) -> None:
        self._packed, self._keeps_sums = packed, keeps_sums
        self._room: Lanes = np.empty(0)
        # Along a chain of equal blocks costs add up. Above their least they are the same again.
        self._is_relative = is_relative
        self._found: dict[tuple[object, ...], tuple[list[Lanes], _Outcome]] = {}
        self._messages: dict[tuple[object, ...], Lanes] = {}

    def of(self, bucket: list[Table], scope: tuple[int, ...], sizes: Sequence[int]) -> _Outcome:
        """What comes of a bucket."""
        key: list[object] = []
        for own, table, _ in bucket:
            key.append(id(table))
            if 1 < len(own) < len(scope):
                key.append(tuple([scope.index(u) for u in own]))
        found = self._found.get(tuple(key))
        if found is not None:
            return found[1]
        tables = [table for _, table, _ in bucket]
        joined = _join(bucket, scope, sizes, self._room_for(tables, scope, sizes))
        choice, best = _best(joined)
        if choice.size > _SMALL:
            return _Outcome(joined, choice, best, None)
        outcome = _Outcome(joined, choice, *self._above_least(best))
        # With its tables, so that no other gets the id of one.
        self._found[tuple(key)] = tables, outcome
        return outcome

    def _room_for(
        self, tables: list[Lanes], scope: tuple[int, ...], sizes: Sequence[int]
    ) -> Lanes | None:
        """Room for a large sum that is not kept: to get it from the system each time takes longer
        than to add."""
        shape = tuple([sizes[u] for u in scope])
        if self._keeps_sums or math.prod(shape[1:]) <= _SMALL or len(tables) < 2:
            return None
        kind = np.result_type(*tables)
        entries = len(tables[0]) * math.prod(shape)
        if self._room.size < entries or self._room.dtype != kind:
            self._room = np.empty(entries, kind)
        return self._room[:entries].reshape(len(tables[0]), *shape)

    def _above_least(self, best: Lanes) -> tuple[Lanes, list[int] | None]:
        """Lanes above their least, and this as the numbers of a packed vector."""
        if not self._is_relative:
            return best, None
        least = _best(best.reshape(len(best), -1))[1]
        if not np.isfinite(least[0]):
            return best, None
        above = best - least.reshape(-1, *[1] * (best.ndim - 1))
        message = self._messages.setdefault((above.shape, above.tobytes()), above)
        return message, self._packed.numbers(least)


class _Outcome(NamedTuple):
    """The sum of a bucket, its best values, their lanes, and what these are less than they were."""

    joined: Lanes
    choice: Choices
    best: Lanes
    least: list[int] | None


def _join(
    bucket: list[Table], scope: tuple[int, ...], sizes: Sequence[int], room: Lanes | None = None
) -> Lanes:
    """The sum of a bucket's tables over their common scope, in the ``room`` for it if there is."""
    if len(bucket) > 2:
        # Small ones first, so that most sums are small tables.
        bucket.sort(key=_axes)
    joined: Lanes | None = None
    for place, (own, table, _) in enumerate(bucket, 1):
        if len(own) == len(scope):
            aligned = table
        else:
            aligned = table.reshape(-1, *[sizes[u] if u in own else 1 for u in scope])
        if joined is None:
            joined = aligned
        elif place == len(bucket) and room is not None:
            joined = np.add(joined, aligned, out=room)
        else:
            joined = joined + aligned
    assert joined is not None
    return joined


def _axes(table: Table) -> int:
    return len(table[0])


def _best(joined: Lanes) -> tuple[Choices, Lanes]:
    """The first node's first value of lexicographically least cost, and the lanes of that cost."""
    if len(joined) == 1:
        choice, best = _first_least(joined)
        return _shrunk(choice[0]), best
    least = np.minimum.reduce(joined[0], axis=0)
    lanes = [least]
    tied = joined[0] == least
    for lane in joined[1:]:
        open_ = np.where(tied, lane, np.inf)
        least = np.minimum.reduce(open_, axis=0)
        lanes.append(least)
        tied = open_ == least
    return _shrunk(tied.argmax(0)), np.array(lanes)


def _first_least(joined: Lanes) -> tuple[Choices, Lanes]:
    """The first place along the second axis that has the least, for each entry; and the least."""
    if joined.shape[1] == 2:
        # NumPy's argmin is slow along a short axis.
        first, second = joined[:, 0], joined[:, 1]
        return (second < first).astype(np.int16), np.minimum(first, second)
    return joined.argmin(1), np.minimum.reduce(joined, axis=1)


def _shrunk(choice: Choices | np.integer[Any]) -> Choices:
    found: Choices = np.asarray(choice)
    return found if found.size <= _SMALL else found.astype(np.int16, copy=False)


def _causes(v: int, origins: dict[int, list[int]]) -> list[int]:
    """The tables that went into the bucket of v, directly or through messages."""
    causes = []
    stack = [v]
    while stack:
        for origin in origins[stack.pop()]:
            if origin < 0:
                stack.append(~origin)
            else:
                causes.append(origin)
    return sorted(causes)
