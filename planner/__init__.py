"""Plan tensor layouts for ExecuTorch's Vulkan delegate: optimal, proven, checked.

    from planner import make_options, plan

    planned = plan(data, "model.pt2", make_options(profile="bytes"))

``plan`` takes the bytes of a ``.pt2``, a ``.pte`` or a VkGraph. ``planning`` and
``to_edge_transform_and_lower`` plan what a script of its own lowers. Nothing is imported before it
is used: torch is loaded only where a program is lowered.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from planner.costs.profile import DeviceProfile
    from planner.costs.profile_file import load_profile
    from planner.errors import (
        ConflictingLimitsError,
        InputError,
        NoRepresentationError,
        OptionError,
        PlannerError,
        Remedy,
        VerificationError,
    )
    from planner.executorch.session import planning, to_edge_transform_and_lower
    from planner.measured.costs import load_costs
    from planner.measured.device import device_options, shipped_devices
    from planner.options import PlanOptions, make_options
    from planner.pipelines.dispatch import plan_program as plan
    from planner.pipelines.lowered import Planned, replan
    from planner.result.opportunities import rank as rank_opportunities

__version__ = "0.2.0"

__all__ = [
    "ConflictingLimitsError",
    "DeviceProfile",
    "InputError",
    "NoRepresentationError",
    "OptionError",
    "PlanOptions",
    "Planned",
    "PlannerError",
    "Remedy",
    "VerificationError",
    "__version__",
    "device_options",
    "load_costs",
    "load_profile",
    "make_options",
    "plan",
    "planning",
    "rank_opportunities",
    "replan",
    "shipped_devices",
    "to_edge_transform_and_lower",
]

_HOMES = {
    "DeviceProfile": "planner.costs.profile",
    "InputError": "planner.errors",
    "ConflictingLimitsError": "planner.errors",
    "NoRepresentationError": "planner.errors",
    "OptionError": "planner.errors",
    "PlanOptions": "planner.options",
    "Planned": "planner.pipelines.lowered",
    "PlannerError": "planner.errors",
    "Remedy": "planner.errors",
    "VerificationError": "planner.errors",
    "device_options": "planner.measured.device",
    "load_costs": "planner.measured.costs",
    "load_profile": "planner.costs.profile_file",
    "make_options": "planner.options",
    "plan": "planner.pipelines.dispatch",
    "planning": "planner.executorch.session",
    "rank_opportunities": "planner.result.opportunities",
    "replan": "planner.pipelines.lowered",
    "shipped_devices": "planner.measured.device",
    "to_edge_transform_and_lower": "planner.executorch.session",
}
_NAMES_AT_HOME = {"plan": "plan_program", "rank_opportunities": "rank"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    found = getattr(import_module(home), _NAMES_AT_HOME.get(name, name))
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
