"""Local search in exact neighbourhoods: a random cutset keeps its values, the rest gets the best.

A neighbourhood has most nodes, so that the search seldom stays where it should not. Each step costs
as much as elimination with small tables, and never makes a choice worse. Where it stays, half of
the values are drawn anew; what comes of them and what was there differ in few nodes then, whose
best values are better than both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from solver.eliminate import eliminate
from solver.lanes import Packed
from solver.order import Adjacency, Leaving, Order

TABLE_LIMIT = 2**12

_FEW = 3
"""Nodes that are drawn for one that keeps its value."""


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


def disturbed(
    nodes: Sequence[int],
    sizes: Sequence[int],
    adjacency: Adjacency,
    random: Random,
    values: Sequence[int],
) -> list[int]:
    """Values of which half, those of nodes around a drawn one, are drawn anew."""
    found = [random.choice(nodes)]
    seen = set(found)
    for v in found:
        if 2 * len(found) >= len(nodes):
            break
        near = sorted(adjacency[v] - seen)
        random.shuffle(near)
        seen.update(near)
        found += near
    drawn = list(values)
    for v in found[: max(len(nodes) // 2, 1)]:
        drawn[v] = random.randrange(sizes[v])
    return drawn


def neighbourhood(
    nodes: Sequence[int], sizes: Sequence[int], given: Adjacency, random: Random
) -> Order:
    """The order of the nodes that are free; drawn ones that make tables too large are not.

    Always the node with the smallest table leaves. Where it is over the limit, one of a few drawn
    nodes, the one with the most neighbours, is not free.
    """
    own = set(nodes)
    adjacency = {v: given[v] & own for v in nodes}
    drawn = list(nodes)
    random.shuffle(drawn)
    leaving = Leaving(sizes, adjacency, TABLE_LIMIT, tuple(drawn))
    random.shuffle(drawn)
    freed: list[int] = []
    kept: set[int] = set()
    work = 0
    while (v := leaving.smallest()) is not None:
        if leaving.weights[v] <= TABLE_LIMIT:
            work += leaving.weights[v]
            freed.append(v)
            leaving.eliminate(v)
            continue
        few: list[int] = []
        while drawn and len(few) < _FEW:
            u = drawn.pop()
            if u in leaving.weights:
                few.append(u)
        keeps = max(few, key=lambda u: len(adjacency[u]))
        drawn += [u for u in few if u != keeps]
        kept.add(keeps)
        leaving.fix(keeps)
    position = [-1] * len(sizes)
    for place, v in enumerate(freed):
        position[v] = place
    neighbours = [sorted(adjacency[v] - kept, key=position.__getitem__) for v in freed]
    return Order(freed, neighbours, position, TABLE_LIMIT, work)
