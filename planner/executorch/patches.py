"""The names of ExecuTorch and torch that are replaced while a body runs: all, and only here.

ExecuTorch's Vulkan backend has no hook for its layout pass. So what lowers with our plans replaces
names of its preprocessing for the thread that runs the body; every other thread sees ExecuTorch as
it is, and one body runs at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from enum import Enum
from importlib.metadata import version
from typing import Any, Final

import executorch.backends.vulkan.serialization.vulkan_graph_serialize as serialising
import executorch.backends.vulkan.vulkan_preprocess as etvk
from executorch.backends.vulkan import patterns
from executorch.backends.vulkan.partitioner.vulkan_partitioner import (
    VulkanPartitioner,
    VulkanSupportedOperators,
)
from executorch.exir.pass_base import _ExportPassBase
from torch.export import ExportedProgram
from torch.fx import GraphModule
from torch.fx.traceback import NodeSource

from planner.errors import PlannerError

RELEASE: Final = "1.5.1"
"""The release of ExecuTorch whose names these are."""

Wrapper = Callable[[Any], Callable[..., Any]]
"""Makes what stands in for a name from what it stands for."""

_one_at_a_time: Final = threading.Lock()
_active: Final = threading.local()


class Hook(Enum):
    """A name that can be replaced: what owns it, and how it is called there."""

    PARTITION = (VulkanPartitioner, "partition")
    """Tags the operators of a program that the delegate takes."""
    SUPPORT = (VulkanSupportedOperators, "op_node_is_compatible")
    """Whether the delegate takes an operator."""
    COMPILE_OPTIONS = (etvk, "parse_compile_spec")
    """Reads a delegate's compile options: its preprocessing begins."""
    DECOMPOSITION = (ExportedProgram, "run_decompositions")
    """Decomposes operators, which traces the program anew."""
    CODE = (GraphModule, "recompile")
    """Writes a graph as Python, which is what runs when its module is called."""
    RETRACED = (_ExportPassBase, "_fx")
    """Calls an operator on fake tensors, and notes it, for a pass that traces a program anew."""
    NODE_HISTORY = (NodeSource, "__init__")
    """Notes which node another one is made from, and what that was made from."""
    FUSABLE = (patterns, "get_all_fusable_subgraphs")
    """Finds operators to fuse in a program that is partitioned."""
    FUSION = (patterns, "replace_all_fusable_subgraphs")
    """Fuses operators of a delegate."""
    ROPE_PATTERNS = (patterns.fusable_patterns.get("export_llama_rope"), "get_graphs_fn")
    """Makes the graphs of a rotary embedding that are fused."""
    SDPA_PATTERN = (patterns.fusable_patterns.get("causal_sdpa"), "detector_fn")
    """Finds attention to fuse with the writes into its caches."""
    HF_ROPE_PATTERNS = (patterns.fusable_patterns.get("hf_rope"), "get_graphs_fn")
    """Makes those of the other one."""
    PASSES = (etvk, "apply_passes")
    """Runs passes over a delegate's program."""
    LAYOUT_PASS = (etvk, "TagMemoryMetaPass")
    """Makes the pass that chooses layouts and inserts transitions."""
    MEMORY_PLANNER = (etvk, "greedy")
    """Gives tensors their memory objects."""
    GRAPH_BUILDER = (etvk, "VkGraphBuilder")
    """Makes the builder of the VkGraph."""
    FLATBUFFER = (serialising, "convert_to_flatbuffer")
    """Writes the VkGraph alone; ExecuTorch runs ``flatc`` on JSON for it."""
    SERIALISER = (etvk, "serialize_vulkan_graph")
    """Writes the VkGraph: a delegate's preprocessing ends."""


@contextmanager
def replaced(wrappers: Mapping[Hook, Wrapper]) -> Iterator[None]:
    """Replaces names, for this thread, while the body runs.

    Raises ``PlannerError`` for another release of ExecuTorch, for a name that it does not have, and
    inside of another such body of this thread.
    """
    if getattr(_active, "is_replaced", False):
        raise PlannerError(
            "planning is active in this thread already: leave the outer 'planning' block first"
        )
    _check_release()
    owner = threading.get_ident()
    with _one_at_a_time, ExitStack() as stack:
        _active.is_replaced = True
        stack.callback(setattr, _active, "is_replaced", False)
        for hook, wrapper in wrappers.items():
            where, name = hook.value
            original = getattr(where, name)
            stack.callback(setattr, where, name, original)
            setattr(where, name, _for_thread(owner, wrapper(original), original))
        yield


def _for_thread(
    owner: int, replacement: Callable[..., Any], original: Callable[..., Any]
) -> Callable[..., Any]:
    def dispatch(*args: Any, **kw: Any) -> Any:
        return (replacement if threading.get_ident() == owner else original)(*args, **kw)

    return dispatch


def _check_release() -> None:
    installed = version("executorch")
    if installed.split("+")[0] != RELEASE:
        raise PlannerError(
            f"executorch {installed} is installed, and the planner is made for {RELEASE}: install "
            f"executorch=={RELEASE}"
        )
    for hook in Hook:
        where, name = hook.value
        if not hasattr(where, name):
            owner = getattr(where, "__name__", type(where).__name__)
            raise PlannerError(
                f"executorch {installed} has no {owner}.{name}: install an unchanged "
                f"executorch=={RELEASE}"
            )
