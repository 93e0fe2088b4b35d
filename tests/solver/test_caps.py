"""What is forbidden is what is over the limits, and nothing else."""

from __future__ import annotations

import itertools
from random import Random

import numpy as np
import pytest

from solver import FORBIDDEN, Agree, CostTable, Factor, InfeasibleError, Limit, Problem, Variable
from solver.caps import capped

LABELS = 3


def drawn(seed: int) -> tuple[Problem, list[Limit]]:
    """A random problem, some of whose variables are tied, and limits of sums over it."""
    random, numbers = Random(seed), np.random.default_rng(seed)
    domains = [tuple(random.sample(range(LABELS), random.randint(1, LABELS))) for _ in range(5)]
    variables = tuple(Variable(domain) for domain in domains)

    def table(levels: int, most: int) -> CostTable:
        scope = tuple(random.sample(range(5), random.randint(1, 3)))
        sizes = [len(domains[v]) for v in scope]
        return CostTable(scope, numbers.integers(0, most, (levels, *sizes)))

    tied = tuple(sorted(random.sample(range(5), 2)))
    factors: list[Factor] = [Agree(tied, (0, 1, 2)), *(table(2, 9) for _ in range(4))]
    limits = [
        Limit(tuple(table(1, 6) for _ in range(random.randint(1, 4))), random.randint(0, 12))
        for _ in range(random.randint(1, 3))
    ]
    return Problem(LABELS, 2, variables, tuple(factors)), limits


@pytest.mark.parametrize("seed", range(150))
def test_costs_within_limits_stay_and_all_else_is_forbidden(seed: int) -> None:
    problem, limits = drawn(seed)
    expected = {}
    for labels in itertools.product(*(variable.domain for variable in problem.variables)):
        cost = problem.cost(labels)
        if cost is not None and all(
            limit.amount(problem, labels) <= limit.most for limit in limits
        ):
            expected[labels] = cost
    try:
        within = capped(problem, limits)
    except InfeasibleError:
        assert not expected
        return
    assert within is not None
    within.validate()
    left = itertools.product(*(variable.domain for variable in within.variables))
    found = {labels: within.cost(labels) for labels in left}
    assert {labels: cost for labels, cost in found.items() if cost is not None} == expected


def test_a_limit_that_no_label_keeps_is_infeasible() -> None:
    problem = Problem(2, 1, (Variable((0, 1)),), ())
    amounts = CostTable((0,), np.array([[3, 4]]))
    with pytest.raises(InfeasibleError):
        capped(problem, [Limit((amounts,), 2)])
    left = capped(problem, [Limit((amounts,), 3)], most_entries=0)
    assert left is not None and left.variables[0].domain == (0,)


def test_where_a_table_would_be_too_large_there_is_none() -> None:
    problem = Problem(2, 1, (Variable((0, 1)), Variable((0, 1))), ())
    amounts = [CostTable((v,), np.array([[0, 1]])) for v in (0, 1)]
    assert capped(problem, [Limit(tuple(amounts), 1)], most_entries=3) is None
    found = capped(problem, [Limit(tuple(amounts), 1)], most_entries=4)
    assert found is not None and found.cost([1, 1]) is None and found.cost([1, 0]) == (0,)
    (table,) = found.factors
    assert isinstance(table, CostTable) and int(table.costs.max()) == FORBIDDEN
