"""Small lowered programs, to be planned without torch."""

from __future__ import annotations

from schema import VkDataType, VkGraph, VkMemoryLayout, VkStorageType, VkTensor, vkgraph
from schema.vkgraph import Bool, IntList, Null, OperatorCall, Value

_TEXTURE = VkStorageType.TEXTURE_3D
_LAYOUTS = (VkMemoryLayout.TENSOR_WIDTH_PACKED, VkMemoryLayout.TENSOR_HEIGHT_PACKED)


def forced(size: int = 4) -> bytes:
    """A VkGraph with a repack that has to be: packed along channels, then along width."""
    values = tuple(
        VkTensor(
            VkDataType.FLOAT32,
            (size, size),
            mem_obj_id=number,
            storage_type=_TEXTURE,
            memory_layout=VkMemoryLayout.TENSOR_CHANNELS_PACKED,
            staging_datatype=VkDataType.FLOAT32,
        )
        for number in range(4)
    )
    chain = (
        OperatorCall(0, "aten.t_copy.default", (0, 1)),
        OperatorCall(1, "aten.relu.default", (1, 2)),
        OperatorCall(2, "aten.mm.default", (2, 2, 3)),
    )
    return vkgraph.encode(VkGraph("0", chain, values, (0,), (3,)))


def graph(width: int = 8, operators: int = 3) -> bytes:
    """A VkGraph of activations, with a repack before each that none of them needs."""
    values: list[Value] = []
    chain: list[OperatorCall] = []

    def tensor(layout: VkMemoryLayout) -> int:
        values.append(
            VkTensor(
                VkDataType.FLOAT32,
                (1, 4, 6, width),
                mem_obj_id=len(values),
                storage_type=_TEXTURE,
                memory_layout=layout,
                staging_datatype=VkDataType.FLOAT32,
            )
        )
        return len(values) - 1

    first = last = tensor(_LAYOUTS[0])
    for number in range(operators):
        layout = _LAYOUTS[(number + 1) % 2]
        copy = tensor(layout)
        values.append(Null())
        chain.append(OperatorCall(len(chain), "aten.clone.default", (last, len(values) - 1, copy)))
        last = tensor(layout)
        chain.append(OperatorCall(len(chain), "aten.relu.default", (copy, last)))
    return vkgraph.encode(VkGraph("0", tuple(chain), tuple(values), (first,), (last,)))


def pooled(channels: int = 1) -> bytes:
    """A VkGraph of activations before a pooling that takes textures packed along channels alone.

    Packed like that an image of one channel takes four times its bytes, and a repack spares it.
    """
    layout = VkMemoryLayout.TENSOR_CHANNELS_PACKED
    values: list[Value] = [
        VkTensor(
            VkDataType.FLOAT32,
            (1, channels, size, size),
            mem_obj_id=number,
            storage_type=_TEXTURE,
            memory_layout=layout,
            staging_datatype=VkDataType.FLOAT32,
        )
        for number, size in enumerate((8, 8, 8, 4))
    ]
    values += [IntList((2, 2)), IntList((0, 0)), Bool(False), Bool(True), Null()]
    chain = (
        OperatorCall(0, "aten.relu.default", (0, 1)),
        OperatorCall(1, "aten.relu.default", (1, 2)),
        OperatorCall(2, "aten.avg_pool2d.default", (2, 4, 4, 5, 6, 7, 8, 3)),
    )
    return vkgraph.encode(VkGraph("0", chain, tuple(values), (0,), (3,)))
