"""A program's steps on a timeline, in Chrome's trace event format.

Perfetto (ui.perfetto.dev) and chrome://tracing open it. There is one process for measured times and
one for predicted times; each has tracks for every delegate: operators, transitions, staging.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import inf, nextafter
from typing import Any, Final, Literal

from planner.errors import OptionError, Remedy
from planner.export.timeline import Predicted, ProgramStep, StepTensor, TimedProgram
from planner.measured.join import StepKind
from schema.frozen import frozen

Event = dict[str, Any]
_Side = Literal["measured", "predicted"]

_PROCESSES: Final[Mapping[_Side, int]] = {"measured": 1, "predicted": 2}
_TRACKS: Final[tuple[StepKind, ...]] = ("operator", "transition", "staging")
_NAMES: Final[Mapping[StepKind, str]] = {
    "operator": "operators",
    "transition": "transitions",
    "staging": "staging",
}
_TIDS: Final = 1_000_000
"""Track ids of one process: Perfetto takes equal ids in two processes for one thread."""


@frozen
class _Slice:
    """A step in one process: its start and duration in whole ns."""

    step: ProgramStep
    start: int
    ns: int

    @property
    def end(self) -> int:
        return self.start + self.ns


def trace(program: TimedProgram, *, end_to_end: bool = False) -> dict[str, Any]:
    """The trace as a JSON document.

    A step begins at the same time in both processes, so that they can be compared by eye; a gap
    follows the shorter one. ``end_to_end`` leaves no gaps. Steps that take no time are left out.
    Times are in microseconds, as the format requires, and exact to the ns. Raises ``OptionError``
    where no step has a time.
    """
    sides: dict[_Side, list[_Slice]] = {}
    if program.run is not None:
        sides["measured"] = []
    sides["predicted"] = []
    clock = dict.fromkeys(sides, 0)
    for step in program.steps:
        for side, slices in sides.items():
            ns = _whole(step, side)
            if ns:
                slices.append(_Slice(step, clock[side], ns))
            clock[side] += ns
        if not end_to_end:
            clock = dict.fromkeys(sides, max(clock.values()))
    if not any(sides.values()):
        raise OptionError(
            f"{program.listing.name} has no times (predicted by {program.predicted_by})",
            Remedy.PREDICT_TIMES,
        )
    events: list[Event] = []
    for side, slices in sides.items():
        events += _metadata(side, slices, program)
    for side, slices in sides.items():
        events += _events(side, slices)
    return {
        "displayTimeUnit": "ns",
        "traceEvents": events,
        "otherData": _about(program, end_to_end),
    }


def _ns(step: ProgramStep, side: _Side) -> float:
    if side == "measured":
        return 0.0 if step.measured is None else step.measured.median
    return 0.0 if step.predicted is None else step.predicted.ns


def _whole(step: ProgramStep, side: _Side) -> int:
    """Whole ns, at least 1 for a step that takes any time: empty slices cannot be shown."""
    ns = _ns(step, side)
    return max(1, round(ns)) if ns else 0


def _metadata(side: _Side, slices: Sequence[_Slice], program: TimedProgram) -> Iterator[Event]:
    pid = _PROCESSES[side]
    total = sum(_ns(step, side) for step in program.steps)
    by = "" if side == "measured" else f" by {program.predicted_by}"
    yield _named(pid, 0, "process_name", name=f"{side}{by}: {total / 1e6:.3f} ms")
    yield _named(pid, 0, "process_sort_index", sort_index=pid)
    tracks = sorted({(_tid(side, s.step), s.step.delegate, s.step.kind) for s in slices})
    for tid, delegate, kind in tracks:
        yield _named(pid, tid, "thread_name", name=f"delegate {delegate}: {_NAMES[kind]}")
        yield _named(pid, tid, "thread_sort_index", sort_index=tid)


def _named(pid: int, tid: int, what: str, **args: Any) -> Event:
    return {"ph": "M", "pid": pid, "tid": tid, "name": what, "args": args}


def _tid(side: _Side, step: ProgramStep) -> int:
    track = _TRACKS.index(step.kind)
    return _PROCESSES[side] * _TIDS + step.delegate * len(_TRACKS) + track


def _events(side: _Side, slices: Sequence[_Slice]) -> Iterator[Event]:
    pid, repacks = _PROCESSES[side], 0
    if any(s.step.kind == "transition" for s in slices):
        yield _counter(pid, 0, repacks)
    for found in slices:
        step = found.step
        yield {
            "ph": "X",
            "pid": pid,
            "tid": _tid(side, step),
            "ts": _microseconds(found.start),
            "dur": _microseconds(found.ns),
            "name": step.operator if step.change is None else " -> ".join(step.change),
            "cat": step.kind,
            "args": _args(step),
        }
        if step.kind == "transition":
            repacks += found.ns
            yield _counter(pid, found.end, repacks)


def _counter(pid: int, at: int, repacks: int) -> Event:
    return {
        "ph": "C",
        "pid": pid,
        "ts": _microseconds(at),
        "name": "transitions so far",
        "args": {"us": repacks / 1000},
    }


def _microseconds(ns: int) -> float:
    """The least number that gives ``ns`` in viewers, which multiply by 1000 and truncate.

    With the nearest number, slices would begin a nanosecond before the previous one ends.
    """
    found = ns / 1000
    while int(found * 1000) < ns:
        found = nextafter(found, inf)
    return found


def _args(step: ProgramStep) -> dict[str, Any]:
    """The details of a step, measured and predicted, for the slices of both processes."""
    args: dict[str, Any] = {"operator": step.operator, "delegate": step.delegate}
    if step.position is not None:
        args |= {"position": step.position, "node_id": step.node_id}
    if step.name is not None:
        args["tensor"] = step.name
    if step.change is not None:
        args["from"], args["to"] = step.change
    if step.inputs:
        args["inputs"] = [_described(tensor) for tensor in step.inputs]
    if step.outputs:
        args["outputs"] = [_described(tensor) for tensor in step.outputs]
    if step.measured is not None:
        args["measured"] = {
            "median_ns": step.measured.median,
            "spread_ns": step.measured.spread,
            "executions": step.measured.count,
            "kernels": list(step.measured.kernels),
        }
    if step.predicted is not None:
        args["predicted"] = _predicted(step.predicted)
    return args


def _predicted(predicted: Predicted) -> dict[str, Any]:
    return {"ns": predicted.ns, "origin": predicted.origin.name.lower()}


def _described(tensor: StepTensor) -> str:
    """A tensor in one line: ``0: x float32[1,3,96,96] texture:CHANNELS_PACKED``."""
    name = f"v{tensor.value_id}" if tensor.name is None else tensor.name
    made = "constant" if tensor.is_constant else tensor.representation or "default"
    return f"{tensor.place}: {name} {tensor.type_text} {made}"


def _about(program: TimedProgram, end_to_end: bool) -> dict[str, Any]:
    """The facts that the timeline does not show; times in ns."""
    listing, run = program.listing, program.run
    return {
        "source": listing.name,
        "kind": listing.kind,
        "steps": "end to end" if end_to_end else "side by side",
        "predicted_by": program.predicted_by,
        "predicted_ns": program.predicted,
        "steps_without_prediction": len(program.unpredicted),
        **(
            {}
            if run is None
            else {"measured_ns": run.joined, "measured_of_no_operator_ns": run.unknown}
        ),
    }
