"""Vectors that are read field by field: the same values, and the same errors, as one by one."""

from __future__ import annotations

from random import Random

import pytest

from api.bench.replan import repeated
from schema import SchemaError, VkDataType, VkGraph, VkTensor, vkgraph
from schema.flatbuffer import Reader
from schema.vkgraph import (
    Bool,
    BoolList,
    Double,
    DoubleList,
    Int,
    IntList,
    Null,
    OperatorCall,
    String,
    SymInt,
    Value,
    ValueList,
)
from tests.api.graphs import graph as chain_of


def mixed(count: int = 60) -> bytes:
    """A graph with values of every kind, many of them equal."""
    random = Random(3)
    kinds: list[Value] = [
        *(Null(), Int(-5), Int(2**40), Bool(True), Double(0.0), Double(-0.0), SymInt(3)),
        *(String("größe"), String(""), IntList(()), IntList((1, -1)), BoolList((True, False))),
        *(DoubleList((0.0,)), DoubleList((-0.0,)), ValueList((1, 0)), ValueList(())),
        *(VkTensor(VkDataType.FLOAT16, (2, 3)), VkTensor(VkDataType.INT8, (), mem_obj_id=7)),
    ]
    values = tuple(random.choice(kinds) for _ in range(count))
    chain = tuple(
        OperatorCall(i, random.choice("ab"), tuple(random.sample(range(count), i % 5)))
        for i in range(count)
    )
    return vkgraph.encode(VkGraph("0", chain, values, (0, 1), (2,)))


def outcome(data: bytes, *, by_columns: bool, monkeypatch: pytest.MonkeyPatch) -> str:
    with monkeypatch.context() as patch:
        patch.setattr(Reader, "by_columns", by_columns)
        try:
            return repr(vkgraph.read(data))
        except SchemaError as error:
            return f"error: {error}"


@pytest.mark.parametrize("data", [mixed(), chain_of(8, 30)])
def test_columns_give_what_tables_give(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    one_by_one = outcome(data, by_columns=False, monkeypatch=monkeypatch)
    assert outcome(data, by_columns=True, monkeypatch=monkeypatch) == one_by_one
    assert vkgraph.encode(vkgraph.decode(data)) == data


def test_damage_is_named_as_it_is_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    random, whole = Random(0), mixed()
    differing = 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(random.randint(1, 3)):
            data[random.randrange(8, len(data))] = random.choice((0, 1, 255, random.randrange(256)))
        damaged = bytes(data[: random.choice((len(data), random.randrange(8, len(data))))])
        one_by_one = outcome(damaged, by_columns=False, monkeypatch=monkeypatch)
        assert outcome(damaged, by_columns=True, monkeypatch=monkeypatch) == one_by_one
        differing += one_by_one.startswith("error")
    assert 0 < differing < 300


def test_equal_values_are_one_object_but_zeros_keep_their_sign() -> None:
    values = vkgraph.decode(mixed()).values
    ints = [value for value in values if value == Int(-5)]
    assert len(ints) > 1
    assert all(value is ints[0] for value in ints)
    zeros = {str(value.double_val) for value in values if isinstance(value, Double)}
    assert zeros == {"0.0", "-0.0"}


def test_equal_values_are_written_again_with_their_own_offsets() -> None:
    unit = vkgraph.decode(chain_of(8, 3))
    graph = repeated(unit, 20)
    data = vkgraph.encode(graph)
    assert vkgraph.decode(data) == graph
