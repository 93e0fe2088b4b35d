"""The problem as data: variables with finite domains, and the factors that price their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Costs: TypeAlias = NDArray[np.int64]

FORBIDDEN: Final[int] = 2**62
"""In level 0 of a cost: the combination is impossible, and its other levels are ignored."""

LIMIT: Final[int] = 2**53
"""At every level, the finite costs of a problem must sum to less than this in absolute value."""


class ProblemError(ValueError):
    """The problem is not well formed, or its numbers are too large to be added exactly."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice of one label out of ``domain``, which lists the preferred labels first."""

    domain: tuple[int, ...]
    name: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class CostTable:
    """A cost for every combination of the labels of some variables.

    ``costs`` has shape (levels, |D_0|, |D_1|, ...); each axis follows its variable's domain.
    """

    scope: tuple[int, ...]
    costs: Costs


@dataclass(frozen=True, slots=True, eq=False)
class SharedCopies:
    """The cost of copying one source to all the labels that its users need.

    One copy serves all users of the same label. The cost is the sum of
    ``prices[:, label of source, t]`` over the distinct labels t of the users, except the source's
    own label. Prices have shape (levels, labels, labels) and are lexicographically non-negative
    off the diagonal. Factors that share one array also share the work done with it.
    """

    source: int
    users: tuple[int, ...]
    prices: Costs


@dataclass(frozen=True, slots=True)
class Agree:
    """All variables in the scope take labels of one class; ``classes`` maps labels to classes."""

    scope: tuple[int, ...]
    classes: tuple[int, ...]


Factor: TypeAlias = CostTable | SharedCopies | Agree


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """The choice of a label for every variable so that the sum of the factors' costs is least.

    Labels are 0 .. labels-1. A cost is a vector of ``levels`` integers, compared lexicographically.
    """

    labels: int
    levels: int
    variables: tuple[Variable, ...]
    factors: tuple[Factor, ...]

    def validate(self) -> None:
        """Raises ``ProblemError``, naming what is wrong, unless the problem is well formed."""
        if self.labels < 1 or self.levels < 1:
            raise ProblemError("a problem needs at least one label and one level")
        _check_domains(self)
        count = len(self.variables)
        sizes = [len(variable.domain) for variable in self.variables]
        prices: dict[int, tuple[int, Costs]] = {}
        for number, factor in enumerate(self.factors):
            if isinstance(factor, SharedCopies):
                scope: tuple[int, ...] = (factor.source, *factor.users)
                if id(factor.prices) not in prices:
                    prices[id(factor.prices)] = number, factor.prices
            else:
                scope = factor.scope
            if not scope or min(scope) < 0 or max(scope) >= count:
                raise ProblemError(
                    f"factor {number}: its scope {scope} must name some of the {count} variables"
                )
            if isinstance(factor, CostTable):
                _check_table(self.levels, sizes, number, factor)
            elif isinstance(factor, Agree) and len(factor.classes) != self.labels:
                raise ProblemError(
                    f"factor {number}: {len(factor.classes)} classes for {self.labels} labels"
                )
        _check_prices(self, list(prices.values()))

    def cost(self, assignment: Sequence[int]) -> tuple[int, ...] | None:
        """The cost (levels,) of an assignment by the definitions; None if it is forbidden.

        Raises ``ProblemError`` for an assignment of another length.
        """
        if len(assignment) != len(self.variables):
            raise ProblemError(
                f"{len(assignment)} labels were given for {len(self.variables)} variables"
            )
        index: list[int] = []
        for variable, label in zip(self.variables, assignment, strict=True):
            if label not in variable.domain:
                return None
            index.append(variable.domain.index(label))

        terms: list[Costs] = []
        for factor in self.factors:
            if isinstance(factor, CostTable):
                costs = factor.costs
                for v in reversed(factor.scope):
                    costs = costs[..., index[v]]
                terms.append(costs)
            elif isinstance(factor, SharedCopies):
                made = assignment[factor.source]
                needed = {assignment[u] for u in factor.users}
                needed.discard(made)
                terms += [factor.prices[:, made, label] for label in needed]
            elif len({factor.classes[assignment[v]] for v in factor.scope}) > 1:
                return None
        if not terms:
            return (0,) * self.levels
        stacked = np.array(terms)
        if stacked[:, 0].max() >= FORBIDDEN:
            return None
        return tuple(sum(level) for level in stacked.T.tolist())


def with_domains(problem: Problem, domains: Mapping[int, tuple[int, ...]]) -> Problem:
    """The problem with fewer labels for some variables."""
    old = [variable.domain for variable in problem.variables]
    variables = [
        replace(variable, domain=domains.get(v, variable.domain))
        for v, variable in enumerate(problem.variables)
    ]
    factors: list[Factor] = []
    for factor in problem.factors:
        if isinstance(factor, CostTable):
            costs = factor.costs
            for axis, v in enumerate(factor.scope, 1):
                if domains.get(v, old[v]) != old[v]:
                    costs = costs.take([old[v].index(label) for label in domains[v]], axis=axis)
            factors.append(replace(factor, costs=costs))
        else:
            factors.append(factor)
    return Problem(problem.labels, problem.levels, tuple(variables), tuple(factors))


def _check_domains(problem: Problem) -> None:
    seen: set[tuple[int, ...]] = set()
    for number, variable in enumerate(problem.variables):
        domain = variable.domain
        if domain in seen:
            continue
        seen.add(domain)
        if not domain or len(set(domain)) != len(domain):
            wrong = "must be distinct and at least one"
        elif min(domain) < 0 or max(domain) >= problem.labels:
            wrong = f"must be in 0..{problem.labels - 1}"
        else:
            continue
        raise ProblemError(f"variable {number} ({variable.name}): its labels {domain} {wrong}")


def _check_table(levels: int, sizes: list[int], number: int, table: CostTable) -> None:
    scope = table.scope
    if len(scope) > 1 and len(set(scope)) != len(scope):
        raise ProblemError(f"factor {number}: its scope {scope} repeats a variable")
    expected = (levels, *[sizes[v] for v in scope])
    if table.costs.shape != expected or table.costs.dtype != np.int64:
        raise ProblemError(
            f"factor {number}: costs are {table.costs.dtype} of shape {table.costs.shape}; "
            f"expected int64 of shape {expected}"
        )


def _check_prices(problem: Problem, prices: list[tuple[int, Costs]]) -> None:
    expected = (problem.levels, problem.labels, problem.labels)
    for number, array in prices:
        if array.shape != expected or array.dtype != np.int64:
            raise ProblemError(
                f"factor {number}: prices are {array.dtype} of shape {array.shape}; "
                f"expected int64 of shape {expected}"
            )
    if not prices:
        return
    # A price is negative if its first non-zero level is.
    stacked = np.array([array for _, array in prices])
    diagonal = np.arange(problem.labels)
    stacked[:, :, diagonal, diagonal] = 0
    large = ((stacked >= LIMIT) | (stacked <= -LIMIT)).any(axis=1) & (stacked[:, 0] < FORBIDDEN)
    if large.any():
        which = int(np.argwhere(large)[0, 0])
        raise ProblemError(f"factor {prices[which][0]}: a price is {LIMIT} or more")
    sign = np.sign(stacked[:, 0])
    for level in range(1, problem.levels):
        sign = np.where(sign == 0, np.sign(stacked[:, level]), sign)
    if sign.min() < 0:
        which, source, target = np.argwhere(sign < 0)[0].tolist()
        raise ProblemError(
            f"factor {prices[which][0]}: the price of a copy from label {source} to {target} "
            f"is negative"
        )
