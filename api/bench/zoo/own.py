"""Small nets of our own: blocks that the models of transformers do not have."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from api.bench.zoo.sample import Build, Sample, Size

if TYPE_CHECKING:
    from torch import Tensor, nn


def _unet(size: Size) -> Sample:
    """A U-Net: images go down by pooling and up by transposed convolutions, with skips."""
    import torch
    from torch import nn

    widths = (32, 64, 128, 256) if size == "full" else (8, 16, 24)
    image = 256 if size == "full" else 32

    def twice(inside: int, outside: int) -> nn.Sequential:
        return nn.Sequential(*_convolution(inside, outside, 3), *_convolution(outside, outside, 3))

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            pairs = list(pairwise(widths))
            self.first = twice(3, widths[0])
            self.down = nn.ModuleList(twice(a, b) for a, b in pairs)
            self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairs[::-1])
            self.join = nn.ModuleList(twice(2 * a, a) for a, _ in pairs[::-1])
            self.last = nn.Conv2d(widths[0], 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x, skips = self.first(x), []
            for block in self.down:
                skips.append(x)
                x = block(nn.functional.max_pool2d(x, 2, 2))
            for up, join in zip(self.up, self.join, strict=True):
                x = join(torch.cat([skips.pop(), up(x)], dim=1))
            found: Tensor = self.last(x)
            return found

    return _seeded(UNet, lambda: (torch.randn(1, 3, image, image),))


def _yolo_head(size: Size) -> Sample:
    """The head of an anchor-free detector: boxes as distributions of distances, and classes."""
    import torch
    from torch import nn

    widths, classes, bins = ((64, 128, 256), 80, 16) if size == "full" else ((8, 16, 24), 5, 4)
    image = 640 if size == "full" else 64
    strides = (8, 16, 32)

    def branch(inside: int, inner: int, outside: int) -> nn.Sequential:
        return nn.Sequential(
            *_convolution(inside, inner, 3, nn.SiLU),
            *_convolution(inner, inner, 3, nn.SiLU),
            nn.Conv2d(inner, outside, 1),
        )

    class Head(nn.Module):
        centres: Tensor
        scales: Tensor
        bins: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.boxes = nn.ModuleList(branch(w, max(16, w // 4), 4 * bins) for w in widths)
            self.kinds = nn.ModuleList(branch(w, widths[0], classes) for w in widths)
            grids = [image // stride for stride in strides]
            centres = [torch.cartesian_prod(torch.arange(n), torch.arange(n)) + 0.5 for n in grids]
            self.register_buffer("centres", torch.cat(centres).flip(1).T[None].contiguous())
            scales = [torch.full((n * n,), float(s)) for n, s in zip(grids, strides, strict=True)]
            self.register_buffer("scales", torch.cat(scales))
            self.register_buffer("bins", torch.arange(float(bins)).view(1, bins, 1, 1))

        def forward(self, *levels: Tensor) -> Tensor:
            found = [
                torch.cat([boxes(x), kinds(x)], dim=1).flatten(2)
                for x, boxes, kinds in zip(levels, self.boxes, self.kinds, strict=True)
            ]
            boxes, kinds = torch.split(torch.cat(found, dim=2), [4 * bins, classes], dim=1)
            # A side of a box is the mean of a distribution over bins.
            spread = boxes.view(1, 4, bins, -1).transpose(1, 2).softmax(dim=1)
            near, far = (spread * self.bins).sum(dim=1).chunk(2, dim=1)
            first, last = self.centres - near, self.centres + far
            box = torch.cat([(first + last) / 2, last - first], dim=1) * self.scales
            return torch.cat([box, kinds.sigmoid()], dim=1)

    def levels() -> tuple[Tensor, ...]:
        pairs = zip(widths, strides, strict=True)
        return tuple(torch.randn(1, w, image // s, image // s) for w, s in pairs)

    return _seeded(Head, levels)


def _lstm(size: Size) -> Sample:
    """An LSTM over a sequence, which lowering unrolls step by step."""
    import torch
    from torch import nn

    steps, width, layers = (64, 128, 2) if size == "full" else (4, 12, 1)

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(width, width, layers, batch_first=True)
            self.last = nn.Linear(width, 10)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.last(self.lstm(x)[0][:, -1])
            return found

    return _seeded(Recurrent, lambda: (torch.randn(1, steps, width),))


def _vit_s_encoder(size: Size) -> Sample:
    """An image encoder as EfficientTAM's and EdgeTAM's: a ViT-S and a neck of convolutions."""
    import torch
    from torch import nn

    width, heads, blocks, image = (384, 6, 12, 512) if size == "full" else (48, 3, 2, 64)
    patch, outside = 16, 256 if size == "full" else 32

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = nn.LayerNorm(width)
            self.between = nn.LayerNorm(width)
            self.qkv = nn.Linear(width, 3 * width)
            self.mix = nn.Linear(width, width)
            self.mlp = nn.Sequential(
                nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
            )
            self.scales = nn.Parameter(torch.rand(2, width))

        def forward(self, x: Tensor) -> Tensor:
            n = x.shape[1]
            qkv = self.qkv(self.before(x)).view(1, n, 3, heads, width // heads)
            q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
            weights = (q @ k.transpose(-2, -1) * (width // heads) ** -0.5).softmax(dim=-1)
            mixed = self.mix((weights @ v).transpose(1, 2).reshape(1, n, width))
            x = x + mixed * self.scales[0]
            found: Tensor = x + self.mlp(self.between(x)) * self.scales[1]
            return found

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            side = image // patch
            self.patches = nn.Conv2d(3, width, patch, stride=patch)
            self.places = nn.Parameter(torch.randn(1, side * side, width) / 8)
            self.blocks = nn.Sequential(*(Block() for _ in range(blocks)))
            self.neck = nn.ModuleList(
                [
                    nn.Conv2d(width, outside, 1, bias=False),
                    nn.LayerNorm(outside),
                    nn.Conv2d(outside, outside, 3, padding=1, bias=False),
                    nn.LayerNorm(outside),
                ]
            )

        def forward(self, x: Tensor) -> Tensor:
            x = self.patches(x)
            side = x.shape[-1]
            x = self.blocks(x.flatten(2).transpose(1, 2) + self.places)
            x = x.transpose(1, 2).reshape(1, width, side, side)
            for module in self.neck:
                if isinstance(module, nn.LayerNorm):
                    x = module(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
                else:
                    x = module(x)
            return x

    return _seeded(Encoder, lambda: (torch.randn(1, 3, image, image),))


def _convolution(inside: int, outside: int, kernel: int, act: Any = None) -> list[nn.Module]:
    from torch import nn

    return [
        nn.Conv2d(inside, outside, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outside),
        (act or nn.ReLU)(),
    ]


def _seeded(make: Callable[[], nn.Module], inputs: Callable[[], tuple[Tensor, ...]]) -> Sample:
    import torch

    torch.manual_seed(0)
    return Sample(make().eval(), inputs())


OWN: Final[dict[str, Build]] = {
    "unet": _unet,
    "yolo_head": _yolo_head,
    "lstm": _lstm,
    "vit_s_encoder": _vit_s_encoder,
}
"""The nets by name."""
