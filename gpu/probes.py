"""What a calibration measures, as data: repacks, reads and writes of tensors of many shapes.

This machine's GPU and a browser's WebGPU run the same shaders on the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product
from math import prod
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from gpu.bench import FLOATS, INT8S
from gpu.kernel import Shader
from gpu.placement import CONTIGUOUS, Placement
from gpu.reference import pack
from gpu.shader import shader
from gpu.sweep import SCALARS, read_shader, write_shader
from planner.costs.profile import pair_key
from planner.ir.representation import TensorRepr

Shape = tuple[int, ...]
Words = NDArray[np.uint32]
Bytes = NDArray[np.uint8]
Kind = Literal["repack", "read", "write"]
SweepName = Literal["trial", "quick", "small", "large"]
Pair = tuple[TensorRepr, TensorRepr]

REPRESENTATIONS: Final = (*FLOATS, *INT8S)

_TRIAL: Final[tuple[Shape, ...]] = (
    (1, 4, 4, 4),
    (64, 4, 4, 4),
)
_QUICK: Final[tuple[Shape, ...]] = (
    (1, 8, 4, 4),
    (1, 1, 49, 96),
    (1, 16, 56, 56),
    (1, 32, 80, 80),
)
_SMALL: Final[tuple[Shape, ...]] = (
    (1, 8, 4, 4),
    (1, 24, 8, 8),
    (1, 1, 64, 64),
    (1, 1, 49, 96),
    (1, 64, 14, 14),
    (1, 32, 20, 20),
    (1, 320, 8, 8),
    (1, 144, 14, 14),
    (1, 1, 256, 160),
    (1, 16, 56, 56),
    (1, 96, 28, 28),
    (1, 24, 64, 64),
    (1, 8, 196, 100),
    (1, 1, 197, 768),
    (1, 32, 80, 80),
    (1, 96, 56, 56),
    (1, 1, 784, 768),
    (1, 64, 112, 112),
)
_LARGE: Final[tuple[Shape, ...]] = (
    (1, 192, 96, 96),
    (1, 12, 784, 392),
    (4, 96, 112, 112),
    (1, 64, 256, 256),
    (1, 512, 128, 160),
    (8, 96, 112, 224),
    (1, 256, 320, 320),
    (16, 160, 128, 160),
    (64, 96, 112, 112),
)
_TRIAL_HELD_OUT: Final[tuple[Shape, ...]] = ((8, 4, 4, 4),)
_QUICK_HELD_OUT: Final[tuple[Shape, ...]] = (
    (1, 40, 14, 14),
    (1, 1, 196, 192),
)
_SMALL_HELD_OUT: Final[tuple[Shape, ...]] = (
    (1, 16, 7, 7),
    (1, 40, 14, 14),
    (1, 1, 196, 192),
    (1, 48, 40, 40),
    (1, 128, 28, 28),
    (1, 32, 112, 112),
    (1, 1, 1024, 512),
)
_LARGE_HELD_OUT: Final[tuple[Shape, ...]] = (
    (1, 256, 64, 80),
    (2, 96, 112, 112),
    (1, 24, 392, 392),
    (6, 128, 96, 160),
    (24, 96, 112, 112),
)
_MOST_CHECKED: Final = 2**20
"""Elements of the largest tensors whose bits are checked: larger ones are repacked alike."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A dispatch to measure: a tensor is repacked, read whole, or written whole.

    The target of a read, and the source of a write, is ``SCALARS``.
    """

    kind: Kind
    source: Placement
    target: Placement

    @property
    def swept(self) -> Placement:
        """The tensor of a read or a write; of a repack, its target."""
        return self.source if self.kind == "read" else self.target

    @property
    def key(self) -> str:
        """Its name among the probes of a shape."""
        if self.kind == "repack":
            return pair_key(self.source.representation, self.target.representation)
        return access_key(self.kind, self.swept.representation)

    @property
    def bytes(self) -> int:
        """Bytes that it reads and writes, by which its time is fitted."""
        moved = self.source.bytes + self.target.bytes
        return moved if self.kind == "repack" else self.swept.bytes

    @property
    def shader(self) -> Shader:
        """The shader that is dispatched."""
        if self.kind == "repack":
            return shader(self.source, self.target)
        return read_shader(self.source) if self.kind == "read" else write_shader(self.target)


def access_key(kind: str, representation: TensorRepr) -> str:
    """The name of a read or a write of a representation."""
    return f"{kind} {representation}"


def references(shape: Shape, words: Words) -> dict[tuple[Kind, Placement], Bytes]:
    """The bytes that repacks and writes leave in their targets, by kind and target.

    The tensor's elements are the first bytes of ``words``, which has a word for each element; a
    write fills a tensor with ``scalar``. Reads leave nothing to look at.
    """
    found: dict[tuple[Kind, Placement], Bytes] = {}
    for target in _swept(shape):
        size = target.element_bytes
        elements = words.view(f"u{size}")[: prod(shape)]
        found["repack", target] = pack(elements.reshape(shape), target)
        filled = np.full(prod(shape) * size, scalar(words), np.uint8)
        found["write", target] = pack(filled.view(f"u{size}").reshape(shape), target)
    return found


def scalar(words: Words) -> int:
    """The byte that a write fills a tensor with: never zero, as padding is."""
    return int(words[0]) & 0xFF | 1


def pattern(seed: int, count: int) -> Words:
    """Words that no one knows without the seed, a number of 32 bits; the first are the same.

    ``api/dashboard/static/calibration/pattern.js`` makes the same ones.
    """
    word = np.arange(count, dtype=np.uint32) + np.uint32(seed)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        word ^= word >> np.uint32(shift)
        word *= np.uint32(factor)
    return word


def digest(data: Bytes) -> str:
    """SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(data.tobytes()).hexdigest()


@dataclass(frozen=True)
class Sweep:
    """The shapes that are measured: those that curves are fitted to, and those that judge them."""

    name: SweepName
    fitted: tuple[Shape, ...]
    held_out: tuple[Shape, ...]

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """All shapes, in the order in which they are measured."""
        return self.fitted + self.held_out


SWEEPS: Final[Mapping[str, Sweep]] = MappingProxyType(
    {
        sweep.name: sweep
        for sweep in (
            Sweep("trial", _TRIAL, _TRIAL_HELD_OUT),
            Sweep("quick", _QUICK, _QUICK_HELD_OUT),
            Sweep("small", _SMALL, _SMALL_HELD_OUT),
            Sweep("large", _SMALL + _LARGE, _SMALL_HELD_OUT + _LARGE_HELD_OUT),
        )
    }
)
"""``trial`` says that all works, and little more. ``small`` is enough for a driver on the CPU. It
has the shapes of ``quick``, and ``large`` those of ``small``."""


def pairs() -> Iterator[tuple[Pair, int]]:
    """Each pair of representations whose repack is measured, with the bytes per element."""
    for group, size in ((FLOATS, 4), (INT8S, 1)):
        for source, target in product(group, group):
            if source != target:
                yield (source, target), size


@lru_cache(maxsize=64)
def probes(shape: Shape) -> tuple[Probe, ...]:
    """What is measured of a shape: each repack, and reads and writes in each representation."""
    repacks = [
        Probe("repack", Placement(shape, source, size), Placement(shape, target, size))
        for (source, target), size in pairs()
    ]
    swept = _swept(shape)
    reads = [Probe("read", placement, SCALARS) for placement in swept]
    writes = [Probe("write", SCALARS, placement) for placement in swept]
    return (*repacks, *reads, *writes)


def _swept(shape: Shape) -> list[Placement]:
    return [Placement(shape, r, 1 if r.is_packed_int8 else 4) for r in REPRESENTATIONS]


def flat(placement: Placement) -> Placement:
    """The same elements row by row: where the tensor of a probe is made from."""
    return Placement(placement.shape, CONTIGUOUS, placement.element_bytes)


def is_checked(shape: Shape) -> bool:
    """Whether the bits of a shape's repacks and writes are compared with the reference."""
    return prod(shape) <= _MOST_CHECKED
