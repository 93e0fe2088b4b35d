"""What is best where one of several levels is nothing, against every assignment."""

from __future__ import annotations

import itertools
from random import Random

import numpy as np
import pytest

from solver import FORBIDDEN, CostTable, Problem, TooDenseError
from solver.solve import optima
from tests.solver.problems import dense_problem, random_problem


def counting(random: Random, problem: Problem, counts: int) -> Problem:
    """The problem with first levels that count some labels, and its own levels after them."""
    factors = []
    for factor in problem.factors:
        if not isinstance(factor, CostTable):
            continue
        costs = np.pad(factor.costs, [(counts, 0)] + [(0, 0)] * len(factor.scope))
        barred = costs[counts] >= FORBIDDEN
        costs[0, barred], costs[counts, barred] = FORBIDDEN, 0
        factors.append(CostTable(factor.scope, costs))
    for v, variable in enumerate(problem.variables):
        costs = np.zeros((counts + problem.levels, len(variable.domain)), np.int64)
        costs[:counts] = [[random.random() < 0.3 for _ in variable.domain] for _ in range(counts)]
        factors.append(CostTable((v,), costs))
    return Problem(problem.labels, counts + problem.levels, problem.variables, tuple(factors))


def test_each_level_that_is_nothing() -> None:
    found_any = impossible = 0
    for seed in range(150):
        random = Random(seed)
        counts = random.randint(1, 4)
        problem = counting(random, random_problem(random, scale=9), counts)
        every = map(problem.cost, itertools.product(*(v.domain for v in problem.variables)))
        costs = [cost for cost in every if cost is not None]
        found = optima(problem, counts) if costs else []
        for level, least in enumerate(found):
            own = [cost[counts:] for cost in costs if cost[level] == 0]
            assert least == min(own, default=None)
            found_any += bool(own)
            impossible += not own
    assert found_any > 100
    assert impossible > 20


def test_a_dense_problem_has_no_answer() -> None:
    with pytest.raises(TooDenseError):
        optima(dense_problem(2, variables=30, labels=4), 1)
