"""The reference for the shaders in NumPy: a tensor's packed bytes, and quantization.

It follows only the table of layouts and shares no index arithmetic with the shaders.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpu.convert import QuantParams
from gpu.placement import UNIT, Placement

Array = NDArray[Any]
# Axes of the arrays below, which are in NCHW order: axis of a WHCN dimension.
_AXIS = (3, 2, 1, 0)


def pack(values: Array, placement: Placement) -> NDArray[np.uint8]:
    """The bytes of a tensor in memory, with its padding (zeros).

    ``values`` has the placement's shape and element size.
    """
    w, h, c, n = placement.extents
    array = np.ascontiguousarray(values).reshape(n, c, h, w)
    if placement.is_texture:
        return _as_bytes(_texels(array, placement))
    blocks = placement.blocks
    p, q = _AXIS[blocks.inner_dim], _AXIS[blocks.outer_dim]
    array = _padded(array, p, blocks.inner_size)
    array = _padded(array, q, blocks.outer_size)
    # Each axis becomes (blocks, inside a block); then the blocks' axes come first, in their order.
    sides = [1, 1, 1, 1]
    sides[p], sides[q] = blocks.inner_size, blocks.outer_size
    split = [
        part for size, side in zip(array.shape, sides, strict=True) for part in (size // side, side)
    ]
    outermost = [a for a in range(4) if a not in (p, q)]
    ordered = [*outermost, *((p, q) if blocks.transposed else (q, p))]
    axes = [2 * a for a in ordered] + [2 * a + 1 for a in (*outermost, q, p)]
    return _as_bytes(array.reshape(split).transpose(axes))


def unpack(memory: NDArray[np.uint8], placement: Placement, dtype: Any) -> Array:
    """The tensor, of the placement's shape, with these packed bytes; padding is ignored."""
    count = memory.size // placement.element_bytes
    numbered = Placement(placement.shape, placement.representation, placement.element_bytes)
    # Packing the elements' numbers shows where each element lies.
    numbers = np.arange(1, np.prod(placement.shape, dtype=np.int64) + 1, dtype=np.int64)
    places = _pack_any(numbers.reshape(placement.shape), numbered)
    is_element = places > 0
    elements = memory.view(np.dtype(dtype))
    assert elements.size == count
    values = np.empty(numbers.size, dtype)
    values[places[is_element] - 1] = elements[is_element]
    return values.reshape(placement.shape)


def _pack_any(values: NDArray[np.int64], placement: Placement) -> NDArray[np.int64]:
    return pack(values, placement).view(np.int64)


def _texels(array: Array, placement: Placement) -> Array:
    """An image as (z, y, x, component); z counts batches, and channels within each."""
    axis = _AXIS[placement.packed_dim]
    array = _padded(array, axis, UNIT)
    n, c, h, w = array.shape
    if axis == 3:
        return array.reshape(n * c, h, w // UNIT, UNIT)
    if axis == 2:
        return array.reshape(n * c, h // UNIT, UNIT, w).transpose(0, 1, 3, 2)
    return array.reshape(n * (c // UNIT), UNIT, h, w).transpose(0, 2, 3, 1)


def _padded(array: Array, axis: int, size: int) -> Array:
    missing = -array.shape[axis] % size
    return np.pad(array, [(0, missing if a == axis else 0) for a in range(4)])


def _as_bytes(array: Array) -> NDArray[np.uint8]:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def quantize(values: Array, parameters: QuantParams) -> NDArray[np.int8]:
    """clamp(round(x * (1/scale)) + zero_point, -128, 127) in float32, half to even; NaN gives 0."""
    inverse = np.float32(1) / np.float32(parameters.scale)
    with np.errstate(all="ignore"):
        rounded = np.rint(values.astype(np.float32) * inverse) + np.float32(parameters.zero_point)
    clamped = np.clip(rounded, -128, 127)
    return np.where(np.isnan(clamped), np.float32(0), clamped).astype(np.int8)


def dequantize(values: NDArray[np.int8], parameters: QuantParams, dtype: Any) -> Array:
    """(q - zero_point) * scale in float32, then rounded to ``dtype``."""
    centred = values.astype(np.float32) - np.float32(parameters.zero_point)
    with np.errstate(over="ignore"):
        return (centred * np.float32(parameters.scale)).astype(dtype)
