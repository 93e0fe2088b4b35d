"""Bytes that someone cut, altered or made up: a whole object comes out, or a SchemaError."""

from __future__ import annotations

import os
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import flatbuffers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schema import SchemaError, VkGraph, join_delegate, plan, split_delegate, vkgraph
from schema.generated import vkgraph as generated
from tests.schema.strategies import sample_graph, sample_program

pytestmark = pytest.mark.slow

GRAPH = vkgraph.encode(sample_graph())
PROGRAM = plan.encode(sample_program())
BLOB = join_delegate(GRAPH, b"constants")
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))


def try_graph(data: bytes) -> None:
    try:
        graph = vkgraph.decode(data)
    except SchemaError:
        return
    again = vkgraph.encode(graph)
    assert vkgraph.encode(vkgraph.decode(again)) == again


def try_program(data: bytes) -> None:
    try:
        program = plan.decode(data)
    except SchemaError:
        return
    again = plan.encode(program)
    assert plan.encode(plan.decode(again)) == again
    for delegate in program.delegates:
        try_graph(delegate.graph)


def try_blob(data: bytes) -> None:
    try:
        parts = split_delegate(data)
    except SchemaError:
        return
    assert len(parts.flatbuffer) == parts.flatbuffer_size
    assert len(parts.constants) == parts.bytes_size
    try_graph(parts.flatbuffer)


Attempt = Callable[[bytes], None]
TARGETS = [(try_graph, GRAPH), (try_program, PROGRAM), (try_blob, BLOB)]
each_target = pytest.mark.parametrize(
    ("attempt", "whole"), TARGETS, ids=["graph", "program", "blob"]
)


@pytest.mark.parametrize(("decode", "whole"), [(vkgraph.decode, GRAPH), (plan.decode, PROGRAM)])
def test_every_truncation_is_refused(decode: Callable[[bytes], object], whole: bytes) -> None:
    for length in range(len(whole)):
        with pytest.raises(SchemaError):
            decode(whole[:length])


def test_every_flipped_bit_of_a_graph() -> None:
    for at in range(len(GRAPH)):
        for bit in range(8):
            data = bytearray(GRAPH)
            data[at] ^= 1 << bit
            try_graph(bytes(data))


@each_target
@given(data=st.data())
@settings(max_examples=EXAMPLES)
def test_altered_bytes(attempt: Attempt, whole: bytes, data: st.DataObject) -> None:
    altered = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(altered) - 1))
        patch = data.draw(
            st.one_of(
                st.binary(min_size=1, max_size=8),
                st.integers(-64, 64).map(lambda number: struct.pack("<i", number)),
                st.sampled_from([b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80"]),
            )
        )
        altered[at : at + len(patch)] = patch
    attempt(bytes(altered[: data.draw(st.integers(0, len(altered)))]))
    attempt(bytes(altered))


@each_target
@given(noise=st.binary(max_size=300), kept=st.integers(0, 40))
@settings(max_examples=EXAMPLES)
def test_noise(attempt: Attempt, whole: bytes, noise: bytes, kept: int) -> None:
    attempt(whole[:kept] + noise)


def build(write: Callable[[Any], int]) -> bytes:
    builder = flatbuffers.Builder()
    builder.Finish(write(builder), file_identifier=b"VK00")
    return bytes(builder.Output())


def shared_calls(calls: int, args: int, name: str) -> bytes:
    """A chain whose offsets all lead to one operator."""

    def write(builder: Any) -> int:
        text = builder.CreateString(name)
        vector = builder.CreateByteVector(bytes(4 * args))
        # A vector of bytes is one of numbers once its length says so.
        struct.pack_into("<I", builder.Bytes, builder.Head(), args)
        generated.OperatorCallStart(builder)
        generated.OperatorCallAddName(builder, text)
        generated.OperatorCallAddArgs(builder, vector)
        call = generated.OperatorCallEnd(builder)
        generated.VkGraphStartChainVector(builder, calls)
        for _ in range(calls):
            builder.PrependUOffsetTRelative(call)
        chain = builder.EndVector()
        generated.VkGraphStart(builder)
        generated.VkGraphAddChain(builder, chain)
        return int(generated.VkGraphEnd(builder))

    return build(write)


@pytest.mark.parametrize(("args", "name"), [(8000, ""), (0, "x" * 32000)])
def test_shared_bytes_cannot_blow_up(args: int, name: str) -> None:
    """64 million numbers or 256 MB of text, if every offset were followed."""
    data = shared_calls(8000, args, name)
    tracemalloc.start()
    try:
        with pytest.raises(SchemaError, match="refers to its own bytes too many times over"):
            vkgraph.decode(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100 * len(data)


def test_vtables_cannot_blow_up() -> None:
    """Every table of a chain reads another place as its vtable."""
    count = 4000
    # The root table, its vtable before it: its only field, of slot 1, is the chain.
    data = struct.pack("<I4sHHHHii", 16, b"VK00", 8, 8, 0, 4, 8, 4)
    # The chain: an offset to each of the tables, which follow in the same order.
    data += struct.pack("<I", count) + struct.pack("<I", 4 * count) * count
    # The tables: an offset to each of the vtables, which follow in the same order.
    data += struct.pack("<i", -4 * count) * count
    data += struct.pack("<HH", 4, 4) * count
    with pytest.raises(SchemaError, match=r"^chain\[\d+\]: .* own bytes too many times over"):
        vkgraph.decode(data)


@pytest.mark.parametrize("length", [0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_a_huge_length_allocates_nothing(length: int) -> None:
    data = bytearray(vkgraph.encode(VkGraph("0", (), (), (), ())))
    root = generated.VkGraph.GetRootAs(data)
    for field in (4, 6, 8, 10, 12, 14, 16):
        altered = bytearray(data)
        struct.pack_into("<I", altered, root._tab.Vector(root._tab.Offset(field)) - 4, length)
        tracemalloc.start()
        try:
            with pytest.raises(SchemaError, match="ends outside the"):
                vkgraph.decode(altered)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 100_000


def union_offset(data: bytes | bytearray, index: int) -> int:
    """Where the offset to the inside of `values[index]` is."""
    value = generated.VkGraph.GetRootAs(data).Values(index)._tab
    return int(value.Pos + value.Offset(6))


def test_an_offset_to_outside_names_its_place() -> None:
    data = bytearray(GRAPH.ljust(4096, b"\0"))
    at = union_offset(data, 12)
    struct.pack_into("<I", data, at, 0x1234 - at)
    with pytest.raises(SchemaError) as caught:
        vkgraph.decode(data)
    assert str(caught.value) == (
        "values[12].value: offset 0x1234 points outside the 4096-byte buffer"
    )


@pytest.mark.parametrize("index", range(len(sample_graph().values)))
def test_offsets_that_lead_back_come_to_an_end(index: int) -> None:
    """An offset can be as large as to wrap around in 32 bits: it leads outside, not back."""
    at = union_offset(GRAPH, index)
    for target in range(len(GRAPH)):
        data = bytearray(GRAPH)
        struct.pack_into("<I", data, at, (target - at) % 2**32)
        try_graph(bytes(data))
    for target in range(0, at, 4):
        data = bytearray(GRAPH)
        struct.pack_into("<I", data, at, (target - at) % 2**32)
        with pytest.raises(SchemaError, match="points outside"):
            vkgraph.decode(data)


def altered_tag(tag: int) -> bytes:
    data = bytearray(GRAPH)
    value = generated.VkGraph.GetRootAs(data).Values(3)._tab
    data[value.Pos + value.Offset(4)] = tag
    return bytes(data)


def test_unions_name_the_type_that_they_do_not_know() -> None:
    with pytest.raises(
        SchemaError, match=r"^values\[3\]\.value: the union has the unknown type 12"
    ):
        vkgraph.decode(altered_tag(12))
    with pytest.raises(SchemaError, match=r"^values\[3\]\.value: the union has no value$"):
        vkgraph.decode(altered_tag(0))


def test_enumerations_name_the_number_that_they_do_not_know() -> None:
    data = bytearray(GRAPH)
    tensor = generated.VkGraph.GetRootAs(data).Values(0).Value()
    data[tensor.Pos + tensor.Offset(14)] = 7
    with pytest.raises(
        SchemaError, match=r"^values\[0\]\.value\.memory_layout: 7 is not a known VkMemoryLayout$"
    ):
        vkgraph.decode(data)


def test_a_vtable_whose_fields_overlap_is_refused() -> None:
    data = bytearray(GRAPH)
    root = generated.VkGraph.GetRootAs(data)._tab
    vtable = root.Pos - struct.unpack_from("<i", data, root.Pos)[0]
    struct.pack_into("<H", data, vtable + 4, 6)
    with pytest.raises(SchemaError, match="has fields that overlap"):
        vkgraph.decode(data)


@pytest.mark.parametrize(
    ("text", "message"), [(b"\xff", "is not UTF-8"), (b"\x00\xff", "does not end in a zero byte")]
)
def test_strings_are_checked(text: bytes, message: str) -> None:
    data = bytearray(GRAPH)
    root = generated.VkGraph.GetRootAs(data)._tab
    start = root.Vector(root.Offset(4))
    data[start : start + len(text)] = text
    with pytest.raises(SchemaError, match=f"^version: the string at 0x[0-9a-f]+ {message}"):
        vkgraph.decode(data)
