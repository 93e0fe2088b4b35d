"""Shaders that convert bricks of units in registers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod
from typing import Final

from gpu.access import AXES, Offsets, packed, scaled, unpacked
from gpu.kernel import THREADS, Kernel, Step
from gpu.placement import BATCH, UNIT, Placement
from planner.ir.representation import CHANNELS, HEIGHT, WIDTH

_COMPONENTS: Final = "xyzw"


class BrickKernel(Kernel):
    """A shader whose invocations convert a brick each; neighbours write neighbouring bricks."""

    by_word = False

    def __init__(self, source: Placement, target: Placement, step: Step) -> None:
        super().__init__(source, target, step)
        dims = {source.packed_dim, target.packed_dim, source.outer_dim, target.outer_dim}
        self.brick = tuple(UNIT if dim in dims else 1 for dim in range(4))
        self.grid = tuple(-(-e // b) for e, b in zip(self.extents, self.brick, strict=True))
        # Units are transposed, and exchanged, in the smaller of their two types.
        self.turned_bytes = min(source.element_bytes, target.element_bytes)

    @property
    def groups(self) -> int:
        """Workgroups, each for a row of bricks."""
        return -(-prod(self.grid) // THREADS)

    def lines(self) -> Iterator[str]:
        """The body of the shader."""
        yield f"let index = workgroup * {THREADS}u + thread;"
        yield f"if (index >= {prod(self.grid)}u) {{ return; }}"
        fastest_first = [(f"brick_{AXES[d]}", self.grid[d]) for d in self.written_order()]
        yield from self.decode("index", fastest_first)
        for dim, size in enumerate(self.brick):
            yield f"let {AXES[dim]} = {scaled(f'brick_{AXES[dim]}', size)};"
        yield from self.read()
        yield from self.turn()
        for offsets in self.items():
            yield from self.write(offsets, self.item(offsets))

    def units(self, placement: Placement) -> list[Offsets]:
        """Offsets of the units of a placement in a brick."""
        sides = [
            range(1 if dim == placement.packed_dim else self.brick[dim])
            for dim in (WIDTH, HEIGHT, CHANNELS)
        ]
        return [(w, h, c) for c, h, w in product(*reversed(sides))]

    def items(self) -> list[Offsets]:
        """Offsets of what one write stores in a brick: units, or blocks of four units."""
        target = self.target.placement
        units = self.units(target)
        return [u for u in units if target.outer_dim is None or u[target.outer_dim] == 0]

    def written_order(self) -> tuple[int, ...]:
        """Dimensions in the order of the target's memory, fastest first."""
        target = self.target.placement
        return (WIDTH, HEIGHT, CHANNELS, BATCH) if target.is_texture else target.order[::-1]

    def read(self) -> Iterator[str]:
        """Reads the source's units into registers ``s``; quantized elements are not packed yet."""
        source = self.source.placement
        outer = source.outer_dim
        for offsets in self.units(source):
            name = _register("s", offsets)
            if outer is not None:
                first = _moved(offsets, outer, 0)
                if offsets[outer] == 0:
                    yield f"let {_register('b', first)} = {self.source.load(first)};"
                yield f"let {name} = {_register('b', first)}.{_COMPONENTS[offsets[outer]]};"
                continue
            value = self.source.load(offsets)
            if self.step == "quantize":
                if source.element_bytes == 2 and source.is_texture:
                    value = f"from_half_elements({self.source.load_texel(offsets)})"
                elif source.element_bytes == 2:
                    value = f"from_halves({value})"
                value = f"quantize({value})"
            yield f"let {name} = {value};"

    def turn(self) -> Iterator[str]:
        """Makes the target's units, in registers ``t``, out of the source's."""
        p, q = self.source.placement.packed_dim, self.target.placement.packed_dim
        for offsets in self.units(self.target.placement):
            name = _register("t", offsets)
            if p == q:
                value = _register("s", offsets)
                value = f"pack_quantized({value})" if self.step == "quantize" else value
                yield f"let {name} = {value};"
                continue
            column = _moved(offsets, p, 0)
            rows = [_register("s", _moved(column, q, j)) for j in range(UNIT)]
            index = offsets[p]
            part = _COMPONENTS[index]
            if self.step == "quantize":
                column_elements = ", ".join(f"{row}.{part}" for row in rows)
                yield f"let {name} = pack_quantized(vec4<u32>({column_elements}));"
            elif self.turned_bytes == 4:
                yield f"let {name} = vec4<u32>({', '.join(f'{row}.{part}' for row in rows)});"
            elif self.turned_bytes == 2:
                words = (
                    f"vec4<u32>({', '.join(f'{row}.{_COMPONENTS[index // 2]}' for row in rows)})"
                )
                yield f"let {name} = {'high' if index % 2 else 'low'}_halves({words});"
            else:
                matrix = _register("m", column)
                if index == 0:
                    yield f"let {matrix} = transpose_bytes(vec4<u32>({', '.join(rows)}));"
                yield f"let {name} = {matrix}.{part};"

    def item(self, offsets: Offsets) -> str:
        """A unit of the target, or the block of four that starts with it."""
        outer = self.target.placement.outer_dim
        if outer is None:
            return _register("t", offsets)
        units = (_register("t", _moved(offsets, outer, k)) for k in range(UNIT))
        return f"vec4<u32>({', '.join(units)})"

    def write(self, offsets: Offsets, value: str) -> Iterator[str]:
        """Writes an item of the target; elements outside the tensor become 0."""
        target = self.target.placement
        dim, outer = target.packed_dim, target.outer_dim
        if self.step == "dequantize":
            value = f"dequantize({value})"
            value = f"to_halves({value})" if target.element_bytes == 2 else value
        name = _register("o", offsets)
        yield f"var {name} = {value};"
        if not target.is_plain and self.extents[dim] % UNIT:
            left = f"{self.extents[dim]}u - {AXES[dim]}"
            if target.element_bytes == 1:
                yield f"if ({left} < {UNIT}u) {{ {name} &= {_splat(outer, left)}; }}"
            else:
                part = "vec4<u32>(0u, 1u, 2u, 3u)"
                elements = unpacked(name, target.element_bytes)
                kept = f"select(vec4<u32>(0u), {elements}, {part} < vec4<u32>({left}))"
                yield f"{name} = {packed(kept, target.element_bytes)};"
        if outer is not None and self.extents[outer] % UNIT:
            part = "vec4<u32>(0u, 1u, 2u, 3u)"
            left = f"vec4<u32>({self.extents[outer]}u - {AXES[outer]})"
            yield f"{name} = select(vec4<u32>(0u), {name}, {part} < {left});"
        yield from self._guarded(offsets, self._store(offsets, name))

    def _guarded(self, offsets: Offsets, store: list[str]) -> Iterator[str]:
        """The store, behind a condition that its unit has elements of the tensor or padding."""
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
            texel = unpacked(value, size)
            return [f"textureStore(result, {memory.texel(offsets)}, {texel});"]
        if not target.is_plain or memory.is_aligned:
            return [f"result[{memory.item(offsets)}] = {value};"]
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
