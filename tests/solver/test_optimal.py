import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import combinations
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import solver.order
import solver.reduce
from api.bench.instances import OBJECTIVES, TIMES, problem_of, recurrent
from planner.options import make_options
from solver import (
    Agree,
    CostTable,
    InfeasibleError,
    Problem,
    SharedCopies,
    Solution,
    Status,
    Variable,
    solve,
    solve_whole,
)
from solver.problem import Costs, Factor
from solver.solve import TABLE_LIMIT
from tests.solver.problems import brute_force, random_net, random_problem


def optimum(problem: Problem, table_limit: int = TABLE_LIMIT) -> tuple[int, ...] | None:
    try:
        solution = solve(problem, table_limit=table_limit)
    except InfeasibleError:
        with pytest.raises(InfeasibleError):
            solver.optimum(problem, table_limit=table_limit)
        return None
    assert solver.optimum(problem, table_limit=table_limit) == (solution.cost, True)
    return proven(problem, solution)


def whole_optimum(problem: Problem) -> tuple[int, ...] | None:
    try:
        solution = solve_whole(problem)
    except InfeasibleError:
        return None
    return proven(problem, solution)


def proven(problem: Problem, solution: Solution) -> tuple[int, ...]:
    assert solution.status is Status.OPTIMAL
    assert problem.cost(solution.assignment) == solution.cost == solution.bound
    return solution.cost


@pytest.mark.slow
@given(st.randoms(use_true_random=False))
@settings(max_examples=150)
def test_any_problem_against_brute_force(random: Random) -> None:
    problem = random_problem(random)
    expected = brute_force(problem)
    assert optimum(problem) == expected
    assert optimum(problem, table_limit=12) == expected


@pytest.mark.slow
def test_many_problems_against_brute_force() -> None:
    infeasible = 0
    for seed in range(2000):
        problem = random_problem(Random(seed))
        expected = brute_force(problem)
        assert optimum(problem) == expected, seed
        infeasible += expected is None
    assert 50 < infeasible < 1000


def test_yes_no_nodes_against_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver.reduce, "DENSE_LIMIT", 1)
    for seed in range(500):
        problem = random_problem(Random(seed))
        assert optimum(problem) == brute_force(problem), seed


@pytest.mark.parametrize("table_limit", [2, 8])
def test_cores_against_brute_force(table_limit: int) -> None:
    for seed in range(40):
        problem = random_problem(Random(seed))
        assert optimum(problem, table_limit=table_limit) == brute_force(problem), seed


def test_whole_model_against_brute_force() -> None:
    for seed in range(60):
        problem = random_problem(Random(seed))
        assert whole_optimum(problem) == brute_force(problem), seed


@pytest.mark.slow
def test_larger_problems_against_the_whole_model() -> None:
    for seed in range(2000):
        problem = random_problem(Random(seed), variables=12, factors=16, scale=50)
        assert optimum(problem) == whole_optimum(problem), seed


@pytest.mark.slow
@pytest.mark.parametrize("fan_out", [0, 8])
def test_nets_against_the_whole_model(fan_out: int) -> None:
    for seed in range(10):
        problem = random_net(Random(seed), 8, fan_out=fan_out)
        assert optimum(problem) == whole_optimum(problem), seed


def star_optimum(source: Costs, users: list[Costs], prices: Costs) -> int:
    """Try every label of the source with every set of copies; each user takes its best of them."""
    labels = range(len(source[0]))
    best = []
    for made, copies in itertools.product(labels, powerset(labels)):
        there = {made, *copies}
        cost = sum(prices[0, made, t] for t in copies if t != made) + source[0, made]
        best.append(cost + sum(min(user[0, t] for t in there) for user in users))
    return int(min(best))


def powerset(labels: Sequence[int]) -> list[tuple[int, ...]]:
    return [some for size in range(len(labels) + 1) for some in combinations(labels, size)]


@pytest.mark.parametrize("seed", range(5))
def test_fan_out_of_thirty_makes_small_tables(seed: int) -> None:
    random = np.random.default_rng(seed)
    unary = [random.integers(0, 30, (1, 6)) for _ in range(31)]
    prices = random.integers(1, 200, (1, 6, 6))
    factors: list[Factor] = [CostTable((v,), costs) for v, costs in enumerate(unary)]
    factors.append(SharedCopies(0, tuple(range(1, 31)), prices))
    problem = Problem(6, 1, (Variable(tuple(range(6))),) * 31, tuple(factors))
    solution = solve(problem)
    assert proven(problem, solution) == (star_optimum(unary[0], unary[1:], prices),)
    assert solution.statistics.core == 0
    assert solution.statistics.largest_table <= 6 * 2**6


def test_shares_of_copies_prove_the_optimum_where_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    proven_so = 0
    for seed in range(40):
        # The more it costs not to have the first label, the fewer copies are made.
        random = np.random.default_rng(seed)
        costs = random.integers(0, 10, (13, 1, 4))
        costs[:, :, 1:] += random.integers(0, 10)
        factors: list[Factor] = [CostTable((v,), table) for v, table in enumerate(costs)]
        factors.append(SharedCopies(0, tuple(range(1, 13)), random.integers(1, 60, (1, 4, 4))))
        problem = Problem(4, 1, (Variable((0, 1, 2, 3)),) * 13, tuple(factors))
        with monkeypatch.context() as patch:
            # No order is easy.
            patch.setattr(solver.order, "EASY_TABLE", 0)
            solution = solve(problem)
        copies = factors[-1]
        assert isinstance(copies, SharedCopies)
        prices = copies.prices
        assert proven(problem, solution) == (star_optimum(costs[0], list(costs[1:]), prices),)
        proven_so += solution.statistics.nodes == len(problem.variables)
    assert 5 < proven_so < 35


def test_a_long_recurrence_has_small_tables() -> None:
    graph = recurrent(40, 24)
    for objective in OBJECTIVES:
        problem = problem_of(graph, make_options(TIMES, objective=objective))
        solution = solve(problem)
        proven(problem, solution)
        assert solution.statistics.largest_table <= 6**5


def test_a_net_with_a_fan_out_of_thirty_needs_no_core() -> None:
    solution = solve(random_net(Random(5), 40, labels=5, fan_out=30))
    assert solution.status is Status.OPTIMAL
    assert solution.statistics.core == 0


def test_ties_go_to_the_first_label() -> None:
    variables = (Variable((2, 0)), Variable((1, 2, 0)), Variable((0, 1)))
    copies = SharedCopies(0, (1,), np.zeros((1, 3, 3), np.int64))
    assert solve(Problem(3, 1, variables, (copies,))).assignment == (2, 1, 0)


def test_equal_users_and_source_cost_nothing() -> None:
    prices = np.full((1, 2, 2), 7, np.int64)
    likes = [np.array([row], np.int64) for row in ([0, 5], [9, 0])]
    factors = (
        SharedCopies(0, (1, 1, 0), prices),
        Agree((0, 1), (0, 1)),
        CostTable((0,), likes[0]),
        CostTable((1,), likes[1]),
    )
    solution = solve(Problem(2, 1, (Variable((0, 1)),) * 2, factors))
    assert solution.assignment == (1, 1)
    assert solution.cost == (5,)
    assert solution.statistics.merged == 1


def test_an_agreement_becomes_an_equality_when_domains_shrink() -> None:
    # Labels 1 and 2 are of different pairs, and nothing else is left once the others are merged.
    pairs, equal = (0, 0, 1, 1), (0, 1, 2, 3)
    variables = (*[Variable((0, 1, 2, 3))] * 2, *[Variable((1, 2))] * 2)
    factors = (Agree((0, 1), pairs), Agree((0, 3), equal), Agree((1, 2), equal))
    assert solve(Problem(4, 1, variables, factors)).statistics.merged == 1


def test_a_table_over_merged_variables_is_its_diagonal() -> None:
    costs = np.array([[[[5, 0], [0, 1]], [[1, 0], [0, 4]]]], np.int64)
    factors = (CostTable((0, 1, 2), costs), Agree((2, 0), (0, 1)))
    problem = Problem(2, 1, (Variable((0, 1)),) * 3, factors)
    assert optimum(problem) == brute_force(problem) == (0,)


def chain(length: int) -> tuple[Problem, int]:
    """Return a chain of random pair costs, and its optimum by dynamic programming."""
    random = Random(length)
    tables = [[[random.randint(0, 99) for _ in range(3)] for _ in range(3)] for _ in range(9)]
    arrays: list[Costs] = [np.array([table], np.int64) for table in tables]
    best = [0, 0, 0]
    factors: list[Factor] = []
    for v in range(length - 1):
        which = random.randrange(9)
        factors.append(CostTable((v, v + 1), arrays[which]))
        best = [min(best[i] + tables[which][i][j] for i in range(3)) for j in range(3)]
    variables = (Variable((0, 1, 2)),) * length
    return Problem(3, 1, variables, tuple(factors)), min(best)


def test_a_deep_chain() -> None:
    problem, expected = chain(20_000)
    solution = solve(problem)
    assert solution.cost == (expected,)
    assert solution.statistics.width <= 2


def test_a_hub_with_many_users() -> None:
    users = 3_000
    prices = np.full((1, 4, 4), 10, np.int64)
    factors: list[Factor] = [SharedCopies(0, tuple(range(1, users + 1)), prices)]
    wants = np.full((4, 1, 4), 3, np.int64)
    for label in range(4):
        wants[label, 0, label] = 0
    factors += [CostTable((u,), wants[u % 3]) for u in range(1, users + 1)]
    variables = (Variable((0, 1, 2, 3)),) * (users + 1)
    solution = solve(Problem(4, 1, variables, tuple(factors)))
    assert solution.cost == (20,)
    assert solution.statistics.core == 0


def test_same_problem_same_assignment() -> None:
    problem = random_net(Random(3), 30, fan_out=12, scale=2)
    assert solve(problem).assignment == solve(problem).assignment
    cored = [solve(problem, table_limit=64) for _ in range(2)]
    assert cored[0].statistics.core > 0
    assert cored[0].assignment == cored[1].assignment


SCRIPT = """
import sys
from random import Random
sys.path.insert(0, "tests/solver")
from tests.solver.problems import random_net
from solver import solve
assert not {"ortools", "networkx"} & set(sys.modules)
print(solve(random_net(Random(3), 30, fan_out=12, scale=2)).assignment)
assert "ortools" not in sys.modules
"""


def test_same_assignment_in_any_process_without_ortools() -> None:
    printed = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    here = solve(random_net(Random(3), 30, fan_out=12, scale=2)).assignment
    assert printed == {f"{here}\n"}
