"""Shaders that convert bricks of units, in registers and in tiles of workgroup memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import Final

from gpu.access import AXES, Offsets, scaled, wgsl_sum
from gpu.kernel import THREADS, Kernel, Step
from gpu.placement import BATCH, UNIT, Extents, Placement
from planner.representation import CHANNELS, HEIGHT, WIDTH

_COMPONENTS: Final = "xyzw"


class BrickKernel(Kernel):
    """An invocation reads a brick of units, and writes the same or another brick's."""

    by_word = False

    def __init__(self, source: Placement, target: Placement, step: Step) -> None:
        super().__init__(source, target, step)
        dims = {source.packed_dim, target.packed_dim, source.outer_dim, target.outer_dim}
        self.brick = tuple(UNIT if dim in dims else 1 for dim in range(4))
        self.grid = tuple(-(-e // b) for e, b in zip(self.extents, self.brick, strict=True))
        self.is_words = 1 in (source.element_bytes, target.element_bytes)
        self.is_tiled = source.fast_dim != target.fast_dim or target.is_texture
        self.tile = _tile(source, target, self.grid) if self.is_tiled else (1, 1, 1, 1)

    @property
    def threads(self) -> int:
        """Invocations of a workgroup."""
        return prod(self.tile) if self.is_tiled else THREADS

    @property
    def _tiles(self) -> Extents:
        w, h, c, n = (-(-g // t) for g, t in zip(self.grid, self.tile, strict=True))
        return w, h, c, n

    @property
    def groups(self) -> int:
        """Workgroups: a tile each, or a row of bricks."""
        return prod(self._tiles) if self.is_tiled else -(-prod(self.grid) // THREADS)

    def declarations(self) -> Iterator[str]:
        """The workgroup's memory."""
        if self.is_tiled:
            is_word = self.is_words and self.target.placement.outer_dim is None
            count = len(self._items()) * self.threads
            yield f"var<workgroup> items: array<{'u32' if is_word else 'vec4<u32>'}, {count}>;"

    def _units(self, placement: Placement) -> list[Offsets]:
        """Offsets of the units of a placement in a brick."""
        sides = [
            range(1 if dim == placement.packed_dim else self.brick[dim])
            for dim in (WIDTH, HEIGHT, CHANNELS)
        ]
        return [(w, h, c) for c, h, w in product(*reversed(sides))]

    def _items(self) -> list[Offsets]:
        """Offsets of what is written at once in a brick: units, or blocks of four units."""
        target = self.target.placement
        units = self._units(target)
        return [u for u in units if target.outer_dim is None or u[target.outer_dim] == 0]

    def lines(self) -> Iterator[str]:
        """The body of the shader."""
        if self.is_tiled:
            yield from self._tiled()
            return
        yield f"let index = workgroup * {THREADS}u + thread;"
        yield f"if (index >= {prod(self.grid)}u) {{ return; }}"
        fastest_first = [(f"brick_{AXES[d]}", self.grid[d]) for d in self._written_order()]
        yield from self.decode("index", fastest_first)
        for dim, size in enumerate(self.brick):
            yield f"let {AXES[dim]} = {scaled(f'brick_{AXES[dim]}', size)};"
        yield from self._read()
        yield from self._turn()
        for offsets in self._items():
            yield from self._write(offsets, self._item(offsets))

    def _written_order(self) -> tuple[int, ...]:
        """Dimensions as they follow each other in the target's memory, fastest first."""
        target = self.target.placement
        return (WIDTH, HEIGHT, CHANNELS, BATCH) if target.is_texture else target.order[::-1]

    def _tiled(self) -> Iterator[str]:
        source = self.source.placement
        tiles = [(f"tile_{AXES[d]}", self._tiles[d]) for d in self._written_order()]
        yield from self.decode("workgroup", tiles)
        yield "let n = tile_n;"

        # Neighbouring invocations read neighbouring bricks of the source.
        first = source.fast_dim
        read_order = [first, *(d for d in (WIDTH, HEIGHT, CHANNELS) if d != first)]
        yield "{"
        yield from self.decode("thread", [(f"i_{AXES[d]}", self.tile[d]) for d in read_order])
        for dim in (WIDTH, HEIGHT, CHANNELS):
            size = self.brick[dim]
            brick = f"(tile_{AXES[dim]} * {self.tile[dim]}u + i_{AXES[dim]})"
            yield f"let {AXES[dim]} = {scaled(brick, size)};"
        inside = self._inside({d: self.tile[d] * self.brick[d] for d in range(3)})
        yield f"if ({inside}) {{"
        yield from self._read()
        yield from self._turn()
        for offsets in self._items():
            yield f"items[{self._slot(offsets)}] = {self._item(offsets)};"
        yield "}"
        yield "}"
        yield "workgroupBarrier();"

        # Neighbouring invocations write neighbouring items of the target.
        steps = self._steps()
        counts = {d: self.tile[d] * self.brick[d] // steps[d] for d in (WIDTH, HEIGHT, CHANNELS)}
        order = [d for d in self._written_order() if d != BATCH]
        inside = self._inside({d: counts[d] * steps[d] for d in range(3)})
        for k in range(len(self._items())):
            yield "{"
            yield f"let item = thread + {k * self.threads}u;"
            yield from self.decode("item", [(f"i_{AXES[d]}", counts[d]) for d in order])
            for dim in (WIDTH, HEIGHT, CHANNELS):
                start = scaled(f"tile_{AXES[dim]}", self.tile[dim] * self.brick[dim])
                yield f"let {AXES[dim]} = {start} + {scaled(f'i_{AXES[dim]}', steps[dim])};"
            yield f"if ({inside}) {{"
            yield f"let value = items[item ^ ({self._spread(True)})];"
            yield from self._write((0, 0, 0), "value")
            yield "}"
            yield "}"

    def _steps(self) -> tuple[int, ...]:
        """Elements along each dimension that an item of the target holds."""
        target = self.target.placement
        return tuple(
            UNIT if dim in (target.packed_dim, target.outer_dim) else 1 for dim in range(4)
        )

    def _inside(self, covered: dict[int, int]) -> str:
        """Whether coordinates are in the tensor; says nothing where tiles fit it exactly."""
        conditions = [
            f"{AXES[d]} < {self.extents[d]}u"
            for d, size in covered.items()
            if self.extents[d] % size
        ]
        return " && ".join(conditions) or "true"

    def _slot(self, offsets: Offsets) -> str:
        """Where an item of the brick lies in the tile: in the order in which it is written."""
        steps = self._steps()
        terms = []
        stride = 1
        for dim in self._written_order():
            if dim == BATCH:
                continue
            per_brick = self.brick[dim] // steps[dim]
            index = scaled(f"i_{AXES[dim]}", per_brick)
            offset = offsets[dim] // steps[dim]
            terms.append((f"({index} + {offset}u)" if offset else f"({index})", stride))
            stride *= self.tile[dim] * per_brick
        return f"({wgsl_sum(terms)}) ^ ({self._spread(False)})"

    def _spread(self, by_item: bool) -> str:
        """What to mix into a slot, so that a column of the tile is spread over memory banks."""
        steps = self._steps()
        slow, fast = self.source.placement.fast_dim, self._written_order()[0]
        if slow == fast:
            return "0u"
        brick = f"i_{AXES[slow]}"
        if by_item:
            brick += f" / {self.brick[slow] // steps[slow]}u"
        return f"{brick} % {self.tile[fast] * self.brick[fast] // steps[fast]}u"

    def _read(self) -> Iterator[str]:
        """Reads the source's units into registers ``s``, converted to what is transposed."""
        source = self.source.placement
        outer = source.outer_dim
        for offsets in self._units(source):
            name = _register("s", offsets)
            if outer is not None:
                first = _moved(offsets, outer, 0)
                if offsets[outer] == 0:
                    yield f"let {_register('b', first)} = {self.source.load(first)};"
                yield f"let {name} = {_register('b', first)}.{_COMPONENTS[offsets[outer]]};"
                continue
            value = self.source.load(offsets)
            if self.step == "quantize":
                value = f"from_half({value})" if source.element_bytes == 2 else value
                value = f"pack_bytes(quantize({value}))"
            yield f"let {name} = {value};"

    def _turn(self) -> Iterator[str]:
        """Makes the target's units, registers ``t``, out of the source's."""
        p, q = self.source.placement.packed_dim, self.target.placement.packed_dim
        for offsets in self._units(self.target.placement):
            name = _register("t", offsets)
            if p == q:
                yield f"let {name} = {_register('s', offsets)};"
                continue
            column = _moved(offsets, p, 0)
            rows = [_register("s", _moved(column, q, j)) for j in range(UNIT)]
            part = _COMPONENTS[offsets[p]]
            if not self.is_words:
                yield f"let {name} = vec4<u32>({', '.join(f'{row}.{part}' for row in rows)});"
                continue
            matrix = _register("m", column)
            if offsets[p] == 0:
                yield f"let {matrix} = transpose_bytes(vec4<u32>({', '.join(rows)}));"
            yield f"let {name} = {matrix}.{part};"

    def _item(self, offsets: Offsets) -> str:
        """A unit of the target, or the block of four that starts with it."""
        outer = self.target.placement.outer_dim
        if outer is None:
            return _register("t", offsets)
        units = (_register("t", _moved(offsets, outer, k)) for k in range(UNIT))
        return f"vec4<u32>({', '.join(units)})"

    def _write(self, offsets: Offsets, value: str) -> Iterator[str]:
        """Writes an item of the target; what lies outside of the tensor becomes 0."""
        target = self.target.placement
        packed, outer = target.packed_dim, target.outer_dim
        if self.step == "dequantize":
            value = f"dequantize(unpack_bytes({value}))"
            value = f"to_half({value})" if target.element_bytes == 2 else value
        name = _register("o", offsets)
        yield f"var {name} = {value};"
        if not target.is_plain and self.extents[packed] % UNIT:
            left = f"{self.extents[packed]}u - {AXES[packed]}"
            if target.element_bytes == 1:
                yield f"if ({left} < {UNIT}u) {{ {name} &= {_splat(outer, left)}; }}"
            else:
                part = "vec4<u32>(0u, 1u, 2u, 3u)"
                yield f"{name} = select(vec4<u32>(0u), {name}, {part} < vec4<u32>({left}));"
        if outer is not None and self.extents[outer] % UNIT:
            part = "vec4<u32>(0u, 1u, 2u, 3u)"
            left = f"vec4<u32>({self.extents[outer]}u - {AXES[outer]})"
            yield f"{name} = select(vec4<u32>(0u), {name}, {part} < {left});"
        yield from self._guarded(offsets, self._store(offsets, name))

    def _guarded(self, offsets: Offsets, store: list[str]) -> Iterator[str]:
        """The store, if its unit is in the tensor or in the padding of one that is."""
        target = self.target.placement
        conditions = [
            f"{self.target.coordinate(dim, offsets[dim])} < {self.extents[dim]}u"
            for dim in (WIDTH, HEIGHT, CHANNELS)
            if offsets[dim] and self.extents[dim] % UNIT and dim != target.packed_dim
        ]
        if conditions:
            yield f"if ({' && '.join(conditions)}) {{"
            yield from ("  " + line for line in store)
            yield "}"
        else:
            yield from store

    def _store(self, offsets: Offsets, value: str) -> list[str]:
        memory, target = self.target, self.target.placement
        size = target.element_bytes
        if target.is_texture:
            texel = f"unpack_bytes({value})" if size == 1 else value
            return [f"textureStore(result, {memory.texel(offsets)}, {texel});"]
        if not target.is_plain or memory.is_aligned:
            packed = f"pack_halves({value})" if size == 2 else value
            return [f"result[{memory.item(offsets)}] = {packed};"]
        packed_dim = target.packed_dim
        first = f"first_{_register('o', offsets)}"
        lines = [f"let {first} = {memory.element(offsets)};"]
        for k, part in enumerate(_COMPONENTS):
            store = f"result[{first} + {k}u] = {value}.{part};"
            if k:
                here = f"{AXES[packed_dim]} + {k}u < {self.extents[packed_dim]}u"
                store = f"if ({here}) {{ {store} }}"
            lines.append(store)
        return lines


def _splat(outer: int | None, left: str) -> str:
    """A mask of the bytes that are ``left``, for a word or for each word of a block."""
    mask = f"((1u << (8u * ({left}))) - 1u)"
    return mask if outer is None else f"vec4<u32>{mask}"


def _register(kind: str, offsets: Offsets) -> str:
    return kind + "_" + "".join(map(str, offsets))


def _moved(offsets: Offsets, dim: int, to: int) -> Offsets:
    w, h, c = (to if d == dim else offset for d, offset in enumerate(offsets))
    return w, h, c


def _tile(source: Placement, target: Placement, grid: Sequence[int]) -> Extents:
    """Bricks along each dimension of a workgroup's tile, powers of two.

    Wide along the dimension in which the source lies in memory and along that of the target; with
    an image also high, since images lie in memory as small rectangles.
    """
    fast = {source.fast_dim, target.fast_dim}
    if source.is_texture or target.is_texture:
        fast |= {WIDTH, HEIGHT}
    wanted = {d: 16 if len(fast) < 3 else 8 for d in fast}
    if len(fast) == 3:
        wanted[HEIGHT] = 4
    tile = [1, 1, 1, 1]
    # Where a dimension is too short for its part, the others get what it leaves.
    for grows in (False, True):
        for d in sorted(fast):
            most = THREADS if grows else wanted[d]
            while tile[d] < min(most, grid[d]) and prod(tile) < THREADS:
                tile[d] *= 2
    return tile[0], tile[1], tile[2], tile[3]
