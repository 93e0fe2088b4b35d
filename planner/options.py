"""What a user may ask of the planner."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from planner.costs import Objective
from planner.errors import OptionError
from planner.physical import ImageExtents
from planner.profile import DeviceProfile, load_profile
from planner.representation import FLOAT_LAYOUTS, QUANTIZED_LAYOUTS
from schema import VkMemoryLayout

_OBJECTIVES: Final[tuple[Objective, ...]] = ("repack", "latency")


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """How to plan.

    ``texture_limits`` of None takes those that the program is lowered with. A buffer must have
    fewer elements than ``buffer_limit``; None leaves that to the partitioner, as ExecuTorch does.
    """

    profile: DeviceProfile = field(default_factory=lambda: load_profile("default"))
    objective: Objective = "repack"
    texture_limits: ImageExtents | None = None
    excluded_layouts: frozenset[VkMemoryLayout] = frozenset()
    buffer_limit: int | None = None


def make_options(
    profile: str | DeviceProfile = "default",
    objective: str = "repack",
    texture_limits: str | None = None,
    without_layouts: Iterable[str] = (),
    buffer_limit: int | None = None,
) -> PlanOptions:
    """Options from what a user wrote; raises ``OptionError`` naming the one that is wrong."""
    return PlanOptions(
        profile=load_profile(profile) if isinstance(profile, str) else profile,
        objective=parse_objective(objective),
        texture_limits=None if texture_limits is None else parse_texture_limits(texture_limits),
        excluded_layouts=frozenset(map(parse_layout, without_layouts)),
        buffer_limit=None if buffer_limit is None else check_buffer_limit(buffer_limit),
    )


def parse_objective(text: str) -> Objective:
    """The objective of this name."""
    for objective in _OBJECTIVES:
        if text == objective:
            return objective
    raise OptionError(f"unknown objective {text!r}: use {' or '.join(_OBJECTIVES)}")


def parse_texture_limits(text: str) -> ImageExtents:
    """Largest image extents in texels, from ``X,Y,Z``."""
    try:
        x, y, z = (int(part) for part in text.split(","))
    except ValueError:
        x = y = z = 0
    if min(x, y, z) < 1 or max(x, y, z) >= 2**31:
        raise OptionError(
            f"texture limits {text!r} are not three positive numbers of texels: "
            "write X,Y,Z, as in 2048,2048,2048"
        )
    return x, y, z


def check_buffer_limit(elements: int) -> int:
    """A limit of elements in a buffer that is one."""
    if not 1 <= elements < 2**63:
        raise OptionError(f"buffer limit {elements} is not a positive number of elements")
    return elements


def parse_layout(name: str) -> VkMemoryLayout:
    """The memory layout of this name; its family prefix may be left out."""
    layouts = (*FLOAT_LAYOUTS, *QUANTIZED_LAYOUTS)
    wanted = name.strip().upper()
    for layout in layouts:
        if layout.name in (wanted, f"TENSOR_{wanted}", f"PACKED_INT8_{wanted}"):
            return layout
    raise OptionError(f"unknown layout {name!r}: use one of {', '.join(x.name for x in layouts)}")
