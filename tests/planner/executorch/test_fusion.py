"""Patterns that are kept fuse what patterns that are made anew do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
from executorch.backends.vulkan.patterns import (
    HfRotaryEmbeddingPattern,
    RotaryEmbeddingPattern,
    fusable_patterns,
)
from executorch.exir import to_edge_transform_and_lower
from torch import Tensor, nn
from torch.fx import GraphModule

from planner.executorch.fusion import NEEDED, kept_patterns
from planner.executorch.patches import replaced
from planner.files.lowered import graphs_of
from planner.vkgraph.reader import read_vkgraph


class _Rotated(nn.Module):
    """Two delegates, each with a rotation; between them an operator that Vulkan does not take."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = HfRotaryEmbeddingPattern(), RotaryEmbeddingPattern()

    def forward(self, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        q, k = self.first(q + 1, k + 1, cos, sin)
        q, k = self.second(torch.sort(q)[0], torch.sort(k)[0], cos[:, :16], sin[:, :16])
        return q, k


def _rotation() -> tuple[Any, ...]:
    """The net, and inputs for it."""
    torch.manual_seed(0)
    shapes = ((1, 1, 4, 32), (1, 1, 2, 32), (1, 32), (1, 32))
    return _Rotated(), *(torch.randn(shape) for shape in shapes)


def test_kept_patterns_change_no_byte() -> None:
    net, *inputs = _rotation()
    program = torch.export.export(net, tuple(inputs))

    def lower() -> bytes:
        edge = to_edge_transform_and_lower(program, partitioner=[VulkanPartitioner()])
        data: bytes = edge.to_executorch().buffer
        return data

    plain = lower()
    with replaced(kept_patterns()):
        assert [lower(), lower()] == [plain, plain]
    operators = {o.name for g in graphs_of(plain, "x") for o in read_vkgraph(g).graph.operators}
    assert operators >= {"et_vk.apply_rotary_emb_hf.default", "et_vk.apply_rotary_emb.default"}


def test_needed_operators_are_in_every_pattern() -> None:
    made = {name: entry for name, entry in fusable_patterns.items() if entry.get_graphs_fn}
    assert [*made.values()] == [hook.value[0] for hook in NEEDED]
    for hook, needed in NEEDED.items():
        entry: Any = hook.value[0]
        for pattern in entry.get_graphs_fn():
            calls = (node for node in pattern.graph.nodes if node.op == "call_function")
            assert needed <= {node.target.__name__ for node in calls}


def test_patterns_are_made_once_and_only_where_they_may_match(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry, made = fusable_patterns["hf_rope"], list[str]()

    def make() -> list[GraphModule]:
        made.append("once")
        return []

    monkeypatch.setattr(entry, "get_graphs_fn", make)
    plain = torch.export.export(nn.Linear(4, 4), (torch.randn(1, 4),))
    net, *inputs = _rotation()
    rotating = torch.export.export(net, tuple(inputs))
    for program, expected in ((plain, []), (rotating, ["once"]), (rotating, ["once"])):
        with replaced(kept_patterns()):
            to_edge_transform_and_lower(program, partitioner=[VulkanPartitioner()])
        assert made == expected
