"""The smallest conflict, and the fewest conditions to drop, against trying every set."""

from __future__ import annotations

import random
from itertools import combinations

import pytest

from solver import contradiction


def _subsets(count: int) -> list[frozenset[int]]:
    return [frozenset(c) for size in range(count + 1) for c in combinations(range(count), size)]


@pytest.mark.parametrize("seed", range(400))
def test_both_are_the_least(seed: int) -> None:
    drawn = random.Random(seed)
    count = drawn.randint(1, 7)
    conflicts = [
        frozenset(drawn.sample(range(count), drawn.randint(1, count)))
        for _ in range(drawn.randint(1, 5))
    ]

    def holds(chosen: frozenset[int]) -> bool:
        return not any(conflict <= chosen for conflict in conflicts)

    found = contradiction(count, holds)
    assert found.is_least
    assert not holds(frozenset(found.conflict))
    assert holds(frozenset(range(count)) - frozenset(found.dropped))
    every = frozenset(range(count))
    assert len(found.conflict) == min(len(s) for s in _subsets(count) if not holds(s))
    assert len(found.dropped) == min(len(s) for s in _subsets(count) if holds(every - s))


def test_a_search_that_is_given_up_still_leaves_nothing_out() -> None:
    pairs = [frozenset(pair) for pair in combinations(range(8), 2)]
    asked = []

    def holds(chosen: frozenset[int]) -> bool:
        asked.append(chosen)
        return not any(pair <= chosen for pair in pairs)

    found = contradiction(8, holds, most=0)
    assert not found.is_least
    assert (len(found.conflict), len(found.dropped)) == (2, 7)
    assert len(set(asked)) == len(asked)
