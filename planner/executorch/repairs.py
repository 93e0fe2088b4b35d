"""What ExecuTorch writes wrongly, or differently from day to day, is written right and alike."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from torch.fx import GraphModule

from planner.executorch.patches import Hook, replaced
from planner.executorch.vkgraph import tensor_names
from planner.result.program import TensorNames
from schema import split_delegate


class Scalars(dict[Any, int]):
    """The builder's scalars by value, with 1 and 1.0 kept apart.

    ExecuTorch's own dictionary takes them for one. A convolution whose ``groups`` of 1 then shares
    a value with a scale of 1.0 reads an integer from a double when the program is loaded.
    """

    def __contains__(self, scalar: object) -> bool:
        return super().__contains__((type(scalar), scalar))

    def __getitem__(self, scalar: Any) -> int:
        return super().__getitem__((type(scalar), scalar))

    def __setitem__(self, scalar: Any, value_id: int) -> None:
        super().__setitem__((type(scalar), scalar), value_id)

    def get(self, scalar: Any, default: Any = None) -> Any:
        """The value of a scalar, or ``default``."""
        return super().get((type(scalar), scalar), default)


def in_graph_order(specs: Collection[Any], graph_module: GraphModule) -> list[Any]:
    """Tensor specs in the order in which the nodes of a graph have them.

    ExecuTorch plans memory from a set of them, whose order is that of addresses in this process:
    the same program would get other memory objects on another day.
    """
    position: dict[int, int] = {}
    for node in graph_module.graph.nodes:
        found = node.meta.get("spec")
        for spec in found if isinstance(found, (list, tuple)) else [found]:
            position.setdefault(id(spec), len(position))
    return sorted(specs, key=lambda spec: position[id(spec)])


def ordered_memory(place: Any) -> Callable[..., Any]:
    """ExecuTorch's memory planner, given tensors in the graph's order."""

    def place_in_order(
        alignment: int, specs: Any, graph: GraphModule, *args: Any, **kw: Any
    ) -> Any:
        return place(alignment, in_graph_order(specs, graph), graph, *args, **kw)

    return place_in_order


@contextmanager
def mending() -> Iterator[TensorNames]:
    """Keeps ExecuTorch's own layouts in what its body lowers, but writes them as we do.

    Gives the names of tensors in the graphs that were written. Raises as ``replaced`` does.
    """
    names: dict[str, dict[int, str]] = {}
    latest: Any = None

    def building(make_builder: Any) -> Callable[..., Any]:
        def build(*args: Any, **kw: Any) -> Any:
            nonlocal latest
            latest = make_builder(*args, **kw)
            latest.const_scalar_to_value_ids = Scalars()
            return latest

        return build

    def writing(serialize: Any) -> Callable[..., Any]:
        def write(*args: Any) -> Any:
            blob = serialize(*args)
            graph = hashlib.sha256(split_delegate(blob).flatbuffer).hexdigest()
            # Delegates that are alike share a graph in the file: the first one names its tensors.
            names.setdefault(graph, tensor_names(latest))
            return blob

        return write

    with replaced(
        {
            Hook.MEMORY_PLANNER: ordered_memory,
            Hook.GRAPH_BUILDER: building,
            Hook.SERIALISER: writing,
        }
    ):
        yield names
