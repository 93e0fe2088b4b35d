"""Branch and bound over the linear relaxation of a core: a part of all choices is split in two.

Parts leave nodes fewer values, so that their relaxations cost more. The lowest bound of all parts
bounds the whole. It is counted in whole numbers from whatever HiGHS says.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping, Set
from typing import Any, Final

import numpy as np

from solver.minibuckets import Stopped
from solver.relaxation import Program

_EFFORT: Final = 8
"""How many times more an iteration takes that starts from another optimum, as was measured."""

Left = Mapping[int, Set[int]]
"""The values that nodes have left; others have all of theirs."""

Split = tuple[int, Set[int]]
"""A node, and the values that it has in the first of two parts."""


class Branches:
    """The parts of all choices, each with a bound."""

    def __init__(self, program: Program) -> None:
        """Begins with the whole, of which ``program`` was solved."""
        self._program = program
        self._numbers = itertools.count()
        self._open: list[tuple[float, int, Left, Any, Split]] = []
        self._is_over = False
        self._found: list[dict[int, int]] = []
        self._add({}, -np.inf)

    @property
    def bound(self) -> float:
        """What no choice costs less than, but for those that were found; infinite if all were."""
        return self._open[0][0] if self._open else np.inf

    def taken(self) -> list[dict[int, int]]:
        """The likeliest values of nodes in the parts that are new; they need not be possible."""
        found, self._found = self._found, []
        return found

    def split(self, room: float, seconds: float, stopped: Stopped) -> bool:
        """Splits the part of the lowest bound within some work; whether there is more to do."""
        if self._is_over or not self._open:
            return False
        bound, number, left, basis, (v, first) = heapq.heappop(self._open)
        self._program.narrow(left)
        rest = self._program.values(v) - first
        used = 0.0

        def spend(work: int) -> bool:
            nonlocal used
            used += work
            return stopped(work)

        for values in (first, rest):
            self._program.go_to(basis)
            self._program.narrow({**left, v: values})
            is_solved = self._program.solve(room - used, seconds, spend, _EFFORT)
            self._is_over = not (is_solved or self._program.is_refuted)
            if self._is_over:
                heapq.heappush(self._open, (bound, number, left, basis, (v, first)))
                return False
            self._add({**left, v: values}, bound)
        return True

    def _add(self, left: Left, bound: float) -> None:
        """A part that was solved, and of a bound that was known before."""
        shares = self._program.shares()
        self._found.append({v: next(iter(values)) for v, values in shares.items()})
        undecided = {v: values for v, values in shares.items() if len(values) > 1}
        if not undecided:
            # The only choice of this part is found.
            return
        v = min(undecided, key=lambda v: next(iter(undecided[v].values())))
        first: list[int] = []
        total = 0.0
        for value, share in undecided[v].items():
            # About a half, and not all.
            if first and (total + share / 2 > 0.5 or len(first) + 1 == len(undecided[v])):
                break
            first.append(value)
            total += share
        found = max(bound, self._program.bound())
        part = found, next(self._numbers), left, self._program.basis(), (v, frozenset(first))
        heapq.heappush(self._open, part)
