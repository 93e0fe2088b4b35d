"""What a plan has to keep to, as one value: the device, its runtime, a user's exclusions."""

from __future__ import annotations

from dataclasses import dataclass, field

from planner.ir.physical import DEFAULT_TEXTURE_LIMITS, ImageExtents
from planner.kernels.faults import Faults
from planner.kernels.releases import Runtime
from planner.kernels.restrictions import Restriction
from schema import VkMemoryLayout


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a plan.

    ``texture`` are the largest image extents (width, height, depth), in texels. A buffer has fewer
    elements than ``buffer``; None means no limit. No tensor has one of the ``excluded_layouts``.
    Each operator has representations that all releases of the ``runtime`` accept, and none of the
    ``faults`` that another one avoids. The user's ``restrictions`` are kept.
    """

    texture: ImageExtents = DEFAULT_TEXTURE_LIMITS
    excluded_layouts: frozenset[VkMemoryLayout] = frozenset()
    buffer: int | None = None
    runtime: Runtime = field(default_factory=Runtime)
    faults: Faults = field(default_factory=Faults)
    restrictions: tuple[Restriction, ...] = ()
