"""The planned program: delegates' plans put together for the flatbuffer."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING, Literal, TypeVar, overload

import planner
from planner.costs.model import CostModel, transition_price
from planner.costs.profile import DeviceProfile
from planner.ir.graph import LayoutGraph, Layouts
from planner.ir.representation import TensorRepr
from planner.kernels.faults import Faults, met_faults
from planner.kernels.limits import Limits
from planner.optimise.plan import LayoutPlan, operator_prices
from planner.optimise.plan import Transition as PlannedTransition
from planner.optimise.slots import Slots
from planner.options import PlanOptions
from planner.vkgraph.places import WrittenPlaces
from schema import (
    BaselineTensor,
    DelegatePlan,
    Figures,
    Method,
    OperatorCost,
    PlannedProgram,
    Repack,
    Status,
    TensorPlan,
    Transition,
    TransitionUser,
    VkMemoryLayout,
    VkStorageType,
    VkTensor,
)
from schema.frozen import frozen
from schema.vkgraph import VkGraph
from solver import Status as SolverStatus

if TYPE_CHECKING:
    from planner.optimise.alternatives import Difference

T = TypeVar("T")

ProgramKind = Literal["pt2", "pte", "vkgraph"]
"""What a program was handed in as."""

TensorNames = Mapping[str, Mapping[int, str]]
"""Names of tensors by value id, for each graph by the SHA-256 of its flatbuffer."""


@frozen
class Baseline:
    """The alternative on the same graph; costs in integer steps of the profile's unit.

    ``made`` has the representation of each tensor, ``repacks`` are in the order in which they run,
    and ``operator_cost`` is what the objective counts beyond them.
    """

    made: tuple[TensorRepr | None, ...]
    repacks: tuple[PlannedTransition, ...]
    operator_cost: int
    seconds: float

    @classmethod
    def of(
        cls,
        layouts: Layouts,
        graph: LayoutGraph,
        slots: Slots,
        costs: CostModel,
        seconds: float,
    ) -> Baseline:
        """What layouts of a graph cost; ``slots`` are the operands that cost something."""
        repacks = []
        for found in layouts.repacks:
            made, target = found.source, found.target
            price = transition_price(costs, graph.tensors[found.tensor], made, target)
            users = tuple(found.users)
            repacks.append(
                PlannedTransition(found.tensor, made, target, price.cost, users, price.origin)
            )
        prices = operator_prices(graph, slots, costs, slots.labels(layouts).tolist())
        operator_cost = sum(price.cost for price in prices)
        return cls(layouts.made, tuple(repacks), operator_cost, seconds)

    @property
    def repack_cost(self) -> int:
        """Cost of all repacks."""
        return sum(repack.cost for repack in self.repacks)

    @property
    def cost(self) -> int:
        """Cost under the objective."""
        return self.repack_cost + self.operator_cost


@frozen
class MemoryFigures:
    """Bytes that the tensors of a graph take together, and with ExecuTorch's greedy planner; and
    the most that are alive at once."""

    planned: int
    greedy: int
    peak: int


@frozen
class AlternativeResult:
    """Another plan of a delegate, written and checked as the one that was chosen.

    It is proven if every plan that is not listed before it costs as much or more.
    """

    plan: DelegatePlan
    layout_plan: LayoutPlan = field(repr=False)
    is_proven: bool
    differences: tuple[Difference, ...] = field(repr=False)


@frozen
class DelegateResult:
    """A planned delegate, and how long it took. Seconds are wall-clock."""

    plan: DelegatePlan
    graph: LayoutGraph = field(repr=False)
    layout_plan: LayoutPlan = field(repr=False)
    plan_seconds: float
    baseline_seconds: float
    verify_seconds: float
    places: WrittenPlaces = field(repr=False)
    pinned_operators: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    mended: tuple[str, ...] = ()
    memory: MemoryFigures | None = None
    alternatives: tuple[AlternativeResult, ...] = ()

    def again(self, index: int) -> DelegateResult:
        """The result for another delegate with the same graph, which cost no time."""
        plan = replace(self.plan, index=index, name=f"delegate {index}")
        return replace(self, plan=plan, plan_seconds=0.0, baseline_seconds=0.0, verify_seconds=0.0)

    @property
    def operators(self) -> int:
        """Operators before planning."""
        return len(self.graph.operators)

    @property
    def width(self) -> int:
        """Treewidth of the order in which the solver eliminated the problem's variables."""
        return self.layout_plan.solution.statistics.width


Progress = Callable[[str, DelegateResult | None], None]
"""Called with the name of a stage as it begins, and with each delegate as it is finished."""


@frozen
class Source:
    """The program that was handed in."""

    name: str
    sha256: str

    @classmethod
    def of(cls, name: str, data: bytes) -> Source:
        """The source with these bytes."""
        return cls(name, hashlib.sha256(data).hexdigest())


@frozen
class Exported:
    """What a lowered program was exported as, and what is known from lowering it.

    ``baseline_seconds`` is how long ExecuTorch's own layout pass took for each graph. Graphs are
    known by the SHA-256 of their flatbuffers, as in ``names``. ``on_cpu`` are the operators that
    only the limits kept off the GPU.
    """

    source: Source
    names: TensorNames
    lowering_seconds: float = 0.0
    baseline_seconds: Mapping[str, float] = field(default_factory=dict)
    on_cpu: tuple[str, ...] = ()


def faults_of(
    graph: LayoutGraph, plan: LayoutPlan, baseline: Baseline, faults: Faults
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Warnings of the known faults of a plan, and the faults that the alternative alone has."""

    def met(made: Sequence[TensorRepr | None], repacks: Sequence[PlannedTransition]) -> list[str]:
        return [
            f"{graph.place_of(m.operator)}: {m.fault.effect} in {m.representation} "
            f"({m.fault.source})"
            for m in met_faults(graph, faults, Layouts(made, repacks))
        ]

    now, before = met(plan.made, plan.transitions), met(baseline.made, baseline.repacks)
    mended = tuple(text for text in before if text not in now)
    return tuple(f"{text}, and no other representation is right" for text in now), mended


_Parts = tuple[VkStorageType, VkMemoryLayout]


class _OnDemand(Sequence[T]):
    """What is said of each of some values: made when it is asked for, and not kept.

    Of every tensor of a large graph that would be more than the graph.
    """

    def __init__(
        self, described: Iterable[tuple[int, _Parts]], make: Callable[[int, _Parts], T]
    ) -> None:
        known: dict[_Parts, _Parts] = {}
        self._values, self._parts, self._make = array("I"), list[_Parts](), make
        for value_id, parts in described:
            self._values.append(value_id)
            self._parts.append(known.setdefault(parts, parts))

    def __len__(self) -> int:
        return len(self._values)

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[T]: ...
    def __getitem__(self, at: int | slice) -> T | Sequence[T]:
        if isinstance(at, slice):
            return tuple([self[i] for i in range(len(self))[at]])
        return self._make(self._values[at], self._parts[at])

    def __iter__(self) -> Iterator[T]:
        return map(self._make, self._values, self._parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))


def describe_delegate(
    index: int,
    graph: bytes,
    written: VkGraph,
    plan: LayoutPlan,
    places: WrittenPlaces,
    name_of: Callable[[int], str],
    baseline: Baseline,
    profile: DeviceProfile,
) -> DelegatePlan:
    """What was planned for a delegate, in terms of the graph as it was ``written``.

    ``graph`` are the flatbuffer bytes of ``written``; ``name_of`` answers with a value's name,
    empty for none.
    """
    transitions = tuple(
        _describe_transition(t, places, copy, clone, written, profile)
        for t, copy, clone in zip(plan.transitions, places.copies, places.clones, strict=True)
    )
    tensors = _OnDemand(
        (
            (value_id, (value.storage_type, value.memory_layout))
            for value_id, value in enumerate(written.values)
            if isinstance(value, VkTensor) and value.storage_type != VkStorageType.DEFAULT_STORAGE
        ),
        lambda value_id, parts: TensorPlan(value_id, name_of(value_id), *parts),
    )
    units = profile.in_units
    return DelegatePlan(
        index=index,
        name=f"delegate {index}",
        graph=graph,
        tensors=tensors,
        transitions=transitions,
        figures=Figures(
            repack_cost=units(plan.repack_cost),
            objective_cost=units(plan.cost),
            bound=units(plan.bound),
            status=Status.OPTIMAL if plan.status is SolverStatus.OPTIMAL else Status.FEASIBLE,
            transitions=len(plan.transitions),
            baseline_repack_cost=units(baseline.repack_cost),
            baseline_objective_cost=units(baseline.cost),
            baseline_transitions=len(baseline.repacks),
        ),
        baseline_repacks=tuple(
            _describe_repack(repack, places, written, profile) for repack in baseline.repacks
        ),
        baseline_tensors=_OnDemand(
            (
                (places.tensors[t], (made.storage_type, made.memory_layout))
                for t, made in enumerate(baseline.made)
                if made is not None and places.tensors[t] >= 0
            ),
            lambda value_id, parts: BaselineTensor(value_id, *parts),
        ),
        operator_costs=tuple(
            OperatorCost(places.operators[price.operator], units(price.cost), price.origin)
            for price in plan.operators
        ),
        method=Method.SEARCH if plan.solution.statistics.core else Method.ELIMINATION,
        core=plan.solution.statistics.core,
        cost_by_level=plan.solution.cost,
        bound_by_level=plan.solution.bound,
    )


def _describe_transition(
    transition: PlannedTransition,
    places: WrittenPlaces,
    copy: int,
    clone: int,
    written: VkGraph,
    profile: DeviceProfile,
) -> Transition:
    return Transition(
        source=places.tensors[transition.tensor],
        output=copy,
        operator_index=clone,
        from_storage=transition.source.storage_type,
        from_layout=transition.source.memory_layout,
        to_storage=transition.target.storage_type,
        to_layout=transition.target.memory_layout,
        cost=profile.in_units(transition.cost),
        users=_describe_users(transition, places, written),
        origin=transition.origin,
    )


def _describe_repack(
    repack: PlannedTransition, places: WrittenPlaces, written: VkGraph, profile: DeviceProfile
) -> Repack:
    """A transition of the alternative, which is not in the graph as it was ``written``."""
    source = places.tensors[repack.tensor]
    tensor = written.values[source]
    assert isinstance(tensor, VkTensor)
    return Repack(
        sizes=tensor.dims,
        datatype=tensor.datatype,
        from_storage=repack.source.storage_type,
        from_layout=repack.source.memory_layout,
        to_storage=repack.target.storage_type,
        to_layout=repack.target.memory_layout,
        cost=profile.in_units(repack.cost),
        origin=repack.origin,
        source=source,
        users=_describe_users(repack, places, written),
    )


def _describe_users(
    transition: PlannedTransition, places: WrittenPlaces, written: VkGraph
) -> tuple[TransitionUser, ...]:
    positions = ((places.operators[user.operator], user.argument) for user in transition.users)
    return tuple(
        TransitionUser(position, written.chain[position].name, argument)
        for position, argument in positions
    )


def assemble(
    source: Source,
    delegates: Sequence[DelegateResult],
    options: PlanOptions,
    limits: Limits,
) -> PlannedProgram:
    """The planned program of all delegates."""
    return PlannedProgram(
        planner_version=planner.__version__,
        source_name=source.name,
        source_sha256=source.sha256,
        profile_name=options.costs.name,
        profile_hash=options.costs.digest,
        cost_unit=options.profile.unit,
        objective=options.objective,
        texture_limits=limits.texture,
        excluded_layouts=tuple(sorted(options.excluded_layouts)),
        delegates=tuple(d.plan for d in delegates),
        total=_total([d.plan.figures for d in delegates]),
        runtime=str(limits.runtime),
        limits=options.wanted,
    )


def _total(figures: Sequence[Figures]) -> Figures:
    optimal = all(f.status == Status.OPTIMAL for f in figures)
    return Figures(
        repack_cost=_sum([f.repack_cost for f in figures]),
        objective_cost=_sum([f.objective_cost for f in figures]),
        bound=_sum([f.bound for f in figures]),
        status=Status.OPTIMAL if optimal else Status.FEASIBLE,
        transitions=sum(f.transitions for f in figures),
        baseline_repack_cost=_sum([f.baseline_repack_cost for f in figures]),
        baseline_objective_cost=_sum([f.baseline_objective_cost for f in figures]),
        baseline_transitions=sum(f.baseline_transitions for f in figures),
    )


def _sum(costs: Sequence[float]) -> float:
    # Costs are multiples of 0.001: rounding takes back what binary fractions add.
    return round(sum(costs), 3)
