"""Real programs, end to end: planned, compared, written, and read back by ExecuTorch itself."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from functools import cache

import pytest
import torch
from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
from executorch.backends.vulkan.serialization.vulkan_graph_schema import VkTensor as EtVkTensor
from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower
from executorch.exir._serialize._program import deserialize_pte_binary

from planner.errors import InputError, NoRepresentationError, OptionError
from planner.executorch.readback import decode_as_executorch
from planner.executorch.repairs import in_graph_order, mending
from planner.executorch.session import planning
from planner.executorch.session import to_edge_transform_and_lower as planned_lowering
from planner.files.lowered import graphs_of
from planner.ir.representation import LABELS, TensorRepr
from planner.options import make_options
from planner.pipelines.exported import plan_exported
from planner.pipelines.lowered import replan
from planner.vkgraph.wellformed import is_variable
from schema import VkTensor, split_delegate
from schema import plan as plan_schema
from schema.vkgraph import encode
from solver import Status, solve_whole
from tests.planner import nets
from tests.planner.programs import ROUTES, Route, exported, greedy, lower, planned
from tests.schema.strategies import sample_graph


@pytest.mark.parametrize(("route", "name"), ROUTES)
def test_a_plan_is_proven_and_never_costlier_than_executorchs(route: Route, name: str) -> None:
    report = planned(route, name).report.document()
    for figures in (report["total"], *report["delegates"]):
        assert figures["status"] == "OPTIMAL"
        assert figures["bound"] == figures["repack_cost"] <= figures["baseline_repack_cost"]
        assert figures["plan_seconds"] > 0
        assert (figures["baseline_seconds"] > 0) == (route == "script")
    keys = ("repack_cost", "baseline_repack_cost", "transitions", "baseline_transitions", "bound")
    for key in keys:
        assert report["total"][key] == sum(d[key] for d in report["delegates"])
    for delegate in report["delegates"]:
        costs = [t["cost"] for t in delegate["transition_list"]]
        assert (len(costs), sum(costs)) == (delegate["transitions"], delegate["repack_cost"])


@pytest.mark.parametrize(("route", "name"), ROUTES)
def test_the_optimum_is_the_one_that_cpsat_finds_on_the_whole_model(
    route: Route, name: str
) -> None:
    proven = 0
    for delegate in planned(route, name).delegates:
        mine = delegate.layout_plan.solution
        whole = solve_whole(delegate.layout_plan.layout.problem, time_limit=2)
        if whole.status is Status.OPTIMAL:
            assert whole.cost == mine.cost
            proven += 1
        else:
            assert whole.bound <= mine.cost <= whole.cost
    assert proven > 0


@pytest.mark.parametrize(("route", "name"), ROUTES)
def test_executorch_reads_back_exactly_what_was_planned(route: Route, name: str) -> None:
    ours = planned(route, name)
    program = plan_schema.decode(ours.flatbuffer())
    assert program == ours.program
    loaded = deserialize_pte_binary(ours.pte()).program
    blobs = [
        loaded.backend_delegate_data[delegate.processed.index].data
        for plan in loaded.execution_plan
        for delegate in plan.delegates
        if delegate.id == "VulkanBackend"
    ]
    assert len(blobs) == len(program.delegates)
    for blob, delegate in zip(blobs, program.delegates, strict=True):
        assert split_delegate(blob).flatbuffer == delegate.graph
        graph = decode_as_executorch(blob)
        read = {
            i: (int(v.value.storage_type), int(v.value.memory_layout))
            for i, v in enumerate(graph.values)
            if isinstance(v.value, EtVkTensor) and int(v.value.storage_type) != 255
        }
        assert read == {
            t.value_id: (int(t.storage_type), int(t.memory_layout)) for t in delegate.tensors
        }


def test_the_same_input_gives_the_same_bytes() -> None:
    first, again = (
        plan_exported(exported("mixed"), "mixed.pt2", make_options("bytes")) for _ in range(2)
    )
    assert again.flatbuffer() == first.flatbuffer()
    assert again.pte() == first.pte()


def test_memory_is_planned_in_the_order_of_the_graph() -> None:
    graph = torch.fx.Graph()
    specs = [object() for _ in range(200)]
    for i in range(0, 200, 2):
        node = graph.placeholder(f"x{i}")
        node.meta["spec"] = specs[i] if i % 4 else specs[i : i + 2]
    graph.output(())
    module = torch.fx.GraphModule({}, graph)
    expected = [s for i, s in enumerate(specs) if i % 4 != 3]
    assert in_graph_order(set(expected), module) == expected


def test_a_script_changes_by_one_line() -> None:
    ours = lower("embedded").planned
    edge = planned_lowering(
        nets.export("embedded"),
        partitioner=[VulkanPartitioner()],
        plan_options=make_options("bytes"),
    )
    assert ours.program.delegates[0].graph in edge.to_executorch().buffer


def test_outside_of_planning_executorch_is_itself() -> None:
    ours = lower("embedded").planned.program.delegates[0].graph
    program = nets.export("embedded")
    with planning(make_options("bytes")) as session:
        pass
    edge = to_edge_transform_and_lower(program, partitioner=[VulkanPartitioner()])
    assert not session.delegates
    assert ours not in edge.to_executorch().buffer


def test_leaving_out_a_layout_shows_what_it_buys() -> None:
    data = exported("residual_int8")
    without = plan_exported(
        data, "x.pt2", make_options("bytes", without_layouts=["TENSOR_HEIGHT_PACKED", "4C1W"])
    )
    used = {t.memory_layout.name for d in without.program.delegates for t in d.tensors}
    assert not used & {"TENSOR_HEIGHT_PACKED", "PACKED_INT8_4C1W"}
    assert without.report.excluded_layouts == ("TENSOR_HEIGHT_PACKED", "PACKED_INT8_4C1W")


def test_a_layout_that_an_operator_cannot_do_without() -> None:
    with pytest.raises(NoRepresentationError, match=r"convolution.*TENSOR_CHANNELS_PACKED is excl"):
        plan_exported(
            exported("mixed"), "x.pt2", make_options(without_layouts=["TENSOR_CHANNELS_PACKED"])
        )


@cache
def wide() -> bytes:
    """A convolution of images that are wider than small GPUs hold, and a linear operator."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(2), torch.nn.Linear(36, 4))
    file = io.BytesIO()
    torch.export.save(torch.export.export(net.eval(), (torch.randn(1, 3, 8, 8),)), file)
    return file.getvalue()


def lowered_with(data: bytes, options: dict[str, object]) -> bytes:
    """The program as ExecuTorch lowers it with these options of its partitioner."""
    program = torch.export.load(io.BytesIO(data))
    with mending():
        edge = to_edge_transform_and_lower(
            program,
            partitioner=[VulkanPartitioner(options)],
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        )
        lowered: bytes = edge.to_executorch().buffer
    return lowered


def test_what_exceeds_the_limits_stays_on_the_cpu_as_executorch_leaves_it() -> None:
    options = make_options(texture_limits="6,6,6", runtime="1.5")
    planned = plan_exported(wide(), "x.pt2", options)
    assert planned.report.on_cpu == ("aten.convolution.default (1x3x8x8, 8x3x3x3, 8, 1x8x6x6)",)
    theirs = lowered_with(wide(), {"texture_limits": (6, 6, 6)})
    assert replan(theirs, "x.pte", options).data == planned.data
    on_gpu = {c.name for d in planned.program.delegates for c in d.decode_graph().chain}
    assert on_gpu == {"aten.view_copy.default", "aten.linear.default"}


def test_what_exceeds_the_limits_and_no_cpu_can_run_is_named() -> None:
    with pytest.raises(NoRepresentationError) as caught:
        plan_exported(exported("mixed"), "x.pt2", make_options(texture_limits="4,4,4"))
    assert str(caught.value) == (
        "x.pt2: aten.upsample_nearest2d.vec (1x16x4x4, 1x16x8x8) exceeds the limits, and cannot "
        "run on the CPU: raise the texture limits (texture_limits) or raise the buffer limit "
        "(buffer_limit)"
    )


def test_limits_that_leave_nothing_to_the_gpu() -> None:
    torch.manual_seed(0)
    file = io.BytesIO()
    net = torch.nn.Conv2d(3, 8, 3).eval()
    torch.export.save(torch.export.export(net, (torch.randn(1, 3, 8, 8),)), file)
    with pytest.raises(NoRepresentationError, match="has nothing for the Vulkan delegate: aten"):
        plan_exported(file.getvalue(), "x.pt2", make_options(texture_limits="4,4,4"))


@pytest.mark.parametrize(
    "option",
    [
        *("force_fp16", "require_dynamic_shapes", "skip_bool_tensors"),
        *("downcast_64_bit=false", "warmup_execute_after_compile", "alias_buffer_mutations"),
    ],
)
def test_compile_options_are_the_partitioners(option: str) -> None:
    options = make_options(compile_options=[option], runtime="1.5")
    planned = plan_exported(exported("embedded"), "x.pt2", options)
    name, _, value = option.partition("=")
    theirs = lowered_with(exported("embedded"), {name: value != "false"})
    assert replan(theirs, "x.pte", make_options(runtime="1.5")).data == planned.data
    assert planned.report.total.status == "OPTIMAL"


def test_compile_options_are_for_exported_programs() -> None:
    with pytest.raises(OptionError, match=r"x is lowered already: compile options are for a \.pt2"):
        replan(encode(sample_graph()), "x", make_options(compile_options=["force_fp16"]))
    with pytest.raises(OptionError, match="unknown compile option 'fp16': use one of alias_buffer"):
        make_options(compile_options=["fp16"])


def test_texture_limits_move_tensors_into_buffers() -> None:
    planned = plan_exported(exported("embedded"), "x.pt2", make_options(texture_limits="3,3,3"))
    assert planned.report.texture_limits == (3, 3, 3)
    tensors = {t.name: t for d in planned.program.delegates for t in d.tensors}
    assert all(t.storage_type.name == "BUFFER" for n, t in tensors.items() if "linear" in n)


class Unsupported(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sort(x)[0]


def test_nothing_for_vulkan_to_run() -> None:
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(Unsupported(), (torch.randn(3, 4),)), buffer)
    with pytest.raises(
        InputError, match=r"x\.pt2 has no operator that the Vulkan delegate supports"
    ):
        plan_exported(buffer.getvalue(), "x.pt2", make_options())


def test_not_a_zip() -> None:
    with pytest.raises(InputError, match=r"x\.pt2 is not a zip archive: hand in"):
        plan_exported(b"PK or not", "x.pt2", make_options())


def test_a_zip_that_is_no_pt2() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(InputError, match=r"x\.pt2 is a zip archive, but not a \.pt2: hand in"):
        plan_exported(buffer.getvalue(), "x.pt2", make_options())


def test_a_damaged_pt2() -> None:
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(exported("embedded"))) as source,
        zipfile.ZipFile(buffer, "w") as target,
    ):
        for member in source.namelist():
            data = source.read(member)
            target.writestr(member, data[: len(data) // 2] if member.endswith(".json") else data)
    with pytest.raises(InputError, match=r"x\.pt2 is refused: models/model\.json is no JSON"):
        plan_exported(buffer.getvalue(), "x.pt2", make_options())
    with pytest.raises(InputError, match=r"torch 2\.13\S* cannot load x.pt2: "):
        plan_exported(buffer.getvalue(), "x.pt2", make_options(trust=True))


def test_every_representation_that_executorch_gives_has_a_label() -> None:
    for name in nets.NETS:
        for graph in graphs_of(greedy(name), f"{name}.pte"):
            given = {
                TensorRepr(value.storage_type, value.memory_layout)
                for value in graph.values
                if isinstance(value, VkTensor) and is_variable(value)
            }
            assert len(given) > 1
            assert given <= LABELS.keys()


def test_no_module_of_the_planner_needs_torch_until_it_lowers() -> None:
    code = (
        "import sys, planner.optimise.plan, planner.pipelines.exported, planner.verify;"
        "import planner.options, api.cli;"
        "sys.exit(not sys.modules.keys().isdisjoint({'torch', 'executorch', 'ortools'}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
