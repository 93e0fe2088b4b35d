"""How far a price may change, against every assignment of small problems."""

import itertools
from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import solver.breakpoints
import solver.reduce
import solver.sums
from solver import (
    FORBIDDEN,
    CostTable,
    InfeasibleError,
    Limit,
    Problem,
    ProblemError,
    SharedCopies,
    Variable,
    solve,
    steadiness,
)
from solver.problem import Costs
from tests.solver.problems import random_problem

LEAST = Fraction(-1)
"""A price falls to nothing at most."""


def parts_of(random: Random, problem: Problem) -> tuple[CostTable | SharedCopies, ...]:
    """Some prices of copies as they are, and some entries of tables."""
    found: list[CostTable | SharedCopies] = []
    pairs = np.array([random.random() < 0.4 for _ in range(problem.labels**2)])
    chosen = pairs.reshape(problem.labels, problem.labels)
    for factor in problem.factors:
        if isinstance(factor, SharedCopies):
            allowed = chosen & (factor.prices[0] < FORBIDDEN)
            part: Costs = np.where(allowed, factor.prices[0], 0)[None]
            np.fill_diagonal(part[0], 0)
            found.append(SharedCopies(factor.source, factor.users, part))
        elif isinstance(factor, CostTable) and random.random() < 0.4:
            some = np.where(factor.costs[:1] < FORBIDDEN, np.abs(factor.costs[:1]), 0)
            found.append(CostTable(factor.scope, some))
    return tuple(found)


def brute(
    problem: Problem, amounts: tuple[CostTable | SharedCopies, ...], own: tuple[int, int]
) -> tuple[Fraction | None, Fraction | None]:
    low, high = None, None
    for assignment in itertools.product(*(v.domain for v in problem.variables)):
        cost = problem.cost(assignment)
        if cost is None:
            continue
        more = Limit(amounts, 0).amount(problem, assignment) - own[1]
        if more < 0:
            end = Fraction(cost[0] - own[0], -more)
            high = end if high is None else min(high, end)
        elif more > 0:
            end = Fraction(own[0] - cost[0], more)
            if end > LEAST:
                low = end if low is None else max(low, end)
    return low, high


@given(st.randoms(use_true_random=False), st.booleans())
@settings(max_examples=200)
def test_ends_are_those_of_all_assignments(random: Random, is_rough: bool) -> None:
    problem = random_problem(random, scale=9)
    try:
        best = solve(problem)
    except InfeasibleError:
        return
    prices = [parts_of(random, problem) for _ in range(random.randint(1, 5))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solver.breakpoints, "_TOGETHER", 2)
        patch.setattr(solver.sums, "KEPT_LIMIT", random.choice((2**8, 2**25)))
        if is_rough:
            patch.setattr(solver.breakpoints, "WIDEST", 2**12)
        every = [(amounts, LEAST) for amounts in prices]
        all_found = list(steadiness(problem, every, best.assignment))
    for amounts, found in zip(prices, all_found, strict=True):
        own = best.cost[0], Limit(amounts, 0).amount(problem, best.assignment)
        low, high = brute(problem, amounts, own)
        if found.is_exact:
            assert (found.low, found.high) == (low, high)
        else:
            # A little before the end that is given, another may be as good.
            assert (found.low is None) == (low is None) and (found.high is None) == (high is None)
            if low is not None and found.low is not None:
                assert found.low <= low
            if high is not None and found.high is not None:
                assert found.high >= high
        assert found.is_exact or is_rough


def test_large_copies_as_brute_force_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    # Copies are expressed by nodes of their own, which tell whether each is made.
    monkeypatch.setattr(solver.reduce, "DENSE_LIMIT", 2)
    for seed in range(150):
        random = Random(seed)
        problem = random_problem(random, scale=9)
        try:
            best = solve(problem)
        except InfeasibleError:
            continue
        prices = [parts_of(random, problem) for _ in range(3)]
        every = [(amounts, LEAST) for amounts in prices]
        for amounts, found in zip(prices, steadiness(problem, every, best.assignment), strict=True):
            own = best.cost[0], Limit(amounts, 0).amount(problem, best.assignment)
            assert (found.low, found.high) == brute(problem, amounts, own)


def test_copies_that_are_not_of_the_problem() -> None:
    problem = Problem(2, 1, (Variable((0, 1)),) * 2, ())
    amounts = [SharedCopies(0, (1,), np.ones((1, 2, 2), np.int64))]
    with pytest.raises(ProblemError, match="no copies of 0"):
        list(steadiness(problem, [(amounts, LEAST)], (0, 1)))
