"""Traces: steps on a time line, as Perfetto and chrome://tracing cut it into nanoseconds."""

from __future__ import annotations

import json
import lzma
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.costs.profile_file import load_profile
from planner.errors import InputError, OptionError
from planner.export.perfetto import trace
from planner.export.timeline import Predicted, ProgramStep, TimedProgram, time_program
from planner.measured.calls import Call
from planner.measured.costs import DeviceTimes, MeasuredSource
from planner.measured.etdump import DelegateRun, Dispatch
from planner.measured.join import STAGING, Join, Sample, Step
from planner.options import PlanOptions, make_options
from schema import CostOrigin, Figures, OperatorCost, PlannedProgram, Status, plan, vkgraph
from tests.paths import PROFILES
from tests.planner.verify.sketches import Case, concatenation, float_chain, group_norm

LATENCY = make_options("default", "latency")
SAMPLE = Sample(Call("op", "[[],[]]"), (), ("a", "b"), 5.0, 1.0, 4)


def unpacked(name: str) -> bytes:
    return lzma.decompress((PROFILES / f"{name}.xz").read_bytes())


@pytest.fixture(scope="module")
def measured() -> TimedProgram:
    """A real run on lavapipe, and what the default profile says of it."""
    etdump = unpacked("mv2_xs_int8_greedy.etdump")
    return time_program(unpacked("mv2_xs_int8_greedy.vkgraph"), "mv2", LATENCY, etdump, "run")


def planned(*cases: Case, unit: str = "ns") -> bytes:
    """A planned program with these delegates."""
    figures = Figures(1.0, 1.0, 1.0, Status.OPTIMAL, 1, 2.0, 2.0, 2)
    delegates = [
        replace(case.plan, index=i, graph=vkgraph.encode(case.after))
        for i, case in enumerate(cases)
    ]
    program = PlannedProgram(
        planner_version="1",
        source_name="m.pt2",
        source_sha256="",
        profile_name="mine",
        profile_hash="",
        cost_unit=unit,
        objective="latency",
        texture_limits=(1, 2, 3),
        excluded_layouts=(),
        delegates=tuple(delegates),
        total=figures,
    )
    return plan.encode(program)


def with_costs(case: Case, *costs: OperatorCost) -> Case:
    return replace(case, plan=replace(case.plan, operator_costs=costs))


def silent(case: Case) -> Case:
    """Whose plan says nothing of costs."""
    return replace(case, plan=replace(case.plan, transitions=(), operator_costs=()))


def slices(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [event for event in document["traceEvents"] if event["ph"] == "X"]


def ns(microseconds: float) -> int:
    """As Perfetto's importer has it."""
    return int(microseconds * 1000)


def by_track(document: dict[str, Any]) -> dict[tuple[int, int], list[dict[str, Any]]]:
    tracks = defaultdict(list)
    for event in slices(document):
        tracks[event["pid"], event["tid"]].append(event)
    return tracks


def check(document: dict[str, Any]) -> None:
    """What the format asks for."""
    json.dumps(document, allow_nan=False)
    names = defaultdict(set)
    for event in document["traceEvents"]:
        assert event["ph"] in ("M", "X", "C")
        if event["ph"] == "M":
            names[event["name"]].add((event["pid"], event["tid"]))
        else:
            assert event["ts"] >= 0
    assert {pid for pid, _ in names["process_name"]} >= {e["pid"] for e in slices(document)}
    assert names["thread_name"] == set(by_track(document))
    tids = [tid for _, tid in by_track(document)]
    assert len(set(tids)) == len(tids)
    for events in by_track(document).values():
        assert all(ns(event["dur"]) > 0 for event in events)
        for first, second in pairwise(events):
            assert ns(first["ts"]) + ns(first["dur"]) <= ns(second["ts"])


def total(document: dict[str, Any], pid: int) -> int:
    return sum(ns(event["dur"]) for event in slices(document) if event["pid"] == pid)


def test_a_real_run_is_as_long_as_its_steps(measured: TimedProgram) -> None:
    document = trace(measured)
    check(document)
    assert measured.run is not None
    steps = len(measured.run.steps)
    assert steps == 259
    assert total(document, 1) == pytest.approx(measured.run.joined, abs=steps)
    assert total(document, 2) == pytest.approx(measured.predicted, abs=steps)
    assert document["otherData"]["measured_ns"] == measured.run.total
    labels = {
        event["args"]["name"]
        for event in document["traceEvents"]
        if event["name"] == "process_name"
    }
    assert labels == {"measured: 206.494 ms", "predicted by default: 0.782 ms"}


def test_a_slice_says_what_ran(measured: TimedProgram) -> None:
    staging, first = slices(trace(measured))[:2]
    assert staging["cat"] == "staging"
    assert len(staging["args"]["measured"]["kernels"]) == 2
    assert first["name"] == first["args"]["operator"]
    assert first["args"]["position"] == 0
    assert first["args"]["inputs"][0].startswith("0: v212 float32[1,3,96,96] texture:")
    assert first["args"]["measured"]["executions"] == 5
    assert first["args"]["predicted"]["origin"] == "modelled"


def test_the_same_step_begins_at_the_same_time(measured: TimedProgram) -> None:
    starts = defaultdict(set)
    for event in slices(trace(measured)):
        starts[event["args"].get("position")].add(event["ts"])
    assert all(len(times) == 1 for times in starts.values())


def test_end_to_end_there_are_no_gaps(measured: TimedProgram) -> None:
    document = trace(measured, end_to_end=True)
    check(document)
    for pid in (1, 2):
        events = [e for e in slices(document) if e["pid"] == pid]
        end = max(ns(e["ts"]) + ns(e["dur"]) for e in events)
        assert end == total(document, pid)


def test_a_plan_says_itself_what_it_costs() -> None:
    case = with_costs(float_chain(), OperatorCost(0, 1500.5, CostOrigin.MEASURED))
    (transition,) = case.plan.transitions
    document = trace(time_program(planned(case), "m.plan"))
    check(document)
    operator, repack = slices(document)
    assert (operator["dur"], operator["args"]["predicted"]["origin"]) == (1.5, "measured")
    assert repack["name"] == "texture:CHANNELS_PACKED -> texture:WIDTH_PACKED"
    assert repack["args"]["position"] == transition.operator_index
    assert repack["args"]["predicted"]["ns"] == transition.cost
    assert ns(repack["dur"]) == round(transition.cost)
    assert document["otherData"]["steps_without_prediction"] == 2
    counters = [e for e in document["traceEvents"] if e["ph"] == "C"]
    assert [e["args"]["us"] for e in counters] == [0, round(transition.cost) / 1000]


def test_every_delegate_has_tracks_of_its_own() -> None:
    data = planned(float_chain(), concatenation(), group_norm())
    program = time_program(data, "m.plan", LATENCY)
    document = trace(program)
    check(document)
    tracks = [e["args"]["name"] for e in document["traceEvents"] if e["name"] == "thread_name"]
    assert tracks == [
        "delegate 0: operators",
        "delegate 0: transitions",
        "delegate 1: operators",
        "delegate 1: transitions",
        "delegate 2: operators",
        "delegate 2: transitions",
    ]
    unpredicted = {id(step) for step in program.unpredicted}
    order = [(s.delegate, s.position) for s in program.steps if id(s) not in unpredicted]
    assert [(e["args"]["delegate"], e["args"]["position"]) for e in slices(document)] == order


def test_costs_that_a_device_measured() -> None:
    case = float_chain()
    graph = vkgraph.encode(case.after)
    call = Call(STAGING.operator, STAGING.signature)
    times = DeviceTimes.of("phone", [[replace(SAMPLE, call=call, median=700.0)]])
    options = PlanOptions(MeasuredSource(times, load_profile("default")), "latency")
    document = trace(time_program(graph, "m", options))
    check(document)
    staging = slices(document)[0]
    assert (staging["cat"], staging["dur"]) == ("staging", 0.7)
    assert document["otherData"]["predicted_by"] == "phone, measured; else default"


def test_costs_that_are_no_times(monkeypatch: pytest.MonkeyPatch) -> None:
    data = vkgraph.encode(float_chain().after)
    with pytest.raises(OptionError, match=r"profile 'bytes' counts bytes, not time"):
        time_program(data, "m", make_options("bytes", "latency"))
    with pytest.raises(OptionError, match=r"the plan m\.plan counts bytes, not time"):
        time_program(planned(float_chain(), unit="bytes"), "m.plan")
    assert time_program(planned(float_chain(), unit="bytes"), "m.plan", LATENCY).predicted > 0
    with pytest.raises(OptionError, match="m has no times"):
        time_program(data, "m")
    with pytest.raises(OptionError, match=r"m\.plan has no times"):
        trace(time_program(planned(silent(float_chain())), "m.plan"))
    call = float_chain().after.chain[0]
    run = DelegateRun((Dispatch("k", call.node_id, "another.op", (1.0, 1.0)),))
    monkeypatch.setattr("planner.export.timeline.read_etdump", lambda data, name: (run,))
    with pytest.raises(InputError, match=r"is another\.op in the profile"):
        time_program(data, "m", LATENCY, b"", "run")


@pytest.mark.parametrize("cost", [float("nan"), float("inf"), -1.0, 1e300])
def test_a_plan_whose_costs_are_no_times_is_damaged(cost: float) -> None:
    case = with_costs(float_chain(), OperatorCost(0, cost))
    with pytest.raises(InputError, match="operator 0 of delegate 0 costs"):
        time_program(planned(case), "m.plan")


BASE = time_program(planned(float_chain(), group_norm()), "m.plan", LATENCY)
TIMES = st.none() | st.just(0.0) | st.floats(0, 1e15)


def timed(step: ProgramStep, took: float | None, should: float | None) -> ProgramStep:
    return replace(
        step,
        measured=None if took is None else replace(SAMPLE, median=took),
        predicted=None if should is None else Predicted(should, CostOrigin.MODELLED),
    )


def joined(steps: Sequence[ProgramStep]) -> Join:
    return Join(tuple(Step(0, None, s.measured) for s in steps if s.measured is not None), 0.0)


@given(
    st.lists(st.tuples(TIMES, TIMES), min_size=len(BASE.steps), max_size=len(BASE.steps)).filter(
        lambda times: any(a or b for a, b in times)
    ),
    st.booleans(),
)
def test_any_times_fit_on_their_tracks(
    times: Sequence[tuple[float | None, float | None]], end_to_end: bool
) -> None:
    steps = tuple(timed(step, *pair) for step, pair in zip(BASE.steps, times, strict=True))
    document = trace(replace(BASE, steps=steps, run=joined(steps)), end_to_end=end_to_end)
    check(document)
    for pid, place in ((1, 0), (2, 1)):
        expected = [max(1, round(t)) for pair in times if (t := pair[place])]
        assert [ns(e["dur"]) for e in slices(document) if e["pid"] == pid] == expected


def test_the_same_file_gives_the_same_trace() -> None:
    data = planned(concatenation())
    first, second = (json.dumps(trace(time_program(data, "m", LATENCY))) for _ in range(2))
    assert first == second
