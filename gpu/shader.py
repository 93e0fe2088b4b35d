"""Generates the WGSL that converts a tensor from one placement to another.

One generator makes every variant: quantize, dequantize, repack and staging differ only in the
source, the target and the change of four elements in between. Shapes become constants, so that
divisions by extents are multiplications and bounds that always hold cost nothing.

A *unit* is four elements along the packed dimension of a placement: a texel, a word of int8, or
four neighbours in a buffer. An invocation converts a brick of the tensor that is four elements
wide along each dimension in which the source or the target holds units or blocks of units, so that
it reads and writes whole ones. Where source and target are packed along different dimensions, it
transposes its brick in registers. Where consecutive units run along different dimensions, a
workgroup converts a tile of bricks: read along the source's dimension, exchanged in workgroup
memory, written along the target's.

Where blocks of units make a brick a cube of 64 elements, small tensors have few of them. Then the
blocks' units are taken one by one.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Final

from gpu.access import WORD_BYTES, is_aligned
from gpu.bricks import BrickKernel
from gpu.errors import GpuError
from gpu.kernel import Kernel, Shader, Step
from gpu.placement import BATCH, CONTIGUOUS, UNIT, Placement
from gpu.tiles import TileKernel
from gpu.words import WordKernel
from planner.ir.physical import BlockedLayout
from planner.ir.representation import CHANNELS, HEIGHT, WIDTH
from schema import VkMemoryLayout

_FEW_CUBES: Final = 2**15
"""Bricks of four by four by four below which a large GPU waits for each, rather than for memory."""


@lru_cache(maxsize=4096)
def shader(source: Placement, target: Placement, step: Step = "repack") -> Shader:
    """The shader that converts ``source`` to ``target``.

    Raises ``GpuError`` where shapes differ or element sizes do not fit the step.
    """
    _check(source, target, step)
    source, target = taken(source, target, step)
    if target.is_plain and target.element_bytes < WORD_BYTES and not is_aligned(target):
        kernel: Kernel = WordKernel(source, target, step)
    elif _is_exchanged(source, target):
        kernel = TileKernel(source, target, step)
    else:
        kernel = BrickKernel(source, target, step)
    return kernel.shader()


def taken(source: Placement, target: Placement, step: Step) -> tuple[Placement, Placement]:
    """Both sides as a shader takes them: in one dimension, or other blocks, if that is faster."""
    source, target = _collapsed(source, target, step)
    blocked = _single if step != "repack" and _are_few_cubes(source, target) else _widened
    return blocked(source), blocked(target)


def _is_exchanged(source: Placement, target: Placement) -> bool:
    """Whether an exchange through workgroup memory is faster.

    It is where units follow each other along different dimensions, where images are read or written
    in small rectangles, and where several units in flight already help; not where blocks of int8
    are rows of the other side.
    """
    is_turned = source.fast_dim != target.fast_dim
    has_image = source.is_texture or target.is_texture
    return is_turned or has_image or (source.is_plain and target.is_plain)


def _check(source: Placement, target: Placement, step: Step) -> None:
    if source.shape != target.shape:
        raise GpuError(f"shapes differ: {list(source.shape)} and {list(target.shape)}")
    sizes = source.element_bytes, target.element_bytes
    if step == "repack":
        is_right = sizes[0] == sizes[1]
    elif step == "quantize":
        is_right = sizes[0] in (2, 4) and sizes[1] == 1
    else:
        is_right = sizes[0] == 1 and sizes[1] in (2, 4)
    if not is_right:
        raise GpuError(f"cannot {step} elements of {sizes[0]} bytes to elements of {sizes[1]}")


def _collapsed(source: Placement, target: Placement, step: Step) -> tuple[Placement, Placement]:
    """The same conversion in one dimension, if both sides hold the elements in the same order."""
    order = source.linear_order
    if order is None or order != target.linear_order:
        return source, target
    count = prod(source.shape)
    size = source.element_bytes
    if step == "repack" and count * size % WORD_BYTES == 0:
        count, size = count * size // WORD_BYTES, WORD_BYTES
        return (Placement((count,), CONTIGUOUS, size),) * 2
    return (
        Placement((count,), CONTIGUOUS, size),
        Placement((count,), CONTIGUOUS, target.element_bytes),
    )


def _are_few_cubes(source: Placement, target: Placement) -> bool:
    """Whether bricks would be cubes, too few for a large GPU: squares are four times as many."""
    cubes = prod(-(-extent // UNIT) for extent in source.extents[:BATCH]) * source.extents[BATCH]
    dims = {source.packed_dim, target.packed_dim}
    outer = (p.blocks.outer_dim for p in (source, target) if p.representation.is_packed_int8)
    return cubes < _FEW_CUBES and len(dims.union(outer)) == len((WIDTH, HEIGHT, CHANNELS))


class _Single(Placement):
    """A layout of blocks whose units are read or written one by one."""

    @property
    def outer_dim(self) -> None:
        """Units are not taken together."""
        return None


class _Widened(Placement):
    """4C1W with whole rows, whose words lie in memory like blocks of four by four."""

    @property
    def blocks(self) -> BlockedLayout:
        """Blocks of four words along the width."""
        return BlockedLayout(CHANNELS, UNIT, WIDTH, UNIT, transposed=True)


def _single(placement: Placement) -> Placement:
    outer = placement.outer_dim
    if outer is not None and placement.extents[outer] % UNIT == 0:
        return _Single(placement.shape, placement.representation, placement.element_bytes)
    return placement


def _widened(placement: Placement) -> Placement:
    is_4c1w = placement.representation.memory_layout == VkMemoryLayout.PACKED_INT8_4C1W
    if is_4c1w and placement.extents[WIDTH] % UNIT == 0:
        return _Widened(placement.shape, placement.representation, placement.element_bytes)
    return placement
