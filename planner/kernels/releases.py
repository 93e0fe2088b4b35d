"""ExecuTorch's releases, its backends that read a VkGraph, and the runtimes that a plan is for."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal, get_args

from planner.errors import OptionError
from schema.frozen import frozen

Release = Literal["1.1", "1.2", "1.3", "1.4", "1.5"]
"""A release of ExecuTorch. Those of two numbers sort as texts, up to 1.9."""

RELEASES: Final[tuple[Release, ...]] = get_args(Release)
LATEST: Final[Release] = RELEASES[-1]
"""The release that is installed beside the planner, which lowers programs here."""

Target = Literal["vulkan", "webgpu"]
"""A backend of ExecuTorch's whose runtime reads a VkGraph."""

TARGETS: Final[tuple[Target, ...]] = get_args(Target)
TARGET_NAMES: Final[dict[Target, str]] = {"vulkan": "Vulkan", "webgpu": "WebGPU"}
FIRST_WITH: Final[dict[Target, Release]] = {"vulkan": "1.1", "webgpu": "1.3"}
"""The first release here that has a backend."""


@frozen
class Runtime:
    """The releases whose runtime is to take a plan, from the oldest to the newest.

    ``target`` is the backend that it is the runtime of.
    """

    oldest: Release = LATEST
    newest: Release = LATEST
    target: Target = "vulkan"

    @property
    def releases(self) -> tuple[Release, ...]:
        """The releases, oldest first."""
        return RELEASES[RELEASES.index(self.oldest) : RELEASES.index(self.newest) + 1]

    def of(self, target: Target) -> Runtime:
        """The same releases' runtime of a backend; raises ``OptionError`` where one has none."""
        first = FIRST_WITH[target]
        if self.oldest < first:
            raise OptionError(
                f"ExecuTorch {self.oldest} has no {TARGET_NAMES[target]} runtime: use one of "
                f"{', '.join(RELEASES[RELEASES.index(first) :])}"
            )
        return replace(self, target=target)

    def __str__(self) -> str:
        """``1.3``, or ``1.3+`` for that release and all later ones."""
        return self.oldest if self.oldest == self.newest else f"{self.oldest}+"


def parse_runtime(text: str) -> Runtime:
    """The runtime that ``1.3``, ``1.3.1`` or ``1.3+`` (and later) names; raises ``OptionError``."""
    wanted = text.strip().removeprefix("v")
    bare = wanted.removesuffix("+")
    for release in RELEASES:
        if bare == release or (bare.startswith(f"{release}.") and bare[4:].isdigit()):
            return Runtime(release, LATEST if wanted.endswith("+") else release)
    raise OptionError(
        f"unknown runtime {text!r}: use one of {', '.join(RELEASES)}, or as in 1.3+ that "
        "release and later ones"
    )


def parse_target(text: str) -> Target:
    """The backend of this name; raises ``OptionError`` for an unknown one."""
    for target in TARGETS:
        if text == target:
            return target
    raise OptionError(f"unknown target {text!r}: use {' or '.join(TARGETS)}")
