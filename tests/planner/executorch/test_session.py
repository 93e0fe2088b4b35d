"""Planning inside a script's own lowering."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.metadata import version

import executorch.backends.vulkan.vulkan_preprocess as etvk
import pytest
import torch
from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
from executorch.exir import to_edge_transform_and_lower

from planner.errors import OptionError, PlannerError
from planner.executorch import patches
from planner.executorch.session import planning
from planner.executorch.session import to_edge_transform_and_lower as planned_lowering
from planner.files.lowered import graphs_of, lowered_limits
from planner.options import PlanOptions, make_options
from planner.pipelines.lowered import replan
from tests.paths import ROOT

LIMITS = make_options("bytes", texture_limits="8,8,8")


class Convolution(torch.nn.Module):
    """One operator that has to be a texture, and others that may be buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv(x)) + 1


@cache
def exported() -> torch.export.ExportedProgram:
    """The convolution of an image that is too wide for the limits."""
    return torch.export.export(Convolution().eval(), (torch.randn(1, 3, 16, 16),))


def lowered(partitioner: VulkanPartitioner) -> bytes:
    """The program by a script, with texture limits in the options of the plan."""
    edge = planned_lowering(exported(), partitioner=[partitioner], plan_options=LIMITS)
    program: bytes = edge.to_executorch().buffer
    return program


def test_texture_limits_given_to_a_script_are_those_of_the_program() -> None:
    program = lowered(VulkanPartitioner())
    assert lowered_limits(program, "x.pte") == (8, 8, 8)
    # What does not fit runs on the CPU, as ExecuTorch places it.
    names = {call.name for graph in graphs_of(program, "x.pte") for call in graph.chain}
    assert "aten.relu.default" in names and not any("conv" in name for name in names)
    assert replan(program, "x.pte", make_options("bytes")).data == program
    assert lowered(VulkanPartitioner({"texture_limits": (8, 8, 8)})) == program


def test_texture_limits_given_twice_and_differently() -> None:
    with pytest.raises(OptionError, match=r"has the texture limits 9,9,9, and the options of the"):
        lowered(VulkanPartitioner({"texture_limits": (9, 9, 9)}))


def test_a_partitioner_that_leaves_layouts_out() -> None:
    partitioner = VulkanPartitioner({"skip_tag_memory_metadata": True})
    with pytest.raises(OptionError, match="asked to skip_tag_memory_metadata, so that there is no"):
        planned_lowering(exported(), partitioner=[partitioner])


def test_planning_within_planning() -> None:
    with (
        planning(make_options("bytes")),
        pytest.raises(PlannerError, match="active in this thread already"),
        planning(make_options("bytes")),
    ):
        pass
    with planning(make_options("bytes")) as session:
        to_edge_transform_and_lower(exported(), partitioner=[VulkanPartitioner()])
    assert session.delegates


def test_every_name_is_back_afterwards() -> None:
    before = [getattr(*hook.value) for hook in patches.Hook]
    with pytest.raises(ZeroDivisionError), planning():
        assert [getattr(*hook.value) for hook in patches.Hook] != before
        raise ZeroDivisionError
    assert [getattr(*hook.value) for hook in patches.Hook] == before


def test_another_release_of_executorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patches, "version", lambda name: "9.0.0")
    with pytest.raises(PlannerError, match=r"executorch 9\.0\.0 is installed, and the planner is"):
        planning().__enter__()


def test_an_executorch_that_lacks_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(etvk, "TagMemoryMetaPass")
    with pytest.raises(PlannerError, match=r"has no \S*vulkan_preprocess\.TagMemoryMetaPass"):
        planning().__enter__()


def test_the_release_is_the_one_that_is_pinned() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    assert f'"executorch=={patches.RELEASE}"' in project
    assert tomllib.loads(project)["project"]["name"] == "layout-planner"
    assert version("executorch").split("+")[0] == patches.RELEASE


@pytest.mark.parametrize(
    "options",
    [make_options(compile_options=["force_fp16"]), make_options(imports=["math"])],
    ids=["compile options", "imports"],
)
def test_options_that_a_script_has_itself_are_not_ignored(options: PlanOptions) -> None:
    with (
        pytest.raises(OptionError, match="a script gives compile options to VulkanPartitioner"),
        planning(options),
    ):
        pass
