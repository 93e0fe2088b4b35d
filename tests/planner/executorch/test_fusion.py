"""Patterns that are kept fuse what patterns that are made anew do."""

from __future__ import annotations

import torch
from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
from executorch.backends.vulkan.patterns import (
    HfRotaryEmbeddingPattern,
    RotaryEmbeddingPattern,
    fusable_patterns,
)
from executorch.exir import to_edge_transform_and_lower
from torch import Tensor, nn

from planner.executorch.fusion import KEPT_PATTERNS
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


def test_kept_patterns_change_no_byte() -> None:
    torch.manual_seed(0)
    shapes = ((1, 1, 4, 32), (1, 1, 2, 32), (1, 32), (1, 32))
    program = torch.export.export(_Rotated(), tuple(torch.randn(shape) for shape in shapes))

    def lower() -> bytes:
        edge = to_edge_transform_and_lower(program, partitioner=[VulkanPartitioner()])
        data: bytes = edge.to_executorch().buffer
        return data

    plain = lower()
    with replaced(KEPT_PATTERNS):
        assert [lower(), lower()] == [plain, plain]
    operators = {o.name for g in graphs_of(plain, "x") for o in read_vkgraph(g).graph.operators}
    assert operators >= {"et_vk.apply_rotary_emb_hf.default", "et_vk.apply_rotary_emb.default"}


def test_patterns_that_are_made_by_graphs_are_all_kept() -> None:
    made = [entry for entry in fusable_patterns.values() if entry.get_graphs_fn is not None]
    assert made == [hook.value[0] for hook in KEPT_PATTERNS]


def test_patterns_are_made_once() -> None:
    with replaced(KEPT_PATTERNS):
        entry = fusable_patterns["hf_rope"]
        assert entry.get_graphs_fn is not None
        once = entry.get_graphs_fn()
    with replaced(KEPT_PATTERNS):
        assert entry.get_graphs_fn() is once
