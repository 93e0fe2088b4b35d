"""The reduced problem costs what the problem costs, for every assignment."""

from __future__ import annotations

import itertools
from random import Random

import numpy as np
import pytest

import solver.copies
from solver import CostTable, Factor, InfeasibleError, Problem, SharedCopies, Variable, solve
from solver.problem import FORBIDDEN
from solver.reduce import Reduced, reduce
from tests.solver.problems import brute_force, entry, random_problem


def cost(reduced: Reduced, values: tuple[int, ...]) -> tuple[int, ...] | None:
    """What values of all nodes cost; None where they are forbidden."""
    total = list(reduced.constant)
    for scope, table in zip(reduced.scopes, reduced.tables, strict=True):
        vector = entry(table, [values[node] for node in scope]).tolist()
        if vector[0] >= FORBIDDEN:
            return None
        total = [a + b for a, b in zip(total, vector, strict=True)]
    return tuple(total)


def costs_by_class(reduced: Reduced) -> dict[tuple[int, ...], tuple[int, ...] | None]:
    """The least cost for values of the classes that are free, over the nodes of copies."""
    free = sum(node >= 0 for node in reduced.node)
    found: dict[tuple[int, ...], tuple[int, ...] | None] = {}
    for values in itertools.product(*map(range, reduced.sizes)):
        known, new = found.get(values[:free]), cost(reduced, values)
        found[values[:free]] = new if known is None or (new is not None and new < known) else known
    return found


def labels(problem: Problem, reduced: Reduced, values: tuple[int, ...]) -> tuple[int, ...]:
    """The label of each variable for values of the free classes."""
    merged = reduced.merged
    return tuple(
        merged.domains[root][values[reduced.node[root]] if reduced.node[root] >= 0 else 0]
        for root in merged.root
    )


@pytest.mark.parametrize(("table_limit", "together"), [(2**20, 1), (1, 1), (1, 2), (1, 6)])
def test_every_assignment_costs_the_same(table_limit: int, together: int) -> None:
    infeasible = auxiliary = 0
    for seed in range(200):
        problem = random_problem(Random(seed), variables=4, labels=3)
        try:
            reduced = reduce(problem, table_limit, together)
        except InfeasibleError:
            infeasible += 1
            assert brute_force(problem) is None, seed
            continue
        auxiliary += reduced.has_copy_nodes
        assert max(reduced.sizes, default=2) <= max(3, 2**together)
        for values, expected in costs_by_class(reduced).items():
            assert problem.cost(labels(problem, reduced, values)) == expected, seed
        best = [known for known in costs_by_class(reduced).values() if known is not None]
        assert min(best, default=None) == brute_force(problem), seed
    assert infeasible > 5
    assert (auxiliary > 5) == (table_limit == 1)


def test_no_assignment_costs_less_than_its_shares() -> None:
    less = equal = 0
    for seed in range(300):
        problem = random_problem(Random(seed), variables=4, labels=3)
        try:
            reduced = reduce(problem, 1, in_shares=True)
        except InfeasibleError:
            assert brute_force(problem) is None, seed
            continue
        assert not reduced.has_copy_nodes
        for values in itertools.product(*map(range, reduced.sizes)):
            shares, whole = cost(reduced, values), problem.cost(labels(problem, reduced, values))
            assert (shares is None) == (whole is None), seed
            if shares is not None and whole is not None:
                assert shares <= whole, seed
                less += shares < whole
                equal += shares == whole
    assert less > 100
    assert equal > 100


def test_four_users_of_six_labels_have_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    factors: list[Factor] = [CostTable((v,), random.integers(0, 50, (1, 6))) for v in range(9)]
    factors += [
        SharedCopies(s, (s + 1, s + 2, s + 3, s + 4), prices)
        for s, prices in enumerate(random.integers(1, 50, (5, 1, 6, 6)))
    ]
    problem = Problem(6, 1, (Variable(tuple(range(6))),) * 9, tuple(factors))
    tables = reduce(problem, 2**20).tables
    assert sum(table.shape == (1, *[6] * 5) for table in tables) == 5
    expected = solve(problem).cost
    # Where many differ, those that have no room left have a node for each label.
    monkeypatch.setattr(solver.copies, "_ROOM", 2 * 6**5)
    reduced = reduce(problem, 2**20)
    assert sum(table.shape == (1, *[6] * 5) for table in reduced.tables) == 2
    assert len(reduced.sizes) == 9 + 3 * 6
    assert solve(problem).cost == expected


def test_tables_name_the_factor_that_they_come_from() -> None:
    for seed in range(50):
        problem = random_problem(Random(seed))
        try:
            reduced = reduce(problem, 2**20)
        except InfeasibleError:
            continue
        for scope, origin in zip(reduced.scopes, reduced.origins, strict=True):
            factor = problem.factors[origin]
            theirs = getattr(factor, "scope", ()) or (factor.source, *factor.users)  # type: ignore[union-attr]
            assert set(scope) <= {reduced.node[reduced.merged.root[v]] for v in theirs}, seed
