"""The limits of a device and the exclusions of a user, as one value."""

from __future__ import annotations

from dataclasses import dataclass

from planner.ir.physical import DEFAULT_TEXTURE_LIMITS, ImageExtents
from schema import VkMemoryLayout


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a plan.

    ``texture`` are the largest image extents (width, height, depth), in texels. A buffer has fewer
    elements than ``buffer``; None means no limit. No tensor has one of the ``excluded_layouts``.
    """

    texture: ImageExtents = DEFAULT_TEXTURE_LIMITS
    excluded_layouts: frozenset[VkMemoryLayout] = frozenset()
    buffer: int | None = None
