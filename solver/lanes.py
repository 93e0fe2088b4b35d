"""Cost vectors packed into as few machine numbers as can hold them exactly.

Consecutive levels share one number, each scaled by more than the levels below it can sum to, so
that numbers add and compare lexicographically as the vectors do. The numbers are the integers
that a float represents exactly. Two of them make a complex number, which NumPy compares
lexicographically as well; a table of complex numbers costs about as much time as one of floats.
Infinity, which absorbs whatever is added to it, stands for a forbidden combination.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from solver.problem import FORBIDDEN, LIMIT, Costs, ProblemError

SAFE: Final = 2**50
"""Sums of costs below this stay exact while they are moved between tables."""

Lanes: TypeAlias = NDArray[np.inexact[Any]]
"""A table whose leading axis runs over lanes: usually one, more if vectors need many numbers."""


@dataclass(frozen=True, slots=True)
class Packed:
    """The packed tables of one problem."""

    weights: list[list[int]]
    """For each number of a packed vector: the factor of each level, 0 for levels not in it."""
    tables: list[Lanes]
    lanes: int
    forbids: bool
    """Whether any table has a forbidden entry."""
    lows: list[int]
    """By level: what no sum of the tables' entries is below, whichever tables it is of."""

    def pack(self, cost: Sequence[int]) -> list[int]:
        """The numbers of one finite cost vector."""
        return [sum(w * c for w, c in zip(row, cost, strict=True)) for row in self.weights]

    def numbers(self, lanes: Lanes) -> list[int]:
        """The numbers of one finite entry, from its lanes."""
        parts = []
        for lane in lanes.tolist():
            parts += [int(lane.real), int(lane.imag)]
        return parts[: len(self.weights)] if np.iscomplexobj(lanes) else parts[::2]

    def cost(self, numbers: Sequence[int]) -> tuple[int, ...]:
        """The cost vector of one sum, from its numbers."""
        found = list(self.lows)
        for number, row in zip(numbers, self.weights, strict=True):
            # Above their lows, levels are the digits of the number.
            rest = number - sum(w * low for w, low in zip(row, self.lows, strict=True))
            for level, factor in enumerate(row):
                if factor:
                    digit, rest = divmod(rest, factor)
                    found[level] += digit
        return tuple(found)

    def costs(self, lanes: Lanes) -> Costs:
        """The cost vectors of a table of sums, of shape (levels, ...)."""
        forbidden = np.isinf(lanes[0].real)
        found = np.empty((len(self.lows), *lanes.shape[1:]), np.int64)
        for number, row in enumerate(self.weights):
            lane = lanes[number // 2] if np.iscomplexobj(lanes) else lanes[number]
            part = lane.imag if np.iscomplexobj(lanes) and number % 2 else lane.real
            low = sum(factor * low for factor, low in zip(row, self.lows, strict=True))
            rest = np.where(forbidden, low, part).astype(np.int64) - low
            for level, factor in enumerate(row):
                if factor:
                    found[level] = rest // factor + self.lows[level]
                    rest = rest % factor
        found[0, forbidden] = FORBIDDEN
        return found


def pack(
    tables: Sequence[Costs], levels: int, *, separate: bool = False, limit: int = LIMIT
) -> Packed:
    """Packs the tables of a problem; ``separate`` gives each level a lane of floats of its own.

    Levels share a number as long as their sums are at most ``limit``. Raises ``ProblemError`` where
    the costs can sum to more than is exact.
    """
    slots: dict[int, int] = {}
    unique: list[Costs] = []
    slot_of = []
    for table in tables:
        slot = slots.setdefault(id(table), len(unique))
        if slot == len(unique):
            unique.append(table)
        slot_of.append(slot)
    if not unique:
        weights = _weights([0] * levels, separate=separate, limit=limit)
        return Packed(weights, [], 1, False, [0] * levels)

    flat = np.concatenate([table.reshape(levels, -1) for table in unique], axis=1)
    ends = np.cumsum([table.size // levels for table in unique])
    barred = flat[0] >= FORBIDDEN
    forbids = bool(barred.any())
    if forbids:
        flat[:, barred] = 0
    lows, spans = _ranges(flat, ends, np.bincount(slot_of))
    weights = _weights(spans, separate=separate, limit=limit)
    lanes = _lanes(flat, weights, separate=separate)
    if forbids:
        lanes[0, barred] = np.inf
    packed = []
    start = 0
    for table, end in zip(unique, ends.tolist(), strict=True):
        packed.append(lanes[:, start:end].reshape(-1, *table.shape[1:]))
        start = end
    return Packed(weights, [packed[slot] for slot in slot_of], len(lanes), forbids, lows)


def unpack(tables: Sequence[Lanes]) -> list[Costs]:
    """The cost vectors of tables that were packed with separate levels.

    Tables that are the same view of the same memory become one array.
    """
    unpacked: dict[object, Costs] = {}
    found = []
    for table in tables:
        key = table.__array_interface__["data"], table.shape, table.strides
        if key not in unpacked:
            unpacked[key] = _unpack(table)
        found.append(unpacked[key])
    return found


def _unpack(table: Lanes) -> Costs:
    forbidden = np.isinf(table[0])
    costs = np.where(forbidden, 0, table.real).astype(np.int64)
    costs[0, forbidden] = FORBIDDEN
    return costs


def _lanes(flat: Costs, weights: list[list[int]], *, separate: bool) -> Lanes:
    numbers = np.zeros((len(weights), flat.shape[1]))
    for row, factors in enumerate(weights):
        exact = sum(flat[level] * factor for level, factor in enumerate(factors) if factor)
        numbers[row] = exact
    if separate or len(weights) == 1:
        return numbers
    lanes = np.zeros((-(-len(weights) // 2), flat.shape[1]), np.complex128)
    lanes.real = numbers[::2]
    lanes.imag[: len(weights) // 2] = numbers[1::2]
    return lanes


def _ranges(flat: Costs, ends: Costs, counts: Costs) -> tuple[list[int], list[int]]:
    """The lowest sum of a choice of entries, and how far apart two can be, by level.

    Zero counts as an entry, so that this also bounds the sums themselves, and those of some tables.
    """
    starts = np.concatenate(([0], ends[:-1]))
    high = np.maximum.reduceat(flat, starts, axis=1).clip(min=0)
    low = np.minimum.reduceat(flat, starts, axis=1).clip(max=0)
    for level, (top, bottom) in enumerate(zip(high.max(1), low.min(1), strict=True)):
        if top >= LIMIT or bottom <= -LIMIT:
            raise _too_large(level)
    span = high - low
    return _sums(low, counts), _sums(span, counts)


def _sums(each: Costs, counts: Costs) -> list[int]:
    """The sums (levels,) of numbers (levels, tables), each as often as its table is there."""
    if int(np.abs(each).max()) * int(counts.sum()) < FORBIDDEN:
        exact: list[int] = (each @ counts).tolist()
        return exact
    times = counts.tolist()
    return [sum(s * n for s, n in zip(row, times, strict=True)) for row in each.tolist()]


def _weights(spans: list[int], *, separate: bool, limit: int) -> list[list[int]]:
    """The factors of the levels, by number; a new number starts when the current one is full."""
    weights: list[list[int]] = []
    factor = 1
    for level in reversed(range(len(spans))):
        if spans[level] >= LIMIT:
            raise _too_large(level)
        if separate or not weights or factor * (spans[level] + 1) > limit:
            weights.insert(0, [0] * len(spans))
            factor = 1
        weights[0][level] = factor
        factor *= spans[level] + 1
    return weights


def _too_large(level: int) -> ProblemError:
    return ProblemError(
        f"level {level}: the costs can sum to {LIMIT} or more; express them in a coarser unit"
    )
