"""Graphs whose tensors share memory: by hand, and random ones."""

from __future__ import annotations

from functools import partial

from hypothesis import strategies as st

from planner.ir.physical import padded_bytes
from planner.ir.representation import TensorRepr
from schema import VkDataType, VkGraph, VkMemoryLayout, VkStorageType, VkTensor
from schema.vkgraph import Int, Null, OperatorCall, Value, ValueList, VkBytes

BUFFER, TEXTURE = VkStorageType.BUFFER, VkStorageType.TEXTURE_3D
WIDTH, CHANNELS = VkMemoryLayout.TENSOR_WIDTH_PACKED, VkMemoryLayout.TENSOR_CHANNELS_PACKED
REPRESENTATIONS = (
    (VkDataType.FLOAT32, BUFFER, WIDTH),
    (VkDataType.FLOAT32, TEXTURE, CHANNELS),
    (VkDataType.FLOAT16, TEXTURE, WIDTH),
    (VkDataType.INT8, BUFFER, VkMemoryLayout.PACKED_INT8_4W4C),
    (VkDataType.FLOAT32, VkStorageType.DEFAULT_STORAGE, VkMemoryLayout.DEFAULT_LAYOUT),
)

tensor = partial(
    VkTensor,
    VkDataType.FLOAT32,
    mem_obj_id=0,
    storage_type=BUFFER,
    memory_layout=WIDTH,
)
constant = partial(tensor, constant_id=0, mem_obj_id=-1)


def graph(
    values: list[Value],
    *calls: tuple[str | int, ...],
    inputs: tuple[int, ...] = (0,),
    outputs: tuple[int, ...] = (),
) -> VkGraph:
    """A graph with these operators; each is its arguments, the output last, or its name first."""
    chain: list[OperatorCall] = []
    for call in calls:
        args = tuple(arg for arg in call if isinstance(arg, int))
        name = call[0] if isinstance(call[0], str) else "aten.add.Tensor"
        chain.append(OperatorCall(len(chain), name, args))
    constants = (VkBytes(0, 4),)
    return VkGraph("0", tuple(chain), tuple(values), inputs, outputs, constants)


@st.composite
def graphs(draw: st.DrawFn, most_operators: int = 14) -> VkGraph:
    """Graphs of random width, with lists, several outputs, unused values, states and constants."""
    values: list[Value] = [Null(), Int(3)]
    readable: list[int] = []
    chain: list[OperatorCall] = []

    def new(value: Value) -> int:
        values.append(value)
        return len(values) - 1

    def new_tensor(share: bool = True) -> int:
        datatype, storage, layout = draw(st.sampled_from(REPRESENTATIONS))
        dims = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
        shared = share and draw(st.integers(0, 9)) > 0
        memory_object = draw(st.integers(0, 3)) if shared else -1
        return new(VkTensor(datatype, tuple(dims), -1, memory_object, storage, layout, datatype))

    inputs = [new_tensor() for _ in range(draw(st.integers(1, 3)))]
    readable += inputs
    if draw(st.booleans()):
        prepacked = new_tensor(share=draw(st.booleans()))
        weight = new(constant((2, 2)))
        chain.append(OperatorCall(0, "et_vk.prepack.default", (weight, prepacked)))
        readable.append(prepacked)
    if draw(st.booleans()):
        readable.append(new_tensor())
    for _ in range(draw(st.integers(0, most_operators))):
        recent = readable[-draw(st.integers(1, 8)) :]
        args = draw(st.lists(st.sampled_from(recent), min_size=1, max_size=4))
        if draw(st.integers(0, 3)) == 0:
            args = [new(ValueList(tuple(args)))]
        made = [new_tensor() for _ in range(draw(st.sampled_from((1, 1, 1, 2, 3))))]
        output = made[0] if len(made) == 1 else new(ValueList(tuple(made)))
        if len(made) == 1 and draw(st.integers(0, 9)) == 0:
            output = draw(st.sampled_from(readable))
        chain.append(OperatorCall(len(chain), "op", (*args, 1, output)))
        readable += made
    if draw(st.booleans()):
        new_tensor()
    outputs = draw(st.lists(st.sampled_from(readable), max_size=3, unique=True))
    return VkGraph(
        "0", tuple(chain), tuple(values), tuple(inputs), tuple(outputs), (VkBytes(0, 4),)
    )


def bytes_of(graph: VkGraph, value_id: int) -> int:
    value = graph.values[value_id]
    assert isinstance(value, VkTensor)
    if value.storage_type == VkStorageType.DEFAULT_STORAGE:
        flat = TensorRepr(BUFFER, WIDTH)
        return padded_bytes(value.dims, value.datatype, flat)
    representation = TensorRepr(value.storage_type, value.memory_layout)
    return padded_bytes(value.dims, value.datatype, representation)
