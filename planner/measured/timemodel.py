"""The times of operators on a device, learned from samples of its own runs.

A measured call has the median of its samples. For the others there is one model for each operator,
a ridge regression of the logarithm of its time on

- the work: bytes of all operands, and multiplications (or elements, where there are none);
- the call: its shapes and numbers, so that a call that is slow in one representation is so in all;
- the representation of each operand, and all of them together.

An operator that was never measured takes what a launch and its work take by all the others, by a
roofline.

A device's speed differs between runs: before samples are compared, runs are scaled to one speed by
the calls that they share, if these are a good part of their time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import exp, log
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from planner.ir.representation import LABELS
from planner.measured.calls import Call, Operands, Place
from planner.measured.join import STAGING, Sample
from planner.measured.roofline import Floats, Roofline
from schema import CostOrigin
from schema.frozen import frozen

Labels = tuple[tuple[Place, int], ...]
"""Operands and the labels of their representations."""

MOST_PLACES: Final = 4
"""Most operands of an operator that count together: the first output, then the first others."""

_LEAST_NS: Final = 1.0
_MOST_NS: Final = 1e12
_LEAST_SHARED: Final = 0.1
"""Runs that share less of their time than this are not compared.

Plans of one program share more, directly or through others. Two programs share hardly any, and
those few calls take other times in one than in the other.
"""

_WORK_PRIOR: Final = (0.5, 0.4)
_PENALTY_MEAN: Final = 1e-6
_PENALTY_WORK: Final = 0.1
_PENALTY_CALL: Final = 0.3
_PENALTY_REPRESENTATION: Final = 0.1
_PENALTY_TOGETHER: Final = 0.3
_NO_ERROR: Final = 0.4
"""The standard error of logarithms where there are too few calls to cross-validate."""

_LEAST_VALIDATED: Final = 4
_ZERO: Final = 1e-9


@frozen
class Prediction:
    """Times in ns and their origins (``CostOrigin``), with an axis for each operand's domain."""

    ns: Floats
    origin: NDArray[np.int8]


class Predictor(Protocol):
    """A source of times of calls."""

    def knows(self, operator: str) -> bool:
        """Whether it can predict an operator."""

    def predict(
        self, call: Call, places: Sequence[Place], domains: Sequence[Sequence[int]]
    ) -> Prediction:
        """The times of a call of a known operator, with an axis for each place."""


@frozen
class ValidationRow:
    """The relative errors of an operator's model, for calls that it was not fitted to.

    ``interpolated`` has calls whose representations were measured with other shapes, ``estimated``
    those whose representations were not.
    """

    operator: str
    calls: int
    interpolated: Floats
    estimated: Floats


def counted_places(places: Sequence[Place]) -> tuple[Place, ...]:
    """The operands whose representations count for an operator's time."""
    if len(places) <= MOST_PLACES:
        return tuple(places)
    first_output = next((p for p in places if p.startswith("o")), places[0])
    others = [p for p in places if p != first_output][: MOST_PLACES - 1]
    return tuple(p for p in places if p == first_output or p in others)


def counted_domains(
    operands: Operands,
) -> tuple[tuple[Place, ...], tuple[tuple[int, ...], ...]]:
    """The operands that count, each with its one label, as arguments for a predictor."""
    labels = labels_of(operands)
    return tuple(place for place, _ in labels), tuple((label,) for _, label in labels)


def labels_of(operands: Operands) -> Labels:
    """The labels of the operands that count."""
    counted = counted_places([place for place, _ in operands])
    return tuple((place, LABELS[r]) for place, r in operands if place in counted)


class TimeModel:
    """Predicts the times of calls from the samples of some runs."""

    def __init__(self, runs: Iterable[Sequence[Sample]]) -> None:
        """Learns from the samples of each run."""
        times: list[dict[tuple[Call, Labels], list[float]]] = []
        staging = []
        for run in runs:
            found: dict[tuple[Call, Labels], list[float]] = defaultdict(list)
            for sample in run:
                ns = min(max(_LEAST_NS, sample.median), _MOST_NS)
                if sample.call == STAGING:
                    staging.append(ns)
                else:
                    found[sample.call, labels_of(sample.operands)].append(log(ns))
            times.append(found)
        self.drift = _drift(times)
        """For each run, the logarithm of its time over the median run's."""

        self.staging = float(np.median(staging)) if staging else 0.0
        """The time to copy a delegate's inputs and outputs, in ns."""

        self._known: dict[Call, dict[Labels, float]] = defaultdict(dict)
        logs: dict[tuple[Call, Labels], list[float]] = defaultdict(list)
        for found, speed in zip(times, self.drift, strict=True):
            for key, values in found.items():
                logs[key].extend(value - speed for value in values)
        by_operator: dict[str, list[tuple[Call, Labels, float]]] = defaultdict(list)
        for (call, labels), values in logs.items():
            middle = float(np.median(values))
            self._known[call][labels] = middle
            by_operator[call.operator].append((call, labels, middle))
        self._operators = {
            name: _OperatorModel(name, known) for name, known in sorted(by_operator.items())
        }
        known_calls = [known for found in by_operator.values() for known in found]
        self._roofline = Roofline.of(*_points(known_calls)) if known_calls else None

    def knows(self, operator: str) -> bool:
        """Whether an operator was measured at all."""
        return operator in self._operators

    def least(self, call: Call) -> float | None:
        """The ns that a call's launch and work take, by all operators that were measured."""
        if self._roofline is None:
            return None
        return exp(min(float(self._roofline.log_ns(_log_work(call))), log(_MOST_NS)))

    def measured(self, call: Call) -> Mapping[Labels, float]:
        """The measured times of a call in ns, by representations."""
        return {labels: exp(value) for labels, value in self._known.get(call, {}).items()}

    def predict(
        self,
        call: Call,
        places: Sequence[Place],
        domains: Sequence[Sequence[int]],
        caution: float = 1.0,
    ) -> Prediction:
        """The times of a call of a known operator, with an axis for each place.

        Unmeasured times are ``caution`` standard errors above the best guess. A positive number
        keeps plans from relying on guesses; a negative one shows what might be better.
        """
        logs, origin = self._operators[call.operator].predict(call, places, domains, caution)
        for labels, value in self._known.get(call, {}).items():
            index = _index(labels, places, domains)
            if index is not None:
                logs[index] = value
                origin[index] = CostOrigin.MEASURED
        return Prediction(np.exp(np.minimum(logs, log(_MOST_NS))), origin)

    def validation(self) -> tuple[ValidationRow, ...]:
        """The errors of each operator's model for calls that are left out of its fit."""
        return tuple(model.validation() for model in self._operators.values())


@frozen
class LikeliestTimes:
    """Predicts without caution: what a whole program takes, and not what to rely on."""

    model: TimeModel

    def knows(self, operator: str) -> bool:
        """Whether the operator was measured."""
        return self.model.knows(operator)

    def predict(
        self, call: Call, places: Sequence[Place], domains: Sequence[Sequence[int]]
    ) -> Prediction:
        """The likeliest times of a call, with an axis for each place."""
        return self.model.predict(call, places, domains, 0.0)


def _index(
    labels: Labels, places: Sequence[Place], domains: Sequence[Sequence[int]]
) -> tuple[int, ...] | None:
    """The index of these labels in a table over domains; None if it does not have them."""
    if [place for place, _ in labels] != list(places):
        return None
    index = []
    for (_, label), domain in zip(labels, domains, strict=True):
        if label not in domain:
            return None
        index.append(list(domain).index(label))
    return tuple(index)


def _drift(times: Sequence[Mapping[tuple[Call, Labels], Sequence[float]]]) -> tuple[float, ...]:
    """The logarithm of each run's time over the median run's, for the calls that they share.

    Runs are only compared with those that they share enough time with, directly or through others.
    """
    medians = [{key: float(np.median(found)) for key, found in run.items()} for run in times]
    keys = {key: i for i, key in enumerate(dict.fromkeys(k for run in medians for k in run))}
    logs, weights = np.zeros((2, len(times), len(keys)))
    for r, run in enumerate(medians):
        total = sum(map(exp, run.values()))
        for key, value in run.items():
            logs[r, keys[key]], weights[r, keys[key]] = value, exp(value) / total
    shared = weights @ (weights > 0).T
    linked = (np.minimum(shared, shared.T) > _LEAST_SHARED) | np.eye(len(times), dtype=bool)
    for _ in range(len(times).bit_length()):
        linked = linked @ linked
    drift = np.zeros(len(times))
    for together in np.unique(linked, axis=0):
        drift[together] = _speeds(logs[together], weights[together])
    return tuple(drift.tolist())


def _speeds(logs: Floats, weights: Floats) -> Floats:
    """The logarithm of each run's time over the median run's; a column for each call.

    A least-squares fit of runs and calls to the times, each weighted by its part of its run's time,
    so that a slow run does not weigh more.
    """
    shared = (weights > 0).sum(axis=0) > 1
    logs, weights = logs[:, shared], weights[:, shared]
    of_call = weights / weights.sum(axis=0)
    above = (weights * (logs - (of_call * logs).sum(axis=0))).sum(axis=1)
    values, vectors = np.linalg.eigh(np.diag(weights.sum(axis=1)) - weights @ of_call.T)
    # What is left of 0 is the one direction in which all runs are slower together.
    values, vectors = values[values > _ZERO], vectors[:, values > _ZERO]
    speeds: Floats = vectors @ (vectors.T @ above / values)
    return speeds - float(np.median(speeds))


def _points(known: Sequence[tuple[Call, Labels, float]]) -> tuple[Floats, Floats, Floats]:
    """Logarithms of work and of ns, and weights by which all calls count alike."""
    work = np.array([_log_work(call) for call, _, _ in known])
    counts = Counter(call for call, _, _ in known)
    weights = np.array([1 / counts[call] for call, _, _ in known])
    return work, np.array([ns for *_, ns in known]), weights


class _OperatorModel:
    """The ridge regression of one operator."""

    def __init__(self, name: str, known: Sequence[tuple[Call, Labels, float]]) -> None:
        self.name = name
        self.columns: dict[object, int] = {"mean": 0, "bytes": 1, "multiplications": 2}
        penalties = [_PENALTY_MEAN, _PENALTY_WORK, _PENALTY_WORK]
        for call, labels, _ in known:
            for key, penalty in _effects(call, labels):
                if key not in self.columns:
                    self.columns[key] = len(self.columns)
                    penalties.append(penalty)
        self.work = np.mean([_log_work(call) for call, _, _ in known], axis=0)
        design = np.zeros((len(known), len(self.columns)))
        for row, (call, labels, _) in enumerate(known):
            design[row, :3] = 1, *(_log_work(call) - self.work)
            design[row, [self.columns[key] for key, _ in _effects(call, labels)]] = 1
        logs = np.array([value for _, _, value in known])
        prior = np.zeros(len(self.columns))
        prior[1:3] = _WORK_PRIOR
        gram = design.T @ design + np.diag(penalties)
        solved = np.linalg.solve(
            gram, np.column_stack([design.T @ (logs - design @ prior), design.T])
        )
        self.weights = prior + solved[:, 0]
        # The leverage of a call gives its residual in a fit without it, without another fit.
        leverage = np.einsum("ij,ji->i", design, solved[:, 1:])
        left_out = (logs - design @ self.weights) / np.maximum(1 - leverage, 1e-9)
        together = [labels for _, labels, _ in known]
        again = np.array([together.count(labels) > 1 for labels in together])
        can_tell = len(known) >= _LEAST_VALIDATED
        self.calls = len(known)
        self.interpolated = left_out[again] if can_tell else left_out[:0]
        self.estimated = left_out[~again] if can_tell else left_out[:0]
        interpolated, estimated = _error(self.interpolated), _error(self.estimated)
        self.interpolation_error = _NO_ERROR if interpolated is None else interpolated
        self.estimation_error = max(
            self.interpolation_error, _NO_ERROR if estimated is None else estimated
        )
        self.measured_together = list(dict.fromkeys(together))

    def predict(
        self,
        call: Call,
        places: Sequence[Place],
        domains: Sequence[Sequence[int]],
        caution: float,
    ) -> tuple[Floats, NDArray[np.int8]]:
        """Logarithms of ns, ``caution`` standard errors up, and origins, over the domains."""
        work = _log_work(call) - self.work
        base = self.weights[0] + float(self.weights[1:3] @ work) + self._weight(("call", call))
        logs = np.full([len(domain) for domain in domains], base)
        for axis, (place, domain) in enumerate(zip(places, domains, strict=True)):
            effects = np.array([self._weight(("operand", place, label)) for label in domain])
            shape = [1] * len(domains)
            shape[axis] = len(domain)
            logs = logs + effects.reshape(shape)
        origin = np.full(logs.shape, CostOrigin.ESTIMATED, dtype=np.int8)
        logs += caution * self.estimation_error
        for labels in self.measured_together:
            index = _index(labels, places, domains)
            if index is not None:
                logs[index] += self._weight(("together", labels))
                logs[index] += caution * (self.interpolation_error - self.estimation_error)
                origin[index] = CostOrigin.INTERPOLATED
        return logs, origin

    def validation(self) -> ValidationRow:
        """The relative errors for calls that are left out of the fit."""
        return ValidationRow(
            self.name,
            self.calls,
            np.abs(np.expm1(-self.interpolated)),
            np.abs(np.expm1(-self.estimated)),
        )

    def _weight(self, key: object) -> float:
        column = self.columns.get(key)
        return 0.0 if column is None else float(self.weights[column])


def _log_work(call: Call) -> Floats:
    """Logarithms of a call's work, which may exceed NumPy's integers."""
    return np.array([log(amount) for amount in call.work])


def _effects(call: Call, labels: Labels) -> list[tuple[object, float]]:
    """The terms of a call's time besides its work, each with its penalty in the fit."""
    operands = [(("operand", *label), _PENALTY_REPRESENTATION) for label in labels]
    return [
        (("call", call), _PENALTY_CALL),
        *operands,
        (("together", labels), _PENALTY_TOGETHER),
    ]


def _error(residuals: Floats) -> float | None:
    """Root mean square of residuals; None where there are too few."""
    if len(residuals) < _LEAST_VALIDATED:
        return None
    return float(np.sqrt(np.mean(residuals**2)))
