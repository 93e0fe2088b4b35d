"""A planned program: ``plan.fbs`` as Python classes.

``decode`` checks that the bytes are well formed, not that the plan is right: whether its ids exist
in its graphs is for ``planner.verify`` to check.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from schema import vkgraph
from schema.error import SchemaError
from schema.flatbuffer import Reader, Writer
from schema.frozen import frozen
from schema.tables import Blob, Enumeration, Members, Numbers, Scalar, Table, Tables, Text
from schema.vkgraph import VkDataType, VkGraph, VkMemoryLayout, VkStorageType

FILE_IDENTIFIER = b"LP01"

COST_UNITS = ("bytes", "ns")
OBJECTIVES = ("repack", "latency")


class Status(IntEnum):
    """Whether a plan is proven optimal."""

    OPTIMAL = 0
    FEASIBLE = 1


class Method(IntEnum):
    """How the bound of a plan was reached: by exact elimination alone, or a search besides."""

    UNKNOWN = 0
    ELIMINATION = 1
    SEARCH = 2


class CostOrigin(IntEnum):
    """Where a cost comes from, the least certain first.

    A device profile; samples of the same operator in other representations; samples of the same
    operator and representations with other shapes; samples of exactly this call.
    """

    MODELLED = 0
    ESTIMATED = 1
    INTERPOLATED = 2
    MEASURED = 3


@frozen
class Figures:
    """The costs of a plan and of its baseline, in the program's ``cost_unit``.

    No plan has an objective cost below ``bound``.
    """

    repack_cost: float
    objective_cost: float
    bound: float
    status: Status
    transitions: int
    baseline_repack_cost: float
    baseline_objective_cost: float
    baseline_transitions: int


@frozen
class TransitionUser:
    """An argument, by position, of the operator at ``operator_index`` of the chain."""

    operator_index: int
    operator_name: str
    argument: int


@frozen
class Transition:
    """A repacked copy of a tensor: the values ``source`` and ``output``, and the output's users.

    The copy is made by the operator at ``operator_index`` of the chain.
    """

    source: int
    output: int
    operator_index: int
    from_storage: VkStorageType
    from_layout: VkMemoryLayout
    to_storage: VkStorageType
    to_layout: VkMemoryLayout
    cost: float
    users: tuple[TransitionUser, ...]
    origin: CostOrigin = CostOrigin.MODELLED


@frozen
class OperatorCost:
    """The cost of the operator at ``operator_index`` of the chain, in its representations."""

    operator_index: int
    cost: float
    origin: CostOrigin = CostOrigin.MODELLED


@frozen
class Repack:
    """A change of a tensor's representation in the baseline plan.

    ``sizes`` are the tensor's dimensions, the outermost first. ``source`` is its id in the graph,
    which does not contain the copy; ``users`` read the copy. Where
    ``DelegatePlan.baseline_tensors`` is empty, neither is known.
    """

    sizes: tuple[int, ...]
    datatype: VkDataType
    from_storage: VkStorageType
    from_layout: VkMemoryLayout
    to_storage: VkStorageType
    to_layout: VkMemoryLayout
    cost: float
    origin: CostOrigin = CostOrigin.MODELLED
    source: int = 0
    users: tuple[TransitionUser, ...] = ()


@frozen
class TensorPlan:
    """The representation of one tensor; ``value_id`` is its id in the graph."""

    value_id: int
    name: str
    storage_type: VkStorageType
    memory_layout: VkMemoryLayout


@frozen
class BaselineTensor:
    """The representation of a tensor, by its id in the graph, in the baseline plan."""

    value_id: int
    storage_type: VkStorageType
    memory_layout: VkMemoryLayout


@frozen
class DelegatePlan:
    """The plan of one delegate; ``graph`` is the flatbuffer of the graph to run.

    ``baseline_tensors`` and ``baseline_repacks`` belong to the plan to compare with, repacks in the
    order in which it runs them; both are empty in plans of releases that did not write them.
    ``operator_costs`` is empty unless the objective counts operators.

    ``cost_by_level`` is what was minimised, and ``bound_by_level`` what no plan is below, compared
    level by level: the objective in whole bytes or thousandths of a ns, transitions, departures
    from what the program has, a fixed order. A search decided ``core`` variables. Plans of older
    releases have none of these.
    """

    index: int
    name: str
    graph: bytes
    tensors: Sequence[TensorPlan]
    transitions: tuple[Transition, ...]
    figures: Figures
    baseline_repacks: tuple[Repack, ...] = ()
    operator_costs: tuple[OperatorCost, ...] = ()
    baseline_tensors: Sequence[BaselineTensor] = ()
    method: Method = Method.UNKNOWN
    core: int = 0
    cost_by_level: tuple[int, ...] = ()
    bound_by_level: tuple[int, ...] = ()

    def decode_graph(self) -> VkGraph:
        """The graph to run; raises ``SchemaError`` if its bytes are not one."""
        try:
            return vkgraph.decode(self.graph)
        except SchemaError as error:
            raise error.within("graph") from None


@frozen
class PlannedProgram:
    """The plan of a program.

    ``cost_unit`` is one of ``COST_UNITS``, ``objective`` one of ``OBJECTIVES``. ``texture_limits``
    are the largest width, height and depth of an image, in texels. ``runtime`` are the releases of
    ExecuTorch that it is for; empty where an older release wrote the plan. ``limits`` are those
    that a user gave it besides: ``pin aten.mm.default=buffer``.
    """

    planner_version: str
    source_name: str
    source_sha256: str
    profile_name: str
    profile_hash: str
    cost_unit: str
    objective: str
    texture_limits: tuple[int, int, int]
    excluded_layouts: tuple[VkMemoryLayout, ...]
    delegates: tuple[DelegatePlan, ...]
    total: Figures
    runtime: str = ""
    limits: tuple[str, ...] = ()


_STORAGE = Enumeration("B", VkStorageType, VkStorageType.DEFAULT_STORAGE)
_LAYOUT = Enumeration("B", VkMemoryLayout, VkMemoryLayout.DEFAULT_LAYOUT)
_ORIGIN = Enumeration("B", CostOrigin, CostOrigin.MODELLED)
_NUMBER = Scalar("I")
_COST = Scalar("d", 0.0)

FIGURES = Table(
    "Figures",
    Figures,
    {
        "repack_cost": _COST,
        "objective_cost": _COST,
        "bound": _COST,
        "status": Enumeration("B", Status, Status.FEASIBLE),
        "transitions": _NUMBER,
        "baseline_repack_cost": _COST,
        "baseline_objective_cost": _COST,
        "baseline_transitions": _NUMBER,
    },
)
TRANSITION_USER = Table(
    "TransitionUser",
    TransitionUser,
    {"operator_index": _NUMBER, "operator_name": Text(), "argument": _NUMBER},
)
TRANSITION = Table(
    "Transition",
    Transition,
    {
        "source": _NUMBER,
        "output": _NUMBER,
        "operator_index": _NUMBER,
        "from_storage": _STORAGE,
        "from_layout": _LAYOUT,
        "to_storage": _STORAGE,
        "to_layout": _LAYOUT,
        "cost": _COST,
        "users": Tables(TRANSITION_USER),
        "origin": _ORIGIN,
    },
)
OPERATOR_COST = Table(
    "OperatorCost",
    OperatorCost,
    {"operator_index": _NUMBER, "cost": _COST, "origin": _ORIGIN},
)
REPACK = Table(
    "Repack",
    Repack,
    {
        "sizes": Numbers("I"),
        "datatype": Enumeration("b", VkDataType, VkDataType.BOOL),
        "from_storage": _STORAGE,
        "from_layout": _LAYOUT,
        "to_storage": _STORAGE,
        "to_layout": _LAYOUT,
        "cost": _COST,
        "origin": _ORIGIN,
        "source": _NUMBER,
        "users": Tables(TRANSITION_USER),
    },
)
BASELINE_TENSOR = Table(
    "BaselineTensor",
    BaselineTensor,
    {"value_id": _NUMBER, "storage_type": _STORAGE, "memory_layout": _LAYOUT},
)
TENSOR_PLAN = Table(
    "TensorPlan",
    TensorPlan,
    {
        "value_id": _NUMBER,
        "name": Text(),
        "storage_type": _STORAGE,
        "memory_layout": _LAYOUT,
    },
)
DELEGATE_PLAN = Table(
    "DelegatePlan",
    DelegatePlan,
    {
        "index": _NUMBER,
        "name": Text(),
        "graph": Blob(alignment=16),
        "tensors": Tables(TENSOR_PLAN),
        "transitions": Tables(TRANSITION),
        "figures": FIGURES,
        "baseline_repacks": Tables(REPACK),
        "operator_costs": Tables(OPERATOR_COST),
        "baseline_tensors": Tables(BASELINE_TENSOR),
        "method": Enumeration("B", Method, Method.UNKNOWN),
        "core": _NUMBER,
        "cost_by_level": Numbers("q"),
        "bound_by_level": Numbers("q"),
    },
)
PLANNED_PROGRAM = Table(
    "PlannedProgram",
    PlannedProgram,
    {
        "planner_version": Text(),
        "source_name": Text(),
        "source_sha256": Text(),
        "profile_name": Text(),
        "profile_hash": Text(),
        "cost_unit": Text(),
        "objective": Text(),
        "texture_limits": Numbers("I"),
        "excluded_layouts": Members("B", VkMemoryLayout),
        "delegates": Tables(DELEGATE_PLAN),
        "total": FIGURES,
        "runtime": Text(),
        "limits": Tables(Text()),
    },
    # The bytes of a program without limits stay those of earlier releases.
    newer=["limits"],
)


def decode(data: bytes | bytearray | memoryview) -> PlannedProgram:
    """Reads a planned program; raises ``SchemaError`` for bytes that are not one.

    The graphs stay bytes: see ``DelegatePlan.decode_graph``.
    """
    reader = Reader(data)
    program = PLANNED_PROGRAM.read(reader, reader.root(FILE_IDENTIFIER))
    _check(program)
    return program


def encode(program: PlannedProgram) -> bytes:
    """Writes a planned program: equal programs make equal bytes.

    Raises ``SchemaError`` for a value that the format cannot hold.
    """
    _check(program)
    writer = Writer(FILE_IDENTIFIER)
    return writer.finish(PLANNED_PROGRAM.write(writer, program))


def _check(program: PlannedProgram) -> None:
    if program.cost_unit not in COST_UNITS:
        raise SchemaError(f"{program.cost_unit!r} is not one of {COST_UNITS}", "cost_unit")
    if program.objective not in OBJECTIVES:
        raise SchemaError(f"{program.objective!r} is not one of {OBJECTIVES}", "objective")
    if len(program.texture_limits) != 3:
        raise SchemaError(
            f"{len(program.texture_limits)} numbers are not a width, a height and a depth",
            "texture_limits",
        )
