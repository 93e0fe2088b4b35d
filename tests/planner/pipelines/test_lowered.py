"""Lowered programs, planned again: the same optimum, and nothing else of the file changes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from executorch.backends.vulkan.partitioner.vulkan_partitioner import (
    VulkanPartitioner,
    parse_compile_options,
)
from executorch.backends.vulkan.vulkan_preprocess import parse_compile_spec
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from executorch.exir._serialize._program import deserialize_pte_binary, serialize_pte_binary
from torch import Tensor, nn

from planner.errors import InputError, NoRepresentationError, OptionError
from planner.executorch.readback import decode_as_executorch
from planner.files.lowered import delegates_of, graph_of, lowered_limits
from planner.ir.graph import Layouts
from planner.ir.representation import TensorRepr
from planner.options import make_options
from planner.pipelines.dispatch import plan_program
from planner.pipelines.lowered import Planned, replan
from planner.result.program import DelegateResult
from schema import VkDataType, VkGraph, VkStorageType, VkTensor, join_delegate, vkgraph
from schema import plan as plan_schema
from schema.vkgraph import Null, OperatorCall
from tests.api.graphs import graph
from tests.planner.programs import (
    PROGRAMS,
    ROUTES,
    SCRIPTED,
    Route,
    greedy,
    lower,
    planned,
    replanned,
)
from tests.planner.readback import planned_for_webgpu

OPTIONS = make_options("bytes")


@pytest.mark.parametrize("name", SCRIPTED)
def test_it_reaches_the_cost_that_planning_the_export_reaches(name: str) -> None:
    from_export, from_file = lower(name).planned.report.total, replanned(name).report.total
    for key in (
        *("repack_cost", "transitions", "status", "bound"),
        *("baseline_repack_cost", "baseline_transitions"),
    ):
        assert getattr(from_file, key) == getattr(from_export, key), key
    baselines = [
        [
            (replace(r, source=0, users=()), [(u.operator_name, u.argument) for u in r.users])
            for delegate in program.delegates
            for r in delegate.baseline_repacks
        ]
        for program in (replanned(name).program, lower(name).planned.program)
    ]
    assert baselines[0] == baselines[1]
    ours, scripts = replanned(name).delegates, lower(name).planned.delegates
    assert list(map(chosen, ours)) == list(map(chosen, scripts))


def chosen(delegate: DelegateResult) -> list[tuple[str, list[TensorRepr | None]]]:
    """The operators of a delegate, and the representations of the operands that have a choice."""
    plan, graph = delegate.layout_plan, delegate.graph
    given = Layouts(plan.made, plan.transitions)
    operands: list[list[TensorRepr | None]] = [[] for _ in graph.operators]
    for slot in plan.layout.slots:
        operands[slot.operator].append(slot.represented(given))
    return [(op.name, found) for op, found in zip(graph.operators, operands, strict=True)]


@pytest.mark.parametrize("storage", [VkStorageType.BUFFER, VkStorageType.TEXTURE_3D])
def test_nothing_moves_without_a_gain(storage: VkStorageType) -> None:
    best = vkgraph.decode(replan(graph(), "x", OPTIONS).data)
    values = [
        replace(value, storage_type=storage) if isinstance(value, VkTensor) else value
        for value in best.values
    ]
    data = vkgraph.encode(replace(best, values=tuple(values)))
    assert replan(data, "x", OPTIONS).data == data


@pytest.mark.parametrize(("route", "name"), ROUTES)
def test_planning_again_changes_nothing(route: Route, name: str) -> None:
    ours = planned(route, name).pte()
    assert replan(ours, "x.pte", OPTIONS).data == ours


@pytest.mark.parametrize("name", PROGRAMS)
def test_executorch_reads_back_what_was_planned_and_all_else_as_it_was(name: str) -> None:
    result = replanned(name)
    before, after = deserialize_pte_binary(greedy(name)), deserialize_pte_binary(result.data)
    assert after.named_data == before.named_data
    blobs = []
    for program in (before.program, after.program):
        blobs.append([d.data for d in program.backend_delegate_data])
        for data in program.backend_delegate_data:
            data.data = b""
    assert after.program == before.program
    for blob, delegate in zip(blobs[1], result.program.delegates, strict=True):
        graph = decode_as_executorch(blob)
        assert graph_of(blob) == delegate.graph
        read = {
            i: (int(v.value.storage_type), int(v.value.memory_layout))
            for i, v in enumerate(graph.values)
            if hasattr(v.value, "storage_type") and int(v.value.storage_type) != 255
        }
        assert read == {
            t.value_id: (int(t.storage_type), int(t.memory_layout)) for t in delegate.tensors
        }


@pytest.mark.parametrize("name", PROGRAMS)
def test_memory_is_no_more_than_by_executorchs_planner(name: str) -> None:
    total = replanned(name).report.total
    assert total.memory_bytes and total.greedy_memory_bytes
    assert 0 < total.memory_bytes <= total.greedy_memory_bytes
    assert total.peak_memory_bytes and total.peak_memory_bytes <= total.memory_bytes


def first_graph() -> VkGraph:
    """A graph with a transition that can be left out."""
    blob = next(iter(delegates_of(greedy("mixed"), "x").values()))
    return vkgraph.decode(graph_of(blob))


@pytest.mark.parametrize("wrap", [bytes, join_delegate])
def test_a_graph_alone_comes_back_as_it_came(wrap: Any) -> None:
    data = wrap(vkgraph.encode(first_graph()))
    result = plan_program(data, "mixed.bin", OPTIONS)
    assert isinstance(result, Planned)
    assert result.report.kind == "vkgraph"
    assert result.report.total.repack_cost == lower("mixed").planned.report.total.repack_cost
    assert result.data[4:8] == data[4:8] and result.data != data
    assert plan_schema.decode(result.flatbuffer()) == result.program
    with pytest.raises(OptionError, match="a VkGraph alone is not a program"):
        result.pte()


def test_an_operator_that_is_not_registered_keeps_what_it_has() -> None:
    graph = first_graph()
    victim = next(i for i, call in enumerate(graph.chain) if call.name == "aten._softmax.default")
    call = graph.chain[victim]._replace(name="mine.softmax.default")
    unknown = replace(graph, chain=(*graph.chain[:victim], call, *graph.chain[victim + 1 :]))
    result = replan(vkgraph.encode(unknown), "x", OPTIONS)
    assert result.report.delegates[0].pinned_operators == ("mine.softmax.default",)

    def represented(g: VkGraph, name: str) -> list[Any]:
        found = next(c for c in g.chain if c.name == name)
        tensors = [g.values[i] for i in found.args]
        return [(t.storage_type, t.memory_layout) for t in tensors if isinstance(t, VkTensor)]

    after = vkgraph.decode(result.data)
    name = "mine.softmax.default"
    assert represented(after, name) == represented(unknown, name)


def test_texture_limits_and_exclusions_hold_for_lowered_programs_too() -> None:
    options = make_options("bytes", texture_limits="3,3,3")
    result = replan(greedy("embedded"), "x.pte", options)
    assert result.report.texture_limits == (3, 3, 3)
    assert result.data != greedy("embedded")


@cache
def lowered_twice() -> bytes:
    """A program with a Vulkan delegate and one that is none."""

    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sort(torch.relu(x) + torch.sigmoid(x), dim=-1)[0]

    image = torch.randn(1, 8, 160, 160)
    edge = to_edge_transform_and_lower(
        {
            "forward": torch.export.export(Net().eval(), (image,)),
            "cpu": torch.export.export(nn.Linear(4, 4).eval(), (torch.randn(2, 4),)),
        },
        partitioner={"forward": [VulkanPartitioner()], "cpu": [XnnpackPartitioner()]},
    )
    data: bytes = edge.to_executorch().buffer
    return data


def lowered_with(**options: Any) -> bytes:
    """The same, with compile options for Vulkan as ExecuTorch writes them."""
    file = deserialize_pte_binary(lowered_twice())
    for plan in file.program.execution_plan:
        for delegate in plan.delegates:
            if delegate.id == "VulkanBackend":
                delegate.compile_specs = parse_compile_options(options)
    return bytes(
        serialize_pte_binary(
            file, extract_delegate_segments=True, segment_alignment=128, delegate_alignment=16
        )
    )


def compile_options(data: bytes) -> list[tuple[str, dict[str, Any]]]:
    """What ExecuTorch reads in each delegate's compile specs."""
    return [
        (delegate.id, parse_compile_spec(delegate.compile_specs))
        for plan in deserialize_pte_binary(data).program.execution_plan
        for delegate in plan.delegates
    ]


@pytest.mark.parametrize(
    "lowered_options",
    [
        {},
        {"texture_limits": (8, 8, 8)},
        {"small_texture_limits": True, "force_fp16": False},
        {"texture_limits": (70_000, 70_000, 70_000), "skip_memory_planning": False},
    ],
    ids=["none", "limits", "small", "large"],
)
@pytest.mark.parametrize("limits", ["64,64,64", "2048,2048,2048", "90000,90000,90000"])
def test_planning_again_keeps_the_texture_limits(
    lowered_options: dict[str, Any], limits: str
) -> None:
    given = lowered_with(**lowered_options)
    options = make_options("bytes", texture_limits=limits)
    once = replan(given, "x.pte", options)
    extents = once.program.texture_limits
    assert ",".join(map(str, extents)) == limits
    again = replan(once.data, "x.pte", OPTIONS)
    assert again.data == once.data
    assert again.program.texture_limits == extents == lowered_limits(once.data, "x.pte")
    assert [d.tensors for d in again.program.delegates] == [
        d.tensors for d in once.program.delegates
    ]
    assert replan(once.data, "x.pte", options).data == once.data

    named = {f"texture_limits_{axis}": x for axis, x in zip("xyz", extents, strict=True)}
    for (backend, before), (_, after) in zip(
        compile_options(given), compile_options(once.data), strict=True
    ):
        has_others = backend == "VulkanBackend" and lowered_limits(given, "x.pte") != extents
        assert after == ({**before, **named} if has_others else before)
        assert [*before] == [*after][: len(before)]


def test_texture_limits_that_a_program_has_are_not_written_again() -> None:
    for given, limits in (
        (lowered_with(), "16384,16384,2048"),
        (lowered_with(small_texture_limits=True), "2048,2048,2048"),
        (lowered_with(texture_limits=(8, 8, 8)), "8,8,8"),
    ):
        with_option = replan(given, "x.pte", make_options("bytes", texture_limits=limits))
        assert with_option.data == replan(given, "x.pte", OPTIONS).data


def test_other_texture_limits_change_nothing_but_themselves_where_no_layout_must() -> None:
    small = replan(lowered_with(texture_limits=(640, 640, 640)), "x.pte", OPTIONS).data
    wide = replan(small, "x.pte", make_options("bytes", texture_limits="800,800,800")).data
    assert len(wide) == len(small) and wide != small
    assert replan(wide, "x.pte", make_options("bytes", texture_limits="640,640,640")).data == small


def test_a_program_without_a_vulkan_delegate() -> None:
    data = bytearray(greedy("embedded"))
    where = data.index(b"VulkanBackend")
    data[where : where + 13] = b"OtherBackends"
    with pytest.raises(InputError, match=r"x\.pte has no Vulkan delegate: lower it with"):
        replan(bytes(data), "x.pte", OPTIONS)


def test_damage_is_named() -> None:
    data = greedy("embedded")
    with pytest.raises(InputError, match=r"x\.pte is damaged: "):
        replan(data[: len(data) // 2], "x.pte", OPTIONS)
    graph = vkgraph.encode(first_graph())
    with pytest.raises(InputError, match=r"x, delegate 0 is damaged: "):
        replan(graph[:-100], "x", OPTIONS)


def test_it_needs_no_torch(tmp_path: Path) -> None:
    source, target = tmp_path / "x.pte", tmp_path / "y.pte"
    source.write_bytes(greedy("embedded"))
    command = ["plan", str(source), "-o", str(target), "--plan", str(tmp_path / "y.plan")]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "api.cli", *command],
        check=True,
        capture_output=True,
        text=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "numpy" in imported
    assert not [m for m in imported if m.split(".")[0] in ("torch", "executorch", "ortools")]
    # What most plans do not need is not waited for.
    assert not imported & {"numpy.ma", "logging", "tempfile", "solver.core", "api.cli.bench"}
    assert plan_schema.decode((tmp_path / "y.plan").read_bytes()).delegates
    assert target.read_bytes() == replan(source.read_bytes(), "x", make_options()).data


def test_a_buffer_limit_moves_tensors_into_textures_or_is_refused() -> None:
    graph = first_graph()
    options = make_options("bytes", buffer_limit=2000)
    try:
        result = replan(vkgraph.encode(graph), "x", options)
    except NoRepresentationError as error:
        assert "the buffer limit 2000: raise the texture limits" in str(error)
        return
    for value in vkgraph.decode(result.data).values:
        if isinstance(value, VkTensor) and value.storage_type == VkStorageType.BUFFER:
            assert prod(value.dims) < 2000


def test_a_clone_of_the_model_stays() -> None:
    tensor = VkTensor(VkDataType.FLOAT32, (1, 8, 4, 4))
    values = (tensor, tensor, tensor, Null(), tensor)
    chain = (
        OperatorCall(0, "aten.avg_pool2d.default", (0, 1)),
        OperatorCall(1, "aten.clone.default", (1, 3, 2)),
        OperatorCall(2, "aten.linear.default", (2, 4)),
    )
    file = VkGraph("0", chain, values, (0,), (4,))
    result = vkgraph.decode(replan(vkgraph.encode(file), "x", OPTIONS).data)
    names = [call.name for call in result.chain]
    assert names.count("aten.clone.default") == 2  # its own, and the transition it needs
    again = replan(vkgraph.encode(result), "x", OPTIONS)
    assert again.report.total.transitions == 1
    assert again.data == vkgraph.encode(result)


@pytest.mark.parametrize("name", PROGRAMS)
def test_executorch_reads_a_plan_for_webgpu_and_it_comes_back(name: str) -> None:
    planned = planned_for_webgpu(greedy(name), name)
    before = replanned(name).report
    assert planned.report.total.baseline_transitions == before.total.baseline_transitions
    back = replan(planned.data, f"{name}.pte", make_options("bytes", target="vulkan")).report
    for figure in ("repack_cost", "transitions", "status", "bound"):
        assert getattr(back.total, figure) == getattr(before.total, figure), figure
    assert back.runtime == before.runtime
