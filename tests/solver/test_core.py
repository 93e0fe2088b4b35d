"""The search for a core's values: each of its parts, and the whole, against brute force."""

from __future__ import annotations

import itertools
import warnings
from math import inf
from random import Random
from typing import Any

import numpy as np
import pytest

from solver import InfeasibleError, solve
from solver.ascent import ascended
from solver.core import CoreFound, fits, search_core
from solver.frontier import search
from solver.minibuckets import mini_buckets
from solver.neighbourhoods import disturbed, improve, neighbourhood
from solver.order import adjacency_of, search_order
from tests.solver.nets import Net, go_on, nets
from tests.solver.problems import dense_problem


@pytest.mark.parametrize("passes", [1, 2, 9])
def test_moved_costs_keep_their_sums(passes: int) -> None:
    before, after = [], []
    for net in nets(50):
        order = search_order(net.sizes, net.scopes, net.nodes)
        moved = ascended(order, net.sizes, net.tables, passes, go_on)
        for values in itertools.islice(net.assignments(), 200):
            cost = sum(table[tuple(values[v] for v in scope)] for scope, table in moved)
            assert cost == net.cost(values) or np.isinf([cost, net.cost(values)]).all()
        if net.best() is not None:
            before.append(sum(table.min() for _, table in net.tables).real)
            after.append(sum(table.min() for _, table in moved).real)
            assert not net.best() < sum(table.min() for _, table in moved)
        stopped = ascended(order, net.sizes, net.tables, passes, lambda work: True)
        cost = sum(table[(0,) * len(scope)] for scope, table in stopped)
        assert cost == net.cost([0] * 9) or np.isinf([cost, net.cost([0] * 9)]).all()
    assert np.mean(after) > np.mean(before) + 1


@pytest.mark.parametrize("limit", [1, 4, 9, 10**6])
def test_mini_buckets_bound_from_below(limit: int) -> None:
    tight = feasible = 0
    for net in nets(60):
        order = search_order(net.sizes, net.scopes, net.nodes)
        bounds = mini_buckets(order, net.sizes, net.tables, limit, go_on)
        assert bounds is not None
        best = net.best()
        if best is None:
            assert limit < 10**6 or np.isinf(bounds.least)
            continue
        assert not best < bounds.least
        feasible += 1
        tight += bool(bounds.least == best)
    # Where no table is split, the bound is the optimum.
    assert tight == feasible if limit == 10**6 else tight > 10


@pytest.mark.parametrize("limit", [1, 9, 10**6])
@pytest.mark.parametrize("choices", [1, 3, 10**6])
def test_frontiers_find_what_they_do_not_drop(limit: int, choices: int) -> None:
    found_all = 0
    for net in nets(25):
        order = search_order(net.sizes, net.scopes, net.nodes)
        bounds = mini_buckets(order, net.sizes, net.tables, limit, go_on)
        assert bounds is not None
        best = net.best()
        found = search(bounds, net.sizes, np.inf, choices, go_on)
        if best is None:
            assert found.values is None
            continue
        assert not best < found.bound
        if found.values is not None:
            assert sorted(found.values) == net.nodes
            assert net.cost(found.values) == found.cost
            assert not found.cost < best
        if choices == 10**6:
            assert found.cost == found.bound == best
        found_all += bool(found.bound == best)
        # Against what is known already, only what is better is found.
        again = search(bounds, net.sizes, best, choices, go_on)
        assert again.values is None
        assert not best < np.minimum(again.bound, best)
    assert found_all > 25 or choices < 10**6


def test_a_search_that_is_stopped_is_honest() -> None:
    for net in nets(15, forbid=0.0):
        order = search_order(net.sizes, net.scopes, net.nodes)
        bounds = mini_buckets(order, net.sizes, net.tables, 4, go_on)
        assert bounds is not None
        assert mini_buckets(order, net.sizes, net.tables, 4, lambda work: True) is None
        for left in range(len(net.nodes)):
            steps = itertools.count()
            found = search(
                bounds,
                net.sizes,
                np.inf,
                2,
                lambda work, left=left, steps=steps: next(steps) >= left,  # type: ignore[misc]
            )
            assert not net.best() < found.bound


def test_neighbourhoods_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solver.neighbourhoods.TABLE_LIMIT", 9)
    better = kept = 0
    for seed, net in enumerate(nets(50)):
        random = Random(seed)
        valid = [v for v in net.assignments() if np.isfinite(net.cost(v))]
        if not valid:
            continue
        start = random.choice(valid)
        adjacency = adjacency_of(len(net.sizes), net.scopes)
        free = neighbourhood(net.nodes, net.sizes, adjacency, random)
        fixed = set(net.nodes) - set(free.nodes)
        values = improve(free, net.sizes, net.scopes, net.packed, start)
        assert all(values[v] == start[v] for v in fixed)
        costs = [net.cost(v) for v in valid if all(v[u] == start[u] for u in fixed)]
        assert net.cost(values) == np.array(costs).min()
        better += bool(net.cost(values) < net.cost(start))
        kept += bool(fixed)
    assert better > 50
    assert kept > 25


def test_few_nodes_are_freed_as_exactly() -> None:
    for seed, net in enumerate(nets(30, forbid=0.0)):
        random = Random(seed)
        start = [random.randrange(size) for size in net.sizes]
        few = random.sample(net.nodes, 2)
        adjacency = adjacency_of(len(net.sizes), net.scopes)
        free = neighbourhood(few, net.sizes, adjacency, random)
        assert sorted(free.nodes) == sorted(few)
        values = improve(free, net.sizes, net.scopes, net.packed, start)
        others = [v for v in net.nodes if v not in few]
        costs = [net.cost(v) for v in net.assignments() if all(v[u] == start[u] for u in others)]
        assert net.cost(values) == np.array(costs).min()


def test_half_of_the_values_are_drawn_anew() -> None:
    changed = 0
    for seed, net in enumerate(nets(30)):
        random = Random(seed)
        adjacency = adjacency_of(len(net.sizes), net.scopes)
        before = [0] * len(net.sizes)
        after = disturbed(net.nodes, net.sizes, adjacency, random, before)
        assert all(0 <= value < size for value, size in zip(after, net.sizes, strict=True))
        assert sum(value > 0 for value in after) <= max(len(net.nodes) // 2, 1)
        changed += after != before
    assert changed > 40


def searched(net: Net, start: Any = None, time_limit: float = 5.0) -> CoreFound:
    return search_core(net.nodes, net.sizes, net.scopes, net.packed, start, time_limit, inf)


@pytest.mark.parametrize("relaxes", [True, False])
def test_the_whole_search_against_brute_force(
    relaxes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("solver.core._MOST_RELAXED", 1.0 if relaxes else 0.0)
    monkeypatch.setattr("solver.core._FIRST_TABLE", 4)
    monkeypatch.setattr("solver.core._FIRST_CHOICES", 1)
    infeasible = 0
    with warnings.catch_warnings(action="error"):
        for net in nets(60, forbid=0.2):
            best = net.best()
            if best is None:
                infeasible += 1
                with pytest.raises(InfeasibleError):
                    searched(net)
                continue
            found = searched(net)
            assert found.values is not None
            assert net.cost(found.values) == found.cost == found.bound == best
    assert infeasible > 2


def test_the_same_work_gives_the_same_values() -> None:
    problem = dense_problem(9, variables=30, labels=3)
    first, again = (solve(problem, time_limit=0.2) for _ in range(2))
    assert first.statistics.core > 0
    assert (first.assignment, first.bound) == (again.assignment, again.bound)


def test_large_costs_do_not_fit() -> None:
    net = Net(1, lexicographic=False)
    assert fits(net.tables)
    large = np.array([[0.0, 2.0**50], [inf, 0.0]])
    assert not fits([*net.tables, ((0, 1), large)])
    assert not fits([((0, 1), 1j * np.array([[0.0, -(2.0**50)], [1.0, 0.0]]))])
