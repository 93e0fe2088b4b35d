"""Elimination finds the least sum of tables, whatever is left as a core."""

from __future__ import annotations

import itertools
from random import Random

import numpy as np
import pytest

from solver.eliminate import DeadEndError, eliminate
from solver.lanes import pack, unpack
from solver.order import elimination_order
from solver.problem import FORBIDDEN, Costs
from tests.solver.problems import entry

Tables = list[tuple[tuple[int, ...], Costs]]


def random_tables(random: Random, forbidden: float) -> tuple[list[int], Tables]:
    """Sizes of nodes, and tables over one to three of them, with two levels of costs."""
    count = random.randint(1, 6)
    sizes = [random.randint(2, 3) for _ in range(count)]
    tables: Tables = []
    for _ in range(random.randint(1, 8)):
        scope = tuple(random.sample(range(count), random.randint(1, min(3, count))))
        shape = (2, *[sizes[v] for v in scope])
        flat = [random.randint(-5, 5) for _ in range(int(np.prod(shape)))]
        costs = np.array(flat, np.int64).reshape(shape)
        barred = [random.random() < forbidden for _ in range(costs[0].size)]
        costs[0][np.array(barred).reshape(shape[1:])] = FORBIDDEN
        tables.append((scope, costs))
    return sizes, tables


def cost(tables: Tables, values: tuple[int, ...] | list[int]) -> tuple[int, int] | None:
    total = [0, 0]
    for scope, table in tables:
        first, second = entry(table, [values[v] for v in scope]).tolist()
        if first >= FORBIDDEN:
            return None
        total = [total[0] + first, total[1] + second]
    return total[0], total[1]


def least(sizes: list[int], tables: Tables) -> tuple[int, int] | None:
    every = (cost(tables, values) for values in itertools.product(*map(range, sizes)))
    return min((known for known in every if known is not None), default=None)


@pytest.mark.parametrize("limit", [2, 6, 2**20])
def test_what_is_left_costs_the_same(limit: int) -> None:
    cores = dead_ends = 0
    for seed in range(250):
        sizes, tables = random_tables(Random(seed), 0.2)
        scopes = [scope for scope, _ in tables]
        order = elimination_order(sizes, scopes, limit)
        packed = pack([table for _, table in tables], 2, separate=bool(order.core))
        try:
            done = eliminate(order, sizes, scopes, packed)
        except DeadEndError as error:
            dead_ends += 1
            # The tables that it names have no solution by themselves.
            assert least(sizes, [tables[number] for number in error.tables]) is None, seed
            continue
        cores += bool(order.core)
        left: Tables = list(
            zip(
                [scope for scope, _, _ in done.core],
                unpack([table for _, table, _ in done.core]),
                strict=True,
            )
        )
        best: tuple[list[int], tuple[int, int] | None] = [], None
        for chosen in itertools.product(*(range(sizes[v]) for v in order.core)):
            values = [0] * len(sizes)
            for v, value in zip(order.core, chosen, strict=True):
                values[v] = value
            if cost(left, values) is None:
                continue
            done.complete(values)
            known = cost(tables, values)
            assert known is not None, seed
            # What the core's tables say together with the total is what the whole costs.
            core = cost(left, values)
            assert core is not None
            numbers = [a + b for a, b in zip(packed.pack(core), done.total, strict=True)]
            assert numbers == packed.pack(known), seed
            if best[1] is None or known < best[1]:
                best = values, known
        assert best[1] == least(sizes, tables), seed
    assert dead_ends > 0
    assert (cores > 0) == (limit < 2**20)


def test_of_equal_values_the_node_that_leaves_last_takes_its_first() -> None:
    table = np.array([[[3, 1, 1], [1, 1, 2]]], np.int64)
    order = elimination_order([2, 3], [(0, 1)], 100)
    values = [9, 9]
    done = eliminate(order, [2, 3], [(0, 1)], pack([table], 1, separate=False))
    done.complete(values)
    assert order.nodes == [0, 1]
    assert values == [1, 0]
