"""Work of ExecuTorch's lowering that changes nothing in the program, and is left out.

A program is traced anew to decompose its operators, also where it has none to decompose any more.
Each new node copies the whole history of the one that it is made from, which nothing changes once
it is written. Each graph is written as Python whenever a pass has changed it, though passes read
the graph: its code is needed only by those who call the module. And each pass that traces a
program calls every operator on fake tensors, though it leaves nearly all of them as they are.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

import torch
from executorch.exir.delegate import executorch_call_delegate
from executorch.exir.graph_module import contains_any_call_fn_target_op
from executorch.exir.pass_base import ProxyValue
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import ExportedProgram
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from planner.executorch.patches import Hook, Wrapper


def shortcuts() -> dict[Hook, Wrapper]:
    """What takes the same program there with less work."""
    return {
        Hook.DECOMPOSITION: _only_what_is_there,
        Hook.NODE_HISTORY: _sharing,
        Hook.CODE: _when_it_is_read,
        Hook.RETRACED: _called_once,
    }


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


_OF_CODE: Final = (
    *("forward", "_code", "_lineno_map", "_prologue_start"),
    *("__reduce__", "__reduce_package__"),
)
"""What a graph module has its code for, by the names of ``GraphModule``'s attributes."""


def _when_it_is_read(write: Callable[[GraphModule], Any]) -> Callable[[GraphModule], Any]:
    def defer(module: GraphModule) -> Any:
        kind = type(module)  # torch makes a class for each graph module, for the sake of its code
        if kind.__mro__[1] is not GraphModule:
            return write(module)
        codegen: Any = module.graph._codegen
        if hasattr(codegen, "pytree_info"):
            module._in_spec = codegen.pytree_info.in_spec
            module._out_spec = codegen.pytree_info.out_spec
        for name in _OF_CODE:
            vars(module).pop(name, None)
            setattr(kind, name, _Unwritten(name, module, write))
        module._recompile_submodules()
        return _UnwrittenCode(module, write)

    return defer


class _Unwritten:
    """An attribute of a graph module whose code is written as soon as the attribute is read."""

    def __init__(self, name: str, module: GraphModule, write: Callable[[GraphModule], Any]) -> None:
        self._name, self._module, self._write = name, weakref.ref(module), write

    def __get__(self, instance: GraphModule | None, kind: type[GraphModule]) -> Any:
        module = self._module()
        for name in _OF_CODE:
            if isinstance(vars(kind).get(name), _Unwritten):
                delattr(kind, name)
        if module is not None:
            self._write(module)
        return getattr(kind if instance is None else instance, self._name)


class _UnwrittenCode:
    """The code of a graph module, which is written as soon as something of it is read."""

    def __init__(self, module: GraphModule, write: Callable[[GraphModule], Any]) -> None:
        self._module, self._write = module, write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._write(self._module), name)


def _called_once(trace: Any) -> Callable[..., Any]:
    known: dict[int, _Call] = {}  # by the first tensor that it returned

    def trace_without_call(
        tracing: Any, kind: str, target: Any, args: Any, kwargs: Any, meta: Any
    ) -> Any:
        if not _can_be_known(target):
            return trace(tracing, kind, target, args, kwargs, meta)
        asked = _Call.of(tracing.fake_tensor_mode, target, args, kwargs)
        before = pytree.tree_leaves(meta.data.get("val"))
        call = known.get(id(before[0])) if before else None
        if call is not None and call.is_same(asked):
            interpreter = tracing.interpreter
            tracing.interpreter = SimpleNamespace(call_function=lambda *_: call.returned)
            try:
                return trace(tracing, kind, target, args, kwargs, meta)
            finally:
                tracing.interpreter = interpreter
        value = trace(tracing, kind, target, args, kwargs, meta)
        returned = pytree.tree_leaves(value.data)
        if returned and all(isinstance(x, FakeTensor) and x.constant is None for x in returned):
            known[id(returned[0])] = asked._replace(returned=value.data)
        return value

    return trace_without_call


def _can_be_known(target: Any) -> bool:
    if target is executorch_call_delegate:
        return True
    schema = getattr(target, "_schema", None)
    return schema is not None and not schema.is_mutable


_PLAIN: Final = (
    *(bool, int, float, str, type(None)),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format),
)


class _Call(NamedTuple):
    """What an operator was called with, and what that returned."""

    mode: Any
    target: Any
    leaves: list[Any]
    structure: pytree.TreeSpec
    returned: Any = None

    @classmethod
    def of(cls, mode: Any, target: Any, args: Any, kwargs: Any) -> _Call:
        leaves, structure = pytree.tree_flatten((args, kwargs))
        data = [leaf.data if isinstance(leaf, ProxyValue) else leaf for leaf in leaves]
        return cls(mode, target, data, structure)

    def is_same(self, other: _Call) -> bool:
        """Whether it is called with the very same tensors, and with equal numbers and types."""
        return (
            self.mode is other.mode
            and self.target is other.target
            and self.structure == other.structure
            and all(
                a is b or (type(a) is type(b) and isinstance(a, _PLAIN) and a == b)
                for a, b in zip(self.leaves, other.leaves, strict=True)
            )
        )
