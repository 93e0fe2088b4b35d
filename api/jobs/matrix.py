"""The matrix of a job: every input with every combination of the options."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from math import prod

from api.store.devices import KnownDevice
from api.store.plans import plan_id
from planner.costs.profile import DeviceProfile
from planner.errors import OptionError
from planner.kernels.releases import Target
from planner.options import PlanOptions, default_objective, make_options, parse_limits

MAX_ITEMS = 10_000


class TooManyTasksError(OptionError):
    """A job of more tasks than one may have."""


@dataclass(frozen=True, slots=True)
class Input:
    """A program: what to call it, and the SHA-256 of its bytes in the store of blobs."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """What to vary. Each option has at least one value; None stands for its default."""

    profiles: tuple[DeviceProfile, ...]
    devices: tuple[KnownDevice | None, ...] = (None,)
    objectives: tuple[str | None, ...] = (None,)
    texture_limits: tuple[str | None, ...] = (None,)
    buffer_limits: tuple[int | None, ...] = (None,)
    without_layouts: tuple[tuple[str, ...], ...] = ((),)
    runtimes: tuple[str | None, ...] = (None,)
    compile_options: tuple[tuple[str, ...], ...] = ((),)
    limits: tuple[tuple[str, ...], ...] = ((),)
    targets: tuple[Target | None, ...] = (None,)

    def choices(self, inputs: int = 1) -> list[PlanOptions]:
        """Each combination once.

        Raises ``TooManyTasksError`` if there are too many with so many inputs, before any is made,
        and ``OptionError`` naming an option that is wrong.
        """
        axes = (
            *(self.profiles, self.devices, self.objectives, self.texture_limits),
            *(self.buffer_limits, self.without_layouts, self.runtimes, self.compile_options),
            *(self.targets, self.limits),
        )
        if (count := prod(map(len, axes))) * inputs > MAX_ITEMS:
            of = f" of {inputs:,} inputs" if inputs > 1 else ""
            raise TooManyTasksError(
                f"{count:,} combinations of options{of} are more than the {MAX_ITEMS:,} tasks that "
                "a job may have: name fewer values, or submit several jobs"
            )
        found: dict[str, PlanOptions] = {}
        wanted = [parse_limits(limits) for limits in self.limits]
        for (
            profile,
            device,
            objective,
            textures,
            buffers,
            without,
            runtime,
            compiled,
            target,
            limits,
        ) in product(*axes[:-1], wanted):
            options = make_options(
                profile,
                objective or default_objective(is_measured=device is not None),
                textures,
                without,
                buffers,
                runtime=runtime,
                compile_options=compiled,
                target=target,
                **limits,
            )
            if device is not None:
                options = device.options(options)
            found.setdefault(plan_id("", options), options)
        return list(found.values())


def check_size(inputs: Iterable[Input], choices: int) -> list[Input]:
    """The inputs, each once; raises ``OptionError`` for a job of none, or of too many tasks."""
    found = list(dict.fromkeys(inputs))
    if len({item.name for item in found}) < len(found):
        raise OptionError("two inputs of the job have the same name: give each a name of its own")
    if not 0 < len(found) * choices <= MAX_ITEMS:
        raise TooManyTasksError(
            f"a job of {len(found)} inputs with {choices} combinations of options is not one of 1 "
            f"to {MAX_ITEMS} tasks: hand in other inputs, or several jobs"
        )
    return found
