"""Plans within limits of a whole plan are the best that keep them."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from planner.costs.by_profile import ProfileCosts
from planner.costs.profile_file import load_profile
from planner.errors import ConflictingLimitsError, NoRepresentationError
from planner.ir.graph import LayoutGraph, Layouts
from planner.ir.physical import padded_bytes
from planner.kernels.limits import Budget, Limits
from planner.optimise.budgets import Part, plans_within
from planner.optimise.plan import LayoutPlan, read_plan
from solver import Solution, Status
from tests.planner.optimise.brute_force import graphs

COSTS = ProfileCosts(load_profile("bytes"), "repack")


def copied(graph: LayoutGraph, plan: LayoutPlan) -> int:
    tensors = graph.tensors
    return sum(
        padded_bytes(tensors[t.tensor].shape, tensors[t.tensor].dtype, t.target)
        for t in plan.transitions
    )


def every_plan(graph: LayoutGraph) -> list[tuple[int, int, int, int]]:
    """Cost, transitions, bytes and peak of each assignment of a graph's problem that is allowed."""
    (plan,) = plans_within([Part(graph, None)], Limits(), COSTS)
    problem, found = plan.layout.problem, set()
    chosen: list[int] = []

    def extend() -> None:
        if len(chosen) < len(problem.variables):
            for label in problem.variables[len(chosen)].domain:
                chosen.append(label)
                extend()
                chosen.pop()
            return
        cost = problem.cost(chosen)
        if cost is not None:
            solution = Solution(
                tuple(chosen), cost, cost, Status.FEASIBLE, plan.solution.statistics
            )
            read = read_plan(graph, plan.live, solution, COSTS, plan.limits)
            found.add((cost[0], len(read.transitions), copied(graph, read), read.peak_bytes))

    size = 1
    for variable in problem.variables:
        size *= len(variable.domain)
    assume(size <= 2000)
    extend()
    return sorted(found)


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(graphs(), min_size=1, max_size=2), st.integers(1, 2), st.data())
def test_plans_are_the_best_within_the_budget(
    drawn: list[LayoutGraph], times: int, data: st.DataObject
) -> None:
    parts = [Part(drawn[0], Layouts([None] * len(drawn[0].tensors), ()), times)]
    parts += [Part(graph, None) for graph in drawn[1:]]
    try:
        choices = [every_plan(part.graph) for part in parts]
    except NoRepresentationError:
        return
    together = [(0, 0, 0, 0)]
    for part, own in zip(parts, choices, strict=True):
        together = sorted(
            {
                (a + part.times * x, b + part.times * y, c + part.times * z, max(d, peak))
                for a, b, c, d in together
                for x, y, z, peak in own
            }
        )
    transitions = data.draw(st.none() | st.sampled_from([b for _, b, _, _ in together]))
    most = data.draw(st.none() | st.sampled_from([c for _, _, c, _ in together]))
    peak = data.draw(st.none() | st.sampled_from([d for _, _, _, d in together]))
    if data.draw(st.booleans()) and transitions:
        transitions -= 1
    if data.draw(st.booleans()) and peak:
        peak -= 1
    inside = [
        cost
        for cost, b, c, d in together
        if (transitions is None or b <= transitions)
        and (most is None or c <= most)
        and (peak is None or d <= peak)
    ]
    limits = Limits(budget=Budget(transitions, most, peak))
    try:
        plans = plans_within(parts, limits, COSTS, "x")
    except ConflictingLimitsError as error:
        assert not inside
        for number, (option, limit) in enumerate(
            [("transitions", transitions), ("transition-bytes", most), ("peak-memory", peak)], 1
        ):
            least = min(plan[number] for plan in together)
            text = f"no plan keeps --max-{option} {limit}: the least that is possible is {least}"
            assert (text in error.what) <= (limit is not None and least > limit)
        assert "together" in error.what or "the least" in error.what
        return
    pairs = list(zip(parts, plans, strict=True))
    assert sum(part.times * plan.cost for part, plan in pairs) == min(inside)
    assert all(plan.status is Status.OPTIMAL and plan.bound == plan.cost for plan in plans)
    found = sum(part.times * len(plan.transitions) for part, plan in pairs)
    assert transitions is None or found <= transitions
    size = sum(part.times * copied(part.graph, plan) for part, plan in pairs)
    assert most is None or size <= most
    assert peak is None or all(plan.peak_bytes <= peak for plan in plans)
