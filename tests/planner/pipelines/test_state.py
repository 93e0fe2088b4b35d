"""Programs that keep a state in a buffer of theirs, which operators write over."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
from executorch.exir import to_edge_transform_and_lower
from torch import Tensor, nn

from planner.executorch.readback import decode_as_executorch
from planner.executorch.session import planning
from planner.executorch.session import to_edge_transform_and_lower as planned_lowering
from planner.files.lowered import delegates_of, graphs_of
from planner.options import make_options
from planner.pipelines.lowered import replan
from schema import VkTensor

OPTIONS = make_options("bytes")
ALIASED = {"alias_buffer_mutations": True}


class Accumulator(nn.Module):
    """Adds what a convolution makes to its state, which linear operators read before and after."""

    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.before, self.after = nn.Linear(8, 8), nn.Linear(8, 8)
        self.register_buffer("total", torch.zeros(1, 4, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        old = self.before(self.total)
        self.total.add_(self.conv(x))
        new: Tensor = self.after(self.total) * old
        return new


@pytest.fixture(scope="module")
def exported() -> torch.export.ExportedProgram:
    torch.manual_seed(0)
    return torch.export.export(Accumulator().eval(), (torch.randn(1, 3, 8, 8),))


def written_over(data: bytes) -> set[int]:
    """The tensors of the program's only delegate that several operators write."""
    (graph,) = graphs_of(data, "x")
    makers = Counter(call.args[-1] for call in graph.chain)
    found = {value_id for value_id, count in makers.items() if count > 1}
    assert all(isinstance(graph.values[value_id], VkTensor) for value_id in found)
    return found


@pytest.mark.parametrize("options", [{}, ALIASED], ids=["copied", "aliased"])
def test_a_state_is_planned(
    exported: torch.export.ExportedProgram, options: dict[str, bool]
) -> None:
    theirs = to_edge_transform_and_lower(exported, partitioner=[VulkanPartitioner(options)])
    lowered: bytes = theirs.to_executorch().buffer
    assert len(written_over(lowered)) == len(options)
    again = replan(lowered, "x.pte", OPTIONS)
    with planning(OPTIONS) as session:
        edge = to_edge_transform_and_lower(exported, partitioner=[VulkanPartitioner(options)])
        ours: bytes = edge.to_executorch().buffer
    (delegate,) = session.delegates
    assert again.report.total.status == "OPTIMAL"
    assert delegate.plan.figures.repack_cost == again.report.total.repack_cost
    for data in (ours, again.data):
        assert len(written_over(data)) == len(options)
        for blob in delegates_of(data, "x").values():
            decode_as_executorch(blob)
        assert replan(data, "x.pte", OPTIONS).data == data
    assert (
        planned_lowering(exported, partitioner=[VulkanPartitioner(options)], plan_options=OPTIONS)
        .to_executorch()
        .buffer
        == ours
    )
