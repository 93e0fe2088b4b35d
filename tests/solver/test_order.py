"""The order is the greedy one by the size of tables, as a plain simulation finds it."""

from __future__ import annotations

import itertools
import math
from random import Random

import pytest

import solver.order
from solver.order import elimination_order

Scopes = list[tuple[int, ...]]


def random_scopes(random: Random) -> tuple[list[int], Scopes]:
    """Sizes of nodes, and which of them tables range over."""
    count = random.randint(1, 9)
    sizes = [random.randint(2, 4) for _ in range(count)]
    scopes = [
        tuple(random.sample(range(count), random.randint(1, min(count, 3))))
        for _ in range(random.randint(0, 12))
    ]
    return sizes, scopes


def simulate(sizes: list[int], scopes: Scopes, limit: int) -> tuple[list[int], list[set[int]]]:
    """Eliminates the node with the smallest table, the lowest of equals, and joins its neighbours.

    Returns the nodes and the neighbours of each at that time.
    """
    near: dict[int, set[int]] = {v: set() for v in range(len(sizes))}
    for scope in scopes:
        for a, b in itertools.permutations(scope, 2):
            near[a].add(b)
    nodes, neighbours = [], []
    while near:
        weight, v = min((math.prod(sizes[u] for u in {v, *near[v]}), v) for v in near)
        if weight > limit:
            break
        around = near.pop(v)
        for u in around:
            near[u] = (near[u] | around) - {u, v}
        nodes.append(v)
        neighbours.append(around)
    return nodes, neighbours


@pytest.mark.parametrize("limit", [1, 4, 16, 64, 2**20])
def test_it_is_the_greedy_order(limit: int) -> None:
    cores = 0
    for seed in range(300):
        sizes, scopes = random_scopes(Random(seed))
        order = elimination_order(sizes, scopes, limit)
        nodes, neighbours = simulate(sizes, scopes, limit)
        assert order.nodes[: len(nodes)] == nodes, seed
        assert [set(near) for near in order.neighbours] == neighbours, seed
        assert order.core == sorted(set(range(len(sizes))) - set(nodes)), seed
        assert [order.position[v] for v in order.nodes] == list(range(len(sizes))), seed
        for near in order.neighbours:
            assert near == sorted(near, key=order.position.__getitem__), seed
        tables = [
            math.prod(sizes[u] for u in {v, *near})
            for v, near in zip(nodes, neighbours, strict=True)
        ]
        assert order.largest == max(tables, default=0), seed
        assert order.width == max(map(len, neighbours), default=0), seed
        cores += bool(order.core)
    assert cores == 0 if limit == 2**20 else cores > 0


def test_all_tables_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, scopes = [2] * 10, [(v, v + 1) for v in range(9)]
    assert elimination_order(sizes, scopes, 4).core == []
    monkeypatch.setattr(solver.order, "WORK_LIMIT", 4 * 5)
    assert len(elimination_order(sizes, scopes, 4).core) == 5
