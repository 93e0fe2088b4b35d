"""What is best without some labels, against every assignment."""

from __future__ import annotations

import itertools
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray

from solver import CostTable, Problem, TooDenseError, Variable
from solver.optima import optima
from solver.prepared import Prepared
from tests.solver.problems import brute_force, dense_problem, random_problem


def bans(random: Random, problem: Problem, questions: int) -> tuple[list[int], NDArray[np.int64]]:
    """Some variables, one of them twice, and masks of labels that each question bans."""
    variables = [random.randrange(len(problem.variables)) for _ in range(random.randint(1, 4))]
    rows = [
        [sum(1 << b for b in range(problem.labels) if random.random() < 0.3) for _ in variables]
        for _ in range(questions)
    ]
    return variables, np.array(rows, np.int64)


@pytest.mark.parametrize("is_prepared_dense", [False, True])
def test_each_question_against_every_assignment(is_prepared_dense: bool) -> None:
    found_any = impossible = 0
    for seed in range(200):
        random = Random(seed)
        # Two levels of large costs take two numbers.
        problem = random_problem(random, scale=random.choice((9, 2**45)))
        if brute_force(problem) is None:
            continue
        prepared = Prepared(problem)
        if is_prepared_dense:
            # The order is looked for again, without the labels that no question allows.
            prepared.order = None
        first = random.randrange(max(problem.levels - 2, 0), problem.levels)
        variables, banned = bans(random, problem, random.randint(1, 4))
        found = optima(prepared, variables, banned, first=first)
        for row, least in zip(banned.tolist(), found, strict=True):
            allowed = [
                cost[first:]
                for labels in itertools.product(*(v.domain for v in problem.variables))
                if not any(row[i] >> labels[v] & 1 for i, v in enumerate(variables))
                and (cost := problem.cost(labels)) is not None
            ]
            assert least == min(allowed, default=None), seed
            found_any += bool(allowed)
            impossible += not allowed
    assert found_any > 100
    assert impossible > 20


def test_a_dense_problem_has_no_answer() -> None:
    prepared = Prepared(dense_problem(2, variables=30, labels=4))
    assert prepared.order is None
    with pytest.raises(TooDenseError):
        optima(prepared, [0], np.zeros((1, 1), np.int64))


def test_costs_of_more_than_two_numbers_have_no_answer() -> None:
    costs = np.full((3, 2), 2**50, np.int64)
    costs[:, 0] = 0
    problem = Problem(2, 3, (Variable((0, 1)),), (CostTable((0,), costs),))
    assert optima(Prepared(problem), [0], np.array([[1]]), first=1) == [(2**50, 2**50)]
    with pytest.raises(TooDenseError):
        optima(Prepared(problem), [0], np.array([[1]]))
