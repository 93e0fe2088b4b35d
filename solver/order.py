"""The order in which to eliminate nodes, and those whose tables would be too large for it."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Order:
    """The nodes in order of elimination, the core (never eliminated) last."""

    nodes: list[int]
    neighbours: list[list[int]]
    """For each eliminated node: the remaining nodes in its table's scope, in order."""
    position: list[int]
    """The place of each node in the order."""
    largest: int
    """Entries of the largest table that elimination makes."""

    @property
    def core(self) -> list[int]:
        """The nodes that are not eliminated."""
        return self.nodes[len(self.neighbours) :]

    @property
    def width(self) -> int:
        """The most neighbours that a node has when it is eliminated."""
        return max(map(len, self.neighbours), default=0)


WORK_LIMIT = 2**27
"""Most entries of all tables together: about a second, and a quarter of a gigabyte at most."""


def elimination_order(
    sizes: Sequence[int], scopes: Sequence[tuple[int, ...]], table_limit: int
) -> Order:
    """The greedy order: always the node with the smallest table, the lowest of several.

    It ends where that table has more than ``table_limit`` entries, or all tables together more than
    ``WORK_LIMIT``; the nodes that are left are the core.
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

    # A node has at least two values: with that many neighbours its table is over the limit.
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
