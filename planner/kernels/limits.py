"""What a plan has to keep to, as one value: the device, its runtime, a user's exclusions."""

from __future__ import annotations

from dataclasses import field

from planner.ir.physical import DEFAULT_TEXTURE_LIMITS, ImageExtents
from planner.kernels.faults import Faults
from planner.kernels.releases import Runtime
from planner.kernels.restrictions import Restriction
from schema import VkMemoryLayout
from schema.frozen import frozen


@frozen
class Budget:
    """The most transitions that a program may have, and the most bytes that their copies may take;
    and the most bytes of tensors that may be alive at once in each of its delegates.

    Padding is counted. None is no limit.
    """

    transitions: int | None = None
    bytes: int | None = None
    peak_memory: int | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """The limits as options of the command line and their values."""
        named = (
            ("max-transitions", self.transitions),
            ("max-transition-bytes", self.bytes),
            ("max-peak-memory", self.peak_memory),
        )
        return tuple(f"{name} {most}" for name, most in named if most is not None)

    @property
    def flags(self) -> tuple[str, ...]:
        """The same, as a user writes them."""
        return tuple(f"--{words}" for words in self.words)


@frozen
class Limits:
    """The limits of a plan.

    ``texture`` are the largest image extents (width, height, depth), in texels. A buffer has fewer
    elements than ``buffer``; None means no limit. No tensor has one of the ``excluded_layouts``.
    Each operator has representations that all releases of the ``runtime`` accept, and none of the
    ``faults`` that another one avoids. The user's ``restrictions`` are kept,
    and so is the ``budget`` of a program's transitions together, and of its memory.
    """

    texture: ImageExtents = DEFAULT_TEXTURE_LIMITS
    excluded_layouts: frozenset[VkMemoryLayout] = frozenset()
    buffer: int | None = None
    runtime: Runtime = field(default_factory=Runtime)
    faults: Faults = field(default_factory=Faults)
    restrictions: tuple[Restriction, ...] = ()
    budget: Budget = field(default_factory=Budget)
