"""Heuristics that colour intervals: tensors whose lifetimes do not overlap share an object.

The sum over objects of the largest member is to be small. No heuristic is best for all graphs.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from itertools import chain
from typing import Final, NamedTuple

import numpy as np

_LAYER_OBJECTS: Final = 4096
_STEPS: Final = 256
_BITS: Final = 5
"""A node of the timeline has 2**5 nodes below it."""


class Lifetime(NamedTuple):
    """First and last position in the chain that need a tensor's contents, both inclusive.

    Inputs are copied in at position -1, before the first operator, and outputs are copied out at
    ``len(chain)``, after the last.
    """

    first: int
    last: int


Objects = list[list[int]]
"""Tensors by the memory object that they share."""


def least_bytes(spans: Mapping[int, Lifetime], sizes: Mapping[int, int]) -> int:
    """A lower bound of the bytes of any objects: the sum of their largest members.

    Of objects that hold a size or more there are at least as many as tensors of such sizes are
    alive at once. These numbers, summed over all sizes from 1 byte up, are the bound; it takes
    ``_STEPS`` sizes at most.
    """
    size = np.array([sizes[value_id] for value_id in spans], np.int64)
    span = np.fromiter(chain.from_iterable(spans.values()), np.int64, 2 * len(spans)) + 1
    steps = sorted(set(size.tolist()))
    least = below = 0
    for step in steps[:: -max(1, -(-len(steps) // _STEPS))][::-1]:
        first, last = span.reshape(-1, 2)[size >= step].T
        begin, end = np.bincount(first), np.bincount(last + 1)
        end[: len(begin)] -= begin
        least += int(-np.cumsum(end).min()) * (step - below)
        below = step
    return least


def first_fit(order: Sequence[int], spans: Mapping[int, Lifetime]) -> Objects:
    """Puts each tensor into the first object that is free for all of its lifetime.

    Works through objects in layers: a tensor that finds no place in this layer waits for the next
    one, which changes no choice. It bounds the length of the timeline's bit masks.
    """
    objects: Objects = []
    positions = 2 + max((last for _, last in spans.values()), default=0)
    longest = 1 + max((last - first for first, last in spans.values()), default=0)
    while order:
        timeline = _Timeline(positions, longest)
        layer: Objects = []
        waiting: list[int] = []
        for value_id in order:
            index = timeline.place(spans[value_id], _LAYER_OBJECTS)
            if index == _LAYER_OBJECTS:
                waiting.append(value_id)
                continue
            if index == len(layer):
                layer.append([])
            layer[index].append(value_id)
        objects += layer
        order = waiting
    return objects


class _Timeline:
    """Which objects are taken at which positions: a tree of wide nodes, with a bit for each object.

    The lowest level has a node for each position, a node of the next one ``2**_BITS`` of these, and
    so on, up to where the ``longest`` lifetime does not fill a node. ``_whole`` has, for some
    nodes, objects that are taken at all positions below the node: a lifetime is marked at the
    fewest nodes that make it up exactly. ``_part`` has those of which a lifetime begins, ends or is
    marked at the node or below it. Most lifetimes are short, and lie below one node of the second
    level.
    """

    def __init__(self, positions: int, longest: int) -> None:
        self._whole: list[list[int]] = []
        self._part: list[list[int]] = []
        nodes, width = positions, 1
        while not self._part or width <= longest:
            self._whole.append([0] * nodes)
            self._part.append([0] * nodes)
            nodes, width = (nodes - 1 >> _BITS) + 1, width << _BITS
        self._above = range(1, len(self._part))

    def place(self, span: Lifetime, limit: int) -> int:
        """Takes the first object that is free at all positions of a lifetime; returns it.

        If that is number ``limit``, it is not taken.
        """
        first, last = span.first + 1, span.last + 1
        pieces = _pieces(first, last)
        taken = 0
        for level, start, stop in pieces:
            for node in self._part[level][start:stop]:
                taken |= node
        above = []
        for level in self._above:
            first, last = first >> _BITS, last >> _BITS
            whole = self._whole[level]
            taken |= whole[first] | whole[last]
            above.append((first, last))
        bit = ~taken & (taken + 1)
        index = bit.bit_length() - 1
        if index == limit:
            return index
        for level, start, stop in pieces:
            part = self._part[level]
            for i in range(start, stop):
                part[i] |= bit
            if level:
                whole = self._whole[level]
                for i in range(start, stop):
                    whole[i] |= bit
        for level, (first, last) in zip(self._above, above, strict=True):
            part = self._part[level]
            part[first] |= bit
            if first != last:
                part[last] |= bit
        return index


def _pieces(first: int, last: int) -> list[tuple[int, int, int]]:
    """The fewest nodes that make up these positions, as (level, first node, node after the last).

    Each level has two runs of them at most: within a node of the next level at either end.
    """
    pieces = []
    level = 0
    while first <= last:
        before, after = first >> _BITS, last >> _BITS
        if before == after:
            pieces.append((level, first, last + 1))
            break
        pieces.append((level, first, before + 1 << _BITS))
        pieces.append((level, after << _BITS, last + 1))
        first, last = before + 1, after - 1
        level += 1
    return pieces


def sweep(
    spans: Mapping[int, Lifetime], sizes: Mapping[int, int], *, backward: bool = False
) -> Objects:
    """Follows time, or goes ``backward``; each tensor takes the smallest free object that holds it.

    Where none does, the largest free one grows.
    """

    def span_of(value_id: int) -> Lifetime:
        span = spans[value_id]
        return Lifetime(-span.last, -span.first) if backward else span

    objects: Objects = []
    free: list[tuple[int, int]] = []
    taken: list[tuple[int, int, int]] = []
    for value_id in sorted(spans, key=lambda t: (span_of(t).first, -sizes[t])):
        span, size = span_of(value_id), sizes[value_id]
        while taken and taken[0][0] < span.first:
            _, capacity, index = heappop(taken)
            insort(free, (capacity, index))
        if free:
            capacity, index = free.pop(min(bisect_left(free, (size, 0)), len(free) - 1))
        else:
            capacity, index = 0, len(objects)
            objects.append([])
        objects[index].append(value_id)
        heappush(taken, (span.last, max(capacity, size), index))
    return objects
