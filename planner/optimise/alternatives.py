"""The best plans of a graph after the one that was chosen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from planner.costs.model import CostModel
from planner.ir.graph import LayoutGraph
from planner.ir.representation import REPRS, TensorRepr
from planner.optimise.plan import SEARCH_SECONDS, SEARCH_TIME, LayoutPlan, read_plan
from planner.optimise.problem import LayoutProblem
from planner.optimise.slots import Slot
from schema.frozen import frozen
from solver import Status, ranked


@frozen
class Alternative:
    """Another plan of a graph; ``is_proven`` if all that are left out before it cost more."""

    plan: LayoutPlan
    is_proven: bool


@frozen
class Difference:
    """An operand, or a tensor where it is made, that has another representation."""

    tensor: int
    slot: Slot | None
    """The operand; None where the tensor is made and no operator says how."""
    chosen: TensorRepr
    alternative: TensorRepr


def alternatives(graph: LayoutGraph, chosen: LayoutPlan, costs: CostModel) -> Iterator[Alternative]:
    """All plans of a graph that differ from the chosen one in a representation, the best first.

    They are compared as plans are: by cost, then by the number of transitions, then by how near
    they are to what the program has, but not by what is alive at once. Raises ``TooDenseError`` for
    a graph that is connected too densely to rank its plans.
    """
    layout = chosen.layout
    operands = [variable for variable, _, _ in _represented(layout)]
    taken = [chosen.solution.assignment[v] for v in operands]
    every = ranked(layout.problem, operands, time_limit=SEARCH_TIME, search_seconds=SEARCH_SECONDS)
    for found in every:
        if [found.assignment[v] for v in operands] == taken:
            continue
        is_as_good = found.cost[:2] == chosen.solution.cost[:2] and chosen.status is Status.OPTIMAL
        solution = replace(
            chosen.solution,
            assignment=found.assignment,
            cost=found.cost,
            bound=min(found.cost, chosen.solution.bound),
            status=Status.OPTIMAL if is_as_good else Status.FEASIBLE,
        )
        plan = read_plan(graph, chosen.live, solution, costs, chosen.limits)
        yield Alternative(plan, found.status is Status.OPTIMAL)


def differences(chosen: LayoutPlan, other: LayoutPlan) -> list[Difference]:
    """What has another representation in another plan of the same graph."""
    mine, theirs = chosen.solution.assignment, other.solution.assignment
    return [
        Difference(tensor, slot, REPRS[mine[variable]], REPRS[theirs[variable]])
        for variable, tensor, slot in _represented(chosen.layout)
        if mine[variable] != theirs[variable]
    ]


def _represented(layout: LayoutProblem) -> Iterator[tuple[int, int, Slot | None]]:
    """Each variable that stands for a representation, with its tensor and its operand."""
    of_slots = {slot.variable for slot in layout.slots}
    for tensor, producer in enumerate(layout.producers):
        if producer is not None and producer not in of_slots:
            yield producer, tensor, None
    for slot in layout.slots:
        yield slot.variable, slot.tensors[0], slot
