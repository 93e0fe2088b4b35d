"""Programs that several tests share: each is exported and lowered once a run."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest.mock import patch

import pytest
import torch
from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

from api.bench import zoo
from planner.executorch.baseline import detached_copy
from planner.executorch.session import Planning
from planner.options import make_options
from planner.pipelines.exported import PlannedExport, plan_exported
from tests.planner import nets

PROGRAMS = [
    pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in (*nets.NETS, *zoo.names())
]
"""Names of all programs, each with its tests on one worker of a parallel run."""
NETS = PROGRAMS[: len(nets.NETS)]
"""Those that are small."""


@dataclass(frozen=True)
class Lowered:
    """A planned program, and its delegates' graph modules as they were before planning."""

    name: str
    data: bytes
    planned: PlannedExport
    graph_modules: tuple[Any, ...]


@cache
def exported(name: str) -> bytes:
    """The .pt2 bytes of a net of ``nets`` or a small model of the zoo."""
    if name not in nets.NETS:
        return zoo.save(name, "small")
    buffer = io.BytesIO()
    torch.export.save(nets.export(name), buffer)
    return buffer.getvalue()


@cache
def greedy(name: str) -> bytes:
    """The .pte that ExecuTorch's own pass makes of a program."""
    program = torch.export.load(io.BytesIO(exported(name)))
    edge = to_edge_transform_and_lower(
        program,
        partitioner=[VulkanPartitioner()],
        compile_config=EdgeCompileConfig(_check_ir_validity=False),
    )
    data: bytes = edge.to_executorch().buffer
    return data


@cache
def lower(name: str) -> Lowered:
    """Plans a program with the profile ``bytes`` and keeps what the pass was given."""
    modules = []
    plan = Planning.plan

    def record(self: Planning, graph_module: Any, greedy: Any) -> None:
        modules.append(detached_copy(graph_module))
        plan(self, graph_module, greedy)

    data = exported(name)
    with patch.object(Planning, "plan", record):
        planned = plan_exported(data, f"{name}.pt2", make_options("bytes"))
    return Lowered(name, data, planned, tuple(modules))
