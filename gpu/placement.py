"""The place of each element of a tensor in GPU memory.

Source of the facts: ExecuTorch's Vulkan runtime, ``runtime/api/containers/Tensor.cpp`` (block
sizes, order of blocks, image extents); see ``planner.ir.physical``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Final

from gpu.errors import GpuError
from planner.ir.physical import BLOCKED_LAYOUTS, TEXEL_ELEMENTS, BlockedLayout, image_extents
from planner.ir.representation import CHANNELS, HEIGHT, WIDTH, TensorRepr
from schema import VkMemoryLayout, VkStorageType

BATCH: Final = 3
"""The outermost dimension in WHCN order; outer ones of a buffer are folded into it."""

Extents = tuple[int, int, int, int]
"""Elements along width, height, channels and batch."""

CONTIGUOUS: Final = TensorRepr(VkStorageType.BUFFER, VkMemoryLayout.TENSOR_WIDTH_PACKED)
"""Row-major without padding, for elements of any size: the layout of staging buffers."""

MOST_BUFFER_DIMS: Final = 8
MOST_TEXTURE_DIMS: Final = 4
UNIT: Final = TEXEL_ELEMENTS
"""Elements along the packed dimension that are read or written together."""

TEXEL_FORMATS: Final = {1: "rgba8uint", 2: "rgba16uint", 4: "rgba32uint"}
"""Image formats by bytes per element. They are unsigned, so that a repack moves bits and no driver
canonicalises a NaN or flushes a denormal. Texels are as large as those of ET-VK's formats."""


def whcn(shape: Sequence[int]) -> Extents:
    """Extents of a shape (outermost first), dimensions beyond four folded into the batch."""
    *outer, channels, height, width = (*([1] * (4 - len(shape))), *shape)
    return width, height, channels, prod(outer)


@dataclass(frozen=True)
class Placement:
    """A tensor's shape (outermost first), representation and bytes per element (1, 2 or 4).

    int8 representations have elements of one byte; ``CONTIGUOUS`` and the other float buffers and
    textures take any. Raises ``GpuError`` for combinations that do not exist.
    """

    shape: tuple[int, ...]
    representation: TensorRepr
    element_bytes: int

    def __post_init__(self) -> None:
        most = MOST_BUFFER_DIMS if self.representation.is_buffer else MOST_TEXTURE_DIMS
        if len(self.shape) > most:
            raise GpuError(
                f"a tensor of {len(self.shape)} dimensions cannot be {self.representation}: "
                f"at most {most} are possible"
            )
        if 0 in self.shape:
            raise GpuError(f"a tensor of shape {list(self.shape)} has no elements to place")
        if self.element_bytes not in TEXEL_FORMATS:
            raise GpuError(
                f"elements of {self.element_bytes} bytes have no GPU format: use 1, 2 or 4"
            )
        if self.representation.is_packed_int8 and self.element_bytes != 1:
            raise GpuError(f"{self.representation} holds elements of one byte")

    @cached_property
    def extents(self) -> Extents:
        """Elements along width, height, channels and batch."""
        return whcn(self.shape)

    @property
    def is_texture(self) -> bool:
        """Whether the tensor is a 3D image."""
        return not self.representation.is_buffer

    @property
    def is_plain(self) -> bool:
        """Whether the tensor is a buffer without blocks, and so without padding."""
        return self.representation.is_buffer and not self.representation.is_packed_int8

    @cached_property
    def blocks(self) -> BlockedLayout:
        """The blocks of the layout; a texel is a block of four along the packed dimension."""
        return BLOCKED_LAYOUTS[self.representation.memory_layout]

    @property
    def packed_dim(self) -> int:
        """P: the dimension (WHCN) of a unit's four elements."""
        return self.blocks.inner_dim

    @property
    def outer_dim(self) -> int | None:
        """Q: the dimension (WHCN) along which a block holds four units; None if it holds one."""
        return self.blocks.outer_dim if self.blocks.outer_size == UNIT else None

    @property
    def units_apart(self) -> int:
        """Units of a block that are taken one by one; 1 where they are read or written together."""
        return self.blocks.outer_size if self.outer_dim is None else 1

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Dimensions (WHCN) of a buffer's blocks, outermost first."""
        inner, outer = self.blocks.inner_dim, self.blocks.outer_dim
        rest = tuple(d for d in (BATCH, CHANNELS, HEIGHT, WIDTH) if d not in (inner, outer))
        return (*rest, inner, outer) if self.blocks.transposed else (*rest, outer, inner)

    @property
    def fast_dim(self) -> int:
        """The dimension (WHCN) along which consecutive units, or a row's texels, lie."""
        return WIDTH if self.is_texture else self.order[-1]

    @cached_property
    def grid(self) -> Extents:
        """Blocks of a buffer along width, height, channels and batch, padding included."""
        counts = list(self.extents)
        for dim, size in (
            (self.blocks.inner_dim, self.blocks.inner_size),
            (self.blocks.outer_dim, self.blocks.outer_size),
        ):
            counts[dim] = -(-counts[dim] // size)
        return counts[0], counts[1], counts[2], counts[3]

    @cached_property
    def strides(self) -> Extents:
        """Strides of a buffer, in blocks, along width, height, channels and batch."""
        strides = [0, 0, 0, 0]
        step = 1
        for dim in reversed(self.order):
            strides[dim] = step
            step *= self.grid[dim]
        return strides[0], strides[1], strides[2], strides[3]

    @property
    def block_elements(self) -> int:
        """Elements in a block."""
        return self.blocks.inner_size * self.blocks.outer_size

    @cached_property
    def image_extents(self) -> tuple[int, int, int]:
        """Texels of the image along x, y and z."""
        return image_extents(self.shape, self.representation.memory_layout)

    @cached_property
    def bytes(self) -> int:
        """Bytes in memory, padding included."""
        if self.is_texture:
            return prod(self.image_extents) * UNIT * self.element_bytes
        return prod(self.grid) * self.block_elements * self.element_bytes

    @cached_property
    def linear_order(self) -> tuple[tuple[int, int], ...] | None:
        """The memory order as (dimension, extent), outermost first, without extents of 1.

        None where memory is not just a permutation of the elements: for an image, for padding, and
        for blocks of more than one unit.
        """
        if self.is_texture or prod(self.grid) * self.block_elements != prod(self.extents):
            return None
        if self.outer_dim is not None or self.order[-1] != self.packed_dim:
            return None
        return tuple((d, self.extents[d]) for d in self.order if self.extents[d] > 1)
