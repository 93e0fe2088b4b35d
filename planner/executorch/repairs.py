"""What ExecuTorch writes wrongly, or differently from day to day, is written right and alike."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from torch.fx import GraphModule
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from planner.executorch.baseline import detached_copy
from planner.executorch.fusion import kept_patterns
from planner.executorch.lowerable import lowerable
from planner.executorch.patches import Hook, Wrapper, replaced
from planner.executorch.placement import placing
from planner.executorch.shortcuts import shortcuts
from planner.executorch.vkgraph import flatbuffer_of, tensor_names
from planner.kernels.releases import Runtime
from planner.stopwatch import stopwatch
from schema import split_delegate

_LATEST: Final = Runtime()


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


@dataclass(slots=True)
class Mended:
    """What is found out while programs are lowered with ExecuTorch's own layouts.

    ``names`` are those of the tensors in the graphs that were written, ``baseline_seconds`` how
    long ExecuTorch's layout pass took for each: both by the SHA-256 of the graph's flatbuffer.
    ``unplaced`` are operators, by their nodes' names, that only limits kept off the GPU.
    """

    names: dict[str, dict[int, str]] = field(default_factory=dict)
    baseline_seconds: dict[str, float] = field(default_factory=dict)
    unplaced: dict[str, str] = field(default_factory=dict)


class _TimedPass(PassBase):
    """ExecuTorch's layout pass; ``on_time`` gets the least of so many times that it took."""

    def __init__(self, own: Any, repeats: int, on_time: Callable[[float], None]) -> None:
        super().__init__()
        self._own = own
        self._repeats = repeats
        self._on_time = on_time

    def call(self, graph_module: GraphModule) -> PassResult:
        trials = [detached_copy(graph_module) for _ in range(self._repeats - 1)]
        times = []
        for target in (*trials, graph_module):
            with stopwatch() as watch:
                result: PassResult = self._own.call(target)
            times.append(watch.seconds)
        self._on_time(min(times))
        return result


@contextmanager
def mending(repeats: int = 1, runtime: Runtime = _LATEST) -> Iterator[Mended]:
    """Keeps ExecuTorch's own layouts in what its body lowers, but writes them as we do.

    Scalars of different types stay apart, and the same program gets the same memory objects: see
    ``Scalars`` and ``in_graph_order``. With ``repeats``, its layout pass runs that many times, and
    the least time is kept. What the ``runtime`` cannot do is not lowered, if it is not Vulkan's.
    Raises as ``replaced`` does.
    """
    mended = Mended()
    latest: Any = None
    seconds = 0.0

    def take_time(found: float) -> None:
        nonlocal seconds
        seconds = found

    def timing(make_pass: Any) -> Callable[..., Any]:
        return lambda *args, **kw: _TimedPass(make_pass(*args, **kw), repeats, take_time)

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
            mended.names.setdefault(graph, tensor_names(latest))
            mended.baseline_seconds.setdefault(graph, seconds)
            return blob

        return write

    hooks: dict[Hook, Wrapper] = {
        **kept_patterns(),
        **shortcuts(),
        **lowerable(),
        Hook.SUPPORT: placing(mended.unplaced, runtime),
        Hook.LAYOUT_PASS: timing,
        Hook.MEMORY_PLANNER: ordered_memory,
        Hook.GRAPH_BUILDER: building,
        Hook.FLATBUFFER: lambda _: flatbuffer_of,
        Hook.SERIALISER: writing,
    }
    with replaced(hooks):
        yield mended
