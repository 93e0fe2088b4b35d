"""The compact ILP: the optimum by brute force, and a proof that does not depend on floats."""

import itertools
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray

from solver import (
    FORBIDDEN,
    Agree,
    CostTable,
    InfeasibleError,
    Limit,
    NoSolutionFoundError,
    Problem,
    ProblemError,
    SharedCopies,
    Solution,
    Status,
    Variable,
    ilp,
    level_limit,
    solve,
    solve_ilp,
)
from solver.compact import CompactModel
from tests.solver.problems import brute_force, dense_problem, random_net, random_problem

BOTH = Variable((0, 1))


def best_within(problem: Problem, limits: list[Limit]) -> tuple[int, ...] | None:
    """Return the least cost of any assignment within the limits."""
    found = []
    for assignment in itertools.product(*[variable.domain for variable in problem.variables]):
        cost = problem.cost(assignment)
        if cost is not None and all(x.amount(problem, assignment) <= x.most for x in limits):
            found.append(cost)
    return min(found, default=None)


def optimum(problem: Problem, limits: list[Limit]) -> tuple[int, ...] | None:
    """Return the optimum that is proven; None where there is none."""
    try:
        solution = solve_ilp(problem, limits)
    except InfeasibleError:
        return None
    assert solution.status is Status.OPTIMAL
    assert solution.bound == solution.cost == problem.cost(solution.assignment)
    assert all(limit.amount(problem, solution.assignment) <= limit.most for limit in limits)
    return solution.cost


@pytest.mark.parametrize("scale", [3, 100, 2**40])
def test_small_problems_have_the_optimum_of_brute_force(scale: int) -> None:
    for seed in range(300):
        problem = random_problem(Random(seed), scale=scale)
        assert optimum(problem, []) == brute_force(problem), seed


def random_limit(random: Random, problem: Problem) -> Limit:
    """Tables and copies of their own, some of them over the scopes of the problem's."""
    scopes = [f.scope for f in problem.factors if isinstance(f, CostTable)]
    copies = [(f.source, f.users) for f in problem.factors if isinstance(f, SharedCopies)]
    factors: list[CostTable | SharedCopies] = []
    numbers = np.random.default_rng(random.randrange(10**6))
    count = len(problem.variables)
    for _ in range(random.randint(0, 3)):
        if copies and random.random() < 0.5:
            source, users = random.choice(copies)
            if random.random() < 0.3:
                users = tuple(random.randrange(count) for _ in range(2))
            prices = numbers.integers(
                random.choice((0, -3)), 5, (1, problem.labels, problem.labels)
            )
            factors.append(SharedCopies(source, users, prices))
        else:
            scope = random.choice(scopes) if scopes else (random.randrange(count),)
            sizes = [len(problem.variables[v].domain) for v in scope]
            factors.append(CostTable(scope, numbers.integers(-4, 5, (1, *sizes))))
    return Limit(tuple(factors), random.randint(-4, 3))


def test_limits_are_kept_at_the_optimum_of_brute_force() -> None:
    bound_by = 0
    for seed in range(400):
        random = Random(seed)
        problem = random_problem(random)
        limits = [random_limit(random, problem) for _ in range(random.randint(1, 2))]
        expected = best_within(problem, limits)
        assert optimum(problem, limits) == expected, seed
        bound_by += expected is not None and expected != brute_force(problem)
    assert bound_by > 10


def test_a_limit_of_a_level_gives_points_of_a_trade_off() -> None:
    for seed in range(20):
        problem = random_net(Random(seed), 12, fan_out=4)
        try:
            best = solve(problem)
        except InfeasibleError:
            assert optimum(problem, []) is None
            continue
        assert optimum(problem, [level_limit(problem, 0, best.cost[0])]) == best.cost
        fewer = optimum(problem, [level_limit(problem, 1, best.cost[1] - 1)])
        assert fewer is None or (fewer > best.cost and fewer[1] < best.cost[1])


def test_a_limit_of_a_level_passes_over_what_is_forbidden() -> None:
    prices = np.array([[[0, FORBIDDEN], [5, 0]], [[0, 7], [2, 0]]], np.int64)
    table = CostTable((0,), np.array([[FORBIDDEN, 1], [9, 3]], np.int64))
    problem = Problem(2, 2, (BOTH, BOTH), (SharedCopies(0, (1,), prices), table))
    assert level_limit(problem, 0, 6).amount(problem, (1, 0)) == 6
    assert level_limit(problem, 1, 6).amount(problem, (1, 0)) == 5
    assert optimum(problem, [level_limit(problem, 1, 4)]) == (1, 3)


@pytest.mark.parametrize("seed", range(4))
def test_nets_have_the_optimum_of_elimination(seed: int) -> None:
    problem = random_net(Random(seed), 60, labels=5, fan_out=6)
    try:
        expected = solve(problem).cost
    except InfeasibleError:
        assert optimum(problem, []) is None
    else:
        assert optimum(problem, []) == expected


def test_a_relaxation_with_a_gap_is_closed_by_branching() -> None:
    problem = dense_problem(1, variables=9, labels=3)
    assert optimum(problem, []) == solve(problem).cost


def test_any_duals_prove_only_what_is_true() -> None:
    """Whatever HiGHS could say: the bound of random duals is no higher than the optimum."""
    told = 0
    for seed in range(150):
        problem = random_problem(Random(seed), variables=4)
        best = brute_force(problem)
        if best is None:
            continue
        model = CompactModel(problem)
        rows = ilp._Rows(model.rows)
        costs = np.zeros(model.columns, np.int64)
        for column, amount in model.objectives[0].items():
            costs[column] = amount
        low, high = np.zeros_like(costs), np.ones_like(costs)
        numbers = np.random.default_rng(seed)
        for bits in (0, 12):
            for spread in (0.0, 0.5, 3.0):
                duals = numbers.normal(0, 1, len(model.rows)) * spread
                bound = rows.bound(costs, duals, low, high, bits)
                assert bound.steps <= best[0], seed
                told += bound.least != 0
    assert told > 100


def lies() -> NDArray[np.float64]:
    return np.array([(-1.0) ** n * (n % 7) for n in range(100_000)])


def test_wrong_duals_and_rays_cost_time_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def duals(self: ilp._Relaxation) -> NDArray[np.float64]:
        return lies()[: self.highs.getNumRow()]

    monkeypatch.setattr(ilp._Relaxation, "duals", duals)
    monkeypatch.setattr(ilp._Relaxation, "ray", duals)
    for seed in range(60):
        problem = random_problem(Random(seed), variables=3, labels=3)
        assert optimum(problem, []) == brute_force(problem), seed


def test_relaxations_that_end_within_no_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    run = ilp._Relaxation.run

    def unknown(self: ilp._Relaxation, iterations: int, seconds: float) -> bool:
        run(self, 0, seconds)
        return False

    monkeypatch.setattr(ilp._Relaxation, "run", unknown)
    for seed in range(60):
        problem = random_problem(Random(seed), variables=3, labels=3)
        assert optimum(problem, []) == brute_force(problem), seed


def test_costs_beyond_64_bits_of_a_product() -> None:
    random = Random(1)
    factors = []
    for u, v in itertools.combinations(range(4), 2):
        costs = [[random.randint(0, 2**48) for _ in range(3)] for _ in range(3)]
        factors.append(CostTable((u, v), np.array([costs], np.int64)))
    problem = Problem(3, 1, (Variable((0, 1, 2)),) * 4, tuple(factors))
    assert optimum(problem, []) == brute_force(problem)


def test_a_start_that_is_optimal_is_only_proven() -> None:
    problem = dense_problem(2, variables=8, labels=3)
    best = solve(problem)
    proven = solve_ilp(problem, start=best.assignment)
    assert (proven.assignment, proven.cost) == (best.assignment, best.cost)
    assert proven.status is Status.OPTIMAL


def test_work_that_is_over_before_the_proof() -> None:
    problem = dense_problem(1, variables=11, labels=3)
    best = solve(problem)
    start = (0,) * 11

    def assert_honest(limited: Solution) -> None:
        assert limited.status is Status.FEASIBLE
        assert limited.bound <= best.cost <= limited.cost
        assert problem.cost(limited.assignment) == limited.cost

    assert_honest(solve_ilp(problem, start=start, work_limit=0))
    assert_honest(solve_ilp(problem, start=start, search_seconds=0.0))
    limited = solve_ilp(problem, work_limit=1000)
    assert_honest(limited)
    assert limited.bound > solve_ilp(problem, start=start, work_limit=0).bound
    assert solve_ilp(problem, work_limit=1000).assignment == limited.assignment
    with pytest.raises(NoSolutionFoundError, match="in the limits"):
        solve_ilp(problem, work_limit=0)


def test_what_is_not_valid_is_refused() -> None:
    prices = np.array([[[0, 1], [1, 0]]], np.int64)
    problem = Problem(2, 1, (BOTH, BOTH), (SharedCopies(0, (1,), prices),))
    with pytest.raises(ProblemError, match=r"limit 1: factor 0: its scope \(0, 2\)"):
        solve_ilp(problem, [Limit((), 0), Limit((SharedCopies(0, (2,), prices),), 3)])
    forbids = CostTable((0,), np.array([[0, FORBIDDEN]], np.int64))
    with pytest.raises(ProblemError, match="limit 0: an amount"):
        solve_ilp(problem, [Limit((forbids,), 3)])
    with pytest.raises(ProblemError, match="start"):
        solve_ilp(problem, [level_limit(problem, 0, 0)], start=(0, 1))
    with pytest.raises(ProblemError, match="scope"):
        solve_ilp(Problem(2, 1, (BOTH,), (Agree((1,), (0, 1)),)))


def test_limits_that_only_integers_contradict() -> None:
    """Half of each label would cost 1 and not 2: the relaxation alone does not show it."""
    equal = CostTable((0, 1), np.array([[[2, 0], [0, 2]]], np.int64))
    triangle = tuple(CostTable(pair, equal.costs) for pair in ((0, 1), (1, 2), (0, 2)))
    problem = Problem(2, 1, (BOTH,) * 3, triangle)
    assert optimum(problem, []) == (2,)
    assert optimum(problem, [level_limit(problem, 0, 1)]) is None


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    solve_ilp(dense_problem(1, variables=6, labels=3))
    assert capfd.readouterr() == ("", "")
