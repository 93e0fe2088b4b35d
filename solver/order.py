"""In which order to eliminate nodes, and which are left because their tables would be too large."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Order:
    """The nodes in order of elimination, the core (never eliminated) last."""

    nodes: list[int]
    neighbours: list[list[int]]
    """For each eliminated node: the nodes left that its table also ranges over, in order."""
    position: list[int]
    """The place of each node in the order."""
    largest: int
    """Entries of the largest table that is made on the way."""

    @property
    def core(self) -> list[int]:
        """The nodes that are not eliminated."""
        return self.nodes[len(self.neighbours) :]

    @property
    def width(self) -> int:
        """The most neighbours of any node at its elimination."""
        return max(map(len, self.neighbours), default=0)


WORK_LIMIT = 2**27
"""Entries of all tables together: about a second, and a quarter of a gigabyte at most."""


def elimination_order(
    sizes: Sequence[int], scopes: Sequence[tuple[int, ...]], table_limit: int
) -> Order:
    """Eliminate the node whose table is smallest, ties to the lowest, while it has room.

    A table has room for ``table_limit`` entries, and all that are made together for ``WORK_LIMIT``.
    """
    adjacency: list[set[int]] = [set() for _ in sizes]
    for scope in scopes:
        if len(scope) == 2:
            a, b = scope
            adjacency[a].add(b)
            adjacency[b].add(a)
        elif len(scope) > 2:
            for a in scope:
                adjacency[a].update(scope)
                adjacency[a].discard(a)

    # Every node has two values at least: with that many neighbours its table is over the limit.
    hopeless = table_limit.bit_length()
    too_large = table_limit + 1

    def weigh(v: int) -> int:
        near = adjacency[v]
        if len(near) >= hopeless:
            return too_large
        weight = sizes[v]
        for u in near:
            weight *= sizes[u]
        return min(weight, too_large)

    gone = -1
    weights = [weigh(v) for v in range(len(sizes))]
    heap = [(weight, v) for v, weight in enumerate(weights)]
    heapq.heapify(heap)
    nodes: list[int] = []
    largest = work = 0
    while heap:
        weight, v = heapq.heappop(heap)
        if weights[v] != weight:
            continue
        work += weight
        if weight == too_large or work > WORK_LIMIT:
            break
        weights[v] = gone
        nodes.append(v)
        largest = max(largest, weight)
        near = adjacency[v]
        for u in near:
            around = adjacency[u]
            if len(near) > 1:
                around |= near
                around.discard(u)
            around.discard(v)
            fresh = weigh(u)
            if fresh != weights[u]:
                weights[u] = fresh
                heapq.heappush(heap, (fresh, u))

    eliminated = len(nodes)
    nodes += [v for v, weight in enumerate(weights) if weight != gone]
    position = [0] * len(nodes)
    for place, v in enumerate(nodes):
        position[v] = place
    neighbours = [sorted(adjacency[v], key=position.__getitem__) for v in nodes[:eliminated]]
    return Order(nodes, neighbours, position, largest)
