"""ExecuTorch's patterns of operators to fuse, made where they can match, and once a process.

ExecuTorch exports and lowers its patterns of rotary embeddings anew for every delegate and for
every partition, whatever is in it. They depend on nothing, and matching only reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

from torch.fx import GraphModule

from planner.executorch.patches import Hook, Wrapper

_BOTH: Final = frozenset(
    {
        *("aten.add.Tensor", "aten.cat.default", "aten.mul.Tensor"),
        *("aten.slice_copy.Tensor", "aten.unsqueeze_copy.default"),
    }
)

NEEDED: Final[dict[Hook, frozenset[str]]] = {
    Hook.ROPE_PATTERNS: _BOTH
    | {"aten.sub.Tensor", "aten.squeeze_copy.dims", "aten.view_copy.default"},
    Hook.HF_ROPE_PATTERNS: _BOTH | {"aten.neg.default"},
}
"""Operators that are in each of a maker's patterns: a graph that lacks one has no match."""

_kept: Final = cache(cache)
"""A maker that is asked once: the same one for the same maker."""


def kept_patterns() -> dict[Hook, Wrapper]:
    """What makes patterns once a process, and only for a graph that may match them."""
    graph_module: GraphModule | None = None

    def noting(fuse: Any) -> Callable[..., Any]:
        def fuse_in(*args: Any) -> Any:
            nonlocal graph_module
            graph_module = args[-1]
            try:
                return fuse(*args)
            finally:
                graph_module = None

        return fuse_in

    def making(needed: frozenset[str]) -> Wrapper:
        def wrap(make: Any) -> Callable[..., Any]:
            def make_if_needed() -> list[GraphModule]:
                if graph_module is not None and not needed <= _operators(graph_module):
                    return []
                patterns: list[GraphModule] = _kept(make)()
                return patterns

            return make_if_needed

        return wrap

    return {
        Hook.FUSABLE: noting,
        Hook.FUSION: noting,
        **{hook: making(needed) for hook, needed in NEEDED.items()},
    }


def _operators(graph_module: GraphModule) -> set[str]:
    nodes = graph_module.graph.nodes
    calls = (node.target for node in nodes if node.op == "call_function")
    return {getattr(target, "__name__", "") for target in calls}
