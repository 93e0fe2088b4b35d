"""Shows that operators that the registry does not know keep their representations."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from planner.errors import VerificationError
from schema import VkGraph, VkMemoryLayout, VkStorageType, VkTensor
from schema.vkgraph import OperatorCall, ValueList

_CLONE = "aten.clone.default"

_Given = tuple[VkStorageType, VkMemoryLayout, bool]


def check_pinned(file: VkGraph, written: VkGraph, names: Collection[str]) -> None:
    """Shows that operators of these names have the representations that the file gave them.

    Raises ``VerificationError`` naming the operator.
    """
    had = [(call, list(_given(file, call))) for call in file.chain if call.name in names]
    have = [(call, list(_given(written, call))) for call in written.chain if call.name in names]
    if len(had) != len(have):
        raise VerificationError(f"operators {sorted(names)} of the file were not all written")
    for (before, old), (after, new) in zip(had, have, strict=True):
        if (before.name, old) != (after.name, new):
            raise VerificationError(
                f"{before.name} is not in the registry and must keep its representations, "
                f"but they changed from {old} to {new}"
            )


def _given(graph: VkGraph, call: OperatorCall) -> Iterator[_Given]:
    """Storage and layout of each operand, and whether it is a clone's output."""
    clones = {made for other in graph.chain if other.name == _CLONE for made in other.args[-1:]}
    for value_id in call.args:
        value = graph.values[value_id]
        ids = value.items if isinstance(value, ValueList) else (value_id,)
        for member in ids:
            tensor = graph.values[member]
            if isinstance(tensor, VkTensor) and tensor.constant_id < 0:
                yield tensor.storage_type, tensor.memory_layout, member in clones
