"""Sizes in memory against the table of layouts, worked by hand and by brute force."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.ir.physical import BLOCKED_LAYOUTS, padded_bytes, padded_elements
from planner.ir.representation import REPRS, TensorRepr
from schema import VkDataType, VkMemoryLayout, VkStorageType

BUFFER, TEXTURE = VkStorageType.BUFFER, VkStorageType.TEXTURE_3D
L = VkMemoryLayout


@pytest.mark.parametrize(
    ("shape", "dtype", "storage", "layout", "expected"),
    [
        ((2, 3, 5, 7), VkDataType.FLOAT32, BUFFER, L.TENSOR_CHANNELS_PACKED, 2 * 3 * 5 * 7 * 4),
        ((2, 3, 5, 7), VkDataType.FLOAT32, TEXTURE, L.TENSOR_WIDTH_PACKED, 2 * 3 * 5 * 8 * 4),
        ((2, 3, 5, 7), VkDataType.FLOAT32, TEXTURE, L.TENSOR_HEIGHT_PACKED, 2 * 3 * 8 * 7 * 4),
        ((2, 3, 5, 7), VkDataType.FLOAT16, TEXTURE, L.TENSOR_CHANNELS_PACKED, 2 * 4 * 5 * 7 * 2),
        ((2, 3, 5, 7), VkDataType.INT8, BUFFER, L.PACKED_INT8_4W4C, 2 * 4 * 5 * 8),
        ((2, 3, 5, 7), VkDataType.INT8, BUFFER, L.PACKED_INT8_4H4W, 2 * 3 * 8 * 8),
        ((2, 3, 5, 7), VkDataType.INT8, BUFFER, L.PACKED_INT8_4W, 2 * 3 * 5 * 8),
        ((2, 3, 5, 7), VkDataType.INT8, BUFFER, L.PACKED_INT8_4C1W, 2 * 4 * 5 * 7),
        ((2, 3, 5, 7), VkDataType.INT8, BUFFER, L.PACKED_INT8_CONV2D, 2 * 4 * 5 * 7),
        ((7,), VkDataType.INT8, BUFFER, L.PACKED_INT8_4W4C, 4 * 8),
        ((), VkDataType.FLOAT32, TEXTURE, L.TENSOR_WIDTH_PACKED, 16),
        ((), VkDataType.INT32, BUFFER, L.TENSOR_WIDTH_PACKED, 4),
        ((2, 2, 2, 2, 2, 3), VkDataType.INT8, BUFFER, L.PACKED_INT8_4W, 32 * 4),
    ],
)
def test_padded_bytes(
    shape: tuple[int, ...],
    dtype: VkDataType,
    storage: VkStorageType,
    layout: VkMemoryLayout,
    expected: int,
) -> None:
    assert padded_bytes(shape, dtype, TensorRepr(storage, layout)) == expected


@given(
    st.lists(st.integers(1, 9), min_size=0, max_size=4).map(tuple),
    st.sampled_from([r for r in REPRS if r.is_buffer]),
)
def test_a_buffer_holds_whole_blocks(shape: tuple[int, ...], representation: TensorRepr) -> None:
    """Every element has a place of its own, and the last block ends where the buffer does."""
    blocks = BLOCKED_LAYOUTS[representation.memory_layout]
    w, h, c, n = (*shape[::-1], *[1] * (4 - len(shape)))
    sizes = [w, h, c, n]
    counts = list(sizes)
    counts[blocks.inner_dim] = -(-sizes[blocks.inner_dim] // blocks.inner_size)
    counts[blocks.outer_dim] = -(-counts[blocks.outer_dim] // blocks.outer_size)
    order = [d for d in (3, 2, 1, 0) if d not in (blocks.inner_dim, blocks.outer_dim)]
    last = [blocks.outer_dim, blocks.inner_dim]
    order += last[::-1] if blocks.transposed else last
    places = set()
    for coord in (
        (x, y, z, b) for x in range(w) for y in range(h) for z in range(c) for b in range(n)
    ):
        block = list(coord)
        block[blocks.inner_dim] //= blocks.inner_size
        block[blocks.outer_dim] //= blocks.outer_size
        index = 0
        for d in order:
            index = index * counts[d] + block[d]
        places.add(
            index * blocks.inner_size * blocks.outer_size
            + coord[blocks.outer_dim] % blocks.outer_size * blocks.inner_size
            + coord[blocks.inner_dim] % blocks.inner_size
        )
    assert len(places) == w * h * c * n
    elements = padded_elements(shape, representation)
    assert max(places) < elements
    assert elements == (
        counts[0] * counts[1] * counts[2] * counts[3] * blocks.inner_size * blocks.outer_size
    )
