"""Orders are what plain simulations find, and the best of several where the first is not good."""

from __future__ import annotations

import itertools
import math
from random import Random

import pytest

import solver.order
from solver.order import Order, elimination_order

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


def tables(sizes: list[int], order: Order) -> list[int]:
    """The entries of the table of each node that is eliminated."""
    return [
        math.prod(sizes[u] for u in {v, *near})
        for v, near in zip(order.nodes, order.neighbours, strict=False)
    ]


def check(sizes: list[int], scopes: Scopes, order: Order) -> None:
    """The neighbours and figures of an order are those of eliminating its nodes one by one."""
    near: dict[int, set[int]] = {v: set() for v in range(len(sizes))}
    for scope in scopes:
        for a, b in itertools.permutations(scope, 2):
            near[a].add(b)
    for v, neighbours in zip(order.nodes, order.neighbours, strict=False):
        around = near.pop(v)
        assert set(neighbours) == around
        assert neighbours == sorted(around, key=order.position.__getitem__)
        for u in around:
            near[u] = (near[u] | around) - {u, v}
    assert order.core == sorted(near)
    assert sorted(order.nodes) == list(range(len(sizes)))
    assert [order.position[v] for v in order.nodes] == list(range(len(sizes)))
    assert order.largest == max(tables(sizes, order), default=0)
    assert order.work == sum(tables(sizes, order))
    assert order.width == max(map(len, order.neighbours), default=0)


@pytest.mark.parametrize("limit", [1, 4, 16, 64, 2**20])
def test_the_first_order_is_the_greedy_one(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver.order, "_RULES", ())
    cores = 0
    for seed in range(300):
        sizes, scopes = random_scopes(Random(seed))
        order = elimination_order(sizes, scopes, limit)
        check(sizes, scopes, order)
        nodes, _ = simulate(sizes, scopes, limit)
        if limit == 2**20:
            assert order.nodes[: len(nodes)] == nodes, seed
        else:
            # Parts come one after the other.
            assert sorted(order.core) == sorted(set(range(len(sizes))) - set(nodes)), seed
        cores += bool(order.core)
    assert cores == 0 if limit == 2**20 else cores > 0


@pytest.mark.parametrize("limit", [9, 64, 512])
def test_the_best_order_leaves_no_more_than_any(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solver.order, "EASY_TABLE", 0)
    better = 0
    for seed in range(300):
        random = Random(seed)
        count = random.randint(4, 14)
        sizes = [random.randint(2, 4) for _ in range(count)]
        scopes: Scopes = [
            tuple(random.sample(range(count), random.choice((2, 2, 3)))) for _ in range(count)
        ]
        order = elimination_order(sizes, scopes, limit)
        check(sizes, scopes, order)
        assert order.largest <= limit
        for rule in (None, *solver.order._RULES):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(solver.order, "_RULES", () if rule is None else (rule,))
                alone = elimination_order(sizes, scopes, limit)
            check(sizes, scopes, alone)
            assert len(order.core) <= len(alone.core)
            if not alone.core:
                assert order.work <= alone.work
            if rule is None:
                better += (len(order.core), order.work) < (len(alone.core), alone.work)
    assert better > 3


def test_wide_grids_need_no_core() -> None:
    width, length = 9, 20
    edges: Scopes = [(v, v + 1) for v in range(width * length) if (v + 1) % width]
    edges += [(v, v + width) for v in range(width * (length - 1))]
    order = elimination_order([4] * width * length, edges, 2**20)
    check([4] * width * length, edges, order)
    assert not order.core
    assert order.largest == 2**20


def test_only_the_part_that_is_too_dense_leaves_a_core() -> None:
    dense: Scopes = [(a, b) for b in range(12) for a in range(b)]
    grid: Scopes = [(12 + v, 13 + v) for v in range(35) if (v + 1) % 6]
    grid += [(12 + v, 18 + v) for v in range(30)]
    sizes = [4] * 48
    order = elimination_order(sizes, dense + grid, 2**16, 2**6)
    check(sizes, dense + grid, order)
    assert order.core == list(range(12))
    assert max(tables(sizes, order)) > 2**6


def test_all_tables_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, scopes = [2] * 10, [(v, v + 1) for v in range(9)]
    assert elimination_order(sizes, scopes, 4).core == []
    monkeypatch.setattr(solver.order, "WORK_LIMIT", 4 * 5)
    assert len(elimination_order(sizes, scopes, 4).core) == 5
