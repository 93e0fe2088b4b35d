"""What is left out of ExecuTorch's lowering changes no byte of the program."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
from executorch.exir import to_edge, to_edge_transform_and_lower
from executorch.exir.dialects._ops import ops as exir_ops
from executorch.exir.dialects.edge._ops import EdgeOpOverload
from executorch.exir.pass_base import ExportPass
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.traceback import NodeSource

from planner.executorch.fusion import kept_patterns
from planner.executorch.patches import replaced
from planner.executorch.shortcuts import shortcuts


class _Attention(nn.Module):
    """Operators to decompose, some that the delegate keeps, and one that it does not take."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.linear = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        y, _ = self.attention(y, y, y)
        y = torch.nn.functional.gelu(self.linear(x + torch.sort(y)[0]))
        return torch.nn.functional.scaled_dot_product_attention(y, y, y)


class _Pooled(nn.Module):
    """A convolution with batch norm, resized and pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Hardswish())

    def forward(self, x: Tensor) -> Tensor:
        y = torch.nn.functional.interpolate(self.conv(x), scale_factor=2.0, mode="bilinear")
        return torch.nn.functional.adaptive_avg_pool2d(y, 1).flatten(1)


def _lowered(program: ExportedProgram) -> bytes:
    edge = to_edge_transform_and_lower(program, partitioner=[VulkanPartitioner()])
    data: bytes = edge.to_executorch().buffer
    return data


@pytest.mark.parametrize(
    ("make", "shape", "dynamic"),
    [
        (_Attention, (2, 5, 16), None),
        (_Attention, (2, 5, 16), {"x": {1: Dim("tokens", min=2, max=9)}}),
        (_Pooled, (1, 3, 8, 8), None),
    ],
    ids=["attention", "of any length", "pooled"],
)
def test_shortcuts_change_no_byte(
    make: Callable[[], nn.Module], shape: tuple[int, ...], dynamic: Any
) -> None:
    torch.manual_seed(0)
    net, x = make().eval(), torch.randn(shape)
    program = torch.export.export(net, (x,), dynamic_shapes=dynamic)
    with replaced(kept_patterns()):
        plain = _lowered(program)
    with replaced({**kept_patterns(), **shortcuts()}):
        assert _lowered(program) == plain


def test_a_program_is_traced_only_to_decompose_something(monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[bool] = []
    decompose: Any = ExportedProgram.run_decompositions

    def noting(program: ExportedProgram, table: Any = None, **kw: Any) -> Any:
        traced.append(bool(table))
        return decompose(program, table, **kw)

    program = torch.export.export(_Pooled().eval(), (torch.randn(1, 3, 8, 8),))
    monkeypatch.setattr(ExportedProgram, "run_decompositions", noting)
    with replaced(kept_patterns()):
        _lowered(program)
    theirs = traced.copy()
    traced.clear()
    with replaced({**kept_patterns(), **shortcuts()}):
        _lowered(program)
    # The functional program has to be made in any case.
    assert traced[0] is theirs[0] is False
    assert len(traced) < len(theirs)


def test_passes_call_an_operator_anew_only_where_something_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called: list[str] = []
    call = EdgeOpOverload.__call__

    def noting(operator: EdgeOpOverload, *args: Any, **kw: Any) -> Any:
        called.append(str(operator))
        return call(operator, *args, **kw)

    program = torch.export.export(_Attention().eval(), (torch.randn(2, 5, 16),))
    monkeypatch.setattr(EdgeOpOverload, "__call__", noting)
    with replaced(kept_patterns()):
        _lowered(program)
    theirs = Counter(called)
    called.clear()
    with replaced({**kept_patterns(), **shortcuts()}):
        _lowered(program)
    ours = Counter(called)
    assert ours < theirs


def test_a_pass_that_changes_what_an_operator_gets_has_it_called() -> None:
    class Doubled(ExportPass):  # type: ignore[misc]
        def call_operator(self, op: Any, args: Any, kwargs: Any, meta: Any) -> Any:
            if op is exir_ops.edge.aten.mean.dim:
                args = (args[0], [0, 1], *args[2:])
            return super().call_operator(op, args, kwargs, meta)

    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(torch.mean(x, dim=(1,)))

    program = torch.export.export(Mean(), (torch.randn(4, 3, 2),))
    edge = to_edge(program)
    with replaced(shortcuts()):
        seen = edge.transform([ExportPass(), Doubled()]).exported_program()
    shapes = [
        tuple(node.meta["val"].shape) for node in seen.graph.nodes if node.op == "call_function"
    ]
    assert shapes == [(2,), (2,)]


def test_a_node_shares_the_history_of_the_one_that_it_is_made_from() -> None:
    graph = torch.fx.Graph()
    first = graph.placeholder("x")
    first.meta["from_node"] = [NodeSource(None, "loaded")]
    copied = NodeSource(first, "traced")
    with replaced(shortcuts()):
        shared = NodeSource(first, "traced")
    assert shared.to_dict() == copied.to_dict()
    assert copied.from_node[0] is not first.meta["from_node"][0]
    assert shared.from_node is first.meta["from_node"]
    assert NodeSource(None, "made").from_node == []


def test_a_graph_is_written_as_python_when_that_is_read() -> None:
    written: list[torch.fx.GraphModule] = []
    write = torch.fx.GraphModule.recompile

    def noting(module: torch.fx.GraphModule) -> Any:
        written.append(module)
        return write(module)

    x = torch.ones(2)
    inner = torch.fx.symbolic_trace(lambda x: x + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.fx.GraphModule, "recompile", noting)
        with replaced(shortcuts()):
            graph = torch.fx.Graph()
            graph.output(graph.call_module("inner", (graph.placeholder("x"),)))
            module = torch.fx.GraphModule({"inner": inner}, graph)
            (add,) = (n for n in inner.graph.nodes if n.op == "call_function")
            add.args = (add.args[0], 5)
            module.recompile()
            assert not written
            assert module(x).tolist() == [6, 6]
            assert written == [module, inner]
            assert "self.inner(x)" in module.code and "x + 5" in inner.code
            assert len(written) == 2
            # Changed once more, it is as if it had not been written.
            add.args = (add.args[0], 7)
            inner.recompile()
            assert "x + 7" in inner.code and module(x).tolist() == [8, 8]
            copied = torch.fx.GraphModule(inner, inner.graph)
            assert pickle.loads(pickle.dumps(copied))(x).tolist() == [8, 8]
            left = torch.fx.GraphModule(inner, inner.graph)
            known = len(written)
    # What nobody has read until then is written where it is read.
    assert type(left).forward(left, x).tolist() == [8, 8]
    assert len(written) == known + 1
