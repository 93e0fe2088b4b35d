"""Shaders that convert tiles of bricks through workgroup memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Final

from gpu.access import AXES, Offsets, scaled, wgsl_sum
from gpu.bricks import BrickKernel
from gpu.kernel import THREADS, Step
from gpu.placement import UNIT, Extents, Placement
from planner.ir.representation import CHANNELS, HEIGHT, WIDTH

_DIMS: Final = (WIDTH, HEIGHT, CHANNELS)
_THREAD_BYTES: Final = 64
"""Bytes that an invocation reads or writes before it waits: enough to hide the memory's latency,
within the 16 KiB of workgroup memory that every adapter has."""

_MOST_WASTE: Final = 0.2
_MANY_BRICKS: Final = 2**18
"""At this number, a large GPU stays busy even when invocations take several each."""

Parts = list[tuple[int, int]]
"""How a linear index runs through a tile: (dimension, count), fastest first. A dimension that
occurs twice is split, its low part first. Counts are powers of two."""


class TileKernel(BrickKernel):
    """A shader whose workgroups convert a tile of bricks each.

    Invocations read bricks that are neighbours in the source, and write items (units, or blocks of
    four) that are neighbours in the target. In between, the items are in workgroup memory.
    """

    def __init__(self, source: Placement, target: Placement, step: Step) -> None:
        super().__init__(source, target, step)
        item_bytes = UNIT * self.turned_bytes * (1 if target.outer_dim is None else UNIT)
        self._item_type = {4: "u32", 8: "vec2<u32>", 16: "vec4<u32>"}[item_bytes]
        self._rounds = 1
        if prod(self.grid) >= _MANY_BRICKS:
            element_bytes = max(source.element_bytes, target.element_bytes)
            self._rounds = max(1, _THREAD_BYTES // (element_bytes * prod(self.brick)))
        self.tile = _tile(source, target, self.grid, THREADS * self._rounds)
        self._rounds = max(1, prod(self.tile) // THREADS)
        self._steps = tuple(
            UNIT if d in (target.packed_dim, target.outer_dim) else 1 for d in _DIMS
        )
        self._counts = [self.tile[d] * self.brick[d] // self._steps[d] for d in _DIMS]
        width = 1 if self.brick[WIDTH] > 1 and source.packed_dim != WIDTH else UNIT
        self._read_parts = _parts(source, self.tile, width)
        self._write_parts = _parts(target, self._counts, UNIT)
        # Slots are mixed within one row of memory banks.
        self._banks = min(128 // item_bytes, prod(self._counts))

    @property
    def threads(self) -> int:
        """Invocations in a workgroup."""
        return prod(self.tile) // self._rounds

    @property
    def _tiles(self) -> Extents:
        w, h, c, n = (-(-g // t) for g, t in zip(self.grid, self.tile, strict=True))
        return w, h, c, n

    @property
    def groups(self) -> int:
        """Workgroups, each for a tile."""
        return prod(self._tiles)

    def declarations(self) -> Iterator[str]:
        """The workgroup's memory."""
        yield f"var<workgroup> items: array<{self._item_type}, {prod(self._counts)}>;"
        mixed = "slot"
        if self._banks > 1:
            bits = self._banks.bit_length() - 1
            mixed = f"slot ^ (((slot >> {bits}u) ^ (slot >> {2 * bits}u)) & {self._banks - 1}u)"
        yield "// Spreads the columns of a tile, too, over the banks of workgroup memory."
        yield f"fn spread(slot: u32) -> u32 {{ return {mixed}; }}"

    def lines(self) -> Iterator[str]:
        """The body of the shader."""
        tiles = [(f"tile_{AXES[d]}", self._tiles[d]) for d in self.written_order()]
        yield from self.decode("workgroup", tiles)
        yield "let n = tile_n;"
        for k in range(self._rounds):
            yield "{"
            yield f"let brick = thread + {k * self.threads}u;"
            yield from self._split("brick", self._read_parts)
            # Bricks beyond the tensor's edge are never written, so any brick will do: the last.
            for dim in _DIMS:
                index = f"tile_{AXES[dim]} * {self.tile[dim]}u + i_{AXES[dim]}"
                if self.grid[dim] % self.tile[dim]:
                    index = f"min({index}, {self.grid[dim] - 1}u)"
                yield f"let {AXES[dim]} = {scaled(f'({index})', self.brick[dim])};"
            yield from self.read()
            yield from self.turn()
            for offsets in self.items():
                yield f"items[spread({self._slot(offsets)})] = {self.item(offsets)};"
            yield "}"
        yield "workgroupBarrier();"
        for k in range(self._rounds * len(self.items())):
            yield "{"
            yield f"let slot = thread + {k * self.threads}u;"
            yield from self._split("slot", self._write_parts)
            for dim in _DIMS:
                index = f"(tile_{AXES[dim]} * {self._counts[dim]}u + i_{AXES[dim]})"
                yield f"let {AXES[dim]} = {scaled(index, self._steps[dim])};"
            yield f"if ({self._inside()}) {{"
            yield "let value = items[spread(slot)];"
            yield from self.write((0, 0, 0), "value")
            yield "}"
            yield "}"

    def _split(self, name: str, parts: Parts) -> Iterator[str]:
        """Splits a linear index into ``i_w``, ``i_h`` and ``i_c``."""
        terms: dict[int, list[tuple[str, int]]] = {d: [] for d in _DIMS}
        scale = dict.fromkeys(_DIMS, 1)
        shift = 0
        for dim, count in parts:
            part = f"(({name} >> {shift}u) & {count - 1}u)"
            if count > 1:
                terms[dim].append((part, scale[dim]))
            scale[dim] *= count
            shift += count.bit_length() - 1
        for dim in _DIMS:
            yield f"let i_{AXES[dim]} = {wgsl_sum(terms[dim])};"

    def _inside(self) -> str:
        """The condition that an item is in the tensor; empty where tiles fit it exactly."""
        conditions = [
            f"{AXES[d]} < {self.extents[d]}u"
            for d in _DIMS
            if self.extents[d] % (self.tile[d] * self.brick[d])
        ]
        return " && ".join(conditions) or "true"

    def _slot(self, offsets: Offsets) -> str:
        """The slot of a brick's item in the tile: slots are in the order of writing."""
        index = []
        for dim in _DIMS:
            name = scaled(f"i_{AXES[dim]}", self.brick[dim] // self._steps[dim])
            offset = offsets[dim] // self._steps[dim]
            index.append(f"({name} + {offset}u)" if offset else f"({name})")
        terms = []
        shift = dict.fromkeys(_DIMS, 0)
        stride = 1
        for dim, count in self._write_parts:
            if count > 1:
                terms.append((f"(({index[dim]} >> {shift[dim]}u) & {count - 1}u)", stride))
            shift[dim] += count.bit_length() - 1
            stride *= count
        return wgsl_sum(terms)


def _parts(placement: Placement, counts: Sequence[int], width: int) -> Parts:
    """The order of a tile that follows memory.

    Images lie in memory as small rectangles: on common GPUs ``width`` steps wide and eight rows
    high.
    """
    if not placement.is_texture:
        return [(d, counts[d]) for d in reversed(placement.order) if d in _DIMS]
    wide, high = min(width, counts[WIDTH]), min(8, counts[HEIGHT])
    return [
        (WIDTH, wide),
        (HEIGHT, high),
        (WIDTH, counts[WIDTH] // wide),
        (HEIGHT, counts[HEIGHT] // high),
        (CHANNELS, counts[CHANNELS]),
    ]


def _tile(source: Placement, target: Placement, grid: Sequence[int], most: int) -> Extents:
    """Bricks along each dimension of a workgroup's tile, powers of two, ``most`` in all.

    A tile is wide along the fastest dimension of the source and of the target; with an image it is
    also high, since images lie in memory as small rectangles.
    """
    fast = {source.fast_dim, target.fast_dim}
    if source.is_texture or target.is_texture:
        fast |= {WIDTH, HEIGHT}
    tile = [1, 1, 1, 1]
    # All grow in turns; if a dimension is too short for its part, the others get the rest. Bricks
    # beyond the edge are wasted: few are fine, and more if the tile would be small without them.
    while prod(tile) < most:
        short = [d for d in fast if tile[d] < grid[d]]
        thrifty = [d for d in short if -grid[d] % (2 * tile[d]) <= _MOST_WASTE * grid[d]]
        short = thrifty or (short if prod(tile) < THREADS else [])
        if not short:
            break
        # Height last: a few rows are enough.
        smallest = min(short, key=lambda d: (tile[d] * (2 if d == HEIGHT else 1), -d))
        tile[smallest] *= 2
    return tile[0], tile[1], tile[2], tile[3]
