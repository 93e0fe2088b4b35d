"""Plans by measured times: optimal, honest about where costs come from, and checked."""

from __future__ import annotations

import lzma
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import product
from math import exp, log
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.costs.model import Objective
from planner.costs.profile import DeviceProfile
from planner.costs.profile_file import load_profile
from planner.errors import InputError, OptionError, VerificationError
from planner.ir.graph import LayoutGraph, Operator
from planner.ir.physical import DEFAULT_TEXTURE_LIMITS
from planner.ir.representation import REPRS, TensorRepr
from planner.kernels.limits import Limits
from planner.kernels.registry import CLONE
from planner.kernels.rep_sets import op_rep_sets
from planner.measured.calls import Call, Operands, call_of, calls_of, place, transition_call
from planner.measured.costs import DeviceTimes, LearnedCosts, MeasuredSource, load_costs
from planner.measured.etdump import read_etdump
from planner.measured.importing import import_run
from planner.measured.join import Sample, join
from planner.measured.timemodel import counted_places
from planner.optimise.plan import LayoutPlan
from planner.options import PlanOptions, make_options
from planner.pipelines.exported import plan_exported
from planner.pipelines.lowered import Planned, replan
from planner.verify import verify_delegate
from planner.vkgraph.reader import read_vkgraph, without_representations
from schema import CostOrigin, DelegatePlan, VkMemoryLayout, plan, vkgraph
from tests.paths import PROFILES
from tests.planner.costs.curves import curved
from tests.planner.optimise.brute_force import allowed, graphs, optimal_plan
from tests.planner.programs import lower

NETS = ("mixed", "embedded", "residual_int8")


def operand_choices(graph: LayoutGraph, operator: Operator) -> list[list[tuple[str, TensorRepr]]]:
    """The operands of an operator that have a choice, each with its representations."""
    sets = op_rep_sets(operator, graph.tensors, DEFAULT_TEXTURE_LIMITS)
    if sets is None:
        return []
    found = [
        (place(False, index), members, sets.args[index])
        for index, members in operator.tensor_args()
        if not any(graph.tensors[t].constant for t in members)
    ]
    found += [(place(True, j), (t,), sets.outs[j]) for j, t in enumerate(operator.outputs)]
    return [
        [(where, r) for r in accepted if all(allowed(graph.tensors[t], r) for t in members)]
        for where, members, accepted in found
        if accepted is not None
    ]


def random_runs(graph: LayoutGraph, random: Random) -> list[list[Sample]]:
    """Runs with some of a graph's operators and transitions in some representations, at random.

    Some are of other shapes, and some operators are not there at all.
    """
    possible: list[tuple[Call, Operands]] = []
    for operator in graph.operators:
        choices = [random.sample(c, min(3, len(c))) for c in operand_choices(graph, operator)]
        of = call_of(operator, graph.tensors)
        other = Call(of.operator, of.signature.replace("[1,", "[7,"))
        for where in product(*choices):
            possible += [(of, where), (other, where)]
    for tensor in graph.tensors:
        family = [r for r in REPRS if allowed(tensor, r)]
        of = transition_call(tensor.shape, tensor.dtype)
        for _ in range(6):
            source, target = random.choice(family), random.choice(family)
            if source != target and source.is_packed_int8 == target.is_packed_int8:
                possible.append((of, (("0", source), ("o0", target))))
    names = sorted({of.operator for of, _ in possible})
    known = {name for name in names if random.random() < 0.7}
    possible = [(of, where) for of, where in possible if of.operator in known]
    return [
        [
            Sample(of, where, (), float(random.randint(1, 30_000)), 0.0, 3)
            for of, where in random.sample(possible, random.randint(0, len(possible)))
        ]
        for _ in range(random.randint(1, 3))
    ]


@settings(max_examples=100)
@given(
    graphs(),
    st.integers(0, 2**32),
    st.sampled_from([load_profile("default"), curved()]),
    st.sampled_from(["repack", "latency"]),
)
def test_a_plan_is_the_brute_force_optimum(
    graph: LayoutGraph, seed: int, profile: DeviceProfile, objective: Objective
) -> None:
    runs = random_runs(graph, Random(seed))
    times = DeviceTimes.of("x", runs)
    plan = optimal_plan(graph, LearnedCosts(times, profile, objective))
    if plan is not None:
        check_origins(graph, plan, runs, times, objective)


def check_origins(
    graph: LayoutGraph,
    plan: LayoutPlan,
    runs: list[list[Sample]],
    times: DeviceTimes,
    objective: Objective,
) -> None:
    """Each price is measured, guessed or modelled as the plan says; what was measured is right."""
    samples = [
        (s, s.median / exp(drift))
        for run, drift in zip(runs, times.model.drift, strict=True)
        for s in run
    ]

    def expected(of: Call, operands: Operands) -> tuple[CostOrigin, int | None]:
        counted = counted_places([where for where, _ in operands])
        operands = tuple(o for o in operands if o[0] in counted)
        same = [(s, ns) for s, ns in samples if s.call.operator == of.operator]
        together = [
            (s, ns) for s, ns in same if tuple(o for o in s.operands if o[0] in counted) == operands
        ]
        found = [log(ns) for s, ns in together if s.call == of]
        if found:
            return CostOrigin.MEASURED, round(exp(median(found))) * 1000
        if together:
            return CostOrigin.INTERPOLATED, None
        if same or not samples:
            return (CostOrigin.ESTIMATED if same else CostOrigin.MODELLED), None
        least = times.model.least(of)
        assert least is not None
        return CostOrigin.ESTIMATED, round(least) * 1000

    for t in plan.transitions:
        tensor = graph.tensors[t.tensor]
        operands = (("0", t.source), ("o0", t.target))
        origin, cost = expected(transition_call(tensor.shape, tensor.dtype), operands)
        is_stand_in = VkMemoryLayout.PACKED_INT8_CONV2D in (
            t.source.memory_layout,
            t.target.memory_layout,
        )
        if origin >= CostOrigin.INTERPOLATED or not is_stand_in:
            assert t.origin == origin
            assert cost is None or t.cost == pytest.approx(cost, abs=1000)
    if objective == "repack":
        assert not plan.operators
        return
    prices = {price.operator: price for price in plan.operators}
    for index, operator in enumerate(graph.operators):
        chosen = tuple(
            (place(s.is_output, s.index), REPRS[plan.solution.assignment[s.variable]])
            for s in plan.layout.slots
            if s.operator == index
        )
        origin, cost = expected(call_of(operator, graph.tensors), chosen)
        assert prices[index].origin == origin
        assert cost is None or prices[index].cost == pytest.approx(cost, abs=1000)
    assert plan.cost == plan.repack_cost + sum(price.cost for price in plan.operators)


def unpacked(name: str) -> bytes:
    return lzma.decompress((PROFILES / f"mv2_xs_int8_greedy.{name}.xz").read_bytes())


@cache
def one_run() -> DeviceTimes:
    """What the recorded run of an int8 MobileNetV2 taught."""
    run = read_etdump(unpacked("etdump"), "run")
    return DeviceTimes.of("x", [join(run, [vkgraph.decode(unpacked("vkgraph"))], "run").samples])


OPTIONS = make_options("default", "latency")


def timed(times: DeviceTimes) -> PlanOptions:
    return replace(OPTIONS, costs=MeasuredSource(times, OPTIONS.profile))


@cache
def learned() -> PlanOptions:
    return timed(one_run())


@cache
def mobilenet() -> Planned:
    return replan(unpacked("vkgraph"), "mv2", learned())


def checked(changed: DelegatePlan, options: PlanOptions | None = None) -> None:
    """Checks a plan of the MobileNetV2 as planning does."""
    options = options or learned()
    source = read_vkgraph(vkgraph.decode(unpacked("vkgraph")), "mv2")
    verify_delegate(
        changed,
        without_representations(source.written),
        costs=options.costs,
        objective=options.objective,
        limits=Limits(),
    )


def test_a_real_graph_is_planned_by_its_own_run() -> None:
    (delegate,) = mobilenet().program.delegates
    checked(delegate)
    figures = delegate.figures
    assert figures.bound == figures.objective_cost <= figures.baseline_objective_cost
    origins = Counter(cost.origin for cost in delegate.operator_costs)
    assert origins[CostOrigin.MEASURED] > 50
    # What the file came with was measured, all of it: its cost is what the run took.
    run = sum(
        s.sample.median
        for s in join(
            read_etdump(unpacked("etdump"), "run"), [vkgraph.decode(unpacked("vkgraph"))], "run"
        ).steps
        if s.graph_call is not None and s.graph_call.operands
    )
    assert figures.baseline_objective_cost == pytest.approx(run, rel=0.02)


def test_planned_again_it_costs_the_same() -> None:
    again = replan(mobilenet().data, "mv2", learned())
    assert again.data == mobilenet().data
    assert again.program.total.objective_cost == mobilenet().program.total.objective_cost


def test_the_plan_round_trips() -> None:
    assert plan.decode(mobilenet().flatbuffer()) == mobilenet().program


def of_figures(**changes: Any) -> Callable[[DelegatePlan], DelegatePlan]:
    return lambda delegate: replace(delegate, figures=replace(delegate.figures, **changes))


def of_operator(nth: int, factor: float) -> Callable[[DelegatePlan], DelegatePlan]:
    def change(delegate: DelegatePlan) -> DelegatePlan:
        costs = list(delegate.operator_costs)
        costs[nth] = replace(costs[nth], cost=costs[nth].cost * factor)
        return replace(delegate, operator_costs=tuple(costs))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (of_operator(0, 1.001), "its cost is"),
        (of_operator(-1, 0.5), "its cost is"),
        (of_figures(objective_cost=1.0), "the objective cost is"),
        (of_figures(repack_cost=1.0), "the repack cost is"),
        (of_figures(bound=1.0), "is not optimal under a bound"),
        (of_figures(baseline_repack_cost=1.0), "the repack cost is"),
        (lambda d: replace(d, operator_costs=d.operator_costs[1:]), "which the plan does not list"),
        (lambda d: replace(d, operator_costs=d.operator_costs * 2), "two claims"),
    ],
)
def test_wrong_claims_are_refused(
    change: Callable[[DelegatePlan], DelegatePlan], message: str
) -> None:
    (delegate,) = mobilenet().program.delegates
    with pytest.raises(VerificationError, match=message):
        checked(change(delegate))


def test_other_times_are_other_costs() -> None:
    (delegate,) = mobilenet().program.delegates
    run = join(
        read_etdump(unpacked("etdump"), "run"), [vkgraph.decode(unpacked("vkgraph"))], "run"
    ).samples
    slower = DeviceTimes.of("x", [[replace(s, median=s.median * 2) for s in run]])
    assert slower.digest != one_run().digest
    for options in (OPTIONS, timed(slower)):
        assert options.costs.digest != learned().costs.digest
        with pytest.raises(VerificationError, match="cost is"):
            checked(delegate, options)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.xdist_group(n)) for n in NETS])
def test_an_export_and_its_pte_have_the_same_calls(name: str) -> None:
    for delegate in lower(name).planned.delegates:
        graph = delegate.graph
        before = Counter(call_of(operator, graph.tensors) for operator in graph.operators)
        after = [c for c in calls_of(delegate.plan.decode_graph()) if not c.is_transition]
        assert Counter(c.call for c in after) == before


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.xdist_group(n)) for n in NETS])
def test_an_export_and_its_pte_cost_the_same(name: str) -> None:
    random = Random(0)
    calls = [
        call
        for delegate in lower(name).planned.delegates
        for call in calls_of(delegate.plan.decode_graph())
    ]
    known = {call.call.operator for call in calls[::2]} | {CLONE}
    run = [
        Sample(c.call, c.operands, (), float(random.randint(1000, 50_000)), 0.0, 3)
        for c in calls
        if c.call.operator in known
    ]
    options = timed(DeviceTimes.of("x", [run]))
    planned = plan_exported(lower(name).data, f"{name}.pt2", options)
    again = replan(planned.pte(), f"{name}.pte", options)
    for key in ("objective_cost", "repack_cost", "transitions", "bound", "cost_origins"):
        one, other = (getattr(p.report.total, key) for p in (again, planned))
        assert one == other, key
    assert again.data == planned.pte()
    assert planned.report.total.cost_origins["measured"] > 0


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "costs.sqlite"
    import_run(unpacked("etdump"), "run", unpacked("vkgraph"), "graph", "phone", "1.0", path)
    return path


def test_a_database_has_what_the_run_taught(database: Path) -> None:
    times = load_costs(database).times
    assert (times.device, times.digest) == ("phone", one_run().digest)
    assert times.model.staging == one_run().model.staging > 0


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE sample SET signature = 'x'",
        "UPDATE sample SET signature = '[1]'",
        """UPDATE sample SET signature = '[[{"tensor":["FLOAT5",[1]]}],[]]'""",
        "UPDATE sample SET median_ns = 'long'",
        "UPDATE sample SET operands = '[]'",
        """UPDATE sample SET operands = '{"0": "paper"}'""",
        "DROP TABLE sample",
        "PRAGMA foreign_keys = OFF; DROP TABLE device",
    ],
)
def test_a_damaged_database(database: Path, change: str) -> None:
    connection = sqlite3.connect(database)
    connection.executescript(change)
    connection.commit()
    connection.close()
    with pytest.raises(InputError, match=r"costs\.sqlite is damaged: "):
        load_costs(database)


def test_times_and_a_profile_in_bytes() -> None:
    with pytest.raises(OptionError, match="'bytes' counts bytes, but measured times are ns"):
        LearnedCosts(one_run(), load_profile("bytes"), "latency")
