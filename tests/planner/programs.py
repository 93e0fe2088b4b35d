"""Programs that several tests share: each is exported and lowered once a run."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any
from unittest.mock import patch

import pytest
import torch
from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
from executorch.exir import EdgeCompileConfig, EdgeProgramManager, to_edge_transform_and_lower

from api.bench import zoo
from planner.executorch.baseline import detached_copy
from planner.executorch.fusion import kept_patterns
from planner.executorch.patches import replaced
from planner.executorch.session import Planning, planning
from planner.options import make_options
from planner.result.program import DelegateResult, Source, assemble
from planner.result.report import Report, report
from schema import PlannedProgram, plan
from tests.planner import nets

PROGRAMS = [
    pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in (*nets.NETS, *zoo.names())
]
"""Names of all programs, each with its tests on one worker of a parallel run."""
NETS = PROGRAMS[: len(nets.NETS)]
"""Those that are small."""


@dataclass(frozen=True)
class Planned:
    """A program that was planned while ExecuTorch lowered it, as scripts have it done."""

    program: PlannedProgram
    report: Report
    delegates: tuple[DelegateResult, ...]
    edge: EdgeProgramManager

    def flatbuffer(self) -> bytes:
        """The planned program."""
        return plan.encode(self.program)

    def pte(self) -> bytes:
        """The program for ExecuTorch's runtime."""
        return self._pte

    @cached_property
    def _pte(self) -> bytes:
        data: bytes = self.edge.to_executorch().buffer
        return data


@dataclass(frozen=True)
class Lowered:
    """A planned program, and its delegates' graph modules as they were before planning."""

    name: str
    data: bytes
    planned: Planned
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
    with replaced(kept_patterns()):  # which change nothing, see test_fusion
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
    plan_module = Planning.plan

    def record(self: Planning, graph_module: Any, greedy: Any) -> None:
        modules.append(detached_copy(graph_module))
        plan_module(self, graph_module, greedy)

    data, options = exported(name), make_options("bytes")
    program = torch.export.load(io.BytesIO(data))
    with patch.object(Planning, "plan", record), planning(options) as session:
        edge = to_edge_transform_and_lower(
            program,
            partitioner=[VulkanPartitioner()],
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        )
    delegates = tuple(session.delegates)
    source = Source.of(f"{name}.pt2", data)
    planned = assemble(source, delegates, options, session.texture_limits)
    figures = report(planned, delegates, kind="pt2", lowering_seconds=0.0)
    return Lowered(name, data, Planned(planned, figures, delegates, edge), tuple(modules))
