"""The search for the best values of a core, with a bound on what others can cost.

Costs are moved between tables before, by the linear relaxation where it is small enough, which
often proves the optimum at once. Otherwise each round moves some step by step. Rounds alternate
between two searches, each with more room than the one before: over frontiers with bounds by
mini-buckets, which proves, and in neighbourhoods, which is quick to find better values.
The work is counted, so that the same limit gives the same values on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2
from random import Random
from time import perf_counter
from typing import Any, Final

import numpy as np

from solver.ascent import ascended
from solver.frontier import search
from solver.lanes import SAFE, Packed
from solver.minibuckets import STEP, CoreTable, mini_buckets
from solver.neighbourhoods import improve, neighbourhood
from solver.order import adjacency_of, search_order
from solver.relaxation import relaxed
from solver.solution import InfeasibleError

WORK_PER_SECOND: Final = 50_000_000
"""Entries of tables that count as one unit of deterministic time, about a second."""

STORED_LIMIT: Final = 2**24
"""Most partial choices that a search remembers."""

_FIRST_TABLE: Final = 2**8
_FIRST_CHOICES: Final = 2**4
_GROWTH: Final = 16
"""How many times more entries and choices each round has than the one before."""

_LEAST_GROWTH: Final = 2
"""How many times more work each round takes at least."""

_LARGEST_TABLE: Final = 2**20
_ATTEMPTS: Final = 3
"""Rounds before the search may end without any values."""

_FIRST_PASSES: Final = 8
_MOST_PASSES: Final = 128
_FINER: Final = 10
"""Most binary places that costs get in the search."""

_MOST_RELAXED: Final = 0.75
"""The part of all work that the linear relaxation may take."""

_LEAST_STEPS: Final = 8
_MOST_STEPS: Final = 256


@dataclass(frozen=True, slots=True)
class CoreFound:
    """The values of a core's nodes, None if none were found, and what is proven of their cost."""

    values: dict[int, int] | None
    cost: Any
    bound: Any
    """No values cost less than this and less than ``cost``."""


class _Clock:
    """Counts work against the limit, and looks at the time."""

    def __init__(self, limit: float, deadline: float) -> None:
        self.left = limit
        self._deadline = deadline

    def spend(self, work: int) -> bool:
        """Takes some work from what is left; whether nothing is left."""
        self.left -= work
        return self.is_over

    def spend_first(self, work: int) -> bool:
        """Takes work that is done in any case."""
        self.left -= work
        return False

    @property
    def is_over(self) -> bool:
        """Whether the search has to end."""
        return self.left < 0 or perf_counter() >= self._deadline


def fits(tables: Sequence[CoreTable]) -> bool:
    """Whether the costs of tables are small enough for sums of them to stay exact."""
    return _reach(tables) < SAFE


def _reach(tables: Sequence[CoreTable]) -> float:
    """What no sum of costs is above."""
    reach = 0.0
    for _, table in tables:
        finite = table[np.isfinite(table)]
        if finite.size:
            reach += float(max(np.abs(finite.real).max(), np.abs(finite.imag).max()))
    return reach


def search_core(
    nodes: Sequence[int],
    sizes: Sequence[int],
    scopes: Sequence[tuple[int, ...]],
    packed: Packed,
    start: Sequence[int] | None,
    time_limit: float,
    deadline: float,
) -> CoreFound:
    """Minimises the sum of a core's tables, which are packed in one lane and ``fits``.

    ``start`` are valid values to begin with, of all nodes. The search ends after ``time_limit``
    units of deterministic time or when ``perf_counter`` reaches ``deadline``, but not before a
    first attempt. Raises ``InfeasibleError`` where it proves that there are no values.
    """
    tables = [(scope, table[0]) for scope, table in zip(scopes, packed.tables, strict=True)]
    kind = np.result_type(np.float64, *[table for _, table in tables])
    # Costs that are moved are whole numbers, so in finer units less is lost by rounding.
    unit = 1.0
    if kind.kind == "f":
        unit = 2.0 ** min(_FINER, int(log2(SAFE / (1 + _reach(tables)))))
        tables = [(scope, unit * table) for scope, table in tables]
    cost: Any = np.full((), np.inf, kind)[()]
    bound: Any = np.full((), -np.inf, kind)[()]
    values = None if start is None else list(start)
    if values is not None:
        cost = _cost(tables, values, kind)
    clock = _Clock(time_limit * WORK_PER_SECOND, deadline)
    room = _MOST_RELAXED * clock.left
    best = relaxed(nodes, sizes, tables, room, deadline - perf_counter(), clock.spend)
    if best is not None:
        tables = best.tables
        bound = _whole(np.sum([table.min() for _, table in tables]), unit)
        rounded = _filled(len(sizes), best.values)
        if _cost(tables, rounded, kind) < cost:
            values, cost = rounded, _cost(tables, rounded, kind)
    order = search_order(sizes, scopes, nodes)
    adjacency = adjacency_of(len(sizes), scopes)
    random = Random(1)
    size, choices = _FIRST_TABLE, _FIRST_CHOICES
    attempts = 0
    passes = _FIRST_PASSES
    while bound < cost:
        must = attempts == 0 or (values is None and attempts < _ATTEMPTS)
        spend = clock.spend_first if must else clock.spend
        attempts += 1
        before = clock.left
        if best is None:
            tables = ascended(order, sizes, tables, passes, clock.spend)
        bounds = mini_buckets(order, sizes, tables, size, spend)
        if bounds is not None:
            bound = np.maximum(bound, _whole(bounds.least, unit))
            most = min(choices, STORED_LIMIT // len(order))
            # The next better cost is a whole unit less.
            found = search(bounds, sizes, cost - (unit - 1), most, spend)
            if found.values is not None:
                values = _filled(len(sizes), found.values)
                cost = found.cost
            bound = np.maximum(bound, np.minimum(_whole(found.bound, unit), cost))
            if values is None and not np.isfinite(found.bound.real):
                raise InfeasibleError
        if not bound < cost:
            break
        if values is not None:
            # As much work as the bounds took, or all if that leaves too little for the next ones.
            spent = max(before - clock.left, 0.0)
            until = clock.left - spent
            if until < _LEAST_GROWTH * spent:
                until = 0.0
            for step in range(_MOST_STEPS):
                if step >= _LEAST_STEPS and clock.left < until:
                    break
                free = neighbourhood(nodes, sizes, adjacency, random)
                values = improve(free, sizes, scopes, packed, values)
                if clock.spend(free.work + 2 * STEP * (len(scopes) + len(nodes))):
                    break
            cost = _cost(tables, values, kind)
        tried = values is not None or attempts == _ATTEMPTS
        if (clock.is_over and tried) or not bound < cost:
            break
        size, choices = min(_GROWTH * size, _LARGEST_TABLE), _GROWTH * choices
        passes = min(2 * passes, _MOST_PASSES)
    chosen = None if values is None else {v: values[v] for v in nodes}
    if kind.kind == "f":
        cost, bound = cost / unit, bound / unit
    return CoreFound(chosen, cost, bound)


def _whole(bound: Any, unit: float) -> Any:
    """A bound rounded up to whole units."""
    return bound if np.iscomplexobj(bound) else np.ceil(bound / unit) * unit


def _filled(count: int, found: dict[int, int]) -> list[int]:
    values = [0] * count
    for v, value in found.items():
        values[v] = value
    return values


def _cost(tables: Sequence[CoreTable], values: Sequence[int], kind: np.dtype[Any]) -> Any:
    total = np.zeros((), kind)[()]
    for scope, table in tables:
        total = total + table[tuple([values[v] for v in scope])]
    return total
