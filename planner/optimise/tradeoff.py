"""What fewer repacks, or repacks of fewer bytes, cost: all plans that nothing beats in both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from planner.costs.model import CostModel
from planner.ir.graph import LayoutGraph
from planner.ir.physical import MAX_TEXTURE_DIMS, padded_bytes
from planner.ir.representation import REPRS
from planner.optimise.plan import LayoutPlan, read_plan
from planner.optimise.problem import LayoutProblem
from schema import VkDataType
from solver import CostTable, SharedCopies, Status, TooDenseError, level_limit, pareto

Criterion = Literal["transitions", "bytes"]
"""What a cost is traded for: the number of transitions, or the bytes that their copies take."""

CRITERIA: Final[tuple[Criterion, ...]] = get_args(Criterion)

_TRANSITIONS: Final = 1
"""The level of a layout problem's costs that counts transitions."""


@dataclass(frozen=True, slots=True)
class TradeoffPoint:
    """A plan; no other costs as little and has as little of the criterion.

    A point is ``supported`` if it is the best by some weighted sum of the two.
    """

    plan: LayoutPlan
    amount: int
    supported: bool


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """All points by rising cost, the chosen plan first.

    There may be more after each of ``gaps``, where the work ended before they were found or ruled
    out. Nothing but the plan is known of a graph that is connected too densely (``is_known``).
    """

    criterion: Criterion
    points: tuple[TradeoffPoint, ...]
    gaps: tuple[int, ...]
    is_known: bool = True


def tradeoff(
    graph: LayoutGraph, chosen: LayoutPlan, costs: CostModel, criterion: Criterion
) -> Tradeoff:
    """What a graph's plans cost for less of a criterion; ``costs`` are those of the chosen one."""
    layout = chosen.layout
    wanted = amounts(graph, layout, criterion)
    try:
        front = pareto(layout.problem, wanted)
    except TooDenseError:
        amount = sum(_amount(graph, chosen, criterion))
        return Tradeoff(criterion, (TradeoffPoint(chosen, amount, True),), (), False)
    points = []
    for point in front.points:
        cost = layout.problem.cost(point.assignment)
        assert cost is not None
        if (cost[0], point.amount) == (chosen.cost, sum(_amount(graph, chosen, criterion))):
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
    return Tradeoff(criterion, tuple(points), front.gaps)


def copied_bytes(graph: LayoutGraph, plan: LayoutPlan) -> int:
    """The bytes that the copies of a plan's transitions take in memory, padding included."""
    return sum(_amount(graph, plan, "bytes"))


def _amount(graph: LayoutGraph, plan: LayoutPlan, criterion: Criterion) -> list[int]:
    """What each transition of a plan adds to the criterion."""
    if criterion == "transitions":
        return [1] * len(plan.transitions)
    tensors = graph.tensors
    return [
        padded_bytes(tensors[t.tensor].shape, tensors[t.tensor].dtype, t.target)
        for t in plan.transitions
    ]


def amounts(
    graph: LayoutGraph, layout: LayoutProblem, criterion: Criterion
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
            row = [_bytes(*key, label) for label in range(len(REPRS))]
            prices[key] = np.tile(np.array(row, np.int64), (1, len(REPRS), 1))
        users = tuple(slot.variable for slot in readers)
        factors.append(SharedCopies(producer, users, prices[key]))
    return tuple(factors)


def _bytes(shape: tuple[int, ...], dtype: VkDataType, label: int) -> int:
    """Bytes of a copy; 0 for a representation that the tensor cannot have."""
    representation = REPRS[label]
    if not representation.is_buffer and len(shape) > MAX_TEXTURE_DIMS:
        return 0
    return padded_bytes(shape, dtype, representation)
