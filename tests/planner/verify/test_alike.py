"""Calls that no rule tells apart, which the checker looks at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.errors import VerificationError
from planner.options import make_options
from planner.pipelines.lowered import replan
from planner.verify.program import Program, alike_calls
from schema import VkDataType, VkGraph, VkMemoryLayout, VkStorageType, VkTensor, vkgraph
from schema.vkgraph import Double, Int, OperatorCall, Value, ValueList
from tests.api.graphs import graph as chain_of

T = VkTensor(
    VkDataType.FLOAT32,
    (1, 8, 4, 4),
    storage_type=VkStorageType.TEXTURE_3D,
    memory_layout=VkMemoryLayout.TENSOR_CHANNELS_PACKED,
)
WIDTH = replace(T, memory_layout=VkMemoryLayout.TENSOR_WIDTH_PACKED)


def alike(values: list[Value], *calls: tuple[int, ...]) -> bool:
    """Whether the last two of these calls are."""
    chain = tuple(OperatorCall(i, "some.op", args) for i, args in enumerate(calls))
    found = alike_calls(Program(VkGraph("0", chain, tuple(values), (0,), ())), set())
    return found[len(calls) - 1] == found[len(calls) - 2]


def test_calls_are_alike_whatever_their_tensors_are_called() -> None:
    assert alike([T, T, T, Int(1), Int(1)], (0, 3, 1), (1, 4, 2))


@pytest.mark.parametrize(
    "other",
    [
        WIDTH,
        replace(T, dims=(1, 8, 4, 5)),
        replace(T, datatype=VkDataType.FLOAT16),
        replace(T, constant_id=0),
    ],
)
def test_calls_of_other_tensors_are_not_alike(other: VkTensor) -> None:
    assert not alike([T, T, other, Int(1)], (0, 3, 1), (0, 3, 2))
    assert not alike([T, other, T, Int(1)], (0, 3, 2), (1, 3, 2))
    lists: list[Value] = [T, other, T, ValueList((0, 0, 2)), ValueList((0, 1, 2))]
    assert not alike(lists, (3, 2), (4, 2))


def test_calls_with_other_literals_are_not_alike() -> None:
    assert not alike([T, T, Int(1), Int(2)], (0, 2, 1), (0, 3, 1))
    assert not alike([T, T, Int(1), Double(1.0)], (0, 2, 1), (0, 3, 1))


def test_calls_that_name_a_tensor_twice_are_alike_where_they_do_so_in_the_same_places() -> None:
    assert not alike([T, T, T], (0, 1, 2), (0, 1, 1))
    assert not alike([T, T, T], (0, 0, 1), (0, 1, 1))
    assert alike([T, T, T], (0, 1, 1), (2, 0, 0))
    lists: list[Value] = [T, T, T, ValueList((0, 1)), ValueList((0, 0))]
    assert not alike(lists, (3, 2), (4, 2))


def test_where_layouts_are_replaced_at_load_time_every_call_is_looked_at() -> None:
    replaced = replace(
        T,
        datatype=VkDataType.INT8,
        storage_type=VkStorageType.BUFFER,
        memory_layout=VkMemoryLayout.PACKED_INT8_CONV2D,
    )
    assert not alike([T, T, replaced], (0, 1), (0, 1))


def test_the_last_of_many_alike_calls_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A representation that is wrong only there makes it another call."""
    written = vkgraph.encode

    def spoiled(graph: VkGraph) -> bytes:
        values = list(graph.values)
        last = graph.output_ids[0]
        tensor = values[last]
        assert isinstance(tensor, VkTensor)
        values[last] = replace(
            tensor,
            storage_type=VkStorageType.BUFFER,
            memory_layout=VkMemoryLayout.TENSOR_HEIGHT_PACKED,
        )
        return written(replace(graph, values=tuple(values)))

    data = chain_of(8, 30)
    monkeypatch.setattr(vkgraph, "encode", spoiled)
    with pytest.raises(VerificationError):
        replan(data, "graph", make_options("bytes"))
