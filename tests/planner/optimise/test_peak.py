"""Live sets are what going through the graph step by step finds, and peaks the least there are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from planner.costs.model import CostModel
from planner.errors import NoRepresentationError
from planner.ir.graph import LayoutGraph, Operator, TensorArg, TensorListArg
from planner.ir.physical import padded_bytes
from planner.ir.representation import REPRS
from planner.kernels.limits import Limits
from planner.optimise.free import live_sets
from planner.optimise.live import LiveSets
from planner.optimise.peak import (
    Part,
    Peaks,
    cheapest_within,
    least_peak,
    peak_front,
)
from planner.optimise.plan import plan_graph
from planner.optimise.problem import PREFERRED, LayoutProblem
from planner.optimise.ties import with_least_peak
from solver import InfeasibleError, Limit, Solution, Status, solve
from solver.caps import MOST_ENTRIES
from solver.problem import with_domains
from tests.planner.optimise.brute_force import graphs
from tests.planner.optimise.test_plan import AnyCosts


def walked(graph: LayoutGraph, layout: LayoutProblem, labels: Sequence[int]) -> int:
    """The peak of a plan, from a list of steps with what each reads and makes."""
    tensors, outside = graph.tensors, {*graph.inputs}
    made_label = {}
    for t, (producer, readers) in enumerate(zip(layout.producers, layout.readers, strict=True)):
        if producer is not None or readers:
            made_label[t] = labels[readers[0].variable if producer is None else producer]
    label_of = {
        (slot.operator, slot.index, t): labels[slot.variable]
        for slot in layout.slots
        if not slot.is_output
        for t in slot.tensors
    }
    steps: list[tuple[list[tuple[int, int]], list[tuple[int, int]]]] = []
    steps.append(([], [(t, made_label.get(t, -1)) for t in graph.inputs]))
    copied = set[tuple[int, int]]()
    for number, operator in enumerate(graph.operators):
        reads = []
        for argument, value in enumerate(operator.args):
            members: tuple[int | None, ...] = ()
            if isinstance(value, TensorArg):
                members = (value.tensor,)
            elif isinstance(value, TensorListArg):
                members = value.tensors
            for t in sorted({t for t in members if t is not None and not tensors[t].constant}):
                label = label_of.get((number, argument, t), made_label.get(t, -1))
                reads.append((t, label))
                if label != made_label.get(t, -1) and (t, label) not in copied:
                    copied.add((t, label))
                    steps.append(([(t, made_label[t])], [(t, label)]))
        steps.append((reads, [(t, made_label.get(t, -1)) for t in operator.outputs]))
    steps.append(([(t, made_label.get(t, -1)) for t in graph.outputs], []))
    assert outside
    peak = 0
    for now in range(len(steps)):
        there = {x for _, made in steps[: now + 1] for x in made}
        later = {x for reads, _ in steps[now:] for x in reads} | {*steps[now][1]}
        peak = max(peak, sum(size(graph, *x) for x in there & later))
    return peak


def size(graph: LayoutGraph, t: int, label: int) -> int:
    tensor = graph.tensors[t]
    if label >= 0:
        return padded_bytes(tensor.shape, tensor.dtype, REPRS[label])
    elements = 1
    for extent in tensor.shape:
        elements *= extent
    return elements * (1 if tensor.dtype.name == "INT8" else 4)


def every(layout: LayoutProblem) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """All assignments that are allowed, and their costs."""
    for labels in itertools.product(*(v.domain for v in layout.problem.variables)):
        cost = layout.problem.cost(labels)
        if cost is not None:
            yield labels, cost


@st.composite
def read_again(draw: st.DrawFn) -> LayoutGraph:
    """A random graph with some tensors as outputs, and one more operator that reads old tensors."""
    graph = draw(graphs())
    floats = [
        t for t, x in enumerate(graph.tensors) if x.dtype.name == "FLOAT32" and not x.constant
    ]
    read = draw(st.lists(st.sampled_from(floats), min_size=1, max_size=2))
    tensors = (*graph.tensors, replace(graph.tensors[read[0]], name="last"))
    last = Operator("aten.cat.default", (TensorListArg(tuple(read)),), (len(tensors) - 1,))
    made = [t for operator in graph.operators for t in operator.outputs]
    outputs = draw(st.lists(st.sampled_from(made), max_size=2, unique=True))
    return replace(
        graph,
        tensors=tensors,
        operators=(*graph.operators, last),
        outputs=(*outputs, len(tensors) - 1),
    )


def drawn(graph: LayoutGraph, prices: list[int], most: int, seed: int) -> tuple[Solution, LiveSets]:
    """An optimum of a graph's problem, in which labels are left out until it is small."""
    costs: CostModel = AnyCosts(prices)
    try:
        plan = plan_graph(graph, Limits(), costs)
    except NoRepresentationError:
        assume(False)
    drawn, domains = Random(seed), [v.domain for v in plan.layout.problem.variables]
    while math.prod(map(len, domains)) > most:
        v = drawn.choice([v for v, domain in enumerate(domains) if len(domain) > 1])
        others = [label for label in domains[v] if label != plan.solution.assignment[v]]
        without = drawn.choice(others)
        domains[v] = tuple(label for label in domains[v] if label != without)
    layout = replace(
        plan.layout, problem=with_domains(plan.layout.problem, dict(enumerate(domains)))
    )
    return solve(layout.problem), live_sets(graph, layout, Limits(), None)


PRICES = st.lists(st.integers(0, 3), min_size=3, max_size=9)


@settings(max_examples=40)
@given(read_again(), PRICES, st.sampled_from([1, 30, 4096]), st.data())
def test_live_sets_are_what_a_walk_finds(
    graph: LayoutGraph, prices: list[int], dense: int, data: st.DataObject
) -> None:
    _, live = drawn(graph, prices, 10**9, 0)
    problem = live.layout.problem
    for _ in range(3):
        labels = data.draw(st.tuples(*(st.sampled_from(v.domain) for v in problem.variables)))
        peak, moment = live.peak(labels)
        assert peak == walked(graph, live.layout, labels)
        assert live.over(labels, peak) == []
        assert moment in live.over(labels, peak - 1)
        peaks = Peaks(problem, [Part(live)], dense_limit=dense)
        moments = {*live.over(labels, -1)}
        # Also those of transitions that are not there, at which no more is alive.
        for slot in live.layout.slots:
            if not slot.is_output:
                moments |= {(slot.operator, slot.index, t) for t in slot.tensors}
        most = 0
        for each in sorted(moments):
            fixed, factors = peaks.amount((0, each))
            full = peaks.completed(labels)
            extended = peaks.extended(replace(problem, factors=()), factors)
            assert extended.cost(full) == (0,) * problem.levels
            found = fixed + Limit(factors, 0).amount(extended, full)
            free, alive = live.alive(each)
            assert found == free + sum(tensor.bytes(labels) for tensor in alive)
            most = max(most, found)
        assert most == peak


@settings(max_examples=60)
@given(
    read_again(),
    PRICES,
    st.sampled_from([1, 4096]),
    st.sampled_from([0, MOST_ENTRIES]),
    st.integers(0, 99),
    st.data(),
)
def test_limits_and_least_peaks_are_those_of_trying_everything(
    graph: LayoutGraph,
    prices: list[int],
    dense: int,
    most_entries: int,
    seed: int,
    data: st.DataObject,
) -> None:
    plain, live = drawn(graph, prices, 300, seed)
    problem = live.layout.problem
    found = [(cost[0], live.peak(labels)[0]) for labels, cost in every(live.layout)]
    # Without tables that forbid what is over a limit, integer programs keep it.
    peaks = Peaks(problem, [Part(live)], dense_limit=dense, most_entries=most_entries)
    for levels in ((), (0,)):
        least = least_peak(peaks, levels, plain.assignment)
        equal = [peak for cost, peak in found if not levels or cost == plain.cost[0]]
        assert least.peak == least.bound == min(equal)
        assert live.peak(least.assignment)[0] == least.peak
    most = data.draw(st.sampled_from([peak for _, peak in found])) - data.draw(st.integers(0, 1))
    inside = [cost for cost, peak in found if peak <= most]
    try:
        solution = cheapest_within(peaks, problem, most)
    except InfeasibleError:
        assert not inside
        return
    assert solution.status is Status.OPTIMAL and solution.cost[0] == min(inside)
    assert live.peak(solution.assignment[: len(problem.variables)])[0] <= most


@settings(max_examples=30)
@given(read_again(), PRICES, st.sampled_from([0, MOST_ENTRIES]), st.integers(0, 99))
def test_fronts_are_those_of_trying_everything(
    graph: LayoutGraph, prices: list[int], most_entries: int, seed: int
) -> None:
    plain, live = drawn(graph, prices, 300, seed)
    points: list[tuple[int, int]] = []
    for labels, cost in sorted(every(live.layout), key=lambda found: found[1]):
        peak = live.peak(labels)[0]
        if not points or peak < points[-1][1]:
            points = [point for point in points if point[0] < cost[0]] + [(cost[0], peak)]
    peaks = Peaks(live.layout.problem, [Part(live)], most_entries=most_entries)
    front = peak_front(peaks, plain.assignment)
    assert front.is_proven and not front.gaps
    assert [(point.cost, point.amount) for point in front.points] == points
    for point in front.points:
        assert live.peak(point.assignment)[0] == point.amount
    # Without time for a search a front says what it does not know.
    hurried = peak_front(peaks, plain.assignment, search_seconds=0.0)
    found = [(point.cost, point.amount) for point in hurried.points]
    assert found[0][0] == points[0][0]
    assert found == points[: len(found)] if hurried.is_proven else hurried.gaps == (0,)
    assert hurried.gaps or found == points


@settings(max_examples=60)
@given(read_again(), PRICES, st.integers(0, 99))
def test_of_equal_plans_the_one_with_the_least_peak_is_taken(
    graph: LayoutGraph, prices: list[int], seed: int
) -> None:
    plain, live = drawn(graph, prices, 300, seed)
    wanted = [label in PREFERRED for label in plain.assignment]
    equal = [
        live.peak(labels)[0]
        for labels, cost in every(live.layout)
        if cost[:2] == plain.cost[:2] and [label in PREFERRED for label in labels] == wanted
    ]
    settled = with_least_peak(live, plain, worth=1)
    peak = live.peak(settled.assignment)[0]
    assert peak == min(equal)
    assert settled.cost[:2] == plain.cost[:2] and settled.bound == plain.bound
    if peak == live.peak(plain.assignment)[0]:
        assert settled is plain
