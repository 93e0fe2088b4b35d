"""What a plan was asked for with, as JSON: kept so that it can be planned again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from planner.costs.by_profile import ProfileSource
from planner.costs.model import CostSource
from planner.costs.profile_file import parse_profile
from planner.ir.physical import ImageExtents
from planner.kernels.faults import Faults
from planner.kernels.releases import parse_runtime
from planner.measured.costs import MeasuredSource
from planner.measured.device import device_source, read_device
from planner.options import PlanOptions, parse_layout, read_wanted


def write_options(options: PlanOptions) -> dict[str, Any]:
    """What was asked for, as JSON; of the profile its name and hash."""
    limits, costs = options.texture_limits, options.costs
    times = costs.times if isinstance(costs, MeasuredSource) else None
    return {
        "profile": options.profile.name,
        "profile_hash": options.profile.digest,
        "device": None if times is None else times.device,
        "device_sha256": None if times is None else times.digest,
        "gpu": options.gpu,
        "objective": options.objective,
        "texture_limits": None if limits is None else list(limits),
        "buffer_limit": options.buffer_limit,
        "without_layouts": sorted(layout.name for layout in options.excluded_layouts),
        "runtime": None if options.runtime is None else str(options.runtime),
        "compile_options": dict(options.compile_options),
        **({"alternatives": options.alternatives} if options.alternatives else {}),
        **({} if options.target is None else {"target": options.target}),
        "limits": list(options.wanted),
    }


def read_options(written: dict[str, Any], profile: str, device: Path | None) -> PlanOptions:
    """The options of ``write_options``, with the document of their profile, and a device's file."""
    restrictions, budget = read_wanted(written.get("limits", ()))
    costs: CostSource = ProfileSource(parse_profile(profile, written["profile"]))
    avoid = Faults()
    if device is not None:
        costs = device_source(written["device"], device, costs.profile)
        avoid = read_device(device.read_bytes(), written["device"]).faults()
    return PlanOptions(
        costs=costs,
        gpu=written.get("gpu"),
        avoid=avoid,
        objective=written["objective"],
        texture_limits=read_limits(written),
        excluded_layouts=frozenset(map(parse_layout, written["without_layouts"])),
        buffer_limit=written["buffer_limit"],
        compile_options=tuple(written.get("compile_options", {}).items()),
        alternatives=written.get("alternatives", 0),
        restrictions=restrictions,
        budget=budget,
        target=written.get("target"),
        runtime=None if (runtime := written.get("runtime")) is None else parse_runtime(runtime),
    )


def read_limits(written: dict[str, Any]) -> ImageExtents | None:
    """The texture limits of ``write_options``, or of the options of a lowering."""
    limits = written.get("texture_limits")
    if limits is None:
        return None
    x, y, z = limits
    return x, y, z
