"""Limits of sums as labels that are left out, and tables that forbid the rest that is over them.

Elimination keeps such tables as it keeps any other. A sum of few terms takes one table over all
their variables. It is small where a limit is tight: what is left out by itself takes no room.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from solver.compact import Limit
from solver.merge import merge
from solver.problem import FORBIDDEN, CostTable, Problem, with_domains
from solver.solution import InfeasibleError

MOST_ENTRIES: Final = 2**14
"""Most entries of a table that forbids."""

Integers = NDArray[np.int64]


@dataclass(slots=True)
class _Term:
    """A part of a sum, by the labels of classes of equal variables, in order of their domains."""

    scope: tuple[int, ...]
    amounts: Integers

    def without(self, axis: int, is_kept: NDArray[np.bool_]) -> None:
        """Leaves out labels of one of the classes."""
        self.amounts = self.amounts.compress(is_kept, axis=axis)


def capped(
    problem: Problem, limits: Iterable[Limit], *, most_entries: int = MOST_ENTRIES
) -> Problem | None:
    """The problem with all that is over the limits forbidden; None where a table would be too
    large.

    Limits are sums of tables that are nowhere negative. Raises ``InfeasibleError`` where every
    assignment is over one of them.
    """
    caps = _Caps(problem)
    for limit in limits:
        caps.add(limit)
    caps.leave_out()
    tables = caps.tables(most_entries)
    if tables is None:
        return None
    left = with_domains(problem, caps.left())
    return Problem(left.labels, left.levels, left.variables, (*left.factors, *tables))


class _Caps:
    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        merged = merge(problem)
        self._root, self._domains = merged.root, dict(enumerate(merged.domains))
        self._sums: list[tuple[list[_Term], int]] = []

    def add(self, limit: Limit) -> None:
        """Takes a limit."""
        terms = []
        for factor in limit.factors:
            assert isinstance(factor, CostTable)
            terms.append(self._term(factor))
        self._sums.append((terms, limit.most))

    def _term(self, table: CostTable) -> _Term:
        amounts, roots = table.costs[0], [self._root[v] for v in table.scope]
        for axis, (v, root) in enumerate(zip(table.scope, roots, strict=True)):
            own = self._problem.variables[v].domain
            places = [own.index(label) for label in self._domains[root]]
            amounts = amounts.take(places, axis=axis)
        scope = tuple(dict.fromkeys(roots))
        # einsum takes the diagonal of axes with the same name.
        names = [scope.index(root) for root in roots]
        return _Term(scope, np.einsum(amounts, names, list(range(len(scope)))))

    def leave_out(self) -> None:
        """Leaves out labels with which a sum is over its limit whatever the others are."""
        is_open = True
        while is_open:
            is_open = False
            for terms, most in self._sums:
                slack = most - sum(int(term.amounts.min()) for term in terms)
                if slack < 0:
                    raise InfeasibleError
                for term in terms:
                    for axis, root in enumerate(term.scope):
                        others = tuple(a for a in range(len(term.scope)) if a != axis)
                        least = term.amounts.min(axis=others)
                        is_kept = least - least.min() <= slack
                        if not is_kept.all():
                            self._keep(root, is_kept)
                            is_open = True

    def _keep(self, root: int, is_kept: NDArray[np.bool_]) -> None:
        domain = self._domains[root]
        self._domains[root] = tuple(
            label for label, kept in zip(domain, is_kept.tolist(), strict=True) if kept
        )
        for terms, _ in self._sums:
            for term in terms:
                if root in term.scope:
                    term.without(term.scope.index(root), is_kept)

    def left(self) -> dict[int, tuple[int, ...]]:
        """By variable: the labels that are left."""
        variables = enumerate(self._problem.variables)
        return {
            v: kept
            for v, variable in variables
            for kept in [tuple(x for x in variable.domain if x in self._domains[self._root[v]])]
            if len(kept) < len(variable.domain)
        }

    def tables(self, most_entries: int) -> list[CostTable] | None:
        """What forbids the rest that is over a limit; None where a table would be too large."""
        found = []
        for terms, most in self._sums:
            if sum(int(term.amounts.max()) for term in terms) <= most:
                continue
            varied = [term.scope for term in terms if np.ptp(term.amounts)]
            scope = tuple(dict.fromkeys(root for own in varied for root in own))
            sizes = [len(self._domains[root]) for root in scope]
            if math.prod(sizes) > most_entries:
                return None
            total = np.zeros(sizes, np.int64)
            for term in terms:
                is_varied = np.ptp(term.amounts) > 0
                total = total + (_spread(term, scope) if is_varied else term.amounts.min())
            costs = np.zeros((self._problem.levels, *sizes), np.int64)
            costs[0, total > most] = FORBIDDEN
            found.append(CostTable(scope, costs))
        return found


def _spread(term: _Term, scope: Sequence[int]) -> Integers:
    """The amounts of a term along the axes of a larger scope."""
    places = [scope.index(root) for root in term.scope]
    order = sorted(range(len(places)), key=lambda axis: places[axis])
    shape = [1] * len(scope)
    for axis, place in enumerate(places):
        shape[place] = term.amounts.shape[axis]
    return term.amounts.transpose(order).reshape(shape)
