"""Solves the compact ILP of a problem, with limits beside the costs and a proof in integers.

HiGHS solves linear relaxations in floats, and nothing that it says is believed. Its duals are
rounded to integers, and any integers y prove a bound, in integers alone: for rows that hold,

    D * cost(x)  =  y * A x  +  (D * c - y A) x  >=  the least of rows + that of columns

where x is between 0 and 1, or as far as it is fixed. D is a power of 2 that scales y, so rounding
takes little from the bound; and costs are multiples of a step, to which it is rounded up. That a
relaxation has no solution is proven in the same way, with y a ray of its dual and c zero.

The relaxation of layout problems is tight as a rule: its bound is the optimum. Where it is not,
columns are fixed one by one (branch and bound), and each part is closed by a bound of its own.
Levels are minimised one after the other, each among the optima of the levels before it.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from solver.compact import CompactModel, Limit, Terms
from solver.highs import quiet_highs
from solver.problem import (
    FORBIDDEN,
    Agree,
    Problem,
    ProblemError,
    SharedCopies,
    costs_of,
)
from solver.solution import InfeasibleError, NoSolutionFoundError, Solution, Statistics, Status

WORK_LIMIT: Final = 200_000
"""Iterations of the simplex method, over all relaxations: some tens of seconds."""

_SCALES: Final = (0, 12, 24)
"""The exponents of D. Most duals are integers already, or halves."""

_NOT_WITHIN: Final = "the start is forbidden, or not within the limits"

_EXACT: Final = 2.0**61
"""Sums below this do not overflow 64 bits, and larger ones are left to Python's integers."""

Integers: TypeAlias = NDArray[Any]
"""Of int64, or of Python's integers where those could overflow."""

Fixed: TypeAlias = tuple[tuple[int, int], ...]
"""Columns with the values that they are fixed to."""


def solve_ilp(
    problem: Problem,
    limits: Sequence[Limit] = (),
    *,
    start: Sequence[int] | None = None,
    work_limit: int = WORK_LIMIT,
    search_seconds: float = math.inf,
) -> Solution:
    """Finds an assignment of least cost within limits, with a proof that shares nothing with
    ``solve``.

    Status OPTIMAL is exact: the cost is that of ``Problem.cost``, and each level's bound was shown
    in integers to be no lower, whatever the floats of HiGHS were. Where that does not come off
    before ``work_limit`` iterations or ``search_seconds`` are over, the status is FEASIBLE, and
    the bound is as exact as before, but lower.

    ``start`` is an assignment to begin with, as of another solver: where it is optimal, only the
    proof is left. Only ``search_seconds`` makes the result depend on the machine.

    Raises ``ProblemError`` for a problem, limit or start that is not valid, ``InfeasibleError``
    where no assignment is within the limits, which is exact too, and ``NoSolutionFoundError``.
    """
    started = perf_counter()
    problem.validate()
    deadline = started + search_seconds
    try:
        model = CompactModel(problem, limits, deadline=deadline)
    except NoSolutionFoundError:
        if start is None:
            raise
        return _as_it_began(problem, limits, start)
    search = _Search(model, limits, work_limit, deadline)
    if start is not None and not search.offer(start):
        raise ProblemError(_NOT_WITHIN)
    bound: list[int] = []
    proven = True
    for level in range(problem.levels):
        least, proven = search.minimise(level)
        bound.append(least)
        if not proven:
            break
    if search.best is None:
        raise NoSolutionFoundError("no valid assignment was found in the limits of the search")
    open_levels = model.objectives[len(bound) :]
    bound += [sum(min(amount, 0) for amount in terms.values()) for terms in open_levels]
    statistics = Statistics(
        variables=len(problem.variables),
        merged=len(problem.variables),
        nodes=model.columns,
        width=0,
        largest_table=0,
        core=model.columns,
        lanes=problem.levels,
        seconds={"ilp": perf_counter() - started},
    )
    cost, assignment = search.best
    return Solution(
        assignment, cost, tuple(bound), Status.OPTIMAL if proven else Status.FEASIBLE, statistics
    )


def _as_it_began(problem: Problem, limits: Sequence[Limit], start: Sequence[int]) -> Solution:
    """What is known without a search: the start, and that no factor can be below its least."""
    cost = problem.cost(start)
    if cost is None or any(limit.amount(problem, start) > limit.most for limit in limits):
        raise ProblemError(_NOT_WITHIN)
    bound = np.zeros(problem.levels, np.int64)
    known: dict[int, Integers] = {}
    for factor in problem.factors:
        if isinstance(factor, Agree):
            continue
        costs = costs_of(factor)
        if id(costs) not in known:
            allowed = np.where(costs[0] >= FORBIDDEN, 0, costs).reshape(problem.levels, -1)
            known[id(costs)] = allowed.min(axis=1, initial=0)
        bound += known[id(costs)] * (len(factor.users) if isinstance(factor, SharedCopies) else 1)
    size = len(problem.variables)
    statistics = Statistics(size, size, size, 0, 0, size, problem.levels, {})
    return Solution(tuple(start), cost, tuple(bound.tolist()), Status.FEASIBLE, statistics)


@dataclass(frozen=True, slots=True)
class _Bound:
    """What some duals prove: ``scale`` times the cost is at least ``least``."""

    scale: int
    least: int
    duals: Integers
    reduced: Integers
    """By column: what it adds where it is 1."""

    @property
    def steps(self) -> int:
        """The bound in steps of the cost, rounded up."""
        return -(-self.least // self.scale)


class _Rows:
    """The rows of a model as arrays, and the exact bounds that follow from them."""

    def __init__(self, rows: Sequence[tuple[Terms, int | None, int | None]]) -> None:
        self.starts = np.cumsum([0, *[len(terms) for terms, _, _ in rows]])
        self.columns = np.array([c for terms, _, _ in rows for c in terms], np.int32)
        self.values = np.array([a for terms, _, _ in rows for a in terms.values()], np.int64)
        self._of = np.repeat(np.arange(len(rows)), np.diff(self.starts))
        self.low = np.array([-math.inf if low is None else low for _, low, _ in rows])
        self.high = np.array([math.inf if high is None else high for _, _, high in rows])

    def bound(
        self, costs: Integers, duals: NDArray[np.float64], low: Integers, high: Integers, bits: int
    ) -> _Bound:
        """What duals prove at a scale of ``2**bits``, for columns from ``low`` to ``high``."""
        scale = 2**bits
        rounded = np.rint(duals * scale)
        # A dual counts on one side of its row, which must have an end there.
        rounded[(rounded > 0) & ~np.isfinite(self.low)] = 0
        rounded[(rounded < 0) & ~np.isfinite(self.high)] = 0
        side = np.where(rounded > 0, self.low, self.high)
        side[rounded == 0] = 0
        sizes = (
            (np.abs(rounded[self._of]) * np.abs(self.values)).sum(),
            (np.abs(rounded) * np.abs(side)).sum(),
            scale * np.abs(costs.astype(float)).sum(),
        )
        kind: Any = np.int64 if sum(sizes) < _EXACT else object
        y = _integers(rounded, kind)
        reduced = costs.astype(kind) * scale
        np.subtract.at(reduced, self.columns, y[self._of] * self.values.astype(kind))
        columns = np.where(reduced > 0, low, high).astype(kind)
        least = int((y * _integers(side, kind)).sum()) + int((reduced * columns).sum())
        return _Bound(scale, least, y, reduced)


def _integers(floats: NDArray[np.float64], kind: Any) -> Integers:
    if kind is object:
        return np.array([int(number) for number in floats.tolist()], object)
    return floats.astype(np.int64)


class _Relaxation:
    """The linear relaxation in HiGHS, with columns that are fixed and set free again."""

    def __init__(self, rows: _Rows, columns: int) -> None:
        import highspy

        self._infeasible = highspy.HighsModelStatus.kInfeasible
        self.highs = quiet_highs()
        self.fixed: dict[int, int] = {}
        self.iterations = 0
        self._columns = columns
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = columns, len(rows.low)
        lp.col_cost_, lp.col_lower_ = np.zeros(columns), np.zeros(columns)
        lp.col_upper_ = np.ones(columns)
        lp.row_lower_, lp.row_upper_ = rows.low, rows.high
        matrix = lp.a_matrix_
        matrix.format_ = highspy.MatrixFormat.kRowwise
        matrix.start_ = rows.starts.astype(np.int32)
        matrix.index_, matrix.value_ = rows.columns, rows.values.astype(float)
        self.highs.passModel(lp)

    def charge(self, costs: Integers) -> None:
        """Sets the costs, and starts anew."""
        numbers = np.arange(self._columns, dtype=np.int32)
        self.highs.changeColsCost(self._columns, numbers, costs.astype(float))
        self.highs.clearSolver()

    def fix(self, fixed: dict[int, int]) -> None:
        """Fixes these columns, and no others."""
        changed = dict.fromkeys(self.fixed.keys() - fixed.keys(), (0, 1))
        changed |= {c: (v, v) for c, v in fixed.items() if self.fixed.get(c) != v}
        if changed:
            ends = np.array(list(changed.values()), float)
            numbers = np.array(list(changed), np.int32)
            self.highs.changeColsBounds(len(changed), numbers, ends[:, 0].copy(), ends[:, 1].copy())
        self.fixed = dict(fixed)

    def run(self, iterations: int, seconds: float) -> bool:
        """Solves it within limits; returns whether it is said to have no solution."""
        self.highs.setOptionValue("simplex_iteration_limit", max(iterations, 0))
        if math.isfinite(seconds):
            self.highs.setOptionValue("time_limit", self.highs.getRunTime() + max(seconds, 0.0))
        self.highs.run()
        self.iterations += max(self.highs.getInfo().simplex_iteration_count, 0)
        return bool(self.highs.getModelStatus() == self._infeasible)

    def duals(self) -> NDArray[np.float64]:
        """The dual of each row."""
        duals: NDArray[np.float64] = np.array(self.highs.getSolution().row_dual, float)
        return np.nan_to_num(duals)

    def ray(self) -> NDArray[np.float64] | None:
        """Duals of rows that cannot hold together, of at most 1."""
        _, found, values = self.highs.getDualRay()
        ray: NDArray[np.float64] = np.array(values if found else [], float)
        largest = np.abs(ray).max(initial=0.0)
        return np.nan_to_num(ray / largest) if largest > 0 else None

    def values(self) -> list[float]:
        """The value of each column."""
        found: list[float] = list(self.highs.getSolution().col_value)
        return found


class _Search:
    """Branch and bound, level by level: the best assignment, and what is known of its optimum."""

    def __init__(
        self, model: CompactModel, limits: Sequence[Limit], work_limit: int, deadline: float
    ) -> None:
        self._model = model
        self._limits = limits
        self._work_limit = work_limit
        self._deadline = deadline
        self._optimum: tuple[int, ...] = ()
        self._fixed: dict[int, int] = {}
        self._iterations = 0
        self._extra: list[tuple[Terms, int | None, int | None]] = []
        self._tight: dict[int, int] = {}
        self.best: tuple[tuple[int, ...], tuple[int, ...]] | None = None

    def offer(self, assignment: Sequence[int]) -> bool:
        """Takes an assignment if it is the best so far; returns whether it is valid."""
        problem = self._model.problem
        cost = problem.cost(assignment)
        if cost is None:
            return False
        if self.best is not None and self.best[0] <= cost:
            return True
        if any(limit.amount(problem, assignment) > limit.most for limit in self._limits):
            return False
        self.best = cost, tuple(assignment)
        return True

    def minimise(self, level: int) -> tuple[int, bool]:
        """Minimises a level among the optima of those before: a bound, and whether it is reached.

        Raises ``InfeasibleError`` where there is no assignment.
        """
        terms = self._model.objectives[level]
        step = math.gcd(*terms.values()) or 1
        if not terms and self.best is not None:
            self._optimum += (0,)
            return 0, True
        costs = np.zeros(self._model.columns, np.int64)
        for column, amount in terms.items():
            costs[column] = amount // step
        rows = _Rows(self._rows())
        relaxation = _Relaxation(rows, self._model.columns)
        relaxation.charge(costs)
        root, least, proven = self._branch(level, step, costs, rows, relaxation)
        if not proven:
            return least * step, False
        if self.best is None:
            raise InfeasibleError
        self._optimum += (self.best[0][level],)
        self._narrow(root, least, terms, step)
        return self.best[0][level], True

    def _rows(self) -> list[tuple[Terms, int | None, int | None]]:
        rows = self._model.rows + self._extra
        for number, side in self._tight.items():
            rows[number] = rows[number][0], side, side
        return rows

    def _value(self, level: int, step: int) -> float:
        """The best value of a level so far, in steps."""
        if self.best is None or self.best[0][:level] != self._optimum:
            return math.inf
        return self.best[0][level] // step

    def _branch(
        self, level: int, step: int, costs: Integers, rows: _Rows, relaxation: _Relaxation
    ) -> tuple[_Bound | None, int, bool]:
        """The root's bound, a bound of all in steps, and whether the best assignment reaches it."""
        least: int = int(np.minimum(costs, 0).sum())
        order = itertools.count()
        open_parts: list[tuple[int, int, Fixed]] = [(least, next(order), ())]
        root = None
        while open_parts and open_parts[0][0] < self._value(level, step):
            part = heapq.heappop(open_parts)
            least, _, fixed = part
            assignment, undecided = self._decided(dict(fixed))
            if not undecided:
                # The only assignment of this part, or none.
                if assignment is not None:
                    self.offer(assignment)
                continue
            left = self._work_limit - self._iterations
            seconds = self._deadline - perf_counter()
            if left <= 0 or seconds <= 0:
                return root, least, False
            relaxation.fix({**self._fixed, **dict(fixed)})
            before = relaxation.iterations
            infeasible = relaxation.run(left, seconds)
            self._iterations += relaxation.iterations - before + 1
            low, high = self._ends(dict(fixed))
            if infeasible:
                if self._is_impossible(rows, relaxation, low, high):
                    continue
            else:
                bound = self._best_bound(rows, costs, relaxation.duals(), low, high)
                root = bound if not fixed else root
                least = max(least, bound.steps)
                self.offer(self._rounded(relaxation.values()))
                if least >= self._value(level, step):
                    continue
            values = relaxation.values()
            column = min(undecided, key=lambda column: abs(values[column] - 0.5))
            for value in (0, 1):
                # The later of two equal parts comes first: the search dives.
                heapq.heappush(open_parts, (least, -next(order), (*fixed, (column, value))))
        reached = self._value(level, step)
        return root, 0 if reached == math.inf else int(reached), True

    def _decided(self, fixed: dict[int, int]) -> tuple[list[int] | None, list[int]]:
        """The only assignment with these columns, if there is one, and the undecided columns."""
        known = {**fixed, **self._fixed}
        assignment: list[int] = []
        undecided: list[int] = []
        for columns in self._model.labels:
            ones = [label for label, column in columns.items() if known.get(column) == 1]
            free = [label for label, column in columns.items() if column not in known]
            if len(ones) > 1 or not (ones or free):
                return None, []
            if ones:
                assignment += ones
            elif len(free) == 1:
                assignment += free
            else:
                undecided += [columns[label] for label in free]
        return (assignment if not undecided else None), undecided

    def _ends(self, fixed: dict[int, int]) -> tuple[Integers, Integers]:
        low = np.zeros(self._model.columns, np.int64)
        high = np.ones(self._model.columns, np.int64)
        for column, value in itertools.chain(self._fixed.items(), fixed.items()):
            low[column] = high[column] = value
        return low, high

    @staticmethod
    def _best_bound(
        rows: _Rows, costs: Integers, duals: NDArray[np.float64], low: Integers, high: Integers
    ) -> _Bound:
        bounds = (rows.bound(costs, duals, low, high, bits) for bits in _SCALES)
        return max(bounds, key=lambda bound: bound.steps)

    @staticmethod
    def _is_impossible(rows: _Rows, relaxation: _Relaxation, low: Integers, high: Integers) -> bool:
        """Whether a ray of the dual shows, in integers, that the rows cannot hold together."""
        ray = relaxation.ray()
        if ray is None:
            return False
        zero = np.zeros_like(low)
        # Either sign of a ray may be meant.
        return any(
            rows.bound(zero, sign * ray, low, high, bits).least > 0
            for bits in (10, 30, 60)
            for sign in (1, -1)
        )

    def _rounded(self, values: Sequence[float]) -> list[int]:
        return [
            max(columns, key=lambda label: values[columns[label]]) for columns in self._model.labels
        ]

    def _narrow(self, root: _Bound | None, best: int, terms: Terms, step: int) -> None:
        """Leaves only what can be an optimum of this level too.

        Columns and rows that would cost more than the root's bound is away from the optimum are
        fixed. Where that is all that costs anything, these are exactly the optima.
        """
        away = None
        if root is not None:
            away = root.scale * best - root.least
            for column in np.flatnonzero(np.abs(root.reduced) > away).tolist():
                self._fixed.setdefault(column, int(root.reduced[column] < 0))
            rows = self._rows()
            for number in np.flatnonzero(np.abs(root.duals) > away).tolist():
                _, low, high = rows[number]
                side = low if root.duals[number] > 0 else high
                assert side is not None
                self._tight[number] = side
        if away != 0:
            scaled = {column: amount // step for column, amount in terms.items()}
            self._extra.append((scaled, None, best))
