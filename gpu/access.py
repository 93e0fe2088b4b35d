"""WGSL that reads and writes units of one placement."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gpu.placement import BATCH, TEXEL_FORMATS, UNIT, Placement
from planner.ir.representation import CHANNELS, HEIGHT, WIDTH

AXES: Final = "whcn"
"""Names of an element's coordinates in the shaders."""

WORD_BYTES: Final = 4

Offsets = tuple[int, int, int]
"""Elements along width, height and channels, counted from the coordinates in the shader."""


class Memory:
    """WGSL for one placement, at the coordinates ``w``, ``h``, ``c`` and ``n`` of an element.

    Along the dimensions of units, and of blocks of units, ``brick_w`` and the like count these.
    """

    def __init__(self, placement: Placement, name: str, binding: int, *, by_word: bool) -> None:
        self.placement = placement
        self.name = name
        self.binding = binding
        self.is_aligned = is_aligned(placement)
        # Words in the elements of the array that the buffer is bound as.
        self.words = 1
        if not by_word:
            if placement.outer_dim is not None:
                self.words = UNIT
            elif placement.is_plain and self.is_aligned:
                self.words = placement.element_bytes

    def declaration(self) -> str:
        """The declaration of the bound variable."""
        at = f"@group(0) @binding({self.binding}) var"
        is_source = self.binding == 0
        if self.placement.is_texture:
            texel = TEXEL_FORMATS[self.placement.element_bytes]
            kind = "texture_3d<u32>" if is_source else f"texture_storage_3d<{texel}, write>"
            return f"{at} {self.name}: {kind};"
        items = {1: "u32", 2: "vec2<u32>", 4: "vec4<u32>"}[self.words]
        access = "read" if is_source else "read_write"
        return f"{at}<storage, {access}> {self.name}: array<{items}>;"

    def coordinate(self, dim: int, offset: int) -> str:
        """A coordinate, ``offset`` elements further along its dimension."""
        return AXES[dim] if offset == 0 else f"({AXES[dim]} + {offset}u)"

    def texel(self, offsets: Offsets) -> str:
        """Image coordinates of the texel of a unit."""
        placement = self.placement
        parts = [self.coordinate(dim, offsets[dim]) for dim in (WIDTH, HEIGHT, CHANNELS)]
        parts[placement.packed_dim] = f"brick_{AXES[placement.packed_dim]}"
        depth = placement.image_extents[2] // placement.extents[BATCH]
        if placement.extents[BATCH] > 1:
            parts[CHANNELS] += f" + n * {depth}u"
        return f"vec3<u32>({', '.join(parts)})"

    def item(self, offsets: Offsets) -> str:
        """Index of a unit, or of the block that it is in, in the bound array."""
        placement = self.placement
        apart = placement.units_apart
        terms = []
        for dim, count in enumerate(placement.strides):
            offset = offsets[dim] if dim != BATCH else 0
            name, stride = self.coordinate(dim, offset), count * apart
            if dim in (placement.packed_dim, placement.outer_dim):
                name = f"brick_{AXES[dim]}"
            elif apart > 1 and dim == placement.blocks.outer_dim:
                terms.append((f"({name} % {apart}u)", 1))
                name = f"({name} / {apart}u)"
            # A plain buffer's strides count elements; units follow along the packed dimension.
            is_row = placement.is_plain and dim != placement.packed_dim
            if placement.extents[dim] > 1:
                terms.append((name, stride // UNIT if is_row else stride))
        return wgsl_sum(terms)

    def element(self, offsets: Offsets) -> str:
        """Index of an element in a buffer, counted in elements."""
        placement, blocks = self.placement, self.placement.blocks
        terms = []
        inner: list[tuple[str, int]] = []
        for dim, stride in enumerate(placement.strides):
            name = self.coordinate(dim, offsets[dim] if dim != BATCH else 0)
            size = 1
            if dim == blocks.inner_dim:
                size = blocks.inner_size
                inner.append((f"({name} % {size}u)", 1 if size > 1 else 0))
            elif dim == blocks.outer_dim:
                size = blocks.outer_size
                inner.append((f"({name} % {size}u)", blocks.inner_size if size > 1 else 0))
            if placement.extents[dim] > 1 or size > 1:
                block = name if size == 1 else f"({name} / {size}u)"
                terms.append((block, stride * placement.block_elements))
        return wgsl_sum(terms + inner)

    def load(self, offsets: Offsets) -> str:
        """The unit, packed into the words that it fills: one, two or four."""
        placement = self.placement
        size = placement.element_bytes
        if placement.is_texture:
            return packed(self.load_texel(offsets), size)
        if not placement.is_plain or self.is_aligned:
            return f"{self.name}[{self.item(offsets)}]"
        elements = ", ".join(self.load_element(k, offsets) for k in range(UNIT))
        return packed(f"vec4<u32>({elements})", size)

    def load_texel(self, offsets: Offsets) -> str:
        """The four elements of an image's texel."""
        return f"textureLoad({self.name}, {self.texel(offsets)}, 0)"

    def load_element(self, k: int, offsets: Offsets) -> str:
        """An element of a buffer, ``k`` elements after the one at the coordinates."""
        per_word = WORD_BYTES // self.placement.element_bytes
        at = f"({self.element(offsets)} + {k}u)" if k else f"({self.element(offsets)})"
        if per_word == 1:
            return f"{self.name}[{at}]"
        bits = 8 * self.placement.element_bytes
        word = f"{self.name}[{at} / {per_word}u]"
        return f"(({word} >> (({at} % {per_word}u) * {bits}u)) & {hex((1 << bits) - 1)}u)"


def packed(elements: str, size: int) -> str:
    """WGSL that packs four elements of ``size`` bytes into words."""
    return {1: f"pack_bytes({elements})", 2: f"pack_halves({elements})", 4: elements}[size]


def unpacked(words: str, size: int) -> str:
    """WGSL that unpacks four elements of ``size`` bytes from words."""
    return {1: f"unpack_bytes({words})", 2: f"unpack_halves({words})", 4: words}[size]


def is_aligned(placement: Placement) -> bool:
    """Whether every unit of a plain buffer starts at a multiple of its size."""
    return placement.extents[placement.packed_dim] % UNIT == 0


def scaled(name: str, factor: int) -> str:
    """WGSL for a variable times a constant."""
    return name if factor == 1 else f"{name} * {factor}u"


def wgsl_sum(terms: Iterable[tuple[str, int]]) -> str:
    """WGSL for the sum of variables times constants; terms with a factor of 0 are left out."""
    parts = [name if factor == 1 else f"{name} * {factor}u" for name, factor in terms if factor]
    return " + ".join(parts) or "0u"
