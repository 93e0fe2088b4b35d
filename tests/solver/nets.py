"""Small nets of random tables for the search of cores, with brute force beside."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from math import inf, prod
from random import Random
from typing import Any

import numpy as np

from solver.lanes import Packed
from solver.minibuckets import CoreTable


class Net:
    """Random tables of one lane over a few nodes, some entries forbidden."""

    def __init__(self, seed: int, *, lexicographic: bool, forbid: float = 0.1) -> None:
        random = Random(seed)
        count = random.randint(2, 7)
        self.nodes = list(range(count))
        self.sizes = [random.randint(2, 3) for _ in self.nodes]
        self.tables: list[CoreTable] = []
        for _ in range(random.randint(count, 2 * count + 3)):
            scope = tuple(random.sample(self.nodes, min(count, random.randint(1, 3))))
            shape = [self.sizes[v] for v in scope]
            costs = np.array([random.randint(-9, 9) for _ in range(prod(shape))], float)
            if lexicographic:
                costs = costs // 6 + 1j * np.array([random.randint(-9, 9) for _ in costs])
            costs[np.array([random.random() < forbid for _ in costs])] = inf
            self.tables.append((scope, costs.reshape(shape)))
        self.scopes = [scope for scope, _ in self.tables]
        forbids = any(np.isinf(table).any() for _, table in self.tables)
        levels = 2 if lexicographic else 1
        weights = [[int(a == b) for a in range(levels)] for b in range(levels)]
        lanes = [table[None] for _, table in self.tables]
        self.packed = Packed(weights, lanes, 1, forbids, [0] * levels)

    def cost(self, values: Any) -> Any:
        return sum(table[tuple(values[v] for v in scope)] for scope, table in self.tables)

    def assignments(self) -> Iterator[tuple[int, ...]]:
        return itertools.product(*map(range, self.sizes))

    def best(self) -> Any:
        """The least cost; None if all is forbidden."""
        costs = np.array([self.cost(values) for values in self.assignments()])
        costs = costs[np.isfinite(costs)]
        return costs.min() if costs.size else None


def nets(count: int, **how: float) -> Iterator[Net]:
    for seed in range(count):
        for lexicographic in (False, True):
            yield Net(seed, lexicographic=lexicographic, **how)


def go_on(work: int) -> bool:
    assert work >= 0
    return False
