"""Of plans that are as good as each other, the one with the fewest bytes alive at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, Final

import numpy as np

from planner.optimise.live import DENSE_LIMIT, Alive, Domains, LiveSets, Moment
from planner.optimise.problem import PREFERRED
from solver import Problem, Solution
from solver.merge import merge
from solver.problem import Factor, SharedCopies, with_domains

MOST_VARIABLES: Final = 2_000
"""Where more variables would have a say in it, no plan as good with a lower peak is looked for."""

FEW_VARIABLES: Final = 200
"""Where no more variables have, integer programs look for it, too."""

TIE_WORK_LIMIT: Final = 5_000

PAGE: Final = 4096
"""Bytes of memory that are given out at once: less is not worth an integer program."""


def with_least_peak(live: LiveSets, solution: Solution, *, worth: int = PAGE) -> Solution:
    """Of plans that are as good as an optimal one, the one with the least peak; the same where none
    has less, or none is found in little time.

    As good are plans of equal cost, with equally many transitions, and with textures and int8
    layouts that are preferred in the same places. An integer program, where elimination does not
    decide, has to promise ``worth`` bytes.
    """
    problem, labels = live.layout.problem, solution.assignment
    peak, moment = live.peak(labels)
    domains = _AsPreferred(problem, labels)
    doubtful = _doubtful(live, moment, labels, domains)
    if not doubtful:
        return solution
    # Few plans come to this.
    from planner.optimise.peak import Part, Peaks, least_peak

    pieces = _Pieces(problem, domains)
    chosen, known = pieces.of(doubtful), {moment}
    while len(chosen) <= MOST_VARIABLES:
        peaks = Peaks(pieces.part(chosen, labels), [Part(live)])
        work = TIE_WORK_LIMIT if len(chosen) <= FEW_VARIABLES else 0
        found = least_peak(peaks, (0, 1), labels, then=(2, 3), worth=worth, work_limit=work)
        others = {moment for _, moment in found.moments} - known
        doubtful = {v for moment in others for v in _doubtful(live, moment, labels, domains)}
        further = pieces.of(doubtful) - chosen
        known |= others
        if not further:
            if found.peak == peak:
                return solution
            cost = problem.cost(found.assignment)
            assert cost is not None and cost[:2] == solution.cost[:2]
            return replace(solution, assignment=found.assignment, cost=cost)
        chosen |= further
    return solution


def _doubtful(live: LiveSets, moment: Moment, labels: Sequence[int], domains: Domains) -> set[int]:
    """The variables of tensors that might take less at a moment than with these labels."""
    _, alive = live.alive(moment)
    return {
        v
        for each in alive
        if _may_take_less(each, labels, domains)
        for v in each.scope
        if len(domains[v]) > 1
    }


def _may_take_less(alive: Alive, labels: Sequence[int], domains: Domains) -> bool:
    """Whether a tensor might take less than with these labels, whatever that costs."""
    now, scope = alive.bytes(labels), alive.scope
    if not alive.lasts and min(alive.sizes[label] for v in scope for label in domains[v]) >= now:
        return False
    if math.prod(len(domains[v]) for v in scope) > DENSE_LIMIT:
        return True
    return int(alive.table(domains)[1].min()) < now


class _AsPreferred(Sequence[tuple[int, ...]]):
    """By variable: its labels that are preferred if its present one is, and else the others."""

    def __init__(self, problem: Problem, labels: Sequence[int]) -> None:
        self._problem, self._labels = problem, labels
        self._known: dict[tuple[tuple[int, ...], bool], tuple[int, ...]] = {}

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, v: Any) -> Any:
        domain, wanted = self._problem.variables[v].domain, self._labels[v] in PREFERRED
        key = domain, wanted
        if key not in self._known:
            kept = tuple(label for label in domain if (label in PREFERRED) == wanted)
            self._known[key] = domain if len(kept) == len(domain) else kept
        return self._known[key]


class _Pieces:
    """A problem with fewer labels, in pieces that have no factor in common but for what is fixed:
    what is best in one does not depend on another."""

    def __init__(self, problem: Problem, domains: Domains) -> None:
        self._problem = problem
        variables = tuple(
            variable if domains[v] is variable.domain else replace(variable, domain=domains[v])
            for v, variable in enumerate(problem.variables)
        )
        merged = merge(replace(problem, variables=variables))
        self._domains = [merged.domains[root] for root in merged.root]
        self._above = [root if len(merged.domains[root]) > 1 else -1 for root in merged.root]
        stamped = (scope for stamp in problem.stamps for scope in stamp.scopes.tolist())
        for scope in chain(map(_scope, problem.others), stamped):
            roots = {self._find(v) for v in scope if self._above[v] >= 0}
            first = min(roots, default=-1)
            for root in roots:
                self._above[root] = first

    def _find(self, v: int) -> int:
        while self._above[v] != v:
            self._above[v] = v = self._above[self._above[v]]
        return v

    def of(self, variables: Iterable[int]) -> set[int]:
        """All variables of the pieces that have one of these."""
        roots = {self._find(v) for v in variables if self._above[v] >= 0}
        every = range(len(self._above))
        return {v for v in every if self._above[v] >= 0 and self._find(v) in roots}

    def part(self, chosen: set[int], labels: Sequence[int]) -> Problem:
        """The problem of these variables, with the labels of all others fixed."""
        problem = self._problem
        is_chosen = np.zeros(len(labels), np.bool_)
        is_chosen[list(chosen)] = True
        touched = [f for f in problem.others if not chosen.isdisjoint(_scope(f))]
        for stamp in problem.stamps:
            touched += map(stamp.at, np.flatnonzero(is_chosen[stamp.scopes].any(axis=1)).tolist())
        domains = [self._domains[v] if v in chosen else (label,) for v, label in enumerate(labels)]
        return with_domains(replace(problem, factors=touched), dict(enumerate(domains)))


def _scope(factor: Factor) -> tuple[int, ...]:
    return (factor.source, *factor.users) if isinstance(factor, SharedCopies) else factor.scope
