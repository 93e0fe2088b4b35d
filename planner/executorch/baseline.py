"""What ExecuTorch's own pass does with the same graph."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch.fx import GraphModule, Node

from planner.executorch.reader import FxGraph, get_repr
from planner.ir.graph import Layouts, Operand, Repack
from planner.stopwatch import stopwatch
from schema.frozen import frozen


@frozen
class GreedyRun:
    """The layouts that the greedy pass chose, and how many seconds it took."""

    layouts: Layouts
    seconds: float


def detached_copy(graph_module: GraphModule) -> GraphModule:
    """A copy of a graph module whose tensor specs can be tagged without touching the original's."""
    graph = copy.deepcopy(graph_module.graph)
    specs: dict[int, Any] = {}

    def own(spec: Any) -> Any:
        if isinstance(spec, (list, tuple)):
            return type(spec)(own(s) for s in spec)
        return specs.setdefault(id(spec), copy.copy(spec))

    for node in graph.nodes:
        if "spec" in node.meta:
            node.meta["spec"] = own(node.meta["spec"])
    return GraphModule(graph_module, graph)


def run_greedy(
    graph_module: GraphModule, greedy: Callable[[GraphModule], object], fx: FxGraph
) -> GreedyRun:
    """Runs the greedy pass on a detached copy of the graph that ``fx`` was read from.

    Its transitions are the nodes that it adds.
    """
    originals = {node.name for node in graph_module.graph.nodes}
    with stopwatch() as watch:
        greedy(graph_module)

    by_name = {node.name: node for node in graph_module.graph.nodes}
    tensor_of = {node.name: t for node, t in fx.tensor_of.items()}
    operator_of = {node.name: i for i, node in enumerate(fx.nodes)}
    repacks = []
    for node in graph_module.graph.nodes:
        if node.name in originals:
            continue
        source, (made,), (target,) = node.args[0], get_repr(node.args[0]), get_repr(node)
        assert made is not None and target is not None
        users = tuple(_readers(node, operator_of))
        repacks.append(Repack(tensor_of[source.name], made, target, users))
    made_as = tuple(
        None if tensor.constant else get_repr(by_name[maker.name])[place or 0]
        for tensor, (maker, place) in zip(fx.graph.tensors, fx.makers, strict=True)
    )
    return GreedyRun(Layouts(made_as, repacks), watch.seconds)


def _readers(copy: Node, operator_of: Mapping[str, int]) -> Iterator[Operand]:
    """The arguments that are a repacked copy, or have it in a list, in the graph's order."""
    for user in sorted(copy.users, key=lambda node: operator_of[node.name]):
        for position, argument in enumerate(user.args):
            if argument is copy or (isinstance(argument, (list, tuple)) and copy in argument):
                yield Operand(operator_of[user.name], position)
