"""Calls of operators for the sweep of kernels: every operator in several classes of shapes.

A class is named after what is special about it: batches, sizes that are no multiples of 4, one
element, long rows, more than 16,384 of a thing, broadcasts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from api.bench.kernel_calls import direct_calls

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Case:
    """A call: the operator's name in a VkGraph, what makes it, and the inputs of a program of it.

    ``module`` is called for the program, ``inputs`` for its example inputs, both after a seed.
    ``noise`` is the relative error that is no fault.
    """

    operator: str
    shapes: str
    module: Callable[[], Any]
    inputs: Callable[[], tuple[Tensor, ...]]
    int8: bool = False
    float16: bool = False
    noise: float = 0.0

    @property
    def name(self) -> str:
        """A name for files."""
        words = [self.operator.removesuffix(".default"), self.shapes, *["float16"] * self.float16]
        return "-".join(re.sub(r"\W+", "_", word) for word in words)


def cases() -> Iterator[Case]:
    """All cases: each needs torch."""
    import torch

    r = torch.randn

    def of(
        operator: str, shapes: str, f: Callable[..., Any], *inputs: Any, **options: Any
    ) -> Iterator[Case]:
        class Call(torch.nn.Module):
            def forward(self, *args: Any) -> Any:
                return f(*args)

        def make() -> tuple[Tensor, ...]:
            return tuple(i() if callable(i) else r(*i) for i in inputs)

        yield Case(operator, shapes, Call, make, **options)

    def net(
        operator: str, shapes: str, make: Callable[[], Any], *inputs: Any, **options: Any
    ) -> Iterator[Case]:
        yield Case(operator, shapes, make, lambda: tuple(r(*i) for i in inputs), **options)

    def direct(
        operator: str,
        shapes: str,
        f: Callable[..., Any],
        inputs: Callable[[], tuple[Tensor, ...]],
        constants: Callable[[], tuple[Tensor, ...]] = tuple,
    ) -> Case:
        class Call(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.names = []
                for number, constant in enumerate(constants()):
                    self.names.append(f"constant_{number}")
                    self.register_buffer(self.names[-1], constant)

            def forward(self, *args: Any) -> Any:
                return f(*args, *(getattr(self, name) for name in self.names))

        return Case(operator, shapes, Call, inputs)

    yield from _unary(of)
    yield from _binary(of)
    yield from _reductions(of)
    yield from _shapes(of)
    yield from _linear(of, net)
    yield from _images(of, net)
    yield from _attention(net)
    yield from _int8(net)
    yield from _int4(net)
    yield from direct_calls(direct)


_CLASSES = {
    "1d": (7,),
    "2d": (3, 10),
    "3d": (2, 5, 6),
    "batch": (2, 3, 5, 6),
    "one element": (1, 1, 1, 1),
    "long row": (1, 2, 3, 2050),
    "20,000 rows": (20_000, 3),
}


def _unary(of: Any) -> Iterator[Case]:
    import torch
    from torch.nn import functional as f

    calls: dict[str, Callable[[Any], Any]] = {
        "abs": torch.abs,
        "cos": torch.cos,
        "exp": torch.exp,
        "gelu": f.gelu,
        "hardshrink": f.hardshrink,
        "hardswish": f.hardswish,
        "hardtanh": f.hardtanh,
        "neg": torch.neg,
        "relu": torch.relu,
        "sigmoid": torch.sigmoid,
        "sin": torch.sin,
        "tanh": torch.tanh,
        "round": torch.round,
        "leaky_relu": f.leaky_relu,
        "clamp": lambda x: torch.clamp(x, -0.5, 0.5),
        "sqrt": lambda x: torch.sqrt(x.abs() + 1),
        "rsqrt": lambda x: torch.rsqrt(x.abs() + 1),
        "log10": lambda x: torch.log10(x.abs() + 1),
        "pow.Tensor_Scalar": lambda x: torch.pow(x.abs() + 1, 2.5),
        "clone": lambda x: x.clone() + 0,
        "full_like": lambda x: torch.full_like(x, 0.5) + x,
    }
    for name, call in calls.items():
        operator = f"aten.{name}" if "." in name else f"aten.{name}.default"
        for shapes in ("3d", "batch") if name not in ("relu", "gelu") else _CLASSES:
            yield from of(operator, shapes, call, _CLASSES[shapes])
        yield from of(operator, "batch", call, _CLASSES["batch"], float16=True)


def _binary(of: Any) -> Iterator[Case]:
    import torch

    calls: dict[str, Callable[[Any, Any], Any]] = {
        "add.Tensor": torch.add,
        "sub.Tensor": torch.sub,
        "mul.Tensor": torch.mul,
        "div.Tensor": lambda x, y: torch.div(x, y.abs() + 1),
        "div.Tensor_mode": lambda x, y: torch.div(x, y.abs() + 1, rounding_mode="floor"),
        "minimum": torch.minimum,
        "pow.Tensor_Tensor": lambda x, y: torch.pow(x.abs() + 1, y),
        "eq.Tensor": torch.eq,
        "lt.Tensor": torch.lt,
        "le.Tensor": torch.le,
        "gt.Tensor": torch.gt,
        "ge.Tensor": torch.ge,
        "where.self": lambda x, y: torch.where(x > y, x, y),
        "logical_and": lambda x, y: torch.logical_and(x > 0, y > 0),
        "logical_or": lambda x, y: torch.logical_or(x > 0, y > 0),
        "bitwise_and.Tensor": lambda x, y: torch.bitwise_and(x > 0, y > 0),
        "bitwise_or.Tensor": lambda x, y: torch.bitwise_or(x > 0, y > 0),
    }
    for name, call in calls.items():
        operator = f"aten.{name}" if "." in name else f"aten.{name}.default"
        yield from of(operator, "batch", call, (2, 3, 5, 6), (2, 3, 5, 6))
        yield from of(operator, "3d", call, (2, 5, 6), (2, 5, 6))
        if name in ("add.Tensor", "mul.Tensor", "where.self", "lt.Tensor"):
            yield from of(operator, "broadcast of channels", call, (2, 3, 5, 6), (1, 3, 1, 1))
            yield from of(operator, "broadcast of a row", call, (2, 3, 5, 6), (1, 1, 1, 6))
            yield from of(operator, "broadcast of both", call, (1, 3, 5, 1), (1, 1, 5, 6))
            yield from of(operator, "one element", call, (1, 1, 1, 1), (1, 1, 1, 1))
            yield from of(operator, "long row", call, (1, 1, 2, 2050), (1, 1, 2, 2050))
            yield from of(operator, "20,000 rows", call, (20_000, 3), (20_000, 3))
        if name in ("add.Tensor", "sub.Tensor", "mul.Tensor", "div.Tensor", "minimum"):
            yield from of(operator, "batch", call, (2, 3, 5, 6), (2, 3, 5, 6), float16=True)
    scalars = {"eq": torch.eq, "ne": torch.ne, "lt": torch.lt, "le": torch.le}
    for name, compare in {**scalars, "ge": torch.ge, "gt": torch.gt}.items():
        yield from of(f"aten.{name}.Scalar", "batch", lambda x, c=compare: c(x, 0.25), (2, 3, 5, 6))
    yield from of(
        "aten.logical_not.default", "batch", lambda x: torch.logical_not(x > 0), (2, 3, 5, 6)
    )
    yield from of(
        "aten.bitwise_not.default", "batch", lambda x: torch.bitwise_not(x > 0), (2, 3, 5, 6)
    )


def _reductions(of: Any) -> Iterator[Case]:
    import torch

    for name, call in {
        "aten._softmax.default": torch.softmax,
        "aten._log_softmax.default": torch.log_softmax,
    }.items():
        for dim, words in ((-1, "width"), (-2, "height"), (-3, "channels")):
            for shape, extra in (((1, 6, 5, 7), ""), ((2, 6, 5, 7), " of batches")):
                shapes = f"over {words}{extra}"
                yield from of(name, shapes, lambda x, d=dim, c=call: c(x, dim=d), shape)
        yield from of(name, "2d", lambda x, c=call: c(x, dim=-1), (3, 10))
        yield from of(name, "20,000 rows", lambda x, c=call: c(x, dim=-1), (20_000, 3))
        yield from of(name, "long row", lambda x, c=call: c(x, dim=-1), (1, 2, 3, 2050))
        yield from of(
            name, "over width", lambda x, c=call: c(x, dim=-1), (1, 6, 5, 7), float16=True
        )
    reduce: dict[str, Callable[..., Any]] = {
        "aten.mean.dim": torch.mean,
        "aten.sum.dim_IntList": torch.sum,
        "aten.amax.default": torch.amax,
        "aten.amin.default": torch.amin,
    }
    for name, call in reduce.items():
        for dims, words in (((-1,), "width"), ((-2,), "height"), ((-3,), "channels")):
            for shape, extra in (((1, 6, 5, 7), ""), ((2, 6, 5, 7), " of batches")):
                shapes = f"over {words}{extra}"
                yield from of(
                    name, shapes, lambda x, d=dims, c=call: c(x, dim=d, keepdim=True), shape
                )
        yield from of(
            name, "over images", lambda x, c=call: c(x, dim=(-1, -2), keepdim=True), (2, 6, 5, 7)
        )
        yield from of(
            name, "20,000 rows", lambda x, c=call: c(x, dim=(-1,), keepdim=True), (20_000, 3)
        )
        yield from of(
            name,
            "over width",
            lambda x, c=call: c(x, dim=(-1,), keepdim=True),
            (1, 6, 5, 7),
            float16=True,
        )
        yield from of(name, "without the dimension", lambda x, c=call: c(x, dim=(-1,)), (2, 5, 6))
        yield from of(
            name, "long row", lambda x, c=call: c(x, dim=(-1,), keepdim=True), (1, 2, 3, 2050)
        )
    for name, pick in {"argmax": torch.argmax, "argmin": torch.argmin}.items():
        yield from of(f"aten.{name}.default", "2d", lambda x, p=pick: p(x, dim=-1), (5, 10))
        yield from of(
            f"aten.{name}.default", "keepdim", lambda x, p=pick: p(x, dim=-1, keepdim=True), (5, 10)
        )


def _shapes(of: Any) -> Iterator[Case]:
    import torch
    from torch.nn import functional as f

    x4, x3 = (2, 3, 5, 6), (2, 5, 6)
    index = torch.randint
    yield from of("aten.permute_copy.default", "batch", lambda x: x.permute(0, 2, 3, 1) + 0, x4)
    yield from of("aten.permute_copy.default", "3d", lambda x: x.permute(2, 0, 1) + 0, x3)
    yield from of("aten.permute_copy.default", "2d", lambda x: x.permute(1, 0) + 0, (3, 10))
    yield from of("aten.view_copy.default", "batch", lambda x: x.reshape(6, 30) + 0, x4)
    yield from of("aten.view_copy.default", "3d", lambda x: x.reshape(10, 6) + 0, x3)
    yield from of("aten.unsqueeze_copy.default", "2d", lambda x: x.unsqueeze(0) + 0, (3, 10))
    yield from of("aten.squeeze_copy.dims", "3d", lambda x: x.squeeze(0) + 0, (1, 5, 6))
    yield from of("aten.expand_copy.default", "3d", lambda x: x.expand(4, 5, 6) + 0, (1, 5, 6))
    yield from of(
        "aten.expand_copy.default", "of a row", lambda x: x.expand(2, 5, 6) + 0, (2, 5, 1)
    )
    for dim, words in ((0, "batches"), (1, "channels"), (2, "height"), (3, "width")):
        yield from of(
            "aten.cat.default", f"of {words}", lambda x, y, d=dim: torch.cat([x, y], d), x4, x4
        )
        yield from of(
            "aten.select_copy.int", f"of {words}", lambda x, d=dim: x.select(d, 1) + 0, x4
        )
        yield from of(
            "aten.slice_copy.Tensor", f"of {words}", lambda x, d=dim: x.narrow(d, 1, 1) + 0, x4
        )
        yield from of(
            "aten.split_with_sizes_copy.default",
            f"of {words}",
            lambda x, d=dim: torch.split(x, [1, x.shape[d] - 1], d)[1] + 0,
            x4,
        )
        yield from of("aten.flip.default", f"of {words}", lambda x, d=dim: torch.flip(x, [d]), x4)
    for name, call in {
        "permute_copy.default": lambda x: x.permute(0, 2, 3, 1) + 0,
        "view_copy.default": lambda x: x.reshape(6, 30) + 0,
        "cat.default": lambda x: torch.cat([x, x + 1], 1),
        "slice_copy.Tensor": lambda x: x.narrow(1, 1, 1) + 0,
        "select_copy.int": lambda x: x.select(1, 1) + 0,
        "repeat.default": lambda x: x.repeat(1, 2, 1, 3),
        "constant_pad_nd.default": lambda x: f.pad(x, (1, 2, 0, 3)),
    }.items():
        yield from of(f"aten.{name}", "batch", call, x4, float16=True)
    tall = (20_000, 3)
    yield from of("aten.permute_copy.default", "20,000 rows", lambda x: x.permute(1, 0) + 0, tall)
    yield from of("aten.cat.default", "20,000 rows", lambda x, y: torch.cat([x, y], 1), tall, tall)
    yield from of("aten.slice_copy.Tensor", "20,000 rows", lambda x: x.narrow(0, 9, 11) + 0, tall)
    yield from of("aten.repeat.default", "batch", lambda x: x.repeat(1, 2, 1, 3), x4)
    yield from of("aten.repeat.default", "of batches", lambda x: x.repeat(2, 1, 1, 1), x4)
    yield from of("aten.constant_pad_nd.default", "batch", lambda x: f.pad(x, (1, 2, 0, 3)), x4)
    yield from of(
        "aten.constant_pad_nd.default", "of channels", lambda x: f.pad(x, (0, 0, 0, 0, 1, 2)), x4
    )
    yield from of(
        "aten.pixel_shuffle.default", "batch", lambda x: f.pixel_shuffle(x, 2), (2, 8, 3, 5)
    )
    for rows, width, words in ((50, 12, ""), (50, 10, "odd "), (20_000, 8, "20,000 rows ")):
        table = torch.randn(rows, width)
        for size in ((2, 6), (5,)):
            yield from of(
                "aten.embedding.default",
                f"{words}{len(size)}d",
                lambda i, t=table: f.embedding(i, t),
                lambda n=rows, s=size: index(0, n, s),
            )
    for size, words in (((3, 2), "of a row"), ((3, 7), "same size")):
        yield from of(
            "aten.gather.default",
            words,
            lambda x, i: torch.gather(x, 1, i),
            (3, 7),
            lambda s=size: index(0, 7, s),
        )
    yield from of(
        "aten.index_select.default",
        "of channels",
        lambda x: torch.index_select(x, 1, torch.tensor([2, 0])),
        (1, 3, 5, 6),
    )
    yield from of("aten.index.Tensor", "1d", lambda x, i: x[i] + 0, (9,), lambda: index(0, 9, (4,)))
    yield from of(
        "aten.index.Tensor", "2d", lambda x, i: x[i] + 0, (9, 5), lambda: index(0, 9, (4,))
    )
    yield from of("aten.full.default", "batch", lambda x: x + torch.full((2, 3, 5, 6), 0.5), x4)
    yield from of(
        "aten.arange.start_step", "1d", lambda x: x + torch.arange(0, 7, dtype=torch.float32), (7,)
    )
    for name, made in {
        "ones": lambda x: x + torch.ones(2, 3, 5, 6),
        "ones_like": lambda x: x + torch.ones_like(x),
        "zeros": lambda x: x + torch.zeros(2, 3, 5, 6),
        "zeros_like": lambda x: x + torch.zeros_like(x),
        "scalar_tensor": lambda x: x + torch.scalar_tensor(3.0),
        "copy": lambda x: torch.ops.aten.copy(torch.zeros_like(x), x) + x,
        "alias_copy": lambda x: torch.ops.aten.alias_copy(x + 1) + x,
    }.items():
        yield from of(f"aten.{name}.default", "batch", made, x4)
    yield from of("aten.t_copy.default", "2d", lambda x: torch.t(x) + 0, (3, 10))
    yield from of("aten.permute.default", "batch", lambda x: x.permute(0, 2, 3, 1) + 0, x4)
    for name, order in (
        ("_clone_dim_order", lambda x: x.clone(memory_format=torch.channels_last) + 0),
        ("_to_dim_order_copy", lambda x: x.to(memory_format=torch.channels_last) + 0),
    ):
        yield from of(f"dim_order_ops.{name}.default", "to channels last", order, x4)
    yield from of(
        "dim_order_ops._to_dim_order_copy.default", "to int", lambda x: (x * 9).to(torch.int32), x4
    )
    yield from of("aten._to_copy.default", "to int", lambda x: (x * 9).to(torch.int32), x4)
    yield from of("aten.unfold_copy.default", "of a row", lambda x: x.unfold(1, 4, 2) + 0, (3, 10))


def _linear(of: Any, net: Any) -> Iterator[Case]:
    import torch
    from torch import nn

    for rows, size, out, words in (
        ((1,), 12, 8, "one row"),
        ((5,), 10, 7, "odd"),
        ((2, 5), 10, 7, "3d odd"),
        ((3,), 2050, 6, "long row"),
        ((20_000,), 8, 4, "20,000 rows"),
    ):
        yield from net(
            "aten.linear.default",
            words,
            lambda i=size, o=out: nn.Linear(i, o),
            (*rows, size),
        )
    yield from net("aten.linear.default", "odd", lambda: nn.Linear(10, 7), (5, 10), float16=True)
    yield from of("aten.mm.default", "odd", torch.mm, (5, 10), (10, 7))
    yield from of("aten.bmm.default", "odd", torch.bmm, (2, 5, 10), (2, 10, 7))
    yield from of("aten.bmm.default", "odd", torch.bmm, (2, 5, 10), (2, 10, 7), float16=True)
    yield from of("aten.bmm.default", "one batch", torch.bmm, (1, 5, 8), (1, 8, 4))
    yield from of("aten.addmm.default", "odd", torch.addmm, (7,), (5, 10), (10, 7))
    for shape, words in (
        ((2, 5, 10), "3d"),
        ((2, 3, 5, 6), "batch"),
        ((1, 3, 2050), "long row"),
        ((20_000, 8), "20,000 rows"),
    ):
        yield from net(
            "aten.native_layer_norm.default", words, lambda n=shape[-1]: nn.LayerNorm(n), shape
        )
    yield from net(
        "aten.native_layer_norm.default", "3d", lambda: nn.LayerNorm(10), (2, 5, 10), float16=True
    )


def _attention(net: Any) -> Iterator[Case]:
    import torch
    from executorch.examples.models.llama import norm, rope

    # Lowering fuses the updates of the caches and the attention into one operator.
    for head in (6, 8, 10, 12):
        yield Case(
            "sdpa_with_kv_cache.default",
            f"head_dim {head}",
            partial(_attending, head),
            partial(_attended, head),
        )
        for operator in ("llama.custom_sdpa.default", "update_cache.default"):
            yield Case(
                operator,
                f"head_dim {head}",
                partial(_attending, head, True),
                partial(_attended, head),
            )

    rms_norm: Callable[[int], Any] = norm.RMSNorm

    class Rotary(torch.nn.Module):
        def __init__(self, apply: Any) -> None:
            super().__init__()
            self.apply_to = apply

        def forward(self, q: Any, k: Any, cos: Any, sin: Any) -> Any:
            return self.apply_to(q, k, cos, sin)

    for shape in ((1, 5, 64), (2, 5, 10), (1, 3, 2050)):
        yield from net(
            "et_vk.rms_norm.default",
            "x".join(map(str, shape)),
            partial(rms_norm, shape[-1]),
            shape,
        )
    for head in (8, 12):
        tokens, half = (1, 3, 2, head), (3, head // 2)
        yield from net(
            "et_vk.apply_rotary_emb.default",
            f"head_dim {head}",
            lambda: Rotary(rope.apply_rotary_emb),
            *(tokens, tokens, half, half),
        )
        yield Case(
            "et_vk.apply_rotary_emb_hf.default",
            f"head_dim {head}",
            lambda: Rotary(rope.hf_apply_rotary_emb),
            partial(_rotated, head),
        )


def _rotated(head: int) -> tuple[Tensor, ...]:
    """Both halves of a head are turned by the same angles."""
    import torch

    angles = torch.randn(3, head // 2).repeat(1, 2)
    return *(torch.randn(1, 3, 2, head) for _ in range(2)), angles.cos(), angles.sin()


def _attended(head: int) -> tuple[Tensor, ...]:
    import torch

    q, k, v = (torch.randn(1, 3, 2, head) for _ in range(3))
    return q, k, v, torch.tensor([2])


def _attending(head: int, apart: bool = False) -> Any:
    """Attention with caches; ``apart``, so that lowering does not fuse it with their updates."""
    import torch
    from torch import nn

    from planner.executorch.libraries import load_libraries

    load_libraries("the sweep", ["llama.update_cache", "llama.custom_sdpa"])

    class Attention(nn.Module):
        """Caches of keys and values that are written at a position, and attended to."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("keys", torch.zeros(1, 16, 2, head))
            self.register_buffer("values", torch.zeros(1, 16, 2, head))

        def forward(self, q: Any, k: Any, v: Any, position: Any) -> Any:
            start = position[0].item()
            check: Any = torch._check
            check(start >= 0)
            check(start < 12)
            torch.ops.llama.update_cache(k, self.keys, start)
            torch.ops.llama.update_cache(v, self.values, start)
            keys: Any = self.keys
            values: Any = self.values
            if apart:
                keys, values = (x.transpose(1, 2).transpose(1, 2) for x in (keys, values))
            return torch.ops.llama.custom_sdpa(q, keys, values, start, None, 0.0, True)

    return Attention()


def _images(of: Any, net: Any) -> Iterator[Case]:
    import torch
    from torch import nn
    from torch.nn import functional as f

    conv = "aten.convolution.default"
    image = (1, 6, 9, 7)
    for make, words in (
        (lambda: nn.Conv2d(6, 10, 3, padding=1), "3x3"),
        (lambda: nn.Conv2d(6, 10, 3, stride=2, dilation=2, padding=2), "strided and dilated"),
        (lambda: nn.Conv2d(6, 10, 1), "pointwise"),
        (lambda: nn.Conv2d(6, 6, 3, groups=6, padding=1), "depthwise"),
        (lambda: nn.ConvTranspose2d(6, 4, 2, stride=2), "transposed"),
    ):
        yield from net(conv, words, make, image)
        yield from net(conv, f"{words} of batches", make, (2, *image[1:]))
        yield from net(conv, words, make, image, float16=True)
    yield from net(conv, "1d", lambda: nn.Conv1d(6, 10, 3, padding=1), (1, 6, 9))
    yield from net(conv, "1d pointwise", lambda: nn.Conv1d(6, 10, 1), (1, 6, 9))
    yield from net(conv, "1d depthwise", lambda: nn.Conv1d(6, 6, 3, groups=6), (1, 6, 9))
    yield from of(
        "aten.avg_pool2d.default", "with a stride", lambda x: f.avg_pool2d(x, 2, 2), image
    )
    yield from of(
        "aten.avg_pool2d.default", "without a stride", lambda x: f.avg_pool2d(x, 2), image
    )
    pool = "aten.max_pool2d_with_indices.default"
    for operator, call in {
        "aten.avg_pool2d.default": lambda x: f.avg_pool2d(x, 2, 2),
        pool: lambda x: f.max_pool2d(x, 2, 2),
        "aten.upsample_nearest2d.vec": lambda x: f.interpolate(x, scale_factor=2.0),
    }.items():
        yield from of(operator, "one", call, image, float16=True)
    yield from of(pool, "with a stride", lambda x: f.max_pool2d(x, 2, 2), image)
    yield from of(pool, "without a stride", lambda x: torch.max_pool2d(x, 2), image)
    yield from of("aten.max_pool2d.default", "one", lambda x: torch.max_pool2d(x, 2, 2), image)
    yield from of(
        "aten.upsample_nearest2d.vec", "twice", lambda x: f.interpolate(x, scale_factor=2.0), image
    )
    yield from of(
        "aten.upsample_bilinear2d.vec",
        "twice",
        lambda x: f.interpolate(x, scale_factor=2.0, mode="bilinear"),
        image,
    )
    yield from net(
        "aten._native_batch_norm_legit_no_training.default",
        "batch",
        lambda: nn.BatchNorm2d(6),
        image,
    )
    for shape, words in ((image, "one"), ((2, 6, 5, 7), "batches")):
        yield from net("aten.native_group_norm.default", words, lambda: nn.GroupNorm(3, 6), shape)
    yield from of(
        "aten.grid_sampler_2d.default",
        "one",
        lambda x, g: f.grid_sample(x, torch.tanh(g), align_corners=True, padding_mode="border"),
        image,
        (1, 4, 5, 2),
    )


def _int8(net: Any) -> Iterator[Case]:
    from torch import nn

    image = (1, 8, 9, 7)
    for operator, words, make in (
        ("et_vk.q8ta_conv2d.default", "3x3", lambda: nn.Conv2d(8, 12, 3, padding=1)),
        ("et_vk.q8ta_conv2d_dw.default", "3x3", lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8)),
        ("et_vk.q8ta_conv2d_pw.default", "1x1", lambda: nn.Conv2d(8, 12, 1)),
    ):
        # A convolution behind it keeps the result in int8.
        last = 8 if "dw" in operator else 12
        yield from net(
            operator,
            words,
            lambda m=make, n=last: nn.Sequential(m(), nn.ReLU(), nn.Conv2d(n, 8, 3, padding=1)),
            image,
            int8=True,
        )
    yield from net(
        "et_vk.q8ta_linear.default",
        "rows",
        lambda: nn.Sequential(nn.Linear(16, 12), nn.Linear(12, 8)),
        (6, 16),
        int8=True,
    )
    yield from net(
        "et_vk.q8ta_linear_gemv.default",
        "one row",
        lambda: nn.Sequential(nn.Linear(16, 12), nn.Linear(12, 8)),
        (1, 16),
        int8=True,
    )
    yield from net("et_vk.q8ta_add.default", "residual", _residual, image, int8=True)
    for rows, words in ((1, "one row"), (6, "rows")):
        yield from net(
            "et_vk.linear_q8ta_q8csw.default",
            words,
            lambda: nn.Sequential(nn.Linear(16, 12), nn.Sigmoid()),
            (rows, 16),
            int8=True,
        )
    quantize = "quantized_decomposed.{}quantize_per_tensor.default"
    chains: tuple[tuple[str, int, Callable[[], Any]], ...] = (
        (quantize.format(""), 12, lambda: nn.Conv2d(8, 12, 3, padding=1)),
        (quantize.format("de"), 12, lambda: nn.Conv2d(8, 12, 1)),
        ("et_vk.q8ta_conv2d_transposed.default", 12, lambda: nn.ConvTranspose2d(8, 12, 2, 2)),
        ("et_vk.q8ta_pixel_shuffle.default", 4, _shuffled),
        ("et_vk.q8ta_relu.default", 12, lambda: nn.Sequential(nn.Conv2d(8, 12, 1), nn.ReLU())),
    )
    for operator, channels, make in chains:
        yield from net(
            operator,
            "in a chain",
            lambda m=make, n=channels: nn.Sequential(m(), nn.Conv2d(n, 8, 3, padding=1)),
            image,
            int8=True,
        )


def _int4(net: Any) -> Iterator[Case]:
    """Weights of four bits, by groups: alone, and with activations that are quantized as well."""
    import torch
    from torch import nn
    from torchao.quantization import quantize_
    from torchao.quantization.granularity import PerGroup
    from torchao.quantization.quant_api import (
        Int8DynamicActivationIntxWeightConfig,
        IntxWeightOnlyConfig,
    )

    def make(config: Any) -> Any:
        module = nn.Sequential(nn.Linear(64, 24))
        quantize_(module, config)
        return module

    dtypes: Any = torch  # which does not declare this one
    group, int4 = PerGroup(32), dtypes.int4
    weights = IntxWeightOnlyConfig(weight_dtype=int4, granularity=group)
    both = Int8DynamicActivationIntxWeightConfig(weight_dtype=int4, weight_granularity=group)
    # Activations on the edge of a step of int8 are rounded to either side.
    for operator, config, noise in (
        ("et_vk.linear_q4gsw.default", weights, 0.0),
        ("et_vk.linear_dq8ca_q4gsw.default", both, 2 / 255),
    ):
        for rows, words in ((1, "one row"), (6, "rows")):
            yield from net(operator, words, lambda c=config: make(c), (rows, 64), noise=noise)


def _shuffled() -> Any:
    from torch import nn

    return nn.Sequential(nn.Conv2d(8, 16, 1), nn.PixelShuffle(2))


def _residual() -> Any:
    from torch import nn

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(8, 8, 3, padding=1)
            self.second = nn.Conv2d(8, 8, 1)
            self.last = nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x: Any) -> Any:
            y = self.first(x)
            return self.last(y + self.second(y))

    return Residual()
