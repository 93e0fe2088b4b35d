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

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod
from typing import Final

import numpy as np
from numpy.typing import NDArray

from planner.errors import InputError
from planner.ir.physical import ELEMENT_BYTES, padded_bytes
from planner.ir.representation import TensorRepr
from planner.kernels.registry import PREPACK
from planner.optimise.colouring import Lifetime, Objects, first_fit, least_bytes, sweep
from schema import VkDataType, VkGraph, VkMemoryLayout, VkStorageType, VkTensor
from schema.frozen import frozen
from schema.vkgraph import Value, ValueList

Integers = NDArray[np.int64]

DEDICATED: Final = -1
"""The ``mem_obj_id`` of a tensor that shares its memory with no other."""

_ALIGNMENT: Final = 16


@frozen
class MemoryPlan:
    """A memory object for each tensor.

    ``objects`` maps the value id of every tensor that is no constant to its ``mem_obj_id``:
    ``DEDICATED``, or a number that counts objects in the order in which the graph first uses them.
    ``total_bytes`` is the sum over objects and dedicated tensors, padding inside of the
    representations included. What a driver adds for alignment and tiling is not known here.
    ``greedy_bytes`` is what ExecuTorch's greedy algorithm comes to.
    """

    objects: Mapping[int, int]
    total_bytes: int
    greedy_bytes: int


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
    calls, counts = graph.calls, np.diff(graph.calls.starts)
    is_output = np.zeros(len(calls.args), np.bool_)
    is_output[np.cumsum(counts)[counts > 0] - 1] = True
    is_prepack = np.array([name == PREPACK for name in calls.names], np.bool_)
    prepacked = is_output & np.repeat(is_prepack[np.asarray(calls.name)], counts)
    # Graph inputs are written before all operators, and outputs read after them.
    ends = len(graph.input_ids), len(graph.output_ids)
    ids = (np.array(i, np.int64) for i in (graph.input_ids, calls.args, graph.output_ids))
    named, place = _tensors(graph, np.concatenate([*ids]))
    position = np.repeat(np.arange(-1, len(calls) + 1), [ends[0], *counts, ends[1]])[place]
    is_written = np.concatenate([np.ones(ends[0], np.bool_), np.pad(is_output, (0, ends[1]))])

    # Of several places that name a tensor, what is assigned last stays.
    first, last = np.zeros(len(graph.values), np.int64), np.zeros(len(graph.values), np.int64)
    index = np.arange(len(named))
    first[named[::-1]] = index[::-1]
    last[named] = position
    is_kept = np.zeros(len(graph.values), np.bool_)
    is_kept[named[np.pad(prepacked, ends)[place]]] = True
    begins = (first[named] == index) & is_written[place] & ~is_kept[named]
    found = named[begins]
    spans = map(Lifetime, position[begins].tolist(), last[found].tolist())
    return dict(zip(found.tolist(), spans, strict=True))


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
    greedy = _executorch_objects(graph, spans)
    least = least_bytes(spans, sizes)
    best, total = greedy, _bytes(greedy, sizes)
    others = _others(spans, sizes)
    # What is least cannot be better; of equal ones the first is taken.
    while total > least and (objects := next(others, None)) is not None:
        if (other := _bytes(objects, sizes)) < total:
            best, total = objects, other
    return _plan(best, spans, sizes, greedy)


def _others(spans: Mapping[int, Lifetime], sizes: Mapping[int, int]) -> Iterator[Objects]:
    """Plans in the order in which they are tried, each made when it is asked for."""
    backward = [*spans][::-1]
    yield first_fit(sorted(backward, key=lambda t: (-sizes[t], -spans[t].last)), spans)
    yield first_fit(sorted(spans, key=lambda t: -sizes[t]), spans)
    yield sweep(spans, sizes)
    yield sweep(spans, sizes, backward=True)


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
    greedy = _executorch_objects(graph, spans)
    return _plan(greedy, spans, sizes, greedy)


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
    known: dict[tuple[object, ...], VkTensor] = {}
    for value_id, memory_object in plan.objects.items():
        value = values[value_id]
        if isinstance(value, VkTensor):
            kind = value.datatype, value.dims, value.constant_id, memory_object
            key = (*kind, value.storage_type, value.memory_layout, value.staging_datatype)
            if key not in known:
                known[key] = replace(value, mem_obj_id=memory_object)
            values[value_id] = known[key]
    return replace(graph, values=tuple(values))


def _tensors(graph: VkGraph, named: Integers) -> tuple[Integers, Integers]:
    """The tensors that may share memory among these values, and in the lists among them; and the
    place, among the values, of each."""
    values = graph.values
    may_share = np.fromiter(map(_may_share, values), np.bool_, len(values))
    lists = {i: value.items for i, value in enumerate(values) if isinstance(value, ValueList)}
    place = np.arange(len(named))
    if lists:
        is_list = np.zeros(len(values), np.bool_)
        is_list[[*lists]] = True
        used = named[is_list[named]].tolist()
        for value_id in dict.fromkeys(used):
            if any(member in lists for member in lists[value_id]):
                raise InputError(f"value {value_id} is a list that holds a list: flatten it")
        widths = np.ones(len(named), np.int64)
        widths[is_list[named]] = [len(lists[value_id]) for value_id in used]
        place = np.repeat(place, widths)
        named = named[place]
        named[is_list[named]] = [member for value_id in used for member in lists[value_id]]
    kept = may_share[named]
    return named[kept], place[kept]


def _may_share(value: Value) -> bool:
    return isinstance(value, VkTensor) and value.constant_id < 0 <= value.mem_obj_id


def _sizes(graph: VkGraph) -> dict[int, int]:
    """Bytes in memory of every tensor that is no constant."""
    sizes: dict[int, int] = {}
    known: dict[tuple[object, ...], int] = {}
    for value_id, value in enumerate(graph.values):
        if isinstance(value, VkTensor) and value.constant_id < 0:
            kind = value.dims, value.datatype, value.storage_type, value.memory_layout
            size = known.get(kind)
            if size is None:
                size = known[kind] = _memory_bytes(value_id, value)
            sizes[value_id] = size
    return sizes


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


def _plan(
    objects: Objects, spans: Mapping[int, Lifetime], sizes: Mapping[int, int], greedy: Objects
) -> MemoryPlan:
    """Numbers objects in the order of first use; every other tensor is dedicated."""
    number_of = dict.fromkeys(sizes, DEDICATED)
    object_of = {value_id: i for i, members in enumerate(objects) for value_id in members}
    numbers: dict[int, int] = {}
    for value_id in spans:
        number_of[value_id] = numbers.setdefault(object_of[value_id], len(numbers))
    dedicated = sum(size for value_id, size in sizes.items() if value_id not in spans)
    total = dedicated + _bytes(objects, sizes)
    return MemoryPlan(number_of, total, dedicated + _bytes(greedy, sizes))


def _bytes(objects: Objects, sizes: Mapping[int, int]) -> int:
    return sum(max(sizes[value_id] for value_id in members) for members in objects)


def _executorch_objects(graph: VkGraph, spans: Mapping[int, Lifetime]) -> Objects:
    """ExecuTorch's choice: by size as it sees it; of equal ones the last comes first."""

    known: dict[tuple[object, ...], int] = {}

    def requested_bytes(value_id: int) -> int:
        tensor = graph.values[value_id]
        assert isinstance(tensor, VkTensor)
        kind = tensor.dims, tensor.datatype, tensor.staging_datatype
        if kind not in known:
            staging = tensor.staging_datatype
            datatype = tensor.datatype if staging == VkDataType.UNSET else staging
            known[kind] = -(-prod(tensor.dims) * ELEMENT_BYTES[datatype] // _ALIGNMENT)
        return known[kind]

    backward = [*spans][::-1]
    return first_fit(sorted(backward, key=lambda t: -requested_bytes(t)), spans)
