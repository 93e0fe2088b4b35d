"""The compact ILP of a problem: columns of 0 or 1, and rows of integers, straight from its factors.

- A column for each label of each variable, of which exactly one is 1.
- Shared copies: a column for each (source, target), which is the copy, and a row for each user of
  the target. Where the price depends on the source's label there is a column for each price, which
  needs one of its labels.
- A table over one variable prices its labels. One over several has a column for each entry that is
  allowed, and the entries with a label add up to the label's column.
- Agree: the labels of each class add up to the same in all members.

Nothing is merged, eliminated or left out: the model shares only the problem with ``solve``. A copy
may be made without need, unless that lowers a level or a limit. By levels it costs zero or more, so
the optimum is that of the problem.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from solver.problem import (
    FORBIDDEN,
    LIMIT,
    Agree,
    Costs,
    CostTable,
    Factor,
    Problem,
    ProblemError,
    SharedCopies,
    costs_of,
)
from solver.solution import NoSolutionFoundError


@dataclass(frozen=True, slots=True)
class Limit:
    """A condition beside the costs: these factors may cost ``most`` together, and not more.

    The factors are over the problem's variables, with costs of one level, none of them forbidden.
    So a limit can be of a level of the problem itself (``level_limit``), or of anything else that
    labels and copies add up to.
    """

    factors: tuple[CostTable | SharedCopies, ...]
    most: int

    def amount(self, problem: Problem, assignment: Sequence[int]) -> int:
        """What the factors cost together under an assignment of the problem's variables."""
        cost = Problem(problem.labels, 1, problem.variables, self.factors).cost(assignment)
        if cost is None:
            raise ProblemError("a limit forbids an assignment")
        return cost[0]


def level_limit(problem: Problem, level: int, most: int) -> Limit:
    """The limit of one level of a problem's own cost.

    What the level's costs are where the problem forbids a combination is of no concern.
    """
    factors: list[CostTable | SharedCopies] = []
    made: dict[int, Costs] = {}
    for factor in problem.factors:
        if isinstance(factor, Agree):
            continue
        costs = costs_of(factor)
        if id(costs) not in made:
            made[id(costs)] = np.where(costs[0] >= FORBIDDEN, 0, costs[level])[None]
        if not made[id(costs)].any():
            continue
        if isinstance(factor, CostTable):
            factors.append(CostTable(factor.scope, made[id(costs)]))
        else:
            factors.append(SharedCopies(factor.source, factor.users, made[id(costs)]))
    return Limit(tuple(factors), most)


Terms = dict[int, int]
"""Coefficients by column."""


class CompactModel:
    """Columns from 0 or 1, rows ``low <= sum of terms <= high``, and the terms of each level."""

    def __init__(
        self, problem: Problem, limits: Sequence[Limit] = (), *, deadline: float = math.inf
    ) -> None:
        """Builds the model of a problem that is valid.

        Raises ``ProblemError`` for its limits, and ``NoSolutionFoundError`` after the deadline, by
        ``perf_counter``.
        """
        self.problem = problem
        self.columns = 0
        self.objectives: list[Terms] = [{} for _ in range(problem.levels)]
        self.rows: list[tuple[Terms, int | None, int | None]] = []
        self.labels: list[dict[int, int]] = []
        """By variable: the column of each of its labels."""
        self._joints: dict[tuple[int, ...], dict[tuple[int, ...], int]] = {}
        self._copies: dict[tuple[int, frozenset[int]], list[tuple[Costs, list[Terms]]]] = {}
        for variable in problem.variables:
            columns = {label: self._column() for label in variable.domain}
            self.labels.append(columns)
            self.rows.append((dict.fromkeys(columns.values(), 1), 1, 1))
        for factor in problem.factors:
            if perf_counter() > deadline:
                raise NoSolutionFoundError("the time was over before the search began")
            self._add(factor, self.objectives)
        for number, limit in enumerate(limits):
            _check_limit(problem, number, limit)
            amount: Terms = {}
            for factor in limit.factors:
                self._add(factor, [amount])
            self.rows.append((amount, None, limit.most))
        for (source, users), charges in self._copies.items():
            self._add_copies(source, users, charges)

    def _column(self) -> int:
        self.columns += 1
        return self.columns - 1

    def _add(self, factor: Factor, sums: list[Terms]) -> None:
        if isinstance(factor, Agree):
            self._add_agree(factor)
        elif isinstance(factor, SharedCopies):
            users = frozenset(factor.users) - {factor.source}
            if users:
                self._copies.setdefault((factor.source, users), []).append((factor.prices, sums))
        elif len(factor.scope) == 1:
            (variable,) = factor.scope
            for column, cost in zip(
                self.labels[variable].values(), factor.costs.T.tolist(), strict=True
            ):
                self._charge(column, cost, sums)
        else:
            entries = self._entries(factor.scope)
            costs = np.moveaxis(factor.costs, 0, -1).reshape(len(entries), -1)
            for column, cost in zip(entries.values(), costs.tolist(), strict=True):
                self._charge(column, cost, sums)

    def _charge(self, column: int, cost: list[int], sums: list[Terms]) -> None:
        if cost[0] >= FORBIDDEN:
            self.rows.append(({column: 1}, 0, 0))
            return
        for total, amount in zip(sums, cost, strict=True):
            _add_term(total, column, amount)

    def _entries(self, scope: tuple[int, ...]) -> dict[tuple[int, ...], int]:
        """The columns of the combinations of several variables' labels, by position."""
        if scope not in self._joints:
            labels = [list(self.labels[v].values()) for v in scope]
            entries = {index: self._column() for index in np.ndindex(*map(len, labels))}
            sums: list[list[Terms]] = [[{column: -1} for column in axis] for axis in labels]
            for index, column in entries.items():
                for axis, position in enumerate(index):
                    sums[axis][position][column] = 1
            self.rows += [(terms, 0, 0) for axis in sums for terms in axis]
            self._joints[scope] = entries
        return self._joints[scope]

    def _add_copies(
        self, source: int, users: frozenset[int], charges: list[tuple[Costs, list[Terms]]]
    ) -> None:
        made = self.labels[source]
        needed = [self.labels[user] for user in sorted(users)]
        for target in sorted(set().union(*needed)):
            groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
            for label, column in made.items():
                if label != target:
                    price = tuple(tuple(prices[:, label, target].tolist()) for prices, _ in charges)
                    groups.setdefault(price, []).append(column)
            own: Terms = {made[target]: -1} if target in made else {}
            there = dict(own)
            for price, columns in groups.items():
                if any(one[0] >= FORBIDDEN for one in price):
                    continue
                copy = self._column()
                there[copy] = -1
                for one, (_, sums) in zip(price, charges, strict=True):
                    for total, amount in zip(sums, one, strict=True):
                        _add_term(total, copy, amount)
                if min(min(one) for one in price) < 0:
                    users_of_it = {user[target]: -1 for user in needed if target in user}
                    self.rows.append(({copy: 1, **users_of_it}, None, 0))
                    self.rows.append(({copy: 1, **{c: -a for c, a in own.items()}}, None, 1))
                if len(groups) > 1:
                    self.rows.append(({copy: 1, **dict.fromkeys(columns, -1)}, None, 0))
            for user in needed:
                if target in user:
                    self.rows.append(({user[target]: 1, **there}, None, 0))

    def _add_agree(self, factor: Agree) -> None:
        first, *others = [self.labels[v] for v in dict.fromkeys(factor.scope)]
        for other in others:
            classes: dict[int, Terms] = {}
            for sign, labels in ((1, first), (-1, other)):
                for label, column in labels.items():
                    classes.setdefault(factor.classes[label], {})[column] = sign
            self.rows += [(terms, 0, 0) for terms in classes.values()]


def _add_term(terms: Terms, column: int, amount: int) -> None:
    if amount:
        terms[column] = terms.get(column, 0) + amount


def _check_limit(problem: Problem, number: int, limit: Limit) -> None:
    positive: list[Factor] = []
    for factor in limit.factors:
        costs = costs_of(factor)
        if costs.size and int(np.abs(costs).max()) >= LIMIT:
            raise ProblemError(f"limit {number}: an amount is {LIMIT} or more")
        if isinstance(factor, SharedCopies):
            positive.append(SharedCopies(factor.source, factor.users, np.abs(factor.prices)))
        else:
            positive.append(factor)
    try:
        Problem(problem.labels, 1, problem.variables, tuple(positive)).validate()
    except ProblemError as error:
        raise ProblemError(f"limit {number}: {error}") from None
