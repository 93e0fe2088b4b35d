"""A small program, and made-up devices that run it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

from planner.files.lowered import graphs_of
from planner.measured.calls import calls_of
from planner.measured.costs import DeviceTimes, LearnedCosts, MeasuredSource
from planner.measured.etdump import Executions
from planner.measured.join import Sample
from planner.measured.pricing import price_graph
from planner.measured.timemodel import labels_of
from planner.options import PlanOptions
from planner.pipelines.lowered import replan
from planner.tuning.device import Measurement
from planner.tuning.result import Candidate, Round, Tuned
from planner.tuning.simulation import (
    OUTPUT,
    Behaviour,
    RandomCosts,
    RecordedTimes,
    SimulatedDevice,
    SimulatedRuns,
)
from planner.tuning.subject import Subject
from planner.tuning.tensors import Signature
from planner.tuning.tune import TuneSettings, Tuning
from tests.api.graphs import graph

OPTIONS = PlanOptions()
_NS_PER_BYTE = 10


def weight(label: int) -> int:
    """How slow a representation is: an order that no profile has."""
    return (7 * label + 5) % 11


@cache
def program() -> bytes:
    """Activations in representations that are not the fastest, without repacks."""
    return replan(graph(64, 6), "graph", OPTIONS).data


def samples(data: bytes) -> tuple[Sample, ...]:
    """What calls take: bytes, more or less by their representations."""
    return tuple(
        Sample(
            call.call,
            call.operands,
            ("kernel",),
            _NS_PER_BYTE
            * call.call.work[0]
            * (1 + sum(weight(label) for _, label in labels_of(call.operands)) / 20),
            0.0,
            5,
        )
        for g in graphs_of(data, "graph")
        for call in calls_of(g)
    )


@cache
def _recorded() -> tuple[tuple[Sample, ...], ...]:
    """Runs of the program in many representations: a device made of them has no luck of its own."""
    plans = [program()] + [
        replan(program(), "graph", OPTIONS, chooser=RandomCosts(seed)).data for seed in range(24)
    ]
    return tuple(map(samples, plans))


def device(seed: int, noise: float = 0.01) -> SimulatedDevice:
    """A device with noise of this size, of runs and of steps."""
    return SimulatedDevice(RecordedTimes(_recorded(), seed), seed, noise, noise)


def true_time(data: bytes, seed: int) -> float:
    """ns of an inference on a device without noise."""
    truth = LearnedCosts(DeviceTimes.of("", ()), OPTIONS.profile, "latency", device(seed).times)
    return sum(step.cost for g in graphs_of(data, "graph") for step in price_graph(g, truth))


def least_time(seed: int) -> float:
    """That of the best plan there is."""
    empty = DeviceTimes.of("", ())
    truth = LearnedCosts(empty, OPTIONS.profile, "latency", device(seed).times)
    options = replace(OPTIONS, costs=MeasuredSource(empty, OPTIONS.profile), objective="latency")
    return true_time(replan(program(), "graph", options, chooser=truth).data, seed)


class Watching:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.candidates: list[Candidate] = []
        self.rounds: list[Round] = []

    def stage(self, text: str) -> None:
        self.stages.append(text)

    def measured(self, candidate: Candidate, baseline: Candidate | None) -> None:
        self.candidates.append(candidate)

    def learned(self, found: Round) -> None:
        self.rounds.append(found)


class Interrupted(SimulatedRuns):
    """A device that somebody stops with Ctrl-C in the midst of a run."""

    def __init__(self, inner: SimulatedRuns, after: int) -> None:
        self._inner, self._after, self.runs = inner, after, 0

    def execute(self, program: Path, inferences: int, seconds: float) -> Measurement:
        if self.runs == self._after:
            raise KeyboardInterrupt
        self.runs += 1
        return self._inner.execute(program, inferences, seconds)

    def executions(self, etdump: bytes, name: str) -> Executions:
        return self._inner.executions(etdump, name)


def tuning(
    folder: Path,
    where: SimulatedRuns,
    settings: TuneSettings | None = None,
    watching: Watching | None = None,
    clock: Callable[[], float] = time.monotonic,
    data: bytes | None = None,
) -> Tuning:
    """A tuning of the program, or of other ``data``."""
    subject = Subject("graph", data or program(), Signature((), (OUTPUT,)), ())
    settings = settings or TuneSettings()
    watching = watching or Watching()
    return Tuning(subject, where, "made up", OPTIONS, settings, folder, watching, clock)


def tuned(folder: Path, seed: int, behaviour: Behaviour, noise: float = 0.01) -> Tuned:
    """What tuning it on a device comes to."""
    where = SimulatedRuns(device(seed, noise), behaviour, seed)
    return tuning(folder, where, TuneSettings(seed=seed)).result()
