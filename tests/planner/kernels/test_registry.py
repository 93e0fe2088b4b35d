"""The registry against the installed executorch: operator by operator, node by node."""

from __future__ import annotations

import itertools
from typing import Any

import executorch.backends.vulkan.utils as etvk
import pytest
import torch
from executorch.backends.vulkan import op_registry
from executorch.exir.dialects._ops import ops as exir_ops
from torch._subclasses.fake_tensor import FakeTensorMode

from planner.executorch.reader import read_graph_module
from planner.ir import representation
from planner.ir.graph import TensorArg
from planner.ir.physical import DEFAULT_TEXTURE_LIMITS, SMALL_TEXTURE_LIMITS, fitting, image_extents
from planner.ir.representation import REPRS, PackedDimInfo, TensorRepSet
from planner.kernels.registry import lookup, registered_names
from planner.kernels.rep_sets import OpRepSets, op_rep_sets
from schema import VkMemoryLayout, VkStorageType
from tests.planner.programs import PROGRAMS, lower_greedily

LIMITS = (DEFAULT_TEXTURE_LIMITS, SMALL_TEXTURE_LIMITS, (32, 32, 16), (4, 4, 4))


def ours(theirs: Any) -> TensorRepSet:
    """One of ExecuTorch's rep sets as one of ours."""
    return TensorRepSet.of(
        buffer=[VkMemoryLayout(int(x)) for x in theirs.valid_buffer_layouts],
        texture=[VkMemoryLayout(int(x)) for x in theirs.valid_texture_layouts],
    )


def name_of(key: Any) -> str:
    """The name that a VkGraph has for a key of ExecuTorch's registry."""
    return key.replace("::", ".") if isinstance(key, str) else key.__name__


def test_every_registered_operator_has_the_same_sets() -> None:
    for key, features in op_registry.vulkan_supported_ops.items():
        mine = lookup(name_of(key))
        assert mine is not None, f"{key} is missing"
        assert mine.inputs == tuple(map(ours, features.inputs_storage.vals)), key
        assert mine.outputs == tuple(map(ours, features.outputs_storage.vals)), key
        assert (mine.pick is None) == (features.pick_io_storage_fn is None), key


def test_nothing_else_is_registered() -> None:
    theirs = {name_of(key) for key in op_registry.vulkan_supported_ops}
    bare = {name.split(".")[1] for name in theirs if name.count(".") == 1}
    assert set(registered_names()) <= theirs | bare


@pytest.mark.parametrize("name", [n for n in dir(representation) if n.isupper()])
def test_constants_of_the_same_name_are_equal(name: str) -> None:
    mine, theirs = getattr(representation, name), getattr(etvk, name, None)
    if isinstance(mine, TensorRepSet):
        assert theirs is not None, f"ExecuTorch has no {name}"
        assert mine == ours(theirs)


def test_packed_dims_are_equal() -> None:
    for r in REPRS:
        if r.memory_layout == VkMemoryLayout.PACKED_INT8_4C:
            continue  # chosen by the runtime only: the Python side does not know it
        theirs = etvk.PackedDimInfo.from_repr(
            etvk.VkMemoryLayout(int(r.memory_layout)), etvk.VkStorageType(int(r.storage_type))
        )
        mine = PackedDimInfo.of(r)
        assert mine.packed_dim == theirs.packed_dim
        assert mine.packed_dim_block_size == theirs.packed_dim_block_size


def test_texture_extents_and_limits_are_equal() -> None:
    sizes = (1, 3, 4, 5, 17)
    for shape in itertools.chain.from_iterable(
        itertools.product(sizes, repeat=n) for n in range(5)
    ):
        for layout in representation.FLOAT_LAYOUTS:
            theirs = etvk.required_image_extents(
                torch.Size(shape), etvk.VkMemoryLayout(int(layout))
            )
            assert image_extents(shape, layout) == theirs, (shape, layout)
    for limits in LIMITS:
        for shape in ((), (70,), (70, 3), (20, 5, 5), (3, 20, 5, 5), (1, 2, 3, 4, 5)):
            fits = fitting(shape, limits)
            theirs = etvk.filter_invalid_reprs(torch.empty(shape), etvk.ANY_STORAGE, limits)
            assert fits & representation.ANY_STORAGE == ours(theirs), (shape, limits)


def assert_same(node: Any, mine: OpRepSets, limits: tuple[int, int, int]) -> None:
    """Compares what a node accepts, operand by operand, and its synchronisation rules."""
    features = op_registry.get_op_features(node.target)
    theirs = features.make_op_repsets(node, limits)
    where = f"{node.format_node()} at {limits}"
    assert mine.sync_args == theirs.sync_args_repr, where
    assert mine.sync_outs == theirs.sync_outs_repr, where
    assert mine.sync_primary_io == theirs.sync_primary_io_repr, where
    assert mine.primary_arg == theirs.primary_arg_idx, where
    for i, arg in enumerate(mine.args):
        if arg is not None:
            assert arg == ours(theirs.get_arg_repset(i)), f"argument {i} of {where}"
        elif i < len(node.args) and etvk.is_tensor_arg_node(node.args[i]):
            registered = (
                features.pick_io_storage_fn(node)[0]
                if features.pick_io_storage_fn
                else (features.inputs_storage.vals)
            )
            assert etvk.TensorRepSetList(registered)[i].is_empty(), f"argument {i} of {where}"
    assert len(mine.outs) == etvk.num_tensors_in_node(node), where
    for i, out in enumerate(mine.outs):
        assert out == ours(theirs.get_out_repset(i)), f"output {i} of {where}"


def compare(graph_module: Any, limits: tuple[int, int, int]) -> set[str]:
    """Compares every node of a graph module; returns the names of those that were compared."""
    fx = read_graph_module(graph_module)
    seen = set()
    for node, operator in zip(fx.nodes, fx.graph.operators, strict=True):
        mine = op_rep_sets(operator, fx.graph.tensors, limits)
        registered = etvk.is_tensor_node(node) and op_registry.has_impl(node.target)
        assert (mine is not None) == registered, node.format_node()
        if mine is not None:
            assert_same(node, mine, limits)
            seen.add(operator.name)
    return seen


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_node_of_real_models_has_the_same_sets(name: str) -> None:
    seen: set[str] = set()
    for graph_module in lower_greedily(name).graph_modules:
        for limits in LIMITS:
            seen |= compare(graph_module, limits)
    assert len(seen) >= 3


class Call:
    """Builds a graph module of one operator on fake tensors."""

    def __init__(self) -> None:
        self.graph = torch.fx.Graph()
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)

    def tensor(self, *shape: int, dtype: torch.dtype = torch.float32) -> Any:
        node = self.graph.placeholder(f"x{len(self.graph.nodes)}")
        with self.mode:
            node.meta["val"] = torch.empty(shape, dtype=dtype)
        return node

    def compare(self, target: Any, *args: Any) -> None:
        node = self.graph.call_function(target, args)
        with self.mode:
            node.meta["val"] = target._op(*torch.fx.node.map_arg(args, lambda n: n.meta["val"]))
        self.graph.output(node)
        for limits in LIMITS:
            assert compare(torch.fx.GraphModule({}, self.graph), limits) == {target.__name__}


aten = exir_ops.edge.aten


@pytest.mark.parametrize("target", [aten.mean.dim, aten.sum.dim_IntList, aten.amax.default])
@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize(
    ("shape", "dims"),
    [
        ((6, 7), [1]),
        ((6, 7), [-1]),
        ((6, 7), [0]),
        ((6, 7), [0, 1]),
        ((2, 6, 7), [2]),
        ((2, 6, 7), [1, 2]),
        ((2, 6, 7), [0, -1]),
        ((3, 2, 6, 7), [2, 3]),
        ((3, 2, 6, 7), [1, 3]),
        ((3, 2, 6, 7), [0, 1]),
        ((3, 2, 6, 7), [1]),
        ((3, 2, 6, 7), [3]),
    ],
)
def test_reductions(target: Any, keepdim: bool, shape: tuple[int, ...], dims: list[int]) -> None:
    call = Call()
    call.compare(target, call.tensor(*shape), dims, keepdim)


@pytest.mark.parametrize("target", [aten.argmax.default, aten.argmin.default])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_arg_reductions(target: Any, dim: int) -> None:
    call = Call()
    call.compare(target, call.tensor(6, 7), dim, True)


@pytest.mark.parametrize(
    ("channels", "out", "per_group", "kernel", "groups"),
    [(4, 4, 1, 3, 4), (4, 8, 4, 1, 1), (4, 8, 4, 3, 1), (4, 8, 1, 3, 4), (1, 1, 1, 3, 1)],
)
def test_1d_convolutions(channels: int, out: int, per_group: int, kernel: int, groups: int) -> None:
    call = Call()
    x, weight = call.tensor(1, channels, 9), call.tensor(out, per_group, kernel)
    call.compare(aten.convolution.default, x, weight, None, [1], [0], [1], False, [0], groups)


@pytest.mark.parametrize("source", [torch.float32, torch.float16, torch.int32, torch.bool])
@pytest.mark.parametrize("target", [torch.float32, torch.float16, torch.int32, torch.bool])
def test_casts(source: torch.dtype, target: torch.dtype) -> None:
    graph = torch.fx.Graph()
    node = graph.placeholder("x")
    mode = FakeTensorMode()
    with mode:
        node.meta["val"] = torch.empty((2, 3, 4), dtype=source)
        cast = graph.call_function(aten._to_copy.default, (node,), {"dtype": target})
        cast.meta["val"] = torch.empty((2, 3, 4), dtype=target)
    graph.output(cast)
    assert compare(torch.fx.GraphModule({}, graph), DEFAULT_TEXTURE_LIMITS)


@pytest.mark.parametrize("shape", [(9,), (9, 4), (2, 9, 4)])
def test_index(shape: tuple[int, ...]) -> None:
    call = Call()
    call.compare(aten.index.Tensor, call.tensor(*shape), [call.tensor(2, dtype=torch.int32)])


def test_index_along_an_inner_dimension_reads_its_list_as_no_tensor() -> None:
    call = Call()
    x, index = call.tensor(2, 9, 4), call.tensor(2, dtype=torch.int32)
    node = call.graph.call_function(aten.index.Tensor, (x, [None, index]))
    with call.mode:
        node.meta["val"] = torch.empty(2, 2, 4)
    call.graph.output(node)
    graph_module = torch.fx.GraphModule({}, call.graph)
    assert compare(graph_module, DEFAULT_TEXTURE_LIMITS) == {"aten.index.Tensor"}
    operator = read_graph_module(graph_module).graph.operators[0]
    assert [index for index, _ in operator.tensor_args()] == [0]
    assert operator.args[0] == TensorArg(0)


def test_a_texture_is_never_int8() -> None:
    assert not any(r.is_packed_int8 and r.storage_type != VkStorageType.BUFFER for r in REPRS)
