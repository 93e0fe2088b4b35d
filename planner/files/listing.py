"""The contents of a file: each Vulkan delegate's operators and its tensors' representations."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any, Final

from planner.errors import InputError, Remedy
from planner.files.exported import check_is_exported
from planner.files.kinds import FileKind, kind_of
from planner.files.lowered import graphs_of
from planner.kernels.releases import Target
from planner.optimise.memory import used_bytes
from planner.vkgraph.reader import ContractedGraph, read_vkgraph
from planner.vkgraph.targets import target_of
from planner.vkgraph.wellformed import repr_of
from schema import (
    DelegatePlan,
    Figures,
    PlannedProgram,
    SchemaError,
    VkGraph,
    VkTensor,
    plan,
)
from schema.frozen import frozen
from schema.vkgraph import (
    Bool,
    BoolList,
    Double,
    DoubleList,
    Int,
    IntList,
    Null,
    OperatorCall,
    String,
    SymInt,
    ValueList,
)


@frozen
class ListedDelegate:
    """A delegate: its graph as the file has it, and the same without its transitions.

    ``names`` are the names of tensors, by value id, that the file has; ``plan`` is the delegate's
    part of a planned program.
    """

    name: str
    graph: VkGraph
    contracted: ContractedGraph
    memory_bytes: int
    names: Mapping[int, str]
    plan: DelegatePlan | None = None


@frozen
class Listing:
    """The contents of a file; ``program`` is the planned program, if it is one."""

    name: str
    kind: FileKind
    delegates: tuple[ListedDelegate, ...]
    program: PlannedProgram | None = None

    @property
    def target(self) -> Target:
        """The backend that it was planned for: Vulkan, unless a delegate says another one."""
        targets = (target_of(delegate.graph) for delegate in self.delegates)
        return next((target for target in targets if target != "vulkan"), "vulkan")


def read_listing(data: bytes, name: str) -> Listing:
    """Reads a file of any kind that has layouts; its bytes determine the kind.

    Raises ``InputError`` for bytes of another kind, and for damaged ones, naming the place.
    """
    kind = kind_of(data)
    if kind is FileKind.PLANNED:
        return _read_plan(data, name)
    if kind is None or kind is FileKind.EXPORTED:
        raise _unreadable(data, name)
    delegates = tuple(
        _listed(graph, f"delegate {index}", f"{name}, delegate {index}")
        for index, graph in enumerate(graphs_of(data, name))
    )
    return Listing(name, kind, delegates)


def _read_plan(data: bytes, name: str) -> Listing:
    try:
        program = plan.decode(data)
    except SchemaError as error:
        raise InputError(f"{name} is damaged: {error}") from error
    delegates = []
    for index, delegate in enumerate(program.delegates):
        place = f"{name}, delegate {index}"
        try:
            graph = delegate.decode_graph()
        except SchemaError as error:
            raise InputError(f"{place} is damaged: {error}") from error
        delegates.append(_listed(graph, delegate.name, place, delegate))
    return Listing(name, FileKind.PLANNED, tuple(delegates), program)


def _listed(
    graph: VkGraph, name: str, place: str, described: DelegatePlan | None = None
) -> ListedDelegate:
    # A program that was planned from its lowered form has no names except the ids.
    names = {
        t.value_id: t.name
        for t in (described.tensors if described else ())
        if t.name not in ("", f"v{t.value_id}")
    }
    contracted = read_vkgraph(graph, place)
    return ListedDelegate(name, graph, contracted, used_bytes(graph), names, described)


def _unreadable(data: bytes, name: str) -> InputError:
    try:
        check_is_exported(io.BytesIO(data), name)
    except InputError:
        return InputError(
            f"{name} has no layouts that can be read: hand in a lowered program (.pte), a planned "
            "program, a VkGraph, or a Vulkan delegate's blob"
        )
    return InputError(f"{name} is an exported program, which has no layouts yet", Remedy.PLAN_FIRST)


def describe(data: bytes, name: str) -> dict[str, Any]:
    """The contents of a file as a JSON document: every operator of every Vulkan delegate.

    Memory is in bytes, costs of a planned program in its ``unit``. Raises ``InputError`` as
    ``read_listing`` does.
    """
    listing = read_listing(data, name)
    return {
        "name": name,
        "kind": listing.kind,
        "target": listing.target,
        **({} if listing.program is None else _program(listing.program)),
        "delegates": [
            _Describer(delegate).describe(index) for index, delegate in enumerate(listing.delegates)
        ],
    }


def _program(program: PlannedProgram) -> dict[str, Any]:
    return {
        "planner_version": program.planner_version,
        "source": {"name": program.source_name, "sha256": program.source_sha256},
        "profile": {"name": program.profile_name, "hash": program.profile_hash},
        "objective": program.objective,
        "unit": program.cost_unit,
        "texture_limits": list(program.texture_limits),
        "excluded_layouts": [layout.name for layout in program.excluded_layouts],
        "limits": list(program.limits),
        "figures": _figures(program.total),
    }


def _figures(figures: Figures) -> dict[str, Any]:
    numbers = {
        key: _number(value) if isinstance(value, float) else value
        for key, value in asdict(figures).items()
    }
    return {**numbers, "status": figures.status.name}


class _Describer:
    def __init__(self, delegate: ListedDelegate) -> None:
        self.delegate = delegate
        self.graph = delegate.graph

    def describe(self, index: int) -> dict[str, Any]:
        transitions = {t.position for t in self.delegate.contracted.transitions}
        graph, planned = self.graph, self.delegate.plan
        operators = [
            self._operator(i, call, i in transitions) for i, call in enumerate(graph.chain)
        ]
        return {
            "index": index,
            "name": self.delegate.name,
            "inputs": [self._value(i) for i in graph.input_ids],
            "outputs": [self._value(i) for i in graph.output_ids],
            "operators": operators,
            "totals": {
                "operators": len(operators),
                "transitions": len(transitions),
                **self._tensors(),
                "memory_bytes": self.delegate.memory_bytes,
            },
            **({} if planned is None else {"figures": _figures(planned.figures)}),
        }

    def _tensors(self) -> dict[str, Any]:
        tensors = [value for value in self.graph.values if isinstance(value, VkTensor)]
        counts = Counter(representation(t) or "default" for t in tensors if t.constant_id < 0)
        return {
            "tensors": dict(sorted(counts.items(), key=lambda found: (-found[1], found[0]))),
            "constants": sum(t.constant_id >= 0 for t in tensors),
        }

    def _operator(self, index: int, call: OperatorCall, is_transition: bool) -> dict[str, Any]:
        return {
            "index": index,
            "name": call.name,
            "node_id": call.node_id,
            "transition": is_transition,
            "arguments": [self._value(i) for i in call.args[:-1]],
            "outputs": [self._value(i) for i in self._members(call.args[-1:])],
        }

    def _members(self, output: Sequence[int]) -> Sequence[int]:
        value = self.graph.values[output[0]] if output else None
        return value.items if isinstance(value, ValueList) else output

    def _value(self, value_id: int) -> dict[str, Any]:
        match self.graph.values[value_id]:
            case VkTensor() as tensor:
                return {
                    "kind": "tensor",
                    "value_id": value_id,
                    "name": self.delegate.names.get(value_id),
                    "dims": list(tensor.dims),
                    "dtype": tensor.datatype.name.lower(),
                    "representation": representation(tensor),
                    "constant": tensor.constant_id >= 0,
                }
            case ValueList(items):
                return {"kind": "list", "members": [self._value(i) for i in items]}
            case IntList(items) | DoubleList(items) | BoolList(items):
                return {"kind": "list", "members": [_literal(item) for item in items]}
            case Int(value) | Double(value) | Bool(value) | String(value):
                return _literal(value)
            case SymInt(value):
                return {"kind": "symbolic", "value_id": value_id, "value": value}
            case Null():
                return {"kind": "null"}


def representation(tensor: VkTensor) -> str | None:
    """A tensor's representation as ``texture:WIDTH_PACKED``; None for one left to the runtime."""
    found = repr_of(tensor)
    return None if found is None else str(found)


_KINDS: Final = {bool: "bool", int: "int", float: "float", str: "string"}


def _literal(value: bool | float | str) -> dict[str, Any]:
    return {
        "kind": _KINDS[type(value)],
        "value": _number(value) if isinstance(value, float) else value,
    }


def _number(value: float) -> float | str:
    """A number for JSON, which has no infinity and no NaN: those become their names."""
    return value if isfinite(value) else str(value)
