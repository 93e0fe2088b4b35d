"""A problem that is reduced once, so that several things can be asked of it."""

from __future__ import annotations

from solver.order import Order, quick_order
from solver.problem import Problem
from solver.reduce import Reduced, reduce

TABLE_LIMIT = 2**20
"""Entries of the largest table that elimination may make."""

KEPT_LIMIT = 2**25
"""Entries of all tables together: both passes need them, a quarter of a gigabyte at most."""


class Prepared:
    """A problem, its reduced form, and an order that eliminates all of it: None if there is none.

    Raises ``ProblemError`` for a problem that is not well formed, ``InfeasibleError`` where that
    already shows that there is no solution.
    """

    def __init__(self, problem: Problem, table_limit: int = TABLE_LIMIT) -> None:
        problem.validate()
        self.problem = problem
        self.reduced: Reduced = reduce(problem, table_limit)
        order = quick_order(self.reduced.sizes, self.reduced.scopes, table_limit)
        self.order: Order | None = None
        if not order.core and order.work <= KEPT_LIMIT:
            self.order = order
