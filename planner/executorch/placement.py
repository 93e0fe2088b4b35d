"""Which operators stay off the GPU for its limits alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from executorch.backends.vulkan.op_registry import get_op_features
from torch.fx import Node

from planner.executorch.patches import Wrapper

_NO_LIMITS: Final = (2**31, 2**31, 2**31)


def noting_unplaced(unplaced: dict[str, str]) -> Wrapper:
    """ExecuTorch's test of an operator; those that only limits rule out are noted.

    By the node's name: the operator, and the shapes of what it reads and makes.
    """

    def testing(is_compatible: Any) -> Callable[..., Any]:
        def compatible(support: Any, node: Node, features: Any = None) -> Any:
            answer = is_compatible(support, node, features=features)
            if not answer[0] and _could_be_placed(node, features):
                unplaced[node.name] = _describe(node)
            return answer

        return compatible

    return testing


def _could_be_placed(node: Node, features: Any) -> bool:
    """Whether Vulkan could run an operator if the device had no limits."""
    features = features or get_op_features(node.target)
    return not features.make_op_repsets(node, _NO_LIMITS).any_is_empty()


def _describe(node: Node) -> str:
    values: list[Any] = [a.meta.get("val") for a in (*node.all_input_nodes, node)]
    shapes = ["x".join(map(str, v.shape)) for v in values if hasattr(v, "shape")]
    target: Any = node.target
    return f"{target.__name__} ({', '.join(shapes)})"
