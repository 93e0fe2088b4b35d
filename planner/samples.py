"""Joins what a runtime measured to the operators and representations of the graph that it ran."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from planner.errors import InputError
from planner.etdump import DelegateRun, Dispatch
from planner.frontends.wellformed import repr_of
from planner.representation import TensorRepr
from schema import VkGraph, VkTensor
from schema.vkgraph import OperatorCall, Value, ValueList

STAGING: Final = "staging"
"""The name under which copies of graph inputs and outputs are kept."""

_OUTLIER: Final = 3.0
"""Executions slower than the median by so many times the median deviation are left out."""

_LEAST_DEVIATION: Final = 0.05
_FEWEST: Final = 3


@dataclass(frozen=True, slots=True)
class Sample:
    """What one operator took, in ns: the median of the executions that count, and their spread.

    ``signature`` is JSON of what the time depends on besides representations: shapes and dtypes of
    tensors, values of numbers. ``representations`` are those of the tensor operands in order,
    members of lists one by one, outputs last. ``spread`` is half the distance of the quartiles.
    """

    operator: str
    kernels: tuple[str, ...]
    signature: str
    representations: tuple[TensorRepr, ...]
    median: float
    spread: float
    count: int


@dataclass(frozen=True, slots=True)
class Join:
    """A run's samples, and how much of its time they account for (ns, sums of medians)."""

    samples: tuple[Sample, ...]
    total: float
    joined: float

    @property
    def share(self) -> float:
        """The part of the time that is joined to operators or staging."""
        return self.joined / self.total if self.total else 1.0


def join(runs: Sequence[DelegateRun], graphs: Sequence[VkGraph], name: str) -> Join:
    """Joins the runs of a program's delegates to their graphs, in the same order.

    Raises ``InputError`` where the profile is of another program.
    """
    if len(runs) != len(graphs):
        raise InputError(
            f"{name} is of a program with {len(runs)} Vulkan delegates, not {len(graphs)}: hand in "
            "the .pte that was profiled"
        )
    samples: list[Sample] = []
    total = joined = 0.0
    for index, (run, graph) in enumerate(zip(runs, graphs, strict=True)):
        kept = _counted(run)
        calls = {call.node_id: call for call in graph.chain}
        groups: dict[int | None, list[Dispatch]] = {}
        for dispatch in run.dispatches:
            groups.setdefault(dispatch.node_id, []).append(dispatch)
        for node_id, dispatches in groups.items():
            times = np.sum([d.ns for d in dispatches], axis=0)[kept]
            median = float(np.median(times))
            total += median
            if node_id is None:
                joined += median
                samples.append(_sample(STAGING, dispatches, "{}", (), times))
                continue
            call = calls.get(node_id)
            if call is None or call.name != dispatches[0].operator:
                has = "no such operator" if call is None else call.name
                raise InputError(
                    f"{name} does not belong to this program: delegate {index}, node {node_id} is "
                    f"{dispatches[0].operator} in the profile, and {has} in the program"
                )
            joined += median
            operands = _Operands(graph, call)
            samples.append(
                _sample(call.name, dispatches, operands.signature, operands.representations, times)
            )
    return Join(tuple(samples), total, joined)


def _counted(run: DelegateRun) -> NDArray[np.intp]:
    """Executions that count: not the first, which compiles shaders, and no outliers."""
    counts = {len(d.ns) for d in run.dispatches}
    if len(counts) > 1:
        raise InputError("the profile is damaged: dispatches were executed unequally often")
    if not run.dispatches:
        return np.array([], np.intp)
    times = np.sum([d.ns for d in run.dispatches], axis=0)
    candidates = np.arange(1 if len(times) > 1 else 0, len(times))
    middle = np.median(times[candidates])
    deviation = np.median(np.abs(times[candidates] - middle))
    limit = middle + _OUTLIER * max(deviation, _LEAST_DEVIATION * middle)
    kept = candidates[times[candidates] <= limit]
    return kept if len(kept) >= _FEWEST else candidates


def _sample(
    operator: str,
    dispatches: Sequence[Dispatch],
    signature: str,
    representations: tuple[TensorRepr, ...],
    times: NDArray[np.float64],
) -> Sample:
    low, middle, high = np.quantile(times, [0.25, 0.5, 0.75])
    return Sample(
        operator=operator,
        kernels=tuple(d.kernel for d in dispatches),
        signature=signature,
        representations=representations,
        median=float(middle),
        spread=float(high - low) / 2,
        count=len(times),
    )


class _Operands:
    """What an operator is called with."""

    def __init__(self, graph: VkGraph, call: OperatorCall) -> None:
        self.graph, self.call = graph, call

    @cached_property
    def signature(self) -> str:
        """Everything but the representations, as canonical JSON."""
        return json.dumps([self._describe(arg) for arg in self.call.args], separators=(",", ":"))

    @cached_property
    def representations(self) -> tuple[TensorRepr, ...]:
        """Of each tensor that has one, in order."""
        return tuple(
            representation
            for tensor in self._tensors(self.call.args)
            if (representation := repr_of(tensor)) is not None
        )

    def _tensors(self, args: Sequence[int]) -> Iterator[VkTensor]:
        for arg in args:
            value = self.graph.values[arg]
            if isinstance(value, ValueList):
                yield from self._tensors(value.items)
            elif isinstance(value, VkTensor):
                yield value

    def _describe(self, arg: int) -> Any:
        value: Value = self.graph.values[arg]
        if isinstance(value, ValueList):
            return [self._describe(item) for item in value.items]
        if isinstance(value, VkTensor):
            kind = "tensor" if value.constant_id < 0 else "constant"
            return {kind: [value.datatype.name, list(value.dims)]}
        return {type(value).__name__: astuple(value)}
