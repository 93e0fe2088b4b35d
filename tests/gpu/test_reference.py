"""The NumPy reference, against loops written from the table of layouts."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpu.placement import MOST_BUFFER_DIMS, MOST_TEXTURE_DIMS, Placement
from gpu.reference import pack, unpack
from planner.ir.physical import padded_elements
from planner.ir.representation import REPRS, TensorRepr, short_name
from tests.gpu.cases import BITS, garbage, shapes, with_garbage


class Row(NamedTuple):
    """Packed dimension and block size, outer packed ones, dimensions of blocks outermost first."""

    p_dim: str
    p: int
    q_dim: str
    q: int
    order: str


TABLE = {
    "WIDTH_PACKED": Row("W", 1, "H", 1, "NCHW"),
    "HEIGHT_PACKED": Row("H", 1, "W", 1, "NCWH"),
    "CHANNELS_PACKED": Row("C", 1, "W", 1, "NHWC"),
    "4W": Row("W", 4, "H", 1, "NCHW"),
    "4C": Row("C", 4, "W", 1, "NHWC"),
    "4C1W": Row("C", 4, "W", 1, "NHCW"),
    "4W4C": Row("C", 4, "W", 4, "NHWC"),
    "4H4W": Row("W", 4, "H", 4, "NCHW"),
    "CONV2D": Row("C", 4, "W", 1, "NHWC"),  # as 4C, which the runtime may turn it into
}
TEXEL_DIM = {"WIDTH_PACKED": "W", "HEIGHT_PACKED": "H", "CHANNELS_PACKED": "C"}


def by_hand(values: NDArray[Any], representation: TensorRepr) -> NDArray[Any]:
    """Elements as they lie in memory, put there one by one."""
    shape = (1,) * (4 - values.ndim) + values.shape
    name = short_name(representation.memory_layout)
    sizes = dict(zip("WHC", shape[::-1], strict=False)) | {"N": prod(shape[:-3])}
    place = (
        BufferPlaces(sizes, TABLE[name])
        if representation.is_buffer
        else TexturePlaces(sizes, TEXEL_DIM[name])
    )
    memory = np.zeros(place.count, values.dtype)
    for index in np.ndindex(values.shape):
        *outer, c, h, w = (0,) * (4 - values.ndim) + index
        n = 0
        for extent, at in zip(shape[:-3], outer, strict=True):
            n = n * extent + at
        memory[place({"W": w, "H": h, "C": c, "N": n})] = values[index]
    return memory


class BufferPlaces:
    """Index of each element in a buffer."""

    def __init__(self, sizes: dict[str, int], row: Row) -> None:
        self.row = row
        blocks = dict(sizes)
        blocks[row.p_dim] = (sizes[row.p_dim] + row.p - 1) // row.p
        blocks[row.q_dim] = (sizes[row.q_dim] + row.q - 1) // row.q
        self.blocks = [blocks[d] for d in row.order]
        self.count = prod(self.blocks) * row.p * row.q

    def __call__(self, at: dict[str, int]) -> int:
        p_dim, p, q_dim, q, order = self.row
        block = 0
        for dim, count in zip(order, self.blocks, strict=True):
            size = {p_dim: p, q_dim: q}.get(dim, 1)
            block = block * count + at[dim] // size
        return block * (p * q) + (at[q_dim] % q) * p + at[p_dim] % p


class TexturePlaces:
    """Index of each element in an image, read as (z, y, x, component)."""

    def __init__(self, sizes: dict[str, int], packed: str) -> None:
        self.packed = packed
        texels = {d: (s + 3) // 4 if d == packed else s for d, s in sizes.items()}
        self.channels = texels["C"]
        self.x, self.y, self.z = texels["W"], texels["H"], texels["C"] * texels["N"]
        self.count = self.x * self.y * self.z * 4

    def __call__(self, at: dict[str, int]) -> int:
        texel = {d: a // 4 if d == self.packed else a for d, a in at.items()}
        z = texel["N"] * self.channels + texel["C"]
        return ((z * self.y + texel["H"]) * self.x + texel["W"]) * 4 + at[self.packed] % 4


def sizes_of(representation: TensorRepr) -> list[int]:
    return [1] if representation.is_packed_int8 else [1, 2, 4]


@pytest.mark.parametrize("representation", REPRS, ids=str)
@settings(max_examples=25)
@given(data=st.data())
def test_pack_puts_elements_where_the_table_says(
    representation: TensorRepr, data: st.DataObject
) -> None:
    most = MOST_BUFFER_DIMS if representation.is_buffer else MOST_TEXTURE_DIMS
    shape = data.draw(shapes(data.draw(st.sampled_from([4, most])), 400))
    size = data.draw(st.sampled_from(sizes_of(representation)))
    placement = Placement(shape, representation, size)
    # Numbers from 1: none is like padding, and few are alike.
    values = (np.arange(prod(shape)) % 251 + 1).astype(BITS[size]).reshape(shape)
    packed = pack(values, placement)
    assert packed.dtype == np.uint8
    assert packed.size == placement.bytes == padded_elements(shape, representation) * size
    assert (packed.view(BITS[size]) == by_hand(values, representation)).all()


@pytest.mark.parametrize("representation", REPRS, ids=str)
@settings(max_examples=15)
@given(data=st.data())
def test_unpack_reverses_pack_and_ignores_padding(
    representation: TensorRepr, data: st.DataObject
) -> None:
    most = MOST_BUFFER_DIMS if representation.is_buffer else MOST_TEXTURE_DIMS
    shape = data.draw(shapes(most, 3000))
    size = data.draw(st.sampled_from(sizes_of(representation)))
    placement = Placement(shape, representation, size)
    values = garbage(prod(shape) * size).view(BITS[size]).reshape(shape)
    assert (unpack(with_garbage(values, placement), placement, BITS[size]) == values).all()


def test_an_example_of_each_kind() -> None:
    # 5 channels of 2 pixels: written out from the table, not computed.
    values = np.arange(1, 11, dtype=np.uint8).reshape(5, 1, 2)
    want = {
        "buffer:WIDTH_PACKED": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
        "buffer:HEIGHT_PACKED": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
        "buffer:CHANNELS_PACKED": [1, 3, 5, 7, 9, 2, 4, 6, 8, 10],
        "buffer:4C": [1, 3, 5, 7, 9, 0, 0, 0, 2, 4, 6, 8, 10, 0, 0, 0],
        "buffer:CONV2D": [1, 3, 5, 7, 9, 0, 0, 0, 2, 4, 6, 8, 10, 0, 0, 0],
        "buffer:4C1W": [1, 3, 5, 7, 2, 4, 6, 8, 9, 0, 0, 0, 10, 0, 0, 0],
        "buffer:4W4C": [1, 3, 5, 7, 2, 4, 6, 8, *[0] * 8, 9, 0, 0, 0, 10, *[0] * 11],
        "buffer:4W": [1, 2, 0, 0, 3, 4, 0, 0, 5, 6, 0, 0, 7, 8, 0, 0, 9, 10, 0, 0],
        "buffer:4H4W": [part for c in range(5) for part in (2 * c + 1, 2 * c + 2, *[0] * 14)],
        "texture:CHANNELS_PACKED": [1, 3, 5, 7, 2, 4, 6, 8, 9, 0, 0, 0, 10, 0, 0, 0],
        "texture:WIDTH_PACKED": [1, 2, 0, 0, 3, 4, 0, 0, 5, 6, 0, 0, 7, 8, 0, 0, 9, 10, 0, 0],
        "texture:HEIGHT_PACKED": [part for k in range(1, 11) for part in (k, 0, 0, 0)],
    }
    got = {str(r): pack(values, Placement((5, 1, 2), r, 1)).tolist() for r in REPRS}
    assert got == want


def test_the_table_is_whole() -> None:
    assert set(TABLE) == {short_name(r.memory_layout) for r in REPRS}
    assert {"".join(sorted(row.order)) for row in TABLE.values()} == {"CHNW"}
