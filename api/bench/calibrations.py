"""Whether a profile that was measured through WebGPU puts plans in the order that runs have.

Such a profile knows the planner's own repacks and plain accesses, and nothing of ExecuTorch's
kernels. Recorded runs of ExecuTorch's runtime on the same device say what plans really took.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Final

import numpy as np

from api.bench.profiles import DEVICES, recorded_by_device
from api.terminal.markdown import head, print_and_write, row
from planner.costs.by_profile import ProfileCosts
from planner.costs.model import Objective
from planner.costs.profile import DeviceProfile
from planner.costs.profile_file import load_profile
from planner.errors import OptionError
from planner.files.lowered import graphs_of
from planner.measured.costs import DeviceTimes, MeasuredSource
from planner.measured.pricing import priced_total
from planner.tuning.corpus import Recording
from planner.tuning.prediction import TRANSITIONS, PredictedRun, noise, predict_run
from schema import VkGraph

_MEASURED: Final = DEVICES.parent
PROFILES: Final[Mapping[str, tuple[str, ...]]] = {
    "h100": (str(_MEASURED / "calibrate-h100.json"),),
    # The second is of the page, in Chromium on the same machine, with its own software driver.
    "lavapipe": ("lavapipe", str(_MEASURED / "calibrate-swiftshader.json")),
}
"""The profiles to compare with the runs of a device, as ``load_profile`` takes them."""

_OBJECTIVES: Final[tuple[Objective, Objective]] = ("repack", "latency")
_WAYS: Final = ("repacks", "repacks and accesses", "other runs of ExecuTorch")

_LEGEND: Final = (
    "Of all pairs of recorded plans whose measured times differ by more than chance: those that "
    "are predicted in the right order. *Repacks*, *repacks and accesses*: by the profile, which "
    "knows nothing of ExecuTorch's kernels. *Other runs of ExecuTorch*: by what all other recorded "
    "runs of the model on the device taught. In brackets: how much longer than the fastest "
    "recorded plan the one takes that is predicted to be the fastest. *Repack time*: the profile's "
    "over the measured one, the median of the plans with repacks."
)


@dataclass(frozen=True, slots=True)
class _Plan:
    """A recorded plan: ns of an inference and of its repacks, and both as they are predicted.

    ``predicted`` has the time of an inference by each of the ways to predict it.
    """

    measured: float
    predicted: tuple[float, ...]
    repacks: float
    predicted_repacks: float


def calibrations(
    folder: Path | None, named: Mapping[str, Sequence[DeviceProfile]], output: Path | None
) -> None:
    """Compares profiles measured through WebGPU with what was learned from recorded runs.

    ``named`` are profiles for devices, by the names of their folders. Prints Markdown. Raises
    ``InputError`` for a folder without recorded runs, ``OptionError`` for a device without profile.
    """
    lines = []
    for device, models in recorded_by_device(folder).items():
        profiles = named.get(device) or _profiles(device)
        lines += [*_device(device, profiles, models), ""]
    lines.append(_LEGEND)
    print_and_write("\n".join(lines) + "\n", output)


def _profiles(device: str) -> list[DeviceProfile]:
    if device not in PROFILES:
        raise OptionError(
            f"there is no profile of device {device!r}: name one with --profile {device}=FILE"
        )
    return [load_profile(path) for path in PROFILES[device]]


def _device(
    device: str, profiles: Sequence[DeviceProfile], models: Mapping[str, Sequence[Recording]]
) -> Iterator[str]:
    yield f"# {device}"
    yield ""
    for profile in profiles:
        measured = profile.measured
        how = profile.origin if measured is None else f"{measured.adapter}; {measured.backend}"
        yield f"- `{profile.name}`: {how}"
    yield ""
    yield from head(["model", "plans", "pairs", "profile", *_WAYS, "repack time"])
    for model, recordings in models.items():
        runs, chance = _runs(recordings)
        for profile in profiles:
            plans = [_plan(run, graphs, profile) for run, graphs in runs]
            yield row([model, *_judged(plans, chance, profile.name)])


Graphs = tuple[VkGraph, ...]


def _runs(recordings: Sequence[Recording]) -> tuple[list[tuple[PredictedRun, Graphs]], float]:
    """Runs as the others predict them, and the difference that is chance, as a logarithm."""
    joins = [recording.join() for recording in recordings]
    fallback = load_profile("default")
    found = []
    for recording, join in zip(recordings, joins, strict=True):
        graphs = tuple(graphs_of(recording.program, recording.name))
        others = [other.samples for other in joins if other is not join]
        learned = MeasuredSource(DeviceTimes.of("others", others), fallback)
        found.append((predict_run(join, graphs, learned), graphs))
    return found, noise(DeviceTimes.of("all", [join.samples for join in joins]))


def _plan(run: PredictedRun, graphs: Graphs, profile: DeviceProfile) -> _Plan:
    repacks, everything = (
        priced_total(graphs, ProfileCosts(profile, objective), profile) for objective in _OBJECTIVES
    )
    measured = run.of(TRANSITIONS).measured
    return _Plan(run.measured, (repacks, everything, run.predicted), measured, repacks)


def _judged(plans: Sequence[_Plan], chance: float, profile: str) -> Iterator[str]:
    """The cells of a profile's row, behind the model's."""
    pairs = [
        (a, b)
        for n, a in enumerate(plans)
        for b in plans[:n]
        if abs(log(a.measured / b.measured)) > chance
    ]
    yield from (str(len(plans)), str(len(pairs)), profile)
    for way in range(len(_WAYS)):
        yield f"{_right(pairs, way)} of {len(pairs)} ({_lost(plans, way):+.1%})"
    ratios = [plan.predicted_repacks / plan.repacks for plan in plans if plan.repacks]
    yield f"{np.median(ratios):.2f}" if ratios else "–"


def _right(pairs: Sequence[tuple[_Plan, _Plan]], way: int) -> int:
    """How many pairs are predicted in the order that was measured; equal ones are not."""
    return sum(
        (a.measured - b.measured) * (a.predicted[way] - b.predicted[way]) > 0 for a, b in pairs
    )


def _lost(plans: Sequence[_Plan], way: int) -> float:
    chosen = min(plans, key=lambda plan: plan.predicted[way])
    return chosen.measured / min(plan.measured for plan in plans) - 1
