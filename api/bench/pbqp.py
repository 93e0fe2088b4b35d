"""Partitioned boolean quadratic programming, as compilers solve it for registers and layouts.

Variables with up to two neighbours are eliminated exactly. Where there are none, the one with the
most neighbours leaves, and its label is not sure to be the best. Either it is chosen at once: what
is best next to the best labels of its neighbours, whose costs it changes (Scholz and Eckstein,
"Register allocation for irregular architectures", LCTES 2002). Or it is chosen last, next to the
labels that its neighbours have by then, which were chosen as if it was not there (Hames and Scholz,
"Nearly optimal register allocation with PBQP", JMLC 2006, and LLVM). Each is far better than the
other on some problems. Both may end with what is forbidden, and it is not known how bad they are.
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

    def solve(self, late: bool) -> tuple[list[int], bool]:
        """The label of each variable, and whether all was exact; ends with what was added.

        With ``late`` labels that are not sure to be the best are chosen last instead of at once.
        """
        left, is_exact = set(range(len(self.costs))), True
        few = [v for v in left if len(self._next[v]) <= _EXACT]
        labels = [0] * len(self.costs)
        later: list[tuple[int, dict[int, Vector]]] = []
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
            if exact:
                self._eliminate(v, neighbours)
            if exact or late:
                later.append((v, neighbours))
            else:
                labels[v] = self._best_alone(v, neighbours)
                for u, table in neighbours.items():
                    self.costs[u] = self.costs[u] + table[labels[v]]
            few += [u for u in neighbours if len(self._next[u]) <= _EXACT]
        for v, neighbours in reversed(later):
            chosen = [table[:, labels[u]] for u, table in neighbours.items()]
            labels[v] = int(np.argmin(sum(chosen, self.costs[v])))
        return labels, is_exact

    def _eliminate(self, v: int, neighbours: dict[int, Vector]) -> None:
        """Adds the least costs of a variable to its neighbours, of which it has up to two."""
        own = self.costs[v]
        tables = list(neighbours.values())
        if len(neighbours) == 1:
            (u,) = neighbours
            self.costs[u] = self.costs[u] + (own[:, None] + tables[0]).min(axis=0)
        elif neighbours:
            first, second = neighbours
            both = own[:, None, None] + tables[0][:, :, None] + tables[1][:, None, :]
            self._join(first, second, both.min(axis=0))

    def _best_alone(self, v: int, neighbours: dict[int, Vector]) -> int:
        """The label that is best if each neighbour could have the one that is best with it."""
        least = sum((table + self.costs[u]).min(axis=1) for u, table in neighbours.items())
        return int(np.argmin(self.costs[v] + least))
