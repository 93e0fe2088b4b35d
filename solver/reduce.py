"""From a problem to plain tables over free nodes: merge, condition, expand shared copies."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from solver.conflict import behind
from solver.copies import CopyTables, Domain
from solver.merge import Merged, merge
from solver.problem import (
    FORBIDDEN,
    Agree,
    Costs,
    CostTable,
    Factor,
    Problem,
    SharedCopies,
    Stamp,
)
from solver.rows import equal_rows
from solver.solution import InfeasibleError

DENSE_LIMIT = 2**13
"""Shared copies with larger tables are expressed with nodes for which targets are made. Four users
of six labels have one table: with six such nodes elimination would need larger ones."""


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
    origins: array[int] = field(default_factory=lambda: array("q"))
    """The factor that each table comes from; -1 for sums, which forbid nothing."""
    constant: list[int] = field(default_factory=list)
    """The cost of the fixed part, by level."""

    @property
    def has_copy_nodes(self) -> bool:
        """Whether some shared copies needed nodes of their own."""
        return len(self.sizes) > sum([node >= 0 for node in self.node])

    def labels(self, values: Sequence[int]) -> tuple[int, ...]:
        """The labels of all variables, given the values of the nodes."""
        domains, node = self.merged.domains, self.node
        labels: list[int] = []
        for v, root in enumerate(self.merged.root):
            if root < v:
                labels.append(labels[root])
            else:
                labels.append(domains[v][values[node[v]] if node[v] >= 0 else 0])
        return tuple(labels)


def reduce(
    problem: Problem,
    table_limit: int,
    together: int = 1,
    *,
    dense_limit: int = DENSE_LIMIT,
    in_shares: bool = False,
) -> Reduced:
    """Reduces a problem to tables; those of shared copies have at most ``table_limit`` entries.

    Where they would have more, or more than ``dense_limit``, a node says which of up to
    ``together`` targets are made. With more of them together tables are larger, and their linear
    relaxation is closer to the optimum.

    ``in_shares`` there are no such nodes: each user pays its share of a copy, whether others need
    the copy or not. No assignment costs more than it does in the problem, but some cost less.

    Raises ``InfeasibleError`` where that already shows that there is no solution.
    """
    merged = merge(problem)
    node = [-1] * len(problem.variables)
    sizes: list[int] = []
    for v, r in enumerate(merged.root):
        if v == r and len(merged.domains[v]) > 1:
            node[v] = len(sizes)
            sizes.append(len(merged.domains[v]))
    dense_limit = min(DENSE_LIMIT, dense_limit, table_limit)
    reduction = _Reduction(
        problem, Reduced(merged, node, sizes), dense_limit, together, in_shares=in_shares
    )
    for number, factor in enumerate(problem.others):
        reduction.add(number, factor)
    reduction.add_stamps(problem.stamps)
    for number in merged.agrees:
        factor = problem.factors[number]
        assert isinstance(factor, Agree)
        reduction.add_agree(number, factor)
    return reduction.finish()


class _Reduction:
    """Adds the factors of a problem to its reduced form, one at a time."""

    def __init__(
        self,
        problem: Problem,
        reduced: Reduced,
        dense_limit: int,
        together: int,
        *,
        in_shares: bool,
    ) -> None:
        self._problem = problem
        self._reduced = reduced
        self._dense_limit = dense_limit
        self._together = together
        self._in_shares = in_shares
        self._root = reduced.merged.root
        self._domains = reduced.merged.domains
        self._node = reduced.node
        self._copies = CopyTables(problem.levels, problem.labels)
        self._constants: list[tuple[int, Costs, int]] = []
        self._positions: dict[tuple[Domain, Domain], list[int]] = {}
        self._agrees: dict[tuple[Domain, Domain, Domain], Costs] = {}

    def add(self, number: int, factor: Factor) -> None:
        """Adds the tables of a factor that has costs."""
        if isinstance(factor, CostTable):
            if len(factor.scope) == 1:
                # By far the most frequent case.
                root = self._root[factor.scope[0]]
                own, left = self._problem.variables[factor.scope[0]].domain, self._domains[root]
                if self._node[root] >= 0 and (own is left or own == left):
                    self._append(number, (self._node[root],), factor.costs)
                    return
            self._add(number, *self._restricted(factor))
        elif isinstance(factor, SharedCopies):
            table = self._copied(factor)
            if table is None:
                self._add_targets(number, factor)
            else:
                self._add(number, *table)

    def add_stamps(self, stamps: Iterable[Stamp]) -> None:
        """Adds the tables of stamped factors that have costs: one for all that come to the same.

        What one node costs by itself, where that forbids nothing, is summed.
        """
        if not stamps:
            return
        kinds: dict[Domain, int] = {}
        given = np.array([kinds.setdefault(v.domain, len(kinds)) for v in self._problem.variables])
        left = np.array([kinds.setdefault(domain, len(kinds)) for domain in self._domains])
        root, node = np.array(self._root), np.array(self._node)
        # One object for each number, however many scopes have it.
        numbers = np.arange(len(self._reduced.sizes)).astype(object)
        alone: list[tuple[Costs, NDArray[np.int64]]] = []
        for stamp in stamps:
            if isinstance(stamp.first, Agree):
                continue
            rows = root[stamp.scopes]
            same = (rows[:, :, None] == rows[:, None, :]).argmax(2)
            for members in equal_rows(np.hstack([given[stamp.scopes], left[rows], same])):
                row = int(members[0])
                like = stamp.at(row)
                table = self._table(like)
                if table is None:
                    for at in members.tolist():
                        self.add(stamp.number + at, stamp.at(at))
                    continue
                roots, costs = self._free(*table)
                places = rows[row].tolist()
                nodes = node[rows[members][:, [places.index(r) for r in roots]]]
                if not roots:
                    self._constants.append((stamp.number + row, costs, len(members)))
                elif len(roots) == 1 and costs[0].max() < FORBIDDEN:
                    alone.append((costs, nodes[:, 0]))
                else:
                    self._reduced.scopes += map(tuple, numbers[nodes].tolist())
                    self._reduced.tables += [costs] * len(members)
                    self._reduced.origins.extend((stamp.number + members).tolist())
        self._add_alone(alone, numbers)

    def _add_alone(
        self, tables: Sequence[tuple[Costs, NDArray[np.int64]]], numbers: NDArray[np.object_]
    ) -> None:
        """Adds tables of one node each, those of a node as their sum: equal sums are one array."""
        pairs = [nodes * len(tables) + which for which, (_, nodes) in enumerate(tables)]
        if not pairs:
            return
        pair, times = np.unique(np.concatenate(pairs), return_counts=True)
        node, which = np.divmod(pair, len(tables))
        terms = np.unique(which + times * len(tables), return_inverse=True)[1]
        starts = np.flatnonzero(np.diff(node, prepend=-1))
        counts = np.diff(starts, append=len(node))
        table = np.full((len(starts), counts.max()), -1)
        table[np.arange(counts.max()) < counts[:, None]] = terms
        for members in equal_rows(table + 1):
            start = starts[members[0]]
            span = range(start, start + counts[members[0]])
            costs = np.sum([tables[which[i]][0] * times[i] for i in span], axis=0)
            self._reduced.scopes += [(n,) for n in numbers[node[starts[members]]].tolist()]
            self._reduced.tables += [costs] * len(members)
            # They forbid nothing: no conflict comes of them.
            self._reduced.origins.extend([-1] * len(members))

    def _restricted(self, factor: CostTable) -> tuple[list[int], Costs]:
        """A table's distinct classes, and its costs for the labels that are left to them."""
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
        return roots, costs

    def _table(self, factor: Factor) -> tuple[list[int], Costs] | None:
        """The classes of a factor and its costs; None for copies of too large a table."""
        if isinstance(factor, CostTable):
            return self._restricted(factor)
        assert isinstance(factor, SharedCopies)
        return self._copied(factor)

    def _copied(self, factor: SharedCopies) -> tuple[list[int], Costs] | None:
        """The classes of shared copies and their costs; None for too large a table."""
        source, users, fixed = self._classes(factor)
        made = self._domains[source]
        needed = tuple([self._domains[u] for u in users])
        is_many = len(users) > 1
        if is_many and len(made) * math.prod(map(len, needed)) > self._dense_limit:
            return None
        if not users and not fixed:
            return [], np.zeros(self._problem.levels, np.int64)
        key = factor.prices, made, frozenset(fixed), needed
        if is_many and not self._copies.has_room(*key):
            return None
        return [source, *users], self._copies.dense(*key)

    def _classes(self, factor: SharedCopies) -> tuple[int, list[int], set[int]]:
        """The class of the source, those of others that are free, and the labels of fixed ones."""
        root = self._root
        source = root[factor.source]
        users: list[int] = []
        fixed: set[int] = set()
        for r in dict.fromkeys([root[user] for user in factor.users]):
            if r == source:
                continue
            if self._node[r] < 0:
                fixed.add(self._domains[r][0])
            else:
                users.append(r)
        return source, users, fixed

    def _add_targets(self, number: int, factor: SharedCopies) -> None:
        """Expresses shared copies with nodes for the targets that are made, or in shares."""
        node = self._node
        source, users, fixed = self._classes(factor)
        made = self._domains[source]
        needed = [self._domains[u] for u in users]
        if fixed:
            costs = self._copies.dense(factor.prices, made, frozenset(fixed), ())
            self._add(number, [source], costs)
        if self._in_shares:
            shares = self._copies.shares(factor.prices, frozenset(fixed), tuple(needed))
            for user, domain in zip(users, needed, strict=True):
                costs = self._copies.dense(shares, made, frozenset(), (domain,))
                self._add(number, [source, user], costs)
            return
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
            numbers, costs, times = zip(*self._constants, strict=True)
            stacked = np.array(costs)
            forbidden = np.flatnonzero(stacked[:, 0] >= FORBIDDEN)
            if forbidden.size:
                number = numbers[int(forbidden[0])]
                raise InfeasibleError((), behind(self._problem, self._root, [number]))
            reduced.constant = [
                sum(cost * n for cost, n in zip(level, times, strict=True))
                for level in stacked.T.tolist()
            ]
        return reduced

    def _add(self, number: int, roots: list[int], costs: Costs) -> None:
        free, costs = self._free(roots, costs)
        if free:
            self._append(number, tuple([self._node[r] for r in free]), costs)
        else:
            self._constants.append((number, costs, 1))

    def _free(self, roots: list[int], costs: Costs) -> tuple[list[int], Costs]:
        """The classes of a table that are free, and its costs by these."""
        free = [r for r in roots if self._node[r] >= 0]
        if len(free) == len(roots) and free:
            return free, costs
        return free, costs.reshape(-1, *[len(self._domains[r]) for r in free])

    def _append(self, number: int, scope: tuple[int, ...], costs: Costs) -> None:
        self._reduced.scopes.append(scope)
        self._reduced.tables.append(costs)
        self._reduced.origins.append(number)
