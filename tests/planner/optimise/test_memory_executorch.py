"""The memory that ExecuTorch itself planned: it passes the check, and is what greedy gives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
import torch
from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
from executorch.exir import to_edge_transform_and_lower
from executorch.exir._serialize._program import deserialize_pte_binary
from torch import Tensor, nn

from planner.optimise.memory import apply, greedy_plan, plan_memory, used_bytes
from planner.verify.memory import check_memory
from schema import VkGraph, VkTensor, split_delegate, vkgraph
from tests.planner import nets


class Branches(nn.Module):
    """Parts of different widths that end at different times, one of them unused."""

    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.grow = nn.Linear(8, 24)
        self.shrink = nn.Linear(24, 8)
        self.register_buffer("offset", torch.randn(8))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        a, b, _ = torch.split(self.grow(x), 8, dim=-1)
        wide = torch.cat([a + y, b * y, x], dim=-1)
        peak = torch.relu(self.shrink(torch.sigmoid(wide)))
        return x + self.offset, torch.softmax(peak, -1) - a, peak


class Memory(nn.Module):
    """A state that every run updates."""

    state: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.register_buffer("state", torch.zeros(2, 8))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.linear(x))
        self.state.copy_(self.state * 0.5 + y)
        return torch.sigmoid(self.state) + y


def branches() -> Any:
    example = (torch.randn(2, 8), torch.randn(2, 8))
    return torch.export.export(Branches().eval(), example)


def memory() -> Any:
    return torch.export.export(Memory().eval(), (torch.randn(2, 8),))


@cache
def graphs(name: str, **options: bool) -> tuple[VkGraph, ...]:
    """The delegates of a net as ExecuTorch writes them."""
    torch.manual_seed(0)
    makers = {"branches": branches, "memory": memory}
    exported = makers[name]() if name in makers else nets.export(name)
    edge = to_edge_transform_and_lower(exported, partitioner=[VulkanPartitioner(options)])
    program = deserialize_pte_binary(edge.to_executorch().buffer).program
    blobs = [
        program.backend_delegate_data[delegate.processed.index].data
        for plan in program.execution_plan
        for delegate in plan.delegates
        if delegate.id == "VulkanBackend"
    ]
    found = tuple(vkgraph.decode(split_delegate(blob).flatbuffer) for blob in blobs)
    assert found
    return found


def partition(objects: Mapping[int, int]) -> set[frozenset[int]]:
    members = defaultdict(set)
    for value_id, memory_object in objects.items():
        members[memory_object if memory_object >= 0 else -1 - value_id].add(value_id)
    return {frozenset(ids) for ids in members.values()}


def written_objects(graph: VkGraph) -> dict[int, int]:
    return {
        value_id: value.mem_obj_id
        for value_id, value in enumerate(graph.values)
        if isinstance(value, VkTensor) and value.constant_id < 0
    }


@pytest.mark.parametrize("name", ["branches", "memory", "mixed"])
def test_executorchs_plan_is_the_greedy_one_and_never_smaller_than_ours(name: str) -> None:
    for graph in graphs(name):
        check_memory(graph, used_bytes(graph))
        greedy, plan = greedy_plan(graph), plan_memory(graph)
        assert partition(greedy.objects) == partition(written_objects(graph))
        assert plan.total_bytes <= greedy.total_bytes
        check_memory(apply(graph, plan), plan.total_bytes)


def test_elements_are_measured_as_they_were_before_the_graph_was_halved() -> None:
    for graph in graphs("branches", force_fp16=True):
        assert partition(greedy_plan(graph).objects) == partition(written_objects(graph))


def test_without_memory_planning_nothing_is_shared() -> None:
    for graph in graphs("branches", skip_memory_planning=True):
        plan = plan_memory(graph)
        assert set(plan.objects.values()) == {-1}
        assert apply(graph, plan) == graph
