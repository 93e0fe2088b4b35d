"""The layout of tensors in memory: ET-VK's packing and padding, and a device's limits.

Source of the facts: ExecuTorch's Vulkan runtime, ``runtime/api/containers/Tensor.cpp``.
"""

from __future__ import annotations

from math import prod
from typing import Final, NamedTuple

from planner.ir.physical import ImageExtents
from planner.ir.representation import REPRS, TensorRepr
from schema import VkDataType, VkMemoryLayout, VkStorageType, VkTensor

W, H, C, N = 0, 1, 2, 3


class Packing(NamedTuple):
    """The dimension whose elements are packed, then the one whose packs make a block."""

    packed: int
    packed_size: int
    outer: int
    outer_size: int


PACKINGS: Final = {
    VkMemoryLayout.TENSOR_WIDTH_PACKED: Packing(W, 1, H, 1),
    VkMemoryLayout.TENSOR_HEIGHT_PACKED: Packing(H, 1, W, 1),
    VkMemoryLayout.TENSOR_CHANNELS_PACKED: Packing(C, 1, W, 1),
    VkMemoryLayout.PACKED_INT8_4W: Packing(W, 4, H, 1),
    VkMemoryLayout.PACKED_INT8_4C: Packing(C, 4, W, 1),
    VkMemoryLayout.PACKED_INT8_4C1W: Packing(C, 4, W, 1),
    VkMemoryLayout.PACKED_INT8_4W4C: Packing(C, 4, W, 4),
    VkMemoryLayout.PACKED_INT8_4H4W: Packing(W, 4, H, 4),
    # CONV2D stands for 4C or 4C1W until the program is loaded.
    VkMemoryLayout.PACKED_INT8_CONV2D: Packing(C, 4, W, 1),
}
"""The packing in a buffer; an image packs four elements to a texel along the same dimension."""

INT8_LAYOUTS: Final = frozenset(
    layout for layout in VkMemoryLayout if layout.name.startswith("PACKED_INT8_")
)

ELEMENT_BYTES: Final = {
    VkDataType.BOOL: 1,
    VkDataType.UINT8: 1,
    VkDataType.INT8: 1,
    VkDataType.FLOAT16: 2,
    VkDataType.INT32: 4,
    VkDataType.FLOAT32: 4,
    VkDataType.INT64: 8,
    VkDataType.FLOAT64: 8,
}

_KNOWN: Final = frozenset(REPRS)


def is_int8_layout(representation: TensorRepr) -> bool:
    """Whether four int8 elements share a word."""
    return representation.memory_layout in INT8_LAYOUTS


def are_compatible(a: TensorRepr, b: TensorRepr) -> bool:
    """Whether synchronised operands may have these two: equal storage and packing."""
    return _class_of(a) == _class_of(b)


def _class_of(representation: TensorRepr) -> tuple[VkStorageType, int, int]:
    packing = PACKINGS[representation.memory_layout]
    is_buffer = representation.storage_type == VkStorageType.BUFFER
    return representation.storage_type, packing.packed, packing.packed_size if is_buffer else 4


def whcn(dims: tuple[int, ...]) -> list[int]:
    """Dimensions from the innermost out, at least four."""
    return [*reversed(dims), *([1] * (4 - len(dims)))]


def texels(dims: tuple[int, ...], layout: VkMemoryLayout) -> tuple[int, int, int]:
    """Width, height and depth of the image for a tensor of at most four dimensions."""
    sizes = whcn(dims)
    packed = PACKINGS[layout].packed
    sizes[packed] = (sizes[packed] + 3) // 4
    return sizes[W], sizes[H], sizes[C] * sizes[N]


def why_not(tensor: VkTensor, representation: TensorRepr, limits: ImageExtents) -> str | None:
    """The reason why a tensor cannot have a representation on a device; None if it can."""
    if representation not in _KNOWN:
        storage, layout = representation.storage_type, representation.memory_layout
        return f"{storage.name} with {layout.name} is not a representation"
    if tensor.datatype not in ELEMENT_BYTES:
        return f"a tensor of {tensor.datatype.name} elements has no representation"
    if is_int8_layout(representation) and tensor.datatype != VkDataType.INT8:
        return f"{representation} is for int8, not for {tensor.datatype.name} elements"
    if not exists(tensor.dims, representation, limits):
        return f"{representation} of {tensor.dims} exceeds the texture limits {limits}"
    return None


def exists(dims: tuple[int, ...], representation: TensorRepr, limits: ImageExtents) -> bool:
    """Whether a tensor of these dimensions can have a representation; buffers always exist."""
    if representation.storage_type == VkStorageType.BUFFER:
        return True
    return len(dims) <= 4 and all(
        size <= limit
        for size, limit in zip(texels(dims, representation.memory_layout), limits, strict=True)
    )


def memory_bytes(tensor: VkTensor, representation: TensorRepr) -> int:
    """Bytes of a tensor in memory, padding included."""
    layout = representation.memory_layout
    size = ELEMENT_BYTES[tensor.datatype]
    if representation.storage_type != VkStorageType.BUFFER:
        return 4 * prod(texels(tensor.dims, layout)) * size
    sizes = whcn(tensor.dims)
    packing = PACKINGS[layout]
    sizes[packing.packed] += -sizes[packing.packed] % packing.packed_size
    sizes[packing.outer] += -sizes[packing.outer] % packing.outer_size
    return prod(sizes) * size
