"""Assignments in the order of their costs: the best, the second best, and so on.

The assignments other than the best are divided by the first node, in the order in which values are
completed, whose value differs from the best one's (Lawler's partition). What the best of each part
costs can be read from the tables of elimination: before that node nothing changes, and its table
knows the least cost of all that comes after it. So one elimination is enough for all of them.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from solver.eliminate import DeadEndError, Elimination, eliminate
from solver.lanes import Lanes, Packed, pack
from solver.merge import Merged, merge
from solver.order import Order, elimination_order
from solver.prepared import KEPT_LIMIT
from solver.problem import (
    FORBIDDEN,
    CostTable,
    Factor,
    Problem,
    SharedCopies,
    Variable,
    with_domains,
)
from solver.reduce import DENSE_LIMIT, Reduced, reduce
from solver.solution import InfeasibleError, NoSolutionFoundError, Status, TooDenseError
from solver.solve import TABLE_LIMIT, solve

SOLVED_LIMIT = 256
"""Most classes of equal variables of a problem that is solved again for each of them."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """An assignment in its place among all, and a bound on the cost of those that follow it.

    The status is OPTIMAL if none that was not returned before it costs less.
    """

    assignment: tuple[int, ...]
    cost: tuple[int, ...]
    bound: tuple[int, ...]
    status: Status


def ranked(
    problem: Problem,
    of: Sequence[int] | None = None,
    *,
    table_limit: int = TABLE_LIMIT,
    time_limit: float = 30.0,
    search_seconds: float = math.inf,
) -> Iterator[Ranked]:
    """All assignments in the order of their costs, one by one as they are asked for.

    Each differs from all before it in the label of a variable ``of`` those given, by default of
    any. Ties come in an order that depends on the problem alone. An assignment takes time in
    proportion to the number of variables; but where a part of the problem is too densely connected
    for elimination, it takes a solution of the problem for each of them. Those have the limits of
    ``solve``; where one ends without a proof, the order is not proven from there on.

    Raises as ``solve`` does, before the first assignment, and ``TooDenseError`` for such a problem
    if it has more than ``SOLVED_LIMIT`` classes of equal variables.
    """
    problem.validate()
    every = _by_elimination(problem, table_limit)
    if every is None:
        every = _by_solving(problem, table_limit, time_limit, search_seconds)
    return _distinct(every, range(len(problem.variables)) if of is None else of)


def _distinct(every: Iterator[Ranked], of: Sequence[int]) -> Iterator[Ranked]:
    seen: set[tuple[int, ...]] = set()
    for found in every:
        key = tuple([found.assignment[v] for v in of])
        if key not in seen:
            seen.add(key)
            yield found


def _by_elimination(problem: Problem, table_limit: int) -> Iterator[Ranked] | None:
    """None where tables get too large."""
    determined = _determined(problem)
    for form in (determined,) if determined is problem else (determined, problem):
        reduced = reduce(form, table_limit)
        order = elimination_order(reduced.sizes, reduced.scopes, table_limit)
        if order.core or _kept(order, reduced.sizes) > KEPT_LIMIT:
            continue
        packed = pack(reduced.tables, problem.levels, separate=False)
        try:
            elimination = eliminate(order, reduced.sizes, reduced.scopes, packed, keep="buckets")
        except DeadEndError:
            solve(problem, table_limit=table_limit)  # It raises, and knows why.
            raise AssertionError("the problem has a solution after all") from None
        return _Partition(problem, reduced, packed, elimination).assignments()
    return None


def _kept(order: Order, sizes: Sequence[int]) -> int:
    """Entries of the tables that elimination passes on."""
    return sum(math.prod([sizes[u] for u in near]) for near in order.neighbours)


@dataclass(frozen=True, slots=True)
class _Part:
    """The assignments that have ``values`` after ``place`` in the order, and others at it."""

    values: list[int]
    place: int
    rank: int
    """The place of the value that is taken next, in the order of costs there."""


class _Partition:
    """The assignments of an eliminated problem, divided into parts whose best are known."""

    def __init__(
        self, problem: Problem, reduced: Reduced, packed: Packed, elimination: Elimination
    ) -> None:
        self._problem = problem
        self._reduced = reduced
        self._packed = packed
        self._elimination = elimination
        self._order = elimination.order
        self._ranks: dict[tuple[int, tuple[int, ...]], list[tuple[list[int], int]]] = {}

    def assignments(self) -> Iterator[Ranked]:
        """All assignments, in the order of their costs."""
        places = len(self._order.nodes)
        serial = count()
        first = [a + b for a, b in self._with_constant()]
        whole = _Part([0] * len(self._reduced.sizes), places, 0)
        heap: list[tuple[list[int], int, _Part]] = [(first, next(serial), whole)]
        while heap:
            cost, _, part = heapq.heappop(heap)
            values = self._best(part)
            found = self._ranked(values, cost)
            if found is not None:
                yield found
            for place in range(min(part.place + 1, places)):
                ranks = self._ranked_values(place, values)
                taken = part.rank if place == part.place else 0
                if taken + 1 < len(ranks):
                    more = zip(cost, ranks[taken + 1][0], ranks[taken][0], strict=True)
                    child = _Part(values, place, taken + 1)
                    heapq.heappush(heap, ([c + b - a for c, b, a in more], next(serial), child))

    def _with_constant(self) -> Iterator[tuple[int, int]]:
        constant = self._packed.pack(self._reduced.constant)
        return zip(self._elimination.total, constant, strict=True)

    def _best(self, part: _Part) -> list[int]:
        """The values of a part's best assignment."""
        values = list(part.values)
        nodes, neighbours = self._order.nodes, self._order.neighbours
        if part.place < len(nodes):
            values[nodes[part.place]] = self._ranked_values(part.place, values)[part.rank][1]
        for place in reversed(range(part.place)):
            choice = self._elimination.choices[place]
            at = tuple([values[u] for u in neighbours[place]])
            values[nodes[place]] = 0 if choice is None else choice.item(at)
        return values

    def _ranked_values(self, place: int, values: list[int]) -> list[tuple[list[int], int]]:
        """A node's possible values by cost, given those of its neighbours."""
        at = tuple([values[u] for u in self._order.neighbours[place]])
        found = self._ranks.get((place, at))
        if found is None:
            column = self._column(place, dict(zip(self._order.neighbours[place], at, strict=True)))
            found = sorted(
                (self._packed.numbers(column[:, value]), value)
                for value in np.flatnonzero(np.isfinite(column[0].real)).tolist()
            )
            self._ranks[place, at] = found
        return found

    def _column(self, place: int, values: Mapping[int, int]) -> Lanes:
        """What a node's values cost together with all behind it, given those of its neighbours."""
        node = self._order.nodes[place]
        column = np.zeros((self._packed.lanes, self._reduced.sizes[node]))
        for scope, table, _ in self._elimination.buckets[node]:
            at: tuple[Any, ...] = (slice(None), slice(None), *[values[u] for u in scope[1:]])
            column = column + table[at]
        return column

    def _ranked(self, values: list[int], claimed: list[int]) -> Ranked | None:
        """An assignment with its cost; None if it was claimed to cost more, for needless copies.

        It has its place by another way, without these.
        """
        merged, node = self._reduced.merged, self._reduced.node
        roots = merged.root[: len(self._problem.variables)]
        assignment = tuple(
            [merged.domains[r][values[node[r]] if node[r] >= 0 else 0] for r in roots]
        )
        cost = self._problem.cost(assignment)
        if cost is not None and self._packed.pack(cost) < claimed:
            return None
        if cost is None or self._packed.pack(cost) != claimed:
            raise AssertionError(f"an assignment costs {cost}, which is not what its part costs")
        return Ranked(assignment, cost, cost, Status.OPTIMAL)


def _determined(problem: Problem) -> Problem:
    """The problem with what copies need expressed by variables that others determine.

    A node that only says that a copy *may* be made lets one assignment come again and again, but
    needs smaller tables.
    """
    merged = merge(problem)
    if not any(_is_large(merged, factor) for factor in problem.factors):
        return problem
    variables = list(problem.variables)
    factors: list[Factor] = []
    for factor in problem.factors:
        if isinstance(factor, SharedCopies) and _is_large(merged, factor):
            factors += _chains(problem, merged, factor, variables)
        else:
            factors.append(factor)
    return Problem(max(problem.labels, 2), problem.levels, tuple(variables), tuple(factors))


def _users(merged: Merged, factor: SharedCopies) -> list[int]:
    """The different classes of the users, without that of the source."""
    source = merged.root[factor.source]
    roots = dict.fromkeys([merged.root[user] for user in factor.users])
    return [r for r in roots if r != source]


def _is_large(merged: Merged, factor: Factor) -> bool:
    if not isinstance(factor, SharedCopies):
        return False
    users = [len(merged.domains[r]) for r in _users(merged, factor)]
    return len(users) > 1 and math.prod(users) * len(merged.domains[factor.source]) > DENSE_LIMIT


def _chains(
    problem: Problem, merged: Merged, factor: SharedCopies, variables: list[Variable]
) -> list[Factor]:
    """For each label: does the first user have it, does one of the first two have it, and so on."""
    source, users = factor.source, _users(merged, factor)
    made = problem.variables[source].domain
    factors: list[Factor] = []
    for target in sorted(set().union(*(problem.variables[u].domain for u in users))):
        before: int | None = None
        for user in users:
            domain = problem.variables[user].domain
            if target not in domain:
                continue
            variables.append(Variable((0, 1)))
            after = len(variables) - 1
            has = np.array([label == target for label in domain])
            if before is None:
                wrong = has[:, None] != np.array([False, True])
                scope: tuple[int, ...] = (user, after)
            else:
                needed = has[:, None] | np.array([False, True])
                wrong = needed[:, :, None] != np.array([False, True])
                scope = (user, before, after)
            costs = np.zeros((problem.levels, *wrong.shape), np.int64)
            costs[0, wrong] = FORBIDDEN
            factors.append(CostTable(scope, costs))
            before = after
        assert before is not None
        costs = np.zeros((problem.levels, len(made), 2), np.int64)
        costs[:, :, 1] = factor.prices[:, made, target]
        costs[:, [label == target for label in made], :] = 0
        factors.append(CostTable((source, before), costs))
    return factors


class _Solved(NamedTuple):
    """Assignments whose first so many classes are fixed; the best that was found, and a bound."""

    cost: tuple[int, ...]
    serial: int
    fixed: int
    domains: dict[int, tuple[int, ...]]
    assignment: tuple[int, ...]
    bound: tuple[int, ...]


def _by_solving(
    problem: Problem, table_limit: int, time_limit: float, search_seconds: float
) -> Iterator[Ranked]:
    """Lawler's partition over the classes of equal variables, each part solved by itself."""
    deadline = perf_counter() + search_seconds
    merged = merge(problem)
    roots = [v for v, r in enumerate(merged.root) if v == r and len(merged.domains[v]) > 1]
    if len(roots) > SOLVED_LIMIT:
        raise TooDenseError(
            "the problem is connected too densely to rank its assignments by elimination, and too "
            "large to solve it again for each of them"
        )
    serial = count()
    first = solve(
        problem, table_limit=table_limit, time_limit=time_limit, search_seconds=search_seconds
    )

    def every() -> Iterator[Ranked]:
        domains = {v: merged.domains[v] for v in roots}
        heap = [_Solved(first.cost, next(serial), 0, domains, first.assignment, first.bound)]
        unsolved: list[tuple[int, ...]] = []
        while heap:
            cost, _, fixed, domains, assignment, own = heapq.heappop(heap)
            bound = min([own, *(part.bound for part in heap), *unsolved])
            status = Status.OPTIMAL if bound >= cost else Status.FEASIBLE
            yield Ranked(assignment, cost, min(bound, cost), status)
            for place in range(fixed, len(roots)):
                v = roots[place]
                left: dict[int, tuple[int, ...]] = {u: (assignment[u],) for u in roots[:place]}
                left[v] = tuple(label for label in domains[v] if label != assignment[v])
                left |= {u: domains[u] for u in roots[place + 1 :]}
                if not left[v]:
                    continue
                try:
                    found = solve(
                        with_domains(problem, left),
                        table_limit=table_limit,
                        time_limit=time_limit,
                        search_seconds=max(deadline - perf_counter(), 0.0),
                    )
                except InfeasibleError:
                    continue
                except NoSolutionFoundError:
                    unsolved.append(own)
                    continue
                part = (found.cost, next(serial), place, left, found.assignment, found.bound)
                heapq.heappush(heap, _Solved(*part))

    return every()
