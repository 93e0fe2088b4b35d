"""Merging keeps exactly the assignments that agreements allow."""

from __future__ import annotations

import itertools
from random import Random

import pytest

from solver import Agree, InfeasibleError, Problem, Variable
from solver.merge import merge
from tests.solver.problems import random_problem


def agreements(problem: Problem) -> list[Agree]:
    return [factor for factor in problem.factors if isinstance(factor, Agree)]


def allowed(problem: Problem, factors: list[Agree]) -> set[tuple[int, ...]]:
    """Every assignment that meets the agreements."""
    domains = [variable.domain for variable in problem.variables]
    return {
        labels
        for labels in itertools.product(*domains)
        if all(len({f.classes[labels[v]] for v in f.scope}) == 1 for f in factors)
    }


def test_classes_and_what_is_left_allow_the_same() -> None:
    merged_any = contradictions = 0
    for seed in range(300):
        problem = random_problem(Random(seed), labels=3, factors=8)
        expected = allowed(problem, agreements(problem))
        try:
            merged = merge(problem)
        except InfeasibleError as error:
            contradictions += 1
            assert not expected, seed
            # The part that it names is enough to have no solution.
            part = [problem.factors[number] for number in error.factors]
            assert not allowed(problem, [f for f in part if isinstance(f, Agree)]), seed
            continue
        left = [problem.factors[number] for number in merged.agrees]
        kept = {
            labels
            for labels in allowed(problem, [f for f in left if isinstance(f, Agree)])
            if all(
                labels[v] == labels[root] and labels[v] in merged.domains[root]
                for v, root in enumerate(merged.root)
            )
        }
        assert kept == expected, seed
        merged_any += any(v != root for v, root in enumerate(merged.root))
    assert merged_any > 40 and contradictions > 5


def test_a_class_is_named_by_its_lowest_member_and_keeps_its_order() -> None:
    variables = (Variable((3, 1, 0)), Variable((2,)), Variable((0, 1, 2)))
    merged = merge(Problem(4, 1, variables, (Agree((2, 0), (0, 1, 2, 3)),)))
    assert merged.root == [0, 1, 0]
    assert merged.domains[0] == (1, 0)
    assert merged.agrees == []


def test_an_agreement_of_some_labels_is_no_equality() -> None:
    problem = Problem(3, 1, (Variable((0, 1, 2)),) * 2, (Agree((0, 1), (0, 0, 1)),))
    merged = merge(problem)
    assert merged.root == [0, 1]
    assert merged.agrees == [0]


def test_a_class_without_a_label_names_the_agreements_behind_it() -> None:
    variables = (Variable((0,)), Variable((0, 1)), Variable((1,)), Variable((0, 1)))
    equal = (0, 1)
    factors = (Agree((0, 1), equal), Agree((1, 2), equal), Agree((3,), equal))
    with pytest.raises(InfeasibleError) as caught:
        merge(Problem(2, 1, variables, factors))
    assert caught.value.variables == (0, 1, 2)
    assert caught.value.factors == (0, 1)
