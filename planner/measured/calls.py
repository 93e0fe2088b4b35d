"""Calls of operators, by all that their time depends on: arguments and representations."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Final

from planner.ir.graph import (
    Argument,
    Operator,
    Scalar,
    Symbolic,
    Tensor,
    TensorArg,
    TensorListArg,
)
from planner.ir.physical import DEFAULT_TEXTURE_LIMITS, ELEMENT_BYTES
from planner.ir.representation import TensorRepr
from planner.kernels.registry import CLONE
from planner.kernels.rep_sets import op_rep_sets
from planner.vkgraph.reader import ContractedGraph, read_vkgraph
from planner.vkgraph.wellformed import members_of, repr_of
from schema import VkDataType, VkGraph, VkTensor
from schema.frozen import frozen
from schema.vkgraph import OperatorCall

_FLOAT: Final = "float"
_MATRIX_PRODUCTS: Final = ("aten.bmm.", "aten.mm.", "aten.addmm.")


@dataclass(frozen=True)
class Call:
    """All that an operator's time depends on besides representations.

    ``signature`` is canonical JSON: arguments, then outputs; shapes and types of tensors, and whole
    numbers. Floats, the zero points after scales, strings and missing arguments do not count.
    """

    operator: str
    signature: str

    @cached_property
    def work(self) -> tuple[int, int]:
        """(bytes of all operands with weights, multiplications or, if none, elements)."""
        args, outputs = json.loads(self.signature)
        read = list(_tensors(args))
        made = list(_tensors(outputs))
        size = sum(prod(t.shape) * t.element_bytes for t in (*read, *made))
        elements = max([prod(t.shape) for t in made], default=1)
        weights = [t.shape for t in read if t.is_constant and len(t.shape) > 1]
        if weights:
            per_element = prod(weights[0][1:])
        elif read and read[0].shape and self.operator.startswith(_MATRIX_PRODUCTS):
            per_element = read[0].shape[-1]
        else:
            per_element = 1
            elements = max([elements, *(prod(t.shape) for t in read)])
        return max(1, size), max(1, elements * per_element)


@frozen
class _Described:
    shape: tuple[int, ...]
    element_bytes: int
    is_constant: bool


Place = str
"""An operand of an operator: ``0`` is the first argument, ``o0`` the first output."""

Operands = tuple[tuple[Place, TensorRepr], ...]
"""The operands with a choice of representations, and the representation of each."""


@frozen
class GraphCall:
    """An operator of a graph in its representations, at ``position`` of its chain."""

    position: int
    node_id: int
    call: Call
    operands: Operands
    is_transition: bool


def place(is_output: bool, index: int) -> Place:
    """The place of an argument or output."""
    return f"o{index}" if is_output else str(index)


def call_of(operator: Operator, tensors: Sequence[Tensor]) -> Call:
    """The call of an operator in a layout graph."""
    args = list(_arguments(operator.args, tensors))
    outputs = [_tensor(tensors[t]) for t in operator.outputs]
    return Call(operator.name, json.dumps([args, outputs], separators=(",", ":")))


def transition_call(shape: tuple[int, ...], dtype: VkDataType) -> Call:
    """The call of a transition of a tensor (shape outermost first); its places: ``0``, ``o0``."""
    tensor = Tensor("", shape, dtype)
    return call_of(Operator(CLONE, (TensorArg(0), None), (0,)), [tensor])


TRANSITION_PLACES: Final = (place(False, 0), place(True, 0))


def calls_of(graph: VkGraph, name: str = "") -> tuple[GraphCall, ...]:
    """The calls of a graph whose representations are chosen, in the order of its chain.

    Raises ``InputError`` for a malformed graph.
    """
    return calls_in(graph, read_vkgraph(graph, name))


def calls_in(graph: VkGraph, source: ContractedGraph) -> tuple[GraphCall, ...]:
    """The calls of a graph that was already read as ``source``."""
    return tuple(sorted(_calls(graph, source), key=lambda c: c.position))


def _calls(file: VkGraph, source: ContractedGraph) -> Iterator[GraphCall]:
    graph = source.graph
    for transition in source.transitions:
        tensor = graph.tensors[transition.tensor]
        yield GraphCall(
            position=transition.position,
            node_id=file.chain[transition.position].node_id,
            call=transition_call(tensor.shape, tensor.dtype),
            operands=tuple(
                zip(TRANSITION_PLACES, (transition.source, transition.target), strict=True)
            ),
            is_transition=True,
        )
    for operator, position in zip(graph.operators, source.positions, strict=True):
        written = file.chain[position]
        values = _constrained_values(file, written, operator, graph.tensors)
        yield GraphCall(
            position=position,
            node_id=written.node_id,
            call=call_of(operator, graph.tensors),
            operands=tuple(
                (where, representation)
                for where, value_id in values
                if (representation := _representation(file, value_id)) is not None
            ),
            is_transition=False,
        )


def _constrained_values(
    file: VkGraph, written: OperatorCall, operator: Operator, tensors: Sequence[Tensor]
) -> Iterator[tuple[Place, int]]:
    """Operands with a choice of representations, and the value that has the chosen one."""
    sets = op_rep_sets(operator, tensors, DEFAULT_TEXTURE_LIMITS)
    if sets is None:
        return
    for index, members in operator.tensor_args():
        if sets.args[index] is not None and not any(tensors[t].constant for t in members):
            yield place(False, index), members_of(file, written.args[index])[0]
    outputs = members_of(file, written.args[-1])
    for index, accepted in enumerate(sets.outs):
        if accepted is not None:
            yield place(True, index), outputs[index]


def _representation(file: VkGraph, value_id: int) -> TensorRepr | None:
    value = file.values[value_id]
    return repr_of(value) if isinstance(value, VkTensor) else None


def _arguments(args: Sequence[Argument], tensors: Sequence[Tensor]) -> Iterator[Any]:
    """The arguments that count: tensors, and whole numbers alone and in lists."""
    follows_float = False
    for arg in args:
        described = _argument(arg, tensors)
        is_float = described == _FLOAT
        is_zero_point = follows_float and isinstance(described, int)
        if described is not None and not is_float and not is_zero_point:
            yield described
        follows_float = is_float


def _argument(arg: Argument, tensors: Sequence[Tensor]) -> Any:
    match arg:
        case TensorArg(tensor):
            return _tensor(tensors[tensor])
        case TensorListArg(members):
            return [_tensor(tensors[t]) for t in members if t is not None]
        case tuple():
            return [_number(item) for item in arg]
        case _:
            return _number(arg)


def _number(value: Scalar | Symbolic) -> int | str | None:
    # ExecuTorch's builder writes equal numbers as one value: a 1 may be written as 1.0 or True.
    if isinstance(value, float) and not value.is_integer():
        return _FLOAT
    return int(value) if isinstance(value, (bool, int, float)) else None


def _tensor(tensor: Tensor) -> dict[str, Any]:
    kind = "constant" if tensor.constant else "tensor"
    return {kind: [tensor.dtype.name, list(tensor.shape)]}


def _tensors(described: Any) -> Iterator[_Described]:
    if isinstance(described, list):
        for item in described:
            yield from _tensors(item)
    elif isinstance(described, dict):
        ((kind, (dtype, shape)),) = described.items()
        yield _Described(tuple(shape), ELEMENT_BYTES[VkDataType[dtype]], kind == "constant")
