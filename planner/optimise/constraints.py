"""What a device and a user rule out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from planner.ir.graph import Tensor
from planner.ir.physical import MAX_TEXTURE_DIMS, ImageExtents, fitting
from planner.ir.representation import ANY_TEXTURE, REPRS, TensorRepSet
from schema import VkDataType, VkMemoryLayout

_PLAIN = TensorRepSet.from_reprs(r for r in REPRS if not r.is_packed_int8).mask


@dataclass(frozen=True, slots=True)
class Constraints:
    """What the device and the user rule out. A buffer has fewer elements than ``buffer_limit``."""

    texture_limits: ImageExtents
    excluded_layouts: frozenset[VkMemoryLayout] = frozenset()
    buffer_limit: int | None = None

    def excluded_mask(self) -> int:
        """Bit mask over labels of the representations with an excluded layout."""
        return TensorRepSet.from_reprs(
            r for r in REPRS if r.memory_layout in self.excluded_layouts
        ).mask

    def possible(self, tensor: Tensor) -> int:
        """Bit mask over labels of the representations that a tensor can have."""
        mask = fitting(tensor.shape, self.texture_limits).mask & ~self.excluded_mask()
        if tensor.dtype != VkDataType.INT8:
            mask &= _PLAIN
        if self.buffer_limit is not None and prod(tensor.shape) >= self.buffer_limit:
            mask &= ANY_TEXTURE.mask
        return mask

    def lacks_texture(self, tensor: Tensor) -> bool:
        """Whether the texture limits take a texture from a tensor that could be one."""
        fits = fitting(tensor.shape, self.texture_limits).mask
        return len(tensor.shape) <= MAX_TEXTURE_DIMS and ANY_TEXTURE.mask & ~fits != 0

    def none_left(self, what: str, accepted: int, tensors: Iterable[Tensor]) -> str:
        """Why ``what`` has no representation, and what to do about it.

        ``accepted`` are those that it could have by the shapes of ``tensors``: its own, and those
        that need to be compatible with it.
        """
        if accepted and not accepted & ~self.excluded_mask():
            names = ", ".join(sorted(layout.name for layout in self.excluded_layouts))
            return (
                f"{what} accepts only {TensorRepSet(accepted)}, and {names} is excluded: "
                "plan with one of its layouts (drop a --without-layout)"
            )
        buffers = accepted and self.buffer_limit is not None
        limits, options = [], []
        if all(len(tensor.shape) <= MAX_TEXTURE_DIMS for tensor in tensors):
            limits.append(f"texture limits {','.join(map(str, self.texture_limits))}")
            options.append("--texture-limits X,Y,Z")
        elif not buffers:
            return (
                f"{what} can only be a texture, and textures hold at most {MAX_TEXTURE_DIMS} "
                "dimensions: reshape its tensors, or keep it out of the delegate (the "
                "partitioner's operator_blocklist)"
            )
        if buffers:
            limits.append(f"buffer limit {self.buffer_limit}")
            options.append("--buffer-limit N")
        return (
            f"{what} has no representation within the {' and the '.join(limits)}: "
            f"raise {'them' if limits[0].startswith('texture') else 'it'} ({', '.join(options)})"
        )
