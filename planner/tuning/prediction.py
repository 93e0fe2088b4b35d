"""The times that learned costs predict for a run, next to the measured ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp, log
from typing import Final

import numpy as np

from planner.kernels.registry import CLONE
from planner.measured.costs import DeviceTimes, MeasuredSource
from planner.measured.join import STAGING, Join, Step
from planner.measured.pricing import price_graph
from schema import CostOrigin, VkGraph
from schema.frozen import frozen

TRANSITIONS: Final = "transitions"
"""The class of all transitions; the other classes are operators' names."""

_CERTAINTY: Final = 2.0
"""A difference of more standard deviations than this is not noise."""


@frozen
class PredictedStep:
    """A step of a run: its class, and its measured and predicted time in ns."""

    kind: str
    measured: float
    predicted: float
    origin: CostOrigin


@frozen
class PredictedRun:
    """A run's steps; times are in ns."""

    steps: tuple[PredictedStep, ...]

    @property
    def measured(self) -> float:
        """The measured time of all steps."""
        return sum(step.measured for step in self.steps)

    @property
    def predicted(self) -> float:
        """The predicted time of all steps."""
        return sum(step.predicted for step in self.steps)

    @property
    def error(self) -> float:
        """The relative error of the predicted total: 0.1 is a tenth too much."""
        return self.predicted / self.measured - 1

    @property
    def speed(self) -> float:
        """This run's time over other runs' for the same steps: 1.1 is a tenth longer.

        The mean over the steps that other runs also measured, weighted by time.
        """
        known = [step for step in self.steps if step.origin == CostOrigin.MEASURED]
        weights = sum(step.measured for step in known)
        if not weights:
            return 1.0
        return exp(sum(s.measured * log(s.measured / s.predicted) for s in known) / weights)

    @property
    def error_at_its_speed(self) -> float:
        """The error once the prediction is scaled by the run's own speed."""
        return self.predicted * self.speed / self.measured - 1

    def share(self, *origins: CostOrigin) -> float:
        """The part of the predicted time that has one of these origins."""
        return sum(s.predicted for s in self.steps if s.origin in origins) / self.predicted

    def of(self, kind: str) -> PredictedRun:
        """The steps of one class."""
        return PredictedRun(tuple(step for step in self.steps if step.kind == kind))

    @property
    def kinds(self) -> tuple[str, ...]:
        """The classes of the steps."""
        return tuple(dict.fromkeys(step.kind for step in self.steps))


def kind_of(step: Step) -> str:
    """The class of a run's step."""
    if step.graph_call is None:
        return STAGING.operator
    operator = step.graph_call.call.operator
    return TRANSITIONS if step.graph_call.is_transition or operator == CLONE else operator


def predict_run(run: Join, graphs: Sequence[VkGraph], source: MeasuredSource) -> PredictedRun:
    """Predicts each step of a run; raises ``OptionError`` for a profile that is not in ns."""
    times, profile = source.times, source.profile
    costs = source.likeliest()
    priced = {
        (delegate, step.call.position): step
        for delegate, graph in enumerate(graphs)
        for step in price_graph(graph, costs)
    }
    steps = []
    for step in run.steps:
        measured = step.sample.median
        if step.graph_call is None:
            origin = CostOrigin.MEASURED if times.model.staging else CostOrigin.MODELLED
            steps.append(PredictedStep(kind_of(step), measured, times.model.staging, origin))
            continue
        found = priced[step.delegate, step.graph_call.position]
        predicted = profile.in_units(found.cost)
        steps.append(PredictedStep(kind_of(step), measured, predicted, found.origin))
    return PredictedRun(tuple(steps))


def noise(times: DeviceTimes) -> float:
    """The difference by chance between two runs of one plan, as a logarithm.

    It is two standard deviations of the difference between two runs' speeds.
    """
    speeds = np.array(times.model.drift)
    return float(_CERTAINTY * np.sqrt(2) * speeds.std(ddof=1)) if len(speeds) > 1 else 0.0


@frozen
class Order:
    """The number of pairs of runs, and of those that are predicted in the right order.

    ``clear`` counts the pairs whose measured times differ by more than noise; ``wrong`` lists those
    of them, as pairs of indices, that are predicted in the wrong order.
    """

    pairs: int
    right: int
    clear: int
    wrong: tuple[tuple[int, int], ...]


def order_of(runs: Iterable[PredictedRun], noise: float) -> Order:
    """Compares all pairs of runs, by measured and by predicted time."""
    found = list(runs)
    pairs = right = clear = 0
    wrong = []
    for i, a in enumerate(found):
        for j, b in enumerate(found[:i]):
            difference = log(a.measured / b.measured)
            is_right = difference * log(a.predicted / b.predicted) > 0
            pairs += 1
            right += is_right
            if abs(difference) > noise:
                clear += 1
                if not is_right:
                    wrong.append((j, i))
    return Order(pairs, right, clear, tuple(wrong))
