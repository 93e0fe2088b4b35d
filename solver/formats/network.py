"""A problem of one level as tables alone, which is what the formats hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from solver.copies import CopyTables
from solver.lanes import pack
from solver.problem import (
    FORBIDDEN,
    Agree,
    Costs,
    CostTable,
    Factor,
    Problem,
    ProblemError,
    SharedCopies,
    Variable,
)

DENSE_LIMIT = 4096
"""Shared copies with a larger table get a variable for each copy."""

ENTRIES_LIMIT = 2**24
"""Most entries of a table that is read."""


@dataclass(frozen=True, slots=True)
class Network:
    """Tables of integers over variables with numbered values; FORBIDDEN is an entry as well."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    tables: tuple[tuple[tuple[int, ...], Costs], ...]
    """Scopes with costs of the shape of their sizes; a constant has an empty scope."""
    weights: tuple[int, ...] = (1,)
    """The factor of each level in a folded cost."""

    def problem(self) -> Problem:
        """The problem with one level, and these tables."""
        if not self.sizes:
            raise ProblemError("it has no variables")
        variables = tuple(
            Variable(tuple(range(size)), name)
            for name, size in zip(self.names, self.sizes, strict=True)
        )
        factors: list[Factor] = []
        for scope, costs in self.tables:
            if scope:
                factors.append(CostTable(scope, costs[None]))
            else:
                # A problem has no constants: every value of the first variable costs it.
                factors.append(CostTable((0,), np.full((1, self.sizes[0]), int(costs), np.int64)))
        return Problem(max(self.sizes), 1, variables, tuple(factors))


@dataclass(frozen=True, slots=True)
class Raised:
    """A network whose costs begin at 0, and the constant that this takes from them."""

    constant: int
    tables: tuple[tuple[tuple[int, ...], Costs], ...]
    top: int
    """More than any assignment costs that is not forbidden, and than any cost of the tables."""


def raised(network: Network) -> Raised:
    """The network with the least cost of each table taken out of it."""
    constant = spread = 0
    tables = []
    for scope, costs in network.tables:
        finite = costs[costs < FORBIDDEN]
        least = int(finite.min()) if finite.size else 0
        constant += least
        spread += int(finite.max()) - least if finite.size else 0
        tables.append((scope, np.where(costs < FORBIDDEN, costs - least, FORBIDDEN)))
    return Raised(constant, tuple(tables), max(constant, 0) + spread + 1)


def dense(sizes: Sequence[int], scope: Sequence[int], fill: int) -> Costs:
    """A table over a scope with one cost everywhere; raises ``ProblemError`` if it is too large."""
    if any(not 0 <= v < len(sizes) for v in scope) or len(set(scope)) < len(scope):
        raise ProblemError(f"a scope {tuple(scope)} does not name different variables")
    shape = [sizes[v] for v in scope]
    if math.prod(shape) > ENTRIES_LIMIT:
        raise ProblemError(f"a table over {tuple(scope)} has more than {ENTRIES_LIMIT} entries")
    return np.full(shape, fill, np.int64)


def folded(problem: Problem, levels: int | None = None) -> Network:
    """A problem's tables, with the levels of each cost folded into one integer.

    Variables come first, in their order, and values in that of their domains. Raises
    ``ProblemError`` where the first ``levels`` do not fit into 53 bits.
    """
    problem.validate()
    count = problem.levels if levels is None else levels
    if not 1 <= count <= problem.levels:
        raise ProblemError(f"it has {problem.levels} levels, not {count}")
    tables = _Tables(problem)
    for factor in problem.factors:
        tables.add(factor)
    packed = pack([costs[:count] for costs in tables.costs], count, separate=False)
    if len(packed.weights) > 1:
        raise ProblemError(
            f"its {count} levels do not fit into one integer of 53 bits: write fewer of them"
        )
    made = []
    for scope, lanes in zip(tables.scopes, packed.tables, strict=True):
        numbers = lanes[0].real
        barred = np.isinf(numbers)
        costs = np.where(barred, 0, numbers).astype(np.int64)
        costs[barred] = FORBIDDEN
        made.append((scope, costs))
    names = _distinct([v.name for v in problem.variables], len(tables.sizes))
    return Network(names, tuple(tables.sizes), tuple(made), tuple(packed.weights[0]))


class _Tables:
    """The factors of a problem as tables of all levels."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._copies = CopyTables(problem.levels, problem.labels)
        self.sizes = [len(variable.domain) for variable in problem.variables]
        self.scopes: list[tuple[int, ...]] = []
        self.costs: list[Costs] = []

    def add(self, factor: Factor) -> None:
        if isinstance(factor, CostTable):
            self._append(factor.scope, factor.costs)
        elif isinstance(factor, SharedCopies):
            self._add_copies(factor)
        else:
            self._add_agree(factor)

    def _append(self, scope: tuple[int, ...], costs: Costs) -> None:
        self.scopes.append(scope)
        self.costs.append(costs)

    def _add_copies(self, factor: SharedCopies) -> None:
        source = factor.source
        users = [user for user in dict.fromkeys(factor.users) if user != source]
        domains = [self._problem.variables[v].domain for v in (source, *users)]
        if not users:
            return
        made, needed = domains[0], tuple(domains[1:])
        if math.prod(map(len, domains)) <= DENSE_LIMIT:
            costs = self._copies.dense(factor.prices, made, frozenset(), needed)
            self._append((source, *users), costs)
            return
        for target in sorted(set().union(*needed)):
            there = len(self.sizes)
            self.sizes.append(2)
            self._append((source, there), self._copies.made(factor.prices, made, (target,)))
            for user, domain in zip(users, needed, strict=True):
                if target in domain:
                    self._append((user, there), self._copies.needs(domain, (target,)))

    def _add_agree(self, factor: Agree) -> None:
        first, *others = dict.fromkeys(factor.scope)
        classes = np.array(factor.classes)
        a = classes[list(self._problem.variables[first].domain)]
        for other in others:
            b = classes[list(self._problem.variables[other].domain)]
            costs = np.zeros((self._problem.levels, len(a), len(b)), np.int64)
            costs[0, a[:, None] != b] = FORBIDDEN
            self._append((first, other), costs)


def _distinct(given: Sequence[str], count: int) -> tuple[str, ...]:
    """Names of variables, all different; those of copies follow."""
    if not all(given) or len(set(given)) < len(given):
        given = [f"v{number}" for number in range(len(given))]
    taken = set(given)
    names = list(given)
    number = 0
    while len(names) < count:
        if (name := f"copy{number}") not in taken:
            names.append(name)
        number += 1
    return tuple(names)
