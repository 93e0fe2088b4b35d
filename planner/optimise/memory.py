"""Which tensors of a delegate's graph share memory, and what they take together.

A tensor's ``mem_obj_id`` names a memory object: the runtime allocates one piece of memory for all
tensors with the same id, as large as the largest of them, and each fills it from its start. A
negative id is memory of the tensor's own. So planning memory is to colour an interval graph such
that the sum over colours of the largest member is small.

That lifetimes do not overlap is enough. The runtime lets the first write to a tensor wait for all
earlier work, so the next holder of a memory object cannot overtake the last one; buffers and
images may share an object, as they do in ExecuTorch's own plans; no operator makes its output a
view of an input; and scratch memory of operators gets objects beyond those of the graph.

Source of the facts: ExecuTorch's Vulkan runtime, ``runtime/VulkanBackend.cpp`` and
``runtime/graph/`` (``ComputeGraph.cpp``, ``containers/SharedObject.cpp``, ``ops/PrepackNode.cpp``),
and, for ``greedy_plan``, ``exir/memory_planning.py`` of ExecuTorch 1.5.1 as
``backends/vulkan/vulkan_preprocess.py`` calls it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from math import prod
from typing import Final, NamedTuple

from planner.errors import InputError, VerificationError
from planner.ir.physical import ELEMENT_BYTES, padded_bytes
from planner.ir.registry import PREPACK
from planner.ir.representation import TensorRepr
from schema import VkDataType, VkGraph, VkMemoryLayout, VkStorageType, VkTensor
from schema.vkgraph import ValueList

DEDICATED: Final = -1
"""The ``mem_obj_id`` of a tensor that shares its memory with no other."""

_ALIGNMENT: Final = 16
_LAYER_OBJECTS: Final = 4096


class Lifetime(NamedTuple):
    """First and last position in the chain that need a tensor's contents, both inclusive.

    Inputs are copied in at position -1, before the first operator, and outputs are copied out at
    ``len(chain)``, after the last.
    """

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """A memory object for each tensor.

    ``objects`` maps the value id of every tensor that is no constant to its ``mem_obj_id``:
    ``DEDICATED``, or a number that counts objects in the order in which the graph first uses them.
    ``total_bytes`` is the sum over objects and dedicated tensors, padding inside of the
    representations included. What a driver adds for alignment and tiling is not known here.
    """

    objects: Mapping[int, int]
    total_bytes: int


def lifetimes(graph: VkGraph) -> dict[int, Lifetime]:
    """When each tensor that may share memory is alive, by value id, in the order of first use.

    A tensor is alive from the operator that first writes it (a graph input: from the start) to the
    last operator that names it, by itself or in a list, be it to read it or to write into it (a
    graph output: to the end). An output that nothing uses is alive while its operator runs.

    Left out, because their memory stays their own:

    - constants, which are no tensors at run time until an operator prepacks them;
    - what ``et_vk.prepack`` makes: it is filled before the first run and read in every one, and
      where a model keeps a state it is this tensor that is updated;
    - tensors that are read before anything wrote them in this run: a state, too;
    - tensors that the graph gives memory of their own (a negative ``mem_obj_id``): that is a
      decision of whoever wrote it, and in a graph without memory planning it is so for all;
    - tensors that nothing names.

    So a tensor that is new in a planned graph takes part once it has any ``mem_obj_id`` from 0 up.
    Raises ``InputError`` for a list in a list, which the runtime does not know either.
    """
    spans: dict[int, Lifetime] = {}
    kept: set[int] = set()

    def visit(position: int, read: Iterable[int], written: Iterable[int]) -> None:
        for value_id in _tensors(graph, read):
            if value_id in spans:
                spans[value_id] = Lifetime(spans[value_id].first, position)
            else:
                kept.add(value_id)
        for value_id in _tensors(graph, written):
            first = spans[value_id].first if value_id in spans else position
            spans[value_id] = Lifetime(first, position)

    visit(-1, (), graph.input_ids)
    for position, call in enumerate(graph.chain):
        visit(position, call.args[:-1], call.args[-1:])
        if call.name == PREPACK:
            kept.update(_tensors(graph, call.args[-1:]))
    visit(len(graph.chain), graph.output_ids, ())
    return {
        value_id: span
        for value_id, span in spans.items()
        if value_id not in kept and _may_share(graph, value_id)
    }


def plan_memory(graph: VkGraph) -> MemoryPlan:
    """The smallest of several plans, one of them ExecuTorch's own; on ties that one.

    Depends on the graph's operators and representations but not on its present objects, beyond
    which tensors have one: planning what was planned changes nothing. Takes time O(n log n) in the
    number of operators as long as no more than some thousand tensors are alive at once.

    Raises ``InputError`` for a tensor without a size: no datatype, a texture of more than 4
    dimensions; and as ``lifetimes`` does.
    """
    spans = lifetimes(graph)
    sizes = _sizes(graph)
    early = sorted(spans, key=lambda t: -sizes[t])
    backward = [*spans][::-1]
    late_end = sorted(backward, key=lambda t: (-sizes[t], -spans[t].last))
    mirrored = {t: Lifetime(-span.last, -span.first) for t, span in spans.items()}
    candidates = (
        _executorch_objects(graph, spans),
        _first_fit(late_end, spans),
        _first_fit(early, spans),
        _sweep(spans, sizes),
        _sweep(mirrored, sizes),
    )
    return _plan(min(candidates, key=lambda objects: _bytes(objects, sizes)), spans, sizes)


def greedy_plan(graph: VkGraph) -> MemoryPlan:
    """What ExecuTorch's own greedy algorithm gives, with the total of padded sizes.

    It takes tensors by descending size and puts each into the first object that is free for all of
    its lifetime. It knows neither representations nor padding: its size is that of the elements
    in the type they had in the exported program, rounded up to 16 bytes. Of that type a graph
    keeps ``staging_datatype``, which differs where 64-bit numbers became 32-bit ones. ExecuTorch
    also plans for scalars that a graph holds as ``SymInt``, and takes a tensor of several that an
    operator makes to be alive until the last of them is first picked. Where a program has any of
    these, its plan may be another than this one.

    Raises ``InputError`` as ``plan_memory`` does.
    """
    spans = lifetimes(graph)
    sizes = _sizes(graph)
    return _plan(_executorch_objects(graph, spans), spans, sizes)


def used_bytes(graph: VkGraph) -> int:
    """What the graph takes with the memory objects that it has, counted as ``total_bytes`` is.

    Raises ``InputError`` for a tensor without a size.
    """
    dedicated = 0
    largest: dict[int, int] = {}
    for value_id, size in _sizes(graph).items():
        tensor = graph.values[value_id]
        assert isinstance(tensor, VkTensor)
        if tensor.mem_obj_id < 0:
            dedicated += size
        else:
            largest[tensor.mem_obj_id] = max(size, largest.get(tensor.mem_obj_id, 0))
    return dedicated + sum(largest.values())


def apply(graph: VkGraph, plan: MemoryPlan) -> VkGraph:
    """The graph with the plan's memory objects."""
    values = list(graph.values)
    for value_id, memory_object in plan.objects.items():
        value = values[value_id]
        if isinstance(value, VkTensor):
            values[value_id] = replace(value, mem_obj_id=memory_object)
    return replace(graph, values=tuple(values))


def check_memory(graph: VkGraph) -> None:
    """Shows that no two tensors share memory while both are alive.

    Raises ``VerificationError`` that names two tensors that break the rule; or a list in a list.
    """
    error = sharing_error(graph)
    if error is not None:
        raise VerificationError(error)


def sharing_error(graph: VkGraph) -> str | None:
    """Two tensors that share memory while both are alive, in words; or a list in a list.

    Every tensor that an operator names is alive while it runs; inputs are alive from the start,
    outputs to the end. Prepacked tensors, and those that are read before anything wrote them, are
    alive from the start to the end of every run. Follows the chain by itself, apart from planning.
    """
    contents: dict[int, tuple[int, ...]] = {}
    for list_id, value in enumerate(graph.values):
        if isinstance(value, ValueList):
            contents[list_id] = value.items
    for list_id, items in contents.items():
        if any(item in contents for item in items):
            return f"value {list_id} is a list that holds a list"

    def named(ids: Iterable[int]) -> set[int]:
        return {item for value_id in ids for item in contents.get(value_id, (value_id,))}

    present = named(graph.input_ids)
    permanent: set[int] = set()
    for call in graph.chain:
        made = named(call.args[-1:])
        permanent |= named(call.args[:-1]) - present
        if call.name == PREPACK:
            permanent |= made
        present |= made
    outputs = named(graph.output_ids)
    permanent |= outputs - present

    shared = {
        value_id: value.mem_obj_id
        for value_id, value in enumerate(graph.values)
        if isinstance(value, VkTensor) and value.constant_id < 0 <= value.mem_obj_id
    }
    steps = [
        named(graph.input_ids) | permanent,
        *(named(call.args) for call in graph.chain),
        outputs | permanent,
    ]
    last_step = {value_id: step for step, ids in enumerate(steps) for value_id in ids}
    holders: dict[int, int] = {}
    for step, ids in enumerate(steps):
        for value_id in sorted(ids & shared.keys()):
            holder = holders.get(shared[value_id], value_id)
            if holder != value_id and last_step[holder] >= step:
                return (
                    f"tensors {holder} and {value_id} share memory object {shared[value_id]} "
                    "while both are alive"
                )
            holders[shared[value_id]] = value_id
    return None


def _tensors(graph: VkGraph, ids: Iterable[int]) -> Iterator[int]:
    """The tensors among these values and in the lists among them."""
    for value_id in ids:
        value = graph.values[value_id]
        for member in value.items if isinstance(value, ValueList) else (value_id,):
            if isinstance(graph.values[member], VkTensor):
                yield member
            elif isinstance(value, ValueList) and isinstance(graph.values[member], ValueList):
                raise InputError(f"value {value_id} is a list that holds a list: flatten it")


def _may_share(graph: VkGraph, value_id: int) -> bool:
    tensor = graph.values[value_id]
    return isinstance(tensor, VkTensor) and tensor.constant_id < 0 <= tensor.mem_obj_id


def _sizes(graph: VkGraph) -> dict[int, int]:
    """Bytes in memory of every tensor that is no constant."""
    return {
        value_id: _memory_bytes(value_id, value)
        for value_id, value in enumerate(graph.values)
        if isinstance(value, VkTensor) and value.constant_id < 0
    }


def _memory_bytes(value_id: int, tensor: VkTensor) -> int:
    """Bytes in the tensor's representation; without one, of its elements alone."""
    if tensor.datatype not in ELEMENT_BYTES:
        raise InputError(f"tensor {value_id} has no datatype: give it one")
    storage, layout = tensor.storage_type, tensor.memory_layout
    if storage == VkStorageType.DEFAULT_STORAGE or layout == VkMemoryLayout.DEFAULT_LAYOUT:
        return prod(tensor.dims) * ELEMENT_BYTES[tensor.datatype]
    try:
        return padded_bytes(tensor.dims, tensor.datatype, TensorRepr(storage, layout))
    except ValueError as error:
        raise InputError(f"tensor {value_id}: {error}") from error


Objects = list[list[int]]
"""Tensors by the memory object that they share."""


def _plan(objects: Objects, spans: Mapping[int, Lifetime], sizes: Mapping[int, int]) -> MemoryPlan:
    """Numbers objects in the order of first use; every other tensor is dedicated."""
    number_of = dict.fromkeys(sizes, DEDICATED)
    object_of = {value_id: i for i, members in enumerate(objects) for value_id in members}
    numbers: dict[int, int] = {}
    for value_id in spans:
        number_of[value_id] = numbers.setdefault(object_of[value_id], len(numbers))
    dedicated = sum(size for value_id, size in sizes.items() if value_id not in spans)
    return MemoryPlan(number_of, dedicated + _bytes(objects, sizes))


def _bytes(objects: Objects, sizes: Mapping[int, int]) -> int:
    return sum(max(sizes[value_id] for value_id in members) for members in objects)


def _executorch_objects(graph: VkGraph, spans: Mapping[int, Lifetime]) -> Objects:
    """ExecuTorch's choice: by size as it sees it; of equal ones the last comes first."""

    def requested_bytes(value_id: int) -> int:
        tensor = graph.values[value_id]
        assert isinstance(tensor, VkTensor)
        staging = tensor.staging_datatype
        datatype = tensor.datatype if staging == VkDataType.UNSET else staging
        return -(-prod(tensor.dims) * ELEMENT_BYTES[datatype] // _ALIGNMENT)

    backward = [*spans][::-1]
    return _first_fit(sorted(backward, key=lambda t: -requested_bytes(t)), spans)


def _first_fit(order: Sequence[int], spans: Mapping[int, Lifetime]) -> Objects:
    """Puts each tensor into the first object that is free for all of its lifetime.

    Works through objects in layers: a tensor that finds no place in this layer waits for the next
    one, which changes no choice. It bounds the length of the timeline's bit masks.
    """
    objects: Objects = []
    positions = 2 + max((span.last for span in spans.values()), default=0)
    while order:
        timeline = _Timeline(positions)
        layer: Objects = []
        waiting: list[int] = []
        for value_id in order:
            index = timeline.first_free(spans[value_id])
            if index == _LAYER_OBJECTS:
                waiting.append(value_id)
                continue
            if index == len(layer):
                layer.append([])
            layer[index].append(value_id)
            timeline.occupy(spans[value_id], index)
        objects += layer
        order = waiting
    return objects


class _Timeline:
    """Which objects are taken at which positions: a segment tree, with a bit for each object.

    ``_whole`` has, for some nodes, objects that are taken at all positions below the node: a
    lifetime is marked at nodes that make it up exactly. ``_part`` has those of which a lifetime
    begins, ends or is marked at the node or below it.
    """

    def __init__(self, positions: int) -> None:
        self._leaves = 1 << (positions - 1).bit_length()
        self._whole = [0] * (2 * self._leaves)
        self._part = [0] * (2 * self._leaves)

    def first_free(self, span: Lifetime) -> int:
        """The first object that is free at all positions of a lifetime."""
        whole, part = self._whole, self._part
        low, high = self._ends(span)
        taken = part[low] | part[high]
        # Between the two paths to the root lie the nodes that make up the lifetime's inside.
        while low >> 1 != high >> 1:
            if not low & 1:
                taken |= part[low + 1]
            if high & 1:
                taken |= part[high - 1]
            low, high = low >> 1, high >> 1
            taken |= whole[low] | whole[high]
        while low := low >> 1:
            taken |= whole[low]
        return (~taken & (taken + 1)).bit_length() - 1

    def occupy(self, span: Lifetime, index: int) -> None:
        """Takes an object at all positions of a lifetime."""
        whole, part = self._whole, self._part
        low, high = self._ends(span)
        inside, bit = [low, high], 1 << index
        while low >> 1 != high >> 1:
            if not low & 1:
                inside.append(low + 1)
            if high & 1:
                inside.append(high - 1)
            low, high = low >> 1, high >> 1
            part[low] |= bit
            part[high] |= bit
        while low := low >> 1:
            part[low] |= bit
        for node in inside:
            whole[node] |= bit
            part[node] |= bit

    def _ends(self, span: Lifetime) -> tuple[int, int]:
        return self._leaves + span.first + 1, self._leaves + span.last + 1


def _sweep(spans: Mapping[int, Lifetime], sizes: Mapping[int, int]) -> Objects:
    """Follows time; each tensor takes the smallest free object that holds it.

    Where none does, the largest free one grows.
    """
    objects: Objects = []
    free: list[tuple[int, int]] = []
    taken: list[tuple[int, int, int]] = []
    for value_id in sorted(spans, key=lambda t: (spans[t].first, -sizes[t])):
        span, size = spans[value_id], sizes[value_id]
        while taken and taken[0][0] < span.first:
            _, capacity, index = heappop(taken)
            insort(free, (capacity, index))
        if free:
            capacity, index = free.pop(min(bisect_left(free, (size, 0)), len(free) - 1))
        else:
            capacity, index = 0, len(objects)
            objects.append([])
        objects[index].append(value_id)
        heappush(taken, (span.last, max(capacity, size), index))
    return objects
