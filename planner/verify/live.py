"""The most bytes of a written graph's tensors that are alive at once, counted step by step.

Follows the chain with the tensors that are needed later, each with the checker's own size. Left out
are constants, what an operator prepacks, and what is read before anything wrote it: their memory is
theirs in every run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from planner.verify.memory import tensor_bytes
from schema import VkGraph, VkTensor
from schema.vkgraph import ValueList

_PREPACK: Final = "et_vk.prepack.default"


def peak_bytes(graph: VkGraph) -> int:
    """The most bytes alive at once, from the start, when the inputs are there, to the end.

    Raises ``VerificationError`` for a tensor without a size.
    """
    last: dict[int, int] = {}
    lasting = set[int]()
    written = set(_tensors(graph, graph.input_ids))
    for step, call in enumerate(graph.chain):
        read = set(_tensors(graph, call.args[:-1]))
        made = set(_tensors(graph, call.args[-1:]))
        lasting |= read - written
        if call.name == _PREPACK:
            lasting |= made
        written |= made
        last.update(dict.fromkeys(read | made, step))
    last.update(dict.fromkeys(_tensors(graph, graph.output_ids), len(graph.chain)))

    sizes: dict[tuple[object, ...], int] = {}

    def size(tensor: int) -> int:
        value = graph.values[tensor]
        assert isinstance(value, VkTensor)
        kind = value.dims, value.datatype, value.storage_type, value.memory_layout
        if kind not in sizes:
            sizes[kind] = tensor_bytes(tensor, value)
        return sizes[kind]

    alive = {t: size(t) for t in set(_tensors(graph, graph.input_ids)) - lasting}
    now = peak = sum(alive.values())
    for t in [t for t in alive if t not in last]:
        now -= alive.pop(t)
    for step, call in enumerate(graph.chain):
        for t in _tensors(graph, call.args[-1:]):
            if t not in alive and t not in lasting:
                alive[t] = size(t)
                now += alive[t]
        peak = max(peak, now)
        for t in _tensors(graph, call.args):
            if last[t] == step and t in alive:
                now -= alive.pop(t)
    return peak


def _tensors(graph: VkGraph, ids: Iterable[int]) -> Iterator[int]:
    """The tensors among these values and in the lists among them, less constants."""
    for value_id in ids:
        value = graph.values[value_id]
        for item in value.items if isinstance(value, ValueList) else (value_id,):
            tensor = graph.values[item]
            if isinstance(tensor, VkTensor) and tensor.constant_id < 0:
                yield item
