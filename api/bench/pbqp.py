"""Partitioned boolean quadratic programming, as compilers solve it for registers and layouts.

Variables with up to two neighbours are eliminated exactly. Where there are none, one with the most
neighbours gets the label that is best next to the best ones of its neighbours, for good (Scholz and
Eckstein, "Register allocation for irregular architectures", LCTES 2002): what comes after may be
bad, or impossible, and nothing is known of how bad.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

_EXACT = 2


class Pbqp:
    """A network of costs (labels,) of variables, and (labels, labels) of pairs; inf is forbidden.

    Costs are whole numbers below 2**53.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.costs: list[Vector] = [np.zeros(size) for size in sizes]
        self._next: list[dict[int, Vector]] = [{} for _ in sizes]
        """By variable and neighbour: the costs of the pair, the variable's labels first."""

    def add(self, scope: Sequence[int], table: Vector) -> None:
        """Adds a table. One over more than two variables becomes a variable of its entries."""
        if len(scope) == 1:
            self.costs[scope[0]] = self.costs[scope[0]] + table
        elif len(scope) == 2:
            self._join(scope[0], scope[1], table)
        else:
            entries = np.argwhere(np.isfinite(table))
            joint = len(self.costs)
            self.costs.append(table[tuple(entries.T)])
            self._next.append({})
            for axis, v in enumerate(scope):
                labels = np.arange(table.shape[axis])
                agree = entries[:, axis][:, None] == labels
                self._join(joint, v, np.where(agree, 0.0, np.inf))

    def _join(self, v: int, u: int, table: Vector) -> None:
        known = self._next[v].get(u)
        joined = table if known is None else known + table
        self._next[v][u], self._next[u][v] = joined, joined.T

    def solve(self) -> tuple[float, bool]:
        """The cost of the labels that it ends with, and whether all was exact."""
        left, is_exact, total = set(range(len(self.costs))), True, 0.0
        few = [v for v in left if len(self._next[v]) <= _EXACT]
        while left:
            if few:
                v = few.pop()
                if v not in left:
                    continue
                exact = True
            else:
                v = max(left, key=lambda v: (len(self._next[v]), -v))
                exact = is_exact = False
            left.remove(v)
            neighbours = dict(self._next[v])
            for u in neighbours:
                del self._next[u][v]
            if not exact:
                label = self._best_alone(v, neighbours)
                total += float(self.costs[v][label])
                for u, table in neighbours.items():
                    self.costs[u] = self.costs[u] + table[label]
            else:
                total += self._eliminate(v, neighbours)
            few += [u for u in neighbours if len(self._next[u]) <= _EXACT]
        return total, is_exact

    def _eliminate(self, v: int, neighbours: dict[int, Vector]) -> float:
        """Adds the least costs of a variable to its neighbours; returns them if it has none."""
        own = self.costs[v]
        if not neighbours:
            return float(own.min())
        tables = list(neighbours.values())
        if len(neighbours) == 1:
            (u,) = neighbours
            self.costs[u] = self.costs[u] + (own[:, None] + tables[0]).min(axis=0)
        else:
            first, second = neighbours
            both = own[:, None, None] + tables[0][:, :, None] + tables[1][:, None, :]
            self._join(first, second, both.min(axis=0))
        return 0.0

    def _best_alone(self, v: int, neighbours: dict[int, Vector]) -> int:
        """The label that is best if each neighbour could have the one that is best with it."""
        least = sum((table + self.costs[u]).min(axis=1) for u, table in neighbours.items())
        return int(np.argmin(self.costs[v] + least))
