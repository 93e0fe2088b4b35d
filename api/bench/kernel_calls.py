"""Calls of ET-VK's own and of quantized operators for the sweep, each by the operator's name.

What a pass of ExecuTorch makes of PyTorch's operators only in larger programs is called as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def direct_calls(call: Any) -> Iterator[Any]:
    """Cases that ``call`` makes of an operator, a class of shapes, a function, and its arguments.

    Those are two functions: of the inputs of a program, and of the constants that come after them.
    """
    from planner.executorch.libraries import load_libraries

    load_libraries(
        "the sweep",
        ["et_vk.sdpa", "quantized_decomposed.choose_qparams", "torchao.quantize_affine"],
    )
    yield from _images(call)
    yield from _attention(call)
    yield from _linear(call)
    yield from _training(call)
    yield from _quantized(call)


def _scales(*shape: int) -> Tensor:
    """Scales of quantization."""
    import torch

    return torch.rand(shape) * 0.05 + 0.01


def _images(call: Any) -> Iterator[Any]:
    import torch

    ops, r = torch.ops, torch.randn
    for groups, size, words in ((1, 3, "3x3"), (1, 1, "pointwise"), (6, 3, "depthwise")):
        for batches, extra in ((1, ""), (2, " of batches")):
            pad = size // 2

            def convolve(x: Any, w: Any, b: Any, p: int = pad, g: int = groups) -> Any:
                pair = [1, 1]
                return ops.et_vk.conv_with_clamp(
                    x, w, b, pair, [p, p], pair, False, [0, 0], g, -0.5, 0.5
                )

            yield call(
                "et_vk.conv_with_clamp.default",
                f"{words}{extra}",
                convolve,
                lambda n=batches: (r(n, 6, 9, 7),),
                lambda g=groups, s=size: (r(6, 6 // g, s, s), r(6)),
            )
    for shape, words in (((1, 6, 9, 7), "one"), ((2, 3, 4, 4), "batches")):
        yield call(
            "et_vk.grid_priors.default",
            words,
            lambda x: ops.et_vk.grid_priors(x, 8, 0.5),
            lambda s=shape: (r(s),),
        )


def _attention(call: Any) -> Iterator[Any]:
    import torch

    ops, r = torch.ops, torch.randn
    sizes = (
        (8, 8, 8),
        (5, 8, 8),
        (8, 7, 8),
        (1, 8, 8),
        (8, 8, 6),
        (8, 8, 10),
        (8, 8, 12),
        (5, 7, 12),
    )
    for tokens, keys, head in sizes:
        words = f"{tokens}x{keys}, head_dim {head}"
        yield call(
            "et_vk.sdpa.default",
            words,
            lambda q, k, v: ops.et_vk.sdpa(q, k, v, None, None),
            lambda s=tokens, n=keys, h=head: (r(1, 2, s, h), r(1, 2, n, h), r(1, 2, n, h)),
        )
    for tokens, keys in ((8, 8), (5, 8), (8, 7)):
        yield call(
            "et_vk.sdpa.default",
            f"{tokens}x{keys} with a mask",
            lambda q, k, v, mask: ops.et_vk.sdpa(q, k, v, mask, None),
            lambda s=tokens, n=keys: (r(1, 2, s, 8), r(1, 2, n, 8), r(1, 2, n, 8), r(1, 1, s, n)),
        )
    for tokens, width, words in ((5, 12, "of 12"), (3, 10, "of 10"), (2, 2048, "long row")):
        yield call(
            "et_vk.apply_rotary_emb_interleaved.default",
            words,
            ops.et_vk.apply_rotary_emb_interleaved,
            lambda n=tokens, c=width: (r(1, n, c), r(n, c)),
        )


def _linear(call: Any) -> Iterator[Any]:
    import torch

    ops, r = torch.ops, torch.randn

    def integers(low: int, high: int, shape: tuple[int, ...], dtype: Any) -> Tensor:
        return torch.randint(low, high, shape).to(dtype)

    for rows, width, out, words in (
        (1, 16, 8, "one row"),
        (6, 32, 12, "rows"),
        (3, 64, 20, "wide"),
    ):
        yield call(
            "aten._weight_int8pack_mm.default",
            words,
            torch.ops.aten._weight_int8pack_mm,
            lambda n=rows, i=width: (r(n, i),),
            lambda i=width, o=out: (integers(-128, 128, (o, i), torch.int8), _scales(o)),
        )
        yield call(
            "et_vk.linear_qcs4w.default",
            words,
            ops.et_vk.linear_qcs4w,
            lambda n=rows, i=width: (r(n, i),),
            lambda i=width, o=out: (integers(0, 256, (o, i // 2), torch.uint8), _scales(o)),
        )
    for indices in ((5,), (2, 6), (1, 6), (2, 1, 4)):
        yield call(
            "et_vk.embedding_q4gsw.default",
            "x".join(map(str, indices)),
            lambda i, w, s: ops.et_vk.embedding_q4gsw(w, s, 32, i),
            lambda s=indices: (torch.randint(0, 50, s),),
            lambda: (integers(0, 256, (50, 32), torch.uint8), _scales(50, 2)),
        )
        yield call(
            "quantized_decomposed.embedding_4bit.dtype",
            "x".join(map(str, indices)),
            lambda i, w, s: ops.quantized_decomposed.embedding_4bit.dtype(
                w, s, None, -8, 7, i, dtype=torch.float32
            ),
            lambda s=indices: (torch.randint(0, 50, s),),
            lambda: (integers(0, 256, (50, 32), torch.uint8), _scales(50, 2)),
        )


def _training(call: Any) -> Iterator[Any]:
    import torch

    ops, r = torch.ops, torch.randn
    for rows in (1, 6):
        words = "one row" if rows == 1 else "rows"
        yield call(
            "et_vk.linear_q4gsw_backward.default",
            words,
            lambda d, w, s: ops.et_vk.linear_q4gsw_backward(d, w, s, 32),
            lambda n=rows: (r(n, 24),),
            lambda: (
                torch.randint(0, 256, (24, 32)).to(torch.uint8),
                _scales(2, 24),
            ),
        )
        yield call(
            "et_vk.linear_dW.default",
            words,
            ops.et_vk.linear_dW,
            lambda n=rows: (r(n, 12), r(n, 10)),
        )
        yield call(
            "et_vk.fused_ce.default",
            words,
            lambda x, y: ops.et_vk.fused_ce(x, y, 4.0),
            lambda n=rows: (r(n, 10), torch.randint(0, 10, (n,)).to(torch.int32)),
        )
    yield call(
        "et_vk.adamw_step.default",
        "rows",
        lambda g, p, m, v: ops.et_vk.adamw_step(p, m, v, g, 0.1, 0.9, 0.99, 1e-6, 0.01, 0.5, 0.6),
        lambda: (r(6, 10),),
        lambda: (r(6, 10), r(6, 10), torch.rand(6, 10)),
    )
    yield call(
        "et_vk.q4gsw_requant.default",
        "rows",
        lambda x, s: ops.et_vk.q4gsw_requant(x, s, 32),
        lambda: (r(24, 64), _scales(2, 24)),
    )


def _quantized(call: Any) -> Iterator[Any]:
    import torch

    q, ao, r = torch.ops.quantized_decomposed, torch.ops.torchao, torch.randn
    int8 = torch.int8

    def some(*shape: int) -> Tensor:
        return torch.randint(-128, 128, shape).to(int8)

    for shape, words in (((3, 10), "2d"), ((2, 5, 6), "3d"), ((2, 3, 5, 6), "batch")):
        n, last = shape[0], shape[-1]
        tokens = shape[:-1]

        def per_channel(size: int = n) -> tuple[Tensor, ...]:
            return _scales(size), torch.randint(-8, 8, (size,))

        def per_token(of: tuple[int, ...] = tokens) -> tuple[Tensor, ...]:
            return _scales(*of, 1), torch.randint(-8, 8, (*of, 1))

        yield call(
            "quantized_decomposed.quantize_per_channel.default",
            words,
            lambda x, s, z: q.quantize_per_channel(x, s, z, 0, -128, 127, int8),
            lambda s=shape: (r(s),),
            per_channel,
        )
        yield call(
            "quantized_decomposed.dequantize_per_channel.default",
            words,
            lambda x, s, z: q.dequantize_per_channel(x, s, z, 0, -128, 127, int8),
            lambda s=shape: (some(*s),),
            per_channel,
        )
        yield call(
            "quantized_decomposed.quantize_per_token.default",
            words,
            lambda x, s, z: q.quantize_per_token(x, s, z, -128, 127, int8),
            lambda s=shape: (r(s),),
            per_token,
        )
        yield call(
            "quantized_decomposed.dequantize_per_token.default",
            words,
            lambda x, s, z: q.dequantize_per_token(x, s, z, -128, 127, int8, torch.float32),
            lambda s=shape: (some(*s),),
            per_token,
        )
        yield call(
            "quantized_decomposed.choose_qparams.tensor",
            words,
            lambda x: q.choose_qparams.tensor(x, -128, 127, 1e-5, int8),
            lambda s=shape: (r(s),),
        )
        yield call(
            "quantized_decomposed.choose_qparams_per_token_asymmetric.default",
            words,
            lambda x: q.choose_qparams_per_token_asymmetric(x, int8),
            lambda s=shape: (r(s),),
        )
        yield call(
            "quantized_decomposed.quantize_per_tensor.tensor",
            words,
            lambda x, s, z: q.quantize_per_tensor.tensor(x, s, z, -128, 127, int8),
            lambda s=shape: (r(s), torch.tensor([0.03]), torch.tensor([2])),
        )
        yield call(
            "quantized_decomposed.dequantize_per_tensor.tensor",
            words,
            lambda x, s, z: q.dequantize_per_tensor.tensor(x, s, z, -128, 127, int8),
            lambda s=shape: (some(*s), torch.tensor([0.03]), torch.tensor([2])),
        )
        block = [*[1] * len(tokens), last]
        yield call(
            "torchao.quantize_affine.default",
            words,
            lambda x, s, z, b=block: ao.quantize_affine(x, b, s, z, int8, -128, 127),
            lambda s=shape: (r(s),),
            per_token,
        )
        yield call(
            "torchao.dequantize_affine.default",
            words,
            lambda x, s, z, b=block: ao.dequantize_affine(x, b, s, z, int8, -128, 127),
            lambda s=shape: (some(*s),),
            per_token,
        )
    for shape, words in (((3, 12), "2d"), ((3, 10), "odd 2d"), ((2, 3, 12), "3d")):
        rows = [*[1] * (len(shape) - 1), shape[-1]]
        for dtype, extra in ((int8, ""), (None, ", zero points of int64")):
            yield call(
                "torchao.choose_qparams_affine.default",
                f"{words}{extra}",
                lambda x, b=rows, d=dtype: ao.choose_qparams_affine(
                    x, "ASYMMETRIC", b, int8, -128, 127, None, None, d
                ),
                lambda s=shape: (r(s),),
            )
