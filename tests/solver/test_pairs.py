"""Pairs of two levels below a weighted sum, against every assignment."""

from __future__ import annotations

import itertools
from random import Random

import pytest

import solver.pairs
from solver import Problem, solve
from solver.levels import with_levels
from solver.pairs import TooManyPairsError, pairs_below
from tests.solver.problems import random_net, random_problem

Pair = tuple[int, int]


def with_two_levels(seed: int) -> Problem:
    """A small problem whose costs have two levels, some of them below zero."""
    return next(
        problem
        for again in itertools.count(1_000 * seed)
        if (problem := random_problem(Random(again), scale=9)).levels == 2
    )


def every_pair(problem: Problem) -> set[Pair]:
    costs = map(problem.cost, itertools.product(*(v.domain for v in problem.variables)))
    return {(cost[0], cost[1]) for cost in costs if cost is not None}


def unbeaten(pairs: set[Pair]) -> list[Pair]:
    return sorted(
        pair
        for pair in pairs
        if not any(o != pair and o[0] <= pair[0] and o[1] <= pair[1] for o in pairs)
    )


def test_all_pairs_below_a_sum() -> None:
    found_any = left_out = 0
    for seed in range(300):
        problem, random = with_two_levels(seed), Random(seed)
        pairs = every_pair(problem)
        if not pairs:
            continue
        weights = random.randint(1, 5), random.randint(1, 5)
        sums = {pair: weights[0] * pair[0] + weights[1] * pair[1] for pair in pairs}
        most = random.randint(min(sums.values()), max(sums.values()))
        expected = [pair for pair in unbeaten(pairs) if sums[pair] <= most]
        found = pairs_below(problem, weights, most)
        assert [pair for pair, _ in found] == expected
        for pair, assignment in found:
            assert problem.cost(assignment) == pair
        found_any += len(expected) > 1
        left_out += len(expected) < len(unbeaten(pairs))
    assert found_any > 20
    assert left_out > 20


def test_too_many_are_not_looked_for() -> None:
    net = with_levels(random_net(Random(2), 15), (0, 1))
    with pytest.raises(TooManyPairsError):
        pairs_below(net, (1, 1), 10**9, pairs_limit=10)


def test_there_may_be_too_many_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    net = with_levels(random_net(Random(2), 15), (0, 1))
    best = solve(net).cost
    assert pairs_below(net, (1, 1), sum(best), pairs_limit=10_000)
    monkeypatch.setattr(solver.pairs, "_TIMES", 0)
    with pytest.raises(TooManyPairsError):
        pairs_below(net, (1, 1), sum(best), pairs_limit=10_000)
