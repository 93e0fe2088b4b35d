"""Graphs and plans to test with."""

from __future__ import annotations

from hypothesis import strategies as st

from schema import (
    BaselineTensor,
    DelegatePlan,
    Figures,
    Method,
    PlannedProgram,
    Repack,
    Status,
    TensorPlan,
    Transition,
    TransitionUser,
    VkDataType,
    VkGraph,
    VkMemoryLayout,
    VkStorageType,
    VkTensor,
    vkgraph,
)
from schema.plan import COST_UNITS, OBJECTIVES

INT32 = st.integers(-(2**31), 2**31 - 1)
UINT32 = st.integers(0, 2**32 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)
UINT64 = st.integers(0, 2**64 - 1)
# Few enough digits for the compiler's text form to keep.
DOUBLE = st.integers(-(2**16), 2**16).map(lambda number: number / 16)
TEXT = st.text(max_size=12)


def _tuples(items: st.SearchStrategy[int]) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(items, max_size=6).map(tuple)


@st.composite
def graphs(draw: st.DrawFn) -> VkGraph:
    """Graphs of every kind of value, all of whose ids lead to something."""
    count = draw(st.integers(1, 12))
    ids = st.integers(0, count - 1)
    constants = draw(
        st.lists(st.builds(vkgraph.VkBytes, UINT64, UINT64, TEXT), max_size=3).map(tuple)
    )
    value = st.one_of(
        st.just(vkgraph.Null()),
        st.builds(vkgraph.Int, INT64),
        st.builds(vkgraph.Double, DOUBLE),
        st.builds(vkgraph.Bool, st.booleans()),
        st.builds(
            VkTensor,
            st.sampled_from(VkDataType),
            _tuples(UINT32),
            st.integers(-5, len(constants) - 1),
            INT32,
            st.sampled_from(VkStorageType),
            st.sampled_from(VkMemoryLayout),
            st.sampled_from(VkDataType),
        ),
        st.builds(vkgraph.IntList, _tuples(INT64)),
        st.builds(vkgraph.DoubleList, st.lists(DOUBLE, max_size=6).map(tuple)),
        st.builds(vkgraph.BoolList, st.lists(st.booleans(), max_size=6).map(tuple)),
        st.builds(vkgraph.ValueList, _tuples(ids)),
        st.builds(vkgraph.String, TEXT),
        st.builds(vkgraph.SymInt, INT32),
    )
    call = st.builds(vkgraph.OperatorCall, UINT32, TEXT, _tuples(ids))
    return VkGraph(
        draw(TEXT),
        draw(st.lists(call, max_size=5).map(tuple)),
        draw(st.lists(value, min_size=count, max_size=count).map(tuple)),
        draw(_tuples(ids)),
        draw(_tuples(ids)),
        constants,
        draw(st.lists(st.builds(vkgraph.VkBytes, UINT64, UINT64, TEXT), max_size=2).map(tuple)),
        draw(st.sampled_from(VkStorageType)),
        draw(st.sampled_from(VkMemoryLayout)),
    )


def sample_graph() -> VkGraph:
    """A small graph with one value of every kind."""
    texture = VkTensor(
        VkDataType.FLOAT32,
        (1, 8, 4, 4),
        storage_type=VkStorageType.TEXTURE_3D,
        memory_layout=VkMemoryLayout.TENSOR_CHANNELS_PACKED,
    )
    weight = VkTensor(VkDataType.INT8, (8, 8, 3, 3), constant_id=0)
    return VkGraph(
        version="0",
        chain=(
            vkgraph.OperatorCall(1, "et_vk.prepack.default", (1, 2)),
            vkgraph.OperatorCall(2, "aten.convolution.default", (0, 2, 3, 4, 5, 6, 7, 13)),
            vkgraph.OperatorCall(3, "aten.cat.default", (12, 8, 13)),
        ),
        values=(
            texture,
            weight,
            texture,
            vkgraph.Null(),
            vkgraph.IntList((1, 1, -1)),
            vkgraph.Bool(True),
            vkgraph.Int(-(2**40)),
            vkgraph.Double(0.0625),
            vkgraph.SymInt(7),
            vkgraph.DoubleList((0.5, -2.0)),
            vkgraph.BoolList((True, False, True)),
            vkgraph.String("größe"),
            vkgraph.ValueList((0, 2)),
            texture,
        ),
        input_ids=(0,),
        output_ids=(13,),
        constants=(vkgraph.VkBytes(0, 576), vkgraph.VkBytes(vkgraph.NAMED_DATA, 16, "key")),
    )


def sample_program() -> PlannedProgram:
    """A plan with a list of every kind."""
    figures = Figures(4096.0, 8192.5, 8192.5, Status.OPTIMAL, 1, 12288.0, 16384.0, 3)
    transition = Transition(
        0,
        13,
        1,
        VkStorageType.TEXTURE_3D,
        VkMemoryLayout.TENSOR_CHANNELS_PACKED,
        VkStorageType.BUFFER,
        VkMemoryLayout.PACKED_INT8_4C1W,
        4096.0,
        (TransitionUser(1, "aten.convolution.default", 0), TransitionUser(2, "aten.cat", 1)),
    )
    delegate = DelegatePlan(
        0,
        "lowered_module_0",
        vkgraph.encode(sample_graph()),
        (
            TensorPlan(0, "x", VkStorageType.BUFFER, VkMemoryLayout.PACKED_INT8_4W4C),
            TensorPlan(2, "w", VkStorageType.TEXTURE_2D, VkMemoryLayout.TENSOR_WIDTH_PACKED),
        ),
        (transition,),
        figures,
        (
            Repack(
                (1, 8, 4, 4),
                VkDataType.FLOAT16,
                VkStorageType.TEXTURE_3D,
                VkMemoryLayout.TENSOR_HEIGHT_PACKED,
                VkStorageType.BUFFER,
                VkMemoryLayout.TENSOR_WIDTH_PACKED,
                12288.0,
                source=0,
                users=(TransitionUser(1, "aten.convolution.default", 0),),
            ),
        ),
        baseline_tensors=(
            BaselineTensor(0, VkStorageType.TEXTURE_3D, VkMemoryLayout.TENSOR_HEIGHT_PACKED),
        ),
        method=Method.SEARCH,
        core=7,
        cost_by_level=(2**40, 1, 3),
        bound_by_level=(2**40, 1, -2),
    )
    return PlannedProgram(
        "0.1.0",
        "model.pte",
        "ab" * 32,
        "generic",
        "cd" * 8,
        "bytes",
        "repack",
        (16384, 16384, 2048),
        (VkMemoryLayout.PACKED_INT8_CONV2D,),
        (delegate, delegate),
        figures,
    )


def programs() -> st.SearchStrategy[PlannedProgram]:
    """Plans whose graphs are any bytes, and whose figures need not add up."""
    cost = st.floats(allow_nan=False)
    storage, layout = st.sampled_from(VkStorageType), st.sampled_from(VkMemoryLayout)
    figures = st.builds(
        Figures, cost, cost, cost, st.sampled_from(Status), UINT32, cost, cost, UINT32
    )
    users = st.lists(st.builds(TransitionUser, UINT32, TEXT, UINT32), max_size=3).map(tuple)
    transition = st.builds(
        Transition, UINT32, UINT32, UINT32, storage, layout, storage, layout, cost, users
    )
    repack = st.builds(
        Repack,
        st.lists(UINT32, max_size=3).map(tuple),
        st.sampled_from(VkDataType),
        storage,
        layout,
        storage,
        layout,
        cost,
        source=UINT32,
        users=users,
    )
    baseline_tensor = st.builds(BaselineTensor, UINT32, storage, layout)
    delegate = st.builds(
        DelegatePlan,
        UINT32,
        TEXT,
        st.binary(max_size=40),
        st.lists(st.builds(TensorPlan, UINT32, TEXT, storage, layout), max_size=3).map(tuple),
        st.lists(transition, max_size=3).map(tuple),
        figures,
        st.lists(repack, max_size=3).map(tuple),
        baseline_tensors=st.lists(baseline_tensor, max_size=3).map(tuple),
    )
    return st.builds(
        PlannedProgram,
        TEXT,
        TEXT,
        TEXT,
        TEXT,
        TEXT,
        st.sampled_from(COST_UNITS),
        st.sampled_from(OBJECTIVES),
        st.tuples(UINT32, UINT32, UINT32),
        st.lists(layout, max_size=4).map(tuple),
        st.lists(delegate, max_size=2).map(tuple),
        figures,
    )
