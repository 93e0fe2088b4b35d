"""What a user may ask of the planner."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from planner.costs.by_profile import ProfileCosts
from planner.costs.model import CostModel, Objective
from planner.costs.profile import DeviceProfile
from planner.costs.profile_file import load_profile
from planner.errors import OptionError
from planner.ir.physical import ImageExtents
from planner.ir.representation import FLOAT_LAYOUTS, QUANTIZED_LAYOUTS
from planner.measured.costs import DeviceTimes, LearnedCosts, load_times
from schema import VkMemoryLayout

_OBJECTIVES: Final[tuple[Objective, ...]] = ("repack", "latency")


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """How to plan.

    ``texture_limits`` of None takes those that the program is lowered with. A buffer must have
    fewer elements than ``buffer_limit``; None leaves that to the partitioner, as ExecuTorch does.
    ``times`` are learned from a device's own runs; the profile answers for what they do not tell.
    """

    profile: DeviceProfile = field(default_factory=lambda: load_profile("default"))
    objective: Objective = "repack"
    texture_limits: ImageExtents | None = None
    excluded_layouts: frozenset[VkMemoryLayout] = frozenset()
    buffer_limit: int | None = None
    times: DeviceTimes | None = None

    @property
    def costs_name(self) -> str:
        """What the costs are called: the profile, or the device that they were learned from."""
        if self.times is None:
            return self.profile.name
        return f"{self.times.device}, measured; else {self.profile.name}"

    @property
    def costs_digest(self) -> str:
        """SHA-256, in hexadecimal, of all that costs come from."""
        if self.times is None:
            return self.profile.digest
        both = f"{self.times.digest} {self.profile.digest}"
        return hashlib.sha256(both.encode()).hexdigest()

    def cost_model(self) -> CostModel:
        """Prices; raises ``OptionError`` where profile and measured times do not go together."""
        if self.times is None:
            return ProfileCosts(self.profile, self.objective)
        return LearnedCosts(self.times, self.profile, self.objective)


def make_options(
    profile: str | DeviceProfile = "default",
    objective: str = "repack",
    texture_limits: str | None = None,
    without_layouts: Iterable[str] = (),
    buffer_limit: int | None = None,
    costs: Path | None = None,
    device: str | None = None,
) -> PlanOptions:
    """Options from what a user wrote; raises ``OptionError`` naming the one that is wrong."""
    if costs is None and device is not None:
        raise OptionError("a device is one of a cost database: name that, too (--costs FILE)")
    options = PlanOptions(
        profile=load_profile(profile) if isinstance(profile, str) else profile,
        objective=parse_objective(objective),
        texture_limits=None if texture_limits is None else parse_texture_limits(texture_limits),
        excluded_layouts=frozenset(map(parse_layout, without_layouts)),
        buffer_limit=None if buffer_limit is None else check_buffer_limit(buffer_limit),
        times=None if costs is None else load_times(costs, device),
    )
    options.cost_model()
    return options


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
