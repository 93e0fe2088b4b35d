"""The search for the best values of a core, with a bound on what others can cost.

Costs are moved between tables before, by the linear relaxation where it is small enough, which
often proves the optimum at once. Otherwise each round moves some step by step. Rounds alternate
between searches, each with more room than the one before: over frontiers with bounds by
mini-buckets, which proves, in neighbourhoods, which is quick to find better values, and over parts
whose relaxations bound them.
The work is counted, so that the same limit gives the same values on every machine.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import log2
from random import Random
from time import perf_counter
from typing import Any, Final

import numpy as np

from solver.ascent import ascended
from solver.branches import Branches
from solver.frontier import search
from solver.lanes import SAFE, Packed
from solver.minibuckets import STEP, CoreTable, Stopped, mini_buckets
from solver.neighbourhoods import disturbed, improve, neighbourhood
from solver.order import Order, adjacency_of, search_order
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

_MOST_IMPROVED: Final = 0.08
"""The part of all work that each round may look for better values with, while it finds some."""

_PATIENCE: Final = 2
"""How often each node was free in steps without better values before they are settled."""

_LEAST_STEPS: Final = 8


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
    def seconds(self) -> float:
        """What is left on the clock."""
        return self._deadline - perf_counter()

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
    clock = _Clock(time_limit * WORK_PER_SECOND, deadline)
    return _Search(nodes, sizes, scopes, packed, start, clock).run()


class _Search:
    """The best values so far, and what is proven of their cost."""

    def __init__(
        self,
        nodes: Sequence[int],
        sizes: Sequence[int],
        scopes: Sequence[tuple[int, ...]],
        packed: Packed,
        start: Sequence[int] | None,
        clock: _Clock,
    ) -> None:
        self._nodes, self._sizes, self._scopes = nodes, sizes, scopes
        self._packed, self._clock, self._limit = packed, clock, clock.left
        tables = [(scope, table[0]) for scope, table in zip(scopes, packed.tables, strict=True)]
        self._kind = np.result_type(np.float64, *[table for _, table in tables])
        # Costs that are moved are whole numbers, so in finer units less is lost by rounding.
        self._unit = 1.0
        if self._kind.kind == "f":
            self._unit = 2.0 ** min(_FINER, int(log2(SAFE / (1 + _reach(tables)))))
            tables = [(scope, self._unit * table) for scope, table in tables]
        self._tables: Sequence[CoreTable] = tables
        self._values: list[int] | None = None
        self._cost: Any = np.full((), np.inf, self._kind)[()]
        self._bound: Any = np.full((), -np.inf, self._kind)[()]
        if start is not None:
            self._offer(start)

    def run(self) -> CoreFound:
        """Searches until the work is over, or all is proven."""
        clock = self._clock
        self._order = search_order(self._sizes, self._scopes, self._nodes)
        self._adjacency = adjacency_of(len(self._sizes), self._scopes)
        self._random = Random(1)
        branches = self._relaxed()
        size, choices, passes = _FIRST_TABLE, _FIRST_CHOICES, _FIRST_PASSES
        attempts = 0
        spent = 0.0
        while self._bound < self._cost:
            must = attempts == 0 or (self._values is None and attempts < _ATTEMPTS)
            attempts += 1
            if not must and branches is not None and self._leads(branches):
                # Larger tables and more choices would prove less than parts do.
                spent *= 2
            else:
                before = clock.left
                if branches is None:
                    self._tables = ascended(
                        self._order, self._sizes, self._tables, passes, clock.spend
                    )
                self._prove(size, choices, clock.spend_first if must else clock.spend)
                size, choices = min(_GROWTH * size, _LARGEST_TABLE), _GROWTH * choices
                passes = min(2 * passes, _MOST_PASSES)
                spent = before - clock.left
            if self._values is not None and self._bound < self._cost:
                self._improve(self._rest_after(spent))
            if branches is not None:
                self._split(branches, self._rest_after(spent))
            if clock.is_over and (self._values is not None or attempts == _ATTEMPTS):
                break
        chosen = None
        if self._values is not None:
            chosen = {v: self._values[v] for v in self._nodes}
        if self._kind.kind == "f":
            return CoreFound(chosen, self._cost / self._unit, self._bound / self._unit)
        return CoreFound(chosen, self._cost, self._bound)

    def _relaxed(self) -> Branches | None:
        """Moves costs by the relaxation, where there is room for it."""
        clock = self._clock
        found = relaxed(
            *(self._order, self._sizes, self._tables),
            *(_MOST_RELAXED * clock.left, clock.seconds, clock.spend),
        )
        if found is None:
            return None
        self._tables = found.tables
        self._raise(np.sum([table.min() for _, table in found.tables]))
        branches = Branches(found.program)
        self._take(branches)
        return branches

    def _prove(self, size: int, choices: int, spend: Stopped) -> None:
        """Searches over frontiers, with bounds by tables of this size.

        Raises ``InfeasibleError`` where that proves that there are no values.
        """
        bounds = mini_buckets(self._order, self._sizes, self._tables, size, spend)
        if bounds is None:
            return
        self._raise(bounds.least)
        most = min(choices, STORED_LIMIT // len(self._order))
        # The next better cost is a whole unit less.
        known = self._cost - (self._unit - 1)
        found = search(bounds, self._sizes, known, most, spend)
        if found.values is not None:
            self._values = _filled(len(self._sizes), found.values)
            self._cost = found.cost
        self._raise(found.bound)
        if self._values is None and not np.isfinite(found.bound.real):
            raise InfeasibleError

    def _improve(self, until: float) -> None:
        """Looks for better values in neighbourhoods, until so much work is left.

        At first with more work, while they get better, but not with more than a part of all.
        """
        assert self._values is not None
        most = self._clock.left - _MOST_IMPROVED * self._limit
        self._values = self._descended(self._values, min(until, most))
        while self._clock.left > until and not self._clock.is_over:
            other = self._values
            if not self._packed.forbids:
                other = disturbed(self._nodes, self._sizes, self._adjacency, self._random, other)
            other = self._descended(other, until)
            # Where both are good and differ, the best of both is close.
            differing = [v for v in self._nodes if self._values[v] != other[v]]
            if differing:
                free = neighbourhood(differing, self._sizes, self._adjacency, self._random)
                for values in (self._values, other):
                    self._offer(self._stepped(values, free))
        self._offer(self._values)

    def _descended(self, values: list[int], until: float) -> list[int]:
        """Values that steps no longer make better, or those when so much work is left."""
        cost = _cost(self._tables, values, self._kind)
        since = 0
        for step in itertools.count(1):
            free = neighbourhood(self._nodes, self._sizes, self._adjacency, self._random)
            values = self._stepped(values, free)
            found = _cost(self._tables, values, self._kind)
            since = 0 if found < cost else since + 1
            cost = found
            is_enough = step >= _LEAST_STEPS and self._clock.left < until
            is_settled = since * len(free.nodes) >= _PATIENCE * len(self._nodes)
            if is_enough or is_settled or self._clock.is_over:
                break
        return values

    def _stepped(self, values: Sequence[int], free: Order) -> list[int]:
        """The best values of some nodes while others keep theirs."""
        steps = (len(self._scopes) + len(self._nodes)) // 2 + 8 * len(free.nodes)
        self._clock.spend(free.work + STEP * steps)
        return improve(free, self._sizes, self._scopes, self._packed, values)

    def _split(self, branches: Branches, until: float) -> None:
        """Bounds parts of all values by their relaxations, until so much work is left."""
        clock = self._clock
        while self._bound < self._cost and self._leads(branches):
            if clock.left <= until or clock.is_over:
                break
            if not branches.split(clock.left, clock.seconds, clock.spend):
                break
            self._take(branches)
            self._raise(branches.bound)

    def _leads(self, branches: Branches) -> bool:
        """Whether no other search proves more than parts do.

        Of complex costs these say too little: relaxations have only the real parts.
        """
        return self._kind.kind == "f" and not self._whole(branches.bound) < self._bound

    def _rest_after(self, spent: float) -> float:
        """What is left after as much work again, or nothing if the next round had too little."""
        until = self._clock.left - spent
        return until if until >= _LEAST_GROWTH * spent else 0.0

    def _take(self, branches: Branches) -> None:
        for found in branches.taken():
            self._offer(_filled(len(self._sizes), found))

    def _offer(self, values: Sequence[int]) -> None:
        cost = _cost(self._tables, values, self._kind)
        if cost < self._cost:
            self._values, self._cost = list(values), cost

    def _raise(self, bound: Any) -> None:
        """Takes a bound: no values cost less than this and less than those that are known."""
        self._bound = np.maximum(self._bound, np.minimum(self._whole(bound), self._cost))

    def _whole(self, bound: Any) -> Any:
        """A bound rounded up to whole units."""
        return np.ceil(bound / self._unit) * self._unit if self._kind.kind == "f" else bound


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
