"""What plans gain that are made without measurements of the device, by what recorded runs teach."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from math import exp
from pathlib import Path
from typing import Final

import numpy as np

from api.bench.profiles import recorded_by_device
from api.terminal.markdown import head, print_and_write, row
from planner.costs.by_profile import ProfileSource
from planner.costs.model import Objective
from planner.costs.profile_file import load_profile
from planner.files.lowered import graphs_of
from planner.measured.costs import DeviceTimes, MeasuredSource
from planner.measured.pricing import priced_total
from planner.options import PlanOptions, make_options
from planner.pipelines.lowered import replan
from planner.tuning.corpus import Recording

_BASELINE: Final = "greedy"
_PROFILES: Final[tuple[tuple[Objective, str], ...]] = (
    *(("repack", name) for name in ("bytes", "default", "h200", "lavapipe")),
    *(("latency", name) for name in ("default", "h200", "lavapipe")),
)


_LAUNCH: Final = 10_000.0
"""ns: what a launch might cost on a mobile GPU."""


class _Known:
    """A model of a device: its program as ExecuTorch lays it out, and what all its runs taught."""

    def __init__(self, device: str, model: str, recordings: Sequence[Recording]) -> None:
        self.device, self.model = device, model
        baseline = next((r for r in recordings if r.plan == _BASELINE), recordings[0])
        self.program, self.name = baseline.program, f"{baseline.name}.pte"
        self.runs = [recording.join().samples for recording in recordings]
        self.source = MeasuredSource(DeviceTimes.of(device, self.runs), load_profile("default"))
        self.costs = self.source.likeliest()
        self.before = self.ns(self.program)

    def ns(self, program: bytes) -> float:
        """The ns that a program's inference takes by all that the runs taught."""
        priced = priced_total(graphs_of(program, self.name), self.costs, self.source.profile)
        return self.source.times.model.staging + priced

    def gain(self, options: PlanOptions) -> float:
        """How many times faster a plan is than ExecuTorch's."""
        return self.before / self.ns(replan(self.program, self.name, options).data)


def defaults(folder: Path | None, output: Path | None) -> None:
    """Plans each recorded program by each objective and profile, and predicts what it gains.

    Prints Markdown. Raises ``InputError`` for a folder without recorded runs.
    """
    known = [
        _Known(device, model, recordings)
        for device, models in recorded_by_device(folder).items()
        for model, recordings in models.items()
    ]
    lines = [*head(["plan for", *(f"{k.model}, {k.device}" for k in known), "least", "mean"])]
    for choice, options in _choices(known).items():
        gains = [own.gain(options(own)) for own in known]
        found = [*gains, min(gains), exp(float(np.mean(np.log(gains))))]
        lines.append(row([choice, *(f"{gain:.3f}" for gain in found)]))
    lines += [
        "",
        "Time of an inference as ExecuTorch lays it out over that of the plan, both by what all "
        "runs of the model on the device taught. The mean is geometric.",
    ]
    print_and_write("\n".join(lines) + "\n", output)


def _choices(known: Sequence[_Known]) -> dict[str, Callable[[_Known], PlanOptions]]:
    """The ways to plan a model, by what each is called."""
    profile = load_profile("default")
    launching = replace(profile, transition=replace(profile.transition, launch=_LAUNCH))
    return {
        **{f"{objective}, {name}": _by_profile(objective, name) for objective, name in _PROFILES},
        "repack, default with 10 µs a launch": lambda own: PlanOptions(ProfileSource(launching)),
        "latency, runs of other models on the device": lambda own: _by_runs(
            k for k in known if k.device == own.device and k is not own
        ),
        "latency, runs on other devices": lambda own: _by_runs(
            k for k in known if k.device != own.device
        ),
        "latency, all its own runs": lambda own: PlanOptions(own.source, "latency"),
    }


def _by_profile(objective: Objective, profile: str) -> Callable[[_Known], PlanOptions]:
    return lambda own: make_options(profile, objective)


def _by_runs(known: Iterable[_Known]) -> PlanOptions:
    times = DeviceTimes.of("recorded", [run for found in known for run in found.runs])
    return PlanOptions(MeasuredSource(times, load_profile("default")), "latency")
