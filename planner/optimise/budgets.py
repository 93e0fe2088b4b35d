"""Limits of all transitions of a program together: their number, or the bytes of their copies.

They tie all operands together, so elimination alone does not keep them. A plan without them that is
within them is the best; any other is found by an integer program, which proves it, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.costs.model import CostModel
from planner.errors import ConflictingLimitsError, PlannerError, Remedy
from planner.ir.graph import LayoutGraph, Layouts
from planner.kernels.limits import Budget, Limits
from planner.optimise.plan import SEARCH_SECONDS, LayoutPlan, plan_graph, read_plan
from planner.optimise.tradeoff import Criterion, amounts, copied_bytes
from solver import (
    FORBIDDEN,
    Agree,
    CostTable,
    InfeasibleError,
    Limit,
    NoSolutionFoundError,
    Problem,
    SharedCopies,
    Solution,
    Status,
    Variable,
    solve,
    solve_ilp,
)
from solver.problem import Costs, Factor


@dataclass(frozen=True, slots=True)
class Part:
    """A graph of a program, which has it ``times`` times, and the layouts that it came with."""

    graph: LayoutGraph
    given: Layouts | None
    times: int = 1


def plans_within(
    parts: Sequence[Part], limits: Limits, costs: CostModel, name: str = ""
) -> list[LayoutPlan]:
    """The cheapest plans of a program's graphs that are within the limits together.

    Raises ``ConflictingLimitsError`` where there are none, with the least that is possible, and as
    ``plan_graph``; ``PlannerError`` where the search finds none in its time.
    """
    plans = [plan_graph(part.graph, limits, costs, part.given) for part in parts]
    budget = limits.budget
    if _is_within(parts, plans, budget):
        return plans
    joint, kept, starts = joint_problem(parts, plans, budget)
    start = _check_possible(joint, kept, budget, name)
    try:
        solution = solve_ilp(joint, kept, start=start, search_seconds=SEARCH_SECONDS)
    except InfeasibleError as error:
        raise ConflictingLimitsError(
            f"{name}: no plan keeps {' and '.join(budget.flags)} together", Remedy.DROP_LIMITS
        ) from error
    except NoSolutionFoundError as error:
        raise PlannerError(
            f"the search found no plan within {' and '.join(budget.flags)} in its time"
        ) from error
    return [
        _plan_of(part, plan, solution, begin, costs, len(parts) == 1)
        for part, plan, begin in zip(parts, plans, starts, strict=True)
    ]


def joint_problem(
    parts: Sequence[Part], plans: Sequence[LayoutPlan], budget: Budget
) -> tuple[Problem, list[Limit], list[int]]:
    """The problem of all parts together, its limits, and where the variables of each part begin.

    ``plans`` are any plans of the parts: their problems count, not their layouts.
    """
    joint, starts = _joint(parts, plans)
    wanted: tuple[tuple[Criterion, int | None], ...]
    wanted = (("transitions", budget.transitions), ("bytes", budget.bytes))
    kept = [
        Limit(_amounts(parts, plans, starts, criterion), most)
        for criterion, most in wanted
        if most is not None
    ]
    return joint, kept, starts


def _is_within(parts: Sequence[Part], plans: Sequence[LayoutPlan], budget: Budget) -> bool:
    together = list(zip(parts, plans, strict=True))
    transitions = sum(part.times * len(plan.transitions) for part, plan in together)
    if budget.transitions is not None and transitions > budget.transitions:
        return False
    if budget.bytes is None:
        return True
    return sum(p.times * copied_bytes(p.graph, plan) for p, plan in together) <= budget.bytes


def _joint(parts: Sequence[Part], plans: Sequence[LayoutPlan]) -> tuple[Problem, list[int]]:
    """One problem of all parts, and where the variables of each begin."""
    variables: list[Variable] = []
    factors: list[Factor] = []
    starts: list[int] = []
    for part, plan in zip(parts, plans, strict=True):
        starts.append(len(variables))
        scaled = _Scaled(part.times, starts[-1])
        variables += plan.layout.problem.variables
        factors += [scaled.factor(factor) for factor in plan.layout.problem.factors]
    first = plans[0].layout.problem
    return Problem(first.labels, first.levels, tuple(variables), tuple(factors)), starts


class _Scaled:
    """Factors over variables that begin elsewhere, with costs so many times as high."""

    def __init__(self, times: int, start: int) -> None:
        self._times, self._start = times, start
        self._made: dict[int, Costs] = {}

    def factor(self, factor: Factor) -> Factor:
        """The same factor there."""
        if isinstance(factor, SharedCopies):
            users = tuple(self._start + user for user in factor.users)
            return SharedCopies(self._start + factor.source, users, self._costs(factor.prices))
        scope = tuple(self._start + v for v in factor.scope)
        if isinstance(factor, Agree):
            return Agree(scope, factor.classes)
        return CostTable(scope, self._costs(factor.costs))

    def _costs(self, costs: Costs) -> Costs:
        if self._times == 1:
            return costs
        if id(costs) not in self._made:
            scaled = np.where(costs >= FORBIDDEN, costs, costs * self._times)
            scaled[0, costs[0] >= FORBIDDEN] = FORBIDDEN
            self._made[id(costs)] = scaled
        return self._made[id(costs)]


def _amounts(
    parts: Sequence[Part],
    plans: Sequence[LayoutPlan],
    starts: Sequence[int],
    criterion: Criterion,
) -> tuple[CostTable | SharedCopies, ...]:
    found: list[CostTable | SharedCopies] = []
    for part, plan, start in zip(parts, plans, starts, strict=True):
        scaled = _Scaled(part.times, start)
        for factor in amounts(part.graph, plan.layout, criterion):
            moved = scaled.factor(factor)
            assert not isinstance(moved, Agree)
            found.append(moved)
    return tuple(found)


def _check_possible(
    joint: Problem, kept: Sequence[Limit], budget: Budget, name: str
) -> tuple[int, ...] | None:
    """An assignment within the limits, if one is found that has the least of one of them.

    Raises ``ConflictingLimitsError`` where even the least amount is above its limit.
    """
    found = None
    for limit, flag in zip(kept, budget.flags, strict=True):
        least = solve(_least(joint, limit))
        if least.bound[0] > limit.most:
            raise ConflictingLimitsError(
                f"{name}: no plan keeps {flag}: the least that is possible is {least.bound[0]}",
                Remedy.RAISE_LIMIT,
            )
        if all(each.amount(joint, least.assignment) <= each.most for each in kept):
            found = least.assignment
    return found


def _least(problem: Problem, limit: Limit) -> Problem:
    """The problem with the amount of a limit as its only cost."""
    made: dict[int, Costs] = {}
    factors: list[Factor] = []
    for factor in problem.factors:
        if isinstance(factor, Agree):
            factors.append(factor)
            continue
        costs = factor.prices if isinstance(factor, SharedCopies) else factor.costs
        if id(costs) not in made:
            made[id(costs)] = np.where(costs[:1] >= FORBIDDEN, FORBIDDEN, 0)
        if not made[id(costs)].any():
            continue
        if isinstance(factor, SharedCopies):
            factors.append(SharedCopies(factor.source, factor.users, made[id(costs)]))
        else:
            factors.append(CostTable(factor.scope, made[id(costs)]))
    return Problem(problem.labels, 1, problem.variables, (*factors, *limit.factors))


def _plan_of(
    part: Part, plan: LayoutPlan, joint: Solution, start: int, costs: CostModel, alone: bool
) -> LayoutPlan:
    """The plan of a part in the solution of the whole."""
    problem = plan.layout.problem
    assignment = joint.assignment[start : start + len(problem.variables)]
    cost = problem.cost(assignment)
    assert cost is not None
    if joint.status is Status.OPTIMAL:
        bound = cost
    else:
        bound = joint.bound if alone and part.times == 1 else plan.solution.bound
    solution = replace(
        plan.solution, assignment=assignment, cost=cost, bound=bound, status=joint.status
    )
    return read_plan(part.graph, plan.live, solution, costs, plan.limits)
