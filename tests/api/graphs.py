"""Small lowered programs, to be planned without torch."""

from __future__ import annotations

from schema import VkDataType, VkGraph, VkMemoryLayout, VkStorageType, VkTensor, vkgraph
from schema.vkgraph import Null, OperatorCall, Value

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
