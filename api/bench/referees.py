"""Other solvers as referees of ours: what each finds and proves about a problem in given seconds.

Only the first level of costs counts. toulbar2, HiGHS and PBQP get the tables that our reductions
leave, so that they need not find again what is equal; CP-SAT gets the problem as it is stated. PBQP
is a heuristic that ends by itself. Seconds are of CPU time, so that a machine with much to do does
not spoil them; ours are of counted work, which takes about as much.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from math import ceil, inf, isfinite
from pathlib import Path
from time import process_time
from typing import Any, Final
from unittest.mock import patch

import numpy as np

from solver import (
    FORBIDDEN,
    NoSolutionFoundError,
    Problem,
    Solution,
    solve,
    solve_whole,
)
from solver.reduce import Reduced, reduce
from solver.solve import TABLE_LIMIT

SLOWER: Final = 20
"""How many times a limit of CPU time the clock may show, on a machine that does much else."""

_MEGABYTE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Found:
    """The least cost that a solver found, and a bound that it proved; None where it has none."""

    value: int | None
    bound: int | None

    @property
    def is_proven(self) -> bool:
        """Whether the value is the optimum."""
        return self.value is not None and self.value == self.bound


@dataclass(frozen=True, slots=True)
class Run:
    """What a solver found, in so many seconds of CPU time, with so much memory at its peak."""

    found: Found
    cpu_seconds: float
    megabytes: float


def run(solver: str, problem: Problem, seconds: float) -> Run:
    """Runs one of ``SOLVERS`` or ``PARTS`` in this process.

    The peak of memory counts from the process's start.
    """
    before = process_time()
    found = {**SOLVERS, **PARTS}[solver](problem, seconds)
    return Run(found, process_time() - before, _peak_megabytes())


def _peak_megabytes() -> float:
    # getrusage() would count what the parent had before this process became another program.
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 / _MEGABYTE
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _MEGABYTE


def _ours(problem: Problem, seconds: float) -> Found:
    return _of(lambda: solve(problem, time_limit=seconds, search_seconds=SLOWER * seconds))


def _cpsat(problem: Problem, seconds: float) -> Found:
    end = process_time() + seconds

    def stops() -> bool:
        return process_time() >= end

    limits = {"time_limit": inf, "search_seconds": SLOWER * seconds}
    return _of(lambda: solve_whole(problem, **limits, stops=stops))


def _of(solving: Callable[[], Solution]) -> Found:
    try:
        solution = solving()
    except NoSolutionFoundError:
        return Found(None, None)
    return Found(solution.cost[0], solution.bound[0])


def _toulbar2(problem: Problem, seconds: float) -> Found:
    from pytoulbar2.pytoulbar2 import CFN, tb2

    reduced = reduce(problem, TABLE_LIMIT)
    constant = reduced.constant[0]
    if not reduced.sizes:
        return Found(constant, constant)
    tables = [table[0] for table in reduced.tables]
    top = 1 + sum(int(t[t < FORBIDDEN].max(initial=0) - t.min()) for t in tables)
    network: Any = CFN(top)
    for v, size in enumerate(reduced.sizes):
        network.AddVariable(f"v{v}", range(size))
    for scope, table in zip(reduced.scopes, tables, strict=True):
        least = int(table.min())
        constant += least
        network.AddFunction(list(scope), np.minimum(table - least, top).ravel().tolist())
    answer = network.Solve(timeLimit=ceil(seconds))
    value = None if answer is None else round(answer[1]) + constant
    if not tb2.option.limited:
        # The search is complete. What it says of its bound is that of before.
        return Found(value, value)
    bound = network.GetDDualBound()
    return Found(value, ceil(bound - 1e-6) + constant if isfinite(bound) else None)


def _pbqp(problem: Problem, seconds: float) -> Found:
    """The better of both ways to choose labels."""
    from api.bench.pbqp import Pbqp

    reduced = reduce(problem, TABLE_LIMIT)
    value, is_exact = None, False
    for late in (False, True):
        network = Pbqp(reduced.sizes)
        for scope, table in zip(reduced.scopes, reduced.tables, strict=True):
            network.add(scope, np.where(table[0] < FORBIDDEN, table[0], np.inf))
        labels, is_exact = network.solve(late)
        found = _value(reduced, labels)
        if found is not None and (value is None or found < value):
            value = found
    return Found(value, value if is_exact else None)


def _value(reduced: Reduced, values: list[int]) -> int | None:
    """The first level of what values of all nodes cost; None where they are forbidden."""
    costs = [
        int(table[(0, *[values[v] for v in scope])])
        for scope, table in zip(reduced.scopes, reduced.tables, strict=True)
    ]
    return None if max(costs, default=0) >= FORBIDDEN else reduced.constant[0] + sum(costs)


def _highs(problem: Problem, seconds: float) -> Found:
    import highspy

    reduced = reduce(problem, TABLE_LIMIT)
    if not reduced.sizes:
        return Found(reduced.constant[0], reduced.constant[0])
    solver: Any = highspy.Highs()  # type: ignore[no-untyped-call]
    solver.silent()
    solver.setOptionValue("threads", 1)
    solver.setOptionValue("mip_rel_gap", 0.0)
    solver.setOptionValue("mip_abs_gap", 0.5)
    solver.setOptionValue("time_limit", SLOWER * seconds)
    end = process_time() + seconds

    def look(event: Any) -> None:
        if process_time() >= end:
            event.interrupt()

    solver.cbMipInterrupt += look
    solver.cbSimplexInterrupt += look
    solver.passModel(_local_marginals(highspy, reduced))
    solver.run()
    info = solver.getInfo()
    value = info.objective_function_value
    has_value = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    found = round(value) + reduced.constant[0] if has_value else None
    if solver.getModelStatus() == highspy.HighsModelStatus.kOptimal:
        return Found(found, found)
    bound = info.mip_dual_bound
    safe = ceil(bound - 1e-6 * (1 + abs(bound))) + reduced.constant[0] if isfinite(bound) else None
    return Found(found, safe)


def _local_marginals(highspy: Any, reduced: Reduced) -> Any:
    """An integer program: a distribution over each table, whose marginals are yes or no."""
    starts = np.concatenate(([0], np.cumsum(reduced.sizes))).tolist()
    costs = np.zeros(starts[-1])
    columns, upper = [costs], [np.ones(starts[-1])]
    indices: list[np.ndarray[Any, Any]] = []
    values: list[np.ndarray[Any, Any]] = []
    lengths: list[int] = []
    right: list[float] = []
    for start, size in zip(starts, reduced.sizes, strict=False):
        indices.append(np.arange(start, start + size))
        values.append(np.ones(size))
        lengths.append(size)
        right.append(1.0)
    width = starts[-1]
    for scope, table in zip(reduced.scopes, reduced.tables, strict=True):
        entries = table[0]
        allowed = entries < FORBIDDEN
        if len(scope) == 1:
            own = slice(starts[scope[0]], starts[scope[0] + 1])
            costs[own] += np.where(allowed, entries, 0)
            upper[0][own][~allowed] = 0
            continue
        columns.append(np.where(allowed, entries, 0).astype(float).ravel())
        upper.append(allowed.astype(float).ravel())
        numbers = np.arange(width, width + entries.size).reshape(entries.shape)
        width += entries.size
        for axis, v in enumerate(scope):
            for value, members in enumerate(np.moveaxis(numbers, axis, 0)):
                indices.append(np.concatenate((members.ravel(), [starts[v] + value])))
                values.append(np.concatenate((np.ones(members.size), [-1.0])))
                lengths.append(members.size + 1)
                right.append(0.0)
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = width, len(lengths)
    model.col_cost_ = np.concatenate(columns)
    model.col_lower_, model.col_upper_ = np.zeros(width), np.concatenate(upper)
    model.row_lower_ = model.row_upper_ = np.array(right)
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_ = np.concatenate(([0], np.cumsum(lengths)))
    model.a_matrix_.index_ = np.concatenate(indices)
    model.a_matrix_.value_ = np.concatenate(values)
    kinds = [highspy.HighsVarType.kInteger] * starts[-1]
    model.integrality_ = kinds + [highspy.HighsVarType.kContinuous] * (width - starts[-1])
    return model


def _ours_with(module: str, name: str, value: object) -> Callable[[Problem, float], Found]:
    """Our solver with one part of it replaced."""

    def solver(problem: Problem, seconds: float) -> Found:
        with patch.object(import_module(module), name, value):
            return _ours(problem, seconds)

    return solver


def _as_they_are(order: object, sizes: object, tables: object, *_: object) -> object:
    return tables


def _as_they_were(*arguments: object) -> object:
    return arguments[-1]


def _nothing(*_: object) -> None:
    return None


SOLVERS: Final[Mapping[str, Callable[[Problem, float], Found]]] = {
    "ours": _ours,
    "toulbar2": _toulbar2,
    "HiGHS": _highs,
    "CP-SAT": _cpsat,
    "PBQP": _pbqp,
}
"""What finds the least first level of a problem's costs in given seconds, by name."""

PARTS: Final[Mapping[str, Callable[[Problem, float], Found]]] = {
    "ours": _ours,
    "without better orders": _ours_with("solver.order", "_RULES", ()),
    "without sets of copies": _ours_with("solver.solve", "TARGETS_TOGETHER", 1),
    "without the relaxation": _ours_with("solver.core", "relaxed", _nothing),
    "without moving costs": _ours_with("solver.core", "ascended", _as_they_are),
    "without neighbourhoods": _ours_with("solver.core", "improve", _as_they_were),
    "CP-SAT for the core": _ours_with("solver.core", "fits", lambda tables: False),
}
"""Our solver, and what it would be without one of its parts."""
