"""What fewer repacks, repacks of fewer bytes, or less memory at once cost: all plans that nothing
beats in both."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from planner.costs.model import CostModel
from planner.ir.graph import LayoutGraph
from planner.ir.physical import padded_bytes
from planner.ir.representation import REPRS
from planner.optimise.live import bytes_by_label
from planner.optimise.peak import Part, Peaks, peak_front
from planner.optimise.plan import SEARCH_SECONDS, LayoutPlan, read_plan
from planner.optimise.problem import LayoutProblem
from schema import VkDataType
from schema.frozen import frozen
from solver import CostTable, Front, SharedCopies, Status, TooDenseError, level_limit, pareto

Summed = Literal["transitions", "bytes"]
"""The criteria that are sums over transitions."""

SUMMED: Final[tuple[Summed, ...]] = get_args(Summed)

Criterion = Literal["transitions", "bytes", "memory"]
"""What a cost is traded for: the number of transitions, the bytes that their copies take, or the
most bytes of tensors that are alive at once."""

CRITERIA: Final[tuple[Criterion, ...]] = get_args(Criterion)

_TRANSITIONS: Final = 1
"""The level of a layout problem's costs that counts transitions."""


@frozen
class TradeoffPoint:
    """A plan; no other costs as little and has as little of the criterion.

    A point is ``supported`` if it is the best by some weighted sum of the two.
    """

    plan: LayoutPlan
    amount: int
    supported: bool


@frozen
class Tradeoff:
    """All points by rising cost, the chosen plan first.

    There may be more after each of ``gaps``, where the work ended before they were found or ruled
    out. Nothing but the plan is known of a graph that is connected too densely (``is_known``).
    Where not even the first point ``is_proven`` it is the only one: it costs no more than the plan.
    """

    criterion: Criterion
    points: tuple[TradeoffPoint, ...]
    gaps: tuple[int, ...]
    is_known: bool = True
    is_proven: bool = True


def tradeoff(
    graph: LayoutGraph,
    chosen: LayoutPlan,
    costs: CostModel,
    criterion: Criterion,
    search_seconds: float = SEARCH_SECONDS,
) -> Tradeoff:
    """What a graph's plans cost for less of a criterion; ``costs`` are those of the chosen one.

    ``search_seconds`` bounds the search for points that elimination does not find.
    """
    layout = chosen.layout
    chosen_amount = amount_of(graph, chosen, criterion)
    try:
        front = _front(graph, chosen, criterion, search_seconds)
    except TooDenseError:
        return Tradeoff(criterion, (TradeoffPoint(chosen, chosen_amount, True),), (), False, False)
    points = []
    for point in front.points:
        cost = layout.problem.cost(point.assignment)
        assert cost is not None
        if (cost[0], point.amount) == (chosen.cost, chosen_amount):
            points.append(TradeoffPoint(chosen, point.amount, point.supported))
            continue
        solution = replace(
            chosen.solution,
            assignment=point.assignment,
            cost=cost,
            bound=min(cost, chosen.solution.bound),
            status=Status.FEASIBLE,
        )
        plan = read_plan(graph, chosen.live, solution, costs, chosen.limits)
        points.append(TradeoffPoint(plan, point.amount, point.supported))
    return Tradeoff(criterion, tuple(points), front.gaps, is_proven=front.is_proven)


def _front(
    graph: LayoutGraph, chosen: LayoutPlan, criterion: Criterion, search_seconds: float
) -> Front:
    """The points; raises ``TooDenseError`` where elimination leaves a core."""
    problem = chosen.layout.problem
    if criterion != "memory":
        wanted = amounts(graph, chosen.layout, criterion)
        return pareto(problem, wanted, search_seconds=search_seconds)
    if chosen.solution.statistics.core:
        raise TooDenseError("the problem is too dense for its optimum to be proven at each point")
    return peak_front(
        Peaks(problem, [Part(chosen.live)]),
        chosen.solution.assignment,
        then=[_TRANSITIONS],
        search_seconds=search_seconds,
    )


def amount_of(graph: LayoutGraph, plan: LayoutPlan, criterion: Criterion) -> int:
    """What a plan has of a criterion."""
    if criterion == "memory":
        return plan.peak_bytes
    return len(plan.transitions) if criterion == "transitions" else copied_bytes(graph, plan)


def copied_bytes(graph: LayoutGraph, plan: LayoutPlan) -> int:
    """The bytes that the copies of a plan's transitions take in memory, padding included."""
    tensors = graph.tensors
    return sum(
        padded_bytes(tensors[t.tensor].shape, tensors[t.tensor].dtype, t.target)
        for t in plan.transitions
    )


def amounts(
    graph: LayoutGraph, layout: LayoutProblem, criterion: Summed
) -> tuple[CostTable | SharedCopies, ...]:
    """The criterion as factors over the variables of the layout problem."""
    if criterion == "transitions":
        return level_limit(layout.problem, _TRANSITIONS, 0).factors
    prices: dict[tuple[tuple[int, ...], VkDataType], NDArray[np.int64]] = {}
    factors = []
    for t, (producer, readers) in enumerate(zip(layout.producers, layout.readers, strict=True)):
        if producer is None or not readers:
            continue
        key = graph.tensors[t].shape, graph.tensors[t].dtype
        if key not in prices:
            row = bytes_by_label(*key)[: len(REPRS)]
            prices[key] = np.tile(np.array(row, np.int64), (1, len(REPRS), 1))
        users = tuple(slot.variable for slot in readers)
        factors.append(SharedCopies(producer, users, prices[key]))
    return tuple(factors)
