"""Graphs that make no sense: a verified plan comes out, or an error that says what is wrong."""

from __future__ import annotations

import json
import os
import struct
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import inf, nan
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.costs.profile_file import parse_profile
from planner.errors import InputError, NoRepresentationError
from planner.ir.representation import TensorRepr
from planner.optimise.plan import plan_graph
from planner.options import make_options
from planner.pipelines.lowered import Planned, replan
from planner.verify import sharing_error
from planner.vkgraph.wellformed import MAX_LIST_TENSORS, check_wellformed
from schema import VkDataType, VkGraph, VkMemoryLayout, VkStorageType, VkTensor, join_delegate
from schema.vkgraph import (
    Int,
    Null,
    OperatorCall,
    String,
    Value,
    ValueList,
    decode,
    encode,
)
from solver import ProblemError, Status
from tests.planner.verify.sketches import (
    BUF_W,
    CLONE,
    Q_4C1W,
    Q_4H4W,
    Q_4W,
    Q_4W4C,
    Q_CONV2D,
    TEX_C,
    TEX_H,
    TEX_W,
    UNPLANNED,
    Handle,
    Sketch,
    quantized_convolution,
)
from tests.planner.vkgraph.hostile import SOURCES, changed_graphs

RELU, ADD, CAT, CONV = (
    "aten.relu.default",
    "aten.add.Tensor",
    "aten.cat.default",
    "aten.convolution.default",
)
MEAN, INDEX, UNKNOWN = "aten.mean.dim", "aten.index.Tensor", "mine.operator.default"
SHAPE = (1, 8, 6, 10)
OPTIONS = (make_options("bytes"), make_options("default", objective="latency"))
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "800"))


def planned(graph: VkGraph) -> Planned:
    return replan(encode(graph), "x", OPTIONS[1])


def written(graph: VkGraph) -> VkGraph:
    """The graph with its plan, which planning again leaves as it is."""
    result = planned(graph)
    assert replan(result.data, "x", OPTIONS[1]).data == result.data
    return decode(result.data)


def refuses(graph: VkGraph, message: str) -> None:
    with pytest.raises(InputError, match=f"^delegate 0, {message}"):
        planned(graph)


def before(sketch: Sketch, *outputs: Handle) -> VkGraph:
    return sketch.finish(*outputs, objective="repack").before


def tensor(
    representation: TensorRepr = TEX_C,
    dims: Sequence[int] = SHAPE,
    dtype: VkDataType = VkDataType.FLOAT32,
) -> VkTensor:
    storage, layout = representation.storage_type, representation.memory_layout
    return VkTensor(dtype, tuple(dims), storage_type=storage, memory_layout=layout)


def graph(
    values: Sequence[Value],
    *chain: tuple[str, tuple[int, ...]],
    inputs: tuple[int, ...] = (0,),
    outputs: tuple[int, ...] = (),
) -> VkGraph:
    calls = tuple(OperatorCall(i, name, args) for i, (name, args) in enumerate(chain))
    return VkGraph("0", calls, tuple(values), inputs, outputs)


def called(name: str, *args: object, dims: Sequence[int] = SHAPE) -> VkGraph:
    """One operator, whose first argument is a graph input of these dimensions."""
    s = Sketch()
    x = s.input(dims, UNPLANNED)
    out = s.tensor(dims, UNPLANNED)
    s.call(name, x, *args, out)
    return before(s, out)


# Arguments.

ARGUMENTS: dict[str, tuple[VkGraph, str]] = {
    "a convolution without weight": (called(CONV), "argument 1 should be a tensor of at least 3"),
    "a convolution whose weight is a number": (called(CONV, 3), "argument 1 should be a tensor"),
    "a convolution without groups": (
        called(CONV, Handle(0, 0), dims=(1, 8, 6)),
        "argument 8 should be the number of groups",
    ),
    "dimensions that are strings": (
        called(MEAN, ("h", "w"), True),
        "argument 1 should be dimensions of a tensor that has 4",
    ),
    "a dimension out of range": (called(MEAN, [4], True), "argument 1 should be dimensions"),
    "a negative dimension out of range": (called(MEAN, [-5], True), "argument 1 should be dimens"),
    "a huge dimension": (called(MEAN, [-(2**63)], True), "argument 1 should be dimensions"),
    "dimensions that are a flag": (called(MEAN, None, None, 1.5), "ET-VK has no kernel for these"),
    "dimensions of a tensor without": (
        called(MEAN, [1], True, dims=()),
        "argument 1 should be dimensions of a tensor that has 0",
    ),
    "indices that are numbers": (called(INDEX, [1, 2]), "argument 1 should be a list of tensors"),
    "no indices": (called(INDEX), "argument 1 should be a list of tensors"),
    "a quantized operator on floats": (
        called("et_vk.q8ta_relu.default", 0.5, 3, 0.5, 3),
        "argument 0 should be of INT8 elements",
    ),
}


@pytest.mark.parametrize(("hostile", "message"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments_that_are_not_the_operators(hostile: VkGraph, message: str) -> None:
    name = hostile.chain[0].name
    refuses(hostile, rf"operator 0 \({name}\): {name}: {message}")


@pytest.mark.parametrize(
    "harmless",
    [
        called(RELU, None, "x", [1], ()),
        called(INDEX, (None,)),
        called(INDEX, ()),
        called(MEAN, [], True),
        called(MEAN, [-1], False, dims=()),
        called(MEAN, [0], True, dims=()),
        called(MEAN, [-1, -1], True),
        called(ADD, inf),
        called(ADD, nan),
    ],
)
def test_arguments_that_no_representation_depends_on(harmless: VkGraph) -> None:
    written(harmless)


def test_lists_without_members() -> None:
    values: list[Value] = [tensor(), ValueList(()), Int(1), tensor(BUF_W), ValueList(())]
    chain = (CAT, (1, 2, 3)), ("aten.split_with_sizes_copy.default", (0, 4))
    written(graph(values, *chain, outputs=(3,)))


def test_an_operator_without_arguments() -> None:
    written(graph([tensor()], (RELU, ()), ("et_vk.prepack.default", ()), (CLONE, ())))


@pytest.mark.parametrize("groups", [0, -1.0, 1.5, nan, inf, None, "1"])
def test_quantized_convolutions_need_a_number_of_groups(groups: object) -> None:
    s = Sketch()
    x = s.input(SHAPE, Q_CONV2D, VkDataType.INT8)
    out = s.tensor(SHAPE, Q_4W4C, VkDataType.INT8)
    quantized_convolution(s, "q8ta_conv2d", x, out, s.argument(groups))
    refuses(before(s, out), r"operator 0 \(et_vk.q8ta_conv2d.*: argument 13, the number of")


@pytest.mark.parametrize("name", ["", "größe", "a\nb", "x" * 1_000_000])
def test_names_that_cannot_be_printed(name: str) -> None:
    refuses(graph([tensor(), tensor()], (name, (0, 1))), r"operator 0: '.{0,64}', of \d+ charac")


# Order.


def test_an_operator_that_makes_a_tensor_twice() -> None:
    values: list[Value] = [tensor(), tensor()]
    twice = ("aten.split_with_sizes_copy.default", (0, 2))
    values.append(ValueList((1, 1)))
    refuses(graph(values, twice), r"operator 0 \(.*\), output: value 1 is made here already")
    later = graph(values, (RELU, (0, 1)), twice)
    refuses(later, r"operator 1 \(.*\), output: value 1 is made here already")


def test_a_tensor_that_is_read_before_it_is_made() -> None:
    values: list[Value] = [tensor(), tensor(), tensor(), ValueList((0, 1))]
    late = (RELU, (0, 1))
    message = r"operator 0 \({}\), argument 0: value 1 is read here, but it is made "
    refuses(
        graph(values, (RELU, (1, 2)), late),
        message.format(RELU) + rf"by operator 1 \({RELU}\)",
    )
    refuses(graph(values, (CAT, (3, 2)), late), message.format(CAT) + "by operator 1")
    refuses(graph(values, (RELU, (1, 2))), message.format(RELU) + "nowhere")
    refuses(graph(values, (RELU, (1, 1))), message.format(RELU) + "here")


def test_clones_that_lead_back() -> None:
    values: list[Value] = [tensor(), tensor(TEX_C), tensor(BUF_W), Null()]
    refuses(graph(values, (CLONE, (1, 3, 1))), r".*argument 0: value 1 .* but it is made here")
    refuses(
        graph(values, (CLONE, (1, 3, 2)), (CLONE, (2, 3, 1))),
        r".*argument 0: value 1 is read here, but it is made by operator 1",
    )
    back = graph(values, (CLONE, (0, 3, 2)), (CLONE, (2, 3, 0)))
    assert [call.args for call in written(back).chain] == [(0, 3, 2), (2, 3, 0)]


def test_outputs_that_cannot_be_written() -> None:
    s = Sketch()
    x, constant = s.input(SHAPE, TEX_C), s.constant(SHAPE)
    call = OperatorCall(0, RELU, (x.before, constant.before))
    refuses(replace(before(s, x), chain=(call,)), "operator 0 .*, output: value 1 is a constant")
    mixed = graph([tensor(), tensor(), Null(), ValueList((1, 2))], (RELU, (0, 3)))
    refuses(mixed, "operator 0 .*, output: a list of tensors with other values among them")


def test_what_a_graph_takes_and_gives() -> None:
    s = Sketch()
    x, constant = s.input(SHAPE, TEX_C), s.constant(SHAPE)
    s.argument((x, x))
    program = before(s)
    for value, kind in ((constant.before, "constant"), (2, "list")):
        message = f"graph {{}} 0: value {value} is a {kind}"
        refuses(replace(program, input_ids=(value,)), message.format("input"))
        refuses(replace(program, output_ids=(value,)), message.format("output"))
    refuses(graph([tensor(), tensor()], outputs=(1,)), "graph output 0: value 1 is made nowhere")


def test_inputs_and_outputs_may_repeat_and_be_the_same() -> None:
    values: list[Value] = [tensor(), tensor(), Int(3)]
    written(graph(values, (RELU, (0, 1)), inputs=(0, 0), outputs=(1, 0, 1, 0, 2)))


def test_graphs_of_nothing() -> None:
    assert written(graph([], inputs=())) == graph([], inputs=())
    written(graph([tensor(BUF_W)]))


# Lists.


def test_lists_that_hold_lists() -> None:
    itself = graph([tensor(), ValueList((0, 1)), tensor()], (CAT, (1, 2)))
    refuses(
        itself,
        rf"operator 0 \({CAT}\), argument 0, value 1: a list cannot hold a list, but has value 1",
    )
    other = graph([tensor(), ValueList((0,)), ValueList((1,))])
    refuses(other, "value 2: a list cannot hold a list, but has value 1")


def test_members_may_repeat() -> None:
    values: list[Value] = [tensor(), tensor(BUF_W), Null(), ValueList((0, 1, 1, 0)), tensor()]
    after = written(graph(values, (CLONE, (0, 2, 1)), (CAT, (3, 4)), outputs=(4,)))
    assert [call.name for call in after.chain] == [CAT]


def test_an_empty_argument_may_be_in_a_list_too() -> None:
    """A transition's empty argument is not its own where builders share it."""
    values: list[Value] = [tensor(TEX_W), tensor(BUF_W), Null(), ValueList((2, 1)), tensor(BUF_W)]
    chain = (RELU, (0, 5)), (CLONE, (5, 2, 1)), (INDEX, (0, 3, 4))
    written(graph([*values, tensor(TEX_W)], *chain, outputs=(4,)))


def test_a_list_that_nothing_names() -> None:
    values: list[Value] = [tensor(), tensor(BUF_W), Null(), ValueList((2, 1, 0))]
    written(graph([*values, tensor()], (CLONE, (0, 2, 1)), (RELU, (1, 4)), outputs=(4,)))


def test_shared_lists_cannot_blow_up() -> None:
    """10 million members, if every operator went through its list."""
    values: list[Value] = [tensor(), ValueList((0,) * 10_000), String("x" * 10_000), Null()]
    for value_id in (1, 2):
        hostile = encode(graph(values, *[(RELU, (value_id, 3))] * 1000))
        tracemalloc.start()
        try:
            with pytest.raises(InputError, match=r"operator 419 .* come to 4200840 items"):
                replan(hostile, "x", OPTIONS[0])
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 100 * len(hostile)


def test_shared_lists_of_tensors_cannot_blow_up() -> None:
    """Each member is work for the solver, be it the same one a million times."""
    values: list[Value] = [tensor(), ValueList((0,) * 1000), tensor()]
    calls = [(CAT, (1, 3 + i)) for i in range(1000)]
    message = r"operator 131 .* lists come to 132000 tensors, .*: at most 131072 can be planned"
    refuses(graph([*values, *[tensor()] * 1000], *calls), message)


def test_a_graph_of_many_values_may_have_as_many_tensors_in_lists() -> None:
    """What is shared cannot blow up; what is there may be planned."""
    many = MAX_LIST_TENSORS + 1000
    values: list[Value] = [tensor(), ValueList((0,) * 1000), *[Null()] * many]
    calls = [(CAT, (1, 2 + many + i)) for i in range(many // 1000)]
    listed = graph([*values, *[tensor()] * len(calls)], *calls)
    check_wellformed(listed, "")
    calls += [(CAT, (1, 2 + many)) for _ in range(2)]
    refuses(graph([*values, *[tensor()] * len(calls)], *calls), r"operator \d+ .* lists come to")


# Memory.


def test_tensors_that_share_memory_while_alive_are_given_other_memory() -> None:
    chain = (RELU, (0, 1)), (ADD, (0, 1, 2))
    shared = [replace(tensor(), mem_obj_id=i) for i in (0, 0, 1)]
    hostile = graph(shared, *chain, outputs=(2,))
    assert sharing_error(hostile) is not None
    after = written(hostile)
    assert sharing_error(after) is None
    assert without_memory(after) == without_memory(hostile)
    apart = [replace(tensor(), mem_obj_id=i) for i in (5, 3, 4)]
    right = graph(apart, *chain, outputs=(2,))
    assert written(right) == right


def without_memory(g: VkGraph) -> VkGraph:
    values = [replace(v, mem_obj_id=-1) if isinstance(v, VkTensor) else v for v in g.values]
    return replace(g, values=tuple(values))


# Tensors.


def test_tensors_that_no_operator_constrains_take_what_the_device_has() -> None:
    int8 = VkDataType.INT8
    given = [tensor(TEX_W), tensor(TEX_H, (1, 1, 2, 2)), tensor(BUF_W), tensor(Q_4W4C, dtype=int8)]
    data = encode(graph([*given, tensor(UNPLANNED)], inputs=(0, 1, 2, 3, 4)))
    for limits, layouts, want in (
        ("10,10,10", [], given),
        ("3,3,2", [], [tensor(BUF_W), *given[1:]]),
        ("10,10,10", ["WIDTH_PACKED"], [tensor(TEX_H), given[1], tensor(TEX_H), given[3]]),
        ("10,10,10", ["4W4C", "4C1W"], [*given[:3], tensor(Q_4H4W, dtype=int8)]),
    ):
        options = make_options("bytes", texture_limits=limits, without_layouts=layouts)
        result = replan(data, "x", options)
        assert decode(result.data).values == (*want, tensor(UNPLANNED))
        assert replan(result.data, "x", options).data == result.data


def test_tensors_that_no_operator_constrains_may_have_nothing_to_take() -> None:
    every = ["WIDTH_PACKED", "HEIGHT_PACKED", "CHANNELS_PACKED"]
    for options, dims, message in (
        ({"texture_limits": "1,1,1", "buffer_limit": 9}, SHAPE, r"within the texture limits 1,1,1"),
        (
            {"buffer_limit": 9},
            (1, 1, 1, 9, 9),
            r"within the buffer limit 9: raise the buffer limit \(",
        ),
        ({"without_layouts": every}, SHAPE, r"accepts only .* is excluded: exclude fewer layouts"),
    ):
        data = encode(graph([tensor(BUF_W, dims)]))
        with pytest.raises(NoRepresentationError, match=f"^delegate 0, value 0 .*{message}"):
            replan(data, "x", make_options("bytes", **options))


TENSORS: dict[str, tuple[VkTensor, str]] = {
    "huge": (tensor(dims=(2**32 - 1, 2)), "a tensor of 4294967295x2 elements: at most 4294967296"),
    "more than 64 bits count": (
        tensor(dims=(2**32 - 1,) * 4),
        "a tensor of 4294967295x4294967295x4294967295x4294967295 elements",
    ),
    "huge but for a zero": (tensor(dims=(0, 2**32 - 1, 2**32 - 1)), "a tensor of 0x4294967295x"),
    "100,000 dimensions": (tensor(BUF_W, (1,) * 100_000), "a tensor of 100000 dimensions: at most"),
    "a texture of five": (tensor(dims=(1,) * 5), "a texture cannot have 5 dimensions"),
    "no type": (tensor(dtype=VkDataType.UNSET), "a tensor without a data type"),
    "TEXTURE_2D": (
        replace(tensor(), storage_type=VkStorageType.TEXTURE_2D),
        "TEXTURE_2D with TENSOR_CHANNELS_PACKED is not a representation of a tensor",
    ),
    "half a representation": (
        replace(tensor(), memory_layout=VkMemoryLayout.DEFAULT_LAYOUT),
        "TEXTURE_3D with DEFAULT_LAYOUT is not a representation",
    ),
    "packed floats": (
        tensor(Q_4W),
        "BUFFER with PACKED_INT8_4W is for INT8 elements, not for FLOAT32",
    ),
    "packed in a texture": (
        replace(tensor(Q_4W), storage_type=VkStorageType.TEXTURE_3D, datatype=VkDataType.INT8),
        "TEXTURE_3D with PACKED_INT8_4W is not a representation",
    ),
}


@pytest.mark.parametrize(("hostile", "message"), TENSORS.values(), ids=TENSORS)
def test_tensors_that_cannot_be(hostile: VkTensor, message: str) -> None:
    used = graph([tensor(), hostile], (RELU, (0, 1)))
    refuses(used, rf"operator 0 \({RELU}\), output, value 1: {message}")
    refuses(graph([hostile]), f"value 0: {message}")


def test_a_constant_with_a_representation() -> None:
    s = Sketch()
    s.call("et_vk.prepack.default", s.constant(SHAPE), s.tensor(SHAPE))
    program = before(s)
    hostile = replace(tensor(), constant_id=0)
    refuses(
        replace(program, values=(hostile, *program.values[1:])),
        "operator 0 .*, argument 0, value 0: a constant has no representation, but this one has "
        "TEXTURE_3D with TENSOR_CHANNELS_PACKED",
    )


def test_tensors_as_large_as_may_be() -> None:
    largest = tensor(UNPLANNED, (2**32 - 1,)), tensor(UNPLANNED, (1, 2**16, 2**16, 1))
    for one in (*largest, tensor(UNPLANNED, (1,) * 64), tensor(UNPLANNED, (0, 5))):
        written(graph([one, one, one], (RELU, (0, 1)), (ADD, (0, 1, 2)), outputs=(2,)))


def test_prices_too_large_to_be_added() -> None:
    rates = {"read": {"default": 1e9}, "write": {"default": 1e9}}
    profile = {"format": "layout-planner-profile", "version": 1, "name": "steep", "unit": "bytes"}
    profile |= {"origin": "model", "transition": {"launch": 0, **rates}}
    shape = (1, 8, 1000, 10_000)
    s = Sketch()
    x = s.input(shape, TEX_C)
    y = s.call("aten.avg_pool2d.default", x, s.tensor(shape, TEX_C))
    out = s.call("aten.mm.default", y, s.tensor(shape, TEX_W))
    data = encode(before(s, out))
    with pytest.raises(InputError, match="tensors are too large for their prices to be added"):
        replan(data, "x", make_options(parse_profile(json.dumps(profile), "steep")))


# Transitions.


def unfolded(*clones: tuple[int, int], copies: Sequence[VkTensor], outputs: int = 0) -> VkGraph:
    """relu makes value 2; then these clones; then an operator takes the first copy, value 4."""
    values: list[Value] = [
        tensor(),
        Null(),
        tensor(),
        ValueList(tuple(range(4, 4 + len(copies)))),
        *copies,
    ]
    out = len(values)
    return graph(
        [*values, tensor(BUF_W)],
        (RELU, (0, 2)),
        *((CLONE, (source, 1, copy)) for source, copy in clones),
        ("aten.unfold_copy.default", (4, 1, out)),
        outputs=(out, *[4] * outputs),
    )


def names(after: VkGraph) -> list[str]:
    return [call.name.split(".")[1] for call in after.chain]


def test_a_transition_is_taken_out() -> None:
    after = written(unfolded((2, 4), copies=[tensor(BUF_W)]))
    assert names(after) == ["relu", "unfold_copy"]


KEPT: dict[str, VkGraph] = {
    "a clone of a copy": unfolded((2, 5), (5, 4), copies=[tensor(TEX_H), tensor(BUF_W)]),
    "a copy that nothing reads": unfolded((2, 4), (2, 5), copies=[tensor(BUF_W), tensor(TEX_H)]),
    "a copy that is an output": unfolded((2, 4), copies=[tensor(BUF_W)], outputs=1),
    "another shape": unfolded((2, 4), copies=[tensor(BUF_W, (1, 480))]),
    "another type": unfolded((2, 4), copies=[tensor(BUF_W, dtype=VkDataType.INT32)]),
    "nothing changes": unfolded((2, 4), copies=[tensor(TEX_C)]),
}


@pytest.mark.parametrize("hostile", KEPT.values(), ids=KEPT)
def test_clones_that_are_no_transitions_stay(hostile: VkGraph) -> None:
    # Of two clones the one that has a reader is a transition, and none is needed any more.
    assert names(written(hostile)) == ["relu", "clone", "unfold_copy"]


def test_of_two_transitions_to_one_representation_one_stays() -> None:
    values: list[Value] = [tensor(), Null(), tensor(BUF_W), tensor(BUF_W), tensor(BUF_W)]
    chain = (CLONE, (0, 1, 2)), (CLONE, (0, 1, 3)), (ADD, (2, 3, 4))
    after = written(graph(values, *chain, outputs=(4,)))
    assert names(after) == ["clone", "add"]


def test_a_copy_keeps_what_was_overwritten() -> None:
    """What is read after the update is the copy that was made before it."""
    s = Sketch()
    step = s.input((1, 1, 2, 8), BUF_W)
    cache = s.call("et_vk.prepack.default", s.constant((1, 4, 2, 8)), s.tensor((1, 4, 2, 8), BUF_W))
    old = s.tensor((1, 4, 2, 8), TEX_H)
    s.call(CLONE, cache, None, old)
    s.call("llama.update_cache.out", step, cache, s.symint(), s.tensor((1,), BUF_W))
    out = s.call(RELU, old, s.tensor((1, 4, 2, 8), TEX_H))
    after = written(before(s, out))
    assert names(after) == ["prepack", "clone", "update_cache", "relu"]


def test_what_an_operator_makes_is_not_what_it_overwrites() -> None:
    """With so few arguments, the place of the one that is written into is that of the output."""
    values: list[Value] = [tensor(BUF_W), tensor(BUF_W), tensor(TEX_C)]
    chain = ("llama.update_cache.default", (0, 1)), ("aten.avg_pool2d.default", (1, 2))
    after = written(graph(values, *chain, outputs=(2,)))
    assert names(after) == ["update_cache", "clone", "avg_pool2d"]


def test_int8_words_that_a_clone_cannot_take_apart() -> None:
    int8 = VkDataType.INT8
    values: list[Value] = [tensor(Q_4C1W, dtype=int8), Null(), tensor(BUF_W, dtype=int8)]
    chain = ("et_vk.q8ta_relu.default", (0, 3)), (CLONE, (3, 1, 2)), (RELU, (2, 4))
    hostile = graph([*values, tensor(Q_4C1W, dtype=int8), tensor(BUF_W, dtype=int8)], *chain)
    with pytest.raises(NoRepresentationError, match="no layouts satisfy all operators at once"):
        planned(hostile)


@pytest.mark.parametrize("reader", ["q8ta_conv2d", "q8ta_conv2d_pw"])
@pytest.mark.parametrize("given", [UNPLANNED, Q_4C1W])
def test_an_int8_clone_of_the_model_is_no_transition(reader: str, given: TensorRepr) -> None:
    """It could change the layout for free; but then it would be gone when planned again."""
    s = Sketch()
    x, y, copy, out = (s.tensor(SHAPE, given, VkDataType.INT8) for _ in range(4))
    s.call("et_vk.q8ta_relu.default", s.input(SHAPE, given, VkDataType.INT8), 0.5, 3, 0.5, 3, x)
    s.call("et_vk.q8ta_relu.default", x, 0.5, 3, 0.5, 3, y)
    s.call(CLONE, x, None, copy)
    quantized_convolution(s, reader, copy, out)
    after = written(before(s, y, out))
    clone = after.chain[names(after).index("clone")]
    source, target = (after.values[clone.args[i]] for i in (0, -1))
    assert isinstance(source, VkTensor) and isinstance(target, VkTensor)
    assert source.memory_layout == target.memory_layout


# Operators that are not known.


def test_unknown_operators_keep_what_they_read_even_if_they_make_no_tensor() -> None:
    values: list[Value] = [tensor(TEX_C), Null(), tensor(TEX_C), tensor(BUF_W), Int(0)]
    chain = (RELU, (0, 2)), (CLONE, (2, 1, 3)), (UNKNOWN, (3, 4))
    after = written(graph(values, *chain))
    read = after.values[after.chain[-1].args[0]]
    assert isinstance(read, VkTensor)
    assert (read.storage_type, read.memory_layout) == (BUF_W.storage_type, BUF_W.memory_layout)


def test_unknown_operators_cannot_keep_what_the_runtime_replaces() -> None:
    dynamic = tensor(Q_CONV2D, dtype=VkDataType.INT8)
    refuses(
        graph([tensor(), dynamic], (UNKNOWN, (0, 1))),
        rf"operator 0 \({UNKNOWN}\), output: .* but PACKED_INT8_CONV2D becomes another one",
    )
    values: list[Value] = [tensor(TEX_C), Null(), tensor(BUF_W), ValueList((0, 2)), tensor()]
    refuses(
        graph(values, (CLONE, (0, 1, 2)), (UNKNOWN, (3, 4))),
        rf"operator 1 \({UNKNOWN}\), argument 0: .* but it reads one tensor in two of them",
    )


@pytest.mark.parametrize("others", [(), (5,)], ids=["full", "with a hole"])
def test_unknown_operators_keep_each_member_of_a_list(others: tuple[int, ...]) -> None:
    values: list[Value] = [tensor(TEX_C), tensor(TEX_C), tensor(BUF_W), tensor(BUF_W)]
    values += [tensor(TEX_C), Null(), ValueList((1, 2, *others))]
    chain = (RELU, (0, 1)), (RELU, (3, 2)), (UNKNOWN, (6, 4))
    after = written(graph(values, *chain, inputs=(0, 3), outputs=(4,)))
    read = after.values[after.chain[-1].args[0]]
    assert isinstance(read, ValueList)
    kept = [after.values[member] for member in read.items]
    assert [v.memory_layout for v in kept[:2] if isinstance(v, VkTensor)] == [
        TEX_C.memory_layout,
        BUF_W.memory_layout,
    ]


def test_the_operator_without_representation_is_named_by_its_place_in_the_file() -> None:
    """Transitions that are taken out count: the file has them."""
    values: list[Value] = [tensor(), Null(), tensor(), tensor(BUF_W), tensor(), tensor()]
    chain = (RELU, (0, 2)), (CLONE, (2, 1, 3)), ("aten.avg_pool2d.default", (3, 4))
    hostile = graph(values, *chain, (RELU, (4, 5)), outputs=(5,))
    with pytest.raises(
        NoRepresentationError,
        match=r"^delegate 0, operator 2 \(aten.avg_pool2d.default\), argument 0 \(1x8x6x10\) "
        r"has no representation within the texture limits 2,2,2: raise the texture limits",
    ):
        replan(encode(hostile), "x", make_options("bytes", texture_limits="2,2,2"))


def test_higher_texture_limits_do_not_help_five_dimensions() -> None:
    dims = (1, 1, 8, 6, 10)
    values = [tensor(BUF_W, dims), tensor(BUF_W, dims)]
    hostile = graph(values, ("aten.avg_pool2d.default", (0, 1)), outputs=(1,))
    with pytest.raises(
        NoRepresentationError,
        match=r"^delegate 0, operator 0 \(aten.avg_pool2d.default\), argument 0 \(1x1x8x6x10\) can "
        r"only be a texture, and textures hold at most 4 dimensions: reshape its tensors or keep",
    ):
        planned(hostile)


def test_advice_is_about_what_there_is_to_change() -> None:
    int8 = VkDataType.INT8
    values: list[Value] = [tensor(Q_4C1W, dtype=int8), tensor(Q_4C1W, dtype=int8)]
    hostile = graph(
        [*values, tensor(BUF_W, dtype=int8)], ("et_vk.q8ta_relu.default", (0, 1)), (RELU, (1, 2))
    )
    places = (
        r"output 0 of operator 0 \(et_vk.q8ta_relu.default\); "
        r"argument 0 of operator 1 \(aten.relu.default\)"
    )
    for options, advice in (
        ({}, "keep the operator out of the delegate"),
        ({"texture_limits": "3,3,3"}, r"raise the texture limits \(texture_limits\)$"),
        ({"without_layouts": ["4W"]}, r"exclude fewer layouts \(without_layouts\)$"),
    ):
        with pytest.raises(
            NoRepresentationError, match=rf"^delegate 0: no layouts .* \({places}\): {advice}"
        ):
            replan(encode(hostile), "x", make_options("bytes", **options))


def test_unknown_operators_beyond_the_texture_limits() -> None:
    hostile = graph([tensor(), tensor(dims=(1, 16385, 1, 1))], (UNKNOWN, (0, 1)))
    with pytest.raises(NoRepresentationError, match=r"output 0 .* within the texture limits"):
        planned(hostile)


def test_unknown_operators_without_tensors_are_left_alone() -> None:
    result = planned(graph([Int(1), Int(2)], (UNKNOWN, (0, 1)), inputs=()))
    assert result.report.delegates[0].pinned_operators == ()


# Size: nothing here may take time beyond what is proportional to it, or recurse.


@pytest.mark.slow
@pytest.mark.parametrize("layouts", [(TEX_C,), (TEX_C, BUF_W)])
def test_two_thousand_clones_in_a_chain(layouts: tuple[TensorRepr, ...]) -> None:
    count = 2000
    values: list[Value] = [Null(), *(tensor(layouts[i % len(layouts)]) for i in range(count + 1))]
    chain = [(CLONE, (i, 0, i + 1)) for i in range(1, count + 1)]
    result = planned(graph(values, *chain, inputs=(1,), outputs=(count + 1,)))
    assert result.program.total.transitions == 0


@pytest.mark.slow
def test_five_thousand_readers_of_a_tensor() -> None:
    readers = 5000
    values: list[Value] = [tensor(), tensor(), *[tensor()] * readers]
    operators = (RELU, "aten.avg_pool2d.default", "aten.unfold_copy.default", "aten.mm.default")
    chain = [(operators[i % 4], (1, 2 + i)) for i in range(readers)]
    outputs = tuple(range(2, 2 + readers))
    result = planned(graph(values, (RELU, (0, 1)), *chain, outputs=outputs))
    assert result.program.total.transitions == 1


def connected(operators: int, seed: int) -> VkGraph:
    """Operators that each read any tensors made before, and that do not like the same layouts."""
    random = Random(seed)
    one = ("aten.avg_pool2d.default", "aten.unfold_copy.default", "aten.mm.default")
    chain: list[tuple[str, tuple[int, ...]]] = []
    for made in range(1, operators + 1):
        name = random.choice((*[ADD] * 6, *one))
        read = [random.randrange(made) for _ in range(2 if name == ADD else 1)]
        chain.append((name, (*read, made)))
    return graph([tensor()] * (operators + 1), *chain, outputs=(operators,))


def keep_every_label(monkeypatch: pytest.MonkeyPatch) -> None:
    """Solves without leaving out labels that no optimum needs."""
    monkeypatch.setattr(sys.modules["solver.solve"], "undominated", lambda problem: None)


@pytest.mark.slow
def test_densely_connected_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their tables are too large for elimination, but not for a search that is given small ones."""
    data = encode(connected(40, seed=0))
    easy = replan(data, "x", OPTIONS[0])
    assert easy.delegates[0].layout_plan.solution.statistics.core == 0
    keep_every_label(monkeypatch)
    result = replan(data, "x", OPTIONS[0])
    assert result.report.total.repack_cost == easy.report.total.repack_cost
    plan = result.delegates[0].layout_plan
    assert plan.solution.statistics.core > 20
    assert plan.status is Status.OPTIMAL
    assert replan(result.data, "x", OPTIONS[0]).data == result.data


@pytest.mark.slow
def test_a_search_without_time_gives_no_worse_than_the_file_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keep_every_label(monkeypatch)
    monkeypatch.setattr("solver.core._FIRST_TABLE", 4)
    monkeypatch.setattr("solver.core._FIRST_CHOICES", 1)
    dense = encode(connected(60, seed=0))
    best = replan(dense, "x", OPTIONS[0])
    monkeypatch.setattr(
        "planner.pipelines.lowered.plan_graph", partial(plan_graph, search_seconds=0.0)
    )
    quick = replan(dense, "x", OPTIONS[0])
    kept = replan(best.data, "x", OPTIONS[0])
    assert kept.report.total.status == "FEASIBLE"
    assert kept.data == best.data
    better = replan(quick.data, "x", OPTIONS[0])
    costs = [r.report.total.repack_cost for r in (best, better, quick)]
    assert quick.report.total.bound <= costs[0] <= costs[1] <= costs[2] != costs[0]


@pytest.mark.slow
def test_a_search_that_finds_nothing_keeps_the_layouts_of_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A limit of the solver is no fault of the file."""
    keep_every_label(monkeypatch)
    data = replan(encode(connected(40, seed=0)), "x", OPTIONS[0]).data
    monkeypatch.setattr("solver.core.fits", lambda tables: False)

    def too_large(*_: object) -> None:
        raise ProblemError("the costs are too large for CP-SAT to add")

    for limit in ("solver.cpsat.MODEL_LIMIT", "solver.cpsat._Model.minimise"):
        with monkeypatch.context() as patch:
            patch.setattr(limit, 0 if limit.endswith("LIMIT") else too_large)
            kept = replan(data, "x", OPTIONS[0])
        assert kept.report.total.status == "FEASIBLE"
        assert kept.data == data


# Anything.


def attempt(data: bytes) -> None:
    """Plans for both objectives: a plan that stays when it is planned again, or one clear line.

    ``VerificationError`` is not among what may come out: it would be the planner's own mistake.
    """
    for options in OPTIONS:
        try:
            result = replan(data, "x", options)
        except (InputError, NoRepresentationError) as error:
            assert "\n" not in str(error) and len(str(error)) < 1000
        else:
            assert replan(result.data, "x", options).data == result.data


@pytest.mark.slow
@given(changed_graphs())
@settings(max_examples=EXAMPLES)
def test_changed_graphs(hostile: VkGraph) -> None:
    attempt(encode(hostile))


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [bytes, lambda data: join_delegate(data, b"constants")])
@given(data=st.data())
@settings(max_examples=EXAMPLES)
def test_changed_bytes(wrap: Callable[[bytes], bytes], data: st.DataObject) -> None:
    changed = bytearray(wrap(encode(data.draw(st.sampled_from(SOURCES)))))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed) - 1))
        patch = data.draw(
            st.one_of(
                st.binary(min_size=1, max_size=4),
                st.integers(-64, 64).map(lambda number: struct.pack("<i", number)),
                st.sampled_from([b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80"]),
            )
        )
        changed[at : at + len(patch)] = patch
    attempt(bytes(changed))
