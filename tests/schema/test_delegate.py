"""Blobs there and back, with ExecuTorch's own serialiser as the referee."""

from __future__ import annotations

import pytest
import torch
from executorch.backends.vulkan.serialization import vulkan_graph_schema as peer
from executorch.backends.vulkan.serialization.vulkan_graph_serialize import (
    VulkanDelegateHeader,
    serialize_vulkan_graph,
)
from hypothesis import given
from hypothesis import strategies as st

from schema import SchemaError, VkGraph, VkTensor, join_delegate, split_delegate, vkgraph


def peer_blob(constants: list[torch.Tensor]) -> bytes:
    """A blob that ExecuTorch made."""
    tensors = [
        peer.VkTensor(peer.VkDataType.FLOAT32, list(constant.shape), index, -1)
        for index, constant in enumerate(constants)
    ]
    ids = list(range(len(tensors) + 1))
    graph = peer.VkGraph(
        version="0",
        chain=[peer.OperatorCall(0, "aten.cat.default", ids)],
        values=[*map(peer.VkValue, tensors), peer.VkValue(peer.Null())],
        input_ids=[],
        output_ids=ids[-1:],
        constants=[],
        shaders=[],
    )
    blob: bytes = serialize_vulkan_graph(graph, constants, [])
    return blob


@pytest.mark.parametrize("sizes", [[], [4], [1, 3, 7], [0, 5]])
def test_executorchs_blobs_survive(sizes: list[int]) -> None:
    blob = peer_blob([torch.arange(size, dtype=torch.float32) for size in sizes])
    parts = split_delegate(blob)
    assert join_delegate(parts.flatbuffer, parts.constants) == blob
    header = VulkanDelegateHeader.from_bytes(blob[:30])
    assert (
        parts.flatbuffer_offset,
        parts.flatbuffer_size,
        parts.bytes_offset,
        parts.bytes_size,
    ) == (
        header.flatbuffer_offset,
        header.flatbuffer_size,
        header.bytes_offset,
        header.bytes_size,
    )

    graph = vkgraph.decode(parts.flatbuffer)
    tensors = [value for value in graph.values if isinstance(value, VkTensor)]
    assert [tensor.dims for tensor in tensors] == [(size,) for size in sizes]
    for size, constant in zip(sizes, graph.constants, strict=True):
        data = parts.constants[constant.offset : constant.offset + constant.length]
        numbers = torch.frombuffer(bytearray(data), dtype=torch.float32).tolist() if data else []
        assert numbers == list(range(size))
    assert vkgraph.decode(vkgraph.encode(graph)) == graph


@given(st.binary(min_size=1, max_size=100), st.binary(max_size=100))
def test_a_blob_survives(flatbuffer: bytes, constants: bytes) -> None:
    blob = join_delegate(flatbuffer, constants)
    parts = split_delegate(blob)
    assert (parts.flatbuffer, parts.constants) == (flatbuffer, constants)
    assert parts.flatbuffer_offset % 16 == parts.bytes_offset % 16 == len(blob) % 16 == 0
    assert split_delegate(memoryview(bytearray(blob))) == parts


def altered(blob: bytes, at: int, value: bytes) -> bytes:
    return blob[:at] + value + blob[at + len(value) :]


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (4, b"VK00", "header: the magic bytes"),
        (8, b"\x1f\0", "header: the header's size is 31"),
        (10, b"\0\0\0\0", "flatbuffer: offset 0 is inside the header"),
        (10, b"\xff\xff\xff\xff", "constants: offset .* is inside the flatbuffer"),
        (14, b"\0\0\0\0", "flatbuffer: it has no bytes"),
        (18, b"\0\0\0\0", "constants: offset 0 is inside the flatbuffer"),
        (18, b"\xff\xff\xff\xff", "constants: it ends at 4294967"),
        (22, b"\xff" * 8, "constants: it ends at 1844674407370955"),
    ],
)
def test_a_header_that_lies_is_refused(at: int, value: bytes, message: str) -> None:
    with pytest.raises(SchemaError, match=f"^{message}"):
        split_delegate(altered(join_delegate(b"x" * 40, b"y" * 9), at, value))


def test_a_blob_that_ends_early_is_refused() -> None:
    blob = join_delegate(vkgraph.encode(VkGraph("0", (), (), (), ())), b"y" * 16)
    for length in range(len(blob)):
        with pytest.raises(SchemaError):
            split_delegate(blob[:length])


def test_an_empty_flatbuffer_is_refused() -> None:
    with pytest.raises(SchemaError, match=r"^flatbuffer: it has no bytes$"):
        join_delegate(b"")
