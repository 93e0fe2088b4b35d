"""Representations of a tensor in ET-VK, and sets of them.

Source of the facts: ExecuTorch 1.5.1, ``backends/vulkan/utils.py`` (``TensorRepr``,
``PackedDimInfo``, ``TensorRepSet`` and the constants below).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from schema import VkMemoryLayout, VkStorageType
from schema.frozen import frozen

WIDTH, HEIGHT, CHANNELS = 0, 1, 2
"""Names of dimensions in WHCN order; 0 is the innermost one."""


@frozen
class TensorRepr:
    """A tensor's form in GPU memory: the kind of storage and the order of elements in it."""

    storage_type: VkStorageType
    memory_layout: VkMemoryLayout

    def __str__(self) -> str:
        storage = "texture" if self.storage_type == VkStorageType.TEXTURE_3D else "buffer"
        return f"{storage}:{short_name(self.memory_layout)}"

    @property
    def is_buffer(self) -> bool:
        """Whether the tensor is a buffer rather than an image."""
        return self.storage_type == VkStorageType.BUFFER

    @property
    def is_packed_int8(self) -> bool:
        """Whether elements are int8, four to a 32-bit word."""
        return self.memory_layout in QUANTIZED_LAYOUTS


def short_name(layout: VkMemoryLayout) -> str:
    """A layout's name without its family prefix: ``WIDTH_PACKED``, ``4C1W``."""
    return layout.name.removeprefix("TENSOR_").removeprefix("PACKED_INT8_")


@frozen
class PackedDimInfo:
    """The dimension along which elements are packed, and how many are packed together."""

    packed_dim: int
    packed_dim_block_size: int

    @classmethod
    def of(cls, representation: TensorRepr) -> PackedDimInfo:
        """The packing of a representation; raises ``ValueError`` for ``DEFAULT_LAYOUT``."""
        layout = representation.memory_layout
        if layout not in _PACKED_DIM:
            raise ValueError(f"{layout.name} does not say how a tensor is packed")
        is_float_buffer = representation.is_buffer and layout in FLOAT_LAYOUTS
        return cls(_PACKED_DIM[layout], 1 if is_float_buffer else 4)


FLOAT_LAYOUTS: Final = (
    VkMemoryLayout.TENSOR_WIDTH_PACKED,
    VkMemoryLayout.TENSOR_HEIGHT_PACKED,
    VkMemoryLayout.TENSOR_CHANNELS_PACKED,
)
QUANTIZED_LAYOUTS: Final = (
    VkMemoryLayout.PACKED_INT8_4C1W,
    VkMemoryLayout.PACKED_INT8_CONV2D,
    VkMemoryLayout.PACKED_INT8_4W4C,
    VkMemoryLayout.PACKED_INT8_4H4W,
    VkMemoryLayout.PACKED_INT8_4W,
    VkMemoryLayout.PACKED_INT8_4C,
)
_PACKED_DIM: Final = {
    VkMemoryLayout.TENSOR_WIDTH_PACKED: WIDTH,
    VkMemoryLayout.TENSOR_HEIGHT_PACKED: HEIGHT,
    VkMemoryLayout.TENSOR_CHANNELS_PACKED: CHANNELS,
    VkMemoryLayout.PACKED_INT8_4W4C: CHANNELS,
    VkMemoryLayout.PACKED_INT8_4H4W: WIDTH,
    VkMemoryLayout.PACKED_INT8_4W: WIDTH,
    VkMemoryLayout.PACKED_INT8_4C: CHANNELS,
    VkMemoryLayout.PACKED_INT8_4C1W: CHANNELS,
    VkMemoryLayout.PACKED_INT8_CONV2D: CHANNELS,
}

REPRS: Final[tuple[TensorRepr, ...]] = (
    *(TensorRepr(VkStorageType.TEXTURE_3D, layout) for layout in FLOAT_LAYOUTS),
    *(TensorRepr(VkStorageType.BUFFER, layout) for layout in FLOAT_LAYOUTS),
    *(TensorRepr(VkStorageType.BUFFER, layout) for layout in QUANTIZED_LAYOUTS),
)
"""Every representation, in the fixed order that breaks the last ties. Its index in this tuple is
its *label*, the small integer that stands for it in the solver."""

DENSE: Final = TensorRepr(VkStorageType.BUFFER, VkMemoryLayout.TENSOR_WIDTH_PACKED)
"""Elements one after the other, as they are in the host's memory: all that WebGPU's runtime has."""

LABELS: Final[dict[TensorRepr, int]] = {r: label for label, r in enumerate(REPRS)}

BY_PARTS: Final = {(r.storage_type, r.memory_layout): r for r in REPRS}
"""Every representation, by its storage and layout."""


def compatible(a: TensorRepr, b: TensorRepr) -> bool:
    """Whether operands that must be synchronised may have these two representations."""
    return a.storage_type == b.storage_type and PackedDimInfo.of(a) == PackedDimInfo.of(b)


def _compatibility_classes() -> tuple[int, ...]:
    classes: dict[tuple[VkStorageType, PackedDimInfo], int] = {}
    return tuple(
        classes.setdefault((r.storage_type, PackedDimInfo.of(r)), len(classes)) for r in REPRS
    )


COMPATIBILITY_CLASSES: Final = _compatibility_classes()
"""For each label, the class of representations that are compatible with it."""


@frozen
class TensorRepSet:
    """A set of representations that an operator accepts for one operand.

    It is stored as a bit mask over labels: bit ``i`` stands for ``REPRS[i]``.
    """

    mask: int

    @classmethod
    def of(
        cls, buffer: Iterable[VkMemoryLayout] = (), texture: Iterable[VkMemoryLayout] = ()
    ) -> TensorRepSet:
        """The set with these buffer layouts and these texture layouts."""
        return cls.from_reprs(
            [TensorRepr(VkStorageType.BUFFER, layout) for layout in buffer]
            + [TensorRepr(VkStorageType.TEXTURE_3D, layout) for layout in texture]
        )

    @classmethod
    def from_reprs(cls, representations: Iterable[TensorRepr]) -> TensorRepSet:
        """The set of exactly these representations."""
        mask = 0
        for representation in representations:
            mask |= 1 << LABELS[representation]
        return cls(mask)

    @property
    def buffer_layouts(self) -> frozenset[VkMemoryLayout]:
        """Layouts accepted in a buffer."""
        return frozenset(r.memory_layout for r in self if r.is_buffer)

    @property
    def labels(self) -> tuple[int, ...]:
        """Labels of the members, in the fixed order."""
        return labels_of(self.mask)

    def __and__(self, other: TensorRepSet) -> TensorRepSet:
        return TensorRepSet(self.mask & other.mask)

    def __or__(self, other: TensorRepSet) -> TensorRepSet:
        return TensorRepSet(self.mask | other.mask)

    def __sub__(self, other: TensorRepSet) -> TensorRepSet:
        return TensorRepSet(self.mask & ~other.mask)

    def __bool__(self) -> bool:
        return self.mask != 0

    def __contains__(self, representation: TensorRepr) -> bool:
        return bool(self.mask >> LABELS[representation] & 1)

    def __iter__(self) -> Iterator[TensorRepr]:
        return (REPRS[label] for label in labels_of(self.mask))

    def __len__(self) -> int:
        return self.mask.bit_count()

    def __str__(self) -> str:
        return "{" + ", ".join(map(str, self)) + "}"


def labels_of(mask: int) -> tuple[int, ...]:
    """Labels of the members of a mask, in the fixed order."""
    found = _LABELS_OF.get(mask)
    if found is None:
        found = tuple(label for label in range(len(REPRS)) if mask >> label & 1)
        _LABELS_OF[mask] = found
    return found


_LABELS_OF: dict[int, tuple[int, ...]] = {}

_WIDTH_PACKED = (VkMemoryLayout.TENSOR_WIDTH_PACKED,)
_HEIGHT_PACKED = (VkMemoryLayout.TENSOR_HEIGHT_PACKED,)
_CHANNELS_PACKED = (VkMemoryLayout.TENSOR_CHANNELS_PACKED,)
_REGISTERED_INT8 = tuple(
    layout for layout in QUANTIZED_LAYOUTS if layout != VkMemoryLayout.PACKED_INT8_4C
)

NO_STORAGE: Final = TensorRepSet.of()
CONTIGUOUS_ANY: Final = TensorRepSet.of(_WIDTH_PACKED, _WIDTH_PACKED)
CONTIGUOUS_BUFFER: Final = TensorRepSet.of(buffer=_WIDTH_PACKED)
WIDTH_PACKED_TEXTURE: Final = TensorRepSet.of(texture=_WIDTH_PACKED)
HEIGHT_PACKED_TEXTURE: Final = TensorRepSet.of(texture=_HEIGHT_PACKED)
CHANNELS_PACKED_TEXTURE: Final = TensorRepSet.of(texture=_CHANNELS_PACKED)
CHANNELS_PACKED_ANY: Final = TensorRepSet.of(_CHANNELS_PACKED, _CHANNELS_PACKED)
CHANNELS_PACKED_TEXTURE_OR_CONTIGUOUS_BUFFER: Final = TensorRepSet.of(
    _WIDTH_PACKED, _CHANNELS_PACKED
)
ANY_TEXTURE: Final = TensorRepSet.of(texture=FLOAT_LAYOUTS)
ANY_BUFFER: Final = TensorRepSet.of(buffer=FLOAT_LAYOUTS)
ANY_STORAGE: Final = TensorRepSet.of(FLOAT_LAYOUTS, FLOAT_LAYOUTS)

PACKED_INT8_BUFFER: Final = TensorRepSet.of(buffer=_REGISTERED_INT8)
PACKED_INT8_4W4C_BUFFER: Final = TensorRepSet.of(buffer=(VkMemoryLayout.PACKED_INT8_4W4C,))
PACKED_INT8_4H4W_BUFFER: Final = TensorRepSet.of(buffer=(VkMemoryLayout.PACKED_INT8_4H4W,))
PACKED_INT8_4W_BUFFER: Final = TensorRepSet.of(buffer=(VkMemoryLayout.PACKED_INT8_4W,))
PACKED_INT8_4C1W_BUFFER: Final = TensorRepSet.of(buffer=(VkMemoryLayout.PACKED_INT8_4C1W,))
PACKED_INT8_CONV2D_BUFFER: Final = TensorRepSet.of(buffer=(VkMemoryLayout.PACKED_INT8_CONV2D,))
PACKED_INT8_CHANNELS_PACKED_BUFFER: Final = TensorRepSet.of(
    buffer=(
        VkMemoryLayout.PACKED_INT8_4W4C,
        VkMemoryLayout.PACKED_INT8_4C1W,
        VkMemoryLayout.PACKED_INT8_CONV2D,
    )
)
ANY_STORAGE_INCL_PACKED_INT8: Final = ANY_STORAGE | PACKED_INT8_BUFFER
