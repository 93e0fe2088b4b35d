"""The planned program: delegates' plans put together for the flatbuffer and for the report."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import planner
from planner.costs.profile import DeviceProfile
from planner.ir.graph import LayoutGraph
from planner.ir.physical import ImageExtents
from planner.ir.representation import TensorRepr
from planner.optimise.plan import LayoutPlan
from planner.optimise.plan import Transition as PlannedTransition
from planner.options import PlanOptions
from planner.vkgraph.places import WrittenPlaces
from schema import (
    BaselineTensor,
    CostOrigin,
    DelegatePlan,
    Figures,
    OperatorCost,
    PlannedProgram,
    Repack,
    Status,
    TensorPlan,
    Transition,
    TransitionUser,
    VkStorageType,
    VkTensor,
)
from schema.vkgraph import VkGraph
from solver import Status as SolverStatus

Kind = Literal["pt2", "pte", "vkgraph"]
"""What a program was handed in as."""

TensorNames = Mapping[str, Mapping[int, str]]
"""Names of tensors by value id, for each graph by the SHA-256 of its flatbuffer."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The alternative on the same graph; costs in integer steps of the profile's unit.

    ``made`` has the representation of each tensor, ``repacks`` are in the order in which they run,
    and ``operator_cost`` is what the objective counts beyond them.
    """

    made: tuple[TensorRepr | None, ...]
    repacks: tuple[PlannedTransition, ...]
    operator_cost: int
    seconds: float

    @property
    def repack_cost(self) -> int:
        """Cost of all repacks."""
        return sum(repack.cost for repack in self.repacks)

    @property
    def cost(self) -> int:
        """Cost under the objective."""
        return self.repack_cost + self.operator_cost


@dataclass(frozen=True, slots=True)
class MemoryFigures:
    """Bytes that the tensors of a graph take together, and with ExecuTorch's greedy planner."""

    planned: int
    greedy: int


@dataclass(frozen=True, slots=True)
class DelegateResult:
    """A planned delegate, and how long it took. Seconds are wall-clock."""

    plan: DelegatePlan
    graph: LayoutGraph = field(repr=False)
    layout_plan: LayoutPlan = field(repr=False)
    plan_seconds: float
    baseline_seconds: float
    verify_seconds: float
    pinned_operators: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    memory: MemoryFigures | None = None

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


@dataclass(frozen=True, slots=True)
class Source:
    """The program that was handed in."""

    name: str
    sha256: str

    @classmethod
    def of(cls, name: str, data: bytes) -> Source:
        """The source with these bytes."""
        return cls(name, hashlib.sha256(data).hexdigest())


@dataclass(frozen=True, slots=True)
class Exported:
    """What a lowered program was exported as, and what is known from lowering it.

    ``baseline_seconds`` is how long ExecuTorch's own layout pass took for each graph. Graphs are
    known by the SHA-256 of their flatbuffers, as in ``names``.
    """

    source: Source
    names: TensorNames
    lowering_seconds: float = 0.0
    baseline_seconds: Mapping[str, float] = field(default_factory=dict)


def describe_delegate(
    index: int,
    graph: bytes,
    written: VkGraph,
    plan: LayoutPlan,
    places: WrittenPlaces,
    names: Mapping[int, str],
    baseline: Baseline,
    profile: DeviceProfile,
) -> DelegatePlan:
    """What was planned for a delegate, in terms of the graph as it was ``written``.

    ``graph`` are the flatbuffer bytes of ``written``; ``names`` are names of values.
    """
    transitions = tuple(
        _describe_transition(t, places, copy, clone, written, profile)
        for t, copy, clone in zip(plan.transitions, places.copies, places.clones, strict=True)
    )
    tensors = tuple(
        TensorPlan(value_id, names.get(value_id, ""), value.storage_type, value.memory_layout)
        for value_id, value in enumerate(written.values)
        if isinstance(value, VkTensor) and value.storage_type != VkStorageType.DEFAULT_STORAGE
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
        baseline_tensors=tuple(
            BaselineTensor(places.tensors[t], made.storage_type, made.memory_layout)
            for t, made in enumerate(baseline.made)
            if made is not None and places.tensors[t] >= 0
        ),
        operator_costs=tuple(
            OperatorCost(places.operators[price.operator], units(price.cost), price.origin)
            for price in plan.operators
        ),
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
    texture_limits: ImageExtents,
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
        texture_limits=texture_limits,
        excluded_layouts=tuple(sorted(options.excluded_layouts)),
        delegates=tuple(d.plan for d in delegates),
        total=_total([d.plan.figures for d in delegates]),
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


def report(
    program: PlannedProgram,
    delegates: Sequence[DelegateResult],
    *,
    kind: Kind,
    lowering_seconds: float,
) -> dict[str, Any]:
    """The plan as a JSON document. Costs are in ``unit``, times in seconds, memory in bytes.

    The baseline is ExecuTorch's own pass on the same graph; for a program that came lowered, the
    layouts that it came with.
    """
    return {
        "planner_version": program.planner_version,
        "kind": kind,
        "baseline": "executorch" if kind == "pt2" else "file",
        "source": {"name": program.source_name, "sha256": program.source_sha256},
        "profile": {"name": program.profile_name, "hash": program.profile_hash},
        "objective": program.objective,
        "unit": program.cost_unit,
        "texture_limits": list(program.texture_limits),
        "excluded_layouts": [layout.name for layout in program.excluded_layouts],
        "lowering_seconds": round(lowering_seconds, 3),
        "total": _figures(program.total, delegates, program.cost_unit),
        "delegates": [
            {
                "index": d.plan.index,
                "name": d.plan.name,
                **_figures(d.plan.figures, [d], program.cost_unit),
                "pinned_operators": list(d.pinned_operators),
                "warnings": list(d.warnings),
                "transition_list": _transitions(d.plan, program.cost_unit),
            }
            for d in delegates
        ],
    }


def _figures(figures: Figures, delegates: Sequence[DelegateResult], unit: str) -> dict[str, Any]:
    baseline, ours = figures.baseline_repack_cost, figures.repack_cost
    memory = [d.memory for d in delegates if d.memory is not None]
    return {
        "repack_cost": _number(ours, unit),
        "baseline_repack_cost": _number(baseline, unit),
        "ratio": _ratio(baseline, ours),
        "transitions": figures.transitions,
        "baseline_transitions": figures.baseline_transitions,
        "objective_cost": _number(figures.objective_cost, unit),
        "baseline_objective_cost": _number(figures.baseline_objective_cost, unit),
        "objective_ratio": _ratio(figures.baseline_objective_cost, figures.objective_cost),
        "cost_origins": cost_origins([d.plan for d in delegates]),
        "status": figures.status.name,
        "bound": _number(figures.bound, unit),
        "operators": sum(d.operators for d in delegates),
        "width": max((d.width for d in delegates), default=0),
        "plan_seconds": round(sum(d.plan_seconds for d in delegates), 6),
        "baseline_seconds": round(sum(d.baseline_seconds for d in delegates), 6),
        "verify_seconds": round(sum(d.verify_seconds for d in delegates), 6),
        **(
            {
                "memory_bytes": sum(m.planned for m in memory),
                "greedy_memory_bytes": sum(m.greedy for m in memory),
            }
            if memory
            else {}
        ),
    }


def _ratio(baseline: float, ours: float) -> float | None:
    """The baseline over ours; None where only ours is 0."""
    return round(baseline / ours, 4) if ours else (1.0 if not baseline else None)


def cost_origins(plans: Sequence[DelegatePlan]) -> dict[str, float]:
    """Parts of the objective's cost by where they come from; empty where nothing costs anything."""
    costs = dict.fromkeys(CostOrigin, 0.0)
    for plan in plans:
        for transition in plan.transitions:
            costs[transition.origin] += transition.cost
        for operator in plan.operator_costs:
            costs[operator.origin] += operator.cost
    total = sum(costs.values())
    if not total:
        return {}
    return {origin.name.lower(): round(costs[origin] / total, 4) for origin in reversed(CostOrigin)}


def _transitions(plan: DelegatePlan, unit: str) -> list[dict[str, Any]]:
    names = {tensor.value_id: tensor.name for tensor in plan.tensors}
    return [
        {
            "tensor": names.get(t.source, ""),
            "source": t.source,
            "output": t.output,
            "operator_index": t.operator_index,
            "from": str(TensorRepr(t.from_storage, t.from_layout)),
            "to": str(TensorRepr(t.to_storage, t.to_layout)),
            "cost": _number(t.cost, unit),
            "cost_origin": t.origin.name.lower(),
            "users": [
                {
                    "operator_index": u.operator_index,
                    "operator": u.operator_name,
                    "argument": u.argument,
                }
                for u in t.users
            ],
        }
        for t in plan.transitions
    ]


def _number(cost: float, unit: str) -> float:
    return int(cost) if unit == "bytes" else cost
