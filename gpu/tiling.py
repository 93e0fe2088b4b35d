"""How a workgroup takes a tile of bricks: its sides, and the order in which it reads and writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import gcd, log2, prod
from typing import Final

from gpu.access import AXES, wgsl_sum
from gpu.kernel import THREADS
from gpu.placement import UNIT, Placement
from planner.ir.representation import CHANNELS, HEIGHT, WIDTH

DIMS: Final = (WIDTH, HEIGHT, CHANNELS)
"""The dimensions in which a tile has sides."""

_MANY_BRICKS: Final = 2**18
"""At this number, a large GPU stays busy even when invocations take several each."""

_THREAD_BYTES: Final = 64
"""Bytes that an invocation reads or writes before it waits: enough to hide the memory's latency."""

_WORKGROUP_BYTES: Final = 2**14
"""Workgroup memory that every adapter has."""

_LOCKSTEP: Final = 32
"""Invocations that common GPUs run in step."""

_GROUPS: Final = 256
"""Workgroups that occupy a large GPU."""

_MOST_ENOUGH: Final = 128
"""Invocations in a workgroup at which more are no faster."""

_SECTOR_BYTES: Final = 32
"""Bytes that common GPUs read or write at once."""

_MOST_SPLITS: Final = 32

Parts = list[tuple[int, int]]
"""How a linear index runs through a tile: (dimension, count), fastest first. A dimension that
occurs twice is split, its low part first."""


class Walk:
    """How a workgroup's invocations, in rounds, run through a tile.

    ``rounds`` are the distances, along each dimension, of a round's indices from the first's.
    ``is_whole`` says whether every invocation takes part in all of them.
    """

    def __init__(self, parts: Parts, threads: int) -> None:
        self._terms: dict[int, list[tuple[str, int]]] = {d: [] for d in DIMS}
        scale = dict.fromkeys(DIMS, 1)
        left, stride = threads, 1
        steps = []
        for dim, count in parts:
            together = gcd(left, count)
            left //= together
            if together > 1:
                digit = f"(thread / {stride}u % {together}u)"
                self._terms[dim].append((digit, scale[dim]))
            stride *= together
            steps.append([(dim, k * together * scale[dim]) for k in range(count // together)])
            scale[dim] *= count
        self.is_whole = left == 1
        self.rounds: list[Mapping[int, int]] = [
            {d: sum(at for dim, at in chosen if dim == d) for d in DIMS}
            for chosen in product(*steps)
        ]

    def lines(self) -> Iterator[str]:
        """Defines the indices ``i_w``, ``i_h`` and ``i_c`` of the first round."""
        for dim in DIMS:
            yield f"let i_{AXES[dim]} = {wgsl_sum(self._terms[dim])};"


class Tiling:
    """A tile of bricks, the invocations that take it, and its items in workgroup memory.

    ``ratios`` are the items of a brick, ``counts`` those of the tile along each dimension, and
    ``strides`` their distances in memory, which holds ``size`` items.
    """

    def __init__(
        self, source: Placement, target: Placement, brick: Sequence[int], tile: Sequence[int]
    ) -> None:
        self.source, self.target, self.brick, self.tile = source, target, brick, tile
        self.steps = [UNIT if d in (target.packed_dim, target.outer_dim) else 1 for d in DIMS]
        self.ratios = [brick[d] // self.steps[d] for d in DIMS]
        self.counts = [tile[d] * self.ratios[d] for d in DIMS]
        # Rows of an odd length spread the columns of a tile, too, over the banks of the memory.
        first, second, third = dict.fromkeys((target.fast_dim, source.fast_dim, *DIMS))
        pitch = self.counts[first] | 1
        self.strides = {first: 1, second: pitch, third: pitch * self.counts[second]}
        self.size = pitch * self.counts[second] * self.counts[third]

    def walks(self, threads: int) -> tuple[Walk, Walk]:
        """The order in which ``threads`` invocations read bricks, and the one to write items in."""
        source, brick = self.source, self.brick
        texels = [brick[d] // (UNIT if d == source.packed_dim else 1) for d in DIMS]
        return (
            Walk(_parts(source, self.tile, texels), threads),
            Walk(_parts(self.target, self.counts, (1, 1, 1)), threads),
        )

    def cost(self) -> float:
        """Transfers of memory, relative to those of a plain copy; writes count more."""
        elements = [t * b for t, b in zip(self.tile, self.brick, strict=True)]
        read, written = self.source.element_bytes, self.target.element_bytes
        spilled = read * _spill(self.source, elements) + 1.5 * written * _spill(
            self.target, elements
        )
        return 1 + spilled / (read + written)


def choose(
    source: Placement,
    target: Placement,
    brick: Sequence[int],
    grid: Sequence[int],
    item_bytes: int,
) -> tuple[Tiling, int]:
    """The tiling of least cost, and the number of its invocations.

    ``grid`` are the bricks of the tensor, ``item_bytes`` is the size of what one write stores.
    """
    brick_bytes = max(source.element_bytes, target.element_bytes) * prod(brick)
    most_rounds = max(1, _THREAD_BYTES // brick_bytes) if prod(grid) >= _MANY_BRICKS else 1
    enough = min(_MOST_ENOUGH, max(_LOCKSTEP, prod(grid) // _GROUPS))
    found = []
    for sides in product(*(_sides(grid[d]) for d in DIMS)):
        bricks = prod(sides)
        if bricks > THREADS * most_rounds:
            continue
        tiling = Tiling(source, target, brick, (*sides, 1))
        if tiling.size * item_bytes > _WORKGROUP_BYTES:
            continue
        waste = prod(-(-grid[d] // sides[d]) * sides[d] / grid[d] for d in DIMS)
        cost = tiling.cost() * waste**0.25
        for rounds in range(-(-bricks // THREADS), most_rounds + 1):
            threads = bricks // rounds
            if threads * rounds == bricks and threads % min(bricks, _LOCKSTEP) == 0:
                few = 0.3 * max(0.0, log2(enough / threads))
                many = 0.15 * max(0.0, log2(threads / (2 * enough)))
                far = 0.05 * abs(log2(_THREAD_BYTES / 2 / (brick_bytes * rounds)))
                found.append((cost * (1 + few + many + far), -threads, sides, rounds, tiling))
    for _, negative, _, _, tiling in sorted(found, key=lambda entry: entry[:4]):
        if all(walk.is_whole for walk in tiling.walks(-negative)):
            return tiling, -negative
    return Tiling(source, target, brick, (1, 1, 1, 1)), 1


def _sides(count: int) -> list[int]:
    """Sides of tiles along a dimension of ``count`` bricks: powers of two, and even splits."""
    powers = {2**k for k in range(12) if 2**k < 2 * count}
    splits = (-(-count // k) for k in range(1, min(count, _MOST_SPLITS) + 1))
    return sorted(powers | {side for side in splits if side % UNIT == 0} | {count})


def _spill(placement: Placement, elements: Sequence[int]) -> float:
    """Memory transferred in vain, as a part of a tile, where its rows end within a transfer."""
    if placement.is_texture:
        texels = list(elements)
        texels[placement.packed_dim] //= UNIT
        is_cut = [elements[d] < placement.extents[d] for d in DIMS]
        wide = 0.08 if is_cut[WIDTH] and texels[WIDTH] % UNIT else 0.0
        high = {0: 0.0, 2: 0.05}.get(texels[HEIGHT] % UNIT, 0.5)
        return wide + (high if is_cut[HEIGHT] else 0.0)
    blocks = placement.blocks
    sizes = {blocks.inner_dim: blocks.inner_size, blocks.outer_dim: blocks.outer_size}
    run = placement.block_elements * placement.element_bytes
    if elements[blocks.outer_dim] < placement.units_apart:
        run = run // placement.units_apart * elements[blocks.outer_dim]
        return 8 / run + (0.08 if run % _SECTOR_BYTES else 0.0)
    for dim in reversed(placement.order):
        run *= -(-elements[dim] // sizes.get(dim, 1))
        if elements[dim] < placement.extents[dim]:
            break
    return 8 / run + (0.08 if run % _SECTOR_BYTES else 0.0)


def _parts(placement: Placement, counts: Sequence[int], texels: Sequence[int]) -> Parts:
    """The order of a tile that follows memory; a step along a dimension is ``texels`` of an image.

    Images lie in memory as small rectangles: on common GPUs four texels wide and eight rows high.
    """
    if not placement.is_texture:
        order = [d for d in reversed(placement.order) if d in DIMS]
        outer = placement.blocks.outer_dim
        together = gcd(placement.units_apart, counts[outer])
        first = [(outer, together)] if together > 1 else []
        return [*first, *((d, counts[d] // (together if d == outer else 1)) for d in order)]
    wide = gcd(max(1, 4 // texels[WIDTH]), counts[WIDTH])
    high = gcd(max(1, 8 // texels[HEIGHT]), counts[HEIGHT])
    return [
        (WIDTH, wide),
        (HEIGHT, high),
        (WIDTH, counts[WIDTH] // wide),
        (HEIGHT, counts[HEIGHT] // high),
        (CHANNELS, counts[CHANNELS]),
    ]
