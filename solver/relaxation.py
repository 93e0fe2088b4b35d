"""Costs moved between tables by the duals of their linear relaxation, so that bounds are best.

The relaxation has a distribution over each table and one over each node, and all agree. Its duals
say how much of each node's costs every table should bear so that the least entries of all tables
sum to most. HiGHS finds them in floats. They are rounded to whole numbers, and what one table
bears more another bears less, so the sum of all tables stays exact whatever the floats were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from solver.highs import quiet_highs
from solver.minibuckets import CoreTable, Numbers, Stopped

_LARGEST_COST: Final = 2.0**20
"""Costs in HiGHS are at most this, whose tolerances are absolute."""

_EXACT: Final = 2.0**52
"""Sums of whole floats below this are exact."""

_ITERATION: Final = 1_000
"""What an iteration counts as besides the size of the relaxation."""

_MOST_ITERATIONS: Final = 2**31 - 1

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
    values: dict[int, int]
    """Of each node the likeliest one, which need not be possible together."""


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
    parts move.
    """
    if room <= 0 or sum([len(scope) for scope, _ in tables]) > _MOST_ROWS:
        return None
    model = _Model(nodes, sizes, tables)
    # As was measured: what an iteration takes, and that there are fewer of them than rows.
    each = _ITERATION + model.rows // 4 + model.entries // 50
    if (
        model.rows > _MOST_ROWS
        or model.rows > _MOST_ROWS_EACH * sum([sizes[v] for v in nodes])
        or 2 * model.rows * each // 3 > room
    ):
        return None
    optimum, taken = model.solved(int(min(room / each, _MOST_ITERATIONS)), seconds)
    stopped(taken * each)
    return None if optimum is None else model.moved(*optimum)


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
        self._own: dict[int, Numbers] = {v: np.zeros(sizes[v], kind) for v in nodes}
        self._tables: list[_Shared] = []
        # A row says that a node has one value, or that a table and a node agree on a class.
        self.rows = len(nodes)
        self.entries = 0
        for scope, table in tables:
            if len(scope) == 1:
                self._own[scope[0]] = self._own[scope[0]] + table
                continue
            classes, costs = _classes(table.real)
            first = []
            for size in costs.shape:
                first.append(self.rows)
                self.rows += size
            self.entries += costs.size
            self._tables.append(_Shared(scope, table, classes, costs, first))

    def solved(self, iterations: int, seconds: float) -> tuple[tuple[Floats, Floats] | None, int]:
        """The duals of the rows and the values of the columns, and the iterations that it took."""
        import highspy

        cost, length, indices, values = self._columns()
        possible = np.isfinite(cost)
        kept = np.repeat(possible, length)
        cost, length = cost[possible], length[possible]
        unit = max(1.0, float(np.abs(cost).max(initial=0.0)) / _LARGEST_COST)
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = len(cost), self.rows
        model.col_cost_ = cost / unit
        model.col_lower_, model.col_upper_ = np.zeros(len(cost)), np.full(len(cost), np.inf)
        # A node has one value, and what two agree on differs by nothing.
        model.row_lower_ = model.row_upper_ = np.where(
            np.arange(self.rows) < len(self._own), 1.0, 0.0
        )
        matrix = model.a_matrix_
        matrix.format_ = highspy.MatrixFormat.kColwise
        matrix.start_ = np.concatenate(([0], np.cumsum(length))).astype(np.int32)
        matrix.index_, matrix.value_ = indices[kept].astype(np.int32), values[kept]
        highs = quiet_highs()
        # Presolve takes longer than what it saves, unless it follows what is forbidden.
        highs.setOptionValue("presolve", "off" if possible.all() else "on")
        highs.setOptionValue("simplex_iteration_limit", iterations)
        if np.isfinite(seconds):
            highs.setOptionValue("time_limit", max(seconds, 0.0))
        highs.passModel(model)
        highs.run()
        taken = max(highs.getInfo().simplex_iteration_count, 0)
        if highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return None, taken
        found = highs.getSolution()
        return (np.array(found.row_dual) * unit, np.array(found.col_value)), taken

    def _columns(self) -> tuple[Floats, Places, Places, Floats]:
        """The cost of each column, how many entries it has, and the rows and values of those."""
        own = list(self._own.values())
        start = dict(zip(self._own, np.cumsum([0, *map(len, own)]).tolist(), strict=False))
        count = sum(map(len, own))
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
        return np.concatenate(costs), np.concatenate((np.bincount(at), *lengths)), indices, values

    def moved(self, duals: Floats, columns: Floats) -> Relaxed:
        """The tables with whole costs moved by duals, unless those are huge."""
        change = np.rint(np.nan_to_num(duals))
        if np.abs(change).sum() >= _EXACT:
            change[:] = 0
        values = {}
        at = 0
        for v, own in self._own.items():
            possible = np.flatnonzero(np.isfinite(own))
            values[v] = int(possible[np.argmax(columns[at : at + len(possible)])])
            at += len(possible)
        moved = []
        for shared in self._tables:
            table = shared.table
            for axis, (v, classes) in enumerate(zip(shared.scope, shared.classes, strict=True)):
                part = change[shared.first[axis] + classes]
                self._own[v] = self._own[v] + part
                table = table - part.reshape([-1 if a == axis else 1 for a in range(table.ndim)])
            moved.append((shared.scope, table))
        return Relaxed([*[((v,), own) for v, own in self._own.items()], *moved], values)


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
