"""How well a device's times are known: by run, by operator, and what to measure next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import expm1
from typing import Final

import numpy as np

from planner.costs.profile_file import load_profile
from planner.errors import PlannerError
from planner.measured.costs import DeviceTimes, LearnedCosts, MeasuredSource
from planner.measured.database import RunRecord
from planner.measured.device import Device
from planner.measured.join import STAGING
from planner.measured.timemodel import LikeliestTimes, ValidationRow
from planner.options import PlanOptions
from planner.tuning.variants import Trial, explore
from schema.frozen import frozen

_FOLDS: Final = 5
_LISTED: Final = 10
"""Calls of a program that are listed as worth measuring."""


@frozen
class FittedRun:
    """A run, by its name and the SHA-256 of ETDump and program; times are ns per inference.

    ``predicted`` is by what runs of other plans taught, None where there are none. ``speed`` is how
    much longer the run took than the median run on what they share: 0.1 is a tenth.
    """

    source: str
    etdump_sha256: str
    graph_sha256: str
    measured: float
    predicted: float | None
    speed: float


@frozen
class Errors:
    """Relative errors for calls that are left out of a fit; None where there are too few."""

    calls: int
    median_error: float | None
    worst_tenth: float | None


@frozen
class FittedOperator:
    """An operator: its part of the measured time, and its model's cross-validated errors."""

    operator: str
    share: float
    calls: int
    interpolated: Errors
    estimated: Errors


@frozen
class Untried:
    """A call that was not measured in these representations, and is worth it.

    ``guess`` are its ns by the best guess, ``least`` at the least.
    """

    operator: str
    representations: Mapping[str, str]
    guess: float
    least: float


@frozen
class Next:
    """What to measure next of a program: its next variant's ns, and what it could save."""

    program: str
    predicted: float
    saving: float
    untried: tuple[Untried, ...]


@frozen
class Fit:
    """How well a device's times are known."""

    runs: tuple[FittedRun, ...]
    operators: tuple[FittedOperator, ...]
    next: tuple[Next, ...]


def fit_of(device: Device, programs: Iterable[tuple[str, bytes]] = ()) -> Fit:
    """The fit of a device; ``programs``, by name, are those to say what to measure next of."""
    times = DeviceTimes.of(device.name, [run.samples for run in device.runs])
    return Fit(
        tuple(_fitted(device.name, device.runs, times)),
        operators_of(device.runs, times),
        tuple(_next(device, times, programs)),
    )


def operators_of(runs: Sequence[RunRecord], times: DeviceTimes) -> tuple[FittedOperator, ...]:
    """The operators of a device's runs, those that take most time first."""
    spent: dict[str, float] = defaultdict(float)
    for run in runs:
        for sample in run.samples:
            if sample.call != STAGING:
                spent[sample.call.operator] += sample.median
    total = sum(spent.values())
    return tuple(
        FittedOperator(
            row.operator,
            round(spent[row.operator] / total, 6) if total else 0.0,
            row.calls,
            *_errors(row),
        )
        for row in sorted(times.model.validation(), key=lambda row: -spent[row.operator])
    )


def _errors(row: ValidationRow) -> Iterable[Errors]:
    for errors in (row.interpolated, row.estimated):
        few = not errors.size
        yield Errors(
            int(errors.size),
            None if few else round(float(np.median(errors)), 4),
            None if few else round(float(np.quantile(errors, 0.9)), 4),
        )


def _fitted(name: str, runs: Sequence[RunRecord], times: DeviceTimes) -> Iterable[FittedRun]:
    """Each run as the others predict it; runs of one plan are left out together."""
    plans = list(dict.fromkeys(run.run.graph_sha256 for run in runs))
    fold = {plan: number % _FOLDS for number, plan in enumerate(plans)}
    taught: dict[int, MeasuredSource] = {}
    profile = load_profile("default")
    for number in set(fold.values()) if len(plans) > 1 else ():
        others = [run.samples for run in runs if fold[run.run.graph_sha256] != number]
        taught[number] = MeasuredSource(DeviceTimes.of(name, others), profile)
    for run, drift in zip(runs, times.model.drift, strict=True):
        source = taught.get(fold[run.run.graph_sha256])
        yield FittedRun(
            run.run.source,
            run.run.etdump_sha256,
            run.run.graph_sha256,
            run.joined,
            None if source is None else _predicted(run, source),
            round(expm1(drift), 4),
        )


def _predicted(run: RunRecord, source: MeasuredSource) -> float | None:
    """The ns of a run's calls by what was learned; None if there is a call that nothing tells."""
    model = source.times.model
    costs = LearnedCosts(source.times, source.profile, "latency", LikeliestTimes(model))
    total = 0.0
    for sample in run.samples:
        if sample.call == STAGING:
            total += model.staging
            continue
        found = costs.call(sample.call, sample.operands)
        if found is None:
            return None
        total += source.profile.in_units(found[0])
    return total


def _next(
    device: Device, times: DeviceTimes, programs: Iterable[tuple[str, bytes]]
) -> Iterable[Next]:
    source = MeasuredSource(times, load_profile("default"))
    options = PlanOptions(
        costs=source,
        objective="latency",
        texture_limits=device.texture_limits,
        buffer_limit=device.buffer_limit,
        gpu=device.gpu,
        avoid=device.faults(),
    )
    for name, program in programs:
        try:
            (variant,) = tuple(explore(program, name, options, 1)) or (None,)
        except PlannerError:
            # What is avoided by now can leave a program without any plan.
            continue
        if variant is not None and variant.untried:
            untried = tuple(map(_untried, variant.untried[:_LISTED]))
            yield Next(name, variant.predicted, variant.saving or 0.0, untried)


def _untried(trial: Trial) -> Untried:
    call = trial.call
    return Untried(
        call.call.operator,
        {place: str(r) for place, r in call.operands},
        trial.guess,
        trial.least,
    )
