"""Costs moved by the duals of the relaxation: exact sums, and bounds that are best on trees."""

from __future__ import annotations

from math import inf, prod
from random import Random

import numpy as np
import pytest

from solver.minibuckets import CoreTable
from solver.relaxation import Relaxed, _Model, _whole, relaxed
from tests.solver.nets import Net, go_on, nets


def relax(net: Net) -> Relaxed | None:
    return relaxed(net.nodes, net.sizes, net.tables, inf, inf, go_on)


def assert_same_sums(net: Net, tables: list[CoreTable]) -> None:
    for values in net.assignments():
        cost = sum(table[tuple(values[v] for v in scope)] for scope, table in tables)
        assert cost == net.cost(values) or np.isinf([cost, net.cost(values)]).all()


def least(tables: list[CoreTable]) -> float:
    return float(sum(table.min().real for _, table in tables))


def test_sums_stay_and_bounds_rise() -> None:
    gained = impossible = 0
    for net in nets(40, forbid=0.2):
        found = relax(net)
        if net.best() is None:
            impossible += 1
            continue
        assert found is not None
        assert_same_sums(net, found.tables)
        assert not net.best() < sum(table.min() for _, table in found.tables)
        # Costs are rounded to whole ones, which takes a part of one from each table.
        assert least(found.tables) >= least(net.tables) - len(found.tables)
        gained += least(found.tables) > least(net.tables)
        assert sorted(found.program.shares()) == net.nodes
    assert gained > 30
    assert impossible > 3


def test_the_bound_of_a_tree_is_its_optimum() -> None:
    for seed in range(40):
        net = Net(seed, lexicographic=False, forbid=0.0)
        random = Random(seed)
        net.tables = []
        for v in net.nodes[1:]:
            u = random.randrange(v)
            costs = [random.randint(-99, 99) for _ in range(net.sizes[u] * net.sizes[v])]
            # Values that cost the same are one in the relaxation.
            table = np.array(costs, float).reshape(net.sizes[u], net.sizes[v])
            table[random.randrange(net.sizes[u])] = table[0]
            net.tables.append(((u, v), table))
        found = relax(net)
        assert found is not None
        assert least(found.tables) == net.best()


def test_any_duals_keep_the_sums() -> None:
    for seed, net in enumerate(nets(15)):
        model = _Model(net.nodes, net.sizes, net.tables)
        drawn = np.random.default_rng(seed)
        duals = drawn.normal(0, 100, model.rows)
        duals[drawn.integers(model.rows)] = np.nan
        assert_same_sums(net, model.moved(_whole(duals)))
        duals[0] = 2.0**60
        assert_same_sums(net, model.moved(_whole(duals)))


@pytest.mark.parametrize(("room", "seconds"), [(10.0, inf), (inf, 0.0)])
def test_what_takes_too_long_is_not_there(room: float, seconds: float) -> None:
    net = Net(3, lexicographic=False)
    assert relaxed(net.nodes, net.sizes, net.tables, room, seconds, go_on) is None


def test_a_dense_net_is_not_relaxed() -> None:
    count = 45
    sizes = [2] * count
    pairs = [(u, v) for v in range(count) for u in range(v)]
    tables = [(pair, np.arange(prod([2, 2])).reshape(2, 2) ** 2.0) for pair in pairs]
    assert relaxed(range(count), sizes, tables, inf, inf, go_on) is None
