"""Programs on which ExecuTorch's own preprocessing fails, and ours does not."""

from __future__ import annotations

import pytest
import torch
from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower
from torch import Tensor, nn

from planner.executorch.fusion import kept_patterns
from planner.executorch.libraries import load_libraries
from planner.executorch.patches import replaced
from planner.executorch.repairs import mending
from planner.executorch.session import planning
from planner.options import make_options
from planner.pipelines.checking import check_program
from tests.planner.pipelines.test_libraries import Attention

pytestmark = pytest.mark.xdist_group("lowerable")


class Mask(nn.Module):
    """A mask is made from constants alone; an operator that only the CPU has stands behind it."""

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(8) + 1
        return x + torch.fmod(places, 3)


class Transposed(Attention):
    """Caches are transposed, and back, between their writes and the attention."""

    def read(self, cache: Tensor) -> Tensor:
        return cache.transpose(1, 2).transpose(1, 2)


INPUTS: dict[type[nn.Module], tuple[Tensor, ...]] = {
    Mask: (torch.randn(1, 8),),
    Transposed: (torch.randn(1, 3, 16), torch.tensor([2])),
}


def lower(kind: type[nn.Module]) -> bytes:
    load_libraries("net", ["llama.update_cache", "llama.custom_sdpa"])
    edge = to_edge_transform_and_lower(
        torch.export.export(kind().eval(), INPUTS[kind]),
        partitioner=[VulkanPartitioner()],
        compile_config=EdgeCompileConfig(_check_ir_validity=False),
    )
    lowered: bytes = edge.to_executorch().buffer
    return lowered


@pytest.mark.parametrize("kind", INPUTS)
def test_executorch_fails_and_we_do_not(kind: type[nn.Module]) -> None:
    with pytest.raises(Exception, match="An error occurred"), replaced(kept_patterns()):
        lower(kind)
    with mending():
        greedy = lower(kind)
    with planning(make_options("bytes")):
        ours = lower(kind)
    for data in (greedy, ours):
        assert check_program(data, "net.pte").findings == ()
