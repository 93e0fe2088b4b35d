"""Small nets that between them use most kinds of operators that ET-VK registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Mixed(nn.Module):
    """Convolutions, norms, attention, slices, reductions, comparisons, and 6-d views."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.group_norm = nn.GroupNorm(4, 16)
        self.layer_norm = nn.LayerNorm(16)
        self.qkv = nn.Linear(16, 48)
        self.project = nn.Linear(16, 16)
        self.up = nn.Conv2d(16, 16, 1)
        self.conv1d = nn.Conv1d(4, 4, 3, padding=1, groups=4)
        self.pointwise1d = nn.Conv1d(4, 8, 1)
        self.register_buffer("scale", torch.randn(1, 1, 16))
        self.register_buffer("index", torch.tensor([3, 1, 0]))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = functional.gelu(self.group_norm(self.stem(x)))
        tokens = x.flatten(2).transpose(1, 2)
        tokens = self.layer_norm(tokens) * self.scale
        q, k, v = self.qkv(tokens).split(16, dim=-1)
        weights = torch.softmax(torch.bmm(q, k.transpose(1, 2)) * 0.25, dim=-1)
        tokens = tokens + self.project(torch.bmm(weights, v))
        x = tokens.transpose(1, 2).reshape(1, 16, 8, 8)
        windows = x.reshape(1, 16, 2, 4, 2, 4).permute(0, 2, 4, 3, 5, 1).reshape(4, 16, 16)
        pooled = functional.max_pool2d(x, 2)
        up = functional.interpolate(pooled, scale_factor=2, mode="nearest")
        x = torch.cat([x, up, functional.pad(x[:, :8], (0, 0, 0, 0, 0, 8))], dim=1)
        shuffled = functional.pixel_shuffle(x, 2)
        mask = (shuffled > 0.0).to(torch.float32)
        rows = shuffled.mean(-1, keepdim=True) + shuffled.amax(-1, keepdim=True)
        spatial = shuffled.mean((2, 3), keepdim=True)
        line = windows.mean(-1)[:, :8]
        line = self.pointwise1d(self.conv1d(line.reshape(1, 4, 8)))
        picked = self.up(pooled)[0, 0][self.index]
        return shuffled * mask, rows, spatial, line.sum(-1), picked, windows


class Embedded(nn.Module):
    """Integers in: embedding, positions, a mask that every layer reads, bool tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 16)
        self.places = nn.Embedding(8, 16)
        self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(3))
        self.norm = nn.LayerNorm(16)

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x = self.words(ids) + self.places(torch.arange(8))
        bias = torch.where(mask > 0, 0.0, -1e4)[:, None, :]
        for layer in self.layers:
            scores = torch.softmax(torch.bmm(x, x.transpose(1, 2)) + bias, dim=-1)
            x = self.norm(x + layer(torch.bmm(scores, x)))
        return x, x.argmax(-1)


class Residual(nn.Module):
    """For int8: strided, depthwise, pointwise and grouped convolutions, residuals, a linear."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.pointwise = nn.Conv2d(16, 16, 1)
        self.conv = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x))
        y = self.pointwise(functional.relu(self.depthwise(x)))
        x = functional.relu(x + y)
        x = x + functional.relu(self.conv(x))
        x = torch.cat([x, y], dim=1)[:, 8:24]
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


NETS: dict[str, tuple[Callable[[], nn.Module], Callable[[], tuple[Tensor, ...]], bool]] = {
    "mixed": (Mixed, lambda: (torch.randn(1, 3, 16, 16),), False),
    "embedded": (
        Embedded,
        lambda: (torch.randint(0, 50, (2, 8)), torch.randint(0, 2, (2, 8))),
        False,
    ),
    "residual_int8": (Residual, lambda: (torch.randn(1, 3, 16, 16),), True),
}


def export(name: str) -> Any:
    """The exported program of a net, with seeded random weights."""
    from api.bench.zoo import quantized

    torch.manual_seed(0)
    make, inputs, int8 = NETS[name]
    net, example = make().eval(), inputs()
    return torch.export.export(quantized(net, example) if int8 else net, example)
