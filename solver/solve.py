"""The way from a problem to its proven optimum: reduce, order, pack, eliminate, complete."""

from __future__ import annotations

import math
from time import perf_counter

from solver.conflict import behind, smallest_conflict
from solver.dominance import undominated
from solver.eliminate import DeadEndError, eliminate
from solver.lanes import Packed, pack, unpack
from solver.order import Order, elimination_order
from solver.problem import FORBIDDEN, Costs, Problem
from solver.reduce import Reduced, reduce
from solver.solution import InfeasibleError, NoSolutionFoundError, Solution, Statistics, Status

TABLE_LIMIT = 2**20
CORE_TABLE_LIMIT = 2**10
"""The limit in parts that leave a core: CP-SAT prefers many small tables to few large ones."""

EASY_TABLE = 2**14
"""Entries of a table that is eliminated sooner than dominated labels are looked for."""

CONFLICT_WORK = 200_000
"""Most factors, over all attempts, in the search for a small conflict: a few seconds. After that
the conflict is reported as it was found."""


def solve(
    problem: Problem,
    *,
    table_limit: int = TABLE_LIMIT,
    time_limit: float = 30.0,
    search_seconds: float = math.inf,
) -> Solution:
    """Finds an assignment of least cost, with its proof.

    Variables are eliminated exactly as long as the tables for it have at most ``table_limit``
    entries. The rest goes to CP-SAT, for at most ``time_limit`` units of its deterministic time
    (about a second each). Only there can the proof stay incomplete.

    ``search_seconds`` bounds the wall-clock time of CP-SAT and of the search for a small conflict.
    The deterministic limit should be reached first, so that results do not depend on the machine;
    this one only keeps the wait bounded on slow machines.

    Raises ``ProblemError`` for a problem that is not well formed, ``InfeasibleError`` for one
    without a solution, and ``NoSolutionFoundError`` if time ran out before any was found.
    """
    started = perf_counter()
    problem.validate()
    try:
        return _solve(problem, table_limit, time_limit, started, started + search_seconds)
    except InfeasibleError as error:
        if not error.factors:
            raise
        found = error
    work = 0

    def feasible(part: Problem) -> bool:
        nonlocal work
        work += len(part.factors)
        now = perf_counter()
        if work > CONFLICT_WORK or now >= started + search_seconds:
            raise found
        try:
            _solve(part, table_limit, 0.0, now, now)
        except InfeasibleError:
            return False
        except NoSolutionFoundError:
            # Unknown. Keeping more factors than needed is harmless.
            return True
        return True

    raise InfeasibleError(*smallest_conflict(problem, found.factors, feasible))


def _solve(
    problem: Problem, table_limit: int, time_limit: float, started: float, deadline: float
) -> Solution:
    times = [started, perf_counter()]
    reduced = reduce(problem, table_limit)
    times.append(perf_counter())
    core_limit = min(table_limit, CORE_TABLE_LIMIT)
    order = elimination_order(reduced.sizes, reduced.scopes, table_limit, core_limit)
    if order.core or order.largest > EASY_TABLE:
        smaller = undominated(problem)
        if smaller is not None:
            problem = smaller
            reduced = reduce(problem, table_limit)
            order = elimination_order(reduced.sizes, reduced.scopes, table_limit, core_limit)
    times.append(perf_counter())
    core = order.core
    # CP-SAT minimises one level at a time, so levels must not share a number.
    packed = pack(reduced.tables, problem.levels, separate=bool(core))
    times.append(perf_counter())
    values = [0] * len(reduced.sizes)
    try:
        elimination = eliminate(order, reduced.sizes, reduced.scopes, packed)
    except DeadEndError as error:
        factors = {reduced.origins[table] for table in error.tables}
        raise InfeasibleError((), behind(problem, reduced.merged.root, factors)) from None
    times.append(perf_counter())
    status = Status.OPTIMAL
    claimed = packed.pack(reduced.constant)
    _accumulate(claimed, elimination.total)
    bound: tuple[int, ...] | None = None
    if core:
        from solver.cpsat import solve_core

        scopes = [scope for scope, _, _ in elimination.core]
        tables = list(zip(scopes, unpack([table for _, table, _ in elimination.core]), strict=True))
        solution = solve_core(core, reduced.sizes, tables, problem.levels, time_limit, deadline)
        for v, value in solution.values.items():
            values[v] = value
        if not solution.proven:
            status = Status.FEASIBLE
            bound = _bound(reduced, packed, claimed, solution.bound)
        for scope, table in tables:
            _accumulate(claimed, _entry(scope, table, values))
    times.append(perf_counter())
    elimination.complete(values)
    assignment = _labels(reduced, values)
    cost = problem.cost(assignment)
    if cost is None:
        raise AssertionError("the assignment found is forbidden by the problem")
    packed_cost = packed.pack(cost)
    if packed_cost > claimed or (status is Status.OPTIMAL and packed_cost != claimed):
        raise AssertionError(f"the assignment found costs {cost}, which is not what was minimised")
    times.append(perf_counter())
    stages = ("validate", "reduce", "order", "pack", "eliminate", "cpsat", "complete")
    seconds = {
        stage: end - start for stage, start, end in zip(stages, times, times[1:], strict=False)
    }
    statistics = _statistics(problem, reduced, order, packed, seconds)
    return Solution(assignment, cost, cost if bound is None else bound, status, statistics)


def _labels(reduced: Reduced, values: list[int]) -> tuple[int, ...]:
    """The labels of all variables, given the values of the free nodes."""
    domains, node = reduced.merged.domains, reduced.node
    labels: list[int] = []
    for v, root in enumerate(reduced.merged.root):
        if root < v:
            labels.append(labels[root])
        else:
            labels.append(domains[v][values[node[v]] if node[v] >= 0 else 0])
    return tuple(labels)


def _bound(
    reduced: Reduced, packed: Packed, eliminated: list[int], core: list[int]
) -> tuple[int, ...]:
    """A lower bound of any assignment's cost, as far as the core's bound reaches."""
    least = list(reduced.constant)
    for costs in unpack(packed.tables):
        finite = costs[:, costs[0] < FORBIDDEN]
        _accumulate(least, finite.min(axis=1).tolist())
    known = [a + b for a, b in zip(eliminated, core, strict=False)]
    last = len(known) - 1
    known[last] = max(known[last], least[last])
    return (*known, *least[len(known) :])


def _entry(scope: tuple[int, ...], costs: Costs, values: list[int]) -> list[int]:
    for v in reversed(scope):
        costs = costs[..., values[v]]
    entry: list[int] = costs.tolist()
    return entry


def _accumulate(total: list[int], cost: list[int]) -> None:
    for level, amount in enumerate(cost):
        total[level] += amount


def _statistics(
    problem: Problem, reduced: Reduced, order: Order, packed: Packed, seconds: dict[str, float]
) -> Statistics:
    root = reduced.merged.root
    return Statistics(
        variables=len(problem.variables),
        merged=sum(v == r for v, r in enumerate(root)),
        nodes=len(reduced.sizes),
        width=order.width,
        largest_table=order.largest,
        core=len(order.core),
        lanes=packed.lanes,
        seconds=seconds,
    )
