"""The report of a plan: what it costs, what it is compared with, how it was found.

It is written as a JSON document and read back here. Whoever shows figures of a plan (tables, the
store, OpenAPI, CSV) takes them, and what they mean, from these classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, MISSING, field, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, ClassVar, Final, Literal, TypeVar, get_args, get_origin, get_type_hints

from planner.costs.model import ratio
from planner.ir.representation import TensorRepr
from planner.kernels.releases import Target
from planner.result.program import AlternativeResult, DelegateResult, ProgramKind
from schema import CostOrigin, DelegatePlan, Figures, PlannedProgram
from schema.frozen import frozen

T = TypeVar("T")

IN_API: Final[dict[str, Any]] = {
    "use_attribute_docstrings": True,
    "alias_generator": lambda name: name.removesuffix("_"),
}
"""How pydantic describes these classes where an API answers with them."""


@frozen
class SourceReport:
    """The program that was handed in."""

    name: str
    sha256: str


@frozen
class ProfileReport:
    """What the costs are called, and the SHA-256 of all that they come from."""

    name: str
    hash: str


@frozen
class UserReport:
    """An argument of an operator, by its place in the written graph, that reads a copy."""

    operator_index: int
    operator: str
    argument: int


@frozen
class TransitionReport:
    """A repack of the plan."""

    __pydantic_config__: ClassVar = IN_API

    tensor: str
    """The name of the tensor that is repacked; empty where it has none."""
    source: int
    """The value that is repacked."""
    output: int
    """The value that the repack makes."""
    operator_index: int
    """The repack's place in the chain of operators."""
    from_: str
    """The representation before, as ``texture:WIDTH_PACKED``."""
    to: str
    """The representation after."""
    cost: float
    """In the unit of the report."""
    cost_origin: str
    """Where the cost comes from: ``measured``, ``interpolated``, ``estimated`` or ``modelled``."""
    users: tuple[UserReport, ...]


@frozen
class DifferenceReport:
    """What has another representation in an alternative than in the plan."""

    tensor: str
    """The name of the tensor; empty where it has none."""
    value: int
    """The tensor's value in the plan's graph."""
    operator_index: int | None
    """The operator's place in the plan's graph; null where the tensor comes from outside."""
    operator: str
    """The operator; empty where the tensor comes from outside."""
    operand: str
    """The operand, as ``argument 0`` or ``output 0``; ``tensor`` where it comes from outside."""
    plan: str
    """The representation in the plan, as ``texture:WIDTH_PACKED``."""
    alternative: str
    """The representation in the alternative."""


@frozen
class AlternativeReport:
    """One of the plans that come next, which was written and checked as the plan was."""

    objective_cost: float
    """Cost of what was minimised."""
    repack_cost: float
    """Cost of the alternative's repacks."""
    transitions: int
    """Repacks of the alternative."""
    is_proven: bool
    """Whether every plan that is not listed before it costs as much or more."""
    differences: tuple[DifferenceReport, ...]


@frozen
class PlanFigures:
    """Figures of a plan. Costs are in the unit of the report, times in seconds of wall-clock.

    The baseline is ExecuTorch's own pass on the same graph; for a program that came lowered, the
    layouts that it came with.
    """

    _: KW_ONLY
    __pydantic_config__: ClassVar = IN_API

    repack_cost: float
    """Cost of the plan's repacks."""
    baseline_repack_cost: float
    """Cost of the baseline's repacks."""
    ratio: float | None
    """The baseline's repack cost over the plan's; null where only the plan's is 0."""
    transitions: int
    """Repacks of the plan."""
    baseline_transitions: int
    """Repacks of the baseline."""
    objective_cost: float
    """Cost of what was minimised."""
    baseline_objective_cost: float
    """The same cost of the baseline."""
    objective_ratio: float | None
    """The baseline's objective cost over the plan's; null where only the plan's is 0."""
    cost_origins: Mapping[str, float]
    """Parts of the objective cost by where they come from; empty where nothing costs anything."""
    status: str
    """``OPTIMAL`` if no plan costs less; ``FEASIBLE`` if that is not proven."""
    bound: float
    """No plan has a lower objective cost."""
    operators: int
    """Operators before planning."""
    width: int
    """Treewidth of the order in which the solver eliminated variables."""
    plan_seconds: float
    """How long building the layout problem, solving it and writing the graph took."""
    baseline_seconds: float
    """How long ExecuTorch's pass took; 0 where it did not run."""
    verify_seconds: float
    """How long the independent check took."""
    memory_bytes: int | None = None
    """Memory that the tensors take together, in bytes."""
    greedy_memory_bytes: int | None = None
    """Memory that they take by ExecuTorch's memory planner, in bytes."""
    peak_memory_bytes: int | None = None
    """The most bytes of tensors that are alive at once, padding and copies included; of several
    delegates, in the one that has most."""


@frozen
class DelegateReport(PlanFigures):
    """A Vulkan delegate: its figures, and its transitions."""

    _: KW_ONLY
    index: int
    name: str
    pinned_operators: tuple[str, ...] = ()
    """Operators that the registry does not know, and that stay as they are."""
    warnings: tuple[str, ...] = ()
    mended: tuple[str, ...] = ()
    """Known faults of kernels that the baseline meets, and the plan does not."""
    method: str = ""
    """How the bound was reached: by exact ``elimination`` of all variables, or by a ``search`` of
    those that it left; empty where an older release of the planner wrote the report."""
    core: int = 0
    """Variables that elimination left to a search."""
    cost_by_level: tuple[int, ...] = ()
    """What was minimised, compared in order: the objective in whole bytes or thousandths of a ns;
    repacks; departures from what the program has; a fixed order."""
    bound_by_level: tuple[int, ...] = ()
    """No plan costs less than this, compared in the same order."""
    transition_list: tuple[TransitionReport, ...] = ()
    alternatives: tuple[AlternativeReport, ...] = ()
    """The plans that come next, in order, as many as were asked for."""


@frozen
class Report:
    """What was planned, with which options, and what came of it."""

    __pydantic_config__: ClassVar = IN_API

    planner_version: str
    kind: str
    """What was handed in: ``pt2``, ``pte`` or ``vkgraph``."""
    baseline: Literal["executorch", "file"]
    """What the plan is compared with: ExecuTorch's pass, or the layouts of the file."""
    source: SourceReport
    profile: ProfileReport
    objective: str
    """What was minimised: ``repack`` or ``latency``."""
    unit: str
    """``bytes`` or ``ns``."""
    texture_limits: tuple[int, ...]
    """Largest image extents, in texels."""
    excluded_layouts: tuple[str, ...]
    lowering_seconds: float
    total: PlanFigures
    delegates: tuple[DelegateReport, ...] = field(repr=False)
    runtime: str = ""
    """The releases of ExecuTorch that the plan is for: ``1.3``, or ``1.3+`` and later; empty where
    an older release of the planner wrote the report."""
    on_cpu: tuple[str, ...] = ()
    """Operators that the limits of the device left on the CPU, as the program was lowered."""
    limits: tuple[str, ...] = ()
    """Limits that the user set, and the plan keeps: ``pin aten.mm.default=buffer``."""
    target: str = "vulkan"
    """The backend whose runtime the plan is for: ``vulkan`` or ``webgpu``."""

    def document(self) -> dict[str, Any]:
        """The report as a JSON document; figures that are not known are left out."""
        found: dict[str, Any] = to_document(self)
        return found


def read_report(document: Mapping[str, Any]) -> Report:
    """The report of a JSON document that ``Report.document`` made, perhaps in another release.

    Keys that this release does not know are passed over. Raises ``KeyError`` for one that is
    missing.
    """
    return read_document(Report, document)


def report(
    program: PlannedProgram,
    delegates: Sequence[DelegateResult],
    *,
    kind: ProgramKind,
    target: Target,
    lowering_seconds: float,
    on_cpu: tuple[str, ...] = (),
) -> Report:
    """The report of a planned program."""
    unit = program.cost_unit
    return Report(
        planner_version=program.planner_version,
        kind=kind,
        baseline="executorch" if kind == "pt2" else "file",
        source=SourceReport(program.source_name, program.source_sha256),
        profile=ProfileReport(program.profile_name, program.profile_hash),
        objective=program.objective,
        unit=unit,
        texture_limits=tuple(program.texture_limits),
        excluded_layouts=tuple(layout.name for layout in program.excluded_layouts),
        lowering_seconds=round(lowering_seconds, 3),
        total=PlanFigures(**_figures(program.total, delegates, unit)),
        delegates=tuple(
            DelegateReport(
                **_figures(d.plan.figures, [d], unit),
                index=d.plan.index,
                name=d.plan.name,
                pinned_operators=d.pinned_operators,
                warnings=d.warnings,
                mended=d.mended,
                method=d.plan.method.name.lower(),
                core=d.plan.core,
                cost_by_level=d.plan.cost_by_level,
                bound_by_level=d.plan.bound_by_level,
                transition_list=_transitions(d.plan, unit),
                alternatives=tuple(_alternative(d, other, unit) for other in d.alternatives),
            )
            for d in delegates
        ),
        runtime=program.runtime,
        on_cpu=on_cpu,
        limits=program.limits,
        target=target,
    )


def _figures(figures: Figures, delegates: Sequence[DelegateResult], unit: str) -> dict[str, Any]:
    """The fields of ``PlanFigures``."""
    memory = [d.memory for d in delegates if d.memory is not None]
    costs = ("repack_cost", "baseline_repack_cost", "objective_cost", "baseline_objective_cost")
    return {
        **{name: to_number(getattr(figures, name), unit) for name in (*costs, "bound")},
        "ratio": ratio(figures.baseline_repack_cost, figures.repack_cost),
        "objective_ratio": ratio(figures.baseline_objective_cost, figures.objective_cost),
        "transitions": figures.transitions,
        "baseline_transitions": figures.baseline_transitions,
        "cost_origins": cost_origins([d.plan for d in delegates]),
        "status": figures.status.name,
        "operators": sum(d.operators for d in delegates),
        "width": max((d.width for d in delegates), default=0),
        "plan_seconds": round(sum(d.plan_seconds for d in delegates), 6),
        "baseline_seconds": round(sum(d.baseline_seconds for d in delegates), 6),
        "verify_seconds": round(sum(d.verify_seconds for d in delegates), 6),
        "memory_bytes": sum(m.planned for m in memory) if memory else None,
        "greedy_memory_bytes": sum(m.greedy for m in memory) if memory else None,
        "peak_memory_bytes": max(m.peak for m in memory) if memory else None,
    }


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


def _transitions(plan: DelegatePlan, unit: str) -> tuple[TransitionReport, ...]:
    names = {tensor.value_id: tensor.name for tensor in plan.tensors}
    return tuple(
        TransitionReport(
            tensor=names.get(t.source, ""),
            source=t.source,
            output=t.output,
            operator_index=t.operator_index,
            from_=str(TensorRepr(t.from_storage, t.from_layout)),
            to=str(TensorRepr(t.to_storage, t.to_layout)),
            cost=to_number(t.cost, unit),
            cost_origin=t.origin.name.lower(),
            users=tuple(UserReport(u.operator_index, u.operator_name, u.argument) for u in t.users),
        )
        for t in plan.transitions
    )


def _alternative(
    delegate: DelegateResult, other: AlternativeResult, unit: str
) -> AlternativeReport:
    figures, places = other.plan.figures, delegate.places
    names = {tensor.value_id: tensor.name for tensor in delegate.plan.tensors}
    differing = []
    for difference in other.differences:
        slot, value = difference.slot, places.tensors[difference.tensor]
        side = "tensor" if slot is None else f"{'output' if slot.is_output else 'argument'} "
        differing.append(
            DifferenceReport(
                tensor=names.get(value, ""),
                value=value,
                operator_index=None if slot is None else places.operators[slot.operator],
                operator="" if slot is None else delegate.graph.operators[slot.operator].name,
                operand=side if slot is None else f"{side}{slot.index}",
                plan=str(difference.chosen),
                alternative=str(difference.alternative),
            )
        )
    return AlternativeReport(
        objective_cost=to_number(figures.objective_cost, unit),
        repack_cost=to_number(figures.repack_cost, unit),
        transitions=figures.transitions,
        is_proven=other.is_proven,
        differences=tuple(differing),
    )


def to_number(cost: float, unit: str) -> float:
    """A cost as a document has it: bytes are whole."""
    return int(cost) if unit == "bytes" else cost


def to_document(value: Any) -> Any:
    """A dataclass as a JSON document; figures that are not known are left out."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, (tuple, list)):
        return [to_document(item) for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    kind: Any = type(value)
    return {
        key: to_document(item)
        for name, key, is_always_there in _keys(kind)
        # What has None for a default is left out where it is not known.
        if (item := getattr(value, name)) is not None or is_always_there
    }


@cache
def _keys(kind: Any) -> tuple[tuple[str, str, bool], ...]:
    """The fields of a dataclass: its name, its key, and whether it is there without a value."""
    return tuple((f.name, f.name.removesuffix("_"), f.default is MISSING) for f in fields(kind))


def read_document(kind: type[T], document: Any) -> T:
    """A dataclass of this kind from a JSON document; keys that it does not have are passed over."""
    of_kind: Any = kind
    hints = _hints(of_kind)
    found = {}
    for f in fields(of_kind):
        key = f.name.removesuffix("_")
        if key in document or f.default is MISSING:
            found[f.name] = _value(hints[f.name], document[key])
    return kind(**found)


def _value(hint: Any, value: Any) -> Any:
    if is_dataclass(hint):
        of_hint: Any = hint
        return read_document(of_hint, value)
    if get_origin(hint) is tuple:
        return tuple(_value(get_args(hint)[0], item) for item in value)
    if isinstance(hint, UnionType) and value is not None:
        return _value(get_args(hint)[0], value)
    return value


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
