import sys
from contextlib import suppress
from random import Random

import numpy as np
import pytest

from solver import (
    FORBIDDEN,
    Agree,
    CostTable,
    InfeasibleError,
    NoSolutionFoundError,
    Problem,
    ProblemError,
    SharedCopies,
    Solution,
    Status,
    Variable,
    core,
    cpsat,
    order,
    solve,
    solve_whole,
)
from solver.conflict import scope_of
from solver.problem import LIMIT, Factor
from tests.solver.problems import brute_force, dense_problem, random_problem

SOLVE = sys.modules["solver.solve"]
BOTH = Variable((0, 1))


def table(*scope: int, costs: object) -> CostTable:
    return CostTable(scope, np.array(costs, np.int64))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bits", "lanes"),
    [((20, 20), 1), ((50, 20, 20), 1), ((50, 50, 50), 2), ((50, 20, 50, 30, 50, 40), 3)],
)
def test_costs_of_many_bits_compare_exactly(bits: tuple[int, ...], lanes: int) -> None:
    used = set()
    for seed in range(200):
        random = Random(seed)
        count = random.randint(2, 5)
        factors: list[Factor] = []
        for v in range(1, count):
            # Large costs that are equal or differ by one, so that ties go down to the last level.
            rows = [[2**b // 8 - random.choice((0, 0, 0, 1)) for _ in range(9)] for b in bits]
            costs = np.array(rows, np.int64).reshape(len(bits), 3, 3)
            costs[0][random.randrange(3), random.randrange(3)] = FORBIDDEN
            factors.append(CostTable((random.randrange(v), v), costs))
        problem = Problem(3, len(bits), (Variable((0, 2, 1)),) * count, tuple(factors))
        solution = solve(problem)
        assert solution.cost == brute_force(problem), seed
        used.add(solution.statistics.lanes)
    assert max(used) == lanes


def test_many_forbidden_entries_add_up_without_overflow() -> None:
    never = table(0, 1, costs=[[[FORBIDDEN, FORBIDDEN], [FORBIDDEN, 3]]])
    problem = Problem(2, 1, (BOTH, BOTH), (never,) * 50)
    assert solve(problem).cost == (150,)
    assert solve(problem).assignment == (1, 1)


def test_sums_that_would_lose_digits_are_refused() -> None:
    large = LIMIT // 4
    problem = Problem(2, 2, (BOTH, BOTH), (table(0, 1, costs=[[[0] * 2] * 2, [[large] * 2] * 2]),))
    assert solve(problem).cost == (0, large)
    four = Problem(2, 2, problem.variables, (*problem.factors,) * 4)
    with pytest.raises(ProblemError, match=r"level 1: .* coarser unit"):
        solve(four)
    single = Problem(2, 1, (BOTH,), (table(0, costs=[[-LIMIT, 0]]),))
    for solver in (solve, solve_whole):
        with pytest.raises(ProblemError, match="coarser unit"):
            solver(single)


def hard_problem(seed: int, levels: int = 1) -> Problem:
    """One that a first attempt does not prove; later levels are dearer by five."""
    dense = dense_problem(seed, variables=11, labels=3)
    factors = [
        CostTable(f.scope, np.concatenate([f.costs, *[f.costs + 5] * (levels - 1)]))
        for f in dense.factors
        if isinstance(f, CostTable)
    ]
    return Problem(3, levels, dense.variables, tuple(factors))


def assert_honest(limited: Solution, problem: Problem, best: Solution) -> None:
    """A core was left, and not proven: the bound and the cost are on the two sides of the best."""
    assert best.status is Status.OPTIMAL
    assert limited.statistics.core > 0
    assert limited.status is Status.FEASIBLE
    assert limited.bound <= best.cost <= limited.cost
    assert problem.cost(limited.assignment) == limited.cost


@pytest.mark.parametrize("levels", [1, 2, 6])
def test_time_limit_is_reported_honestly(levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "_FIRST_TABLE", 9)
    monkeypatch.setattr(core, "_FIRST_CHOICES", 1)
    for seed in range(5):
        problem = hard_problem(seed, levels)
        best = solve(problem)
        assert best.statistics.core == 0
        limited = solve(problem, table_limit=16, time_limit=0.0)
        assert_honest(limited, problem, best)
        assert limited.bound[0] > 0
        searched = solve(problem, table_limit=16, time_limit=5.0)
        assert searched.status is Status.OPTIMAL
        assert searched.cost == searched.bound == best.cost


def test_time_limit_after_the_first_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solver.core.fits", lambda tables: False)
    dense = dense_problem(2, variables=11, labels=3)
    factors = [
        CostTable(f.scope, np.concatenate([0 * f.costs, f.costs + 5]))
        for f in dense.factors
        if isinstance(f, CostTable)
    ]
    problem = Problem(3, 2, dense.variables, tuple(factors))
    best = solve(problem)
    limited = solve(problem, table_limit=16, time_limit=0.01, start=[0] * 11)
    assert limited.status is Status.FEASIBLE
    assert limited.bound[0] == 0
    assert limited.bound <= best.cost <= limited.cost


def test_costs_of_many_numbers_go_to_cpsat() -> None:
    """Each level nearly fills a number, so that two do not share one."""
    random = Random(5)
    factors: list[Factor] = []
    for v in range(1, 7):
        for u in range(v):
            costs = [[random.randint(0, 2**44) for _ in range(9)] for _ in range(3)]
            factors.append(CostTable((u, v), np.array(costs, np.int64).reshape(3, 3, 3)))
    problem = Problem(3, 3, (Variable((0, 1, 2)),) * 7, tuple(factors))
    best = solve(problem)
    assert best.statistics.core == 0
    searched = solve(problem, table_limit=9)
    assert searched.statistics.core > 0
    assert searched.statistics.lanes > 1
    assert searched.cost == searched.bound == best.cost


def test_seconds_that_are_over_before_the_search_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(core, "_FIRST_TABLE", 9)
    monkeypatch.setattr(core, "_FIRST_CHOICES", 1)
    problem = hard_problem(1)
    limited = solve(problem, table_limit=16, search_seconds=0.0)
    assert_honest(limited, problem, solve(problem, search_seconds=0.0))


def test_seconds_that_are_over_during_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock stands still until the search has begun."""
    problem = dense_problem(3, variables=30, labels=3)
    times = iter([0.0] * 40)
    monkeypatch.setattr(core, "perf_counter", lambda: next(times, 1e9))
    monkeypatch.setattr(SOLVE, "perf_counter", lambda: 0.0)
    limited = solve(problem, search_seconds=1e-9)
    assert limited.status is Status.FEASIBLE
    assert limited.bound < limited.cost == problem.cost(limited.assignment)
    assert next(times, None) is None


def test_a_start_is_never_made_worse() -> None:
    kept = 0
    for seed in range(30):
        problem = dense_problem(seed, variables=14, labels=3)
        best = solve(problem)
        for start, time_limit in ((best.assignment, 0.0), ([0] * 14, 0.0), ([2] * 14, 0.1)):
            given = problem.cost(start)
            assert given is not None
            found = solve(problem, table_limit=9, time_limit=time_limit, start=start)
            assert found.bound <= best.cost <= found.cost <= given
            assert problem.cost(found.assignment) == found.cost
        kept += solve(problem, table_limit=9, time_limit=0.0).cost > best.cost
    assert kept > 5


def test_any_start_of_any_problem() -> None:
    """Those that the problem forbids are of no use, and no harm."""
    for seed in range(300):
        random = Random(seed)
        problem = random_problem(random)
        best = brute_force(problem)
        start = [random.choice(variable.domain) for variable in problem.variables]
        if best is None:
            with pytest.raises(InfeasibleError):
                solve(problem, table_limit=4, start=start)
            continue
        for limit in (4, 2**20):
            assert solve(problem, table_limit=limit, start=start).cost == best, seed


def test_a_core_too_large_for_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solver.core.fits", lambda tables: False)
    problem = dense_problem(1, variables=11, labels=3)
    monkeypatch.setattr(cpsat, "MODEL_LIMIT", 9 * 54)
    with pytest.raises(NoSolutionFoundError):
        solve(problem, table_limit=16)
    start = (0,) * 11
    limited = solve(problem, table_limit=16, start=start)
    assert_honest(limited, problem, solve(problem))
    assert limited.assignment == start
    monkeypatch.setattr(cpsat, "MODEL_LIMIT", 9 * 55)
    assert solve(problem, table_limit=16).status is Status.OPTIMAL


def test_cores_are_left_in_small_tables() -> None:
    problem = dense_problem(3, variables=40, labels=3)
    solution = solve(problem, time_limit=0.0)
    assert solution.statistics.core > 30
    assert solution.statistics.largest_table <= SOLVE.CORE_TABLE_LIMIT


def test_many_large_tables_are_left_to_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = dense_problem(4, variables=8, labels=3)
    best = solve(problem)
    assert best.statistics.core == 0
    monkeypatch.setattr(order, "WORK_LIMIT", 3**8 - 1)
    limited = solve(problem)
    assert limited.statistics.core > 0
    assert limited.cost == best.cost


def colouring(nodes: int, seed: int) -> tuple[Problem, tuple[int, ...]]:
    """Nodes of which many have to differ, and colours that they have."""
    random = Random(seed)
    unequal = [[[FORBIDDEN if i == j else 0 for j in range(3)] for i in range(3)]]
    colours = tuple(random.randrange(3) for _ in range(nodes))
    edges = [
        table(u, v, costs=unequal)
        for v in range(nodes)
        for u in range(v)
        if colours[u] != colours[v] and random.random() < 5 / nodes
    ]
    return Problem(3, 1, (Variable((0, 1, 2)),) * nodes, tuple(edges)), colours


def test_a_start_stands_where_the_search_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "_FIRST_TABLE", 9)
    monkeypatch.setattr(core, "_FIRST_CHOICES", 1)
    monkeypatch.setattr(core, "_ATTEMPTS", 1)
    stood = 0
    for seed in range(10):
        problem, colours = colouring(30, seed)
        found = solve(problem, table_limit=9, time_limit=0.0, start=colours)
        assert found.cost == found.bound == (0,)
        assert solve(problem, table_limit=9).cost == (0,)
        try:
            solve(problem, table_limit=9, time_limit=0.0)
        except NoSolutionFoundError:
            stood += 1
    assert stood > 2


def test_no_time_and_no_solution() -> None:
    unequal = [[[FORBIDDEN if i == j else 0 for j in range(3)] for i in range(3)]]
    colour = Variable((0, 1, 2))
    edges = [table(u, v, costs=unequal) for v in range(4) for u in range(v)]
    problem = Problem(3, 1, (colour,) * 4, tuple(edges))
    with pytest.raises(NoSolutionFoundError):
        solve_whole(problem, time_limit=0.0)
    for limit in (9, 1000):
        with pytest.raises(InfeasibleError):
            solve(problem, table_limit=limit, time_limit=0.0)


def test_a_whole_search_that_has_to_end() -> None:
    asked = []

    def stops() -> bool:
        asked.append(True)
        return True

    problem = dense_problem(3, variables=30, labels=4)
    with suppress(NoSolutionFoundError):
        assert solve_whole(problem, time_limit=1e9, stops=stops).status is Status.FEASIBLE
    assert asked


def test_conflicts_are_infeasible_and_minimal() -> None:
    named = 0
    for seed in range(600):
        problem = random_problem(Random(seed))
        try:
            solve(problem)
            continue
        except InfeasibleError as error:
            conflict = error
        factors = conflict.factors
        assert factors
        assert set(conflict.variables) == {
            v for number in factors for v in scope_of(problem.factors[number])
        }
        named += 1
        parts = [[f for f in factors if f != left_out] for left_out in (-1, *factors)]
        feasible = [
            brute_force(
                Problem(
                    problem.labels,
                    problem.levels,
                    problem.variables,
                    tuple(problem.factors[number] for number in part),
                )
            )
            is not None
            for part in parts
        ]
        assert feasible == [False] + [True] * len(factors), seed
    assert named > 20


def test_a_conflict_across_merged_variables_names_the_merge() -> None:
    free = Variable((0, 1))
    zero, one = Variable((0,), "zero"), Variable((1,), "one")
    equal = (0, 1)
    factors = (
        Agree((0, 1), equal),
        Agree((1, 2), equal),
        Agree((2, 3), equal),
        Agree((4, 5), equal),
    )
    with pytest.raises(InfeasibleError, match="contradict") as caught:
        solve(Problem(2, 1, (zero, free, free, one, free, free), factors))
    assert caught.value.variables == (0, 1, 2, 3)
    assert caught.value.factors == (0, 1, 2)


def test_a_conflict_of_many_is_reported_as_it_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain whose ends differ, none of which can be left out; and factors beside it."""
    count = 40
    equal = [[[0, FORBIDDEN], [FORBIDDEN, 0]]]
    chain = [table(v, v + 1, costs=equal) for v in range(count - 1)]
    ends = [table(0, costs=[[0, FORBIDDEN]]), table(count - 1, costs=[[FORBIDDEN, 0]])]
    beside = [table(0, costs=[[0, 1]])]
    problem = Problem(2, 1, (BOTH,) * count, (*chain, *ends, *beside))
    with pytest.raises(InfeasibleError) as caught:
        solve(problem)
    assert caught.value.factors == tuple(range(count + 1))
    assert caught.value.variables == tuple(range(count))
    with pytest.raises(InfeasibleError) as caught:
        solve(problem, search_seconds=0.0)
    assert caught.value.factors == tuple(range(count + 2))
    monkeypatch.setattr(SOLVE, "CONFLICT_WORK", 100)
    with pytest.raises(InfeasibleError) as caught:
        solve(problem)
    assert caught.value.factors == tuple(range(count + 2))


def test_copies_that_no_source_can_make() -> None:
    prices = np.full((1, 2, 2), FORBIDDEN, np.int64)
    problem = Problem(2, 1, (Variable((0,)), Variable((1,))), (SharedCopies(0, (1,), prices),))
    for solver in (solve, solve_whole):
        with pytest.raises(InfeasibleError):
            solver(problem)
