import importlib
import itertools
from dataclasses import replace
from random import Random

import numpy as np
import pytest

import solver.reduce
from solver import (
    FORBIDDEN,
    CostTable,
    InfeasibleError,
    Marginals,
    Problem,
    TooDenseError,
    Variable,
    marginals,
    solve,
)
from tests.solver.problems import brute_force, dense_problem, random_net, random_problem

Found = dict[tuple[int, int], tuple[int, ...] | None]


def by_brute_force(problem: Problem) -> Found:
    found: Found = {
        (v, label): None
        for v, variable in enumerate(problem.variables)
        for label in variable.domain
    }
    for assignment in itertools.product(*[variable.domain for variable in problem.variables]):
        cost = problem.cost(assignment)
        if cost is None:
            continue
        for at in enumerate(assignment):
            best = found[at]
            found[at] = cost if best is None else min(best, cost)
    return found


def all_of(found: Marginals) -> Found:
    return {
        (v, label): found.cost(v, label)
        for v, variable in enumerate(found.problem.variables)
        for label in variable.domain
    }


def pinned(problem: Problem, v: int, label: int) -> Problem:
    """The problem in which a variable can only have one label; its factors stay."""
    domain = problem.variables[v].domain
    costs = np.zeros((problem.levels, len(domain)), np.int64)
    costs[0] = FORBIDDEN
    costs[0, domain.index(label)] = 0
    return replace(problem, factors=(*problem.factors, CostTable((v,), costs)))


def compare_with_brute_force(problem: Problem) -> bool:
    expected = brute_force(problem)
    if expected is None:
        with pytest.raises(InfeasibleError):
            marginals(problem)
        return False
    found = marginals(problem)
    assert found.optimum == expected
    assert all_of(found) == by_brute_force(problem)
    return True


def test_every_label_against_brute_force() -> None:
    feasible = 0
    for seed in range(3000):
        feasible += compare_with_brute_force(random_problem(Random(seed)))
    assert 1500 < feasible < 3000


def test_large_numbers_in_several_lanes_against_brute_force() -> None:
    for seed in range(300):
        compare_with_brute_force(random_problem(Random(seed), scale=2**44))


def test_yes_no_nodes_against_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver.reduce, "DENSE_LIMIT", 1)
    for seed in range(500):
        compare_with_brute_force(random_problem(Random(seed)))


@pytest.mark.parametrize("scale", [100, 2**40])
def test_nets_against_solving_with_a_pinned_label(scale: int) -> None:
    random = Random(7)
    pins = 0
    for seed in range(12):
        problem = random_net(Random(seed), 25, fan_out=seed % 4 * 3, scale=scale)
        try:
            found = marginals(problem)
        except InfeasibleError:
            continue
        assert found.optimum == solve(problem).cost
        for _ in range(20):
            v = random.randrange(len(problem.variables))
            label = random.choice(problem.variables[v].domain)
            try:
                expected = solve(pinned(problem, v, label)).cost
            except InfeasibleError:
                assert found.cost(v, label) is None
            else:
                assert found.cost(v, label) == expected
            pins += 1
    assert pins > 100


def test_a_label_outside_the_domain_is_in_no_assignment() -> None:
    found = marginals(Problem(3, 1, (Variable((1,)), Variable((0, 2))), ()))
    assert found.cost(0, 0) is None
    assert found.cost(0, 1) == found.cost(1, 2) == (0,)


def test_dense_problems_without_the_labels_that_no_optimum_needs() -> None:
    left_out = 0
    for seed in range(400):
        problem = random_problem(Random(seed), factors=4, scale=1)
        try:
            found = marginals(problem, table_limit=8)
        except (InfeasibleError, TooDenseError):
            continue
        left_out += bool(found.left_out)
        for (v, label), cost in by_brute_force(problem).items():
            if label not in found.left_out:
                assert found.cost(v, label) == cost
            else:
                with pytest.raises(TooDenseError):
                    found.cost(v, label)
    assert left_out > 5


def test_what_elimination_cannot_finish_has_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = dense_problem(0, 8, 4)
    with pytest.raises(TooDenseError):
        marginals(problem, table_limit=2**10)
    monkeypatch.setattr(importlib.import_module("solver.prepared"), "KEPT_LIMIT", 2**10)
    with pytest.raises(TooDenseError):
        marginals(problem)
