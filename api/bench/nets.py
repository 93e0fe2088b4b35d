"""Small random nets of real operators, written as a delegate's graph without torch.

They are tuned by the thousand on simulated devices. Each is laid out one operator after another, as
ExecuTorch's pass does it: an operator takes its argument as it was made, where it can.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

from planner.ir.graph import LayoutGraph
from planner.ir.physical import DEFAULT_TEXTURE_LIMITS
from planner.ir.representation import TensorRepr, TensorRepSet
from planner.kernels.rep_sets import op_rep_sets
from planner.options import PlanOptions
from planner.pipelines.lowered import replan
from planner.tuning.bisection import Chosen, Key, Operand, Towards, key_of
from planner.vkgraph.reader import read_vkgraph
from schema import VkDataType, VkGraph, VkTensor, vkgraph
from schema.vkgraph import (
    NAMED_DATA,
    Bool,
    Double,
    Int,
    IntList,
    Null,
    OperatorCall,
    String,
    Value,
    ValueList,
    VkBytes,
)

_CHANNELS: Final = (16, 24, 32, 64)
_SIDES: Final = (14, 16, 28, 32)
_FEWEST_BLOCKS: Final = 1
_MOST_BLOCKS: Final = 3
_FLOAT: Final = VkDataType.FLOAT32
_FLOAT_BYTES: Final = 4
_ACTIVATIONS: Final = ("relu", "sigmoid", "hardswish", "tanh")


def small_net(seed: int) -> bytes:
    """A VkGraph of some 5 to 30 operators, laid out one after another."""
    graph = vkgraph.encode(_Net(random.Random(seed)).graph())
    read = read_vkgraph(vkgraph.decode(graph), "net").graph
    return replan(graph, "net", PlanOptions(), chooser=Towards(_greedy(read))).data


def _greedy(graph: LayoutGraph) -> Mapping[Key, Chosen]:
    """The representations of operands, as operators choose them that look at no others' needs."""
    wanted: dict[Key, Chosen] = {}
    made: dict[int, TensorRepr] = {}
    for operator in graph.operators:
        sets = op_rep_sets(operator, graph.tensors, DEFAULT_TEXTURE_LIMITS)
        if sets is None:
            continue
        chosen: dict[Operand, TensorRepr] = {}
        primary: TensorRepr | None = None
        for side, index, members in operator.operands():
            accepted = sets.of(side, index)
            if not accepted:
                continue
            is_output = side == "output"
            follows = sets.sync_primary_io and index == 0 if is_output else sets.sync_args
            before = primary if is_output or (primary and follows) else made.get(members[0])
            chosen[side, index] = found = _first(accepted, before)
            if is_output:
                made[members[0]] = found
            primary = primary or found
        wanted[key_of(operator, graph.tensors)] = chosen
    return wanted


def _first(accepted: TensorRepSet, before: TensorRepr | None) -> TensorRepr:
    """This representation, where it is accepted; else the first one that is, textures first."""
    return before if before is not None and before in accepted else next(iter(accepted))


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A tensor of a net: its value's id, and its dimensions, outermost first."""

    value: int
    dims: tuple[int, ...]


_Argument = _Tensor | tuple[_Tensor, ...] | list[int] | bool | int | float | str | None


class _Net:
    """A net, written block by block."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._values: list[Value] = []
        self._chain: list[OperatorCall] = []
        self._constants: list[VkBytes] = []

    def graph(self) -> VkGraph:
        """The net: blocks of an image's channels and of tokens, one after another."""
        side = self._draw.choice(_SIDES)
        first = last = self._tensor((1, self._draw.choice(_CHANNELS), side, side))
        blocks: tuple[Callable[[_Tensor], _Tensor], ...]
        blocks = self._convolutions, self._bottleneck, self._attention, self._mixing
        for _ in range(self._draw.randint(_FEWEST_BLOCKS, _MOST_BLOCKS)):
            last = self._draw.choice(blocks)(last)
        return VkGraph(
            *("0", tuple(self._chain), tuple(self._values), (first.value,), (last.value,)),
            constants=tuple(self._constants),
        )

    # Blocks take an image and give one.

    def _convolutions(self, x: _Tensor) -> _Tensor:
        """Convolutions with a residual, and at times less of the image after them."""
        _, channels, height, width = x.dims
        y = self._activation(self._convolution(x, channels, 3))
        y = self._convolution(y, channels, 3, groups=self._draw.choice((1, channels)))
        y = self._activation(self._call("aten.add.Tensor", x.dims, x, y, 1))
        if self._draw.random() < 0.5 and min(height, width) > 8:
            dims = (1, channels, height // 2, width // 2)
            args = [2, 2], [2, 2], [0, 0], False, True, None
            y = self._call("aten.avg_pool2d.default", dims, y, *args)
        return y

    def _bottleneck(self, x: _Tensor) -> _Tensor:
        """Channels that are weighed by the mean of the image, or put next to those there were."""
        channels = x.dims[1]
        y = self._activation(self._convolution(x, channels, 1))
        if self._draw.random() < 0.5:
            mean = self._call("aten.mean.dim", (1, channels, 1, 1), y, [2, 3], True)
            gate = self._call("aten.sigmoid.default", (1, channels, 1, 1), mean)
            return self._call("aten.mul.Tensor", y.dims, y, gate)
        _, _, height, width = y.dims
        both = self._call("aten.cat.default", (1, 2 * channels, height, width), (x, y), 1)
        return self._convolution(both, channels, 1)

    def _attention(self, x: _Tensor) -> _Tensor:
        """Attention between the places of an image."""
        tokens = self._tokens(x)
        _, count, width = dims = tokens.dims
        y = self._norm(tokens)
        q, k, v = (self._linear(y, width) for _ in range(3))
        k = self._call("aten.permute_copy.default", (1, width, count), k, [0, 2, 1])
        scores = self._call("aten.bmm.default", (1, count, count), q, k)
        scores = self._call("aten._softmax.default", (1, count, count), scores, -1, False)
        y = self._linear(self._call("aten.bmm.default", dims, scores, v), width)
        return self._image(self._call("aten.add.Tensor", dims, tokens, y, 1), x.dims)

    def _mixing(self, x: _Tensor) -> _Tensor:
        """A perceptron of each place of an image."""
        tokens = self._tokens(x)
        _, _, width = dims = tokens.dims
        y = self._linear(self._norm(tokens), 2 * width)
        y = self._call("aten.gelu.default", y.dims, y, "none")
        y = self._linear(y, width)
        return self._image(self._call("aten.add.Tensor", dims, tokens, y, 1), x.dims)

    # Parts of blocks.

    def _tokens(self, x: _Tensor) -> _Tensor:
        _, channels, height, width = x.dims
        flat, dims = (1, channels, height * width), (1, height * width, channels)
        y = self._call("aten.view_copy.default", flat, x, list(flat))
        return self._call("aten.permute_copy.default", dims, y, [0, 2, 1])

    def _image(self, tokens: _Tensor, dims: Sequence[int]) -> _Tensor:
        _, count, width = tokens.dims
        y = self._call("aten.permute_copy.default", (1, width, count), tokens, [0, 2, 1])
        return self._call("aten.view_copy.default", dims, y, list(dims))

    def _activation(self, x: _Tensor) -> _Tensor:
        name = self._draw.choice(_ACTIVATIONS)
        return self._call(f"aten.{name}.default", x.dims, x)

    def _convolution(self, x: _Tensor, channels: int, kernel: int, groups: int = 1) -> _Tensor:
        _, before, height, width = x.dims
        weight = self._constant((channels, before // groups, kernel, kernel))
        pad = [kernel // 2, kernel // 2]
        args = weight, self._constant((channels,)), [1, 1], pad, [1, 1], False, [0, 0], groups
        return self._call("aten.convolution.default", (1, channels, height, width), x, *args)

    def _linear(self, x: _Tensor, width: int) -> _Tensor:
        _, count, before = x.dims
        args = self._constant((width, before)), self._constant((width,))
        return self._call("aten.linear.default", (1, count, width), x, *args)

    def _norm(self, x: _Tensor) -> _Tensor:
        _, count, width = dims = x.dims
        outputs = tuple(self._tensor(d) for d in (dims, (1, count, 1), (1, count, 1)))
        args = [width], self._constant((width,)), self._constant((width,)), 1e-5
        self._write("aten.native_layer_norm.default", x, *args, outputs)
        return outputs[0]

    # Values.

    def _tensor(self, dims: Sequence[int], constant_id: int = -1) -> _Tensor:
        value = VkTensor(_FLOAT, tuple(dims), constant_id, staging_datatype=_FLOAT)
        return _Tensor(self._value(value), value.dims)

    def _constant(self, dims: Sequence[int]) -> _Tensor:
        number = len(self._constants)
        self._constants.append(VkBytes(NAMED_DATA, _FLOAT_BYTES * prod(dims), f"weight {number}"))
        return self._tensor(dims, number)

    def _value(self, value: Value) -> int:
        self._values.append(value)
        return len(self._values) - 1

    def _call(self, name: str, dims: Sequence[int], *args: _Argument) -> _Tensor:
        """An operator's output, which has these dimensions."""
        output = self._tensor(dims)
        self._write(name, *args, output)
        return output

    def _write(self, name: str, *args: _Argument) -> None:
        ids = tuple(map(self._argument, args))
        self._chain.append(OperatorCall(len(self._chain), name, ids))

    def _argument(self, arg: _Argument) -> int:
        match arg:
            case _Tensor():
                return arg.value
            case tuple():
                return self._value(ValueList(tuple(member.value for member in arg)))
            case list():
                return self._value(IntList(tuple(arg)))
            case None:
                return self._value(Null())
            case bool():
                return self._value(Bool(arg))
            case int():
                return self._value(Int(arg))
            case float():
                return self._value(Double(arg))
            case str():
                return self._value(String(arg))
