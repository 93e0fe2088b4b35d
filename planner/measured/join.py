"""Joins a run's measured times to the operators and representations of its graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from planner.errors import InputError
from planner.ir.representation import PackedDimInfo
from planner.measured.calls import Call, GraphCall, Operands, calls_of
from planner.measured.etdump import DelegateRun, Dispatch, Executions
from planner.vkgraph.wellformed import repr_of
from schema import VkGraph, VkMemoryLayout, VkTensor
from schema.frozen import frozen

STAGING: Final = Call("staging", "[[],[]]")
"""The call that stands for copies of graph inputs and outputs."""

StepKind = Literal["operator", "transition", "staging"]
"""The kind of a step: it computes, repacks, or copies an input or output of the graph."""

_OUTLIER: Final = 3.0
"""Executions slower than the median by more median deviations than this are left out."""

_LEAST_DEVIATION: Final = 0.05
_FEWEST: Final = 3


@frozen
class Sample:
    """An operator's time in ns: the median of the executions that count, and their spread.

    ``spread`` is half the distance between the quartiles, ``kernels`` are its dispatches.
    """

    call: Call
    operands: Operands
    kernels: tuple[str, ...]
    median: float
    spread: float
    count: int


@frozen
class Step:
    """A measured call of a delegate's graph; ``delegate`` counts from 0.

    ``graph_call`` is None for staging.
    """

    delegate: int
    graph_call: GraphCall | None
    sample: Sample


@frozen
class Join:
    """A run's steps in the order of execution, and its times: sums of medians, in ns.

    ``unknown`` is the time of dispatches that name no operator.
    """

    steps: tuple[Step, ...]
    unknown: float

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The steps' samples."""
        return tuple(step.sample for step in self.steps)

    @property
    def joined(self) -> float:
        """The time of operators and staging, in ns."""
        return sum(step.sample.median for step in self.steps)

    @property
    def total(self) -> float:
        """The time of all dispatches, in ns."""
        return self.joined + self.unknown

    @property
    def share(self) -> float:
        """The part of the time that belongs to operators and staging."""
        return self.joined / self.total if self.total else 1.0


def join(runs: Sequence[DelegateRun], graphs: Sequence[VkGraph], name: str) -> Join:
    """Joins the runs of a program's delegates to their graphs, in the same order.

    ``name`` is the ETDump's. Raises ``InputError`` if it is of another program or damaged.
    """
    if len(runs) != len(graphs):
        raise InputError(
            f"{name} is of a program with {len(runs)} Vulkan delegates, not {len(graphs)}: hand in "
            "the .pte that was profiled"
        )
    steps: list[Step] = []
    unknown = 0.0
    for delegate, (run, graph) in enumerate(zip(runs, graphs, strict=True)):
        kept = _counted(run, name)
        calls = {call.node_id: call for call in calls_of(graph, f"{name}, delegate {delegate}")}
        groups: dict[tuple[int | None, bool], list[Dispatch]] = {}
        for dispatch in run.dispatches:
            groups.setdefault((dispatch.node_id, dispatch.is_staging), []).append(dispatch)
        for (node_id, is_staging), dispatches in groups.items():
            times = np.sum([d.ns for d in dispatches], axis=0)[kept]
            if node_id is None and not is_staging:
                unknown += float(np.median(times))
                continue
            found = None
            if node_id is not None:
                found = _call_at(node_id, dispatches[0], calls, f"{name}, delegate {delegate}")
                _check_tensors(graph, found, dispatches[0], f"{name}, delegate {delegate}")
            steps.append(Step(delegate, found, _sample(found, dispatches, times)))
    return Join(tuple(steps), unknown)


def inference_ns(executions: Executions, name: str) -> tuple[float, float]:
    """The median times of an inference in ns: of all dispatches, and of the whole method.

    The second is 0 where the runtime did not time it. Raises ``InputError`` for a damaged profile.
    """
    gpu = 0.0
    for run in executions.delegates:
        if run.dispatches:
            times = np.sum([d.ns for d in run.dispatches], axis=0)[_counted(run, name)]
            gpu += float(np.median(times))
    # The first execution compiles shaders.
    whole = executions.wall_ns[1:] or executions.wall_ns
    return gpu, float(np.median(whole)) if whole else 0.0


def _call_at(
    node_id: int, dispatch: Dispatch, calls: dict[int, GraphCall], place: str
) -> GraphCall:
    found = calls.get(node_id)
    if found is None or found.call.operator != dispatch.operator:
        has = "no such operator" if found is None else found.call.operator
        raise InputError(
            f"{place}, does not belong to this program: node {node_id} is {dispatch.operator} in "
            f"the profile, but {has} in the program: hand in the .pte that was profiled"
        )
    return found


def _check_tensors(graph: VkGraph, found: GraphCall, dispatch: Dispatch, place: str) -> None:
    """Raises ``InputError`` for other layouts, which leave operators and their numbers equal."""
    written = graph.chain[found.position]
    for tensor in dispatch.tensors:
        value_id = written.args[tensor.argument] if tensor.argument < len(written.args) else -1
        value = graph.values[value_id] if 0 <= value_id < len(graph.values) else None
        if not isinstance(value, VkTensor) or value.constant_id >= 0:
            continue
        chosen = repr_of(value)
        # The runtime resolves CONV2D by its neighbours.
        if chosen is None or chosen.memory_layout == VkMemoryLayout.PACKED_INT8_CONV2D:
            continue
        ran = tensor.storage, tensor.packed_dim
        if ran != (chosen.storage_type.name, PackedDimInfo.of(chosen).packed_dim):
            raise InputError(
                f"{place}, does not belong to this program: argument {tensor.argument} of node "
                f"{found.node_id} ({dispatch.operator}) is {tensor.storage}, packed along "
                f"{tensor.packed_dim}, in the profile, but {chosen} in the program: hand in the "
                ".pte that was profiled"
            )


def _counted(run: DelegateRun, name: str) -> NDArray[np.intp]:
    """The executions that count: not the first one, which compiles shaders, and no outliers."""
    counts = {len(d.ns) for d in run.dispatches}
    if len(counts) > 1:
        raise InputError(f"{name} is damaged: its dispatches have different numbers of executions")
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
    found: GraphCall | None, dispatches: Sequence[Dispatch], times: NDArray[np.float64]
) -> Sample:
    low, middle, high = np.quantile(times, [0.25, 0.5, 0.75])
    return Sample(
        call=STAGING if found is None else found.call,
        operands=() if found is None else found.operands,
        kernels=tuple(d.kernel for d in dispatches),
        median=float(middle),
        spread=float(high - low) / 2,
        count=len(times),
    )
