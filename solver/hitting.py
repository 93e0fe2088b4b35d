"""Conditions that cannot hold together: the smallest set that conflicts, the fewest to drop.

All that is known of conditions is an answer for any set of them: whether they hold together. Each
conflict has a condition in common with each correction, a set without which the others hold. So the
fewest to drop are a smallest set that hits all conflicts, and the smallest conflict is one that
hits all corrections. Sets of either kind are found as they are needed: the smallest set that hits
those found is tried, and if it is none yet, it leads to another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Final, TypeAlias

Chosen: TypeAlias = frozenset[int]
Holds: TypeAlias = Callable[[Chosen], bool]

MOST_QUESTIONS: Final = 500
"""After so many questions the search is given up."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Conditions by their numbers: of no smaller set than ``conflict`` is it shown that it cannot
    hold, and no smaller set than ``dropped`` has to go. Both are of least size if ``is_least``;
    else nothing can be left out of either."""

    conflict: tuple[int, ...]
    dropped: tuple[int, ...]
    is_least: bool


def contradiction(count: int, holds: Holds, most: int = MOST_QUESTIONS) -> Contradiction:
    """The contradiction among ``count`` conditions, which do not hold together.

    No condition at all has to hold; fewer hold where more do. ``holds`` is asked about at most
    ``most`` sets to find the least ones. Of several the first is taken, by numbers.
    """
    asked = _Asked(holds)
    every = frozenset(range(count))
    conflict, dropped = _conflict(asked, every), every - _kept(asked, frozenset(), every)
    conflicts, corrections = [conflict], [dropped]
    try:
        while not asked.within(every - (hit := _least_hitting(conflicts)), most):
            conflicts.append(_conflict(asked, every - hit))
        dropped = hit
        while asked.within(hit := _least_hitting(corrections), most):
            corrections.append(every - _kept(asked, hit, every))
        conflict = hit
    except _TooManyError:
        return Contradiction(tuple(sorted(conflict)), tuple(sorted(dropped)), False)
    return Contradiction(tuple(sorted(conflict)), tuple(sorted(dropped)), True)


class _TooManyError(Exception):
    """As many questions were asked as may be."""


class _Asked:
    """Answers, each asked for once; what follows from others is not asked for."""

    def __init__(self, holds: Holds) -> None:
        self._holds = holds
        self._true: list[Chosen] = [frozenset()]
        self._false: list[Chosen] = []
        self.count = 0

    def __call__(self, chosen: Chosen) -> bool:
        if any(chosen <= known for known in self._true):
            return True
        if any(known <= chosen for known in self._false):
            return False
        self.count += 1
        found = self._holds(chosen)
        (self._true if found else self._false).append(chosen)
        return found

    def within(self, chosen: Chosen, most: int) -> bool:
        """The same, if fewer questions were asked."""
        if self.count >= most:
            raise _TooManyError
        return self(chosen)


def _conflict(holds: Holds, chosen: Chosen) -> Chosen:
    """A part of conditions that do not hold together, from which none can be left out."""
    for condition in sorted(chosen):
        if not holds(chosen - {condition}):
            chosen -= {condition}
    return chosen


def _kept(holds: Holds, chosen: Chosen, every: Chosen) -> Chosen:
    """Conditions that hold together, to which none can be added."""
    for condition in sorted(every - chosen):
        if holds(chosen | {condition}):
            chosen |= {condition}
    return chosen


def _least_hitting(sets: Iterable[Chosen]) -> Chosen:
    """A smallest set that has a member in common with each of these; the first by numbers."""
    sets = list(sets)
    members = sorted(frozenset().union(*sets))
    for size in range(len(members) + 1):
        for chosen in map(frozenset, combinations(members, size)):
            if all(chosen & each for each in sets):
                return chosen
    raise ValueError("an empty set cannot be hit")
