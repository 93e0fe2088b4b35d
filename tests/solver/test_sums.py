"""Weighted sums that take two numbers, against those of one and against all assignments."""

from __future__ import annotations

import itertools
from fractions import Fraction
from random import Random

import numpy as np
import pytest

import solver.sums
from solver import CostTable, Problem, Variable, corners, pareto, solve, steadiness
from solver.sums import WeightedSums, weigh
from tests.solver.problems import random_net
from tests.solver.test_corners import copied, hull


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sum takes two numbers, of which one has most of the digits."""
    monkeypatch.setattr(solver.sums, "LARGEST", 1)
    monkeypatch.setattr(solver.sums, "CARRY", 2**14)


def dense(random: Random) -> tuple[Problem, list[list[CostTable]]]:
    """Costs of all pairs of a few variables, and two amounts."""
    pairs = list(itertools.combinations(range(6), 2))

    def tables(most: int) -> list[CostTable]:
        numbers = (random.randint(0, most) for _ in itertools.count())
        return [
            CostTable(pair, np.fromiter(numbers, np.int64, 9).reshape(1, 3, 3)) for pair in pairs
        ]

    problem = Problem(3, 1, (Variable((0, 1, 2)),) * 6, tuple(tables(1000)))
    return problem, [tables(1000), tables(7)]


@pytest.mark.usefixtures("narrow")
def test_the_best_of_all_assignments_by_sums_of_two_numbers() -> None:
    for seed in range(20):
        random = Random(seed)
        problem, several = dense(random)
        sums = WeightedSums(problem, several)
        every = [sums.of(values) for values in itertools.product(range(3), repeat=6)]
        asked = [
            (level, (random.randint(1, 99), random.randint(-99, 99)))
            for level in (1, 2)
            for _ in range(10)
        ]
        found = zip(asked, sums.best(asked), sums.bounds(asked), strict=True)
        for (level, weights), pair, bound in found:
            pairs = {(cost[0], cost[level]) for cost in every}
            least = min(weigh(one, weights) for one in pairs)
            assert pair in pairs
            assert bound <= weigh(pair, weights) == least


@pytest.mark.usefixtures("narrow")
def test_corners_of_nets_are_found_by_two_numbers() -> None:
    for seed in range(3):
        problem = random_net(Random(seed), 14)
        amounts = copied(problem, np.random.default_rng(seed))
        (found,) = corners(problem, [amounts], solve(problem).assignment)
        points = pareto(problem, amounts, gap_limit=0).points
        assert list(found) == hull([(point.cost, point.amount) for point in points])


def test_ends_of_prices_that_one_number_cannot_hold() -> None:
    for seed in range(10):
        random = Random(seed)
        problem, several = dense(random)
        # At an end sums have more digits than one number.
        scale = 10**8 + 1
        large = Problem(
            3,
            1,
            problem.variables,
            tuple(CostTable(f.scope, f.costs * scale + f.costs % 7) for f in _tables(problem)),
        )
        parts = [CostTable(f.scope, f.costs * 10**8 + f.costs % 5) for f in several[0]]
        best = solve(large).assignment
        (found,) = steadiness(large, [(parts, Fraction(-1))], best)
        own = _cost(large, best), sum(_entry(part, best) for part in parts)
        lows, highs = [Fraction(-1)], []
        for values in itertools.product(range(3), repeat=6):
            cost, amount = _cost(large, values), sum(_entry(part, values) for part in parts)
            if amount > own[1]:
                lows.append(Fraction(own[0] - cost, amount - own[1]))
            elif amount < own[1]:
                highs.append(Fraction(cost - own[0], own[1] - amount))
        assert found.is_exact
        assert found.low == (max(lows) if max(lows) > -1 else None)
        assert found.high == min(highs, default=None)


def _tables(problem: Problem) -> list[CostTable]:
    return [factor for factor in problem.factors if isinstance(factor, CostTable)]


def _cost(problem: Problem, values: tuple[int, ...]) -> int:
    cost = problem.cost(values)
    assert cost is not None
    return cost[0]


def _entry(table: CostTable, values: tuple[int, ...]) -> int:
    return int(table.costs[0][tuple([values[v] for v in table.scope])])
