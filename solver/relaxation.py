"""Costs moved between tables by the duals of their linear relaxation, so that bounds are best.

The relaxation has a distribution over each table and one over each node, and all agree. Its duals
say how much of each node's costs every table should bear so that the least entries of all tables
sum to most. HiGHS finds them in floats. They are rounded to whole numbers, and what one table
bears more another bears less, so the sum of all tables stays exact whatever the floats were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from solver.ascent import ascended
from solver.highs import quiet_highs
from solver.minibuckets import CoreTable, Numbers, Stopped

_LARGEST_COST: Final = 2.0**20
"""Costs in HiGHS are at most this, whose tolerances are absolute."""

_EXACT: Final = 2.0**52
"""Sums of whole floats below this are exact."""

_ITERATION: Final = 1_000
"""What an iteration counts as besides the size of the relaxation."""

_MOST_ITERATIONS: Final = 2**31 - 1

_PASSES: Final = 8
"""Passes that move costs step by step before: they spare the simplex method a third of its way."""

_RAY: Final = 2.0**30
"""What a ray of duals is weighed with."""

_MOST_ROWS: Final = 20_000
"""Beyond these, iterations take much longer."""

_MOST_ROWS_EACH: Final = 20
"""Where nodes have more rows than these for each value, the relaxation is weak."""

Places = NDArray[np.intp]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Relaxed:
    """What the relaxation makes of tables."""

    tables: list[CoreTable]
    """One for each node, and those over several."""
    program: Program
    """The relaxation, solved."""


def relaxed(
    nodes: Sequence[int],
    sizes: Sequence[int],
    tables: Sequence[CoreTable],
    room: float,
    seconds: float,
    stopped: Stopped,
) -> Relaxed | None:
    """The tables with costs moved by the duals of the relaxation.

    None where it would take more work than ``room``, or was not solved within it or within
    ``seconds`` of the clock, or where it is likely to be weak. Of complex costs only the real
    parts move by duals.
    """
    if room <= 0 or sum([len(scope) for scope, _ in tables]) > _MOST_ROWS:
        return None
    model = _Model(nodes, sizes, tables)
    if (
        model.rows > _MOST_ROWS
        or model.rows > _MOST_ROWS_EACH * sum([sizes[v] for v in nodes])
        # Iterations are some 3 for 5 rows, as was measured.
        or 3 * model.rows * model.iteration // 5 > room
    ):
        return None
    model = _Model(nodes, sizes, ascended(nodes, sizes, tables, _PASSES, stopped))
    program = Program(model)
    if not program.is_possible or not program.solve(room, seconds, stopped):
        return None
    return Relaxed(model.moved(program.duals()), program)


@dataclass(frozen=True, slots=True)
class _Shared:
    """A table in the relaxation: values of a node that cost the same everywhere in it are one."""

    scope: tuple[int, ...]
    table: Numbers
    classes: list[Places]
    """By axis: the class of each value."""
    costs: Floats
    """By class on each axis."""
    first: list[int]
    """By axis: the row of the first class."""


class _Model:
    """A column for each value of a node and for each entry of a table; rows that say they agree."""

    def __init__(
        self, nodes: Sequence[int], sizes: Sequence[int], tables: Sequence[CoreTable]
    ) -> None:
        kind = np.result_type(np.float64, *[table for _, table in tables])
        self.own: dict[int, Numbers] = {v: np.zeros(sizes[v], kind) for v in nodes}
        self._tables: list[_Shared] = []
        # A row says that a node has one value, or that a table and a node agree on a class.
        self.rows = len(nodes)
        self.entries = 0
        for scope, given in tables:
            if len(scope) == 1:
                self.own[scope[0]] = self.own[scope[0]] + given
                continue
            table = given
            for axis, v in enumerate(scope):
                # Above their least, more values cost the same.
                least = table.real.min(axis=tuple([a for a in range(table.ndim) if a != axis]))
                least = np.where(np.isfinite(least), least, 0)
                self.own[v] = self.own[v] + least
                table = table - _along(axis, least, table.ndim)
            classes, costs = _classes(table.real)
            first = []
            for size in costs.shape:
                first.append(self.rows)
                self.rows += size
            self.entries += costs.size
            self._tables.append(_Shared(scope, table, classes, costs, first))

    @property
    def iteration(self) -> int:
        """The work of an iteration of the simplex method, as was measured."""
        return _ITERATION + self.rows // 4 + self.entries // 50

    def columns(self) -> tuple[Floats, Places, Places, Floats, Places]:
        """The cost of each column, how many entries it has, and the rows and values of those.

        Last where the columns of each node and then of each table start, and where all end.
        """
        own = list(self.own.values())
        starts = np.cumsum([0, *map(len, own)])
        start = dict(zip(self.own, starts.tolist(), strict=False))
        count = int(starts[-1])
        costs = [costs.real for costs in own]
        columns = [np.arange(count)]
        rows = [np.repeat(np.arange(len(own)), [len(costs) for costs in own])]
        lengths, joined = [], []
        for shared in self._tables:
            shape = shared.costs.shape
            for v, classes, first in zip(shared.scope, shared.classes, shared.first, strict=True):
                columns.append(start[v] + np.arange(len(classes)))
                rows.append(first + classes)
            costs.append(shared.costs.ravel())
            lengths.append(np.full(shared.costs.size, len(shape)))
            joined.append((np.indices(shape).reshape(len(shape), -1).T + shared.first).ravel())
        at = np.concatenate(columns)
        order = np.argsort(at, kind="stable")
        indices = np.concatenate((np.concatenate(rows)[order], *joined))
        values = np.ones(len(indices))
        values[: len(at)][order >= count] = -1.0
        return (
            *(np.concatenate(costs), np.concatenate((np.bincount(at), *lengths))),
            *(indices, values, np.cumsum([0, *map(len, costs)])),
        )

    def moved(self, duals: Floats) -> list[CoreTable]:
        """The tables with costs moved by whole duals."""
        own = dict(self.own)
        moved = []
        for shared in self._tables:
            table = shared.table
            for axis, (v, classes) in enumerate(zip(shared.scope, shared.classes, strict=True)):
                part = duals[shared.first[axis] + classes]
                own[v] = own[v] + part
                table = table - _along(axis, part, table.ndim)
            moved.append((shared.scope, table))
        return [*[((v,), costs) for v, costs in own.items()], *moved]


class Program:
    """The relaxation in HiGHS, of all values of the nodes or of some."""

    def __init__(self, model: _Model) -> None:
        import highspy

        self._optimal = highspy.HighsModelStatus.kOptimal
        self._infeasible = highspy.HighsModelStatus.kInfeasible
        self._iteration = model.iteration
        cost, length, indices, values, starts = model.columns()
        possible = np.isfinite(cost)
        kept = np.repeat(possible, length)
        self._cost, length = cost[possible], length[possible]
        self._indices, self._values = indices[kept], values[kept]
        self._starts = np.concatenate(([0], np.cumsum(length)))
        numbers = np.concatenate(([0], np.cumsum(possible)))
        self._groups = numbers[starts]
        self.is_possible = bool((np.diff(self._groups) > 0).all())
        """Whether each node has a value, and each table an entry, that is not forbidden."""
        self._columns: dict[int, dict[int, int]] = {}
        """By node: the column of each value that is not forbidden."""
        for v, start, end in zip(model.own, starts.tolist(), starts[1:].tolist(), strict=False):
            own = np.flatnonzero(possible[start:end])
            self._columns[v] = dict(zip(own.tolist(), numbers[start + own].tolist(), strict=True))
        self._narrowed: Mapping[int, Set[int]] = {}
        self._unit = max(1.0, float(np.abs(self._cost).max(initial=0.0)) / _LARGEST_COST)
        self._highs = quiet_highs()
        # Presolve takes longer than what it saves, unless it follows what is forbidden.
        self._highs.setOptionValue("presolve", "off" if possible.all() else "on")
        self._highs.passModel(self._program(highspy, model.rows))

    def _program(self, highspy: Any, rows: int) -> Any:
        program = highspy.HighsLp()
        program.num_col_, program.num_row_ = len(self._cost), rows
        program.col_cost_ = self._cost / self._unit
        program.col_lower_ = np.zeros(len(self._cost))
        # The columns of values have an end: where one is barred and set free, duals stay possible.
        is_value = np.arange(len(self._cost)) < self._groups[len(self._columns)]
        program.col_upper_ = np.where(is_value, 1.0, np.inf)
        # A node has one value, and what two agree on differs by nothing.
        program.row_lower_ = program.row_upper_ = np.where(
            np.arange(rows) < len(self._columns), 1.0, 0.0
        )
        matrix = program.a_matrix_
        matrix.format_ = highspy.MatrixFormat.kColwise
        matrix.start_ = self._starts.astype(np.int32)
        matrix.index_, matrix.value_ = self._indices.astype(np.int32), self._values
        return program

    def values(self, v: int) -> Set[int]:
        """The values that a node has left."""
        return self._narrowed.get(v, self._columns[v].keys())

    def narrow(self, left: Mapping[int, Set[int]]) -> None:
        """Leaves nodes these values, and to all others all of theirs."""
        ends = {
            column: float(v not in left or value in left[v])
            for v in dict.fromkeys([*self._narrowed, *left])
            for value, column in self._columns[v].items()
        }
        self._narrowed = left
        numbers, upper = np.array(list(ends), np.int32), np.array(list(ends.values()))
        self._highs.changeColsBounds(len(ends), numbers, np.zeros(len(ends)), upper)

    def solve(self, room: float, seconds: float, stopped: Stopped, effort: int = 1) -> bool:
        """Whether the optimum was found within some work and time.

        An iteration takes ``effort`` times the work of one from the start.
        """
        each = effort * self._iteration
        iterations = int(min(max(room, 0) / each, _MOST_ITERATIONS))
        self._highs.setOptionValue("simplex_iteration_limit", iterations)
        if np.isfinite(seconds):
            self._highs.setOptionValue("time_limit", self._highs.getRunTime() + max(seconds, 0.0))
        self._highs.run()
        stopped(max(self._highs.getInfo().simplex_iteration_count, 0) * each)
        return bool(self._highs.getModelStatus() == self._optimal)

    @property
    def is_refuted(self) -> bool:
        """Whether HiGHS says that there is no solution."""
        return bool(self._highs.getModelStatus() == self._infeasible)

    def basis(self) -> Any:
        """Where the simplex method ended."""
        return self._highs.getBasis()

    def go_to(self, basis: Any) -> None:
        """Lets the simplex method start where it ended before."""
        self._highs.setBasis(basis)

    def duals(self) -> Floats:
        """The dual of each row in whole numbers, or zeros where those are huge."""
        if self.is_refuted:
            _, is_found, ray = self._highs.getDualRay()
            return _whole(_RAY * np.array(ray if is_found else [0.0] * self._highs.getNumRow()))
        return _whole(np.array(self._highs.getSolution().row_dual) * self._unit)

    def bound(self) -> float:
        """What all values that are left cost at least, exactly, by whatever the duals are."""
        change = self.duals()
        change[: len(self._columns)] = 0
        costs = self._cost - np.add.reduceat(
            self._values * change[self._indices], self._starts[:-1]
        )
        for v, left in self._narrowed.items():
            barred = [column for value, column in self._columns[v].items() if value not in left]
            costs[barred] = np.inf
        return float(np.minimum.reduceat(costs, self._groups[:-1]).sum())

    def shares(self) -> dict[int, dict[int, float]]:
        """By node how much of it has each value that is left, the likeliest first."""
        found: list[float] = list(self._highs.getSolution().col_value)
        return {
            v: dict(
                sorted(
                    ((value, found[columns[value]]) for value in self.values(v)),
                    key=lambda item: (-item[1], item[0]),
                )
            )
            for v, columns in self._columns.items()
        }


def _whole(duals: Floats) -> Floats:
    change = np.rint(np.nan_to_num(duals))
    return change if np.abs(change).sum() < _EXACT else np.zeros(len(change))


def _along(axis: int, costs: Numbers, dimensions: int) -> Numbers:
    return costs.reshape([-1 if a == axis else 1 for a in range(dimensions)])


def _classes(table: Floats) -> tuple[list[Places], Floats]:
    """By axis the class of each value, and the table with one value for each class."""
    classes = []
    for axis, size in enumerate(table.shape):
        found: dict[bytes, int] = {}
        slices = np.moveaxis(table, axis, 0).reshape(size, -1)
        numbers = [found.setdefault(part.tobytes(), value) for value, part in enumerate(slices)]
        kept = sorted(set(numbers))
        if len(kept) < size:
            table = table.take(kept, axis=axis)
        classes.append(np.searchsorted(kept, numbers))
    return classes, table
