"""A simulated device, whose hidden times show only in noisy runs; and random plans."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from planner.costs.model import Costs, PricedOperand
from planner.ir.graph import Operator, Tensor
from planner.ir.representation import REPRS
from planner.measured.calls import Call, Place, calls_of
from planner.measured.join import Sample
from planner.measured.timemodel import Prediction, TimeModel, counted_domains
from schema import CostOrigin, VkDataType, VkGraph

_COUNT: Final = 5
_DRAWN: Final = 1000


class RandomCosts:
    """A cost model that draws prices at random, so that the best plan is a random valid one."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def transition(self, shape: tuple[int, ...], dtype: VkDataType) -> Costs:
        """Zeros (labels, labels): transitions are free."""
        return np.zeros((len(REPRS), len(REPRS)), np.int64)

    def transition_origin(
        self, shape: tuple[int, ...], dtype: VkDataType, source: int, target: int
    ) -> CostOrigin:
        """Always ``MODELLED``."""
        return CostOrigin.MODELLED

    def operator(
        self, operator: Operator, tensors: Sequence[Tensor], operands: Sequence[PricedOperand]
    ) -> Iterable[tuple[tuple[int, ...], Costs]]:
        """A random price for each representation of each operand."""
        for index, operand in enumerate(operands):
            yield (index,), self._random.integers(0, _DRAWN, len(operand.domain))

    def operator_origin(
        self, operator: Operator, tensors: Sequence[Tensor], operands: Sequence[PricedOperand]
    ) -> CostOrigin:
        """Always ``MODELLED``."""
        return CostOrigin.MODELLED


class SimulatedDevice:
    """A device with the times of real runs.

    For calls that they did not measure it uses their model, with a random error of the size of the
    model's own, so that the time cannot be known without measuring.
    """

    def __init__(
        self, runs: Sequence[Sequence[Sample]], seed: int, run_noise: float, step_noise: float
    ) -> None:
        """The noise of whole runs and of steps is given as standard deviations of logarithms."""
        self._model = TimeModel(runs)
        self._seed = seed
        self._noise = run_noise, step_noise
        self._random = np.random.default_rng(seed)

    def knows(self, operator: str) -> bool:
        """Whether the real runs measured an operator."""
        return self._model.knows(operator)

    def predict(
        self, call: Call, places: Sequence[Place], domains: Sequence[Sequence[int]]
    ) -> Prediction:
        """The device's true times in ns, with an axis for each place."""
        guess = self._model.predict(call, places, domains, 0.0)
        error = np.log(self._model.predict(call, places, domains, 1.0).ns / guess.ns)
        ns = guess.ns.copy()
        for index in np.ndindex(*ns.shape):
            if guess.origin[index] != CostOrigin.MEASURED:
                labels = [(p, d[i]) for p, d, i in zip(places, domains, index, strict=True)]
                ns[index] *= np.exp(error[index] * self._luck(call, labels))
        return replace(guess, ns=ns)

    def _luck(self, call: Call, labels: Sequence[tuple[Place, int]]) -> float:
        key = f"{self._seed} {call.operator} {call.signature} {labels}".encode()
        random = np.random.default_rng(list(hashlib.sha256(key).digest()))
        return float(random.standard_normal())

    def run(self, graphs: Sequence[VkGraph]) -> tuple[Sample, ...]:
        """The samples of one noisy run of a program."""
        of_run, of_step = self._noise
        speed = of_run * self._random.standard_normal()
        samples = []
        for graph in graphs:
            for call in calls_of(graph):
                if not self.knows(call.call.operator):
                    continue
                places, domains = counted_domains(call.operands)
                ns = float(self.predict(call.call, places, domains).ns.flat[0])
                ns *= np.exp(speed + of_step * self._random.standard_normal())
                samples.append(Sample(call.call, call.operands, ("simulated",), ns, 0.0, _COUNT))
        return tuple(samples)
