"""Plans a graph's layouts: the problem is built, solved, and read back as representations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import field, replace
from typing import Final

from planner.costs.model import CostModel, Price, PricedOperand, transition_price
from planner.errors import InputError, NoRepresentationError, PlannerError, Remedy
from planner.ir.graph import LayoutGraph, Layouts, Operand
from planner.ir.representation import REPRS, TensorRepr
from planner.kernels.faults import Faults
from planner.kernels.limits import Limits
from planner.optimise.constraints import lacks_texture
from planner.optimise.free import live_sets
from planner.optimise.live import LiveSets
from planner.optimise.problem import LayoutProblem, build_problem, describe_variable
from planner.optimise.slots import NO_LABEL, Slots, labels_of
from planner.optimise.ties import with_least_peak
from planner.stopwatch import stage
from schema import CostOrigin
from schema.frozen import frozen
from solver import (
    InfeasibleError,
    NoSolutionFoundError,
    ProblemError,
    Solution,
    Status,
    solve,
)

SEARCH_TIME: Final = 3.0
"""Deterministic time to search the rest after exact reductions; real graphs leave no rest."""

SEARCH_SECONDS: Final = 20.0
"""The limit of a search in wall-clock seconds: several times what ``SEARCH_TIME`` takes."""

_NAMED_OPERANDS: Final = 4


@frozen
class Transition:
    """A repack: ``tensor`` is copied from ``source`` to ``target`` once, for all its ``users``.

    ``cost`` is in integer steps of the profile's unit.
    """

    tensor: int
    source: TensorRepr
    target: TensorRepr
    cost: int
    users: tuple[Operand, ...]
    origin: CostOrigin


@frozen
class OperatorPrice:
    """The cost of an operator, by its index in the graph, in the representations of a plan.

    ``cost`` is in integer steps of the profile's unit.
    """

    operator: int
    cost: int
    origin: CostOrigin


@frozen
class LayoutPlan:
    """Representations for a whole graph within ``limits``, and the proof of their cost.

    ``made[t]`` is the representation in which tensor ``t`` is made; None if it needs none. Costs
    are integer steps of the profile's unit: ``cost`` is the objective's, ``repack_cost`` that of
    the transitions alone; ``bound`` is a proven lower bound of ``cost``. ``operators`` is empty if
    the objective does not count operators.
    """

    made: tuple[TensorRepr | None, ...]
    transitions: tuple[Transition, ...]
    operators: tuple[OperatorPrice, ...]
    cost: int
    bound: int
    status: Status
    limits: Limits = field(repr=False)
    layout: LayoutProblem = field(repr=False)
    live: LiveSets = field(repr=False)
    solution: Solution = field(repr=False)

    @property
    def repack_cost(self) -> int:
        """The cost of all transitions, in integer steps."""
        return sum(t.cost for t in self.transitions)

    @property
    def peak_bytes(self) -> int:
        """The most bytes of tensors that are alive at once, by ``planner.optimise.live``."""
        return self.live.peak(self.solution.assignment)[0]


def plan_graph(
    graph: LayoutGraph,
    limits: Limits,
    costs: CostModel,
    given: Layouts | None = None,
    *,
    search_time: float = SEARCH_TIME,
    search_seconds: float = SEARCH_SECONDS,
) -> LayoutPlan:
    """The cheapest representations for a graph; of several, those nearest to the ``given`` ones.

    Of plans with equally many transitions, and textures in the same places, one is nearer only if
    it has no more bytes alive at once.

    Exact reductions solve real models. Any rest goes to a search of at most ``search_time`` units
    of deterministic time (about a second each). If that ends without a proof, the plan is the best
    that was found, with status ``FEASIBLE`` and a proven bound; it is the ``given`` one unless the
    limits rule that out or a better one was found. ``search_seconds`` bounds the wait
    in wall-clock time; the deterministic limit should be reached first, so that a graph has the
    same plan on every machine.

    Kernels with known faults are avoided, before textures are preferred. Where no plan avoids them
    all, each operator by itself having a way to, none is. Raises ``NoRepresentationError`` where
    the limits leave no plan, ``ConflictingLimitsError`` where those of the user alone do,
    ``InputError`` for tensors that are too large to be priced,
    ``PlannerError`` where the search finds no plan in its time.
    """
    for faults, textures_first in _wishes(graph, limits.faults):
        wanted = replace(graph, textures_first=textures_first)
        within = replace(limits, faults=faults)
        with suppress(NoRepresentationError, _NoPlanFoundError):
            return _plan_graph(wanted, within, costs, given, search_time, search_seconds)
    within = replace(limits, faults=Faults())
    try:
        return _plan_graph(graph, within, costs, given, search_time, search_seconds)
    except NoRepresentationError as error:
        from planner.optimise.conflicts import conflict_of

        conflict = conflict_of(graph, within, costs) if limits.restrictions else None
        raise conflict or error from error


class _NoPlanFoundError(PlannerError):
    """The search found no plan in its time; there may be one."""


def _wishes(graph: LayoutGraph, faults: Faults) -> Iterator[tuple[Faults, bool]]:
    """Faults to avoid, and whether textures come first: what a plan should keep, best first.

    The faults; then less those of any operator, which reach furthest.
    """
    for wanted in (faults,) if faults.named is faults else (faults, faults.named):
        if wanted.rows:
            yield from ((wanted, first) for first in dict.fromkeys((graph.textures_first, False)))


def _plan_graph(
    graph: LayoutGraph,
    limits: Limits,
    costs: CostModel,
    given: Layouts | None,
    search_time: float,
    search_seconds: float,
) -> LayoutPlan:
    with stage("build"):
        layout = build_problem(graph, limits, costs, given)
    try:
        with stage("solve"):
            solution = solve(
                layout.problem,
                time_limit=search_time,
                search_seconds=search_seconds,
                start=None if given is None else assignment_of(layout, given),
            )
    except NoSolutionFoundError as error:
        raise _NoPlanFoundError(
            "the search found no plan in its time: the graph is connected too densely for exact "
            "reductions"
        ) from error
    except ProblemError as error:
        raise InputError(
            f"the tensors are too large for their prices to be added exactly: {error}"
        ) from error
    except InfeasibleError as error:
        raise _conflict(graph, layout, limits, error) from error
    with stage("solve"):
        live = live_sets(graph, layout, limits, given)
        if solution.status is Status.OPTIMAL and not solution.statistics.core:
            solution = with_least_peak(live, solution)
    return read_plan(graph, live, solution, costs, limits)


def assignment_of(layout: LayoutProblem, given: Layouts) -> list[int]:
    """The labels of given layouts, no label where they have none."""
    made = labels_of(given).tolist()
    chosen = [NO_LABEL] * len(layout.problem.variables)
    for t, producer in enumerate(layout.producers):
        if producer is not None:
            chosen[producer] = made[t]
    chosen[: len(layout.slots)] = layout.slots.labels(given).tolist()
    return chosen


def _conflict(
    graph: LayoutGraph, layout: LayoutProblem, limits: Limits, error: InfeasibleError
) -> NoRepresentationError:
    involved = [describe_variable(graph, layout, v) for v in error.variables[:_NAMED_OPERANDS]]
    remedies = []
    if limits.excluded_layouts:
        remedies.append(Remedy.EXCLUDE_FEWER_LAYOUTS)
    if limits.restrictions:
        remedies.append(Remedy.DROP_LIMITS)
    if any(lacks_texture(tensor, limits) for tensor in graph.tensors):
        remedies.append(Remedy.RAISE_TEXTURE_LIMITS)
    if limits.buffer is not None:
        remedies.append(Remedy.RAISE_BUFFER_LIMIT)
    return NoRepresentationError(
        (f"{graph.name}: " if graph.name else "")
        + "no layouts satisfy all operators at once"
        + (f" ({'; '.join(dict.fromkeys(involved))})" if involved else ""),
        *(remedies or [Remedy.KEEP_OUT_OF_DELEGATE]),
    )


def read_plan(
    graph: LayoutGraph,
    live: LiveSets,
    solution: Solution,
    costs: CostModel,
    limits: Limits,
) -> LayoutPlan:
    """The plan of a solution of the layout problem of a graph's live sets, built within limits."""
    layout, assignment = live.layout, solution.assignment
    made: list[TensorRepr | None] = []
    transitions: list[Transition] = []
    for t, (producer, readers) in enumerate(
        zip(layout.producers, layout.readers.each(), strict=True)
    ):
        if producer is None:
            made.append(REPRS[assignment[readers[0]]] if readers else None)
            continue
        source = assignment[producer]
        made.append(REPRS[source])
        users: dict[int, list[Operand]] = {}
        for v in readers:
            label = assignment[v]
            if label != source:
                slot = layout.slots[v]
                users.setdefault(label, []).append(Operand(slot.operator, slot.index))
        for label, operands in users.items():
            pair = REPRS[source], REPRS[label]
            price = transition_price(costs, graph.tensors[t], *pair)
            transitions.append(Transition(t, *pair, price.cost, tuple(operands), price.origin))
    transitions.sort(key=lambda x: (x.users[0].operator, x.users[0].argument, x.tensor))
    return LayoutPlan(
        made=tuple(made),
        transitions=tuple(transitions),
        operators=tuple(
            operator_prices(graph, layout.slots, costs, assignment[: len(layout.slots)])
        ),
        cost=solution.cost[0],
        bound=solution.bound[0],
        status=solution.status,
        limits=limits,
        layout=layout,
        live=live,
        solution=solution,
    )


def operator_prices(
    graph: LayoutGraph, slots: Slots, costs: CostModel, labels: Sequence[int]
) -> Iterator[OperatorPrice]:
    """The costs of the operators themselves, without transitions, by the labels of their slots.

    Pinned operators and slots without a label cost nothing. There are no prices if the objective
    does not count operators.
    """
    known: dict[tuple[int, ...], Price | None] = {}
    alike = graph.alike.tolist()
    for index, start, end in slots.bounds():
        if index in graph.pinned:
            continue
        # What is alike costs as much.
        key = (alike[index], *labels[start:end])
        if key not in known:
            operands = [
                slot.priced((labels[slot.variable],))
                for slot in slots[start:end]
                if labels[slot.variable] != NO_LABEL
            ]
            known[key] = _operator_price(graph, index, operands, costs)
        price = known[key]
        if price is not None:
            yield OperatorPrice(index, price.cost, price.origin)


def _operator_price(
    graph: LayoutGraph, index: int, operands: Sequence[PricedOperand], costs: CostModel
) -> Price | None:
    operator = graph.operators[index]
    tables = [table for _, table in costs.operator(operator, graph.tensors, operands)]
    if not tables:
        return None
    origin = costs.operator_origin(operator, graph.tensors, operands)
    return Price(sum(int(table.sum()) for table in tables), origin)
