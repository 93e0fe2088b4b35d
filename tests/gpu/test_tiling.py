"""Tiles: every item is stored once, lies where it is read, and is written once."""

from __future__ import annotations

import re
from itertools import product
from math import prod

from hypothesis import given, settings
from hypothesis import strategies as st

from gpu.bench import Conversion, conversions
from gpu.kernel import THREADS
from gpu.placement import UNIT
from gpu.shader import taken
from gpu.tiling import DIMS, Walk, choose

SIDES = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 28, 33, 40, 64, 112])
SHAPES = st.tuples(st.sampled_from([1, 3, 64]), SIDES, SIDES, SIDES)


def places(walk: Walk, thread: int) -> list[tuple[int, ...]]:
    """The indices of an invocation in each round, by the shader's own lines."""
    first = []
    for line in walk.lines():
        formula = re.sub(r"(\d)u", r"\1", line.split(" = ")[1].rstrip(";")).replace("/", "//")
        first.append(eval(formula, {"thread": thread}))
    return [tuple(first[d] + there[d] for d in DIMS) for there in walk.rounds]


@settings(max_examples=60)
@given(shape=SHAPES, conversion=st.sampled_from([*conversions(2), *conversions(4)]))
def test_every_item_once(shape: tuple[int, ...], conversion: Conversion) -> None:
    source, target = taken(*conversion.placements(shape), conversion.step)
    dims = {source.packed_dim, target.packed_dim, source.outer_dim, target.outer_dim}
    brick = [UNIT if d in dims else 1 for d in range(4)]
    grid = [-(-e // b) for e, b in zip(source.extents, brick, strict=True)]
    item_bytes = UNIT * min(source.element_bytes, target.element_bytes)
    item_bytes *= UNIT if target.outer_dim is not None else 1
    tiling, threads = choose(source, target, brick, grid, item_bytes)
    assert threads <= THREADS
    assert tiling.size * item_bytes <= 2**14

    def slot(index: tuple[int, ...]) -> int:
        return sum(index[d] * tiling.strides[d] for d in DIMS)

    read, write = tiling.walks(threads)
    bricks = [at for thread in range(threads) for at in places(read, thread)]
    assert len(set(bricks)) == len(bricks) == prod(tiling.tile)
    stored = {
        slot(tuple(at[d] * tiling.ratios[d] + part[d] for d in DIMS))
        for at in bricks
        for part in product(*(range(r) for r in tiling.ratios))
    }
    items = [at for thread in range(threads) for at in places(write, thread)]
    assert len(set(items)) == len(items) == len(stored) == prod(tiling.counts)
    assert {slot(at) for at in items} == stored
    assert max(stored) < tiling.size
