"""Costs learned from a device's own runs, completed by a device profile."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import field
from functools import partial
from pathlib import Path

import numpy as np

from planner.costs.by_profile import ProfileCosts
from planner.costs.model import Costs, Objective, PricedOperand
from planner.costs.profile import DeviceProfile
from planner.costs.profile_file import load_profile
from planner.costs.standins import CONV2D, stand_ins
from planner.errors import InputError, OptionError, Remedy
from planner.ir.graph import Operator, Tensor
from planner.ir.representation import LABELS, REPRS
from planner.kernels.registry import CLONE
from planner.measured.calls import (
    TRANSITION_PLACES,
    Call,
    Operands,
    Place,
    call_of,
    place,
    transition_call,
)
from planner.measured.database import CostDatabase
from planner.measured.join import Sample
from planner.measured.timemodel import (
    LikeliestTimes,
    Prediction,
    Predictor,
    TimeModel,
    counted_domains,
    counted_places,
)
from schema import CostOrigin, VkDataType
from schema.frozen import frozen

_FAMILIES = tuple(
    tuple(label for label, r in enumerate(REPRS) if r.is_packed_int8 == is_int8)
    for is_int8 in (False, True)
)

_ERRORS = 2.0
"""Standard errors between a guess and the ends of its range: 95 of 100 are within."""


@frozen
class DeviceTimes:
    """The times learned from a device's runs: its name, and a digest of what they come from.

    ``learn`` returns the model; what takes long there is done once.
    """

    device: str
    digest: str
    learn: Callable[[], TimeModel] = field(repr=False, compare=False)

    @property
    def model(self) -> TimeModel:
        """The model of the times."""
        return self.learn()

    @classmethod
    def of(cls, device: str, runs: Sequence[Sequence[Sample]]) -> DeviceTimes:
        """Learns from a device's runs; the digest is the SHA-256 of their calls and times."""
        contents = [
            [
                (s.call.operator, s.call.signature, [(p, str(r)) for p, r in s.operands], s.median)
                for s in run
            ]
            for run in runs
        ]
        canonical = json.dumps(contents)
        model = TimeModel(runs)
        return cls(device, hashlib.sha256(canonical.encode()).hexdigest(), partial(_same, model))


def _same(model: TimeModel) -> TimeModel:
    return model


@frozen
class MeasuredSource:
    """Costs from a device's measured times; the profile (in ns) prices everything else."""

    times: DeviceTimes
    profile: DeviceProfile

    @property
    def name(self) -> str:
        """The names of the device and the profile."""
        return f"{self.times.device}, measured; else {self.profile.name}"

    @property
    def digest(self) -> str:
        """SHA-256 of both digests, in hexadecimal."""
        both = f"{self.times.digest} {self.profile.digest}"
        return hashlib.sha256(both.encode()).hexdigest()

    def model(self, objective: Objective) -> LearnedCosts:
        """Learned prices; raises ``OptionError`` for a profile that does not count in ns."""
        return LearnedCosts(self.times, self.profile, objective)

    def likeliest(self) -> LearnedCosts:
        """Prices without caution: what programs take, and not what plans may rely on.

        Raises ``OptionError`` for a profile that does not count in ns.
        """
        times = LikeliestTimes(self.times.model)
        return LearnedCosts(self.times, self.profile, "latency", times)


def load_costs(
    path: Path, device: str | None = None, profile: str | DeviceProfile = "default"
) -> MeasuredSource:
    """The costs of a device's measured times in a database.

    ``device`` may be None if the database has only one. ``profile`` is a profile in ns, or its name
    or path as ``load_profile`` takes it. Raises ``OptionError`` where the device is missing or
    ambiguous, ``InputError`` for a damaged database.
    """
    try:
        with CostDatabase.existing(path) as costs:
            name = _only(costs.devices(), path) if device is None else device
            times = DeviceTimes.of(name, costs.runs(name))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    fallback = load_profile(profile) if isinstance(profile, str) else profile
    return MeasuredSource(times, fallback)


def _only(devices: Sequence[str], path: Path) -> str:
    if not devices:
        raise OptionError(f"{path} has no measured times", Remedy.IMPORT_RUNS)
    if len(devices) > 1:
        raise OptionError(
            f"{path} has {len(devices)} devices ({', '.join(devices)})", Remedy.NAME_DEVICE
        )
    return devices[0]


class LearnedCosts:
    """Costs from measured times: whole nanoseconds, in the profile's steps (picoseconds).

    Operators that were never measured cost what launch and work take by the others, in whatever
    representation. Where nothing was measured, and for transitions across families, it is the
    profile's price. Operators count only under the objective ``latency``.
    """

    def __init__(
        self,
        times: DeviceTimes,
        profile: DeviceProfile,
        objective: Objective,
        predictor: Predictor | None = None,
    ) -> None:
        """``predictor`` replaces the times' own model.

        Raises ``OptionError`` for a profile that does not count in ns.
        """
        if profile.unit != "ns":
            raise OptionError(
                f"profile {profile.name!r} counts {profile.unit}, but measured times are ns: use a "
                "profile in ns for what was not measured"
            )
        self.model: Predictor = predictor or times.model
        self._times = times.model
        self.profile = profile
        self._steps = profile.precision
        self._counts_operators = objective == "latency"
        self._fallback = ProfileCosts(profile, objective)
        self._transitions: dict[tuple[tuple[int, ...], VkDataType], tuple[Costs, Costs]] = {}
        self._tables: dict[tuple[Call, tuple[Place, ...], tuple[tuple[int, ...], ...]], Prediction]
        self._tables = {}

    def transition(self, shape: tuple[int, ...], dtype: VkDataType) -> Costs:
        """Prices (labels, labels): from samples, else (also across families) the profile's."""
        return self._transition(shape, dtype)[0]

    def transition_origin(
        self, shape: tuple[int, ...], dtype: VkDataType, source: int, target: int
    ) -> CostOrigin:
        """The origin of a transition's price, for labels ``source`` and ``target``."""
        return CostOrigin(int(self._transition(shape, dtype)[1][source, target]))

    def _transition(self, shape: tuple[int, ...], dtype: VkDataType) -> tuple[Costs, Costs]:
        found = self._transitions.get((shape, dtype))
        if found is None:
            costs = self._fallback.transition(shape, dtype).copy()
            origins = np.full_like(costs, CostOrigin.MODELLED)
            call = transition_call(shape, dtype)
            knows, least = self.model.knows(CLONE), self._least(call)
            families = _FAMILIES if dtype == VkDataType.INT8 else _FAMILIES[:1]
            for labels in families:
                within = np.ix_(labels, labels)
                if knows:
                    predicted = self._predict(call, TRANSITION_PLACES, (labels, labels))
                    costs[within], origins[within] = self._in_steps(predicted), predicted.origin
                elif least is not None:
                    costs[within], origins[within] = least, CostOrigin.ESTIMATED
            if knows and dtype == VkDataType.INT8:
                _stand_in(costs, origins)
            np.fill_diagonal(costs, 0)
            found = self._transitions[shape, dtype] = costs, origins
        return found

    def transition_range(self, shape: tuple[int, ...], dtype: VkDataType) -> tuple[Costs, Costs]:
        """The least and the most (labels, labels) that transitions may cost, by standard errors.

        What was measured, or has no error, costs what it costs.
        """
        prices, origins = self._transition(shape, dtype)
        low, high = prices.copy(), prices.copy()
        call = transition_call(shape, dtype)
        if self._times.knows(CLONE):
            for labels in _FAMILIES if dtype == VkDataType.INT8 else _FAMILIES[:1]:
                within = np.ix_(labels, labels)
                places, domains = TRANSITION_PLACES, (labels, labels)
                for ends, errors in ((low, -_ERRORS), (high, _ERRORS)):
                    predicted = self._times.predict(call, places, domains, errors)
                    ends[within] = self._in_steps(predicted)
        is_guess = (origins == CostOrigin.INTERPOLATED) | (origins == CostOrigin.ESTIMATED)
        low[~is_guess], high[~is_guess] = prices[~is_guess], prices[~is_guess]
        return np.minimum(low, prices), np.maximum(high, prices)

    def operator(
        self, operator: Operator, tensors: Sequence[Tensor], operands: Sequence[PricedOperand]
    ) -> Iterable[tuple[tuple[int, ...], Costs]]:
        """One table over the operands that count; the profile's where nothing was measured."""
        if not self._counts_operators or not operands:
            return
        if not self.model.knows(operator.name):
            least = self._least(call_of(operator, tensors))
            if least is None:
                yield from self._fallback.operator(operator, tensors, operands)
            else:
                yield (0,), np.full(len(operands[0].domain), least, np.int64)
            return
        scope, predicted = self._operator(operator, tensors, operands)
        yield scope, self._in_steps(predicted)

    def operator_range(
        self, operator: Operator, tensors: Sequence[Tensor], operands: Sequence[PricedOperand]
    ) -> Iterable[tuple[Costs, Costs]]:
        """The least and the most of each table of ``operator``, by standard errors."""
        for scope, prices in self.operator(operator, tensors, operands):
            low, high = prices, prices
            if self._times.knows(operator.name):
                _, planned = self._operator(operator, tensors, operands)
                places = [place(operands[i].is_output, operands[i].index) for i in scope]
                domains = [operands[i].domain for i in scope]
                call = call_of(operator, tensors)
                ends = [
                    self._in_steps(self._times.predict(call, places, domains, errors))
                    for errors in (-_ERRORS, _ERRORS)
                ]
                is_known = planned.origin == CostOrigin.MEASURED
                low, high = (np.where(is_known, prices, end) for end in ends)
            yield np.minimum(low, prices), np.maximum(high, prices)

    def operator_origin(
        self, operator: Operator, tensors: Sequence[Tensor], operands: Sequence[PricedOperand]
    ) -> CostOrigin:
        """The origin of an operator's cost, for operands with one label each."""
        if not operands:
            return CostOrigin.MODELLED
        if not self.model.knows(operator.name):
            least = self._least(call_of(operator, tensors))
            return CostOrigin.MODELLED if least is None else CostOrigin.ESTIMATED
        return CostOrigin(int(self._operator(operator, tensors, operands)[1].origin.flat[0]))

    def call(self, call: Call, operands: Operands) -> tuple[int, CostOrigin] | None:
        """Cost steps and origin of a call in its representations; None where nothing is known."""
        if not self.model.knows(call.operator):
            least = self._least(call)
            return None if least is None else (least, CostOrigin.ESTIMATED)
        predicted = self._predict(call, *counted_domains(operands))
        return int(self._in_steps(predicted).flat[0]), CostOrigin(int(predicted.origin.flat[0]))

    def _least(self, call: Call) -> int | None:
        """What an operator that was never measured costs, by those that were, if any was."""
        least = self._times.least(call)
        return None if least is None else round(least) * self._steps

    def _operator(
        self, operator: Operator, tensors: Sequence[Tensor], operands: Sequence[PricedOperand]
    ) -> tuple[tuple[int, ...], Prediction]:
        places = [place(operand.is_output, operand.index) for operand in operands]
        counted = counted_places(places)
        scope = tuple(i for i, where in enumerate(places) if where in counted)
        domains = tuple(operands[i].domain for i in scope)
        return scope, self._predict(call_of(operator, tensors), counted, domains)

    def _predict(
        self, call: Call, places: tuple[Place, ...], domains: tuple[tuple[int, ...], ...]
    ) -> Prediction:
        key = call, places, domains
        found = self._tables.get(key)
        if found is None:
            found = self._tables[key] = self.model.predict(call, places, domains)
        return found

    def _in_steps(self, predicted: Prediction) -> Costs:
        return np.rint(predicted.ns).astype(np.int64) * self._steps


def _stand_in(costs: Costs, origins: Costs) -> None:
    """Fills in the prices of unmeasured transitions of CONV2D by those of its stand-ins."""
    for label in _FAMILIES[True]:
        other = REPRS[label]
        for pair in ((CONV2D, other), (other, CONV2D)):
            index, by = (tuple(LABELS[r] for r in p) for p in (pair, stand_ins(*pair)))
            if origins[index] < CostOrigin.INTERPOLATED:
                costs[index], origins[index] = costs[by], origins[by]
