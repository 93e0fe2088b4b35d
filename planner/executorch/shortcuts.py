"""Work of ExecuTorch's lowering that changes nothing in the program, and is left out.

A program is traced anew to decompose its operators, also where it has none to decompose any more.
And each new node copies the whole history of the one that it is made from, which nothing changes
once it is written.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from executorch.exir.graph_module import contains_any_call_fn_target_op
from torch.export import ExportedProgram

from planner.executorch.patches import Hook, Wrapper


def shortcuts() -> dict[Hook, Wrapper]:
    """What takes the same program there with less work."""
    return {Hook.DECOMPOSITION: _only_what_is_there, Hook.NODE_HISTORY: _sharing}


def _only_what_is_there(decompose: Any) -> Callable[..., Any]:
    def decompose_if_needed(
        program: ExportedProgram, table: Any = None, *args: Any, **kw: Any
    ) -> ExportedProgram:
        # An empty table asks for more than decompositions: that the program be functional.
        if table and not contains_any_call_fn_target_op(program.graph_module, table):
            return program
        decomposed: ExportedProgram = decompose(program, table, *args, **kw)
        return decomposed

    return decompose_if_needed


def _sharing(remember: Any) -> Callable[..., Any]:
    def remember_without_copy(source: Any, node: Any, *args: Any, **kw: Any) -> None:
        if node is None or "from_node" not in node.meta:
            remember(source, node, *args, **kw)
            return
        alone = SimpleNamespace(name=node.name, target=node.target, graph=node.graph, meta={})
        remember(source, alone, *args, **kw)
        source.from_node = node.meta["from_node"]

    return remember_without_copy
