import numpy as np
import pytest

from solver import (
    FORBIDDEN,
    Agree,
    CostTable,
    Problem,
    ProblemError,
    SharedCopies,
    Variable,
    solve,
    solve_whole,
)
from solver.problem import LIMIT, Costs, Factor

ONE_LEVEL = np.array([[[9, 1, 2], [3, 9, 4], [5, FORBIDDEN, 9]]], np.int64)


def problem(*factors: Factor, variables: int = 3, levels: int = 1) -> Problem:
    return Problem(3, levels, (Variable((0, 1, 2)),) * variables, factors)


def unary(*costs: int) -> Costs:
    return np.array([costs], np.int64)


def test_cost_of_copies_is_by_the_definition() -> None:
    copies = problem(SharedCopies(0, (1, 2, 1, 0), ONE_LEVEL))
    assert copies.cost((0, 0, 0)) == (0,)
    assert copies.cost((0, 1, 1)) == (1,)
    assert copies.cost((0, 1, 2)) == (3,)
    assert copies.cost((1, 2, 0)) == (7,)
    assert copies.cost((2, 1, 2)) is None


def test_cost_of_tables_and_agreement() -> None:
    table = CostTable((1, 0), np.arange(9, dtype=np.int64).reshape(1, 3, 3))
    mixed = problem(table, CostTable((2,), unary(0, FORBIDDEN, 10)), Agree((0, 1), (5, 5, 6)))
    assert mixed.cost((0, 1, 2)) == (13,)
    assert mixed.cost((0, 1, 1)) is None
    assert mixed.cost((0, 2, 0)) is None
    assert mixed.cost((0, 0, 3)) is None, "a label outside of the domain"
    with pytest.raises(ProblemError, match="2 labels"):
        mixed.cost((0, 1))


def test_costs_follow_the_order_of_the_domain() -> None:
    ordered = Problem(3, 1, (Variable((2, 0)),), (CostTable((0,), unary(7, 8)),))
    assert ordered.cost((2,)) == (7,)
    assert ordered.cost((0,)) == (8,)
    assert ordered.cost((1,)) is None


def test_empty_problem() -> None:
    assert solve(Problem(1, 2, (), ())).cost == (0, 0)
    assert solve_whole(Problem(1, 2, (), ())).cost == (0, 0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Problem(2, 1, (Variable(()),), ()), "at least one"),
        (Problem(2, 1, (Variable((0, 0)),), ()), "distinct"),
        (Problem(2, 1, (Variable((0, 2), "x"),), ()), r"variable 0 \(x\).*0\.\.1"),
        (Problem(0, 1, (), ()), "at least one label"),
        (problem(CostTable((0, 0), np.zeros((1, 3, 3), np.int64))), "repeats"),
        (problem(CostTable((), np.zeros(1, np.int64))), "must name some"),
        (problem(CostTable((3,), unary(0, 0, 0))), "must name some of the 3"),
        (problem(CostTable((0,), unary(0, 0))), r"shape \(1, 2\); expected int64"),
        (problem(CostTable((0,), np.zeros((1, 3), np.int32))), "int32"),
        (problem(Agree((0, 1), (0, 1))), "2 classes for 3 labels"),
        (problem(Agree((0, -1), (0, 1, 2))), "must name"),
        (problem(SharedCopies(0, (1,), np.zeros((1, 2, 2), np.int64))), "expected int64"),
        (
            problem(SharedCopies(0, (1,), np.full((1, 3, 3), -1, np.int64))),
            "from label 0 to 1 is negative",
        ),
        (problem(SharedCopies(0, (1,), np.full((1, 3, 3), LIMIT, np.int64))), "a price is"),
    ],
)
def test_what_is_wrong_is_named(wrong: Problem, message: str) -> None:
    for solver in (solve, solve_whole):
        with pytest.raises(ProblemError, match=message):
            solver(wrong)


def test_a_price_may_be_negative_below_its_first_level() -> None:
    prices = np.ones((2, 3, 3), np.int64)
    prices[1] = -1
    problem(SharedCopies(0, (1,), prices), levels=2).validate()
