"""Graphs that were changed at random, and yet are whole flatbuffers."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from planner.kernels.registry import registered_names
from schema import VkDataType, VkGraph, VkMemoryLayout, VkStorageType, VkTensor
from schema.vkgraph import (
    NAMED_DATA,
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
    VkBytes,
)
from tests.planner.verify.sketches import BUF_W, EXAMPLES, TEX_C, TEX_H, TEX_W, Case, Sketch


def state() -> Case:
    """A cache that is written in place, read through a copy; and an operator that is unknown."""
    s = Sketch()
    step = s.input((1, 1, 2, 8), BUF_W)
    cache = s.call("et_vk.prepack.default", s.constant((1, 4, 2, 8)), s.tensor((1, 4, 2, 8), BUF_W))
    old = s.repack(cache, TEX_H)
    x = s.call("aten.relu.default", old, s.tensor((1, 4, 2, 8), TEX_H))
    s.call("llama.update_cache.default", step, cache, s.symint(), s.tensor((1,), BUF_W))
    y = s.call("mine.mix.default", (x, x), 0.5, s.tensor((1, 4, 2, 8), TEX_C))
    copy = s.repack(y, TEX_W)
    z = s.call("aten._softmax.default", copy, -1, False, s.tensor((1, 4, 2, 8), TEX_W))
    return s.finish(z, y)


MAKERS = (*(make for name, make in EXAMPLES.items() if name != "cache"), state)
_CONSTANTS = (VkBytes(NAMED_DATA, 16, "any"),)
SOURCES = tuple(
    replace(graph, constants=graph.constants or _CONSTANTS)
    for make in MAKERS
    for graph in (make().before, make().after)
)
"""Small programs, without representations and planned."""

_INTEGERS = st.one_of(st.integers(-7, 7), st.sampled_from([2**31, -(2**31), 2**63 - 1, -(2**63)]))
_SIZES = st.one_of(st.integers(0, 9), st.sampled_from([16385, 2**16, 2**31, 2**32 - 1]))
_NAMES = st.one_of(
    st.sampled_from(sorted({call.name for graph in SOURCES for call in graph.chain})),
    st.sampled_from(
        [f"{name}.default" if "." not in name else name for name in registered_names()]
    ),
    st.sampled_from(["", "mine.operator.default", "größe", "x" * 100_000, "a\nb"]),
)


@st.composite
def _values(draw: st.DrawFn, old: Value, count: int) -> Value:
    """Any value; a tensor often becomes another one, and a list one with other members."""
    if isinstance(old, VkTensor) and draw(st.integers(0, 3)):
        return draw(_tensors(old))
    ids = st.lists(st.integers(0, count - 1), max_size=5).map(tuple)
    if isinstance(old, ValueList) and draw(st.booleans()):
        return ValueList(draw(ids))
    value: Value = draw(
        st.one_of(
            st.just(Null()),
            st.builds(Int, _INTEGERS),
            st.builds(Bool, st.booleans()),
            st.builds(Double, st.floats()),
            st.builds(IntList, st.lists(_INTEGERS, max_size=4).map(tuple)),
            st.builds(DoubleList, st.lists(st.floats(), max_size=4).map(tuple)),
            st.builds(BoolList, st.lists(st.booleans(), max_size=4).map(tuple)),
            st.builds(ValueList, ids),
            st.builds(String, st.text(max_size=4)),
            st.builds(SymInt, st.integers(-9, 9)),
            st.builds(VkTensor, st.sampled_from(VkDataType), _dims()),
        )
    )
    return value


def _dims() -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(_SIZES, max_size=6).map(tuple)


@st.composite
def _tensors(draw: st.DrawFn, old: VkTensor) -> VkTensor:
    match draw(st.integers(0, 4)):
        case 0:
            return replace(old, dims=draw(_dims()))
        case 1:
            return replace(old, datatype=draw(st.sampled_from(VkDataType)))
        case 2:
            return replace(
                old,
                storage_type=draw(st.sampled_from(VkStorageType)),
                memory_layout=draw(st.sampled_from(VkMemoryLayout)),
            )
        case 3:
            return replace(old, staging_datatype=draw(st.sampled_from(VkDataType)))
    return replace(old, mem_obj_id=draw(st.integers(-1, 3)), constant_id=draw(st.integers(-1, 0)))


@st.composite
def _calls(draw: st.DrawFn, old: OperatorCall, count: int) -> OperatorCall:
    args = list(old.args)
    at = draw(st.integers(0, max(len(args) - 1, 0)))
    value_id = draw(st.integers(0, count - 1))
    match draw(st.integers(0, 5)):
        case 0:
            return old._replace(name=draw(_NAMES))
        case 1:
            del args[at : at + 1]
        case 2:
            args.insert(at, value_id)
        case 3 | 4:
            args[at : at + 1] = [value_id]
        case _:
            args.reverse()
    return old._replace(args=tuple(args))


@st.composite
def _changed(draw: st.DrawFn, graph: VkGraph) -> VkGraph:
    """A graph with one change."""
    values, chain = list(graph.values), list(graph.chain)
    count = len(values)
    ids = st.lists(st.integers(0, count - 1), max_size=4).map(tuple)
    at = draw(st.integers(0, max(len(chain) - 1, 0)))
    kind = draw(st.integers(0, 13))
    if kind <= 4:
        value_id = draw(st.integers(0, count - 1))
        values[value_id] = draw(_values(values[value_id], count))
    elif kind <= 8 and chain:
        chain[at] = draw(_calls(chain[at], count))
    elif kind == 9:
        del chain[at : at + 1]
    elif kind == 10:
        chain[at:at] = chain[at : at + 1]
    elif kind == 11 and chain:
        chain.insert(at, chain.pop())
    elif kind == 12:
        # A clone, often from one tensor of the program to another one or to itself.
        tensors = [i for i, value in enumerate(values) if isinstance(value, VkTensor)] or [0]
        source, copy = draw(st.sampled_from(tensors)), draw(st.sampled_from(tensors))
        values.append(Null())
        if draw(st.booleans()):
            values.append(draw(_values(values[source], count)))
            copy = count + 1
        chain.insert(at, OperatorCall(7, "aten.clone.default", (source, count, copy)))
    elif draw(st.booleans()):
        return replace(graph, input_ids=draw(ids))
    else:
        return replace(graph, output_ids=draw(ids))
    return replace(graph, values=tuple(values), chain=tuple(chain))


@st.composite
def changed_graphs(draw: st.DrawFn) -> VkGraph:
    """A small program with some changes, all of whose ids lead to something."""
    graph = draw(st.sampled_from(SOURCES))
    for _ in range(draw(st.integers(1, 4))):
        graph = draw(_changed(graph))
    return graph
