"""Trade-offs against every assignment of small problems."""

import itertools
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import solver.fronts
import solver.sums
from solver import (
    CostTable,
    Front,
    InfeasibleError,
    Limit,
    Problem,
    SharedCopies,
    Variable,
    level_limit,
    pareto,
    solve_ilp,
)
from solver.pairs import TooManyPairsError
from tests.solver.problems import random_net, random_problem

Pair = tuple[int, int]


def random_amounts(random: Random, problem: Problem) -> tuple[CostTable | SharedCopies, ...]:
    """Tables and copies that cost nothing or something."""
    count, labels = len(problem.variables), problem.labels
    prices = np.array([random.randint(0, 5) for _ in range(labels * labels)], np.int64).reshape(
        1, labels, labels
    )
    found: list[CostTable | SharedCopies] = []
    for v, variable in enumerate(problem.variables):
        costs = [[random.randint(0, 5) for _ in variable.domain]]
        found.append(CostTable((v,), np.array(costs, np.int64)))
        users = tuple(random.randrange(count) for _ in range(random.randint(1, 3)))
        found.append(SharedCopies(v, users, prices))
    return tuple(found)


def brute_front(problem: Problem, amounts: tuple[CostTable | SharedCopies, ...]) -> list[Pair]:
    """The pairs of cost and amount that no other pair is as good as in both."""
    pairs = set()
    for assignment in itertools.product(*(v.domain for v in problem.variables)):
        cost = problem.cost(assignment)
        if cost is not None:
            pairs.add((cost[0], Limit(amounts, 0).amount(problem, assignment)))
    return sorted(
        pair
        for pair in pairs
        if not any(o != pair and o[0] <= pair[0] and o[1] <= pair[1] for o in pairs)
    )


def pairs(front: Front) -> list[Pair]:
    return [(point.cost, point.amount) for point in front.points]


def one_by_one(patch: pytest.MonkeyPatch) -> None:
    """Has points between corners found by integer programs, as where they are too many."""

    def pairs_below(*_: object) -> None:
        raise TooManyPairsError

    patch.setattr(solver.fronts, "pairs_below", pairs_below)


@pytest.mark.parametrize("together", [True, False])
@given(st.randoms(use_true_random=False))
@settings(max_examples=120)
def test_all_points_of_small_problems(together: bool, random: Random) -> None:
    problem = random_problem(random, scale=6)
    amounts = random_amounts(random, problem)
    expected = brute_front(problem, amounts)
    with pytest.MonkeyPatch.context() as patch:
        if not together:
            one_by_one(patch)
        try:
            front = pareto(problem, amounts)
        except InfeasibleError:
            assert not expected
            return
    assert pairs(front) == expected and not front.gaps
    for point in front.points:
        cost = problem.cost(point.assignment)
        assert cost is not None and cost[0] == point.cost
        assert Limit(amounts, 0).amount(problem, point.assignment) == point.amount


@given(st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_weights_that_are_rounded_lose_no_point(random: Random) -> None:
    problem = random_problem(random, scale=6)
    amounts = random_amounts(random, problem)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solver.sums, "LARGEST", random.choice([1, 100, 1000]))
        try:
            assert pairs(pareto(problem, amounts)) == brute_front(problem, amounts)
        except InfeasibleError:
            assert not brute_front(problem, amounts)


def test_a_point_that_no_weights_lead_to() -> None:
    """Costs 0, 6 and 10 for amounts 10, 5 and 0: the second is above the line of the others."""
    variable = Variable((0, 1, 2))
    problem = Problem(3, 1, (variable,), (CostTable((0,), np.array([[0, 6, 10]])),))
    front = pareto(problem, [CostTable((0,), np.array([[10, 5, 0]]))])
    assert pairs(front) == [(0, 10), (6, 5), (10, 0)]
    assert [point.supported for point in front.points] == [True, False, True]


def test_where_the_work_ends_there_are_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    variable = Variable((0, 1, 2, 3, 4, 5))
    table = CostTable((0,), np.array([[0, 6, 8, 10, 11, 20]]))
    problem = Problem(6, 1, (variable,), (table,))
    amounts = [CostTable((0,), np.array([[10, 6, 5, 4, 3, 0]]))]
    every = pareto(problem, amounts)
    assert pairs(every) == [(0, 10), (6, 6), (8, 5), (10, 4), (11, 3), (20, 0)]
    one_by_one(monkeypatch)
    front = pareto(problem, amounts, gap_limit=0)
    corners = [point for point in every.points if point.supported]
    assert pairs(front) == [(point.cost, point.amount) for point in corners]
    assert front.gaps == tuple(range(len(corners) - 1))


def test_nets_against_limits() -> None:
    """From each point on, the best with a smaller amount is the next."""
    for seed in range(3):
        problem = random_net(Random(seed), 15)
        ones = np.ones((1, 4, 4), np.int64)
        copies = [
            SharedCopies(factor.source, factor.users, ones)
            for factor in problem.factors
            if isinstance(factor, SharedCopies)
        ]
        front = pareto(problem, copies)
        assert len(front.points) > 2 and not front.gaps
        for point, after in itertools.pairwise(front.points):
            best = solve_ilp(problem, [Limit(tuple(copies), point.amount - 1)])
            assert best.cost[0] == after.cost and after.amount < point.amount
        with pytest.raises(InfeasibleError):
            solve_ilp(problem, [Limit(tuple(copies), front.points[-1].amount - 1)])
    assert level_limit(problem, 0, 0).factors
