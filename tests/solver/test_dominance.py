"""Labels that others make superfluous, against brute force."""

from __future__ import annotations

import itertools
import sys
from random import Random

import numpy as np
import pytest

from solver import FORBIDDEN, Agree, CostTable, Problem, SharedCopies, Status, Variable, solve
from solver.dominance import undominated
from solver.problem import Costs, Factor
from tests.solver.problems import brute_force, random_problem


def plain_problem(random: Random) -> Problem:
    """Like those of real graphs: much alike, so that labels are often superfluous."""
    labels, levels, count = random.randint(2, 5), random.randint(1, 3), random.randint(1, 6)
    domains = [tuple(range(labels))] * 3 + [
        tuple(sorted(random.sample(range(labels), random.randint(1, labels)))) for _ in range(2)
    ]
    variables = tuple(Variable(random.choice(domains)) for _ in range(count))
    step = np.array([[random.randint(0, 2)] * labels for _ in range(levels)], np.int64)
    prices = np.ones((levels, labels, labels), np.int64) * random.randint(1, 3)
    if random.random() < 0.5:
        prices += np.array([random.randint(0, 2) for _ in range(labels)], np.int64)
    factors: list[Factor] = []
    for v, variable in enumerate(variables):
        if random.random() < 0.6:
            costs = (step.cumsum(axis=1) * random.randint(0, 1))[:, list(variable.domain)]
            if random.random() < 0.2:
                costs = costs.copy()
                costs[0, random.randrange(len(variable.domain))] = FORBIDDEN
            factors.append(CostTable((v,), costs))
    for _ in range(random.randint(0, 4)):
        kind = random.random()
        users = tuple(random.randrange(count) for _ in range(random.randint(1, 3)))
        if kind < 0.7:
            factors.append(SharedCopies(random.randrange(count), users, prices))
        else:
            classes = tuple(random.choice([label, 0]) for label in range(labels))
            factors.append(Agree(users, classes))
    return Problem(labels, levels, variables, tuple(factors))


def labels_of(problem: Problem) -> set[int]:
    return set(itertools.chain.from_iterable(v.domain for v in problem.variables))


def test_what_is_left_out_is_not_missed() -> None:
    random, reduced = Random(1), 0
    for _ in range(500):
        problem = plain_problem(random)
        less = undominated(problem)
        if less is None:
            continue
        less.validate()
        assert labels_of(less) < labels_of(problem)
        assert brute_force(less) == brute_force(problem)
        reduced += 1
    assert reduced > 80


def test_any_problem() -> None:
    random, reduced = Random(2), 0
    for _ in range(1500):
        problem = random_problem(random)
        less = undominated(problem)
        if less is not None:
            assert brute_force(less) == brute_force(problem)
            reduced += 1
    assert reduced > 50


def test_solving_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solver.order.EASY_TABLE", 0)
    random = Random(3)
    for _ in range(150):
        problem = plain_problem(random)
        least = brute_force(problem)
        if least is None:
            continue
        solution = solve(problem)
        assert solution.cost == solution.bound == least
        assert problem.cost(solution.assignment) == least


def mesh(width: int, length: int, labels: int, needed: int) -> Problem:
    """A grid in which each variable is copied to two others; few labels are asked for by any."""
    variables = [Variable(tuple(range(labels))) for _ in range(width * length)]
    random = Random(4)
    for v in random.sample(range(len(variables)), len(variables) // 4):
        variables[v] = Variable((random.randrange(needed),))
    prices: Costs = np.full((1, labels, labels), 5, np.int64)
    factors: list[Factor] = []
    for row, column in itertools.product(range(length), range(width)):
        v = row * width + column
        users = [v + width] * (row + 1 < length) + [v + 1] * (column + 1 < width)
        if users:
            factors.append(SharedCopies(v, tuple(users), prices))
    return Problem(labels, 1, tuple(variables), tuple(factors))


def test_a_wide_mesh_is_solved_without_search(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = mesh(width=10, length=12, labels=6, needed=2)
    solution = solve(problem)
    assert solution.status is Status.OPTIMAL
    assert solution.statistics.core == 0
    monkeypatch.setattr(sys.modules["solver.solve"], "undominated", lambda problem: None)
    assert solve(problem, time_limit=0.01).statistics.core > 0


def test_a_label_that_an_operator_asks_for_stays() -> None:
    asked = Problem(2, 1, (Variable((0, 1)), Variable((1,)), Variable((0,))), ())
    assert undominated(asked) is None
