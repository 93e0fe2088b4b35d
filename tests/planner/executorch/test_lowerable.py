"""Programs on which ExecuTorch's own preprocessing fails, and ours does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        start = position[0].item()
        torch._check(start >= 0)  # type: ignore[no-untyped-call]
        torch._check(start < 12)  # type: ignore[no-untyped-call]
        q, k, v = self.qkv(x).view(1, x.shape[1], 6, self.head).split(2, dim=2)
        torch.ops.llama.update_cache(k, self.keys, start)
        torch.ops.llama.update_cache(v, self.values, start)
        keys, values = (c.transpose(1, 2).transpose(1, 2) for c in (self.keys, self.values))
        found: Tensor = torch.ops.llama.custom_sdpa(q, keys, values, start, None, 0.0, True)
        return found.reshape(1, x.shape[1], 2 * self.head)


def exported(make: Callable[[], nn.Module]) -> Any:
    load_libraries("net", ["llama.update_cache", "llama.custom_sdpa"])
    net = make().eval()
    if isinstance(net, Mask):
        return torch.export.export(net, (torch.randn(1, 8),))
    return torch.export.export(net, (torch.randn(1, 3, 16), torch.tensor([2])))


def lower(program: Any) -> bytes:
    edge = to_edge_transform_and_lower(
        program,
        partitioner=[VulkanPartitioner()],
        compile_config=EdgeCompileConfig(_check_ir_validity=False),
    )
    lowered: bytes = edge.to_executorch().buffer
    return lowered


@pytest.mark.parametrize("make", [Mask, Transposed])
def test_executorch_fails_and_we_do_not(make: Callable[[], nn.Module]) -> None:
    with pytest.raises(Exception, match="An error occurred"), replaced(kept_patterns()):
        lower(exported(make))
    with mending():
        greedy = lower(exported(make))
    with planning(make_options("bytes")):
        ours = lower(exported(make))
    for data in (greedy, ours):
        assert check_program(data, "net.pte").findings == ()
