"""Writes a layout plan into a delegate's graph module, as ExecuTorch's own pass would."""

from __future__ import annotations

from typing import Final

import executorch.backends.vulkan.serialization.vulkan_graph_schema as etvk
import executorch.backends.vulkan.utils as etvk_utils
from executorch.exir.dialects._ops import ops as exir_ops
from executorch.exir.tensor import TensorSpec
from torch.fx import Node
from torch.fx.node import map_arg

from planner.executorch.reader import FxGraph
from planner.ir.representation import REPRS, TensorRepr
from planner.optimise.plan import LayoutPlan, Transition

_CLONE: Final = exir_ops.edge.aten.clone.default
_TAGS: Final = {
    r: etvk_utils.TensorRepr(
        etvk.VkStorageType(int(r.storage_type)), etvk.VkMemoryLayout(int(r.memory_layout))
    )
    for r in REPRS
}


def write_graph_module(fx: FxGraph, plan: LayoutPlan) -> tuple[Node, ...]:
    """Tags every tensor of the graph module with its representation and inserts transitions.

    A transition stands right before the first operator that needs it. Returns their nodes, in the
    plan's order.
    """
    for (node, place), representation in zip(fx.makers, plan.made, strict=True):
        if representation is not None and not node.meta.get("etvk_tensorref", False):
            spec = node.meta["spec"]
            _tag(spec if place is None else spec[place], representation)
    for node, t in fx.tensor_of.items():
        # A getitem may have a spec of its own.
        representation = plan.made[t]
        if representation is not None and node is not fx.makers[t][0]:
            _tag(node.meta["spec"], representation)

    return tuple(_insert_transition(fx, transition) for transition in plan.transitions)


def _insert_transition(fx: FxGraph, transition: Transition) -> Node:
    clone: Node | None = None

    def repacked(node: Node) -> Node:
        nonlocal clone
        if fx.tensor_of.get(node) != transition.tensor:
            return node
        if clone is None:
            clone = _insert_clone(fx.nodes[transition.users[0].operator], node)
            _tag(clone.meta["spec"], transition.target)
        return clone

    for user in transition.users:
        node = fx.nodes[user.operator]
        args = list(node.args)
        args[user.argument] = map_arg(args[user.argument], repacked)
        node.args = tuple(args)
    assert clone is not None
    return clone


def _tag(spec: TensorSpec, representation: TensorRepr) -> None:
    spec.etvk_node_repr = _TAGS[representation]


def _insert_clone(before: Node, source: Node) -> Node:
    graph = before.graph
    with graph.inserting_before(before):
        clone = graph.create_node("call_function", _CLONE, (source,))
    clone.meta["val"] = source.meta["val"]
    clone.meta["spec"] = TensorSpec.from_tensor(source.meta["val"])
    clone.meta["spec"].const = False
    return clone
