"""What a device and a user rule out, as one value."""

from __future__ import annotations

from dataclasses import dataclass

from planner.ir.physical import DEFAULT_TEXTURE_LIMITS, ImageExtents
from schema import VkMemoryLayout


@dataclass(frozen=True, slots=True)
class Limits:
    """What no plan may have.

    ``texture`` are the largest image extents (width, height, depth), in texels. A buffer has fewer
    elements than ``buffer``; None is no limit. No tensor has one of the ``excluded_layouts``.
    """

    texture: ImageExtents = DEFAULT_TEXTURE_LIMITS
    excluded_layouts: frozenset[VkMemoryLayout] = frozenset()
    buffer: int | None = None
