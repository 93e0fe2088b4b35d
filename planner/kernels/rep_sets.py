"""What a call of an operator accepts: registered sets, narrowed by shapes and synchronisation.

Source of the facts: ExecuTorch 1.5.1, ``backends/vulkan/utils.py`` (``OpRepSets``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from planner.errors import InputError
from planner.ir.graph import Operator, Side, Tensor
from planner.ir.physical import ImageExtents, fitting
from planner.ir.representation import (
    ANY_STORAGE_INCL_PACKED_INT8,
    COMPATIBILITY_CLASSES,
    NO_STORAGE,
    TensorRepSet,
    labels_of,
)
from planner.kernels.faults import Fault
from planner.kernels.registry import RepSets, lookup, registrations
from planner.kernels.releases import Runtime
from schema import VkDataType
from schema.frozen import frozen

Possible = Callable[[Side, int, tuple[int, ...]], int]
"""Answers for a side, an index there and its tensors."""

_LATEST = Runtime()


@frozen
class OpRepSets:
    """The representations that one call of an operator accepts, given its operands' shapes.

    ``args[i]`` is None if argument ``i`` is not a tensor, or a weight that the operator prepacks
    itself. ``primary_arg`` is the first argument with a set. The three rules require compatible
    representations: of all arguments; of the primary argument and the first output; of all outputs.
    """

    args: tuple[TensorRepSet | None, ...]
    outs: tuple[TensorRepSet, ...]
    sync_args: bool
    sync_primary_io: bool
    sync_outs: bool
    primary_arg: int | None

    def of(self, side: Side, index: int) -> TensorRepSet | None:
        """The set of an operand."""
        return (self.outs if side == "output" else self.args)[index]


def check_arguments(operator: Operator, tensors: Sequence[Tensor]) -> None:
    """Raises ``InputError`` where the rep sets show that arguments do not fit the operator."""
    features = lookup(operator.name)
    if features is None or not operator.outputs:
        return
    inputs, outputs = features.inputs, features.outputs
    if features.pick is not None:
        inputs, outputs = features.pick(operator, tensors)
    if not _at(outputs, 0):
        raise InputError(f"{operator.name}: ET-VK has no kernel for these arguments")
    made = ((i, (out,)) for i, out in enumerate(operator.outputs))
    for what, sets, operands in (
        ("argument", inputs, operator.tensor_args()),
        ("output", outputs, made),
    ):
        for index, members in operands:
            accepted = _at(sets, index)
            is_int8 = all(tensors[t].dtype == VkDataType.INT8 for t in members)
            if accepted and not is_int8 and all(r.is_packed_int8 for r in accepted):
                raise InputError(f"{operator.name}: {what} {index} should be of INT8 elements")


def op_rep_sets(
    operator: Operator,
    tensors: Sequence[Tensor],
    texture_limits: ImageExtents,
    runtime: Runtime = _LATEST,
) -> OpRepSets | None:
    """The sets that a call of an operator accepts, or None if it binds no representation.

    None is for operators without registration and for those that make no tensor (symbolic
    arithmetic): ET-VK's pass skips both. Registered sets are those that all releases of the
    ``runtime`` have in common, filtered by each operand's shape, with ``texture_limits`` in texels.
    Then the synchronisation rules narrow the sets of operands that must be compatible to what they
    have in common.
    """
    if not operator.outputs:
        return None
    registered = [
        (features.inputs, features.outputs)
        if features.pick is None
        else features.pick(operator, tensors)
        for features in registrations(operator.name, runtime)
    ]
    if not registered:
        return None
    inputs, outputs = registered[0]
    for other_inputs, other_outputs in registered[1:]:
        inputs, outputs = _common(inputs, other_inputs), _common(outputs, other_outputs)
    sync_args, sync_outs = len(inputs) <= 1, len(outputs) <= 1

    args: list[int | None] = [None] * len(operator.args)
    primary = None
    common_arg = ANY_STORAGE_INCL_PACKED_INT8.mask
    for index, members in operator.tensor_args():
        mask = _at(inputs, index).mask
        if not mask:
            continue
        for member in members:
            mask &= fitting(tensors[member].shape, texture_limits).mask
        args[index] = mask
        common_arg &= mask
        if primary is None:
            primary = index
    outs = [
        _at(outputs, i).mask & fitting(tensors[out].shape, texture_limits).mask
        for i, out in enumerate(operator.outputs)
    ]
    common_out = ANY_STORAGE_INCL_PACKED_INT8.mask
    for mask in outs:
        common_out &= mask

    sync_primary_io = primary is not None and _at(inputs, primary) == outputs[0]
    if sync_primary_io:
        assert primary is not None
        primary_arg = args[primary]
        assert primary_arg is not None
        shared = (common_arg if sync_args else primary_arg) & (common_out if sync_outs else outs[0])
        args[primary] = common_arg = shared
        outs[0] = common_out = shared
    if sync_args:
        args = [None if mask is None else common_arg for mask in args]
    if sync_outs:
        outs = [common_out] * len(outs)
    return OpRepSets(
        args=tuple(None if mask is None else TensorRepSet(mask) for mask in args),
        outs=tuple(map(TensorRepSet, outs)),
        sync_args=sync_args,
        sync_primary_io=sync_primary_io,
        sync_outs=sync_outs,
        primary_arg=primary,
    )


def without_faults(
    sets: OpRepSets,
    operator: Operator,
    faults: Iterable[Fault],
    possible: Possible,
) -> OpRepSets:
    """The sets less what the faults forbid; a fault that would leave an operand nothing stays.

    ``possible`` gives the representations that an operand can have at all, as a bit mask over
    labels; 0 for constants, which have none.
    """
    for fault in faults:
        left = _less(sets, operator, fault)
        if _is_feasible(left, operator, possible):
            sets = left
    return sets


def _less(sets: OpRepSets, operator: Operator, fault: Fault) -> OpRepSets:
    args, outs = list(sets.args), list(sets.outs)
    for side, index, _ in operator.operands():
        sets_there = outs if side == "output" else args
        accepted = sets_there[index]
        if accepted is not None and fault.is_about(side, index):
            sets_there[index] = accepted - fault.representations
    return replace(sets, args=tuple(args), outs=tuple(outs))


def _is_feasible(sets: OpRepSets, operator: Operator, possible: Possible) -> bool:
    """Whether the operands of a call, taken alone, can have representations from the sets."""
    args: dict[int, int] = {}
    outs: dict[int, int] = {}
    for side, index, members in operator.operands():
        accepted = sets.of(side, index)
        if accepted is not None and (limit := possible(side, index, members)):
            (outs if side == "output" else args)[index] = accepted.mask & limit
    if not (all(args.values()) and all(outs.values())):
        return False
    bound = [m for i, m in args.items() if sets.sync_args or i == sets.primary_arg]
    made = [m for i, m in outs.items() if sets.sync_outs or i == 0]
    groups = [bound + made] if sets.sync_primary_io else [bound, made]
    return all(set.intersection(*map(_classes, group)) for group in groups if group)


def _classes(mask: int) -> set[int]:
    return {COMPATIBILITY_CLASSES[label] for label in labels_of(mask)}


def _common(sets: RepSets, others: RepSets) -> RepSets:
    return tuple(a & b for a, b in zip(sets, others, strict=True))


def _at(sets: RepSets, index: int) -> TensorRepSet:
    """The set for a position: a single set counts for all; beyond the last one it is empty."""
    if len(sets) == 1:
        return sets[0]
    return sets[index] if index < len(sets) else NO_STORAGE
