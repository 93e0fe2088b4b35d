"""A simulated device, whose times are hidden and show in noisy runs alone; and random plans."""

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
    """Prices drawn at random for each operand of each operator: a random valid plan."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def transition(self, shape: tuple[int, ...], dtype: VkDataType) -> Costs:
        """Nothing."""
        return np.zeros((len(REPRS), len(REPRS)), np.int64)

    def transition_origin(
        self, shape: tuple[int, ...], dtype: VkDataType, source: int, target: int
    ) -> CostOrigin:
        """Nothing that was measured."""
        return CostOrigin.MODELLED

    def operator(
        self, operator: Operator, tensors: Sequence[Tensor], operands: Sequence[PricedOperand]
    ) -> Iterable[tuple[tuple[int, ...], Costs]]:
        """A number for each representation of each operand."""
        for index, operand in enumerate(operands):
            yield (index,), self._random.integers(0, _DRAWN, len(operand.domain))

    def operator_origin(
        self, operator: Operator, tensors: Sequence[Tensor], operands: Sequence[PricedOperand]
    ) -> CostOrigin:
        """Nothing that was measured."""
        return CostOrigin.MODELLED


class SimulatedDevice:
    """A device that takes what real runs took.

    For what they did not measure it takes what their model says, made longer or shorter at random
    by as much as the model errs: so that nobody can know it without measuring.
    """

    def __init__(
        self, runs: Sequence[Sequence[Sample]], seed: int, run_noise: float, step_noise: float
    ) -> None:
        """Noise of whole runs, and of each step, are standard deviations of logarithms."""
        self._model = TimeModel(runs)
        self._seed = seed
        self._noise = run_noise, step_noise
        self._random = np.random.default_rng(seed)

    def knows(self, operator: str) -> bool:
        """Whether the real runs had an operator."""
        return self._model.knows(operator)

    def predict(
        self, call: Call, places: Sequence[Place], domains: Sequence[Sequence[int]]
    ) -> Prediction:
        """What a call really takes."""
        guess = self._model.predict(call, places, domains, 0.0)
        error = np.log(self._model.predict(call, places, domains, 1.0).ns / guess.ns)
        ns = guess.ns.copy()
        for index in np.ndindex(*ns.shape):
            if guess.origin[index] != CostOrigin.MEASURED:
                labels = [(p, d[i]) for p, d, i in zip(places, domains, index, strict=True)]
                ns[index] *= np.exp(error[index] * self._luck(call, labels))
        return replace(guess, ns=ns)

    def _luck(self, call: Call, labels: Sequence[tuple[Place, int]]) -> float:
        said = f"{self._seed} {call.operator} {call.signature} {labels}".encode()
        random = np.random.default_rng(list(hashlib.sha256(said).digest()))
        return float(random.standard_normal())

    def run(self, graphs: Sequence[VkGraph]) -> tuple[Sample, ...]:
        """Samples of one run of a program."""
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
