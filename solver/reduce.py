"""From a problem to plain tables over free nodes: merge, condition, expand shared copies."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from solver.conflict import behind
from solver.copies import CopyTables, Domain
from solver.merge import Merged, merge
from solver.problem import FORBIDDEN, Agree, Costs, CostTable, Problem, SharedCopies
from solver.solution import InfeasibleError

DENSE_LIMIT = 1024
"""Shared copies with larger tables are expressed with nodes for which targets are made."""


@dataclass(slots=True)
class Reduced:
    """Cost tables over nodes: the classes of variables still free, then those for copies."""

    merged: Merged
    node: list[int]
    """The node of each class; -1 if the class is fixed."""
    sizes: list[int]
    """The number of values of each node; a value is a position in the class's domain."""
    scopes: list[tuple[int, ...]] = field(default_factory=list)
    tables: list[Costs] = field(default_factory=list)
    """Of shape (levels, sizes of the scope's nodes...); equal tables are often one array."""
    origins: list[int] = field(default_factory=list)
    """The factor that each table comes from."""
    constant: list[int] = field(default_factory=list)
    """The cost of the fixed part, by level."""

    @property
    def has_copy_nodes(self) -> bool:
        """Whether some shared copies needed nodes of their own."""
        return len(self.sizes) > sum([node >= 0 for node in self.node])


def reduce(problem: Problem, table_limit: int, together: int = 1) -> Reduced:
    """Reduces a problem to tables; those of shared copies have at most ``table_limit`` entries.

    Where they would have more, a node says which of up to ``together`` targets are made. With more
    of them together tables are larger, and their linear relaxation is closer to the optimum.

    Raises ``InfeasibleError`` where that already shows that there is no solution.
    """
    merged = merge(problem)
    node = [-1] * len(problem.variables)
    sizes: list[int] = []
    for v, r in enumerate(merged.root):
        if v == r and len(merged.domains[v]) > 1:
            node[v] = len(sizes)
            sizes.append(len(merged.domains[v]))
    dense_limit = min(DENSE_LIMIT, table_limit)
    reduction = _Reduction(problem, Reduced(merged, node, sizes), dense_limit, together)
    for number, factor in enumerate(problem.factors):
        if isinstance(factor, CostTable):
            reduction.add_table(number, factor)
        elif isinstance(factor, SharedCopies):
            reduction.add_copies(number, factor)
    for number in merged.agrees:
        factor = problem.factors[number]
        assert isinstance(factor, Agree)
        reduction.add_agree(number, factor)
    return reduction.finish()


class _Reduction:
    """Adds the factors of a problem to its reduced form, one at a time."""

    def __init__(self, problem: Problem, reduced: Reduced, dense_limit: int, together: int) -> None:
        self._problem = problem
        self._reduced = reduced
        self._dense_limit = dense_limit
        self._together = together
        self._root = reduced.merged.root
        self._domains = reduced.merged.domains
        self._node = reduced.node
        self._copies = CopyTables(problem.levels, problem.labels)
        self._constants: list[tuple[int, Costs]] = []
        self._positions: dict[tuple[Domain, Domain], list[int]] = {}
        self._agrees: dict[tuple[Domain, Domain, Domain], Costs] = {}

    def add_table(self, number: int, factor: CostTable) -> None:
        """Restricts a table to the labels that are left and to its free, distinct classes."""
        costs = factor.costs
        roots = []
        for axis, v in enumerate(factor.scope, 1):
            root = self._root[v]
            roots.append(root)
            domain, left = self._problem.variables[v].domain, self._domains[root]
            if domain is not left and domain != left:
                if (domain, left) not in self._positions:
                    self._positions[domain, left] = [domain.index(label) for label in left]
                costs = costs.take(self._positions[domain, left], axis=axis)
        if len(roots) > 1 and len(set(roots)) < len(roots):
            # einsum takes the diagonal of axes with the same name.
            names = [1 + roots.index(root) for root in roots]
            costs = np.einsum(costs, [0, *names], [0, *dict.fromkeys(names)])
            roots = list(dict.fromkeys(roots))
        self._add(number, roots, costs)

    def add_copies(self, number: int, factor: SharedCopies) -> None:
        """Expresses shared copies as one table, or with nodes for the targets that are made."""
        root, domains, node = self._root, self._domains, self._node
        source = root[factor.source]
        users: list[int] = []
        fixed: set[int] = set()
        for r in dict.fromkeys([root[user] for user in factor.users]):
            if r == source:
                continue
            if node[r] < 0:
                fixed.add(domains[r][0])
            else:
                users.append(r)
        if not users and not fixed:
            return
        made = domains[source]
        needed = tuple([domains[u] for u in users])
        if len(users) <= 1 or len(made) * math.prod(map(len, needed)) <= self._dense_limit:
            costs = self._copies.dense(factor.prices, made, frozenset(fixed), needed)
            self._add(number, [source, *users], costs)
            return
        if fixed:
            costs = self._copies.dense(factor.prices, made, frozenset(fixed), ())
            self._add(number, [source], costs)
        targets = [t for t in sorted(set().union(*needed) - fixed) if made != (t,)]
        reduced = self._reduced
        for at in range(0, len(targets), self._together):
            group = tuple(targets[at : at + self._together])
            there = len(reduced.sizes)
            reduced.sizes.append(2 ** len(group))
            costs = self._copies.made(factor.prices, made, group)
            if node[source] < 0:
                self._append(number, (there,), costs[:, 0])
            else:
                self._append(number, (node[source], there), costs)
            for user, domain in zip(users, needed, strict=True):
                if not set(group).isdisjoint(domain):
                    self._append(number, (node[user], there), self._copies.needs(domain, group))

    def add_agree(self, number: int, factor: Agree) -> None:
        """Forbids labels of different classes between the first member and each other one."""
        roots = list(dict.fromkeys([self._root[v] for v in factor.scope]))
        first = roots[0]
        for other in roots[1:]:
            a, b = self._domains[first], self._domains[other]
            key = factor.classes, a, b
            if key not in self._agrees:
                classes = np.array(factor.classes)
                costs = np.zeros((self._problem.levels, len(a), len(b)), np.int64)
                costs[0, classes[list(a)][:, None] != classes[list(b)]] = FORBIDDEN
                self._agrees[key] = costs
            self._add(number, [first, other], self._agrees[key])

    def finish(self) -> Reduced:
        """The reduced problem, with all constant costs added up."""
        reduced = self._reduced
        reduced.constant = [0] * self._problem.levels
        if self._constants:
            stacked = np.array([costs for _, costs in self._constants])
            forbidden = np.flatnonzero(stacked[:, 0] >= FORBIDDEN)
            if forbidden.size:
                number = self._constants[int(forbidden[0])][0]
                raise InfeasibleError((), behind(self._problem, self._root, [number]))
            reduced.constant = [sum(level) for level in stacked.T.tolist()]
        return reduced

    def _add(self, number: int, roots: list[int], costs: Costs) -> None:
        scope = tuple([n for r in roots if (n := self._node[r]) >= 0])
        if len(scope) < len(roots):
            if not scope:
                self._constants.append((number, costs.reshape(-1)))
                return
            sizes = self._reduced.sizes
            costs = costs.reshape(-1, *[sizes[n] for n in scope])
        self._append(number, scope, costs)

    def _append(self, number: int, scope: tuple[int, ...], costs: Costs) -> None:
        self._reduced.scopes.append(scope)
        self._reduced.tables.append(costs)
        self._reduced.origins.append(number)
