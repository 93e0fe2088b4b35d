"""Programs for WebGPU's runtime, as ExecuTorch itself reads them."""

from __future__ import annotations

from executorch.exir._serialize._program import deserialize_pte_binary

from planner.executorch.readback import decode_as_executorch
from planner.options import make_options
from planner.pipelines.lowered import Planned, replan


def planned_for_webgpu(data: bytes, name: str) -> Planned:
    """A program without transitions, each of whose delegates ExecuTorch reads as it was planned."""
    planned = replan(data, f"{name}.pte", make_options("bytes", target="webgpu"))
    total = planned.report.total
    assert (total.transitions, total.objective_cost, total.bound) == (0, 0, 0)
    program = deserialize_pte_binary(planned.data).program
    assert program.backend_delegate_data
    for each in program.backend_delegate_data:
        graph = decode_as_executorch(each.data)
        assert graph.version.startswith("0+webgpu+vulkan")
        tensors = [v.value for v in graph.values if hasattr(v.value, "storage_type")]
        assert {
            (t.storage_type.name, t.memory_layout.name) for t in tensors if t.constant_id < 0
        } == {("BUFFER", "TENSOR_WIDTH_PACKED")}
    return planned
