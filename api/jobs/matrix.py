"""The matrix of a job: every input with every combination of the options."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any

from api.store.plans import plan_id
from planner.costs.by_profile import ProfileSource
from planner.costs.profile import DeviceProfile
from planner.costs.profile_file import builtin_names, load_profile, parse_profile
from planner.errors import OptionError
from planner.ir.physical import ImageExtents
from planner.kernels.releases import parse_runtime
from planner.options import PlanOptions, make_options, parse_layout

MAX_ITEMS = 10_000


@dataclass(frozen=True, slots=True)
class Input:
    """A program: what to call it, and the SHA-256 of its bytes in the store of blobs."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """What to vary. Each option has at least one value; None stands for its default."""

    profiles: tuple[DeviceProfile, ...]
    objectives: tuple[str, ...] = ("repack",)
    texture_limits: tuple[str | None, ...] = (None,)
    buffer_limits: tuple[int | None, ...] = (None,)
    without_layouts: tuple[tuple[str, ...], ...] = ((),)
    runtimes: tuple[str | None, ...] = (None,)
    compile_options: tuple[tuple[str, ...], ...] = ((),)

    def choices(self) -> list[PlanOptions]:
        """Each combination once; raises ``OptionError`` naming the option that is wrong."""
        found: dict[str, PlanOptions] = {}
        for profile, objective, limits, buffer_limit, without, runtime, compiled in product(
            self.profiles,
            self.objectives,
            self.texture_limits,
            self.buffer_limits,
            self.without_layouts,
            self.runtimes,
            self.compile_options,
        ):
            options = make_options(
                profile,
                objective,
                limits,
                without,
                buffer_limit,
                runtime=runtime,
                compile_options=compiled,
            )
            found.setdefault(plan_id("", options), options)
        return list(found.values())


def check_size(inputs: Iterable[Input], choices: int) -> list[Input]:
    """The inputs, each once; raises ``OptionError`` for a job of none, or of too many tasks."""
    found = list(dict.fromkeys(inputs))
    if len({item.name for item in found}) < len(found):
        raise OptionError("two inputs of the job have the same name: give each a name of its own")
    if not 0 < len(found) * choices <= MAX_ITEMS:
        raise OptionError(
            f"a job of {len(found)} inputs with {choices} combinations of options is not one of 1 "
            f"to {MAX_ITEMS} tasks: hand in other inputs, or several jobs"
        )
    return found


def read_profile(written: str | dict[str, Any]) -> DeviceProfile:
    """A profile from the name of a built-in one, or from its document; raises ``OptionError``."""
    if isinstance(written, dict):
        return parse_profile(json.dumps(written), "the profile of the job")
    # Another name would be taken for the path of a file of this machine.
    if written not in builtin_names():
        raise OptionError(
            f"unknown profile {written!r}: use one of {', '.join(builtin_names())}, "
            "or a profile's JSON document"
        )
    return load_profile(written)


def write_options(options: PlanOptions) -> dict[str, Any]:
    """What was asked for, as JSON; of the profile its name and hash."""
    limits = options.texture_limits
    return {
        "profile": options.profile.name,
        "profile_hash": options.profile.digest,
        "objective": options.objective,
        "texture_limits": None if limits is None else list(limits),
        "buffer_limit": options.buffer_limit,
        "without_layouts": sorted(layout.name for layout in options.excluded_layouts),
        "runtime": None if options.runtime is None else str(options.runtime),
        "compile_options": dict(options.compile_options),
    }


def read_options(written: dict[str, Any], profile: str) -> PlanOptions:
    """The options of ``write_options``, with the document of their profile."""
    return PlanOptions(
        costs=ProfileSource(parse_profile(profile, written["profile"])),
        objective=written["objective"],
        texture_limits=read_limits(written),
        excluded_layouts=frozenset(map(parse_layout, written["without_layouts"])),
        buffer_limit=written["buffer_limit"],
        compile_options=tuple(written.get("compile_options", {}).items()),
        runtime=None if (runtime := written.get("runtime")) is None else parse_runtime(runtime),
    )


def read_limits(written: dict[str, Any]) -> ImageExtents | None:
    """The texture limits of ``write_options``, or of the options of a lowering."""
    limits = written.get("texture_limits")
    if limits is None:
        return None
    x, y, z = limits
    return x, y, z
