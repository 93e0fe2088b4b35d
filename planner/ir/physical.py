"""Sizes of a tensor in GPU memory, in each representation.

Source of the facts: ExecuTorch's Vulkan runtime, ``runtime/api/containers/Tensor.cpp`` (packed
dimensions, block sizes, strides), and ``required_image_extents`` in ``backends/vulkan/utils.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Final

from planner.ir.representation import (
    ANY_TEXTURE,
    CHANNELS,
    HEIGHT,
    REPRS,
    WIDTH,
    TensorRepr,
    TensorRepSet,
)
from schema import VkDataType, VkMemoryLayout
from schema.frozen import frozen

ImageExtents = tuple[int, int, int]
"""Width, height and depth of a 3D image, in texels."""

DEFAULT_TEXTURE_LIMITS: Final[ImageExtents] = (16384, 16384, 2048)
SMALL_TEXTURE_LIMITS: Final[ImageExtents] = (2048, 2048, 2048)
BUFFER_LIMIT: Final = 128 * 2**20
"""A buffer holds fewer elements than this number."""

TEXEL_ELEMENTS: Final = 4
MAX_TEXTURE_DIMS: Final = 4

ELEMENT_BYTES: Final[dict[VkDataType, int]] = {
    VkDataType.BOOL: 1,
    VkDataType.UINT8: 1,
    VkDataType.INT8: 1,
    VkDataType.INT32: 4,
    VkDataType.FLOAT16: 2,
    VkDataType.FLOAT32: 4,
    VkDataType.FLOAT64: 8,
    VkDataType.INT64: 8,
}


@frozen
class BlockedLayout:
    """The blocks of a buffer layout: ``inner_size`` by ``outer_size`` elements.

    ``inner_dim`` is the packed dimension P, ``outer_dim`` the outer packed dimension Q, both WHCN.
    Blocks are ordered by the remaining dimensions outermost first, then Q, then P; or P, then Q
    where ``transposed``.
    """

    inner_dim: int
    inner_size: int
    outer_dim: int
    outer_size: int
    transposed: bool = False


BLOCKED_LAYOUTS: Final[dict[VkMemoryLayout, BlockedLayout]] = {
    VkMemoryLayout.TENSOR_WIDTH_PACKED: BlockedLayout(WIDTH, 1, HEIGHT, 1),
    VkMemoryLayout.TENSOR_HEIGHT_PACKED: BlockedLayout(HEIGHT, 1, WIDTH, 1),
    VkMemoryLayout.TENSOR_CHANNELS_PACKED: BlockedLayout(CHANNELS, 1, WIDTH, 1),
    VkMemoryLayout.PACKED_INT8_4W: BlockedLayout(WIDTH, 4, HEIGHT, 1),
    VkMemoryLayout.PACKED_INT8_4C: BlockedLayout(CHANNELS, 4, WIDTH, 1),
    VkMemoryLayout.PACKED_INT8_4C1W: BlockedLayout(CHANNELS, 4, WIDTH, 1, transposed=True),
    VkMemoryLayout.PACKED_INT8_4W4C: BlockedLayout(CHANNELS, 4, WIDTH, 4),
    VkMemoryLayout.PACKED_INT8_4H4W: BlockedLayout(WIDTH, 4, HEIGHT, 4),
    # Dynamic: the runtime turns it into 4C or 4C1W, which have the same padding.
    VkMemoryLayout.PACKED_INT8_CONV2D: BlockedLayout(CHANNELS, 4, WIDTH, 1),
}


def image_extents(shape: Sequence[int], layout: VkMemoryLayout) -> ImageExtents:
    """The image's texels in x, y and z, for a tensor of at most 4 dimensions.

    ``shape`` is outermost first. The packed dimension is divided by 4 and rounded up; channels are
    divided before they are multiplied by the batch. Raises ``ValueError`` for more dimensions.
    """
    if len(shape) > MAX_TEXTURE_DIMS:
        raise ValueError(f"a tensor of {len(shape)} dimensions cannot be a texture")
    batch, *extents = (*([1] * (MAX_TEXTURE_DIMS - len(shape))), *shape)
    whc = extents[::-1]
    packed = BLOCKED_LAYOUTS[layout].inner_dim
    whc[packed] = -(-whc[packed] // TEXEL_ELEMENTS)
    return whc[WIDTH], whc[HEIGHT], whc[CHANNELS] * batch


def padded_elements(shape: Sequence[int], representation: TensorRepr) -> int:
    """Elements that the tensor takes in memory, padding included. ``shape`` is outermost first."""
    layout = representation.memory_layout
    if not representation.is_buffer:
        return prod(image_extents(shape, layout)) * TEXEL_ELEMENTS
    blocks = BLOCKED_LAYOUTS[layout]
    whcn = list(shape[::-1]) + [1] * (CHANNELS + 1 - len(shape))
    for dim, size in (
        (blocks.inner_dim, blocks.inner_size),
        (blocks.outer_dim, blocks.outer_size),
    ):
        whcn[dim] = -(-whcn[dim] // size) * size
    return prod(whcn)


def padded_bytes(shape: Sequence[int], dtype: VkDataType, representation: TensorRepr) -> int:
    """Bytes that the tensor takes in memory, padding included. ``shape`` is outermost first."""
    return padded_elements(shape, representation) * ELEMENT_BYTES[dtype]


@lru_cache(maxsize=65536)
def fitting(shape: tuple[int, ...], limits: ImageExtents) -> TensorRepSet:
    """The representations that a tensor of this shape can have on a device with these limits.

    These are all buffers; and textures, for at most 4 dimensions, if every image extent is within
    ``limits`` (texels in x, y, z).
    """
    fits = ~ANY_TEXTURE.mask & (1 << len(REPRS)) - 1
    if len(shape) <= MAX_TEXTURE_DIMS:
        for label, representation in enumerate(REPRS):
            if representation.is_buffer:
                continue
            extents = image_extents(shape, representation.memory_layout)
            if all(extent <= limit for extent, limit in zip(extents, limits, strict=True)):
                fits |= 1 << label
    return TensorRepSet(fits)
