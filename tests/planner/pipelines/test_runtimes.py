"""Plans for a runtime: what its kernels take, and around what they are known to do wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from planner.errors import InputError, VerificationError
from planner.ir.representation import TensorRepr
from planner.kernels.faults import Faults, parse_faults
from planner.kernels.limits import Limits
from planner.options import make_options
from planner.pipelines.lowered import Planned, replan
from planner.verify.faults import check_faults
from planner.verify.operands import read_demands
from planner.verify.program import Program
from planner.vkgraph.reader import without_representations
from schema import VkTensor, vkgraph
from tests.planner.verify.sketches import BUF_W, TEX_C, TEX_H, TEX_W, Sketch

SOFTMAX = "aten._softmax.default"
IN_BUFFERS = "dim_order_ops._to_dim_order_copy.default"


def softmax(given: TensorRepr, *, new: str | None = None) -> bytes:
    """A softmax after an operator that is for buffers alone."""
    s = Sketch()
    x = s.input((1, 3, 66), BUF_W)
    x = s.call(IN_BUFFERS, x, s.tensor((1, 3, 66), BUF_W))
    if given != BUF_W:
        x = s.repack(x, given)
    x = s.call("aten._softmax.default", x, -1, False, s.tensor((1, 3, 66), given))
    if new is not None:
        x = s.call(new, x, s.tensor((1, 3, 66), given))
    return vkgraph.encode(s.finish(x).after)


def unplanned(data: bytes) -> bytes:
    return vkgraph.encode(without_representations(vkgraph.decode(data)))


def embedding(given: TensorRepr = TEX_H) -> bytes:
    s = Sketch()
    ids = s.input((1, 6), given)
    table = s.constant((50, 12))
    x = s.call("aten.embedding.default", table, ids, s.tensor((1, 6, 12), given))
    return vkgraph.encode(s.finish(x).after)


def avoiding(*rows: dict[str, Any]) -> Faults:
    filled = [{"effect": "wrong values", "source": "a run", **row} for row in rows]
    return parse_faults(json.dumps(filled), "rows")


def of(planned: Planned, operator: str) -> list[str]:
    """The representations of the tensor operands of operators of a name, each once."""
    graph = planned.delegates[0].plan.decode_graph()
    calls = (call for call in graph.chain if call.name == operator)
    tensors = (graph.values[i] for call in calls for i in call.args)
    given = [
        str(TensorRepr(t.storage_type, t.memory_layout))
        for t in tensors
        if isinstance(t, VkTensor) and t.constant_id < 0
    ]
    return sorted(set(given))


@pytest.mark.parametrize(
    ("data", "runtime", "found", "texture"),
    [
        (softmax(TEX_W), None, "1.1+", True),
        (softmax(TEX_W), "1.2", "1.2", True),
        (softmax(TEX_W), "1.2+", "1.2+", True),
        (softmax(TEX_W), "1.3", "1.3", False),
        (softmax(TEX_W), "1.5", "1.5", False),
        (softmax(BUF_W), None, "1.3+", False),
        (softmax(BUF_W), "1.1", "1.1", True),
        (softmax(TEX_W, new="aten.hardswish.default"), None, "1.3+", False),
        (softmax(TEX_W, new="aten.log10.default"), None, "1.5", False),
        (unplanned(softmax(BUF_W)), None, "1.1+", True),
    ],
)
def test_softmax_over_buffers_is_for_runtimes_that_have_it(
    data: bytes, runtime: str | None, found: str, texture: bool
) -> None:
    planned = replan(data, "x", make_options(runtime=runtime))
    assert planned.report.runtime == planned.program.runtime == found
    assert all(r.startswith("texture") == texture for r in of(planned, SOFTMAX))
    assert planned.report.total.status == "OPTIMAL"


def test_what_is_planned_for_a_runtime_is_taken_to_need_no_newer_one() -> None:
    once = replan(softmax(TEX_W), "x", make_options())
    again = replan(once.data, "x", make_options())
    assert again.data == once.data
    assert again.report.runtime == "1.1+"


def test_an_operator_that_a_runtime_lacks_is_named() -> None:
    data = softmax(TEX_W, new="aten.hardswish.default")
    with pytest.raises(InputError) as caught:
        replan(data, "x", make_options(runtime="1.2"))
    assert str(caught.value) == (
        "delegate 0, operator 3 (aten.hardswish.default): ExecuTorch 1.2 does not know this "
        "operator, which 1.3 brought: name a runtime that has it (runtime) or keep the operator "
        "out of the delegate (operator_blocklist of VulkanPartitioner)"
    )


def test_an_embedding_that_is_wrong_is_mended() -> None:
    planned = replan(embedding(), "x", make_options())
    (delegate,) = planned.report.delegates
    assert "texture:HEIGHT_PACKED" not in of(planned, "aten.embedding.default")
    assert delegate.warnings == ()
    (mended,) = delegate.mended
    assert mended.startswith(
        "operator 0 (aten.embedding.default): wrong values in texture:HEIGHT_PACKED (https://"
    )
    again = replan(planned.data, "x", make_options())
    assert again.report.delegates[0].mended == ()


SDPA = "llama.custom_sdpa.default"


@pytest.mark.parametrize(("head_dim", "storage"), [(6, "texture"), (8, "buffer")])
def test_attention_whose_heads_are_no_multiple_of_four_stays_in_textures(
    head_dim: int, storage: str
) -> None:
    s = Sketch()
    x = s.input((1, 3, 2, head_dim), BUF_W)
    shape = (1, 3, 2, head_dim)
    q, k, v = (s.call("et_vk.linear_q4gsw.default", x, s.tensor(shape, BUF_W)) for _ in range(3))
    y = s.call(SDPA, q, k, v, 0, None, 0.0, True, None, s.tensor(shape, BUF_W))
    data = vkgraph.encode(s.finish(y).after)
    avoid = avoiding({"operators": ["et_vk.linear_q4gsw.default"], "representations": ["texture"]})
    planned = replan(data, "x", make_options(avoid=avoid))
    assert of(planned, SDPA) == [f"{storage}:WIDTH_PACKED"]
    assert of(planned, "et_vk.linear_q4gsw.default") == ["buffer:WIDTH_PACKED"]
    assert (planned.report.total.transitions > 0) == (head_dim == 6)
    assert len(planned.report.delegates[0].mended) == (head_dim == 6)


def test_what_no_representation_avoids_is_warned_of() -> None:
    avoid = avoiding({"operators": [SOFTMAX], "representations": ["any"]})
    planned = replan(softmax(TEX_W), "x", make_options(avoid=avoid))
    (warning,) = planned.report.delegates[0].warnings
    assert warning.startswith(f"operator 2 ({SOFTMAX}): wrong values in texture:")
    assert warning.endswith("(a run), and no other representation is right")
    assert planned.report.delegates[0].mended == ()


def test_a_row_is_for_a_gpu() -> None:
    row = {"operators": [SOFTMAX], "representations": ["texture"], "gpus": ["Adreno"]}
    data = softmax(TEX_W)
    for gpu, met in (("Adreno (TM) 740", 1), ("Mali-G715", 0), (None, 0)):
        planned = replan(data, "x", make_options(avoid=avoiding(row), runtime="1.5", gpu=gpu))
        assert len(planned.report.delegates[0].mended) == met


@pytest.mark.parametrize(
    ("given", "rows", "refused"),
    [
        (TEX_H, [{"representations": ["texture:HEIGHT_PACKED"]}], True),
        (TEX_W, [{"representations": ["texture:HEIGHT_PACKED"]}], False),
        (TEX_H, [{"representations": ["any"]}], False),
        (TEX_H, [{"representations": ["texture"]}, {"representations": ["buffer"]}], False),
        (TEX_H, [{"representations": ["texture"], "operands": ["argument 0"]}], True),
        (TEX_H, [{"representations": ["texture"], "operands": ["argument 1"]}], False),
        (
            TEX_H,
            [
                {
                    "representations": ["texture"],
                    "when": [{"size": "output 0", "at": -1, "not_multiple_of": 4}],
                }
            ],
            True,
        ),
        (
            TEX_H,
            [{"representations": ["texture"], "when": [{"dims": "argument 1", "has": -2}]}],
            False,
        ),
        (
            TEX_H,
            [{"representations": ["texture"], "when": [{"dims": "argument 1", "is": [-1]}]}],
            True,
        ),
        (
            TEX_H,
            [{"representations": ["texture"], "when": [{"value": "argument 2", "is": False}]}],
            True,
        ),
    ],
)
def test_the_checker_refuses_a_fault_that_can_be_avoided(
    given: TensorRepr, rows: Sequence[dict[str, Any]], refused: bool
) -> None:
    program = Program(vkgraph.decode(softmax(given)))
    faults = avoiding(*({"operators": [SOFTMAX], **row} for row in rows))
    limits = Limits(faults=faults)
    demands = read_demands(program, limits, {1})
    if not refused:
        check_faults(program, demands, limits)
        return
    with pytest.raises(VerificationError, match=r"has a known fault \(wrong values, a run\)"):
        check_faults(program, demands, limits)
    # The planner, from its own side, leaves nothing that the checker refuses.
    planned = replan(softmax(given), "x", make_options(avoid=faults))
    assert planned.report.delegates[0].mended


def test_a_file_without_layouts_is_no_free_one_to_compare_with() -> None:
    planned = replan(unplanned(softmax(BUF_W)), "x", make_options(runtime="1.2"))
    (delegate,) = planned.report.delegates
    assert delegate.repack_cost == delegate.baseline_repack_cost > 0
    assert delegate.objective_ratio == delegate.ratio == 1
    assert delegate.transitions == delegate.baseline_transitions == 1
    assert delegate.warnings == (
        "it came without layouts, so that there are none to compare with: the plan stands for them",
    )


def accumulated(given: TensorRepr, *, pooled: bool = False) -> bytes:
    """A state that an addition writes over; perhaps a pooling, for textures alone, reads it."""
    s = Sketch()
    shape = (1, 4, 6, 6)
    x = s.input(shape, given)
    state = s.call("et_vk.prepack.default", s.constant(shape), s.tensor(shape, given))
    s.call("aten.add.Tensor", state, x, 1, state)
    y = s.call("aten.relu.default", state, s.tensor(shape, given))
    if pooled:
        y = s.call("aten.max_pool2d.default", state, [2, 2], [2, 2], s.tensor((1, 4, 3, 3), given))
        y = s.call("aten.exp.default", y, s.tensor((1, 4, 3, 3), given))
    return vkgraph.encode(s.finish(y).after)


def test_what_is_written_over_goes_into_a_buffer() -> None:
    planned = replan(accumulated(TEX_C), "x", make_options())
    assert of(planned, "aten.add.Tensor")[0].startswith("buffer")
    (mended,) = planned.report.delegates[0].mended
    assert mended.startswith(
        "operator 1 (aten.add.Tensor): wrong values in texture:CHANNELS_PACKED"
    )
    assert planned.report.delegates[0].warnings == ()


def test_where_all_that_read_it_cannot_have_a_buffer_it_is_warned_of() -> None:
    data = accumulated(TEX_C, pooled=True)
    planned = replan(data, "x", make_options())
    assert of(planned, "aten.add.Tensor") == ["texture:CHANNELS_PACKED"]
    (warning,) = planned.report.delegates[0].warnings
    assert warning.startswith("operator 1 (aten.add.Tensor): wrong values in texture")
    # What is known of certain operators holds all the same.
    avoid = avoiding({"operators": ["aten.exp.default"], "representations": ["texture"]})
    again = replan(data, "x", make_options(avoid=avoid))
    assert of(planned, "aten.exp.default") == ["texture:CHANNELS_PACKED"]
    assert of(again, "aten.exp.default")[0].startswith("buffer")
    assert again.report.delegates[0].warnings == (warning,)


@pytest.mark.parametrize("shape", [(2, 5, 10), (1, 5, 10), (2, 5, 6), (2, 3, 5, 10)])
def test_layer_norms_whose_sums_are_wrong_are_mended(shape: tuple[int, ...]) -> None:
    s = Sketch()
    x = s.input(shape, TEX_W)
    mean = (*shape[:-1], 1)
    y = s.tensor(shape, TEX_W)
    outs = (y, s.tensor(mean, TEX_W), s.tensor(mean, TEX_W))
    weight, bias = s.constant(shape[-1:]), s.constant(shape[-1:])
    s.call("aten.native_layer_norm.default", x, [shape[-1]], weight, bias, 1e-5, outs)
    planned = replan(vkgraph.encode(s.finish(y).after), "x", make_options(runtime="1.5"))
    assert len(planned.report.delegates[0].mended) == (shape == (2, 5, 10))
