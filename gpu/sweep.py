"""Shaders that only read, or only write, a whole tensor, to measure an operator's accesses."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from functools import lru_cache
from math import prod
from typing import Final

from gpu.access import AXES, WORD_BYTES, scaled
from gpu.bricks import BrickKernel
from gpu.kernel import THREADS, Shader
from gpu.placement import CONTIGUOUS, UNIT, Placement

SCALARS: Final = Placement((4,), CONTIGUOUS, 4)
"""The other side of a sweep: four words."""

_NEVER: Final = 0x9E3779B9
"""A value that no fold of the measured words equals."""


class _Sweep(BrickKernel):
    """A shader whose invocations take several units, or blocks of units, of a tensor each."""

    def __init__(self, source: Placement, target: Placement, swept: Placement) -> None:
        super().__init__(source, target, "repack")
        self.swept = swept
        self.extents = swept.extents
        units = UNIT if swept.outer_dim is not None else 1
        self.words = UNIT * swept.element_bytes * units // WORD_BYTES
        # 64 bytes for each invocation, far apart, so that neighbours take neighbouring units.
        self._count = 16 // self.words
        sizes = [UNIT if d in (swept.packed_dim, swept.outer_dim) else 1 for d in range(4)]
        self._sizes = sizes
        self._grid = [-(-e // size) for e, size in zip(swept.extents, sizes, strict=True)]
        self._invocations = -(-prod(self._grid) // self._count)

    @property
    def groups(self) -> int:
        return -(-self._invocations // THREADS)

    def lines(self) -> Iterator[str]:
        yield f"let index = workgroup * {THREADS}u + thread;"
        yield f"if (index >= {self._invocations}u) {{ return; }}"
        yield from self.before()
        order = (0, 1, 2, 3) if self.swept.is_texture else self.swept.order[::-1]
        for k in range(self._count):
            yield "{"
            # Invocations past the end take the last unit again.
            last = prod(self._grid) - 1
            yield f"let unit = min(index + {k * self._invocations}u, {last}u);"
            yield from self.decode("unit", [(f"brick_{AXES[d]}", self._grid[d]) for d in order])
            for dim, size in enumerate(self._sizes):
                yield f"let {AXES[dim]} = {scaled(f'brick_{AXES[dim]}', size)};"
            yield from self.each()
            yield "}"
        yield from self.after()

    def before(self) -> Iterator[str]:
        yield from ()

    @abstractmethod
    def each(self) -> Iterator[str]: ...

    def after(self) -> Iterator[str]:
        yield from ()


class _ReadKernel(_Sweep):
    def __init__(self, placement: Placement) -> None:
        super().__init__(placement, SCALARS, placement)

    def before(self) -> Iterator[str]:
        yield "var folded = 0u;"

    def each(self) -> Iterator[str]:
        yield f"let words = {self.source.load((0, 0, 0))};"
        parts = [f"words.{part}" for part in "xyzw"[: self.words]] if self.words > 1 else ["words"]
        yield f"folded ^= {' ^ '.join(parts)};"

    def after(self) -> Iterator[str]:
        # Never true, but the compiler cannot know that and must read the words.
        yield f"if (folded == {_NEVER}u) {{ result[0] = vec4<u32>(index); }}"


class _WriteKernel(_Sweep):
    def __init__(self, placement: Placement) -> None:
        super().__init__(SCALARS, placement, placement)

    def before(self) -> Iterator[str]:
        yield f"let words = source[0].{'xyzw'[: self.words]};"

    def each(self) -> Iterator[str]:
        yield from self.write((0, 0, 0), "words")


@lru_cache(maxsize=1024)
def read_shader(placement: Placement) -> Shader:
    """A shader that reads every unit of a tensor; its target is ``SCALARS``."""
    return _ReadKernel(placement).shader()


@lru_cache(maxsize=1024)
def write_shader(placement: Placement) -> Shader:
    """A shader that writes every unit of a tensor; its source is ``SCALARS``."""
    return _WriteKernel(placement).shader()
