"""Programs that several tests share: each is exported and lowered once a run."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal

import pytest
import torch
from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
from executorch.exir import EdgeCompileConfig, EdgeProgramManager, to_edge_transform_and_lower
from torch.fx.passes.infra.pass_base import PassBase

from api.bench import zoo
from planner.executorch.baseline import detached_copy
from planner.executorch.fusion import kept_patterns
from planner.executorch.patches import Hook, replaced
from planner.executorch.session import planning
from planner.executorch.shortcuts import shortcuts
from planner.options import make_options
from planner.pipelines.lowered import Planned as Replanned
from planner.pipelines.lowered import replan
from planner.result.program import DelegateResult, Source, assemble
from planner.result.report import Report, report
from schema import PlannedProgram, plan
from tests.planner import nets

Route = Literal["script", "lowered"]
"""How a program is planned: while a script lowers it, or once it is lowered."""


def _param(name: str, *before: str) -> Any:
    return pytest.param(*before, name, marks=pytest.mark.xdist_group(name))


NETS = [_param(name) for name in nets.NETS]
"""Names of small programs, each with its tests on one worker of a parallel run."""
ZOO = (
    *("mobilenet_v2", "mobilenet_v2_int8", "resnet50_int8", "mobilevit_s", "convnext_t"),
    *("segformer_b0", "segformer_b0_int8", "swin_t", "vit_b"),
)
"""Models of the zoo that go through every test; the others through one of their own."""
PROGRAMS = [*NETS, *map(_param, ZOO)]
"""Names of all programs."""
_SCRIPTED = (*nets.NETS, "resnet50_int8", "segformer_b0")
SCRIPTED = [_param(name) for name in _SCRIPTED]
"""Those that are planned while a script lowers them, too: lowering is what takes long."""
ROUTES = [
    *(_param(name, "lowered") for name in (*nets.NETS, *ZOO)),
    *(_param(name, "script") for name in _SCRIPTED),
]
"""Routes and names."""


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
    """A planned program, and the .pt2 that it is of."""

    name: str
    data: bytes
    planned: Planned


@dataclass(frozen=True)
class Greedy:
    """A program as ExecuTorch lowers it, and the graph modules that its layout pass was given."""

    pte: bytes
    graph_modules: tuple[Any, ...]


@cache
def exported(name: str) -> bytes:
    """The .pt2 bytes of a net of ``nets`` or a small model of the zoo."""
    if name not in nets.NETS:
        return zoo.save(name, "small")
    buffer = io.BytesIO()
    torch.export.save(nets.export(name), buffer)
    return buffer.getvalue()


def greedy(name: str) -> bytes:
    """The .pte that ExecuTorch's own pass makes of a program."""
    return lower_greedily(name).pte


@cache
def replanned(name: str) -> Replanned:
    """What becomes of the .pte that ExecuTorch's own pass made."""
    return replan(greedy(name), f"{name}.pte", make_options("bytes"))


def planned(route: Route, name: str) -> Planned | Replanned:
    """A program by a route."""
    return replanned(name) if route == "lowered" else lower(name).planned


class _Recording(PassBase):
    """ExecuTorch's layout pass, which leaves what it was given in a list."""

    def __init__(self, own: Any, modules: list[Any]) -> None:
        super().__init__()
        self.own, self.modules = own, modules

    def call(self, graph_module: Any) -> Any:
        self.modules.append(detached_copy(graph_module))
        return self.own.call(graph_module)


@cache
def lower_greedily(name: str) -> Greedy:
    """Lowers a program with ExecuTorch's own pass."""
    modules: list[Any] = []

    def recording(make_pass: Any) -> Any:
        return lambda *args, **kw: _Recording(make_pass(*args, **kw), modules)

    program = torch.export.load(io.BytesIO(exported(name)))
    # Kept patterns change nothing, see test_fusion, nor do shortcuts, see test_shortcuts: that is
    # seen once more of those that a script lowers, with shortcuts.
    hooks = kept_patterns() if name in _SCRIPTED else {**kept_patterns(), **shortcuts()}
    with replaced({**hooks, Hook.LAYOUT_PASS: recording}):
        edge = to_edge_transform_and_lower(
            program,
            partitioner=[VulkanPartitioner()],
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        )
    data: bytes = edge.to_executorch().buffer
    return Greedy(data, tuple(modules))


@cache
def lower(name: str) -> Lowered:
    """Plans a program with the profile ``bytes`` while it is lowered."""
    data, options = exported(name), make_options("bytes")
    program = torch.export.load(io.BytesIO(data))
    with planning(options) as session:
        edge = to_edge_transform_and_lower(
            program,
            partitioner=[VulkanPartitioner()],
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        )
    delegates = tuple(session.delegates)
    source = Source.of(f"{name}.pt2", data)
    planned = assemble(source, delegates, options, session.limits)
    figures = report(planned, delegates, kind="pt2", target="vulkan", lowering_seconds=0.0)
    return Lowered(name, data, Planned(planned, figures, delegates, edge))
