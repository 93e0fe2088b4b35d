"""What plans gain that are made without measurements of the device, by what recorded runs teach."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import exp
from pathlib import Path
from typing import Final

import numpy as np

from api.bench.profiles import recorded_by_device
from api.terminal.markdown import head, print_and_write, row
from planner.costs.model import Objective
from planner.costs.profile_file import load_profile
from planner.files.lowered import graphs_of
from planner.measured.costs import DeviceTimes, LearnedCosts, MeasuredSource
from planner.measured.join import Sample
from planner.measured.pricing import priced_total
from planner.measured.timemodel import LikeliestTimes
from planner.options import PlanOptions, make_options
from planner.pipelines.lowered import replan
from planner.tuning.corpus import Recording

_BASELINE: Final = "greedy"
_PROFILES: Final[tuple[tuple[Objective, str], ...]] = (
    *(("repack", name) for name in ("bytes", "default", "h200", "lavapipe")),
    *(("latency", name) for name in ("default", "h200", "lavapipe")),
)


@dataclass(frozen=True, slots=True)
class _Known:
    """A model of a device: its program as ExecuTorch lays it out, and all runs of it."""

    device: str
    model: str
    baseline: Recording
    runs: tuple[tuple[Sample, ...], ...]


def defaults(folder: Path | None, output: Path | None) -> None:
    """Plans each recorded program by each objective and profile, and predicts what it gains.

    Prints Markdown. Raises ``InputError`` for a folder without recorded runs.
    """
    known = [
        _Known(
            device,
            model,
            next((r for r in runs if r.plan == _BASELINE), runs[0]),
            tuple(r.join().samples for r in runs),
        )
        for device, models in recorded_by_device(folder).items()
        for model, runs in models.items()
    ]
    choices: dict[str, Callable[[_Known], PlanOptions]] = {
        f"{objective}, {name}": _by_profile(objective, name) for objective, name in _PROFILES
    }
    choices["latency, runs of other models on the device"] = lambda own: _by_runs(
        k for k in known if k.device == own.device and k.model != own.model
    )
    choices["latency, runs on other devices"] = lambda own: _by_runs(
        k for k in known if k.device != own.device
    )
    choices["latency, all its own runs"] = lambda own: _by_runs([own])
    lines = [*head(["plan for", *(f"{k.model}, {k.device}" for k in known), "least", "mean"])]
    for choice, options in choices.items():
        gains = [_gain(own, options(own)) for own in known]
        found = [*gains, min(gains), exp(float(np.mean(np.log(gains))))]
        lines.append(row([choice, *(f"{gain:.3f}" for gain in found)]))
    lines += [
        "",
        "Time of an inference as ExecuTorch lays it out over that of the plan, both by what all "
        "runs of the model on the device taught. The mean is geometric.",
    ]
    print_and_write("\n".join(lines) + "\n", output)


def _by_profile(objective: Objective, profile: str) -> Callable[[_Known], PlanOptions]:
    return lambda own: make_options(profile, objective)


def _by_runs(known: Iterable[_Known]) -> PlanOptions:
    times = DeviceTimes.of("recorded", [run for found in known for run in found.runs])
    return PlanOptions(MeasuredSource(times, load_profile("default")), "latency")


def _gain(own: _Known, options: PlanOptions) -> float:
    """How many times faster a plan is than ExecuTorch's, by all runs of the model."""
    times, profile = DeviceTimes.of(own.device, own.runs), load_profile("default")
    costs = LearnedCosts(times, profile, "latency", LikeliestTimes(times.model))
    program, name = own.baseline.program, f"{own.baseline.name}.pte"
    before, after = (
        times.model.staging + priced_total(graphs_of(data, name), costs, profile)
        for data in (program, replan(program, name, options).data)
    )
    return before / after
