"""What operators require of their operands: accepted representations, compatible with each other.

The sets come from the registry; how ET-VK reads, filters and narrows them is written here again.
Source of the facts: ExecuTorch, ``backends/vulkan/utils.py`` (``OpRepSets``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from math import inf, prod
from typing import Final

from planner.errors import InputError
from planner.ir.graph import Argument, Operator, Scalar, Symbolic, Tensor, TensorArg, TensorListArg
from planner.ir.physical import ImageExtents
from planner.ir.representation import REPRS, TensorRepr, TensorRepSet
from planner.kernels.limits import Limits
from planner.kernels.registry import OpFeatures, lookup
from planner.verify.layouts import are_compatible, exists, why_not
from planner.verify.program import Program, fail
from schema import VkMemoryLayout, VkStorageType, VkTensor
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
    Value,
    ValueList,
)

_ANY: Final = TensorRepSet.from_reprs(REPRS)


@frozen
class Operand:
    """An argument or output with a set: its tensors share one of the ``accepted`` representations.

    A ``constant`` operand has no representation, but its shape narrows those of the others.
    """

    name: str
    position: int
    tensors: tuple[int, ...]
    is_output: bool
    constant: bool
    accepted: TensorRepSet


@frozen
class Demand:
    """The demands of the operator at ``index``: on each operand, and on ``groups`` of operands."""

    index: int
    operands: tuple[Operand, ...]
    groups: tuple[tuple[Operand, ...], ...]


def check_representations(program: Program, limits: Limits) -> None:
    """Shows that each tensor can have its representation; raises ``VerificationError``."""
    shown = set()
    for value_id, representation in program.representations.items():
        tensor = program.tensor(value_id)
        kind = tensor.dims, tensor.datatype, tensor.constant_id >= 0, representation
        if kind in shown:
            continue
        shown.add(kind)
        rule = (
            "a constant has no representation: its operator prepacks it"
            if tensor.constant_id >= 0
            else breaks_limits(tensor, representation, limits)
        )
        if rule is not None:
            raise fail(program.place_of(value_id), rule)
    if limits.runtime.target == "webgpu":
        _check_dense(program)


def _check_dense(program: Program) -> None:
    """Shows that each tensor but a constant is a buffer without gaps, in the order of its sizes."""
    for value_id, value in enumerate(program.graph.values):
        if program.is_variable(value_id):
            assert isinstance(value, VkTensor)
            given = value.storage_type, value.memory_layout
            if given != (VkStorageType.BUFFER, VkMemoryLayout.TENSOR_WIDTH_PACKED):
                names = " with ".join(part.name for part in given)
                raise fail(program.place_of(value_id), f"WebGPU's runtime has no {names}")


def breaks_limits(tensor: VkTensor, representation: TensorRepr, limits: Limits) -> str | None:
    """The rule that keeps a tensor from a representation; None if there is none."""
    rule = why_not(tensor, representation, limits.texture)
    if rule is None and representation.memory_layout in limits.excluded_layouts:
        rule = f"the layout {representation.memory_layout.name} was excluded"
    elements = prod(tensor.dims)
    if rule is None and representation.is_buffer and elements >= (limits.buffer or inf):
        rule = f"{elements} elements are too many for a buffer (limit {limits.buffer})"
    return rule


def read_demands(
    program: Program,
    limits: Limits,
    repacks: Collection[int],
    among: Collection[int] | None = None,
) -> tuple[Demand, ...]:
    """The demands of each operator, or of those ``among`` them, except for transitions.

    Each release of the runtime has its demands. Operators that are not registered or make no tensor
    have none. Raises ``VerificationError`` for arguments that do not fit their operator.
    """
    found = []
    for index in range(len(program.calls)) if among is None else sorted(among):
        if index in repacks:
            continue
        call = program.calls[index]
        if not program.outputs(call):
            continue
        registered: list[OpFeatures] = []
        for release in limits.runtime.releases:
            features = lookup(call.name, release, limits.runtime.target)
            if features is not None and features not in registered:
                registered.append(features)
        if registered:
            found.append(_demand(program, limits.texture, index, call, registered))
    return tuple(found)


def check_accepted(program: Program, demands: Iterable[Demand]) -> None:
    """Shows that each operand has an accepted representation; raises ``VerificationError``."""
    for demand in demands:
        for operand in demand.operands:
            if operand.constant:
                continue
            for value_id in operand.tensors:
                given = program.representations.get(value_id)
                if given is None:
                    raise fail(
                        program.place(demand.index, operand.name), "it has no representation"
                    )
                if given not in operand.accepted:
                    raise fail(
                        program.place(demand.index, operand.name),
                        f"{given} is not accepted here, only {operand.accepted}",
                    )


def check_synchronised(
    program: Program,
    demands: Iterable[Demand],
    representations: Mapping[int, TensorRepr],
    when: str,
) -> None:
    """Shows that operands that must be compatible are, and that members of a list are equal.

    ``when`` completes the messages of the ``VerificationError``.
    """
    for demand in demands:
        for operand in demand.operands:
            if not operand.constant and len(operand.tensors) > 1:
                members = {representations[value_id] for value_id in operand.tensors}
                if len(members) > 1:
                    raise fail(
                        program.place(demand.index, operand.name),
                        f"members of the list differ{when}: {_listed(members)}",
                    )
        for group in demand.groups:
            given = [(o, representations[o.tensors[0]]) for o in group if not o.constant]
            for operand, representation in given[1:]:
                first, wanted = given[0]
                if not are_compatible(representation, wanted):
                    raise fail(
                        program.place(demand.index, operand.name),
                        f"{representation} is not compatible with {wanted} of {first.name}{when}",
                    )


def _demand(
    program: Program,
    limits: ImageExtents,
    index: int,
    call: OperatorCall,
    registered: Sequence[OpFeatures],
) -> Demand:
    inputs, outputs = _sets(program, index, call, registered[0])
    for features in registered[1:]:
        others = _sets(program, index, call, features)
        inputs = tuple(_at(inputs, i) & s for i, s in enumerate(others[0]))
        outputs = tuple(_at(outputs, i) & s for i, s in enumerate(others[1]))
    arguments = [
        _operand(program, limits, f"argument {position}", position, members, accepted)
        for position, members in program.arguments(call)
        if (accepted := _at(inputs, position))
    ]
    last = len(call.args) - 1
    results = [
        _operand(program, limits, f"output {i}", last, (value_id,), _at(outputs, i), True)
        for i, value_id in enumerate(program.outputs(call))
    ]
    # One registered set binds all arguments, or all outputs, together.
    groups = [arguments] if len(inputs) == 1 else [[operand] for operand in arguments]
    result_groups = [results] if len(outputs) == 1 else [[operand] for operand in results]
    # The same set at both ends binds the first argument to the first output.
    if arguments and _at(inputs, arguments[0].position) == _at(outputs, 0):
        groups[0] = groups[0] + result_groups.pop(0)
    narrowed = [_narrow(group) for group in (*groups, *result_groups) if group]
    return Demand(
        index,
        tuple(operand for group in narrowed for operand in group),
        tuple(group for group in narrowed if len(group) > 1),
    )


def _operand(
    program: Program,
    limits: ImageExtents,
    name: str,
    position: int,
    tensors: tuple[int, ...],
    accepted: TensorRepSet,
    is_output: bool = False,
) -> Operand:
    for value_id in tensors:
        accepted &= _existing(program.tensor(value_id).dims, limits)
    constant = any(program.is_constant(value_id) for value_id in tensors)
    return Operand(name, position, tensors, is_output, constant, accepted)


@lru_cache(maxsize=65536)
def _existing(dims: tuple[int, ...], limits: ImageExtents) -> TensorRepSet:
    return TensorRepSet.from_reprs(r for r in REPRS if exists(dims, r, limits))


def _narrow(group: Sequence[Operand]) -> tuple[Operand, ...]:
    """Synchronised operands, each with the representations that all of them accept."""
    if len(group) == 1:
        return (group[0],)
    common = _ANY
    for operand in group:
        common &= operand.accepted
    return tuple(
        Operand(o.name, o.position, o.tensors, o.is_output, o.constant, common) for o in group
    )


def _sets(
    program: Program, index: int, call: OperatorCall, features: OpFeatures
) -> tuple[tuple[TensorRepSet, ...], tuple[TensorRepSet, ...]]:
    if features.pick is None:
        return features.inputs, features.outputs
    try:
        return features.pick(*_as_operator(program, call))
    except InputError as error:
        raise fail(
            program.place(index), f"its arguments are not those of this operator: {error}"
        ) from error


def _at(sets: Sequence[TensorRepSet], position: int) -> TensorRepSet:
    if len(sets) == 1:
        return sets[0]
    return sets[position] if position < len(sets) else TensorRepSet.of()


def _as_operator(program: Program, call: OperatorCall) -> tuple[Operator, list[Tensor]]:
    """The call in the registry's words, with the tensors that it names."""
    tensors: list[Tensor] = []
    values = program.graph.values

    def tensor(value_id: int) -> int:
        found = program.tensor(value_id)
        tensors.append(Tensor(f"v{value_id}", found.dims, found.datatype, found.constant_id >= 0))
        return len(tensors) - 1

    def argument(value_id: int) -> Argument:
        value = values[value_id]
        if isinstance(value, VkTensor):
            return TensorArg(tensor(value_id))
        if isinstance(value, ValueList) and any(
            isinstance(values[member], VkTensor) for member in value.items
        ):
            return TensorListArg(
                tuple(
                    tensor(member) if isinstance(values[member], VkTensor) else None
                    for member in value.items
                )
            )
        return literal(program, value_id)

    args = tuple(argument(value_id) for value_id in call.args[:-1])
    outputs = tuple(tensor(value_id) for value_id in program.outputs(call))
    return Operator(call.name, args, outputs), tensors


def literal(program: Program, value_id: int) -> Argument:
    """An argument that is no tensor, nor a list of them, in the registry's words."""
    value = program.graph.values[value_id]
    if isinstance(value, ValueList):
        return tuple(_scalar(program.graph.values[member]) for member in value.items)
    if isinstance(value, (IntList, DoubleList, BoolList)):
        return tuple(value.items)
    return _scalar(value)


def _scalar(value: Value) -> Scalar | Symbolic:
    match value:
        case Null():
            return None
        case Int(int_val=number):
            return number
        case Double(double_val=number):
            # ExecuTorch's builder shares equal numbers: a 1 may be written as 1.0.
            return int(number) if number.is_integer() else number
        case Bool(bool_val=truth):
            return truth
        case String(string_val=text):
            return text
        case _:
            return Symbolic.VALUE


def _listed(representations: Iterable[TensorRepr]) -> str:
    return ", ".join(sorted(map(str, representations)))
