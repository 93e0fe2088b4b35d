"""Which operators stay off the GPU: for its limits alone, or because the runtime cannot do them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from executorch.backends.vulkan.op_registry import get_op_features
from executorch.exir.sym_util import eval_shape_upper_bound
from torch.fx import Node

from planner.executorch.patches import Wrapper
from planner.executorch.reader import STORED_AS
from planner.ir.graph import Operator, Tensor, TensorArg
from planner.kernels.registry import SYMBOLIC
from planner.kernels.releases import Runtime
from planner.kernels.webgpu import webgpu_limits, webgpu_releases_of

_NO_LIMITS: Final = (2**31, 2**31, 2**31)
_WHOLE: Final = ("aten.", "dim_order_ops.")
"""The libraries whose operators stay what they are when they are lowered."""
_FUSED: Final = ("llama.", "et_vk.")
"""The libraries of attention with caches, which is one operator at first and another in the end."""


def placing(unplaced: dict[str, str], runtime: Runtime) -> Wrapper:
    """ExecuTorch's test of an operator; those that only limits rule out are noted.

    By the node's name: the operator, and the shapes of what it reads and makes. What the runtime
    of another backend than Vulkan cannot do fails the test.
    """

    def testing(is_compatible: Any) -> Callable[..., Any]:
        def compatible(support: Any, node: Node, features: Any = None) -> Any:
            answer = is_compatible(support, node, features=features)
            if answer[0] and runtime.target == "webgpu" and not _is_done_by_webgpu(node, runtime):
                return False, "WebGPU's runtime cannot do it"
            if not answer[0] and _could_be_placed(node, features):
                unplaced[node.name] = _describe(node)
            return answer

        return compatible

    return testing


def _is_done_by_webgpu(node: Node, runtime: Runtime) -> bool:
    """Whether the WebGPU runtimes of all releases can do a node's call of an operator."""
    target: Any = node.target
    if isinstance(target, torch._ops.HigherOrderOperator):
        target = node.args[0]  # the operator that it makes functional
    name = target.__name__
    read, made = _tensors(*node.all_input_nodes), _tensors(node)
    if name in SYMBOLIC or not made:
        return True  # of the graph's sizes
    if name.startswith(_FUSED):
        return True  # lowering makes other operators of these
    if not set(runtime.releases) <= set(webgpu_releases_of(name)):
        return False
    if not name.startswith(_WHOLE):
        return True  # a part of what is fused
    tensors = [_stored(value) for value in (*read, *made)]
    operator = Operator(
        name, tuple(map(TensorArg, range(len(read)))), tuple(range(len(read), len(tensors)))
    )
    is_dynamic = any(not isinstance(size, int) for value in (*read, *made) for size in value.shape)
    return not any(
        any(webgpu_limits(operator, tensors, release, is_dynamic=is_dynamic))
        for release in runtime.releases
    )


def _tensors(*nodes: Node) -> list[Any]:
    found: list[Any] = []
    for node in nodes:
        value = node.meta.get("val")
        values = value if isinstance(value, (list, tuple)) else [value]
        found += [each for each in values if isinstance(each, torch.Tensor)]
    return found


def _stored(value: torch.Tensor) -> Tensor:
    return Tensor("", tuple(eval_shape_upper_bound(value.shape)), STORED_AS[value.dtype], False)


def _could_be_placed(node: Node, features: Any) -> bool:
    """Whether Vulkan could run an operator if the device had no limits."""
    features = features or get_op_features(node.target)
    return not features.make_op_repsets(node, _NO_LIMITS).any_is_empty()


def _describe(node: Node) -> str:
    values: list[Any] = [a.meta.get("val") for a in (*node.all_input_nodes, node)]
    shapes = ["x".join(map(str, v.shape)) for v in values if hasattr(v, "shape")]
    target: Any = node.target
    return f"{target.__name__} ({', '.join(shapes)})"
