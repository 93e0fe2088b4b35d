"""Local search in exact neighbourhoods: a random cutset keeps its values, the rest gets the best.

A neighbourhood has most nodes, so that the search seldom stays where it should not. Each step costs
as much as elimination with small tables, and never makes a choice worse.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from solver.eliminate import eliminate
from solver.lanes import Packed
from solver.order import Adjacency, Order

TABLE_LIMIT = 2**12


def improve(
    order: Order,
    sizes: Sequence[int],
    scopes: Sequence[tuple[int, ...]],
    packed: Packed,
    values: Sequence[int],
) -> list[int]:
    """The best values of an order's nodes, while all other nodes keep theirs."""
    free = [False] * len(sizes)
    for v in order.nodes:
        free[v] = True
    own_scopes, tables = [], []
    for scope, table in zip(scopes, packed.tables, strict=True):
        left = tuple([v for v in scope if free[v]])
        if not left:
            continue
        if len(left) < len(scope):
            table = table[(slice(None), *[slice(None) if free[v] else values[v] for v in scope])]  # noqa: PLW2901
        own_scopes.append(left)
        tables.append(table)
    better = list(values)
    eliminate(order, sizes, own_scopes, replace(packed, tables=tables)).complete(better)
    return better


def neighbourhood(
    nodes: Sequence[int], sizes: Sequence[int], given: Adjacency, random: Random
) -> Order:
    """The order of the nodes that are free; drawn ones that make tables too large are not.

    Always the node with the smallest table leaves. Where it is over the limit, one of a few drawn
    nodes, the one with the most neighbours, is not free.
    """
    adjacency = {v: set(given[v]) for v in nodes}
    tie = {v: random.random() for v in nodes}
    drawn = list(nodes)
    random.shuffle(drawn)
    hopeless = TABLE_LIMIT.bit_length()

    def weigh(v: int) -> int:
        near = adjacency[v]
        if len(near) >= hopeless:
            return TABLE_LIMIT + 1
        weight = sizes[v]
        for u in near:
            weight *= sizes[u]
        return min(weight, TABLE_LIMIT + 1)

    weights = {v: weigh(v) for v in nodes}
    heap = [(weight, tie[v], v) for v, weight in weights.items()]
    heapq.heapify(heap)

    def changed(v: int) -> None:
        weight = weigh(v)
        if weight != weights[v]:
            weights[v] = weight
            heapq.heappush(heap, (weight, tie[v], v))

    freed: list[int] = []
    kept: set[int] = set()
    work = 0
    while heap:
        weight, _, v = heapq.heappop(heap)
        if weights.get(v) != weight:
            continue
        if weight > TABLE_LIMIT:
            few: list[int] = []
            while drawn and len(few) < 3:
                u = drawn.pop()
                if u in weights:
                    few.append(u)
            keeps = max(few, key=lambda u: len(adjacency[u]))
            drawn += [u for u in few if u != keeps]
            kept.add(keeps)
            del weights[keeps]
            for u in adjacency[keeps]:
                adjacency[u].discard(keeps)
                changed(u)
            if keeps != v:
                heapq.heappush(heap, (weight, tie[v], v))
            continue
        del weights[v]
        freed.append(v)
        work += weight
        near = adjacency[v]
        for u in near:
            around = adjacency[u]
            if len(near) > 1:
                around |= near
                around.discard(u)
            around.discard(v)
            changed(u)
    position = [-1] * len(sizes)
    for place, v in enumerate(freed):
        position[v] = place
    neighbours = [sorted(adjacency[v] - kept, key=position.__getitem__) for v in freed]
    return Order(freed, neighbours, position, TABLE_LIMIT, work)
