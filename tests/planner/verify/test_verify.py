"""Right plans pass the checker, and for each of its rules a plan that breaks it does not."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import VerificationError
from planner.ir import physical, representation
from planner.ir.representation import PACKED_INT8_BUFFER, REPRS, TensorRepr
from planner.kernels.registry import OpFeatures, lookup
from planner.kernels.releases import Release, Target
from planner.verify import operands
from planner.verify.layouts import are_compatible, exists, memory_bytes
from planner.verify.program import Program
from planner.verify.resolution import resolve
from schema import (
    BaselineTensor,
    CostOrigin,
    Repack,
    Status,
    TensorPlan,
    TransitionUser,
    VkDataType,
    VkMemoryLayout,
    VkStorageType,
    VkTensor,
)
from schema.vkgraph import NAMED_DATA, Bool, Double, Int, IntList, OperatorCall, String, VkBytes
from tests.planner.verify.sketches import (
    BUF_C,
    BUF_W,
    CLONE,
    EXAMPLES,
    Q_4C1W,
    Q_4H4W,
    Q_4W,
    Q_4W4C,
    Q_CONV2D,
    TEX_C,
    TEX_H,
    TEX_W,
    Case,
    Sketch,
    cache,
    concatenation,
    float_chain,
    group_norm,
    into_convolution,
    own_clones,
    quantized,
    quantized_convolution,
    shared_copy,
    symbolic,
)

LINEAR, CONV, ADD = "aten.linear.default", "aten.convolution.default", "aten.add.Tensor"
RELU, MUL, CAT = "aten.relu.default", "aten.mul.Tensor", "aten.cat.default"
NORM, VIEW = "aten.native_group_norm.default", "aten.view_copy.default"


def refuses(case: Case, message: str) -> None:
    with pytest.raises(VerificationError, match=message):
        case.verify()


def operator(name: str, operand: str = "") -> str:
    """A pattern for a message that names an operator and one of its operands."""
    return rf"operator \d+ \({re.escape(name)}\)" + (f", {operand}" if operand else "")


# Right plans.


@pytest.mark.parametrize("name", EXAMPLES)
def test_right_plans_pass(name: str) -> None:
    EXAMPLES[name]().verify()


def test_prices_are_those_worked_out_by_hand() -> None:
    # 1x8x6x10 floats: 1920 bytes, and 12 instead of 10 columns packed along the width.
    case = shared_copy()
    assert [t.cost for t in case.plan.transitions] == [1920 + 2304, 1920 + 1920]
    case = float_chain()
    assert case.plan.figures.repack_cost == pytest.approx(10000 + 0.05 * (1920 + 2304))
    accesses = 5 * 1920 + 2304 + 768
    assert case.plan.figures.objective_cost == pytest.approx(
        case.plan.figures.repack_cost + 0.05 * accesses
    )
    case.verify()


def test_a_looser_bound_passes_if_it_claims_no_proof() -> None:
    case = float_chain()
    cost = case.plan.figures.objective_cost
    case.figures(bound=cost - 1, status=Status.FEASIBLE).verify()
    case.figures(bound=cost, status=Status.FEASIBLE).verify()
    case.figures(bound=cost * (1 + 1e-12), repack_cost=case.plan.figures.repack_cost).verify()


def test_latency_without_access_rates_counts_transitions_alone() -> None:
    case = shared_copy("latency")
    assert case.plan.figures.objective_cost == case.plan.figures.repack_cost == 8064
    case.verify()


def test_values_that_are_equal_may_be_shared() -> None:
    s = Sketch()
    x = s.input((2, 3), BUF_W)
    y = s.call(ADD, x, x, 2, s.tensor((2, 3), BUF_W))
    z = s.call(ADD, y, x, 2, s.tensor((2, 3), BUF_W))
    case = s.finish(z)
    case.call(1, 2, case.arg(ADD, 2)).verify()


def test_a_nan_is_itself() -> None:
    s = Sketch()
    x = s.input((2, 3), BUF_W)
    nan = float("nan")
    s.finish(s.call("aten.hardtanh.default", x, nan, 1.0, s.tensor((2, 3), BUF_W))).verify()


def test_what_no_operator_constrains_may_be_left_open() -> None:
    s = Sketch()
    x = s.input((2, 3), BUF_W)
    out = s.call("custom.unheard_of.default", x, s.tensor((2, 3)))
    s.finish(out).verify()


def test_node_ids_and_memory_objects_are_free() -> None:
    case = float_chain()
    chain = [call._replace(node_id=7) for call in case.after.chain]
    case.chained(*chain).tensor(case.arg(ADD, -1), mem_obj_id=3).verify()


# One plan that breaks it for each rule: the operator and what the message must say.

Rule = tuple[Callable[[], Case], str]


def _swapped(case: Case, i: int, j: int) -> Case:
    chain = list(case.after.chain)
    chain[i], chain[j] = chain[j], chain[i]
    return case.chained(*chain)


def _without(case: Case, index: int) -> Case:
    chain = list(case.after.chain)
    del chain[index]
    return case.chained(*chain)


def _with(case: Case, name: str, position: int, value: Any) -> Case:
    """With a value of its own for one argument."""
    return case.value(case.arg(name, position), value)


def _two_inputs() -> Case:
    s = Sketch()
    x, y = s.input((2, 3), BUF_W), s.input((2, 3), BUF_W)
    z = s.call("aten.sub.Tensor", x, y, 1, s.tensor((2, 3), BUF_W))
    w = s.call(RELU, z, s.tensor((2, 3), BUF_W))
    return s.finish(z, w)


def _inputs(case: Case) -> Case:
    first, second = case.after.input_ids
    return case.written(input_ids=(second, first))


def _outputs(case: Case) -> Case:
    return case.written(output_ids=case.after.output_ids[::-1])


def _copy_as_output() -> Case:
    case = shared_copy()
    return case.written(output_ids=(*case.after.output_ids[:-1], case.plan.transitions[0].output))


def _other_constant() -> Case:
    case = float_chain()
    constants = list(case.after.constants)
    constants[2] = VkBytes(NAMED_DATA, 16, "another")
    return case.written(constants=tuple(constants))


def _symints() -> Case:
    case = symbolic()
    mul = case.index("mul")
    first, second, _ = case.after.chain[mul].args
    return case.call(mul, 0, second).call(mul, 1, first)


def _fewer_members() -> Case:
    case = concatenation()
    members: Any = case.after.values[case.arg(CAT, 0)]
    return case.value(case.arg(CAT, 0), replace(members, items=members.items[:2]))


def _nested_list() -> Case:
    case = concatenation()
    list_id = case.arg(CAT, 0)
    members: Any = case.after.values[list_id]
    return case.value(list_id, replace(members, items=(list_id, *members.items[1:])))


def _unclaimed() -> Case:
    return float_chain().claimed(transitions=())


def _stale_copy() -> Case:
    case = cache()
    return case.call(case.index(RELU, 1), 0, case.plan.transitions[0].output)


def _written_into_a_copy() -> Case:
    case = cache()
    update = case.index("llama.update_cache.default")
    return case.call(update, 1, case.plan.transitions[0].output)


def _stale_after_an_alias() -> Case:
    """The output of an operator is the value of its input, whose older copy is read later."""
    s = Sketch()
    state, step = s.input((2, 8, 4), BUF_W), s.input((2, 8, 4), BUF_W)
    copy = s.repack(state, TEX_W)
    y = s.call(RELU, copy, s.tensor((2, 8, 4), TEX_W))
    s.call(ADD, state, step, 1, state)
    z = s.call("aten.exp.default", copy, s.tensor((2, 8, 4), TEX_W))
    return s.finish(y, z)


def _merged() -> Case:
    case = float_chain()
    return case.call(case.index(ADD), -1, case.arg(CONV, -1))


def _extra_operator() -> Case:
    case = float_chain()
    return case.chained(*case.after.chain, case.after.chain[1])


SAME_COMPUTATION: dict[str, Rule] = {
    "another number": (
        lambda: _with(float_chain(), ADD, 2, Int(2)),
        operator(ADD, "argument 2") + r": it is Int\(int_val=2\), not Int\(int_val=1\)",
    ),
    "another kind of number": (
        lambda: _with(float_chain(), ADD, 2, Double(1.0)),
        operator(ADD, "argument 2") + ": it is a Double, not a Int",
    ),
    "another truth": (
        lambda: _with(float_chain(), CONV, 6, Bool(True)),
        operator(CONV, "argument 6"),
    ),
    "another list": (
        lambda: _with(float_chain(), CONV, 7, IntList((0, 1))),
        operator(CONV, "argument 7"),
    ),
    "another string": (
        lambda: _with(quantized(), "et_vk.q8ta_conv2d.default", 14, String("none")),
        operator("et_vk.q8ta_conv2d.default", "argument 14"),
    ),
    "a null that is given": (
        lambda: _with(shared_copy(), LINEAR, 2, Int(0)),
        operator(LINEAR, "argument 2"),
    ),
    "another shape": (
        lambda: float_chain().tensor(float_chain().arg(LINEAR, -1), dims=(1, 8, 6, 5)),
        operator(LINEAR, "output") + r": it is a tensor \(1, 8, 6, 5\)",
    ),
    "another element type": (
        lambda: float_chain().tensor(float_chain().arg(CONV, -1), datatype=VkDataType.FLOAT16),
        operator(CONV, "output"),
    ),
    "another staging type": (
        lambda: float_chain().tensor(
            float_chain().arg(CONV, -1), staging_datatype=VkDataType.FLOAT16
        ),
        operator(CONV, "output"),
    ),
    "another constant": (_other_constant, operator(LINEAR, "argument 1") + ".*constant"),
    "another tensor": (
        lambda: float_chain().call(1, 0, float_chain().arg(ADD, 1)),
        operator(ADD, "argument 0"),
    ),
    "two tensors in one": (_merged, operator(ADD, "output") + ".*is not what the program has"),
    "another operator": (
        lambda: float_chain().chained(
            *(
                call._replace(name="aten.sub.Tensor") if call.name == ADD else call
                for call in float_chain().after.chain
            )
        ),
        operator("aten.sub.Tensor") + f": the program has {re.escape(ADD)}",
    ),
    "another order": (
        lambda: _swapped(float_chain(), 0, 1),
        operator(ADD) + f": the program has {re.escape(CONV)}",
    ),
    "an operator less": (
        lambda: _without(float_chain(), 3),
        re.escape(LINEAR) + ": this operator of the program was not written",
    ),
    "an operator more": (_extra_operator, operator(ADD) + ": the program has nothing"),
    "an argument less": (
        lambda: float_chain().chained(
            *(
                call._replace(args=call.args[1:]) if call.name == ADD else call
                for call in float_chain().after.chain
            )
        ),
        operator(ADD) + ": it has 3 arguments, not 4",
    ),
    "inputs in another order": (
        lambda: _inputs(_two_inputs()),
        operator("aten.sub.Tensor", "argument 0"),
    ),
    "an input less": (
        lambda: _two_inputs().written(input_ids=_two_inputs().after.input_ids[:1]),
        "the graph's inputs: there are 1, not 2",
    ),
    "outputs in another order": (lambda: _outputs(_two_inputs()), "graph output 0"),
    "an output less": (
        lambda: _two_inputs().written(output_ids=_two_inputs().after.output_ids[:1]),
        "the graph's outputs: there are 1, not 2",
    ),
    "a copy for an output": (_copy_as_output, "graph output 3: .*a repacked copy"),
    "other symbolic integers": (_symints, operator("mul", "argument 0")),
    "list members in another order": (
        lambda: _members_of(concatenation(), lambda items: (items[1], items[0], items[2])),
        operator(CAT, "argument 0, member 0"),
    ),
    "a list member less": (_fewer_members, operator(CAT, "argument 0") + ".*2 members, not 3"),
    "a list in a list": (_nested_list, operator(CAT, "argument 0") + ".*cannot hold a list"),
    "a clone that is not claimed": (_unclaimed, operator(CLONE) + ".*not claimed"),
    "a copy from before a write": (
        _stale_copy,
        operator(RELU, "argument 0") + ".*before its source was overwritten",
    ),
    "a copy from before an output in place": (
        _stale_after_an_alias,
        operator("aten.exp.default", "argument 0") + ".*before its source was overwritten",
    ),
    "a write into a copy": (
        _written_into_a_copy,
        operator("llama.update_cache.default", "argument 1") + ".*repacked copy",
    ),
    "another version": (lambda: float_chain().written(version="1"), "version"),
    "a storage override": (
        lambda: float_chain().written(storage_type_override=VkStorageType.BUFFER),
        "storage_type_override",
    ),
}


def _members_of(case: Case, change: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Case:
    list_id = case.arg(CAT, 0)
    members: Any = case.after.values[list_id]
    return case.value(list_id, replace(members, items=change(members.items)))


@pytest.mark.parametrize("rule", SAME_COMPUTATION)
def test_another_computation_is_refused(rule: str) -> None:
    build, message = SAME_COMPUTATION[rule]
    refuses(build(), message)


def test_zero_is_told_from_minus_zero() -> None:
    s = Sketch()
    x = s.input((2, 3), BUF_W)
    case = s.finish(s.call("aten.hardtanh.default", x, 0.0, 1.0, s.tensor((2, 3), BUF_W)))
    refuses(
        _with(case, "aten.hardtanh.default", 1, Double(-0.0)), operator("aten.hardtanh.default")
    )


def test_bytes_that_are_no_graph_are_refused() -> None:
    with pytest.raises(VerificationError, match="the written graph is malformed"):
        float_chain().verify(b"VK00 is not enough")


# Representations.


def _limited() -> Case:
    return replace(float_chain(), limits=(16384, 5, 2048))


def _five_dims() -> Case:
    s = Sketch()
    x = s.input((1, 2, 3, 4, 5), BUF_W)
    return s.finish(s.call(RELU, x, s.tensor((1, 2, 3, 4, 5), BUF_W)))


def _embedding_of_many() -> Case:
    """The weight that the operator prepacks is too tall for an image, so its rule is: buffers."""
    s = Sketch()
    indices = s.input((1, 4), TEX_W, VkDataType.INT32)
    table = s.constant((20000, 4))
    nothing = (-1, False, False)
    out = s.tensor((1, 4, 4), TEX_W)
    return s.finish(s.call("aten.embedding.default", table, indices, *nothing, out))


def _sum_of_long() -> Case:
    """One of two synchronised operands is too wide for an image."""
    s = Sketch()
    x, y = s.input((1, 1), TEX_W), s.input((1, 70000), BUF_W)
    return s.finish(s.call(ADD, x, y, 1, s.tensor((1, 70000), BUF_W)))


def _int8_layout_on(dtype: VkDataType) -> Case:
    s = Sketch()
    x = s.input((1, 8, 4, 4), Q_4W, dtype)
    return s.finish(s.call(VIEW, x, [8, 16], s.tensor((8, 16), Q_4W, dtype)))


REPRESENTATIONS: dict[str, Rule] = {
    "none": (
        lambda: float_chain().tensor(
            float_chain().arg(LINEAR, -1),
            storage_type=VkStorageType.DEFAULT_STORAGE,
            memory_layout=VkMemoryLayout.DEFAULT_LAYOUT,
        ),
        operator(LINEAR, "output 0") + ": it has no representation",
    ),
    "half of one": (
        lambda: float_chain().tensor(
            float_chain().arg(LINEAR, -1), storage_type=VkStorageType.DEFAULT_STORAGE
        ),
        operator(LINEAR, "output 0") + ": DEFAULT_STORAGE with TENSOR_WIDTH_PACKED",
    ),
    "a flat image": (
        lambda: float_chain().tensor(
            float_chain().arg(CONV, 0), storage_type=VkStorageType.TEXTURE_2D
        ),
        operator(CONV, "argument 0") + ": TEXTURE_2D",
    ),
    "an int8 image": (
        lambda: into_convolution().tensor(
            into_convolution().arg("et_vk.q8ta_conv2d.default", -1),
            storage_type=VkStorageType.TEXTURE_3D,
        ),
        operator("et_vk.q8ta_conv2d.default", "output 0") + ": TEXTURE_3D with PACKED_INT8_4W4C",
    ),
    "one that the operator does not take": (
        lambda: float_chain().laid_out(float_chain().arg(CONV, -1), TEX_W),
        operator(CONV, "output 0") + ": texture:WIDTH_PACKED is not accepted here, only {texture",
    ),
    "one that a list does not take": (
        lambda: group_norm().laid_out(group_norm().arg("et_vk.prepack.default", -1), BUF_W),
        operator(NORM, "argument 1") + ": buffer:WIDTH_PACKED is not accepted",
    ),
    "one of several outputs": (
        lambda: group_norm().laid_out(group_norm().plan.transitions[0].source, BUF_C),
        operator(NORM, "output 1") + ": buffer:CHANNELS_PACKED is not accepted",
    ),
    "an image that is too large": (
        _limited,
        operator(CONV, "argument 0")
        + r": texture:CHANNELS_PACKED of \(1, 8, 6, 10\) exceeds the texture limits",
    ),
    "an image of five dimensions": (
        lambda: _five_dims().tensor(
            _five_dims().arg(RELU, 0), storage_type=VkStorageType.TEXTURE_3D
        ),
        operator(RELU, "argument 0") + r": texture:WIDTH_PACKED of \(1, 2, 3, 4, 5\)",
    ),
    "what the constant's shape leaves": (
        _embedding_of_many,
        operator("aten.embedding.default", "argument 1")
        + ": texture:WIDTH_PACKED is not accepted here, only {texture:HEIGHT_PACKED, buffer",
    ),
    "what the other operand's shape leaves": (
        _sum_of_long,
        operator(ADD, "argument 0") + ": texture:WIDTH_PACKED is not accepted here, only {buffer",
    ),
    "an int8 layout on floats": (
        lambda: _int8_layout_on(VkDataType.FLOAT32),
        operator(VIEW, "output 0|argument 0") + ": buffer:4W is for int8, not for FLOAT32",
    ),
    "an excluded layout": (
        lambda: replace(float_chain(), excluded=frozenset({VkMemoryLayout.TENSOR_CHANNELS_PACKED})),
        operator(CONV, "argument 0") + ": the layout TENSOR_CHANNELS_PACKED was excluded",
    ),
    "a constant's": (
        lambda: float_chain().laid_out(float_chain().arg(LINEAR, 1), TEX_W),
        operator(LINEAR, "argument 1") + ": a constant has no representation",
    ),
    "synchronised arguments": (
        lambda: float_chain_with_relu(TEX_C, BUF_W, TEX_C),
        operator(ADD, "argument 1")
        + ": buffer:WIDTH_PACKED is not compatible with texture:CHANNELS",
    ),
    "first argument and first output": (
        lambda: float_chain_with_relu(TEX_C, TEX_C, TEX_H),
        operator(ADD, "output 0")
        + ": texture:HEIGHT_PACKED is not compatible with texture:CHANNELS",
    ),
    "synchronised outputs": (
        lambda: _split(TEX_C, BUF_C),
        operator("aten.split_with_sizes_copy.default", "output 1")
        + ": buffer:CHANNELS_PACKED is not compatible with texture:CHANNELS",
    ),
    "synchronised int8": (
        lambda: _int8_sum(Q_4W4C, Q_4W, Q_4W4C),
        operator("et_vk.q8ta_add.default", "argument 1") + ": buffer:4W is not compatible with",
    ),
    "members of a list": (
        lambda: concatenation().laid_out(concatenation().plan.transitions[0].output, TEX_H),
        operator(CAT, "argument 0") + ": members of the list differ",
    ),
}


def float_chain_with_relu(a: TensorRepr, b: TensorRepr, out: TensorRepr) -> Case:
    s = Sketch()
    x, y = s.input((2, 8, 4), a), s.input((2, 8, 4), b)
    return s.finish(s.call(ADD, x, y, 1, s.tensor((2, 8, 4), out)))


def _split(first: TensorRepr, second: TensorRepr) -> Case:
    s = Sketch()
    x = s.input((2, 8, 4), first)
    outs = (s.tensor((2, 4, 4), first), s.tensor((2, 4, 4), second))
    s.call("aten.split_with_sizes_copy.default", x, [4, 4], 1, outs)
    return s.finish(*outs)


def _int8_sum(a: TensorRepr, b: TensorRepr, out: TensorRepr) -> Case:
    s = Sketch()
    shape, int8 = (1, 8, 4, 4), VkDataType.INT8
    x, y = s.input(shape, a, int8), s.input(shape, b, int8)
    scales = (0.5, 3) * 3
    return s.finish(
        s.call("et_vk.q8ta_add.default", x, y, *scales, 1.0, s.tensor(shape, out, int8))
    )


@pytest.mark.parametrize("rule", REPRESENTATIONS)
def test_a_wrong_representation_is_refused(rule: str) -> None:
    build, message = REPRESENTATIONS[rule]
    refuses(build(), message)


def test_int8_operands_that_are_packed_alike_pass() -> None:
    _int8_layout_on(VkDataType.INT8).verify()
    _int8_sum(Q_4W4C, Q_4C1W, Q_4W4C).verify()
    _int8_sum(Q_4W, Q_4H4W, Q_4W).verify()


def test_arguments_that_are_not_the_operators_are_refused() -> None:
    s = Sketch()
    x = s.input((2, 8, 4), TEX_C)
    case = s.finish(s.call(RELU, x, s.tensor((2, 8, 4), TEX_C)))
    name = "aten.convolution.default"
    chain = [call._replace(name=name) for call in case.after.chain]
    before = [call._replace(name=name) for call in case.before.chain]
    case = replace(case.chained(*chain), before=replace(case.before, chain=tuple(before)))
    refuses(case, operator(name) + ": its arguments are not those of this operator")


# Transitions.


def _dead() -> Case:
    case = float_chain_of_two()
    return case.call(case.index(RELU), 0, case.plan.transitions[0].source)


def float_chain_of_two() -> Case:
    s = Sketch()
    x = s.input((2, 8, 4), TEX_C)
    copy = s.repack(x, TEX_W)
    return s.finish(s.call(RELU, copy, s.tensor((2, 8, 4), TEX_W)))


def _copy_of_a_copy() -> Case:
    s = Sketch()
    x = s.input((2, 8, 4), TEX_C)
    first = s.repack(x, TEX_W)
    y = s.call(RELU, first, s.tensor((2, 8, 4), TEX_W))
    second = s.repack(first, TEX_H)
    return s.finish(y, s.call(RELU, second, s.tensor((2, 8, 4), TEX_H)))


def _copied_twice() -> Case:
    s = Sketch()
    x = s.input((2, 8, 4), TEX_C)
    outs = [s.call(RELU, s.repack(x, TEX_W), s.tensor((2, 8, 4), TEX_W)) for _ in range(2)]
    return s.finish(*outs)


def _constant_copied() -> Case:
    case = float_chain()
    return case.call(case.index(CLONE), 0, case.arg(LINEAR, 1))


def _across_families() -> Case:
    s = Sketch()
    x = s.input((1, 8, 4, 4), BUF_W, VkDataType.INT8)
    copy = s.repack(x, Q_4W)
    return s.finish(s.call(VIEW, copy, [8, 16], s.tensor((8, 16), Q_4W, VkDataType.INT8)))


def _before_its_source() -> Case:
    case = float_chain()
    return _swapped(case, 1, 2).transition(operator_index=1)


def _reformatted() -> Case:
    case = float_chain()
    return _with(case, CLONE, 1, Int(0))


def _into_an_input() -> Case:
    case = _two_inputs()
    first, second = case.after.input_ids
    clone = OperatorCall(0, CLONE, (first, 0, second))
    claim = replace(float_chain().plan.transitions[0], operator_index=0)
    return (
        case.tensor(second, storage_type=VkStorageType.TEXTURE_3D)
        .chained(clone, *case.after.chain)
        .claimed(transitions=(claim,))
    )


def _target(case: Case, **changes: Any) -> Case:
    return case.tensor(case.plan.transitions[0].output, **changes)


TRANSITIONS: dict[str, Rule] = {
    "nobody reads it": (_dead, operator(CLONE) + ": no operator reads this transition"),
    "source and target are the same": (
        lambda: float_chain().laid_out(float_chain().plan.transitions[0].output, TEX_C),
        operator(CLONE) + ": source and target are both texture:CHANNELS_PACKED",
    ),
    "a copy of a copy": (_copy_of_a_copy, operator(CLONE) + ".*not another copy"),
    "the same copy twice": (
        _copied_twice,
        operator(CLONE) + ": another transition copies the same tensor to texture:WIDTH",
    ),
    "a constant": (_constant_copied, operator(CLONE) + ".*cannot have a constant"),
    "int8 words from elements": (
        _across_families,
        operator(CLONE) + ": no clone takes int8 elements from buffer:WIDTH_PACKED to buffer:4W",
    ),
    "another shape": (
        lambda: _target(float_chain(), dims=(8, 6, 10)),
        operator(CLONE) + r": it copies a tensor .* to \(8, 6, 10\)",
    ),
    "another element type": (
        lambda: _target(float_chain(), datatype=VkDataType.INT32),
        operator(CLONE) + ": it copies a tensor",
    ),
    "no representation": (
        lambda: _target(
            float_chain(),
            storage_type=VkStorageType.DEFAULT_STORAGE,
            memory_layout=VkMemoryLayout.DEFAULT_LAYOUT,
        ),
        operator(CLONE) + ": a transition needs a representation at both ends",
    ),
    "no tensor": (
        lambda: float_chain().call(2, 0, 0),
        operator(CLONE) + ": a transition must copy a tensor to a tensor",
    ),
    "before its source is made": (
        _before_its_source,
        operator(CLONE) + r": value \d+ does not hold a tensor of the program here",
    ),
    "another memory format": (_reformatted, operator(CLONE) + ".*memory format"),
    "over a tensor of the program": (
        _into_an_input,
        operator(CLONE) + r": value \d+ is already in use",
    ),
    "claimed on another operator": (
        lambda: float_chain().transition(operator_index=1),
        operator(ADD) + f": it is claimed as a transition, but is not an {CLONE}",
    ),
    "claimed on no operator": (
        lambda: float_chain().claimed(
            transitions=(
                *float_chain().plan.transitions,
                replace(float_chain().plan.transitions[0], operator_index=99),
            )
        ),
        "a claim is for an operator that does not exist",
    ),
    "claimed twice": (
        lambda: float_chain().claimed(transitions=float_chain().plan.transitions * 2),
        "two claims are for one operator",
    ),
    "claimed for a clone of the program": (
        lambda: own_clones().claimed(
            transitions=(
                replace(own_clones().plan.transitions[0], operator_index=1),
                own_clones().plan.transitions[1],
            )
        ),
        operator(CLONE),
    ),
    "claimed source": (
        lambda: float_chain().transition(source=1),
        operator(CLONE) + r": the plan claims 1 -> \d+, the graph",
    ),
    "claimed output": (
        lambda: float_chain().transition(output=1),
        operator(CLONE) + ": the plan claims",
    ),
    "claimed source storage": (
        lambda: float_chain().transition(from_storage=VkStorageType.BUFFER),
        operator(CLONE) + ": its source is texture:CHANNELS_PACKED",
    ),
    "claimed source layout": (
        lambda: float_chain().transition(from_layout=VkMemoryLayout.TENSOR_HEIGHT_PACKED),
        operator(CLONE) + ": its source is texture:CHANNELS_PACKED",
    ),
    "claimed target storage": (
        lambda: float_chain().transition(to_storage=VkStorageType.BUFFER),
        operator(CLONE) + ": its target is texture:WIDTH_PACKED",
    ),
    "claimed target layout": (
        lambda: float_chain().transition(to_layout=VkMemoryLayout.TENSOR_HEIGHT_PACKED),
        operator(CLONE) + ": its target is texture:WIDTH_PACKED",
    ),
    "claimed price": (
        lambda: float_chain().transition(cost=10211.201),
        operator(CLONE) + ": its cost is 10211.2, not 10211.201",
    ),
    "claimed price that is no number": (
        lambda: float_chain().transition(cost=float("nan")),
        operator(CLONE) + ": its cost is 10211.2, not nan",
    ),
    "a user less": (
        lambda: shared_copy().transition(users=shared_copy().plan.transitions[0].users[1:]),
        operator(CLONE) + ": its users are",
    ),
    "a user more": (
        lambda: float_chain().transition(users=float_chain().plan.transitions[0].users * 2),
        operator(CLONE) + ": its users are",
    ),
    "another operator's argument": (
        lambda: float_chain().transition(users=(TransitionUser(3, LINEAR, 1),)),
        operator(CLONE) + ": its users are",
    ),
    "another user": (
        lambda: float_chain().transition(users=(TransitionUser(1, LINEAR, 0),)),
        operator(CLONE) + ": its users are",
    ),
    "another user's name": (
        lambda: float_chain().transition(users=(TransitionUser(3, ADD, 0),)),
        operator(CLONE) + ": its users are",
    ),
}


@pytest.mark.parametrize("rule", TRANSITIONS)
def test_a_wrong_transition_is_refused(rule: str) -> None:
    build, message = TRANSITIONS[rule]
    refuses(build(), message)


# The layout that the runtime chooses.


def _convolutions(
    *kinds: tuple[str, int], channels: int = 8, size: int = 12, planned: TensorRepr = Q_CONV2D
) -> tuple[Case, int]:
    """Convolutions (kind, groups) that all read the tensor with the id that is returned."""
    s = Sketch()
    shape, int8 = (1, channels, size, size), VkDataType.INT8
    x = s.input(shape, planned, int8)
    outs = [
        quantized_convolution(s, kind, x, s.tensor(shape, Q_4W4C, int8), groups)
        for kind, groups in kinds
    ]
    return s.finish(*outs), x.after


@pytest.mark.parametrize(
    ("kinds", "channels", "size", "elsewhere", "on_mali"),
    [
        ([("q8ta_conv2d", 1)], 8, 64, "4C", "4C"),
        ([("q8ta_conv2d", 1)], 8, 65, "4C1W", "4C"),
        ([("q8ta_conv2d", 1)], 28, 65, "4C1W", "4C"),
        ([("q8ta_conv2d", 1)], 32, 65, "4C", "4C"),
        ([("q8ta_conv2d", 1)], 6, 12, "4C1W", "4C1W"),
        ([("q8ta_conv2d", 2)], 8, 12, "4C1W", "4C"),
        ([("q8ta_conv2d", 2)], 12, 12, "4C1W", "4C1W"),
        ([("q8ta_conv2d_dw", 8)], 8, 12, "4C1W", "4C1W"),
        # The last convolution decides, and a depthwise one only if none has.
        ([("q8ta_conv2d", 1), ("q8ta_conv2d", 2)], 8, 12, "4C1W", "4C"),
        ([("q8ta_conv2d", 1), ("q8ta_conv2d_dw", 8)], 8, 12, "4C", "4C"),
        ([("q8ta_conv2d_dw", 8), ("q8ta_conv2d", 1)], 8, 12, "4C", "4C"),
        # Nobody asks: the neighbour's layout is taken.
        ([("q8ta_conv2d_transposed", 1)], 8, 12, "4W4C", "4W4C"),
    ],
)
def test_a_dynamic_layout_is_resolved_as_at_load(
    kinds: list[tuple[str, int]], channels: int, size: int, elsewhere: str, on_mali: str
) -> None:
    case, x = _convolutions(*kinds, channels=channels, size=size)
    program = Program(case.after)
    assert representation.short_name(resolve(program, is_mali=False)[x]) == elsewhere
    assert representation.short_name(resolve(program, is_mali=True)[x]) == on_mali
    if kinds[0][0] != "q8ta_conv2d_transposed":
        case.verify()


def test_a_dynamic_layout_without_neighbours_is_4c1w() -> None:
    case = _int8_sum(Q_CONV2D, Q_CONV2D, Q_CONV2D)
    assert set(resolve(Program(case.after), is_mali=False).values()) == {
        VkMemoryLayout.PACKED_INT8_4C1W
    }
    case.verify()


def test_a_dynamic_layout_that_becomes_another_one_is_refused() -> None:
    # The clone passes the layout of its source on, and the sum cannot read that.
    s = Sketch()
    shape, int8 = (1, 8, 4, 4), VkDataType.INT8
    x, y = s.input(shape, Q_4W, int8), s.input(shape, Q_4W4C, int8)
    copy = s.repack(x, Q_CONV2D)
    scales = (0.5, 3) * 3
    out = s.tensor(shape, Q_4W4C, int8)
    case = s.finish(s.call("et_vk.q8ta_add.default", copy, y, *scales, 1.0, out))
    refuses(
        case,
        operator(CLONE, "output 0")
        + ": it was planned as buffer:CONV2D and becomes buffer:4W on a GPU that is not a Mali",
    )


def test_a_kernel_that_cannot_work_with_a_layout_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pointwise = "et_vk.q8ta_conv2d_pw.default"

    def lax(name: str, release: Release, target: Target) -> OpFeatures | None:
        """A registry with an error: the pointwise convolution takes everything."""
        found = lookup(name, release, target)
        if name == pointwise and found is not None:
            return replace(found, inputs=(PACKED_INT8_BUFFER, *found.inputs[1:]))
        return found

    monkeypatch.setattr(operands, "lookup", lax)
    case, _ = _convolutions(("q8ta_conv2d_pw", 1), planned=Q_4C1W)
    refuses(case, operator(pointwise, "argument 0") + ": its kernel cannot work with buffer:4C1W")
    case, _ = _convolutions(("q8ta_conv2d_pw", 1), ("q8ta_conv2d", 1))
    refuses(
        case,
        operator(pointwise, "argument 0")
        + ": its kernel cannot work with buffer:4C after loading on a GPU that is not a Mali",
    )


def test_a_convolution_without_groups_is_refused() -> None:
    case, _ = _convolutions(("q8ta_conv2d", 0))
    refuses(
        case,
        operator("et_vk.q8ta_conv2d.default") + ": its arguments are not those of a convolution",
    )


@pytest.mark.parametrize("number", [1.0, 1.5])
def test_groups_may_be_written_as_a_float_if_whole(number: float) -> None:
    # As ExecuTorch writes a 1 after a 1.0.
    s = Sketch()
    shape, int8 = (1, 8, 12, 12), VkDataType.INT8
    x = s.input(shape, Q_CONV2D, int8)
    groups = s.value(Double(number))
    out = s.tensor(shape, Q_4W4C, int8)
    case = s.finish(quantized_convolution(s, "q8ta_conv2d", x, out, groups))
    if number.is_integer():
        case.verify()
    else:
        refuses(
            case,
            operator("et_vk.q8ta_conv2d.default")
            + ": its arguments are not those of a convolution",
        )


def test_a_dimension_may_be_written_as_a_float() -> None:
    s = Sketch()
    x = s.input((2, 3, 8), BUF_W)
    out = s.tensor((2, 3, 1), BUF_W)
    case = s.finish(s.call("aten.argmax.default", x, 2, True, out))
    number = case.arg("aten.argmax.default", 1)
    before = list(case.before.values)
    before[case.before.chain[0].args[1]] = Double(2.0)
    case = replace(case, before=replace(case.before, values=tuple(before)))
    case.value(number, Double(2.0)).verify()


# Claims.


def _tensor_plan(case: Case, **changes: Any) -> Case:
    first, *others = case.plan.tensors
    return case.claimed(tensors=(replace(first, **changes), *others))


def baseline(
    share: float,
    transitions: int = 1,
    cost: float = 0,
    tensors: tuple[BaselineTensor, ...] | None = None,
    **changes: Any,
) -> Case:
    """A baseline with one repack, whose claimed cost is a share of the right one."""
    right = 10_000 + 0.05 * 4 * (12 + 10) * 6 * 8
    case = float_chain()
    layouts = (VkMemoryLayout.TENSOR_WIDTH_PACKED, VkMemoryLayout.TENSOR_CHANNELS_PACKED)
    made, target = ((VkStorageType.TEXTURE_3D, layout) for layout in layouts)
    # It reads the written repack's copy: the tensor that both repack is what the sum makes.
    source, user = case.arg("aten.add.Tensor", -1), TransitionUser(case.index(LINEAR), LINEAR, 0)
    repack = Repack(
        *((1, 8, 6, 10), VkDataType.FLOAT32, *made, *target, share * right),
        source=source,
        users=(user,),
    )
    return case.claimed(
        baseline_tensors=(BaselineTensor(source, *made),) if tensors is None else tensors,
        baseline_repacks=(replace(repack, **changes),),
        figures=replace(
            case.plan.figures,
            baseline_repack_cost=cost or right,
            baseline_transitions=transitions,
        ),
    )


def _baseline_tensor(value_id: int) -> BaselineTensor:
    return BaselineTensor(value_id, TEX_W.storage_type, TEX_W.memory_layout)


def test_a_right_baseline_is_accepted() -> None:
    baseline(1.0).verify()


CLAIMS: dict[str, Rule] = {
    "baseline of other figures": (
        lambda: baseline(1.0, transitions=2),
        "the baseline's figures: it has 1 repacks, not 2",
    ),
    "baseline's cost": (
        lambda: baseline(1.0, cost=17),
        "the baseline's figures: the repack cost is",
    ),
    "cost of a baseline's repack": (
        lambda: baseline(1.001),
        "the baseline's repack 0: its cost is",
    ),
    "baseline in no layout": (
        lambda: baseline(1.0, to_layout=VkMemoryLayout.DEFAULT_LAYOUT),
        "the baseline's repack 0: .* is not a representation of a tensor",
    ),
    "baseline of a tensor that is no tensor": (
        lambda: baseline(1.0, tensors=(_baseline_tensor(float_chain().arg(LINEAR, 1)),)),
        r"the baseline's tensor \d+: it is not a tensor with a representation",
    ),
    "baseline of a tensor beyond the graph": (
        lambda: baseline(1.0, tensors=(_baseline_tensor(10**6),)),
        "the baseline's tensor 1000000: it is not a tensor with a representation",
    ),
    "baseline of a tensor twice": (
        lambda: baseline(1.0, tensors=(*baseline(1.0).plan.baseline_tensors,) * 2),
        r"the baseline's tensor \d+: the plan lists it twice",
    ),
    "baseline that repacks what it does not have": (
        lambda: baseline(1.0, tensors=()),
        r"the baseline's repack 0: value \d+ is not in texture:WIDTH_PACKED there",
    ),
    "baseline's repack of another size": (
        lambda: baseline(1.0, sizes=(1, 8, 6, 11)),
        r"the baseline's repack 0: its size or type is not that of value \d+",
    ),
    "baseline's repack of another type": (
        lambda: baseline(1.0, datatype=VkDataType.UNSET),
        r"the baseline's repack 0: its size or type is not that of value \d+",
    ),
    **{
        f"baseline's repack, {what}": (
            lambda user=user: baseline(1.0, users=(user,)),  # type: ignore[misc]
            rf"the baseline's repack 0: {user.operator_name} does not read value \d+",
        )
        for what, user in {
            "read by another operator": TransitionUser(0, CONV, 0),
            "read by another argument": TransitionUser(float_chain().index(LINEAR), LINEAR, 1),
            "read by an output": TransitionUser(float_chain().index(LINEAR), LINEAR, 3),
            "read under another name": TransitionUser(float_chain().index(LINEAR), "mm", 0),
            "read by nobody": TransitionUser(99, LINEAR, 0),
        }.items()
    },
    "a tensor less": (
        lambda: float_chain().claimed(tensors=float_chain().plan.tensors[1:]),
        operator(CONV, "argument 0") + r": the plan does not list value \d+",
    ),
    "a tensor twice": (
        lambda: float_chain().claimed(tensors=(*float_chain().plan.tensors,) * 2),
        "the plan lists it twice",
    ),
    "a constant": (
        lambda: float_chain().claimed(
            tensors=(
                *float_chain().plan.tensors,
                TensorPlan(
                    float_chain().arg(LINEAR, 1),
                    "weight",
                    VkStorageType.BUFFER,
                    VkMemoryLayout.TENSOR_WIDTH_PACKED,
                ),
            )
        ),
        "a representation that was not written",
    ),
    "a tensor's storage": (
        lambda: _tensor_plan(float_chain(), storage_type=VkStorageType.BUFFER),
        "a representation that was not written",
    ),
    "a tensor's layout": (
        lambda: _tensor_plan(float_chain(), memory_layout=VkMemoryLayout.TENSOR_WIDTH_PACKED),
        "a representation that was not written",
    ),
    "repack cost": (
        lambda: float_chain().figures(repack_cost=10211.3),
        "the repack cost is 10211.2, not 10211.3",
    ),
    "objective cost": (
        lambda: float_chain().figures(objective_cost=10211.2),
        "the objective cost is 10844.8, not 10211.2",
    ),
    "a cost that is no number": (
        lambda: float_chain().figures(objective_cost=float("nan")),
        "the objective cost is 10844.8, not nan",
    ),
    "transitions": (
        lambda: float_chain().figures(transitions=2),
        "1 transitions were written, not 2",
    ),
    "a bound above the cost": (
        lambda: float_chain().figures(bound=10845.0, status=Status.FEASIBLE),
        "10845.0 is not a lower bound of 10844.8",
    ),
    "a bound that is no number": (
        lambda: float_chain().figures(bound=float("nan"), status=Status.FEASIBLE),
        "nan is not a lower bound",
    ),
    "optimality": (
        lambda: float_chain().figures(bound=10844.0),
        "a plan of 10844.8 is not optimal under a bound of 10844.0",
    ),
    "the other objective": (
        lambda: replace(float_chain(), objective="repack").claimed(operator_costs=()),
        "the objective cost is 10211.2, not 10844.8",
    ),
    "an operator's cost": (
        lambda: _operator_cost(float_chain(), cost=191.9),
        "its cost is 192.0, not 191.9",
    ),
    "an operator's cost that is no number": (
        lambda: _operator_cost(float_chain(), cost=float("nan")),
        "its cost is 192.0, not nan",
    ),
    "an operator's cost twice": (
        lambda: float_chain().claimed(operator_costs=2 * float_chain().plan.operator_costs),
        "two claims are for one operator",
    ),
    "where an operator's cost is from": (
        lambda: _operator_cost(float_chain(), origin=CostOrigin.MEASURED),
        "its cost is MODELLED, not MEASURED",
    ),
    "where a transition's cost is from": (
        lambda: float_chain().transition(origin=CostOrigin.ESTIMATED),
        "its cost is MODELLED, not ESTIMATED",
    ),
    "no operator's cost": (
        lambda: float_chain().claimed(operator_costs=()),
        "it costs 192.0, which the plan does not list",
    ),
    "the cost of an operator that is not there": (
        lambda: _operator_cost(float_chain(), operator_index=99),
        "a claim is for an operator that costs nothing",
    ),
    "operators' costs under the objective repack": (
        lambda: replace(float_chain(), objective="repack"),
        "a claim is for an operator that costs nothing",
    ),
}


def _operator_cost(case: Case, **changes: Any) -> Case:
    first, *others = case.plan.operator_costs
    return case.claimed(operator_costs=(replace(first, **changes), *others))


@pytest.mark.parametrize("rule", CLAIMS)
def test_a_wrong_claim_is_refused(rule: str) -> None:
    build, message = CLAIMS[rule]
    refuses(build(), message)


# The facts that are written down twice are the same.

DIMS = st.lists(st.integers(1, 40), max_size=5).map(tuple)


@given(DIMS, st.sampled_from(sorted(physical.ELEMENT_BYTES)), st.sampled_from(REPRS))
def test_sizes_are_the_planners(
    dims: tuple[int, ...], dtype: VkDataType, given_repr: TensorRepr
) -> None:
    if given_repr in physical.fitting(dims, (16, 10, 60)):
        assert exists(dims, given_repr, (16, 10, 60))
        assert memory_bytes(VkTensor(dtype, dims), given_repr) == physical.padded_bytes(
            dims, dtype, given_repr
        )
    else:
        assert not exists(dims, given_repr, (16, 10, 60))


def test_compatibility_is_the_planners() -> None:
    for a in REPRS:
        for b in REPRS:
            assert are_compatible(a, b) == representation.compatible(a, b)
