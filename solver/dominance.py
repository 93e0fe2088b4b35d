"""Labels that no optimum needs, because others take their places everywhere at no higher cost.

If every variable that has label ``a`` takes ``b`` instead, all at once, and no factor costs more
for it, whatever the other labels are, then ``a`` can go: each assignment has one without it that is
as good. Costs are compared by levels, and so are their sums: a sum of vectors none of which is
positive is not positive. So the optimum stays the same at every level.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice, product

import numpy as np
from numpy.typing import NDArray

from solver.problem import FORBIDDEN, Costs, CostTable, Factor, Problem, SharedCopies, Variable

_ATTEMPTS = 64
"""Most substitutions that are tried at once; then each label is tried alone."""

Substitution = dict[int, int]
"""Which label takes the place of which; a label that takes a place keeps its own."""


def undominated(problem: Problem) -> Problem | None:
    """The problem without labels that no optimum needs; None if each may be needed."""
    domains = {variable.domain for variable in problem.variables}
    kept = _needed(domains)
    spare = sorted(set().union(*domains) - kept)
    substitutes = [[b for b in sorted(kept) if _fits(domains, a, b)] for a in spare]
    checks = _Checks(problem)
    for chosen in islice(product(*substitutes), _ATTEMPTS if spare else 0):
        together = dict(zip(spare, chosen, strict=True))
        if checks.allow(together):
            return _without(problem, together)
    found: Substitution = {}
    for a, possible in zip(spare, substitutes, strict=True):
        for b in possible:
            if checks.allow({**found, a: b}):
                found[a] = b
                break
    return _without(problem, found) if found else None


def _needed(domains: set[tuple[int, ...]]) -> set[int]:
    """Labels of which every domain has one: those of the smallest domains."""
    kept: set[int] = set()
    for domain in sorted(domains, key=lambda domain: (len(domain), domain)):
        if kept.isdisjoint(domain):
            kept.update(domain)
    return kept


def _fits(domains: set[tuple[int, ...]], a: int, b: int) -> bool:
    return all(b in domain for domain in domains if a in domain)


class _Checks:
    """The different factors of a problem, for each of which a substitution must not cost more."""

    def __init__(self, problem: Problem) -> None:
        domains = [variable.domain for variable in problem.variables]
        tables: dict[tuple[int, tuple[tuple[int, ...], ...]], CostTable] = {}
        copies: dict[int, tuple[Costs, set[int], set[int]]] = {}
        self._classes: set[tuple[int, ...]] = set()
        for factor in problem.factors:
            if isinstance(factor, CostTable):
                axes = tuple(domains[v] for v in factor.scope)
                tables.setdefault((id(factor.costs), axes), factor)
            elif isinstance(factor, SharedCopies):
                _, made, needed = copies.setdefault(
                    id(factor.prices), (factor.prices, set(), set())
                )
                made.update(domains[factor.source])
                needed.update(*(domains[u] for u in factor.users))
            else:
                self._classes.add(factor.classes)
        self._tables = [(table.costs, axes) for (_, axes), table in tables.items()]
        self._copies = list(copies.values())
        self._labels = problem.labels

    def allow(self, substitution: Substitution) -> bool:
        """Whether no factor costs more after a substitution."""
        label = list(range(self._labels))
        for a, b in substitution.items():
            label[a] = b
        return (
            all(_keeps_classes(classes, substitution) for classes in self._classes)
            and all(_no_higher(p, made, needed, label) for p, made, needed in self._copies)
            and all(_no_costlier(costs, axes, label) for costs, axes in self._tables)
        )


def _keeps_classes(classes: tuple[int, ...], substitution: Substitution) -> bool:
    """Whether labels that agree still do."""
    if all(classes[a] == classes[b] for a, b in substitution.items()):
        return True
    # A class of one label goes to any other as a whole.
    counts = {c: classes.count(c) for c in classes}
    return all(classes[a] == classes[b] or counts[classes[a]] == 1 for a, b in substitution.items())


def _no_higher(prices: Costs, made: set[int], needed: set[int], label: list[int]) -> bool:
    """Whether no copy costs more. Those of labels that become one are made once, or not at all."""
    pairs = [(s, t) for s in made for t in needed if s != t and label[s] != label[t]]
    if not pairs:
        return True
    old = np.array(pairs).T
    new = np.array(label)[old]
    return _is_no_worse(prices[:, new[0], new[1]], prices[:, old[0], old[1]])


def _no_costlier(costs: Costs, axes: tuple[tuple[int, ...], ...], label: list[int]) -> bool:
    changed = costs
    for axis, domain in enumerate(axes, 1):
        changed = changed.take([domain.index(label[a]) for a in domain], axis=axis)
    return _is_no_worse(changed, costs)


def _is_no_worse(new: Costs, old: Costs) -> bool:
    """Whether each cost is at most the other one, by levels."""
    decided: NDArray[np.bool_] = old[0] >= FORBIDDEN
    for level in range(len(old)):
        if bool(((new[level] > old[level]) & ~decided).any()):
            return False
        decided = decided | (new[level] < old[level])
    return True


def _without(problem: Problem, substitution: Substitution) -> Problem:
    """The problem without the labels that are substituted."""
    left = {
        domain: tuple(label for label in domain if label not in substitution)
        for domain in {variable.domain for variable in problem.variables}
    }
    positions = {d: [d.index(label) for label in less] for d, less in left.items()}
    domains = [variable.domain for variable in problem.variables]
    return Problem(
        problem.labels,
        problem.levels,
        tuple(Variable(left[v.domain], v.name) for v in problem.variables),
        tuple(_restricted(factor, domains, positions) for factor in problem.factors),
    )


def _restricted(
    factor: Factor, domains: list[tuple[int, ...]], positions: dict[tuple[int, ...], list[int]]
) -> Factor:
    if not isinstance(factor, CostTable):
        return factor
    costs = factor.costs
    for axis, v in enumerate(factor.scope, 1):
        if len(positions[domains[v]]) < len(domains[v]):
            costs = costs.take(positions[domains[v]], axis=axis)
    return factor if costs is factor.costs else replace(factor, costs=costs)
