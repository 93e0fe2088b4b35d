"""Shows that operators that the registry does not know keep their representations."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from planner.errors import VerificationError
from schema import VkGraph, VkMemoryLayout, VkStorageType, VkTensor
from schema.vkgraph import OperatorCall, ValueList

_CLONE = "aten.clone.default"

_Given = tuple[VkStorageType, VkMemoryLayout]


def check_pinned(file: VkGraph, written: VkGraph, names: Collection[str]) -> None:
    """Shows that operators of these names have the representations that the file gave them.

    What they read themselves they do not read by a clone now. Raises ``VerificationError`` naming
    the operator.
    """
    if not names:
        return
    had, have = ([*_calls(graph, names)] for graph in (file, written))
    if len(had) != len(have):
        raise VerificationError(f"operators {sorted(names)} of the file were not all written")
    for (before, old, old_clones), (after, new, new_clones) in zip(had, have, strict=True):
        if (before, old) != (after, new):
            raise VerificationError(
                f"{before} is not in the registry and must keep its representations, "
                f"but they changed from {old} to {new}"
            )
        if any(is_new and not was for was, is_new in zip(old_clones, new_clones, strict=True)):
            raise VerificationError(
                f"{before} is not in the registry and must read what it read, but now reads a copy"
            )


def _calls(
    graph: VkGraph, names: Collection[str]
) -> Iterator[tuple[str, list[_Given], list[bool]]]:
    """Each operator of these names, its representations, and which operands a clone makes."""
    clones = {made for call in graph.chain if call.name == _CLONE for made in call.args[-1:]}
    for call in graph.chain:
        if call.name in names:
            operands = [*_operands(graph, call)]
            given = [_given(tensor) for _, tensor in operands]
            yield call.name, given, [value_id in clones for value_id, _ in operands]


def _given(tensor: VkTensor) -> _Given:
    """Storage and layout, as the runtime chooses what is left to it (``ComputeGraph.cpp``)."""
    storage, layout = tensor.storage_type, tensor.memory_layout
    if storage == VkStorageType.DEFAULT_STORAGE:
        storage = VkStorageType.TEXTURE_3D
    if layout == VkMemoryLayout.DEFAULT_LAYOUT:
        layout = VkMemoryLayout.TENSOR_WIDTH_PACKED
        if tensor.dims[-3:-2] not in ((), (1,)):
            layout = VkMemoryLayout.TENSOR_CHANNELS_PACKED
    return storage, layout


def _operands(graph: VkGraph, call: OperatorCall) -> Iterator[tuple[int, VkTensor]]:
    for value_id in call.args:
        value = graph.values[value_id]
        ids = value.items if isinstance(value, ValueList) else (value_id,)
        for member in ids:
            tensor = graph.values[member]
            if isinstance(tensor, VkTensor) and tensor.constant_id < 0:
                yield member, tensor
