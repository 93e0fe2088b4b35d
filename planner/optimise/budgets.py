"""Limits of a whole plan: how many transitions it has, the bytes of their copies, and its peak.

They tie all operands together, so elimination alone does not keep them. A plan without them that is
within them is the best. Else elimination keeps one limit of a sum, and an integer program several,
or that of memory; both prove their plans. Delegates share the limits of transitions. They do not
run at once, so each has the limit of memory to itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from time import perf_counter

import numpy as np

from planner.costs.model import CostModel
from planner.errors import ConflictingLimitsError, NoRepresentationError, PlannerError, Remedy
from planner.ir.graph import LayoutGraph, Layouts
from planner.kernels.limits import Budget, Limits
from planner.optimise.conflicts import conflicting
from planner.optimise.peak import Part as LivePart
from planner.optimise.peak import Peaks, cheapest_within, least_peak
from planner.optimise.plan import SEARCH_SECONDS, LayoutPlan, plan_graph, read_plan
from planner.optimise.tradeoff import Summed, amounts, copied_bytes
from schema.frozen import frozen
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
    TooDenseError,
    Variable,
    contradiction,
    least_within,
    solve,
    solve_ilp,
)
from solver.ilp import WORK_LIMIT
from solver.levels import AMOUNTS, with_levels
from solver.problem import Costs, Factor

MOST_QUESTIONS = 100
"""Most sets of limits that are tried to find a smallest conflict: each is planned within."""


@frozen
class Part:
    """A graph of a program, which has it ``times`` times, and the layouts that it came with."""

    graph: LayoutGraph
    given: Layouts | None
    times: int = 1


def plans_within(
    parts: Sequence[Part], limits: Limits, costs: CostModel, name: str = ""
) -> list[LayoutPlan]:
    """The cheapest plans of a program's graphs that are within the limits.

    Raises ``ConflictingLimitsError`` where there are none, with the smallest set of limits that
    cannot hold together, or the least that is possible of one, and as ``plan_graph``;
    ``PlannerError`` where the search finds none in its time.
    """
    try:
        return _plans_within(parts, limits, costs, name)
    except ConflictingLimitsError as error:
        conflict = None
        with suppress(PlannerError):
            conflict = _conflict(parts, limits, costs, name)
        raise conflict or error from error


def _plans_within(
    parts: Sequence[Part], limits: Limits, costs: CostModel, name: str
) -> list[LayoutPlan]:
    plans = [plan_graph(part.graph, limits, costs, part.given) for part in parts]
    budget = limits.budget
    if budget.transitions is None and budget.bytes is None:
        return [
            *(
                _joint_plans([replace(part, times=1)], [plan], budget, costs, place)[0]
                for part, plan in zip(parts, plans, strict=True)
                for place in (name if len(parts) == 1 else f"{name}, {part.graph.name}",)
            )
        ]
    return _joint_plans(parts, plans, budget, costs, name)


def _joint_plans(
    parts: Sequence[Part],
    plans: Sequence[LayoutPlan],
    budget: Budget,
    costs: CostModel,
    name: str,
) -> list[LayoutPlan]:
    if _is_within(parts, plans, budget):
        return list(plans)
    joint = Joint.of(parts, plans, budget)
    deadline = perf_counter() + SEARCH_SECONDS
    start = _check_possible(joint, plans, budget, name, deadline)
    try:
        solution = _least(joint, start, deadline)
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
        for part, plan, begin in zip(parts, plans, joint.starts, strict=True)
    ]


def _least(joint: Joint, start: Sequence[int] | None, deadline: float) -> Solution:
    """The least cost within the limits, which ``start`` is; raises as ``solve_ilp`` does."""
    if joint.most is None and len(joint.limits) == 1:
        # Sooner than an integer program where the graph is not too dense.
        with suppress(TooDenseError):
            return least_within(joint.problem, joint.limits[0])
    seconds = deadline - perf_counter()
    return joint.solve(joint.problem, start, search_seconds=seconds)


@frozen
class Joint:
    """The problem of all parts together, and its limits.

    The variables of each part begin at one of ``starts``. ``peaks`` may be no more than ``most``.
    """

    problem: Problem
    starts: tuple[int, ...]
    limits: tuple[Limit, ...]
    peaks: Peaks
    most: int | None

    @classmethod
    def of(cls, parts: Sequence[Part], plans: Sequence[LayoutPlan], budget: Budget) -> Joint:
        """``plans`` are any plans of the parts: their problems count, not their layouts."""
        problem, starts = _joint(parts, plans)
        wanted: tuple[tuple[Summed, int | None], ...]
        wanted = (("transitions", budget.transitions), ("bytes", budget.bytes))
        limits = tuple(
            Limit(_amounts(parts, plans, starts, criterion), most)
            for criterion, most in wanted
            if most is not None
        )
        alive = [LivePart(plan.live, start) for plan, start in zip(plans, starts, strict=True)]
        peaks = Peaks(problem, alive)
        return cls(problem, tuple(starts), limits, peaks, budget.peak_memory)

    def solve(
        self,
        problem: Problem,
        start: Sequence[int] | None,
        *,
        work_limit: int = WORK_LIMIT,
        search_seconds: float = math.inf,
    ) -> Solution:
        """The least cost of a problem of the same variables within the limits, which ``start`` is.

        Raises as ``solve_ilp`` does.
        """
        if self.most is None:
            return solve_ilp(
                problem,
                self.limits,
                start=start,
                work_limit=work_limit,
                search_seconds=search_seconds,
            )
        return cheapest_within(
            self.peaks,
            problem,
            self.most,
            self.limits,
            start=start,
            work_limit=work_limit,
            search_seconds=search_seconds,
        )

    def holds(self, assignment: Sequence[int]) -> bool:
        """Whether an assignment is within all limits."""
        if any(limit.amount(self.problem, assignment) > limit.most for limit in self.limits):
            return False
        return self.most is None or self.peaks.peak(assignment)[0] <= self.most


def _is_within(parts: Sequence[Part], plans: Sequence[LayoutPlan], budget: Budget) -> bool:
    together = list(zip(parts, plans, strict=True))
    transitions = sum(part.times * len(plan.transitions) for part, plan in together)
    if budget.transitions is not None and transitions > budget.transitions:
        return False
    copied = sum(part.times * copied_bytes(part.graph, plan) for part, plan in together)
    if budget.bytes is not None and copied > budget.bytes:
        return False
    return budget.peak_memory is None or all(
        plan.peak_bytes <= budget.peak_memory for plan in plans
    )


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
    criterion: Summed,
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
    joint: Joint, plans: Sequence[LayoutPlan], budget: Budget, name: str, deadline: float
) -> tuple[int, ...] | None:
    """An assignment within the limits, if one is found that has the least of one of them.

    Raises ``ConflictingLimitsError`` where even the least amount is above its limit.
    """
    found = []
    flags = budget.flags
    for limit, flag in zip(joint.limits, flags, strict=False):
        least = solve(with_levels(joint.problem, [AMOUNTS], limit.factors))
        if least.bound[0] > limit.most:
            raise _impossible(name, flag, least.bound[0])
        found.append(least.assignment)
    if joint.most is not None:
        known = [label for plan in plans for label in plan.solution.assignment]
        seconds = deadline - perf_counter()
        low = least_peak(joint.peaks, (), known, enough=joint.most, search_seconds=seconds)
        if low.bound > joint.most:
            raise _impossible(name, flags[-1], low.bound)
        found.append(low.assignment)
    return next((each for each in reversed(found) if joint.holds(each)), None)


def _impossible(name: str, flag: str, least: int) -> ConflictingLimitsError:
    return ConflictingLimitsError(
        f"{name}: no plan keeps {flag}: the least that is possible is {least}", Remedy.RAISE_LIMIT
    )


def _conflict(
    parts: Sequence[Part], limits: Limits, costs: CostModel, name: str
) -> ConflictingLimitsError | None:
    """The error for a smallest set of limits, restrictions among them, that cannot hold together.

    None for one limit alone. Raises ``PlannerError`` where that is not found out.
    """
    restrictions, budget = limits.restrictions, limits.budget
    fields = [field for field in ("transitions", "bytes", "peak_memory") if _is_set(budget, field)]
    texts = (*map(str, restrictions), *budget.flags)
    if len(texts) == 1:
        return None

    def chosen_of(chosen: Sequence[int]) -> Limits:
        kept = {fields[i - len(restrictions)] for i in chosen if i >= len(restrictions)}
        return replace(
            limits,
            restrictions=tuple(restrictions[i] for i in chosen if i < len(restrictions)),
            budget=replace(budget, **{field: None for field in fields if field not in kept}),
        )

    def holds(chosen: frozenset[int]) -> bool:
        try:
            _plans_within(parts, chosen_of(sorted(chosen)), costs, name)
        except NoRepresentationError:
            return False
        return True

    found = contradiction(len(texts), holds, MOST_QUESTIONS)
    if len(found.conflict) == 1 and found.conflict[0] >= len(restrictions):
        try:
            _plans_within(parts, chosen_of(found.conflict), costs, name)
        except ConflictingLimitsError as error:
            return error
    conflict = tuple(texts[i] for i in found.conflict)
    dropped = tuple(texts[i] for i in found.dropped)
    return conflicting(name, conflict, dropped if found.is_least else ())


def _is_set(budget: Budget, field: str) -> bool:
    return getattr(budget, field) is not None


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
