"""The way from a problem to its optimum: reduce, order, pack, eliminate, search, complete."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from solver.conflict import behind, smallest_conflict
from solver.dominance import undominated
from solver.eliminate import DeadEndError, Elimination, eliminate
from solver.lanes import SAFE, Packed, pack, unpack
from solver.order import (
    EASY_TABLE,
    EASY_WORK,
    Order,
    elimination_order,
    greedy_order,
    quick_order,
)
from solver.problem import FORBIDDEN, LIMIT, Problem
from solver.reduce import Reduced, reduce
from solver.solution import (
    InfeasibleError,
    NoSolutionFoundError,
    Solution,
    Statistics,
    Status,
)

if TYPE_CHECKING:
    from solver.core import CoreFound

TABLE_LIMIT = 2**20
CORE_TABLE_LIMIT = 2**11
"""The limit in parts that leave a core: searches prefer many small tables to few large ones."""

CORE_DENSE_LIMIT = 2**10
"""Most entries of the table of shared copies there, for the same reason."""

TARGETS_TOGETHER = 6
"""Targets of shared copies that one node of a core says whether they are made."""

CONFLICT_WORK = 200_000
"""Most factors, over all attempts, in the search for a small conflict: a few seconds. After that
the conflict is reported as it was found."""

_STAGES = ("validate", "reduce", "order", "pack", "eliminate", "search", "complete")


def solve(
    problem: Problem,
    *,
    table_limit: int = TABLE_LIMIT,
    time_limit: float = 30.0,
    search_seconds: float = math.inf,
    start: Sequence[int] | None = None,
) -> Solution:
    """Finds an assignment of least cost, with its proof.

    Variables are eliminated exactly as long as the tables for it have at most ``table_limit``
    entries. The rest is searched, for at most ``time_limit`` units of deterministic time (about a
    second each). Only there can the proof stay incomplete.

    ``search_seconds`` bounds the wall-clock time of the search, and of that for a small conflict.
    The deterministic limit should be reached first, so that results do not depend on the machine;
    this one only keeps the wait bounded on slow machines.

    The solution is ``start``, an assignment, unless the problem forbids that one or a better one is
    found or one that is proven.

    Raises ``ProblemError`` for a problem that is not well formed, ``InfeasibleError`` for one
    without a solution, and ``NoSolutionFoundError`` if time ran out before any was found.
    """
    started = perf_counter()
    problem.validate()
    known = _known(problem, start)
    try:
        solution = _solve(
            problem, table_limit, time_limit, started, started + search_seconds, known
        )
        if (
            known is not None
            and solution.status is not Status.OPTIMAL
            and known.cost <= solution.cost
        ):
            solution = replace(solution, assignment=known.assignment, cost=known.cost)
        return solution
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
            _solve(part, table_limit, 0.0, now, now, None)
        except InfeasibleError:
            return False
        except NoSolutionFoundError:
            # Unknown. Keeping more factors than needed is harmless.
            return True
        return True

    raise InfeasibleError(*smallest_conflict(problem, found.factors, feasible))


def optimum(problem: Problem, *, table_limit: int = TABLE_LIMIT) -> tuple[tuple[int, ...], bool]:
    """The least cost of any assignment, and whether it is proven.

    Sooner found than an assignment of that cost, unless elimination takes long. Raises as ``solve``
    does.
    """
    reduced = reduce(problem, table_limit)
    order = quick_order(reduced.sizes, reduced.scopes, table_limit)
    if order.core or order.work > EASY_WORK:
        solution = solve(problem, table_limit=table_limit)
        return solution.cost, solution.status is Status.OPTIMAL
    packed = pack(reduced.tables, problem.levels)
    found = packed.cost(_eliminate(problem, reduced, order, packed).total)
    return tuple([a + b for a, b in zip(found, reduced.constant, strict=True)]), True


@dataclass(frozen=True, slots=True)
class _Known:
    """An assignment that is there before the search, and its cost."""

    assignment: tuple[int, ...]
    cost: tuple[int, ...]


def _known(problem: Problem, start: Sequence[int] | None) -> _Known | None:
    cost = None if start is None else problem.cost(start)
    return None if start is None or cost is None else _Known(tuple(start), cost)


def _solve(
    problem: Problem,
    table_limit: int,
    time_limit: float,
    started: float,
    deadline: float,
    known: _Known | None,
) -> Solution:
    times = [started, perf_counter()]
    reduced = reduce(problem, table_limit)
    times.append(perf_counter())
    order = greedy_order(reduced.sizes, reduced.scopes, table_limit)
    if not order.is_easy:
        if reduced.has_copy_nodes:
            solution = _in_shares(problem, table_limit, times[:2])
            if solution is not None:
                return solution
        problem = undominated(problem) or problem
        reduced = reduce(problem, table_limit, dense_limit=CORE_DENSE_LIMIT)
        core_limit = min(table_limit, CORE_TABLE_LIMIT)
        order = elimination_order(reduced.sizes, reduced.scopes, table_limit, core_limit)
        if order.core and reduced.has_copy_nodes:
            reduced = reduce(problem, table_limit, TARGETS_TOGETHER, dense_limit=CORE_DENSE_LIMIT)
            order = elimination_order(reduced.sizes, reduced.scopes, table_limit, core_limit)
    times.append(perf_counter())
    packed = pack(reduced.tables, problem.levels, limit=SAFE if order.core else LIMIT)
    times.append(perf_counter())
    elimination = _eliminate(problem, reduced, order, packed)
    times.append(perf_counter())
    values: list[int] | None = [0] * len(reduced.sizes)
    bound: tuple[int, ...] | None = None
    if order.core:
        work = _Core(problem, reduced, order, packed, elimination)
        values, bound = work.search(known, time_limit, deadline)
    times.append(perf_counter())
    if values is not None:
        elimination.complete(values)
        assignment = reduced.labels(values)
        cost = problem.cost(assignment)
        if cost is None:
            raise AssertionError("the assignment found is forbidden by the problem")
        if packed.pack(cost) > _claimed(reduced, packed, elimination, values):
            raise AssertionError(f"the assignment found costs {cost}, more than was minimised")
    elif known is not None:
        assignment, cost = known.assignment, known.cost
    else:
        raise NoSolutionFoundError(
            f"no valid assignment was found in {time_limit} units of deterministic time"
        )
    if bound is None or bound > cost:
        bound = cost
    times.append(perf_counter())
    statistics = statistics_of(problem, reduced, order, packed.lanes, _seconds(times))
    status = Status.OPTIMAL if bound == cost else Status.FEASIBLE
    return Solution(assignment, cost, bound, status, statistics)


def _in_shares(problem: Problem, table_limit: int, times: list[float]) -> Solution | None:
    """The best assignment where each user of a copy pays a share; None if it costs more than that.

    No assignment costs less than the least sum of shares. So one that costs as much is proven.
    """
    reduced = reduce(problem, table_limit, in_shares=True)
    times.append(perf_counter())
    order = greedy_order(reduced.sizes, reduced.scopes, table_limit)
    if order.core or order.work > EASY_TABLE * len(order.nodes):
        return None
    times.append(perf_counter())
    packed = pack(reduced.tables, problem.levels)
    times.append(perf_counter())
    elimination = _eliminate(problem, reduced, order, packed)
    times += [perf_counter()] * 2
    values = [0] * len(reduced.sizes)
    elimination.complete(values)
    assignment = reduced.labels(values)
    cost = problem.cost(assignment)
    least = packed.cost(elimination.total)
    bound = tuple([a + b for a, b in zip(least, reduced.constant, strict=True)])
    if cost != bound:
        return None
    times.append(perf_counter())
    statistics = statistics_of(problem, reduced, order, packed.lanes, _seconds(times))
    return Solution(assignment, cost, bound, Status.OPTIMAL, statistics)


def _seconds(times: Sequence[float]) -> dict[str, float]:
    """By stage, between one time and the next."""
    return {
        stage: end - start for stage, start, end in zip(_STAGES, times, times[1:], strict=False)
    }


def _eliminate(problem: Problem, reduced: Reduced, order: Order, packed: Packed) -> Elimination:
    try:
        return eliminate(order, reduced.sizes, reduced.scopes, packed)
    except DeadEndError as error:
        factors = {reduced.origins[table] for table in error.tables} - {-1}
        raise InfeasibleError((), behind(problem, reduced.merged.root, factors)) from None


def _claimed(
    reduced: Reduced, packed: Packed, elimination: Elimination, values: list[int]
) -> list[int]:
    """The numbers of the cost that was minimised, by the values of the core."""
    claimed = packed.pack(reduced.constant)
    _accumulate(claimed, elimination.total)
    for scope, table, _ in elimination.core:
        at: tuple[Any, ...] = (slice(None), *[values[v] for v in scope])
        entry = table[at]
        _accumulate(claimed, packed.numbers(entry))
    return claimed


@dataclass(frozen=True, slots=True)
class _Core:
    """What elimination leaves of a problem, for a search."""

    problem: Problem
    reduced: Reduced
    order: Order
    packed: Packed
    elimination: Elimination

    def search(
        self, known: _Known | None, time_limit: float, deadline: float
    ) -> tuple[list[int] | None, tuple[int, ...] | None]:
        """The core's values within the values of all nodes, and a bound; None if unknown.

        CP-SAT searches where our own search cannot, because costs need too many numbers, or has
        found no valid values.
        """
        from solver.core import fits, search_core

        core = self.elimination.core
        start = self._start(known)
        bound: tuple[int, ...] | None = None
        if self.packed.lanes == 1 and fits([(scope, table[0]) for scope, table, _ in core]):
            tables = replace(self.packed, tables=[table for _, table, _ in core])
            found = search_core(
                *(self.order.core, self.reduced.sizes, [scope for scope, _, _ in core], tables),
                *(start, time_limit, deadline),
            )
            bound = self._bound(found)
            if found.values is not None:
                return self._filled(found.values), bound
        values, other = self._by_cpsat(start, time_limit, deadline)
        return values, other if bound is None else max(bound, other)

    def _start(self, known: _Known | None) -> list[int] | None:
        """The known values of all nodes that stand for variables, and the best of the others."""
        from solver.neighbourhoods import improve

        if known is None:
            return None
        reduced = self.reduced
        domains, node = reduced.merged.domains, reduced.node
        values = [-1] * len(reduced.sizes)
        for v, root in enumerate(reduced.merged.root):
            if node[root] >= 0 and v == root:
                if known.assignment[v] not in domains[v]:
                    # A label that no optimum needs was left out.
                    return None
                values[node[v]] = domains[v].index(known.assignment[v])
            elif node[root] < 0 and known.assignment[v] != domains[root][0]:
                return None
        added = [v for v, value in enumerate(values) if value < 0]
        position = [0] * len(values)
        for place, v in enumerate(added):
            position[v] = place
        free = Order(added, [[] for _ in added], position, 2, 2 * len(added))
        return improve(free, reduced.sizes, reduced.scopes, self.packed, values)

    def _bound(self, found: CoreFound) -> tuple[int, ...]:
        """A lower bound of any assignment's cost, by level."""
        numbers = np.full((1,), min(found.bound, found.cost), np.result_type(found.bound))
        total = self.elimination.total
        numbers += complex(*total) if len(total) > 1 else total[0]
        least: list[int] = self.packed.costs(numbers).tolist()
        _accumulate(least, self.reduced.constant)
        return tuple(least)

    def _filled(self, found: dict[int, int]) -> list[int]:
        values = [0] * len(self.reduced.sizes)
        for v, value in found.items():
            values[v] = value
        return values

    def _by_cpsat(
        self, start: list[int] | None, time_limit: float, deadline: float
    ) -> tuple[list[int] | None, tuple[int, ...]]:
        from solver.cpsat import solve_core

        # CP-SAT minimises one level at a time, so levels must not share a number.
        levels, sizes = self.problem.levels, self.reduced.sizes
        packed = pack(self.reduced.tables, levels, separate=True)
        elimination = _eliminate(self.problem, self.reduced, self.order, packed)
        scopes = [scope for scope, _, _ in elimination.core]
        tables = list(zip(scopes, unpack([table for _, table, _ in elimination.core]), strict=True))
        found = solve_core(self.order.core, sizes, tables, levels, start, time_limit, deadline)
        claimed = packed.pack(self.reduced.constant)
        _accumulate(claimed, elimination.total)
        bound = _bound(self.reduced, packed, claimed, found.bound)
        return None if found.values is None else self._filled(found.values), bound


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


def _accumulate(total: list[int], cost: list[int]) -> None:
    for level, amount in enumerate(cost):
        total[level] += amount


def statistics_of(
    problem: Problem, reduced: Reduced, order: Order, lanes: int, seconds: dict[str, float]
) -> Statistics:
    """The size of a problem that was eliminated in an order, and the time that it took."""
    root = reduced.merged.root
    return Statistics(
        variables=len(problem.variables),
        merged=sum(v == r for v, r in enumerate(root)),
        nodes=len(reduced.sizes),
        width=order.width,
        largest_table=order.largest,
        core=len(order.core),
        lanes=lanes,
        seconds=seconds,
    )
