import itertools
from collections import Counter
from itertools import islice
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import solver.ranking
import solver.reduce
from solver import (
    CostTable,
    InfeasibleError,
    Problem,
    SharedCopies,
    Status,
    Variable,
    ranked,
    solve,
)
from tests.solver.problems import dense_problem, random_net, random_problem

Cost = tuple[int, ...]


def every(problem: Problem) -> list[Cost]:
    """The costs of all assignments, in order."""
    domains = [variable.domain for variable in problem.variables]
    costs = [problem.cost(assignment) for assignment in itertools.product(*domains)]
    return sorted(cost for cost in costs if cost is not None)


def found(problem: Problem, most: int | None = None, table_limit: int = 2**20) -> list[Cost]:
    """The costs of assignments as they come; all differ, and all are proven."""
    try:
        assignments = list(islice(ranked(problem, table_limit=table_limit), most))
    except InfeasibleError:
        return []
    assert len({a.assignment for a in assignments}) == len(assignments)
    for a in assignments:
        assert problem.cost(a.assignment) == a.cost == a.bound
        assert a.status is Status.OPTIMAL
    return [a.cost for a in assignments]


@given(st.randoms(use_true_random=False))
@settings(max_examples=150)
def test_all_assignments_in_order(random: Random) -> None:
    problem = random_problem(random)
    assert found(problem) == every(problem)


@given(st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_copies_too_large_for_one_table(random: Random) -> None:
    problem = random_problem(random, variables=5, labels=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solver.ranking, "DENSE_LIMIT", 1)
        patch.setattr(solver.reduce, "DENSE_LIMIT", 1)
        assert found(problem) == every(problem)


@given(st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_copies_that_nobody_needs_are_left_out(random: Random) -> None:
    """Where nodes that say which copies are needed are too many, others say which may be made."""
    problem = random_problem(random, variables=5, labels=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solver.ranking, "_determined", lambda problem: problem)
        patch.setattr(solver.reduce, "DENSE_LIMIT", 1)
        assert found(problem) == every(problem)


@given(st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_where_tables_get_too_large(random: Random) -> None:
    problem = random_problem(random, variables=4, labels=3)
    assert found(problem, 12, table_limit=2) == every(problem)[:12]


def test_the_first_is_the_optimum_of_a_net() -> None:
    for seed in range(20):
        problem = random_net(Random(seed), 40, fan_out=20)
        costs = found(problem, 30)
        assert costs[0] == solve(problem).cost
        assert costs == sorted(costs)


def test_the_second_best_by_solving_again() -> None:
    """Each label of the best assignment is forbidden in turn: the best of what is left."""
    for seed in range(5):
        problem = random_net(Random(seed), 12)
        first, second = islice(ranked(problem), 2)
        costs = []
        for v, variable in enumerate(problem.variables):
            barred = np.zeros((3, len(variable.domain)), np.int64)
            barred[0, variable.domain.index(first.assignment[v])] = 2**62
            without = (*problem.factors, CostTable((v,), barred))
            try:
                costs.append(solve(Problem(4, 3, problem.variables, without)).cost)
            except InfeasibleError:
                continue
        assert second.cost == min(costs)


def test_differences_of_some_variables_alone() -> None:
    problem = random_net(Random(3), 3, labels=3)
    some = range(0, len(problem.variables), 3)
    best: dict[tuple[int, ...], Cost] = {}
    domains = [variable.domain for variable in problem.variables]
    for assignment in itertools.product(*domains):
        cost = problem.cost(assignment)
        key = tuple(assignment[v] for v in some)
        if cost is not None and (key not in best or cost < best[key]):
            best[key] = cost
    costs = [a.cost for a in islice(ranked(problem, some), 200)]
    assert costs == sorted(best.values())[:200]


def test_copies_without_a_price_come_once() -> None:
    """A copy that is free and that nobody needs would be a second way to the same assignment."""
    domain = Variable(tuple(range(6)))
    free = SharedCopies(0, (1, 2, 3, 4), np.zeros((1, 6, 6), np.int64))
    problem = Problem(6, 1, (domain,) * 5, (free,))
    assert Counter(found(problem)) == {(0,): 6**5}


def test_an_order_that_is_not_proven_says_so() -> None:
    problem = dense_problem(1, 14, 6)
    first, second = islice(ranked(problem, table_limit=2, time_limit=0.01), 2)
    for a in (first, second):
        assert a.status is Status.FEASIBLE
        assert a.bound < a.cost == problem.cost(a.assignment)


def test_no_solution() -> None:
    barred = CostTable((0,), np.full((1, 2), 2**62))
    with pytest.raises(InfeasibleError):
        ranked(Problem(2, 1, (Variable((0, 1)),), (barred,)))
