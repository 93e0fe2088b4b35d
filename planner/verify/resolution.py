"""The layouts that replace PACKED_INT8_CONV2D at load time, and whether kernels support them.

Source of the facts: ExecuTorch's Vulkan runtime, ``runtime/ResolveLayouts.cpp`` and the checks in
``runtime/graph/ops/impl/Q8ta*.cpp``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from planner.ir.representation import TensorRepr
from planner.verify.layouts import INT8_LAYOUTS, PACKINGS, C, W, are_compatible, is_int8_layout
from planner.verify.operands import Demand, Operand, check_synchronised
from planner.verify.program import Program, fail
from schema import VkMemoryLayout, VkStorageType, VkTensor
from schema.vkgraph import Double, Int, OperatorCall, Value

Layouts = dict[int, VkMemoryLayout]

CONV2D: Final = VkMemoryLayout.PACKED_INT8_CONV2D
IM2COL: Final = VkMemoryLayout.PACKED_INT8_4C
DIRECT: Final = VkMemoryLayout.PACKED_INT8_4C1W

_CONCRETE: Final = INT8_LAYOUTS - {CONV2D}
_CHANNELS: Final = frozenset(
    layout
    for layout in _CONCRETE
    if PACKINGS[layout][:3] == (C, 4, W) and PACKINGS[layout].outer_size in (1, 4)
)
_CHANNEL_BLOCKS: Final = frozenset(
    layout for layout in _CHANNELS if PACKINGS[layout].outer_size == 4
)
_ROW_BLOCKS: Final = frozenset({VkMemoryLayout.PACKED_INT8_4H4W})
_ROWS: Final = frozenset({VkMemoryLayout.PACKED_INT8_4W})

_KERNELS: Final = {
    "et_vk.q8ta_conv2d.default": (_CHANNELS, _CHANNELS),
    "et_vk.q8ta_conv2d_dw.default": (_CHANNELS, _CHANNELS),
    "et_vk.q8ta_conv2d_transposed.default": (_CHANNELS, _CHANNELS),
    "et_vk.q8ta_conv2d_pw.default": (_CHANNEL_BLOCKS, _CHANNELS),
    "et_vk.q8ta_pixel_shuffle.default": (_CHANNELS, _CHANNELS),
    "et_vk.q8ta_linear.default": (_ROW_BLOCKS, _ROW_BLOCKS),
    "et_vk.q8ta_linear_gemv.default": (_ROWS, _ROWS),
}
"""The layouts of a kernel's int8 inputs, and of its int8 outputs.

Other kernels take everything that is registered for their operator; synchronisation demands that
operands have the same packing.
"""


def check_resolution(program: Program, demands: Iterable[Demand]) -> None:
    """Shows that every kernel gets layouts that it supports, on Mali and on other GPUs.

    Raises ``VerificationError`` naming the operator or tensor.
    """
    demands = tuple(demands)
    planned = program.representations
    if not any(r.memory_layout == CONV2D for r in planned.kinds):
        _check_kernels(program, demands, planned, "")
        return
    for is_mali, device in ((False, "a GPU that is not a Mali"), (True, "a Mali GPU")):
        resolved = dict(planned)
        for value_id, layout in resolve(program, is_mali=is_mali).items():
            actual = TensorRepr(VkStorageType.BUFFER, layout)
            if not are_compatible(actual, planned[value_id]):
                raise fail(
                    program.place_of(value_id),
                    f"it was planned as {planned[value_id]} and becomes {actual} on {device}",
                )
            resolved[value_id] = actual
        when = f" after loading on {device}"
        _check_kernels(program, demands, resolved, when)
        check_synchronised(program, demands, resolved, when)


def resolve(program: Program, *, is_mali: bool) -> Layouts:
    """The layout that each tensor with CONV2D gets when the program is loaded.

    Like the runtime, this ignores members of lists and takes only tensors that are arguments.
    """
    open_ids = {v for v, r in program.representations.items() if r.memory_layout == CONV2D}
    resolved: Layouts = {}
    for index, call in enumerate(program.calls):
        if not call.args or call.args[0] not in open_ids:
            continue
        if call.name == "et_vk.q8ta_conv2d.default":
            # If several convolutions read the tensor, the last one decides.
            resolved[call.args[0]] = _asked_by_conv2d(program, index, call, is_mali)
        elif call.name == "et_vk.q8ta_conv2d_dw.default":
            resolved.setdefault(call.args[0], DIRECT)
    for call in program.calls:
        concrete = None
        for value_id in call.args:
            layout = resolved.get(value_id, _planned(program, value_id))
            if layout in _CONCRETE:
                concrete = layout
                break
        if concrete is not None:
            for value_id in call.args:
                if value_id in open_ids:
                    resolved.setdefault(value_id, concrete)
    for value_id in open_ids:
        resolved.setdefault(value_id, DIRECT)
    return resolved


def _planned(program: Program, value_id: int) -> VkMemoryLayout | None:
    representation = program.representations.get(value_id)
    return None if representation is None else representation.memory_layout


def _asked_by_conv2d(
    program: Program, index: int, call: OperatorCall, is_mali: bool
) -> VkMemoryLayout:
    """The layout that a convolution asks for: 4C if it goes through im2col, else 4C1W."""
    values = program.graph.values
    source, groups, output = (
        values[call.args[position]] if position < len(call.args) else None
        for position in (0, 13, 15)
    )
    if (
        not isinstance(source, VkTensor)
        or not isinstance(output, VkTensor)
        or (count := _whole(groups)) <= 0
        or min(len(source.dims), len(output.dims)) < 3
    ):
        raise fail(program.place(index), "its arguments are not those of a convolution")
    channels = source.dims[-3] // count
    if channels % 4 != 0:
        return DIRECT
    small = output.dims[-2] * output.dims[-1] <= 4096
    if is_mali or (count == 1 and (channels >= 32 or small)):
        return IM2COL
    return DIRECT


def _whole(value: Value | None) -> int:
    """A number of groups; 0 for a value that is not one.

    ExecuTorch's builder shares equal scalars, so that a 1 may be written as the Double 1.0. Its
    runtime cannot load that, with any layout.
    """
    if isinstance(value, Int):
        return value.int_val
    if isinstance(value, Double) and value.double_val.is_integer():
        return int(value.double_val)
    return 0


def _check_kernels(
    program: Program,
    demands: Iterable[Demand],
    resolved: Mapping[int, TensorRepr],
    when: str,
) -> None:
    for demand in demands:
        kernel = _KERNELS.get(program.calls[demand.index].name)
        for operand in demand.operands:
            if operand.constant:
                continue
            for value_id in operand.tensors:
                given = resolved[value_id]
                if is_int8_layout(given) and given.memory_layout not in _taken(kernel, operand):
                    raise fail(
                        program.place(demand.index, operand.name),
                        f"its kernel cannot work with {given}{when}",
                    )


def _taken(
    kernel: tuple[frozenset[VkMemoryLayout], frozenset[VkMemoryLayout]] | None, operand: Operand
) -> frozenset[VkMemoryLayout]:
    if kernel is not None:
        return kernel[operand.is_output]
    registered = operand.accepted.buffer_layouts
    return registered - {CONV2D} | {IM2COL, DIRECT} if CONV2D in registered else registered
