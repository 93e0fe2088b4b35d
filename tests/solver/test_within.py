"""The best assignment within a limit, against every assignment and against integer programs."""

from __future__ import annotations

import itertools
from random import Random

import pytest

from solver import (
    InfeasibleError,
    Limit,
    Problem,
    Status,
    TooDenseError,
    least_within,
    level_limit,
    solve,
    solve_ilp,
)
from tests.solver.problems import dense_problem, random_net, random_problem
from tests.solver.test_fronts import random_amounts


def least(problem: Problem, limit: Limit) -> tuple[int, ...] | None:
    """The least cost within a limit, by all levels."""
    found = [
        cost
        for values in itertools.product(*(v.domain for v in problem.variables))
        if (cost := problem.cost(values)) is not None
        and limit.amount(problem, values) <= limit.most
    ]
    return min(found, default=None)


def test_every_limit_of_small_problems() -> None:
    kept = impossible = 0
    for seed in range(400):
        random = Random(seed)
        problem = random_problem(random, scale=9)
        amounts = random_amounts(random, problem)
        try:
            best = solve(problem)
        except InfeasibleError:
            with pytest.raises(InfeasibleError):
                least_within(problem, Limit(amounts, 30))
            continue
        amount = Limit(amounts, 0).amount(problem, best.assignment)
        limit = Limit(amounts, amount - random.randint(0, 6))
        expected = least(problem, limit)
        if expected is None:
            with pytest.raises(InfeasibleError):
                least_within(problem, limit)
            impossible += 1
            continue
        found = least_within(problem, limit)
        assert found.status is Status.OPTIMAL
        assert found.cost == found.bound == problem.cost(found.assignment) == expected
        assert limit.amount(problem, found.assignment) <= limit.most
        kept += found.cost != best.cost
    assert kept > 25
    assert impossible > 20


def test_limits_of_nets_as_integer_programs_keep_them() -> None:
    for seed in range(6):
        problem = random_net(Random(seed), 12)
        best = solve(problem)
        amount = level_limit(problem, 2, 0).amount(problem, best.assignment)
        for most in (amount - 3, amount - 20):
            limit = level_limit(problem, 2, most)
            try:
                found = least_within(problem, limit)
            except InfeasibleError:
                with pytest.raises(InfeasibleError):
                    solve_ilp(problem, [limit])
                continue
            assert found.cost == solve_ilp(problem, [limit]).cost
            assert found.cost >= best.cost


def test_a_problem_that_elimination_cannot_do_is_left_to_others() -> None:
    problem = dense_problem(0, 24, 4)
    with pytest.raises(TooDenseError):
        least_within(problem, level_limit(problem, 0, 10**9))
