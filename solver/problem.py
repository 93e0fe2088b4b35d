"""The problem as data: variables with finite domains, and the factors that price their labels."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final, TypeAlias, overload

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


def costs_of(factor: CostTable | SharedCopies) -> Costs:
    """The array that a factor's costs are from: its costs, or the prices of its copies."""
    return factor.costs if isinstance(factor, CostTable) else factor.prices


@dataclass(frozen=True, slots=True, eq=False)
class Stamp:
    """Factors that differ from the ``first`` in nothing but their scopes (count, variables).

    The source of shared copies comes first in its scope. ``number`` is the place of the first one
    among the factors of a problem; the others follow it.
    """

    first: Factor
    scopes: NDArray[np.int32]
    number: int = 0

    def __len__(self) -> int:
        return len(self.scopes)

    @classmethod
    def of(cls, like: Factor, scopes: Sequence[Sequence[int]] | NDArray[np.int32]) -> Stamp:
        """Factors like one, whatever its scope; there is at least one."""
        rows = np.asarray(scopes, np.int32)
        return cls(at_scope(like, rows[0].tolist()), rows)

    def at(self, row: int) -> Factor:
        """The factor with the scope in a row."""
        return at_scope(self.first, self.scopes[row].tolist())


def at_scope(factor: Factor, scope: Sequence[int]) -> Factor:
    """A factor with another scope; of shared copies the source comes first."""
    if isinstance(factor, CostTable):
        return CostTable(tuple(scope), factor.costs)
    if isinstance(factor, SharedCopies):
        return SharedCopies(scope[0], tuple(scope[1:]), factor.prices)
    return Agree(tuple(scope), factor.classes)


class Factors(Sequence[Factor]):
    """The factors of a problem of which many are alike: arrays in place of an object for each.

    First come the ``others``, one by one, then the factors of each stamp.
    """

    def __init__(self, others: Iterable[Factor], stamps: Iterable[Stamp]) -> None:
        self.others = tuple(others)
        given = [stamp for stamp in stamps if len(stamp)]
        self._starts = [*accumulate(map(len, given), initial=len(self.others))]
        self.stamps = tuple(
            Stamp(stamp.first, stamp.scopes, start)
            for stamp, start in zip(given, self._starts, strict=False)
        )

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, at: int) -> Factor: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Factor]: ...
    def __getitem__(self, at: int | slice) -> Factor | Sequence[Factor]:
        numbers = range(len(self))[at]
        if isinstance(numbers, range):
            return tuple([self._at(number) for number in numbers])
        return self._at(numbers)

    def __iter__(self) -> Iterator[Factor]:
        yield from self.others
        for stamp in self.stamps:
            yield from map(stamp.at, range(len(stamp)))

    def _at(self, number: int) -> Factor:
        if number < len(self.others):
            return self.others[number]
        stamp = self.stamps[bisect_right(self._starts, number) - 1]
        return stamp.at(number - stamp.number)


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """The choice of a label for every variable so that the sum of the factors' costs is least.

    Labels are 0 .. labels-1. A cost is a vector of ``levels`` integers, compared lexicographically.
    Where many ``factors`` are alike, ``Factors`` keeps them in less memory.
    """

    labels: int
    levels: int
    variables: tuple[Variable, ...]
    factors: Sequence[Factor]

    @property
    def stamps(self) -> tuple[Stamp, ...]:
        """The factors that are kept as arrays."""
        return self.factors.stamps if isinstance(self.factors, Factors) else ()

    @property
    def others(self) -> Sequence[Factor]:
        """All other factors, which come first."""
        return self.factors.others if isinstance(self.factors, Factors) else self.factors

    def validate(self) -> None:
        """Raises ``ProblemError``, naming what is wrong, unless the problem is well formed."""
        if self.labels < 1 or self.levels < 1:
            raise ProblemError("a problem needs at least one label and one level")
        _check_domains(self)
        sizes = [len(variable.domain) for variable in self.variables]
        prices: dict[int, tuple[int, Costs]] = {}
        for number, factor in enumerate(self.others):
            _check_factor(self, sizes, number, factor)
            if isinstance(factor, SharedCopies):
                prices.setdefault(id(factor.prices), (number, factor.prices))
        for stamp in self.stamps:
            _check_factor(self, sizes, stamp.number, stamp.first)
            for row in _suspects(stamp, sizes):
                _check_factor(self, sizes, stamp.number + row, stamp.at(row))
            if isinstance(stamp.first, SharedCopies):
                prices.setdefault(id(stamp.first.prices), (stamp.number, stamp.first.prices))
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
        positions: dict[tuple[int, ...], dict[int, int]] = {}
        for variable, label in zip(self.variables, assignment, strict=True):
            domain = variable.domain
            if domain not in positions:
                positions[domain] = {label: place for place, label in enumerate(domain)}
            if label not in positions[domain]:
                return None
            index.append(positions[domain][label])

        terms: list[Costs] = []
        for factor in self.others:
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
        stacked = [np.array(terms).T] if terms else []
        if self.stamps:
            stamped = _stamped_terms(self.stamps, np.array(index), np.array(assignment))
            if stamped is None:
                return None
            stacked += stamped
        if any(costs[0].max(initial=0) >= FORBIDDEN for costs in stacked):
            return None
        return tuple(
            sum(_exact_sum(costs[level]) for costs in stacked) for level in range(self.levels)
        )


def _stamped_terms(
    stamps: Iterable[Stamp], index: NDArray[np.intp], assignment: NDArray[np.intp]
) -> list[Costs] | None:
    """The costs (levels, terms) of stamped factors; None if one that has no costs forbids them."""
    terms = []
    for stamp in stamps:
        factor, scopes = stamp.first, stamp.scopes
        if isinstance(factor, CostTable):
            terms.append(factor.costs[(slice(None), *index[scopes].T)])
        elif isinstance(factor, SharedCopies):
            made, needed = assignment[scopes[:, :1]], np.sort(assignment[scopes[:, 1:]])
            is_copied = needed != made
            is_copied[:, 1:] &= needed[:, 1:] != needed[:, :-1]
            terms.append(
                factor.prices[:, np.broadcast_to(made, needed.shape)[is_copied], needed[is_copied]]
            )
        else:
            classes = np.array(factor.classes)[assignment[scopes]]
            if (classes != classes[:, :1]).any():
                return None
    return terms


def _exact_sum(costs: Costs) -> int:
    # Half of all 64 bits is more than any finite cost, and how many there can be.
    return (int((costs >> 32).sum()) << 32) + int((costs & 0xFFFFFFFF).sum())


def _suspects(stamp: Stamp, sizes: Sequence[int]) -> list[int]:
    """The first row of a scope in which something is wrong that depends on the scope."""
    scopes = stamp.scopes
    wrong = np.asarray(((scopes < 0) | (scopes >= len(sizes))).any(axis=1))
    if isinstance(stamp.first, CostTable):
        known = np.array([*sizes, 0])[np.where(wrong[:, None], -1, scopes)]
        ordered = np.sort(scopes)
        wrong |= (known != stamp.first.costs.shape[1:]).any(axis=1)
        wrong |= (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    return [int(row) for row in np.flatnonzero(wrong)[:1]]


def _check_factor(problem: Problem, sizes: list[int], number: int, factor: Factor) -> None:
    if isinstance(factor, SharedCopies):
        scope: tuple[int, ...] = (factor.source, *factor.users)
    else:
        scope = factor.scope
    if not scope or min(scope) < 0 or max(scope) >= len(sizes):
        raise ProblemError(
            f"factor {number}: its scope {scope} must name some of the {len(sizes)} variables"
        )
    if isinstance(factor, CostTable):
        _check_table(problem.levels, sizes, number, factor)
    elif isinstance(factor, Agree) and len(factor.classes) != problem.labels:
        raise ProblemError(
            f"factor {number}: {len(factor.classes)} classes for {problem.labels} labels"
        )


def with_domains(problem: Problem, domains: Mapping[int, tuple[int, ...]]) -> Problem:
    """The problem with fewer labels for some variables. Tables that were shared still are."""
    old = [variable.domain for variable in problem.variables]
    variables = [
        replace(variable, domain=domains.get(v, variable.domain))
        for v, variable in enumerate(problem.variables)
    ]
    cut: dict[tuple[object, ...], Costs] = {}
    factors: list[Factor] = []
    for factor in problem.factors:
        if isinstance(factor, CostTable):
            left = [domains.get(v, old[v]) for v in factor.scope]
            key = (id(factor.costs), *left, *(old[v] for v in factor.scope))
            if key not in cut:
                costs = factor.costs
                for axis, (v, labels) in enumerate(zip(factor.scope, left, strict=True), 1):
                    if labels != old[v]:
                        costs = costs.take([old[v].index(label) for label in labels], axis=axis)
                cut[key] = costs
            factors.append(replace(factor, costs=cut[key]))
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
