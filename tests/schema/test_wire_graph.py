"""Graphs there and back, with ExecuTorch's own serialiser and compiler as referees."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

import executorch.backends.vulkan.serialization.vulkan_graph_schema as peer
import flatbuffers
import pytest
from executorch.backends.vulkan.serialization.vulkan_graph_serialize import (
    convert_to_flatbuffer,
    flatbuffer_to_vk_graph,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from schema import SchemaError, VkGraph, VkMemoryLayout, VkTensor, generate, vkgraph
from schema.generated import vkgraph as generated
from schema.vkgraph import Calls, OperatorCall
from tests.schema.strategies import graphs, sample_graph


def to_peer(value: Any) -> Any:
    """The same value in ExecuTorch's classes."""
    if isinstance(value, OperatorCall):
        return peer.OperatorCall(value.node_id, value.name, list(value.args))
    if isinstance(value, tuple):
        return [to_peer(item) for item in value]
    if isinstance(value, IntEnum):
        return getattr(peer, type(value).__name__)(value)
    if is_dataclass(value):
        arguments = [to_peer(getattr(value, field.name)) for field in fields(value)]
        if isinstance(value, VkGraph):
            arguments[2] = [peer.VkValue(item) for item in arguments[2]]
        return getattr(peer, type(value).__name__)(*arguments)
    return value


@given(graphs())
@settings(max_examples=100)
def test_a_graph_survives_encoding(graph: VkGraph) -> None:
    data = vkgraph.encode(graph)
    assert data[4:8] == b"VK00"
    assert vkgraph.decode(data) == graph
    assert vkgraph.decode(bytearray(data)) == vkgraph.decode(memoryview(data)) == graph
    assert vkgraph.encode(vkgraph.decode(data)) == data
    assert not vkgraph.has_unknown_fields(data)


@given(graphs(), st.integers(1, 40))
@settings(max_examples=50)
def test_calls_are_the_same_as_columns(graph: VkGraph, times: int) -> None:
    chain = tuple(graph.chain) * times
    calls = Calls.of(chain)
    assert calls == chain and [*calls] == [*chain] and hash(calls) == hash(chain)
    assert [calls[i] for i in range(-len(chain), len(chain))] == [*chain, *chain]
    assert calls[1:-1] == chain[1:-1]
    assert [*calls.names] == [*dict.fromkeys(call.name for call in chain)]
    rows = replace(graph, chain=chain)
    assert vkgraph.encode(replace(graph, chain=calls)) == vkgraph.encode(rows)
    assert vkgraph.decode(vkgraph.encode(rows)) == rows


@pytest.mark.parametrize(
    ("call", "place"),
    [
        (OperatorCall(2**32, "b", ()), "chain[1].node_id"),
        (OperatorCall(1, "\ud800", ()), "chain[1].name"),
        (OperatorCall(1, "b", (0, 9)), "chain[1].args[1]"),
    ],
)
def test_a_column_that_cannot_be_written_is_named(call: OperatorCall, place: str) -> None:
    calls = Calls.of([OperatorCall(0, "a", (0,)), call])
    with pytest.raises(SchemaError) as raised:
        vkgraph.encode(VkGraph("", calls, (vkgraph.Null(),), (), ()))
    assert raised.value.place == place


@given(st.lists(st.floats(allow_nan=False), max_size=5))
def test_doubles_are_kept_to_the_bit(numbers: list[float]) -> None:
    doubles = [vkgraph.Double(number) for number in numbers]
    values: tuple[vkgraph.Value, ...] = (vkgraph.DoubleList(tuple(numbers)), *doubles)
    graph = VkGraph("", (), values, (), ())
    assert repr(vkgraph.decode(vkgraph.encode(graph))) == repr(graph)


@given(graphs())
@settings(max_examples=25)
def test_executorch_reads_what_encode_writes(graph: VkGraph) -> None:
    assert flatbuffer_to_vk_graph(vkgraph.encode(graph)) == to_peer(graph)


@given(graphs())
@settings(max_examples=25)
def test_decode_reads_what_executorch_writes(graph: VkGraph) -> None:
    data = convert_to_flatbuffer(to_peer(graph))
    assert vkgraph.decode(data) == graph
    assert not vkgraph.has_unknown_fields(data)


def test_the_compiler_understands_every_byte(tmp_path: Path) -> None:
    """It annotates a binary, and marks what is unreachable, misplaced or wrong."""
    binary = tmp_path / "graph.bin"
    binary.write_bytes(vkgraph.encode(sample_graph()))
    schema = generate.HERE / "vkgraph.fbs"
    command = [str(generate.flatc()), "--annotate", str(schema), "--", str(binary)]
    subprocess.run(command, check=True, cwd=tmp_path)
    text = (tmp_path / "graph.afb").read_text().lower()
    assert "root_table" in text
    assert "error" not in text
    assert "unknown" not in text


def test_the_generated_code_reads_what_encode_writes() -> None:
    root = generated.VkGraph.GetRootAs(vkgraph.encode(sample_graph()))
    assert root.Version() == b"0"
    assert root.Chain(1).Name() == b"aten.convolution.default"
    assert root.Chain(1).ArgsAsNumpy().tolist() == [0, 2, 3, 4, 5, 6, 7, 13]
    assert root.Values(0).ValueType() == generated.GraphTypes.VkTensor
    tensor = generated.VkTensor()
    tensor.Init(root.Values(0).Value().Bytes, root.Values(0).Value().Pos)
    assert tensor.MemoryLayout() == VkMemoryLayout.TENSOR_CHANNELS_PACKED
    assert root.Constants(1).Offset() == vkgraph.NAMED_DATA


def test_wide_numbers_are_aligned() -> None:
    root = generated.VkGraph.GetRootAs(vkgraph.encode(sample_graph()))
    for index in (6, 7):
        table = root.Values(index).Value()
        assert (table.Pos + table.Offset(4)) % 8 == 0
    for index in (4, 9):
        table = root.Values(index).Value()
        assert table.Vector(table.Offset(4)) % 8 == 0
    for index in (0, 1):
        table = root.Constants(index)._tab
        assert (table.Pos + table.Offset(4)) % 8 == 0


def build(write: Callable[[Any], int]) -> bytes:
    """A graph that FlatBuffers' own builder writes."""
    builder = flatbuffers.Builder()
    builder.Finish(write(builder), file_identifier=b"VK00")
    return bytes(builder.Output())


def test_fields_that_are_left_out_take_their_defaults() -> None:
    def write(builder: Any) -> int:
        generated.VkTensorStart(builder)
        tensor = generated.VkTensorEnd(builder)
        generated.VkValueStart(builder)
        generated.VkValueAddValueType(builder, generated.GraphTypes.VkTensor)
        generated.VkValueAddValue(builder, tensor)
        value = generated.VkValueEnd(builder)
        generated.VkGraphStartValuesVector(builder, 1)
        builder.PrependUOffsetTRelative(value)
        values = builder.EndVector()
        generated.VkBytesStart(builder)
        constant = generated.VkBytesEnd(builder)
        generated.VkGraphStartConstantsVector(builder, 1)
        builder.PrependUOffsetTRelative(constant)
        constants = builder.EndVector()
        generated.VkGraphStart(builder)
        generated.VkGraphAddValues(builder, values)
        generated.VkGraphAddConstants(builder, constants)
        return int(generated.VkGraphEnd(builder))

    tensor = VkTensor(vkgraph.VkDataType.BOOL, (), constant_id=0, mem_obj_id=0)
    assert vkgraph.decode(build(write)) == VkGraph(
        "", (), (tensor,), (), (), (vkgraph.VkBytes(0, 0),)
    )
    assert vkgraph.decode(build(empty)) == VkGraph("", (), (), (), ())


def empty(builder: Any) -> int:
    generated.VkGraphStart(builder)
    return int(generated.VkGraphEnd(builder))


def test_strings_may_be_shared() -> None:
    count = 2000

    def write(builder: Any) -> int:
        calls = []
        for _ in range(count):
            name = builder.CreateSharedString("aten.convolution.default")
            generated.OperatorCallStart(builder)
            generated.OperatorCallAddName(builder, name)
            calls.append(generated.OperatorCallEnd(builder))
        generated.VkGraphStartChainVector(builder, count)
        for call in reversed(calls):
            builder.PrependUOffsetTRelative(call)
        chain = builder.EndVector()
        generated.VkGraphStart(builder)
        generated.VkGraphAddChain(builder, chain)
        return int(generated.VkGraphEnd(builder))

    graph = vkgraph.decode(build(write))
    assert [call.name for call in graph.chain] == ["aten.convolution.default"] * count


def test_fields_of_a_newer_schema_are_noticed() -> None:
    known = len(fields(VkGraph))

    def write(builder: Any) -> int:
        builder.StartObject(known + 1)
        builder.PrependUint8Slot(known, 1, 0)
        return int(builder.EndObject())

    assert vkgraph.has_unknown_fields(build(write))
    assert not vkgraph.has_unknown_fields(build(empty))
    assert vkgraph.decode(build(write)) == vkgraph.decode(build(empty))


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"chain": (vkgraph.OperatorCall(0, "", (0, 14)),)}, "chain[0].args[1]"),
        ({"chain": (vkgraph.OperatorCall(0, "", (-1,)),)}, "chain[0].args[0]"),
        ({"values": (vkgraph.ValueList((0, 9)),)}, "chain[0].args[0]"),
        ({"chain": (), "values": (vkgraph.ValueList((0, 9)),)}, "values[0].value.items[1]"),
        ({"input_ids": (0, 0, 20)}, "input_ids[2]"),
        ({"output_ids": (14,)}, "output_ids[0]"),
        ({"constants": ()}, "values[1].value.constant_id"),
    ],
)
def test_ids_lead_to_something(changes: dict[str, Any], place: str) -> None:
    graph = replace(sample_graph(), **changes)
    with pytest.raises(SchemaError) as ours:
        vkgraph.encode(graph)
    with pytest.raises(SchemaError) as theirs:
        vkgraph.decode(convert_to_flatbuffer(to_peer(graph)))
    assert str(ours.value) == str(theirs.value)
    assert ours.value.place == place


@pytest.mark.parametrize(
    ("graph", "place"),
    [
        (VkGraph("\ud800", (), (), (), ()), "version"),
        (VkGraph("", (), (vkgraph.Int(2**63),), (), ()), "values[0].value.int_val"),
        (VkGraph("", (), (vkgraph.Double(10**400),), (), ()), "values[0].value.double_val"),
        (
            VkGraph("", (), (vkgraph.Null(), vkgraph.IntList((0, -(2**64)))), (), ()),
            "values[1].value.items[1]",
        ),
        (
            VkGraph("", (vkgraph.OperatorCall(2**32, "", ()),), (), (), ()),
            "chain[0].node_id",
        ),
        (VkGraph("", (), (), (), (), (vkgraph.VkBytes(0, -1),)), "constants[0].length"),
    ],
)
def test_encode_names_what_does_not_fit(graph: VkGraph, place: str) -> None:
    with pytest.raises(SchemaError) as caught:
        vkgraph.encode(graph)
    assert caught.value.place == place


def test_encode_wants_a_value_of_the_union() -> None:
    values: Any = (vkgraph.Null(), 3)
    with pytest.raises(SchemaError, match=r"^values\[1\]\.value: int is not in the union$"):
        vkgraph.encode(VkGraph("", (), values, (), ()))
