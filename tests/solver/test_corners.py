"""The corners of trade-offs, against the convex hull of all assignments of small problems."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import solver.reduce
from solver import InfeasibleError, Problem, SharedCopies, corners, pareto, solve
from tests.solver.problems import random_net, random_problem
from tests.solver.test_fronts import brute_front, random_amounts

Pair = tuple[int, int]


def hull(front: list[Pair]) -> list[Pair]:
    """The corners of the convex hull of points by rising cost and falling amount."""
    found: list[Pair] = []
    for c, d in front:
        while len(found) > 1:
            (a, b), (x, y) = found[-2:]
            if (c - a) * (y - b) < (x - a) * (d - b):
                break
            found.pop()
        found.append((c, d))
    return found


@given(st.randoms(use_true_random=False), st.sampled_from([1, 1024]))
@settings(max_examples=120)
def test_corners_are_those_of_all_assignments(random: Random, dense: int) -> None:
    problem = random_problem(random, scale=6)
    several = [random_amounts(random, problem) for _ in range(2)]
    try:
        best = solve(problem)
    except InfeasibleError:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solver.reduce, "DENSE_LIMIT", dense)
        found = corners(problem, several, best.assignment)
    assert [list(pairs) for pairs in found] == [hull(brute_front(problem, a)) for a in several]


def copied(problem: Problem, random: np.random.Generator) -> list[SharedCopies]:
    """Amounts of a problem's copies, the same for each pair of labels."""
    amounts = random.integers(0, 50, (1, problem.labels, problem.labels))
    copies = [factor for factor in problem.factors if isinstance(factor, SharedCopies)]
    return [SharedCopies(factor.source, factor.users, amounts) for factor in copies]


def test_corners_of_nets_are_points_of_their_trade_offs() -> None:
    for seed in range(3):
        problem = random_net(Random(seed), 14)
        several = [copied(problem, np.random.default_rng(seed + n)) for n in range(2)]
        found = corners(problem, several, solve(problem).assignment)
        for amounts, pairs in zip(several, found, strict=True):
            points = pareto(problem, amounts, gap_limit=0).points
            assert list(pairs) == hull([(point.cost, point.amount) for point in points])
