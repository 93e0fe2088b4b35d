"""Equality: variables that must take the same label become one class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from solver.problem import Agree, Problem
from solver.solution import InfeasibleError


@dataclass(frozen=True, slots=True)
class Merged:
    """The classes of equal variables, each named by its lowest member."""

    root: list[int]
    """The class of each variable."""
    domains: list[tuple[int, ...]]
    """By class: the labels that all its members allow, in the order of the lowest member."""
    agrees: list[int]
    """The Agree factors that are more than an equality."""


def merge(problem: Problem) -> Merged:
    """Merges the variables of each Agree that only equal labels can satisfy.

    Raises ``InfeasibleError`` where the members of a class have no label in common.
    """
    parent = list(range(len(problem.variables)))
    domains = [variable.domain for variable in problem.variables]
    common: dict[tuple[tuple[int, ...], tuple[int, ...]], tuple[int, ...]] = {}
    equality: dict[tuple[tuple[int, ...], frozenset[tuple[int, ...]]], bool] = {}

    def find(v: int) -> int:
        while parent[v] != v:
            parent[v] = v = parent[parent[v]]
        return v

    agrees = [*_agrees(problem)]
    # Merging shrinks domains, which can turn another Agree into an equality.
    for _ in range(2):
        rest = []
        for agree in agrees:
            _, scope, labels = agree
            roots = {find(v) for v in scope}
            if len(roots) == 1:
                continue
            key = labels, frozenset([domains[r] for r in roots])
            if key not in equality:
                equality[key] = _is_equality(*key)
            if not equality[key]:
                rest.append(agree)
                continue
            first = min(roots)
            for other in sorted(roots):
                parent[other] = first
                a, b = domains[first], domains[other]
                if a is b:
                    continue
                if (a, b) not in common:
                    common[a, b] = a if a == b else tuple(label for label in a if label in b)
                domains[first] = common[a, b]
            if not domains[first]:
                members = {v for v in range(len(parent)) if find(v) == first}
                raise _contradiction(problem, members)
        if len(rest) == len(agrees):
            break
        agrees = rest
    return Merged(
        [find(v) for v in range(len(parent))], domains, [number for number, _, _ in agrees]
    )


def _agrees(problem: Problem) -> Iterator[tuple[int, Sequence[int], tuple[int, ...]]]:
    """The number, scope and classes of each Agree."""
    for number, factor in enumerate(problem.others):
        if isinstance(factor, Agree):
            yield number, factor.scope, factor.classes
    for stamp in problem.stamps:
        if isinstance(stamp.first, Agree):
            for number, scope in enumerate(stamp.scopes.tolist(), stamp.number):
                yield number, scope, stamp.first.classes


def _is_equality(classes: tuple[int, ...], domains: frozenset[tuple[int, ...]]) -> bool:
    labels = set().union(*domains)
    return len({classes[label] for label in labels}) == len(labels)


def _contradiction(problem: Problem, members: set[int]) -> InfeasibleError:
    factors = tuple(
        number
        for number, factor in enumerate(problem.factors)
        if isinstance(factor, Agree) and members.intersection(factor.scope)
    )
    return InfeasibleError(tuple(sorted(members)), factors)
