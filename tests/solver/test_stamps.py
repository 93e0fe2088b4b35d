"""Factors that are kept as arrays are the factors that they stand for."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from solver import (
    FORBIDDEN,
    Agree,
    CostTable,
    Factor,
    Factors,
    InfeasibleError,
    Problem,
    ProblemError,
    SharedCopies,
    Stamp,
    Variable,
    equal_rows,
    solve,
)
from solver.conflict import scope_of


def stamped_problem(random: Random) -> Problem:
    """Few factors, each at many random scopes, some of them alone."""
    # Large ones take several numbers.
    labels, levels, scale = 3, 3, random.choice((1, 2**45))
    domains = [(0, 1, 2), (2, 0), (1,)]
    variables = tuple(Variable(random.choice(domains)) for _ in range(random.randint(3, 9)))

    def scopes(width: int) -> list[list[int]]:
        count = random.randint(1, 6)
        return [random.sample(range(len(variables)), width) for _ in range(count)]

    def costs(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        draw = np.array([random.randint(0, 5) for _ in range(int(np.prod(shape)))], np.int64)
        draw = scale * draw.reshape(shape)
        if random.random() < 0.2:
            draw[(0, *[0] * (len(shape) - 1))] = FORBIDDEN
        return draw

    stamps = []
    for _ in range(random.randint(1, 5)):
        kind = random.choice(("one", "two", "copies", "agree"))
        if kind == "copies":
            like: Factor = SharedCopies(0, (), costs(levels, labels, labels))
            stamps.append(Stamp.of(like, scopes(random.randint(2, 3))))
        elif kind == "agree":
            classes = random.choice(((0, 1, 2), (0, 0, 1)))
            stamps.append(Stamp.of(Agree((), classes), scopes(2)))
        else:
            rows = scopes(1 if kind == "one" else 2)
            sizes = [len(variables[v].domain) for v in rows[0]]
            fit = [row for row in rows if [len(variables[v].domain) for v in row] == sizes]
            stamps.append(Stamp.of(CostTable((), costs(levels, *sizes)), fit))
    others = [stamp.at(0) for stamp in stamps if random.random() < 0.3]
    return Problem(labels, levels, variables, Factors(others, stamps))


def test_a_problem_with_stamps_is_solved_as_one_without() -> None:
    infeasible = 0
    for seed in range(400):
        random = Random(seed)
        problem = stamped_problem(random)
        plain = replace(problem, factors=tuple(problem.factors))
        assert plain.factors != () and len(plain.factors) == len(problem.factors)
        for _ in range(5):
            labels = [random.choice(variable.domain) for variable in problem.variables]
            assert problem.cost(labels) == plain.cost(labels), seed
        try:
            expected = solve(plain)
        except InfeasibleError as error:
            infeasible += 1
            with pytest.raises(InfeasibleError) as caught:
                solve(problem)
            assert caught.value.factors and error.factors, seed
            continue
        found = solve(problem)
        assert (found.cost, found.bound) == (expected.cost, expected.bound), seed
        assert problem.cost(found.assignment) == found.cost, seed
    assert 20 < infeasible < 300


def test_factors_are_found_by_their_numbers() -> None:
    problem = stamped_problem(Random(1))
    factors = problem.factors
    assert [scope_of(f) for f in factors] == [scope_of(factors[n]) for n in range(len(factors))]
    assert [scope_of(f) for f in factors[1:3]] == [scope_of(factors[n]) for n in (1, 2)]
    assert scope_of(factors[-1]) == scope_of(factors[len(factors) - 1])
    with pytest.raises(IndexError):
        factors[len(factors)]


@pytest.mark.parametrize(
    ("like", "scopes"),
    [
        (CostTable((), np.zeros((1, 2), np.int64)), [[0], [1], [9]]),
        (CostTable((), np.zeros((1, 2), np.int64)), [[0], [2], [1]]),
        (CostTable((), np.zeros((1, 2, 2), np.int64)), [[0, 1], [1, 1], [1, 0]]),
        (CostTable((), np.zeros((1, 2, 3), np.int64)), [[0, 2], [1, 0]]),
        (Agree((), (0, 1, 2)), [[0, 1], [0, -1]]),
        (Agree((), (0, 1)), [[0, 1]]),
        (SharedCopies(0, (), np.full((1, 3, 3), -1)), [[0, 1]]),
    ],
)
def test_what_is_wrong_is_named_as_without_stamps(like: Factor, scopes: list[list[int]]) -> None:
    variables = (Variable((0, 1)), Variable((1, 2)), Variable((0, 1, 2)))
    problem = Problem(3, 1, variables, Factors([], [Stamp.of(like, scopes)]))
    with pytest.raises(ProblemError) as expected:
        replace(problem, factors=tuple(problem.factors)).validate()
    with pytest.raises(ProblemError) as found:
        problem.validate()
    assert str(found.value) == str(expected.value)


def test_sums_beyond_64_bits_are_exact() -> None:
    table = CostTable((), np.full((1, 1), 2**53 - 1))
    problem = Problem(1, 1, (Variable((0,)),), Factors([], [Stamp.of(table, [[0]] * 2000)]))
    assert problem.cost([0]) == (2000 * (2**53 - 1),)


def test_equal_rows() -> None:
    rows = np.array([[1, 2], [0, 5], [1, 2], [1, 0], [0, 5]])
    assert sorted(places.tolist() for places in equal_rows(rows)) == [[0, 2], [1, 4], [3]]
    assert equal_rows(rows[:0]) == []
