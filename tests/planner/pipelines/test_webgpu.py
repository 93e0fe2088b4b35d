"""Plans for ExecuTorch's WebGPU runtime: one representation, no transitions, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import InputError, NoRepresentationError, OptionError, VerificationError
from planner.ir.representation import TensorRepr
from planner.kernels.faults import parse_faults
from planner.kernels.gpus import find_gpu
from planner.kernels.releases import Release, Runtime
from planner.options import PlanOptions, make_options
from planner.pipelines.checking import check_program
from planner.pipelines.lowered import Planned, replan
from planner.pipelines.verifying import verify_plan
from planner.vkgraph.targets import target_of
from schema import VkDataType, VkGraph, VkTensor, plan, vkgraph
from schema.vkgraph import ValueList
from tests.planner.verify.sketches import (
    BUF_C,
    BUF_W,
    CLONE,
    Q_4C1W,
    Q_4W4C,
    TEX_C,
    TEX_H,
    TEX_W,
    Handle,
    Sketch,
)

REPRS = (TEX_W, TEX_H, TEX_C, BUF_W, BUF_C)
INT8, INT32, FLOAT16 = VkDataType.INT8, VkDataType.INT32, VkDataType.FLOAT16
WEBGPU, VULKAN = make_options("bytes", target="webgpu"), make_options("bytes", target="vulkan")


def computed(data: bytes) -> list[object]:
    """What the outputs of a program are made of; a copy is what it copies."""
    graph = vkgraph.decode(data)
    made: dict[int, object] = {value: ("input", i) for i, value in enumerate(graph.input_ids)}

    def term(value_id: int) -> object:
        value = graph.values[value_id]
        if isinstance(value, ValueList):
            return tuple(map(term, value.items))
        return made.get(value_id) if isinstance(value, VkTensor) else value

    for call in graph.chain:
        *args, output = call.args
        terms = tuple(map(term, args))
        members = graph.values[output]
        outputs = members.items if isinstance(members, ValueList) else (output,)
        for i, each in enumerate(outputs):
            made[each] = terms[0] if call.name == CLONE else (call.name, terms, i)
    return [made[value] for value in graph.output_ids]


def representations(graph: VkGraph) -> set[TensorRepr]:
    return {
        TensorRepr(v.storage_type, v.memory_layout)
        for v in graph.values
        if isinstance(v, VkTensor) and v.constant_id < 0
    }


@st.composite
def programs(draw: st.DrawFn) -> bytes:
    """Operators of one shape, each in some representation that is not always its operands'."""
    s = Sketch()
    shape = (1, draw(st.integers(1, 9)), 4, 6)
    made: list[Handle] = []

    def operand() -> Handle:
        source = draw(st.sampled_from(made))
        target = draw(st.sampled_from([None, *REPRS]))
        tensor = s.after[source.after]
        assert isinstance(tensor, VkTensor)
        have = TensorRepr(tensor.storage_type, tensor.memory_layout)
        return source if target in (None, have) else s.repack(source, target)

    made.append(s.input(shape, draw(st.sampled_from(REPRS))))
    for _ in range(draw(st.integers(1, 8))):
        name = draw(st.sampled_from(["aten.relu.default", "aten.add.Tensor", "pool"]))
        out = s.tensor(shape, draw(st.sampled_from(REPRS)))
        if name == "pool":
            s.call("aten.avg_pool2d.default", operand(), [1, 1], out)
        elif name == "aten.add.Tensor":
            s.call(name, operand(), operand(), 1, out)
        else:
            s.call(name, operand(), out)
        made.append(out)
    return vkgraph.encode(s.finish(made[-1], draw(st.sampled_from(made[1:]))).after)


@given(programs())
@settings(max_examples=60)
def test_nothing_is_copied_and_all_is_computed_as_before(data: bytes) -> None:
    planned = replan(data, "x", WEBGPU)
    total = planned.report.total
    assert (total.transitions, total.objective_cost, total.bound) == (0, 0, 0)
    assert (total.status, planned.report.target) == ("OPTIMAL", "webgpu")
    graph = vkgraph.decode(planned.data)
    assert representations(graph) == {BUF_W}
    assert target_of(graph) == "webgpu"
    before = vkgraph.decode(data)
    copies = len(before.chain) - len(graph.chain)
    assert copies == total.baseline_transitions
    assert computed(planned.data) == computed(data)
    assert replan(planned.data, "x", WEBGPU).data == planned.data
    # And back, to the plan that there would have been without all this.
    back, straight = replan(planned.data, "x", VULKAN), replan(data, "x", make_options("bytes"))
    assert target_of(vkgraph.decode(back.data)) == "vulkan"
    assert vkgraph.decode(back.data).version == before.version
    assert back.report.runtime == straight.report.runtime
    for figure in ("repack_cost", "transitions", "status", "bound"):
        assert getattr(back.report.total, figure) == getattr(straight.report.total, figure)
    assert computed(back.data) == computed(data)


def small(dtype: VkDataType = VkDataType.FLOAT32, *names: str) -> bytes:
    s = Sketch()
    shape = (1, 3, 5, 6)
    x = s.input(shape, TEX_C, dtype)
    for name in names or ("aten.relu.default",):
        x = s.call(name, x, s.tensor(shape, TEX_C, dtype))
    return vkgraph.encode(s.finish(x).after)


def for_webgpu(data: bytes) -> bytes:
    return replan(data, "x", WEBGPU).data


def test_it_is_not_planned_for_vulkan_by_accident() -> None:
    marked = for_webgpu(small())
    with pytest.raises(OptionError) as caught:
        replan(marked, "x.pte", make_options())
    assert str(caught.value) == (
        "x.pte was planned for WebGPU before: name what to plan it for (target)"
    )
    assert replan(marked, "x.pte", VULKAN).report.target == "vulkan"
    (finding,) = check_program(marked, "x", target="vulkan").findings
    assert (finding.kind, finding.place) == ("target", "")
    assert check_program(marked, "x").target == "webgpu"
    assert check_program(small(), "x").target == "vulkan"


def test_int8_needs_no_layout_of_its_own() -> None:
    s = Sketch()
    shape = (1, 8, 4, 4)
    x = s.input(shape, Q_4W4C, INT8)
    x = s.call("et_vk.q8ta_relu.default", x, s.tensor(shape, Q_4W4C, INT8))
    x = s.repack(x, Q_4C1W)
    x = s.call("et_vk.q8ta_relu.default", x, s.tensor(shape, Q_4C1W, INT8))
    data = vkgraph.encode(s.finish(x).after)
    graph = vkgraph.decode(for_webgpu(data))
    assert representations(graph) == {BUF_W}
    assert [call.name for call in graph.chain] == ["et_vk.q8ta_relu.default"] * 2
    assert replan(for_webgpu(data), "x", VULKAN).report.total.transitions == 0


@pytest.mark.parametrize(
    ("names", "runtime", "found"),
    [
        (("aten.sigmoid.default",), None, "1.4+"),
        (("aten.relu.default",), None, "1.5"),
        (("aten.sigmoid.default",), "1.4", "1.4"),
        (("aten.log10.default", "aten.sigmoid.default"), None, "1.4+"),
    ],
)
def test_the_oldest_release_whose_runtime_has_the_operators(
    names: Sequence[str], runtime: str | None, found: str
) -> None:
    options = make_options(target="webgpu", runtime=runtime)
    assert replan(small(VkDataType.FLOAT32, *names), "x", options).report.runtime == found


def test_an_operator_that_no_release_has_is_named() -> None:
    data = small(VkDataType.FLOAT32, "aten.log10.default")
    planned = replan(data, "x", make_options(target="webgpu", runtime="1.5"))
    assert planned.report.delegates[0].warnings == (
        "operator 0 (aten.log10.default): ExecuTorch 1.5's WebGPU runtime does not know it: keep "
        "it out of the delegate",
    )
    found = check_program(planned.data, "x")
    assert [(f.kind, f.place) for f in found.findings] == [
        ("operator", "operator 0 (aten.log10.default)")
    ]
    assert found.taken_by == ()


def test_an_operator_of_a_later_release_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        replan(small(), "x", make_options(target="webgpu", runtime="1.4"))
    assert str(caught.value).startswith(
        "delegate 0, operator 0 (aten.relu.default): ExecuTorch 1.4's WebGPU runtime does not know "
        "this operator, which 1.5 brought: name a runtime that has it (runtime)"
    )


def copied(shape: tuple[int, ...], dtype: VkDataType, *, is_dynamic: bool = False) -> bytes:
    """A reshape to one dimension, of sizes that vary or not."""
    s = Sketch()
    x = s.input(shape, BUF_W, dtype)
    size: object = s.symint() if is_dynamic else [-1]
    count = 1
    for n in shape:
        count *= n
    x = s.call("aten.view_copy.default", x, size, s.tensor((count,), BUF_W, dtype))
    return vkgraph.encode(s.finish(x).after)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (copied((1, 3, 5), INT8), "copies whole words of 4 bytes, and this is 15 bytes"),
        (copied((1, 4, 5), INT8), None),
        (copied((1, 3, 5), VkDataType.FLOAT32), None),
        (copied((1, 3, 5), VkDataType.FLOAT32, is_dynamic=True), None),
        (
            copied((1, 4, 5), INT8, is_dynamic=True),
            "copies 4 bytes for each element once sizes change, and these have 1: it reads beyond "
            "them, or is refused",
        ),
        (small(INT32), "reads float32 alone, and this is int32"),
        (small(FLOAT16), "reads float32 alone, and this is float16"),
    ],
)
def test_what_its_kernels_do_wrong_is_found(data: bytes, text: str | None) -> None:
    found = check_program(data, "x", target="webgpu").findings
    assert [(f.kind, f.text) for f in found] == (
        [] if text is None else [("kernel", f"ExecuTorch 1.5 {text}")]
    )
    assert check_program(data, "x").findings == ()
    latest = make_options(target="webgpu", runtime="1.5")
    assert len(replan(data, "x", latest).report.delegates[0].warnings) == len(found)


@pytest.mark.parametrize(
    ("release", "found"),
    [("1.4", ["ExecuTorch 1.4 takes at most 4 dimensions, and this has 6"]), ("1.5", [])],
)
def test_dimensions_beyond_a_release(release: Release, found: list[str]) -> None:
    s = Sketch()
    x = s.input((1, 2, 3, 2, 4, 4), BUF_W)
    x = s.call(
        "aten.permute_copy.default", x, [0, 1, 3, 2, 4, 5], s.tensor((1, 2, 2, 3, 4, 4), BUF_W)
    )
    data = vkgraph.encode(s.finish(x).after)
    checked = check_program(data, "x", Runtime(release, release), target="webgpu")
    assert [f.text for f in checked.findings] == found
    assert replan(data, "x", WEBGPU).report.runtime == "1.5"


def convolved(width: int, activation: str) -> bytes:
    """An int8 convolution, with what it does at last in its last argument."""
    s = Sketch()
    x = s.input((1, 4, 3, width), Q_4W4C, INT8)
    weights = [s.constant(n, INT8) for n in ((4, 4, 1, 1), (4,), (4,))]
    numbers = [1.0, 0, *weights, 1.0, 0, None, [1, 1], [1, 1], [0, 0], [1, 1], 1]
    y = s.tensor((1, 4, 3, width), Q_4W4C, INT8)
    s.call("et_vk.q8ta_conv2d_pw.default", x, *numbers, activation, y)
    return vkgraph.encode(s.finish(y).after)


@pytest.mark.parametrize(
    ("width", "activation", "found"),
    [
        (8, "none", []),
        (8, "relu", ["takes 'none' for its last argument, and this is 'relu'"]),
        (6, "none", ["takes elements of the last dimension by fours, and this has 6"]),
    ],
)
def test_int8_kernels(width: int, activation: str, found: list[str]) -> None:
    checked = check_program(convolved(width, activation), "x", target="webgpu")
    assert [f.text for f in checked.findings] == [f"ExecuTorch 1.5 {text}" for text in found]


BOOL, FLOAT = VkDataType.BOOL, VkDataType.FLOAT32


@pytest.mark.parametrize(
    ("source", "result", "found"),
    [
        (INT32, FLOAT, []),
        (BOOL, FLOAT, []),
        (BOOL, INT32, ["does not convert bool to int32"]),
        (FLOAT, BOOL, ["does not convert float32 to bool"]),
        (INT32, INT32, []),
    ],
)
def test_conversions(source: VkDataType, result: VkDataType, found: list[str]) -> None:
    s = Sketch()
    x = s.input((1, 4, 4), BUF_W, source)
    s.call("aten._to_copy.default", x, s.tensor((1, 4, 4), BUF_W, result))
    checked = check_program(vkgraph.encode(s.finish().after), "x", target="webgpu")
    assert [f.text for f in checked.findings] == [f"ExecuTorch 1.5 {text}" for text in found]


@pytest.mark.parametrize(
    ("dtype", "name", "found"),
    [
        (INT8, "aten.logical_not.default", "reads bool alone, and this is int8"),
        (BOOL, "aten.full_like.default", "makes float32 alone, and this is bool"),
        (INT32, "aten.slice_copy.Tensor", None),
        (BOOL, "aten.slice_copy.Tensor", "reads int32 and float32 alone, and this is bool"),
    ],
)
def test_types_of_elements(dtype: VkDataType, name: str, found: str | None) -> None:
    checked = check_program(small(dtype, name), "x", target="webgpu")
    texts = [] if found is None else [f"ExecuTorch 1.5 {found}"]
    assert [f.text for f in checked.findings] == texts


@pytest.mark.parametrize(("shape", "found"), [((3, 8), []), ((1, 8), ["does not broadcast"])])
def test_truths_are_of_one_shape(shape: tuple[int, ...], found: list[str]) -> None:
    s = Sketch()
    x, y = s.input((3, 8), BUF_W, BOOL), s.input(shape, BUF_W, BOOL)
    s.call("aten.logical_and.default", x, y, s.tensor((3, 8), BUF_W, BOOL))
    checked = check_program(vkgraph.encode(s.finish().after), "x", target="webgpu")
    assert [f.text for f in checked.findings] == [f"ExecuTorch 1.5 {text}" for text in found]


@pytest.mark.parametrize(("shape", "found"), [((32,), []), ((32, 4), ["ExecuTorch 1.5 takes at"])])
def test_indices_of_one_dimension(shape: tuple[int, ...], found: list[str]) -> None:
    s = Sketch()
    x, at = s.input(shape, BUF_W), s.input((6,), BUF_W, INT32)
    x = s.call("aten.index.Tensor", x, (at,), s.tensor((6, *shape[1:]), BUF_W))
    data = vkgraph.encode(s.finish(x).after)
    texts = [f.text for f in check_program(data, "x", target="webgpu").findings]
    assert [text[:23] for text in texts] == found


def test_bytes_that_are_no_whole_words_are_moved_from_1_5_on() -> None:
    data = copied((1, 4, 5), INT8)
    s = Sketch()
    x = s.input((1, 3, 5), BUF_W, VkDataType.BOOL)
    y = s.call("aten.logical_not.default", x, s.tensor((1, 3, 5), BUF_W, VkDataType.BOOL))
    odd = vkgraph.encode(s.finish(y).after)
    for program, taken in ((data, ("1.4", "1.5")), (odd, ("1.5",))):
        assert check_program(program, "x", target="webgpu").taken_by == taken


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (make_options("default", objective="latency", target="webgpu"), "the objective latency"),
        (make_options(gpu="Adreno", target="webgpu"), "a GPU"),
        (
            make_options(
                avoid=parse_faults(
                    '[{"operators": ["aten.relu.default"], "representations": ["any"], '
                    '"effect": "wrong values", "source": "a run"}]',
                    "rows",
                ),
                target="webgpu",
            ),
            "an avoid list",
        ),
    ],
)
def test_options_for_vulkans_kernels_are_refused(options: PlanOptions, what: str) -> None:
    with pytest.raises(OptionError, match=rf"^{what} is for Vulkan's kernels"):
        replan(small(), "x", options)


def test_what_does_not_exist_is_refused() -> None:
    with pytest.raises(OptionError, match=r"^unknown target 'metal': use vulkan or webgpu$"):
        make_options(target="metal")
    with pytest.raises(OptionError, match=r"^ExecuTorch 1\.2 has no WebGPU runtime: use one of 1"):
        replan(small(), "x", make_options(target="webgpu", runtime="1.2+"))
    with pytest.raises(OptionError, match="a GPU is for Vulkan's kernels"):
        check_program(small(), "x", gpu=find_gpu("Adreno (TM) 740"), target="webgpu")
    with pytest.raises(NoRepresentationError, match="TENSOR_WIDTH_PACKED is excluded"):
        replan(small(), "x", make_options(target="webgpu", without_layouts=["WIDTH_PACKED"]))
    with pytest.raises(NoRepresentationError, match="no representation within the buffer limit 9:"):
        replan(small(), "x", make_options(target="webgpu", buffer_limit=9))
    with pytest.raises(NoRepresentationError, match="--input-layout texture"):
        replan(small(), "x", make_options(target="webgpu", input_layout="texture"))


def planned_small() -> tuple[bytes, Planned]:
    s = Sketch()
    x = s.input((1, 3, 5, 6), TEX_C)
    x = s.call("aten.avg_pool2d.default", x, [1, 1], s.tensor((1, 3, 5, 6), TEX_C))
    x = s.repack(x, BUF_W)
    x = s.call("aten.sigmoid.default", x, s.tensor((1, 3, 5, 6), BUF_W))
    data = vkgraph.encode(s.finish(x).after)
    return data, replan(data, "x", WEBGPU)


@pytest.mark.parametrize("with_source", [False, True])
def test_a_plan_is_verified_and_proven(with_source: bool) -> None:
    data, planned = planned_small()
    source = data if with_source else None
    options = make_options("bytes")
    found = verify_plan(planned.flatbuffer(), "x", options, prove=True, source=source)
    assert [(d.verdict, d.cost, d.transitions) for d in found.delegates] == [("proven", 0, 0)]


def test_the_checker_takes_nothing_but_dense_buffers_and_the_mark() -> None:
    _, planned = planned_small()
    (delegate,) = planned.program.delegates
    graph = delegate.decode_graph()

    def check(written: VkGraph) -> None:
        forged = replace(delegate, graph=vkgraph.encode(written))
        program = replace(planned.program, delegates=(forged,))
        verify_plan(plan.encode(program), "x", make_options("bytes"), source=planned.data)

    check(graph)
    values = list(graph.values)
    at = graph.chain[0].args[-1]
    tensor = values[at]
    assert isinstance(tensor, VkTensor)
    values[at] = replace(tensor, storage_type=TEX_C.storage_type)
    with pytest.raises(VerificationError, match="WebGPU's runtime has no TEXTURE_3D with TENSOR"):
        check(replace(graph, values=tuple(values)))
    # Without the mark it is a plan for Vulkan, and wrong.
    with pytest.raises(VerificationError, match="buffer:WIDTH_PACKED is not accepted here"):
        check(replace(graph, version="0"))
