"""What WebGPU's runtime lacks stays on the CPU."""

from __future__ import annotations

import io

import torch
from executorch.backends.vulkan.op_registry import vulkan_supported_ops
from torch import Tensor, nn

from planner.kernels.webgpu import webgpu_releases_of
from planner.options import make_options
from planner.pipelines.checking import check_program
from planner.pipelines.exported import plan_exported

WEBGPU = make_options("bytes", target="webgpu")


class Positions(nn.Module):
    """Adds to numbers what has no kernel, and what has one of another type."""

    def forward(self, x: Tensor, at: Tensor) -> Tensor:
        steps = torch.arange(x.shape[1], dtype=torch.float32) + (at + 1).to(torch.float32)
        return torch.relu(x) + torch.hardshrink(steps)


def test_what_the_runtime_lacks_stays_on_the_cpu() -> None:
    example = torch.rand(1, 8), torch.arange(8, dtype=torch.int32)
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(Positions(), example), buffer)
    planned = plan_exported(buffer.getvalue(), "x.pt2", WEBGPU)
    assert [w for d in planned.report.delegates for w in d.warnings] == []
    assert planned.report.on_cpu == ()
    assert check_program(planned.pte(), "x.pte").findings == ()
    names = {op.name for d in planned.delegates for op in d.graph.operators}
    assert names >= {"aten.relu.default", "aten.add.Tensor"}
    assert names.isdisjoint({"aten.hardshrink.default", "aten.arange.start_step"})


def test_the_operators_that_executorchs_own_tests_lower_for_webgpu() -> None:
    # The whole list of what the runtime registers is not in the wheel: this is part of it.
    from executorch.backends.webgpu.test.tester import WEBGPU_SUPPORTED_OPS

    assert len(WEBGPU_SUPPORTED_OPS) > 60
    for operator in WEBGPU_SUPPORTED_OPS:
        assert operator in vulkan_supported_ops
        assert webgpu_releases_of(operator.__name__), operator.__name__
