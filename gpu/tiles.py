"""Shaders that convert tiles of bricks through workgroup memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Final

from gpu.access import AXES, scaled, wgsl_sum
from gpu.bricks import BrickKernel
from gpu.kernel import Step
from gpu.placement import UNIT, Extents, Placement
from gpu.tiling import DIMS, choose

_ITEM_TYPES: Final = {4: "u32", 8: "vec2<u32>", 16: "vec4<u32>"}


class TileKernel(BrickKernel):
    """A shader whose workgroups convert a tile of bricks each.

    Invocations read bricks that are neighbours in the source, and write items (units, or blocks of
    four) that are neighbours in the target. In between, the items are in workgroup memory.
    """

    def __init__(self, source: Placement, target: Placement, step: Step) -> None:
        super().__init__(source, target, step)
        item_bytes = UNIT * self.turned_bytes * (1 if target.outer_dim is None else UNIT)
        self._item_type = _ITEM_TYPES[item_bytes]
        self._tiling, self._threads = choose(source, target, self.brick, self.grid, item_bytes)
        self._read, self._write = self._tiling.walks(self._threads)

    @property
    def threads(self) -> int:
        """Invocations in a workgroup."""
        return self._threads

    @property
    def _tiles(self) -> Extents:
        w, h, c, n = (-(-g // t) for g, t in zip(self.grid, self._tiling.tile, strict=True))
        return w, h, c, n

    @property
    def groups(self) -> int:
        """Workgroups, each for a tile."""
        return prod(self._tiles)

    def declarations(self) -> Iterator[str]:
        """The workgroup's memory."""
        yield f"var<workgroup> items: array<{self._item_type}, {self._tiling.size}>;"

    def lines(self) -> Iterator[str]:
        """The body of the shader."""
        tiles = [(f"tile_{AXES[d]}", self._tiles[d]) for d in self.written_order()]
        yield from self.decode("workgroup", tiles)
        yield "let n = tile_n;"
        yield "{"
        yield from self._read_tile()
        yield "}"
        yield "workgroupBarrier();"
        yield from self._write_tile()

    def _read_tile(self) -> Iterator[str]:
        tiling = self._tiling
        yield from self._read.lines()
        yield f"let slot = {self._slot(tiling.ratios)};"
        for first in self._read.rounds:
            yield "{"
            # Bricks beyond the tensor's edge are never written, so any brick will do: the last.
            for dim in DIMS:
                index = _index(dim, tiling.tile, first)
                if self.grid[dim] % tiling.tile[dim]:
                    index = f"min({index}, {self.grid[dim] - 1}u)"
                yield f"let brick_{AXES[dim]} = {index};"
                yield f"let {AXES[dim]} = {scaled(f'brick_{AXES[dim]}', self.brick[dim])};"
            yield from self.read()
            yield from self.turn()
            for offsets in self.items():
                items = [first[d] * tiling.ratios[d] + offsets[d] // tiling.steps[d] for d in DIMS]
                at = sum(items[d] * tiling.strides[d] for d in DIMS)
                yield f"items[slot + {at}u] = {self.item(offsets)};"
            yield "}"

    def _write_tile(self) -> Iterator[str]:
        tiling = self._tiling
        yield from self._write.lines()
        yield f"let slot = {self._slot((1, 1, 1))};"
        for first in self._write.rounds:
            yield "{"
            for dim in DIMS:
                yield f"let brick_{AXES[dim]} = {_index(dim, tiling.counts, first)};"
                yield f"let {AXES[dim]} = {scaled(f'brick_{AXES[dim]}', tiling.steps[dim])};"
            yield f"if ({self._inside()}) {{"
            at = sum(first[d] * tiling.strides[d] for d in DIMS)
            yield f"let value = items[slot + {at}u];"
            yield from self.write((0, 0, 0), "value")
            yield "}"
            yield "}"

    def _slot(self, factors: Sequence[int]) -> str:
        return wgsl_sum((f"i_{AXES[d]}", factors[d] * self._tiling.strides[d]) for d in DIMS)

    def _inside(self) -> str:
        """The condition that an item is in the tensor; empty where tiles fit it exactly."""
        conditions = [
            f"{AXES[d]} < {self.extents[d]}u"
            for d in DIMS
            if self.extents[d] % (self._tiling.tile[d] * self.brick[d])
        ]
        return " && ".join(conditions) or "true"


def _index(dim: int, counts: Sequence[int], first: Mapping[int, int]) -> str:
    """WGSL for an index along a dimension, in a round that is ``first`` from the first one."""
    return f"(tile_{AXES[dim]} * {counts[dim]}u + i_{AXES[dim]} + {first[dim]}u)"
