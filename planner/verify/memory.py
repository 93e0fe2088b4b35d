"""No two tensors share memory while both need it, and the graph takes as much as is claimed.

The runtime gives all tensors of one memory object (``mem_obj_id``) one piece of memory, as large as
the largest of them; a negative id is memory of a tensor's own. Constants have none until an
operator prepacks them. Follows the chain by itself, with the checker's own sizes.

Source of the facts: ExecuTorch's Vulkan runtime, ``runtime/VulkanBackend.cpp`` and
``runtime/graph/ComputeGraph.cpp``, ``containers/SharedObject.cpp`` and ``ops/PrepackNode.cpp``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import prod
from typing import Final

from planner.errors import VerificationError
from planner.ir.representation import TensorRepr
from planner.verify.layouts import ELEMENT_BYTES, memory_bytes
from schema import VkGraph, VkMemoryLayout, VkStorageType, VkTensor
from schema.vkgraph import ValueList

_PREPACK: Final = "et_vk.prepack.default"
_UNSEEN: Final = -2


def check_memory(graph: VkGraph, claimed_bytes: int) -> None:
    """Shows that tensors share memory only one after another, and what they take together.

    ``claimed_bytes`` are those of all memory objects and of all tensors with memory of their own,
    padding included. Raises ``VerificationError`` that names two tensors that share an object
    while both are alive, a list in a list, a tensor without a size, or the other total.
    """
    error = sharing_error(graph)
    if error is not None:
        raise VerificationError(error)
    counted = _total_bytes(graph)
    if counted != claimed_bytes:
        raise VerificationError(
            f"the graph takes {counted} bytes of memory, not the {claimed_bytes} that are claimed"
        )


def sharing_error(graph: VkGraph) -> str | None:
    """Two tensors that share memory while both are alive, in words; or a list in a list.

    A tensor is alive from the first operator that names it to the last: a graph input from the
    start, an output to the end. What an operator prepacks, and what is read before anything wrote
    it (a state), is alive from the start to the end of every run.
    """
    values = graph.values
    is_shared = bytearray(
        isinstance(value, VkTensor) and value.constant_id < 0 <= value.mem_obj_id
        for value in values
    )
    members: dict[int, list[int]] = {}
    for value_id, value in enumerate(values):
        if isinstance(value, ValueList):
            if any(isinstance(values[item], ValueList) for item in value.items):
                return f"value {value_id} is a list that holds a list"
            members[value_id] = [item for item in value.items if is_shared[item]]

    end = len(graph.chain)
    order: list[int] = []
    first = [end] * len(values)
    last = [_UNSEEN] * len(values)
    permanent: set[int] = set()

    def visit(step: int, ids: Iterable[int], is_read: bool) -> None:
        for value_id in ids:
            for item in (value_id,) if is_shared[value_id] else members.get(value_id, ()):
                if last[item] == _UNSEEN:
                    order.append(item)
                    first[item] = step
                    if is_read:
                        permanent.add(item)
                last[item] = step

    visit(-1, graph.input_ids, False)
    for step, (_, name, args) in enumerate(graph.calls.rows()):
        visit(step, args[:-1], True)
        visit(step, args[-1:], False)
        if name == _PREPACK:
            for value_id in args[-1:]:
                permanent.update([value_id] if is_shared[value_id] else members.get(value_id, ()))
    visit(end, graph.output_ids, True)
    for item in permanent:
        first[item], last[item] = -1, end
    return _overlap(graph, order, first, last)


def _overlap(
    graph: VkGraph, order: Sequence[int], first: Sequence[int], last: Sequence[int]
) -> str | None:
    """The first two tensors of a memory object of which one begins before the other ends."""
    holders: dict[int, list[int]] = defaultdict(list)
    for item in order:
        tensor = graph.values[item]
        assert isinstance(tensor, VkTensor)
        holders[tensor.mem_obj_id].append(item)
    for memory_object, items in holders.items():
        items.sort(key=first.__getitem__)
        for before, after in pairwise(items):
            if first[after] <= last[before]:
                return (
                    f"tensors {before} and {after} share memory object {memory_object} "
                    "while both are alive"
                )
    return None


def _total_bytes(graph: VkGraph) -> int:
    """Bytes of the graph's memory: the largest tensor of each object, and all without one."""
    own = 0
    largest: dict[int, int] = {}
    sizes: dict[tuple[object, ...], int] = {}
    for value_id, value in enumerate(graph.values):
        if not isinstance(value, VkTensor) or value.constant_id >= 0:
            continue
        kind = value.dims, value.datatype, value.storage_type, value.memory_layout
        size = sizes.get(kind)
        if size is None:
            size = sizes[kind] = tensor_bytes(value_id, value)
        if value.mem_obj_id < 0:
            own += size
        elif size > largest.get(value.mem_obj_id, -1):
            largest[value.mem_obj_id] = size
    return own + sum(largest.values())


def tensor_bytes(value_id: int, tensor: VkTensor) -> int:
    """Bytes in a tensor's representation; without one, of its elements alone."""
    if tensor.datatype not in ELEMENT_BYTES:
        raise VerificationError(f"tensor {value_id} has no datatype")
    storage, layout = tensor.storage_type, tensor.memory_layout
    if storage == VkStorageType.DEFAULT_STORAGE or layout == VkMemoryLayout.DEFAULT_LAYOUT:
        return prod(tensor.dims) * ELEMENT_BYTES[tensor.datatype]
    return memory_bytes(tensor, TensorRepr(storage, layout))
