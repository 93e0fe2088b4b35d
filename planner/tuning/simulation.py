"""A simulated device, whose hidden times show only in noisy runs; and random plans."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from planner.costs.model import Costs, FreeTransitions, PricedOperand
from planner.files.lowered import graphs_of
from planner.ir.graph import Operator, Tensor
from planner.ir.representation import REPRS, TensorRepr
from planner.measured.calls import Call, GraphCall, Place, calls_of
from planner.measured.etdump import DelegateRun, Dispatch, Executions
from planner.measured.join import Sample
from planner.measured.roofline import Floats
from planner.measured.timemodel import (
    Labels,
    Prediction,
    Predictor,
    TimeModel,
    counted_domains,
    labels_of,
)
from planner.tuning.device import Measurement
from planner.tuning.runners import RunFailedError
from planner.tuning.tensors import TensorType
from schema import CostOrigin, VkGraph
from schema.frozen import frozen

_COUNT: Final = 5
_OF_OPERANDS: Final = 0.5
_TOGETHER: Final = 0.25
_LUCK: Final = 0.25
_DRAWN: Final = 1000
_EXECUTION_NOISE: Final = 0.02
_WARM_UP: Final = 3.0
_OVERHEAD_NS: Final = 1e5
_THROTTLED_RUNS: Final = 7
Kernel = tuple[str, TensorRepr] | tuple[str, TensorRepr, TensorRepr]
"""An operator with an operand in a representation; or a repack, from one to another."""

OUTPUT: Final = TensorType("float32", (8,))
"""What every program computes on a simulated device."""


class RandomCosts(FreeTransitions):
    """A cost model that draws prices at random, so that the best plan is a random valid one."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def operator(
        self, operator: Operator, tensors: Sequence[Tensor], operands: Sequence[PricedOperand]
    ) -> Iterable[tuple[tuple[int, ...], Costs]]:
        """A random price for each representation of each operand."""
        for index, operand in enumerate(operands):
            yield (index,), self._random.integers(0, _DRAWN, len(operand.domain))


class RecordedTimes:
    """The times of real runs, as if they were all of a device.

    For calls that they did not measure it uses their model, with a random error of the size of the
    model's own, so that the time cannot be known without measuring.
    """

    def __init__(self, runs: Sequence[Sequence[Sample]], seed: int) -> None:
        """Learns from the samples of each run; the ``seed`` draws the errors."""
        self._model = TimeModel(runs)
        self._seed = seed

    def knows(self, operator: str) -> bool:
        """Whether the real runs measured an operator."""
        return self._model.knows(operator)

    def predict(
        self, call: Call, places: Sequence[Place], domains: Sequence[Sequence[int]]
    ) -> Prediction:
        """True times in ns, with an axis for each place."""
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


class DrawnTimes:
    """Times of a device that is drawn by a seed.

    A call takes a launch and its work, more or less by the representation of each operand and by
    all of them, and has luck of its own in each, so that the time cannot be known without
    measuring. How much that matters differs between devices, as it does between those that were
    recorded: the standard deviation of a call's times is about 0.1 on one and 0.5 on another.
    """

    def __init__(self, seed: int) -> None:
        """The ``seed`` draws everything."""
        random = np.random.default_rng(seed)
        self._seed = seed
        self._launch_ns = random.uniform(2e3, 10e3)
        self._ns_per_byte = random.uniform(0.02, 0.1)
        self._ns_per_multiplication = random.uniform(0.001, 0.01)
        self._spread = random.uniform(0.1, 0.5)

    def knows(self, operator: str) -> bool:
        """Always true."""
        return True

    def predict(
        self, call: Call, places: Sequence[Place], domains: Sequence[Sequence[int]]
    ) -> Prediction:
        """True times in ns, with an axis for each place."""
        size, multiplications = call.work
        ns = self._launch_ns + max(
            self._ns_per_byte * size, self._ns_per_multiplication * multiplications
        )
        kernel = f"{self._seed} {call.operator} {places}"
        logs = np.zeros([len(domain) for domain in domains])
        if domains:
            chosen = np.ix_(*domains)
            for axis, labels in enumerate(chosen):
                share = np.sqrt(_OF_OPERANDS / len(domains))
                logs += share * _drawn(f"{kernel} {axis}", 1)[labels]
            for key, part in ((kernel, _TOGETHER), (f"{kernel} {call.signature}", _LUCK)):
                logs += np.sqrt(part) * _drawn(key, len(domains))[chosen]
            logs *= self._spread
        return Prediction(ns * np.exp(logs), np.full(logs.shape, CostOrigin.MEASURED, np.int8))


def _drawn(key: str, operands: int) -> Floats:
    """Normal numbers for all labels of some operands, always the same for a key."""
    random = np.random.default_rng(list(hashlib.sha256(key.encode()).digest()))
    drawn: Floats = random.standard_normal([len(REPRS)] * operands)
    return drawn


Step = tuple[int, GraphCall, float]
"""A call of a program: its delegate, itself, and its true time in ns."""


class SimulatedDevice:
    """A device whose times are hidden: what its runs show is noisy."""

    def __init__(self, times: Predictor, seed: int, run_noise: float, step_noise: float) -> None:
        """The noise of whole runs and of steps is given as standard deviations of logarithms."""
        self.times = times
        self._noise = run_noise, step_noise
        self._random = np.random.default_rng(seed)
        self._true: dict[tuple[Call, Labels], float] = {}

    def run(self, graphs: Sequence[VkGraph]) -> tuple[Sample, ...]:
        """The samples of one noisy run of a program."""
        of_run, of_step = self._noise
        speed = of_run * self._random.standard_normal()
        samples = []
        for _, call, ns in self.steps(graphs):
            noisy = ns * np.exp(speed + of_step * self._random.standard_normal())
            samples.append(Sample(call.call, call.operands, ("simulated",), noisy, 0.0, _COUNT))
        return tuple(samples)

    def executions(
        self, steps: Sequence[Step], delegates: int, inferences: int, slow: float
    ) -> Executions:
        """The executions of a noisy run of a program's steps, this much slower than usual.

        ``slow`` is a logarithm. The first execution takes longer, since it compiles shaders.
        """
        of_run, of_step = self._noise
        speed = slow + of_run * self._random.standard_normal()
        found: list[list[Dispatch]] = [[] for _ in range(delegates)]
        wall = np.full(inferences, _OVERHEAD_NS)
        for delegate, call, ns in steps:
            noise = _EXECUTION_NOISE * self._random.standard_normal(inferences)
            times = ns * np.exp(speed + of_step * self._random.standard_normal() + noise)
            times[0] *= _WARM_UP
            wall += times
            dispatch = Dispatch("simulated", call.node_id, call.call.operator, tuple(times))
            found[delegate].append(dispatch)
        runs = tuple(DelegateRun(tuple(dispatches)) for dispatches in found)
        return Executions(runs, tuple(wall))

    def steps(self, graphs: Sequence[VkGraph]) -> Iterator[Step]:
        """The calls of a program that the device knows."""
        for delegate, call in _calls(graphs):
            if self.times.knows(call.call.operator):
                key = call.call, labels_of(call.operands)
                if key not in self._true:
                    predicted = self.times.predict(call.call, *counted_domains(call.operands))
                    self._true[key] = float(predicted.ns.flat[0])
                yield delegate, call, self._true[key]


@frozen
class Behaviour:
    """How a simulated device differs from one that only computes.

    Calls of these kernels give ``wrong`` outputs, or end the process (``crashing``). ``flaky`` is
    the part of the runs that fail for no reason; ``throttling`` how much slower the device gets and
    recovers again, as a logarithm.
    """

    wrong: frozenset[Kernel] = frozenset()
    crashing: frozenset[Kernel] = frozenset()
    flaky: float = 0.0
    throttling: float = 0.0


class SimulatedRuns:
    """A simulated device that runs programs as ExecuTorch's runtime does on a real one."""

    def __init__(self, device: SimulatedDevice, behaviour: Behaviour, seed: int) -> None:
        """``device`` has the times, and their noise."""
        self._device, self._behaviour = device, behaviour
        self._random = np.random.default_rng(seed)
        self._loaded: dict[bytes, tuple[int, list[Step], dict[Kernel, None]]] = {}
        self.runs = 0

    def execute(self, program: Path, inferences: int, seconds: float) -> Measurement:
        """Runs a program; raises ``RunFailedError`` where it crashes."""
        self.runs += 1
        delegates, steps, kernels = self._load(program.read_bytes(), program.name)
        if self._random.random() < self._behaviour.flaky:
            raise RunFailedError("crash", "the connection was lost")
        for met in kernels:
            if met in self._behaviour.crashing:
                raise RunFailedError("crash", f"Could not run {met[0]}")
        is_wrong = any(met in self._behaviour.wrong for met in kernels)
        slow = self._behaviour.throttling * (1 + np.sin(self.runs / _THROTTLED_RUNS))
        executions = self._device.executions(steps, delegates, inferences, slow)
        outputs = np.arange(8, dtype=np.float32) + np.float32(is_wrong)
        return Measurement(executions, (outputs,), _as_bytes(executions))

    def _load(self, program: bytes, name: str) -> tuple[int, list[Step], dict[Kernel, None]]:
        """A program's number of delegates, its steps, and the kernels that it uses, in order."""
        found = self._loaded.get(program)
        if found is None:
            graphs = tuple(graphs_of(program, name))
            kernels = dict.fromkeys(k for _, call in _calls(graphs) for k in kernels_of(call))
            found = self._loaded[program] = len(graphs), list(self._device.steps(graphs)), kernels
        return found

    def executions(self, etdump: bytes, name: str) -> Executions:
        """The executions in what the simulated device writes, which is no ETDump."""
        written = json.loads(etdump)
        delegates = (
            DelegateRun(tuple(Dispatch(k, node, op, tuple(ns)) for k, node, op, ns in dispatches))
            for dispatches in written["delegates"]
        )
        return Executions(tuple(delegates), tuple(written["wall_ns"]))


def kernels_of(call: GraphCall) -> Iterator[Kernel]:
    """The kernels that a call uses, by which a device's ``Behaviour`` may be wrong."""
    operator, representations = call.call.operator, [r for _, r in call.operands]
    yield from ((operator, r) for r in representations)
    if call.is_transition:
        source, target = representations
        yield operator, source, target


def _as_bytes(executions: Executions) -> bytes:
    delegates = [
        [[d.kernel, d.node_id, d.operator, d.ns] for d in run.dispatches]
        for run in executions.delegates
    ]
    return json.dumps({"delegates": delegates, "wall_ns": executions.wall_ns}).encode()


def _calls(graphs: Sequence[VkGraph]) -> Iterator[tuple[int, GraphCall]]:
    for delegate, graph in enumerate(graphs):
        for call in calls_of(graph):
            yield delegate, call
