"""The most bytes that are alive at once: plans that keep a limit of it, and the least that can be.

What is alive at one moment is a sum of tables, so elimination finds the least of it. The peak is
the most of all moments together: integer programs find it, with a limit for each moment at which
plans were found to exceed it, until none does. What is proven with some of the limits holds for
all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from planner.optimise.live import DENSE_LIMIT, Alive, LiveSets, Moment
from schema.frozen import frozen
from solver import (
    FORBIDDEN,
    CostTable,
    Front,
    InfeasibleError,
    Limit,
    NoSolutionFoundError,
    ParetoPoint,
    Problem,
    Solution,
    Status,
    Variable,
    level_limit,
    solve,
    solve_ilp,
)
from solver.caps import MOST_ENTRIES, capped
from solver.fronts import GAP_LIMIT, marked
from solver.ilp import WORK_LIMIT
from solver.levels import AMOUNTS, with_levels

SEARCH_TIME: Final = 1.0
"""Deterministic time to search what elimination leaves, for the least of one moment."""

_MOST_MOMENTS: Final = 3
"""Most moments whose least elimination finds; after these integer programs take over."""

_BOTH: Final = (0, 1)

Where = tuple[int, Moment]
"""A graph, and a moment of it."""


@frozen
class Part:
    """A graph's live sets, and where its variables begin in a problem."""

    live: LiveSets
    start: int = 0

    def own(self, assignment: Sequence[int]) -> Sequence[int]:
        """The labels of its variables."""
        return assignment[self.start : self.start + len(self.live.layout.problem.variables)]


class Peaks:
    """What is alive in the graphs of a problem, as factors over its variables and some more."""

    def __init__(
        self,
        problem: Problem,
        parts: Sequence[Part],
        *,
        dense_limit: int = DENSE_LIMIT,
        most_entries: int = MOST_ENTRIES,
    ) -> None:
        self.problem, self._most_entries = problem, most_entries
        self._parts, self._dense_limit = parts, dense_limit
        self._domains = [variable.domain for variable in problem.variables]
        self._added: list[tuple[tuple[int, ...], NDArray[np.bool_]]] = []
        self._has: dict[tuple[tuple[int, ...], int], int | None] = {}
        self._amounts: dict[Where, tuple[int, tuple[CostTable, ...]]] = {}

    def peak(self, assignment: Sequence[int]) -> tuple[int, Where]:
        """The most bytes that are alive at once in one of the graphs, and where they are."""
        most, where = -1, (0, (0, 0, 0))
        for number, part in enumerate(self._parts):
            found, moment = part.live.peak(part.own(assignment))
            if found > most:
                most, where = found, (number, moment)
        return most, where

    def over(self, assignment: Sequence[int], most: int) -> list[Where]:
        """Where more bytes are alive than ``most``."""
        return [
            (number, moment)
            for number, part in enumerate(self._parts)
            for moment in part.live.over(part.own(assignment), most)
        ]

    def within(self, problem: Problem, limits: Sequence[Limit]) -> Problem | None:
        """A problem in which what is over limits is forbidden; None where that takes large tables.

        Raises ``InfeasibleError`` where everything is over a limit.
        """
        return capped(problem, limits, most_entries=self._most_entries)

    def limit(self, where: Where, most: int) -> Limit:
        """That no more than ``most`` bytes are alive at a moment."""
        fixed, factors = self.amount(where)
        return Limit(factors, most - fixed)

    def amount(self, where: Where) -> tuple[int, tuple[CostTable, ...]]:
        """The bytes that are alive at a moment: those without a choice, and the others."""
        if where not in self._amounts:
            number, moment = where
            fixed, alive = self._parts[number].live.alive(moment)
            start = self._parts[number].start
            factors = [f for each in alive for f in self._factors(each.moved(start))]
            fixed += sum(int(f.costs.sum()) for f in factors if not f.scope)
            self._amounts[where] = fixed, tuple(f for f in factors if f.scope)
        return self._amounts[where]

    def _factors(self, alive: Alive) -> list[CostTable]:
        if math.prod(len(self._domains[v]) for v in alive.scope) <= self._dense_limit:
            scope, sizes = alive.table(self._domains)
            return [CostTable(scope, sizes[None])]
        return self._sparse(alive)

    def _sparse(self, alive: Alive) -> list[CostTable]:
        """The same with variables for what is true of the labels of many readers together."""
        own = alive.variable
        made = np.array(self._domains[own])
        asks_source = not (alive.always or alive.lasts)
        source: int | None = None
        factors = []
        for label in sorted({label for v in alive.scope for label in self._domains[v]}):
            is_own, size = made == label, alive.sizes[label]
            copied = self._any(alive.made, label) if size else None
            if copied is None and not asks_source:
                continue
            needed = self._any(alive.needed[::-1], label)
            if needed is None:
                continue
            if copied is not None:
                # By (own label, copied, needed).
                sizes = np.zeros((len(made), 2, 2), np.int64)
                sizes[~is_own, 1, 1] = size
                scope, sizes = _joined((own, copied, needed), sizes)
                factors.append(CostTable(scope, sizes[None]))
            if asks_source:
                before = self._any(alive.before, label)
                truth = np.zeros((2, len(made), 2, 2), np.bool_)  # before, own, needed, so far
                truth[:, is_own, 1] = truth[0, :, 1] = truth[:, :, :, 1] = True
                source = self._add(*_joined((before, own, needed, source), truth))
        sizes = np.array([alive.sizes[label] for label in made], np.int64)
        if alive.always and not alive.lasts:
            factors.append(CostTable((own,), sizes[None]))
        elif source is not None:
            factors.append(CostTable((own, source), (sizes[:, None] * _BOTH)[None]))
        return factors

    def _any(self, variables: tuple[int, ...], label: int) -> int | None:
        """The variable that says whether one of these has a label; None if none can."""
        variables = tuple(v for v in variables if label in self._domains[v])
        if not variables:
            return None
        key = variables, label
        if key not in self._has:
            others = self._any(variables[:-1], label)
            is_label = np.array(self._domains[variables[-1]]) == label
            if others is None:
                self._has[key] = self._add((variables[-1],), is_label)
            else:
                truth = is_label[:, None] | np.array([False, True])
                self._has[key] = self._add((variables[-1], others), truth)
        return self._has[key]

    def _add(self, scope: tuple[int, ...], truth: NDArray[np.bool_]) -> int:
        """A variable that is 1 where this is true of the labels of others, and else 0."""
        self._added.append((scope, truth))
        self._domains.append(_BOTH)
        return len(self._domains) - 1

    def extended(self, problem: Problem, amounts: Iterable[CostTable]) -> Problem:
        """A problem over the same variables with those that were added.

        Those that have no say in the amounts are free.
        """
        factors, first = [], len(self.problem.variables)
        pending = {v for amount in amounts for v in amount.scope if v >= first}
        # Each was added after those that it is about.
        for number in range(len(self._domains) - 1, first - 1, -1):
            if number not in pending:
                continue
            scope, truth = self._added[number - first]
            pending |= {v for v in scope if v >= first}
            costs = np.zeros((problem.levels, *truth.shape, 2), np.int64)
            costs[0] = np.where(np.stack([truth, ~truth], -1), FORBIDDEN, 0)
            factors.append(CostTable((*scope, number), costs))
        return Problem(
            problem.labels,
            problem.levels,
            (*problem.variables, *[Variable(_BOTH)] * len(self._added)),
            (*problem.factors, *factors),
        )

    def completed(self, assignment: Sequence[int]) -> tuple[int, ...]:
        """The labels with those of the variables that were added."""
        labels = [*assignment[: len(self.problem.variables)]]
        for scope, truth in self._added:
            index = tuple(self._domains[v].index(labels[v]) for v in scope)
            labels.append(int(truth[index]))
        return tuple(labels)


def _joined(scope: Sequence[int | None], table: NDArray[Any]) -> tuple[tuple[int, ...], Any]:
    """A table over the variables that there are, each once; what there is not is 0."""
    table = table[tuple(0 if v is None else slice(None) for v in scope)]
    there = [v for v in scope if v is not None]
    # einsum takes the diagonal of axes with the same name.
    once = tuple(dict.fromkeys(there))
    return once, np.einsum(table, [there.index(v) for v in there], [there.index(v) for v in once])


def cheapest_within(
    peaks: Peaks,
    problem: Problem,
    most: int,
    limits: Sequence[Limit] = (),
    *,
    start: Sequence[int] | None = None,
    work_limit: int = WORK_LIMIT,
    search_seconds: float = math.inf,
) -> Solution:
    """The least cost of a problem, over the variables of ``peaks``, with no peak above ``most``.

    ``start`` is within all limits. Raises as ``solve_ilp`` does.
    """
    return _Within(peaks, work_limit, search_seconds).cheapest(problem, most, limits, start)


class _Within:
    """Integer programs with a limit for each moment at which one of their solutions is over it."""

    def __init__(self, peaks: Peaks, work_limit: int, search_seconds: float) -> None:
        self.peaks, self.work_limit = peaks, work_limit
        self._deadline = perf_counter() + search_seconds
        self.watched: dict[Where, None] = {}

    @property
    def seconds_left(self) -> float:
        """Until the search is over."""
        return self._deadline - perf_counter()

    def cheapest(
        self,
        problem: Problem,
        most: int,
        limits: Sequence[Limit] = (),
        start: Sequence[int] | None = None,
        optimum: Sequence[int] = (),
    ) -> Solution:
        """The least cost with no peak above ``most``.

        ``optimum`` is what the first levels cost at least, and may cost at most.
        """
        peaks = self.peaks
        while True:
            kept = [peaks.limit(where, most) for where in self.watched]
            amounts = [factor for where in self.watched for factor in peaks.amount(where)[1]]
            extended = peaks.extended(problem, amounts)
            solution = None if limits else _optimum(peaks.within(extended, kept))
            if solution is not None and solution.cost[: len(optimum)] > tuple(optimum):
                raise InfeasibleError
            if solution is None:
                own = (level_limit(problem, *level) for level in enumerate(optimum))
                solution = solve_ilp(
                    extended,
                    [*limits, *own, *kept],
                    start=None if start is None else peaks.completed(start),
                    work_limit=self.work_limit,
                    search_seconds=self.seconds_left,
                )
            if not peaks.over(solution.assignment, most):
                return solution
            if solution.status is not Status.OPTIMAL:
                raise NoSolutionFoundError("no assignment within the limits was found in time")
            # What is nearly over is over in the next solution; and with more limits a proof is
            # sooner found.
            self.watched |= dict.fromkeys(peaks.over(solution.assignment, most - most // 4))


def _optimum(problem: Problem | None) -> Solution | None:
    """The optimum, if elimination alone finds it.

    Raises ``InfeasibleError`` where there is none.
    """
    if problem is None:
        return None
    with suppress(NoSolutionFoundError):
        solution = solve(problem, search_seconds=0.0)
        if solution.status is Status.OPTIMAL:
            return solution
    return None


def peak_front(
    peaks: Peaks,
    known: Sequence[int],
    *,
    then: Sequence[int] = (),
    most_points: int = GAP_LIMIT,
    work_limit: int = WORK_LIMIT,
    search_seconds: float = math.inf,
) -> Front:
    """The points of the trade-off between a problem's first level and the peak.

    ``known`` is optimal by all levels; of assignments of a point one is taken that is best by the
    levels ``then``. Each point is proven to have the least cost of all with so
    low a peak, and the least peak of all of that cost, unless the front says that its last one is
    not. There may be more after the last one, which is a gap then, where the search ends without a
    proof: after ``search_seconds``, a ``work_limit`` of each integer program, or so many points.
    """
    within = _Within(peaks, work_limit, search_seconds)
    floor = _Least(peaks, (), known)
    floor.search(within)
    least = _Least(peaks, (0,), known, bound=floor.bound)
    least.search(within)
    points: list[ParetoPoint] = []
    while not least.is_open and len(points) < most_points:
        points.append(_point(within, least, then, known))
        if least.peak <= floor.bound:
            return Front(marked(points), ())
        start = floor.best if floor.peak < least.peak else None
        try:
            problem = with_levels(peaks.problem, [0])
            found = within.cheapest(problem, least.peak - 1, start=start)
        except InfeasibleError:
            return Front(marked(points), ())
        except NoSolutionFoundError:
            break
        if found.status is not Status.OPTIMAL:
            break
        least = _Least(peaks, (0,), found.assignment[: len(known)], bound=floor.bound)
        least.branch(within)
    if not points:
        cost = peaks.problem.cost(least.best)
        assert cost is not None
        points.append(ParetoPoint(least.best, cost[0], least.peak))
        return Front(marked(points), (0,), is_proven=False)
    return Front(marked(points), (len(points) - 1,))


def _point(
    within: _Within, least: _Least, then: Sequence[int], known: Sequence[int]
) -> ParetoPoint:
    """The point of the assignment with the least peak, or of one that is better by other levels."""
    problem, assignment = within.peaks.problem, least.best
    if then and assignment != tuple(known):
        meant = with_levels(problem, (0, *then))
        with suppress(NoSolutionFoundError):
            found = within.cheapest(meant, least.peak, start=assignment)
            assignment = found.assignment[: len(known)]
    cost = problem.cost(assignment)
    assert cost is not None
    return ParetoPoint(assignment, cost[0], least.peak)


@frozen
class LeastPeak:
    """An assignment, the most bytes that are alive at once, and what no other is below."""

    assignment: tuple[int, ...]
    peak: int
    bound: int
    moments: frozenset[Where]
    """Where less was asked for."""


def least_peak(
    peaks: Peaks,
    levels: Sequence[int],
    known: Sequence[int],
    *,
    enough: int = 0,
    worth: int = 1,
    then: Sequence[int] = (),
    work_limit: int = WORK_LIMIT,
    search_seconds: float = math.inf,
) -> LeastPeak:
    """The least peak of the assignments that are optimal by the first ``levels`` of the problem.

    ``known`` is one of them. A peak of no more than ``enough`` ends the search. Of assignments with
    the least bytes at one moment those are taken that are best by the levels ``then``. Where the
    search ends without a proof, the bound is lower. Integer programs are solved where they may gain
    ``worth`` bytes, and have a ``work_limit``.
    """
    search = _Least(peaks, levels, known, enough)
    search.search(_Within(peaks, work_limit, search_seconds), then, worth)
    return LeastPeak(search.best, search.peak, search.bound, frozenset(search.moments))


class _Least:
    """The search for the least peak: the best assignment, and what is known of its optimum."""

    def __init__(
        self,
        peaks: Peaks,
        levels: Sequence[int],
        known: Sequence[int],
        enough: int = 0,
        bound: int = 0,
    ) -> None:
        self._peaks, self._levels, self._enough = peaks, levels, enough
        self.best = tuple(known)
        self.peak, self._where = peaks.peak(known)
        self.bound = bound
        self.moments: set[Where] = set()

    def search(self, within: _Within, then: Sequence[int] = (), worth: int = 1) -> None:
        """Eliminates, and then solves integer programs where these may gain so much."""
        self.eliminate(then, within.seconds_left)
        if within.work_limit and self.is_open and self.peak - self.bound >= worth:
            self.branch(within)
            self.moments |= set(within.watched)

    def _offer(self, assignment: Sequence[int]) -> Where:
        peak, where = self._peaks.peak(assignment)
        if peak < self.peak:
            self.best = tuple(assignment[: len(self._peaks.problem.variables)])
            self.peak, self._where = peak, where
        return where

    @property
    def is_open(self) -> bool:
        """Whether a lower peak is asked for and not ruled out."""
        return self.peak > max(self.bound, self._enough)

    def eliminate(self, then: Sequence[int], search_seconds: float) -> None:
        """Takes the least of one moment after the other, as long as that leads to others, and then
        of their sum."""
        deadline = perf_counter() + search_seconds
        where, seen = self._where, list[Where]()
        while self.is_open and where not in seen and len(seen) < _MOST_MOMENTS:
            seen.append(where)
            where = self._least_of([where], then, deadline)
        if self.is_open and len(seen) > 1:
            self._least_of(seen, then, deadline)

    def _least_of(self, moments: Sequence[Where], then: Sequence[int], deadline: float) -> Where:
        """Takes what has the least of some moments together, whose mean no peak is below."""
        peaks = self._peaks
        self.moments |= set(moments)
        known = [peaks.amount(where) for where in moments]
        amounts = [factor for _, factors in known for factor in factors]
        fixed = sum(own for own, _ in known)
        # Often what is alive takes no less whatever its representations are.
        self._rule_out(fixed + sum(int(factor.costs.min()) for factor in amounts), len(moments))
        if not self.is_open:
            return moments[-1]
        levels = (*self._levels, AMOUNTS, *then)
        problem = with_levels(peaks.extended(peaks.problem, amounts), levels, amounts)
        seconds = deadline - perf_counter()
        try:
            solution = solve(problem, time_limit=SEARCH_TIME, search_seconds=seconds)
        except NoSolutionFoundError:
            return moments[-1]
        if solution.status is not Status.OPTIMAL:
            return moments[-1]
        self._rule_out(fixed + solution.cost[len(self._levels)], len(moments))
        return self._offer(solution.assignment)

    def _rule_out(self, total: int, moments: int) -> None:
        """No peak is below the mean of what some moments take together."""
        self.bound = max(self.bound, -(-total // moments))

    def branch(self, within: _Within) -> None:
        """Asks for ever lower peaks, until there is none."""
        peaks = self._peaks
        cost = peaks.problem.cost(self.best)
        assert cost is not None
        optimum = [cost[level] for level in self._levels]
        while self.is_open:
            self.moments.add(self._where)
            fixed, amounts = peaks.amount(self._where)
            problem = with_levels(peaks.problem, (*self._levels, AMOUNTS), amounts)
            try:
                found = within.cheapest(problem, self.peak - 1, optimum=optimum)
            except InfeasibleError:
                self.bound = self.peak
            except NoSolutionFoundError:
                return
            else:
                self.bound = max(self.bound, fixed + found.bound[-1])
                self._offer(found.assignment)
                if found.status is not Status.OPTIMAL:
                    return
