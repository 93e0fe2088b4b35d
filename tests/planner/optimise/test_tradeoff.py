"""The points of a trade-off are those that trying everything finds."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from planner.costs.model import CostModel
from planner.errors import NoRepresentationError
from planner.ir.graph import LayoutGraph
from planner.ir.physical import padded_bytes
from planner.ir.representation import REPRS
from planner.kernels.limits import Limits
from planner.optimise.plan import LayoutPlan, plan_graph
from planner.optimise.tradeoff import CRITERIA, copied_bytes, tradeoff
from planner.options import make_options
from planner.pipelines.lowered import replan
from planner.result.tradeoffs import Sum, unbeaten
from tests.planner.optimise.brute_force import graphs
from tests.planner.optimise.test_plan import AnyCosts
from tests.recorded import recorded


def brute(graph: LayoutGraph, chosen: LayoutPlan) -> list[tuple[int, int, int, int]]:
    """Cost, transitions, bytes of copies and peak of every assignment."""
    layout = chosen.layout
    found = []
    for assignment in itertools.product(*(v.domain for v in layout.problem.variables)):
        cost = layout.problem.cost(assignment)
        if cost is None:
            continue
        copied = 0
        for t, (producer, readers) in enumerate(zip(layout.producers, layout.readers, strict=True)):
            if producer is not None:
                tensor = graph.tensors[t]
                needed = {assignment[slot.variable] for slot in readers} - {assignment[producer]}
                copied += sum(padded_bytes(tensor.shape, tensor.dtype, REPRS[r]) for r in needed)
        found.append((cost[0], cost[1], copied, chosen.live.peak(assignment)[0]))
    return found


def best(pairs: set[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for pair in sorted(pairs):
        if not found or pair[1] < found[-1][1]:
            found.append(pair)
    return found


@settings(max_examples=80)
@given(graphs(), st.lists(st.integers(0, 40), min_size=3, max_size=9))
def test_the_points_of_small_graphs(graph: LayoutGraph, prices: list[int]) -> None:
    costs: CostModel = AnyCosts(prices)
    try:
        chosen = plan_graph(graph, Limits(), costs)
    except NoRepresentationError:
        assume(False)
    assume(len(chosen.layout.problem.variables) <= 6)
    every = brute(graph, chosen)
    for place, criterion in enumerate(CRITERIA, 1):
        found = tradeoff(graph, chosen, costs, criterion)
        assert found.is_known and not found.gaps
        expected = best({(one[0], one[place]) for one in every})
        assert [(point.plan.cost, point.amount) for point in found.points] == expected
        for point in found.points:
            plan = point.plan
            counts = len(plan.transitions), copied_bytes(graph, plan), plan.peak_bytes
            assert counts[place - 1] == point.amount


def test_a_program_whose_delegates_are_added_up() -> None:
    planned = replan(recorded("mv2_xs_int8", "random0.pte"), "mv2", make_options("bytes"))
    found = planned.tradeoffs()
    for one in found.tradeoffs:
        assert one.is_complete and one.points[0].objective_cost == (
            planned.report.total.objective_cost
        )
        assert one.points[0].transitions <= planned.report.total.transitions
    assert [one.criterion for one in found.tradeoffs] == list(CRITERIA)


@pytest.mark.parametrize("copies", [1, 3])
def test_points_of_several_delegates(copies: int) -> None:
    """The same delegate again and again: the points of the program are sums of its points."""
    one = [Sum(0, 4, 0, 9), Sum(3, 2, 0, 8), Sum(10, 0, 0, 8)]
    every = [[*chosen] for chosen in itertools.product(one, repeat=copies)]
    sums = {(sum(c.cost for c in each), sum(c.transitions for c in each)) for each in every}
    total = unbeaten([one] * copies, "transitions")
    assert [(a.cost, a.transitions) for a in total] == best(sums)
    # They do not run at once: what counts is the one with the most alive.
    peaks = {(sum(c.cost for c in each), max(c.peak_bytes for c in each)) for each in every}
    total = unbeaten([one] * copies, "memory")
    assert [(a.cost, a.peak_bytes) for a in total] == best(peaks) == [(0, 9), (3 * copies, 8)]
