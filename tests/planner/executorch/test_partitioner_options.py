"""Every option of the installed ``VulkanPartitioner``, alone and with each other one."""

from __future__ import annotations

import inspect
import re
from itertools import combinations
from typing import Any

import pytest
import torch
from executorch.backends.vulkan import vulkan_preprocess
from executorch.backends.vulkan.partitioner import vulkan_partitioner
from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
from executorch.backends.vulkan.serialization.vulkan_graph_schema import (
    VkMemoryLayout,
    VkStorageType,
)
from executorch.exir import to_edge_transform_and_lower
from torch import Tensor, nn

from planner.errors import OptionError
from planner.executorch.fusion import kept_patterns
from planner.executorch.patches import replaced
from planner.executorch.session import planning
from planner.options import COMPILE_OPTIONS, make_options
from planner.pipelines.checking import check_program
from planner.pipelines.lowered import replan

pytestmark = pytest.mark.xdist_group("partitioner")

OPTIONS: dict[str, Any] = {
    "alias_buffer_mutations": True,
    "buffer_limit": 2**20,
    "downcast_64_bit": False,
    "external_constants_max_data_bytes": 2**20,
    "force_fp16": True,
    "memory_layout_override": VkMemoryLayout.TENSOR_CHANNELS_PACKED,
    "require_dynamic_shapes": True,
    "skip_bool_tensors": True,
    "skip_memory_planning": True,
    "small_texture_limits": True,
    "storage_type_override": VkStorageType.TEXTURE_3D,
    "texture_limits": (512, 512, 512),
    "warmup_execute_after_compile": True,
}
WITHOUT_LAYOUTS = "skip_tag_memory_metadata"
OURS = make_options("bytes", runtime="1.5")


class Net(nn.Module):
    """A state, 64-bit integers, bools, float operators."""

    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.register_buffer("total", torch.zeros(1, 8))

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        self.total.add_(x)
        y = torch.softmax(self.linear(self.total), dim=-1)
        found: Tensor = torch.where(y > 0.1, y, x)[:, index]
        return found


@pytest.fixture(scope="module")
def program() -> torch.export.ExportedProgram:
    torch.manual_seed(0)
    return torch.export.export(Net().eval(), (torch.randn(1, 8), torch.tensor([1, 3])))


def lower(program: torch.export.ExportedProgram, options: dict[str, Any]) -> bytes:
    edge = to_edge_transform_and_lower(program, partitioner=[VulkanPartitioner(options)])
    lowered: bytes = edge.to_executorch().buffer
    return lowered


def test_these_are_the_options_of_the_installed_release() -> None:
    found = set(re.findall(r'"(\w+)"', inspect.getsource(vulkan_partitioner.parse_compile_options)))
    for module in (vulkan_partitioner, vulkan_preprocess):
        found |= set(re.findall(r'options\.get\(\s*"(\w+)"', inspect.getsource(module)))
    known = {*OPTIONS, WITHOUT_LAYOUTS, "little", *(f"texture_limits_{x}" for x in "xyz")}
    assert found | {"warmup_execute_after_compile"} == known
    assert set(COMPILE_OPTIONS) < OPTIONS.keys()


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_alone(program: torch.export.ExportedProgram, option: str) -> None:
    chosen = {option: OPTIONS[option]}
    with replaced(kept_patterns()):
        theirs = lower(program, chosen)
    with planning(OURS) as session:
        ours = lower(program, chosen)
    again = replan(theirs, "x.pte", OURS)
    assert again.report.total.status == "OPTIMAL"
    assert [d.plan.figures.repack_cost for d in session.delegates] == [
        d.repack_cost for d in again.report.delegates
    ]
    for data in (theirs, ours, again.data):
        assert check_program(data, "x.pte").findings == ()


def fours() -> list[tuple[str, ...]]:
    """Thirteen fours of the thirteen options: each two are together in just one of them."""
    names = list(OPTIONS)
    return [tuple(names[(first + n) % 13] for n in (0, 1, 3, 9)) for first in range(13)]


def test_each_two_options_are_tried_together() -> None:
    pairs = [frozenset(pair) for four in fours() for pair in combinations(four, 2)]
    assert len(OPTIONS) == 13
    assert set(pairs) == {frozenset(pair) for pair in combinations(OPTIONS, 2)}


@pytest.mark.parametrize("chosen", fours(), ids="+".join)
def test_options_together(program: torch.export.ExportedProgram, chosen: tuple[str, ...]) -> None:
    with planning(OURS) as session:
        ours = lower(program, {option: OPTIONS[option] for option in chosen})
    assert all(d.plan.figures.status.name == "OPTIMAL" for d in session.delegates)
    assert replan(ours, "x.pte", OURS).data == ours
    assert check_program(ours, "x.pte").findings == ()


def test_without_layouts_there_is_nothing_to_plan_in_a_script(
    program: torch.export.ExportedProgram,
) -> None:
    with (
        pytest.raises(OptionError, match=f"asked to {WITHOUT_LAYOUTS}, so that there is no layout"),
        planning(OURS),
    ):
        lower(program, {WITHOUT_LAYOUTS: True})
    with replaced(kept_patterns()):
        bare = lower(program, {WITHOUT_LAYOUTS: True})
    planned = replan(bare, "x.pte", OURS)
    assert all("came without layouts" in d.warnings[0] for d in planned.report.delegates)
    assert planned.report.total.ratio == 1
    assert check_program(planned.data, "x.pte").findings == ()
