"""A problem with other levels: some of its own, and sums of further factors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from solver.problem import FORBIDDEN, Agree, Costs, CostTable, Factor, Problem, SharedCopies

AMOUNTS: Final = -1
"""In place of a level: the sum of the further factors."""


def with_levels(
    problem: Problem, levels: Sequence[int], amounts: Sequence[CostTable | SharedCopies] = ()
) -> Problem:
    """The problem with these levels of its own in this order, or ``AMOUNTS``, at least one.

    The ``amounts`` are factors over the problem's variables with costs of one level, none of them
    forbidden. What the problem forbids stays so.
    """
    own: dict[int, Costs] = {}
    further: dict[int, Costs] = {}

    def of_problem(costs: Costs) -> Costs:
        if id(costs) not in own:
            forbidden = costs[0] >= FORBIDDEN
            found = np.zeros((len(levels), *costs.shape[1:]), np.int64)
            for place, level in enumerate(levels):
                if level != AMOUNTS:
                    found[place] = np.where(forbidden, 0, costs[level])
            found[0, forbidden] = FORBIDDEN
            own[id(costs)] = found
        return own[id(costs)]

    def of_amounts(costs: Costs) -> Costs:
        if id(costs) not in further:
            found = np.zeros((len(levels), *costs.shape[1:]), np.int64)
            for place, level in enumerate(levels):
                if level == AMOUNTS:
                    found[place] = costs[0]
            further[id(costs)] = found
        return further[id(costs)]

    factors: list[Factor] = []
    for group, change in ((problem.factors, of_problem), (amounts, of_amounts)):
        for factor in group:
            if isinstance(factor, Agree):
                factors.append(factor)
                continue
            costs = change(factor.prices if isinstance(factor, SharedCopies) else factor.costs)
            # Nothing is left of factors that neither cost nor forbid anything.
            if not costs.any():
                continue
            if isinstance(factor, SharedCopies):
                factors.append(SharedCopies(factor.source, factor.users, costs))
            else:
                factors.append(CostTable(factor.scope, costs))
    return Problem(problem.labels, len(levels), problem.variables, tuple(factors))
