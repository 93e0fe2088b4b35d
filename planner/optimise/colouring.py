"""Heuristics that colour intervals: tensors whose lifetimes do not overlap share an object.

The sum over objects of the largest member is to be small. No heuristic is best for all graphs.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from typing import Final, NamedTuple

_LAYER_OBJECTS: Final = 4096


class Lifetime(NamedTuple):
    """First and last position in the chain that need a tensor's contents, both inclusive.

    Inputs are copied in at position -1, before the first operator, and outputs are copied out at
    ``len(chain)``, after the last.
    """

    first: int
    last: int


Objects = list[list[int]]
"""Tensors by the memory object that they share."""


def first_fit(order: Sequence[int], spans: Mapping[int, Lifetime]) -> Objects:
    """Puts each tensor into the first object that is free for all of its lifetime.

    Works through objects in layers: a tensor that finds no place in this layer waits for the next
    one, which changes no choice. It bounds the length of the timeline's bit masks.
    """
    objects: Objects = []
    positions = 2 + max((span.last for span in spans.values()), default=0)
    while order:
        timeline = _Timeline(positions)
        layer: Objects = []
        waiting: list[int] = []
        for value_id in order:
            index = timeline.first_free(spans[value_id])
            if index == _LAYER_OBJECTS:
                waiting.append(value_id)
                continue
            if index == len(layer):
                layer.append([])
            layer[index].append(value_id)
            timeline.occupy(spans[value_id], index)
        objects += layer
        order = waiting
    return objects


class _Timeline:
    """Which objects are taken at which positions: a segment tree, with a bit for each object.

    ``_whole`` has, for some nodes, objects that are taken at all positions below the node: a
    lifetime is marked at nodes that make it up exactly. ``_part`` has those of which a lifetime
    begins, ends or is marked at the node or below it.
    """

    def __init__(self, positions: int) -> None:
        self._leaves = 1 << (positions - 1).bit_length()
        self._whole = [0] * (2 * self._leaves)
        self._part = [0] * (2 * self._leaves)

    def first_free(self, span: Lifetime) -> int:
        """The first object that is free at all positions of a lifetime."""
        whole, part = self._whole, self._part
        low, high = self._ends(span)
        taken = part[low] | part[high]
        # Between the two paths to the root lie the nodes that make up the lifetime's inside.
        while low >> 1 != high >> 1:
            if not low & 1:
                taken |= part[low + 1]
            if high & 1:
                taken |= part[high - 1]
            low, high = low >> 1, high >> 1
            taken |= whole[low] | whole[high]
        while low := low >> 1:
            taken |= whole[low]
        return (~taken & (taken + 1)).bit_length() - 1

    def occupy(self, span: Lifetime, index: int) -> None:
        """Takes an object at all positions of a lifetime."""
        whole, part = self._whole, self._part
        low, high = self._ends(span)
        inside, bit = [low, high], 1 << index
        while low >> 1 != high >> 1:
            if not low & 1:
                inside.append(low + 1)
            if high & 1:
                inside.append(high - 1)
            low, high = low >> 1, high >> 1
            part[low] |= bit
            part[high] |= bit
        while low := low >> 1:
            part[low] |= bit
        for node in inside:
            whole[node] |= bit
            part[node] |= bit

    def _ends(self, span: Lifetime) -> tuple[int, int]:
        return self._leaves + span.first + 1, self._leaves + span.last + 1


def sweep(spans: Mapping[int, Lifetime], sizes: Mapping[int, int]) -> Objects:
    """Follows time; each tensor takes the smallest free object that holds it.

    Where none does, the largest free one grows.
    """
    objects: Objects = []
    free: list[tuple[int, int]] = []
    taken: list[tuple[int, int, int]] = []
    for value_id in sorted(spans, key=lambda t: (spans[t].first, -sizes[t])):
        span, size = spans[value_id], sizes[value_id]
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
