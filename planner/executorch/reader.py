"""Reads a delegate's graph module, at the point where ExecuTorch would tag its layouts."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, Final

import torch
from executorch.exir.sym_util import eval_shape_upper_bound
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import GraphModule, Node

from planner.ir.graph import (
    Argument,
    LayoutGraph,
    Operator,
    Symbolic,
    Tensor,
    TensorArg,
    TensorListArg,
)
from planner.ir.representation import TensorRepr
from schema import VkDataType, VkMemoryLayout, VkStorageType
from schema.frozen import frozen

_DTYPES: Final = {
    torch.bool: VkDataType.BOOL,
    torch.uint8: VkDataType.UINT8,
    torch.int8: VkDataType.INT8,
    torch.int32: VkDataType.INT32,
    torch.int64: VkDataType.INT64,
    torch.float16: VkDataType.FLOAT16,
    torch.float32: VkDataType.FLOAT32,
    torch.float64: VkDataType.FLOAT64,
}
_DOWNCAST: Final = {torch.int64: VkDataType.INT32, torch.float64: VkDataType.FLOAT32}
STORED_AS: Final = _DTYPES | _DOWNCAST
"""The types of elements on the GPU, where a program is lowered without options about them."""


@frozen
class FxGraph:
    """A graph module as a layout graph, with the nodes that its parts come from.

    ``makers[t]`` is the node whose value holds tensor ``t`` (and the place in it, for one of
    several); ``nodes[i]`` is operator ``i``; ``tensor_of`` knows every node that is one tensor,
    ``getitem`` nodes among them.
    """

    graph: LayoutGraph
    nodes: tuple[Node, ...]
    makers: tuple[tuple[Node, int | None], ...]
    tensor_of: Mapping[Node, int]


def read_graph_module(
    graph_module: GraphModule,
    *,
    name: str = "",
    downcast_64_bit: bool = True,
    force_fp16: bool = False,
    aliases: Mapping[str, str] | None = None,
) -> FxGraph:
    """Reads a graph module whose nodes have ``val`` and whose weights are ``etvk_tensorref``.

    Two options are those of the Vulkan delegate: they say how elements are stored on the GPU.
    ``aliases`` names nodes that write into the tensor of an earlier one, and that one.
    """
    return _Reader(downcast_64_bit, force_fp16, aliases or {}).read(graph_module, name)


def get_repr(node: Node) -> tuple[TensorRepr | None, ...]:
    """The representations that ExecuTorch's pass gave the tensors of a node."""
    spec = node.meta.get("spec")
    specs = spec if isinstance(spec, (list, tuple)) else [spec]
    return tuple(_repr_of(getattr(s, "etvk_node_repr", None)) for s in specs)


def _repr_of(tag: Any) -> TensorRepr | None:
    if tag is None or int(tag.storage_type) == VkStorageType.DEFAULT_STORAGE:
        return None
    return TensorRepr(VkStorageType(int(tag.storage_type)), VkMemoryLayout(int(tag.memory_layout)))


def _all_arguments(node: Node) -> list[Any]:
    """A node's arguments in the order of the schema, those left out too, as a VkGraph has them."""
    schema = getattr(node.target, "_schema", None)
    rest = [] if schema is None else schema.arguments[len(node.args) :]
    return [*node.args, *(node.kwargs.get(arg.name, arg.default_value) for arg in rest)]


class _Reader:
    def __init__(self, downcast_64_bit: bool, force_fp16: bool, aliases: Mapping[str, str]) -> None:
        self.force_fp16 = force_fp16
        self.aliases = aliases
        self.named: dict[str, int] = {}  # tensors by the names of their nodes
        self.dtypes = dict(STORED_AS if downcast_64_bit else _DTYPES)
        if force_fp16:
            self.dtypes[torch.float32] = VkDataType.FLOAT16
        self.tensors: list[Tensor] = []
        self.makers: list[tuple[Node, int | None]] = []
        self.tensor_of: dict[Node, int] = {}
        self.outputs_of: dict[Node, tuple[int, ...]] = {}

    def read(self, graph_module: GraphModule, name: str) -> FxGraph:
        operators: list[Operator] = []
        nodes: list[Node] = []
        inputs: list[int] = []
        outputs: list[int] = []
        for node in graph_module.graph.nodes:
            if node.op == "call_function":
                if node.target is operator.getitem and node.args[0] in self.outputs_of:
                    self.tensor_of[node] = self.outputs_of[node.args[0]][node.args[1]]
                    continue
                made = self._values(node)
                operators.append(
                    Operator(
                        node.target.__name__,
                        tuple(self._argument(a) for a in _all_arguments(node)),
                        made,
                    )
                )
                nodes.append(node)
            elif node.op in ("placeholder", "get_attr"):
                made = self._values(node)
                if not node.meta.get("etvk_tensorref", False):
                    inputs.extend(made)
            elif node.op == "output":
                outputs.extend(
                    self.tensor_of[n] for n in node.all_input_nodes if n in self.tensor_of
                )
        return FxGraph(
            graph=LayoutGraph(
                name=name,
                tensors=tuple(self.tensors),
                operators=tuple(operators),
                inputs=tuple(inputs),
                outputs=tuple(outputs),
                textures_first=self.force_fp16,
            ),
            nodes=tuple(nodes),
            makers=tuple(self.makers),
            tensor_of=self.tensor_of,
        )

    def _values(self, node: Node) -> tuple[int, ...]:
        """Adds the tensors that a node makes and returns their indices."""
        value = node.meta.get("val")
        if isinstance(value, FakeTensor):
            written = self.named.get(self.aliases.get(node.name, ""))
            index = self._add_tensor(node, None, value, node.name) if written is None else written
            self.tensor_of[node] = self.named[node.name] = index
            return (index,)
        if isinstance(value, (list, tuple)) and all(isinstance(v, FakeTensor) for v in value):
            made = tuple(
                self._add_tensor(node, i, v, f"{node.name}.{i}") for i, v in enumerate(value)
            )
            self.outputs_of[node] = made
            return made
        return ()

    def _add_tensor(self, node: Node, place: int | None, value: FakeTensor, name: str) -> int:
        shape = tuple(value.shape)
        if any(type(size) is not int for size in shape):
            shape = tuple(eval_shape_upper_bound(value.shape))
        self.tensors.append(
            Tensor(name, shape, self.dtypes[value.dtype], node.meta.get("etvk_tensorref", False))
        )
        self.makers.append((node, place))
        return len(self.tensors) - 1

    def _argument(self, arg: Any) -> Argument:
        if isinstance(arg, Node):
            index = self.tensor_of.get(arg)
            return Symbolic.VALUE if index is None else TensorArg(index)
        if isinstance(arg, (list, tuple)):
            if any(isinstance(a, Node) and a in self.tensor_of for a in arg):
                return TensorListArg(tuple(self.tensor_of.get(a) for a in arg))
            return tuple(
                a if a is None or isinstance(a, (bool, int, float, str)) else Symbolic.VALUE
                for a in arg
            )
        if isinstance(arg, (bool, int, float, str)):
            return arg
        return None if arg is None else Symbolic.VALUE
