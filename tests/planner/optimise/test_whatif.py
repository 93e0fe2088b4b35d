"""Plans if kernels took more, against planning again with rep sets that do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import planner.optimise.problem
import planner.optimise.whatif
from planner.costs.by_profile import ProfileCosts
from planner.costs.model import CostModel, Costs, FreeTransitions, Objective, PricedOperand
from planner.costs.profile_file import load_profile
from planner.errors import NoRepresentationError
from planner.ir.graph import LayoutGraph, Operator, Tensor, TensorArg
from planner.ir.representation import REPRS, TensorRepSet
from planner.kernels.limits import Limits
from planner.kernels.rep_sets import OpRepSets, op_rep_sets
from planner.kernels.restrictions import Restriction
from planner.optimise.plan import LayoutPlan, plan_graph
from planner.optimise.whatif import Group, WhatIf
from schema import VkDataType
from solver import Problem, TooDenseError
from tests.planner.optimise.brute_force import graphs, restrictions
from tests.planner.optimise.test_explain import chain
from tests.planner.programs import NETS, replanned


@contextmanager
def accepting(graph: LayoutGraph, groups: Sequence[Group], label: int) -> Iterator[None]:
    """Plans are made as if kernels took a label for these groups."""
    more: dict[int, list[Group]] = {}
    for group in groups:
        more.setdefault(id(graph.operators[group.slots[0].operator]), []).append(group)

    def wider(operator: Operator, tensors: Sequence[Tensor], *rest: object) -> OpRepSets | None:
        sets = op_rep_sets(operator, tensors, *rest)  # type: ignore[arg-type]
        if sets is None:
            return None
        args, outs = list(sets.args), list(sets.outs)
        for group in more.get(id(operator), ()):
            for slot in group.slots:
                there: list[TensorRepSet | None] = outs if slot.is_output else args  # type: ignore[assignment]
                accepted = there[slot.index]
                assert accepted is not None
                there[slot.index] = accepted | TensorRepSet(1 << label)
        return replace(sets, args=tuple(args), outs=tuple(outs))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner.optimise.problem, "op_rep_sets", wider)
        # Operators that are alike are not, once the kernel of one of them takes more.
        patch.setattr(LayoutGraph, "alike", property(lambda graph: np.arange(len(graph.operators))))
        yield


def replanned_cost(
    graph: LayoutGraph, plan: LayoutPlan, costs: CostModel, groups: Sequence[Group], label: int
) -> tuple[int, int]:
    # Each operator as one object, by which it is known again.
    graph = replace(graph, operators=tuple(graph.operators))
    with accepting(graph, groups, label):
        again = plan_graph(graph, plan.limits, costs)
    return again.cost, len(again.transitions)


@settings(max_examples=120, deadline=None)
@given(graphs(), st.sampled_from(["bytes", "default"]), st.sampled_from(["repack", "latency"]))
def test_any_kernel_that_takes_more(graph: LayoutGraph, profile: str, objective: Objective) -> None:
    costs = ProfileCosts(load_profile(profile), objective)
    try:
        plan = plan_graph(graph, Limits(), costs)
    except NoRepresentationError:
        return
    check(graph, plan, costs)


def check(graph: LayoutGraph, plan: LayoutPlan, costs: CostModel) -> None:
    """Every what-if against planning again."""
    whatif = WhatIf(graph, plan, costs)
    occurrences = whatif.occurrences
    assert occurrences is not None
    for occurrence in occurrences:
        label = occurrence.acceptance.label
        expected = replanned_cost(graph, plan, costs, [occurrence.group], label)
        assert occurrence.optimum == expected
    together = WhatIf(graph, plan, costs)
    together.find_all(together.acceptances)
    for acceptance, groups in whatif.acceptances.items():
        expected = replanned_cost(graph, plan, costs, groups, acceptance.label)
        assert whatif.if_all(acceptance) == (expected, True)
        assert together.if_all(acceptance) == (expected, True)


@settings(max_examples=80, deadline=None)
@given(graphs().flatmap(lambda graph: st.tuples(st.just(graph), restrictions(graph))))
def test_what_a_user_forbids_is_not_taken(
    program: tuple[LayoutGraph, tuple[Restriction, ...]],
) -> None:
    graph, wanted = program
    costs = ProfileCosts(load_profile("bytes"), "repack")
    try:
        plan = plan_graph(graph, Limits(restrictions=wanted), costs)
    except NoRepresentationError:
        return
    check(graph, plan, costs)


class AnyPrices(FreeTransitions):
    """Prices of copies that follow no rule: two can cost less than one."""

    def __init__(self, prices: Sequence[int]) -> None:
        count = len(REPRS)
        self.prices = np.resize(np.array(prices, np.int64), (count, count))
        np.fill_diagonal(self.prices, 0)

    def transition(self, shape: tuple[int, ...], dtype: VkDataType) -> Costs:
        return self.prices

    def operator(
        self, operator: Operator, tensors: Sequence[Tensor], operands: Sequence[PricedOperand]
    ) -> Iterator[tuple[tuple[int, ...], Costs]]:
        yield from ()


def shared() -> LayoutGraph:
    """Inputs that two operators read, packed along channels and along width, and a third one."""
    tensors = tuple(Tensor(f"t{i}", (4, 4), VkDataType.FLOAT32) for i in range(5))
    operators = (
        Operator("aten.t_copy.default", (TensorArg(0),), (2,)),
        Operator("aten.mm.default", (TensorArg(0), TensorArg(1)), (3,)),
        Operator("aten.flip.default", (TensorArg(1),), (4,)),
    )
    return LayoutGraph("shared", tensors, operators, (0, 1), (2, 3, 4))


@settings(max_examples=120, deadline=None)
@given(st.just(shared()) | graphs(), st.lists(st.integers(0, 100), min_size=29, max_size=29))
def test_any_kernel_that_takes_more_at_any_prices(graph: LayoutGraph, prices: list[int]) -> None:
    costs = AnyPrices(prices)
    try:
        plan = plan_graph(graph, Limits(), costs)
    except NoRepresentationError:
        return
    check(graph, plan, costs)


@pytest.mark.parametrize("name", NETS)
def test_real_operators_and_types(name: str) -> None:
    planned, random = replanned(name), Random(0)
    costs, checked = planned.options.cost_model(), 0
    for result in planned.delegates:
        plan = result.layout_plan
        whatif = WhatIf(result.graph, plan, costs)
        occurrences = whatif.occurrences
        assert occurrences is not None
        saving = [o for o in occurrences if o.optimum[0] < plan.cost]
        for occurrence in saving[:10] + random.sample(occurrences, min(10, len(occurrences))):
            groups, label = [occurrence.group], occurrence.acceptance.label
            assert occurrence.optimum == replanned_cost(result.graph, plan, costs, groups, label)
            checked += 1
        some = list(whatif.acceptances.items())[:12]
        whatif.find_all(acceptance for acceptance, _ in some)
        for acceptance, those in some:
            expected = replanned_cost(result.graph, plan, costs, those, acceptance.label)
            assert whatif.if_all(acceptance)[0] == expected
    assert checked >= 10


def test_a_kernel_that_forces_a_repack_is_what_would_save_it() -> None:
    costs = ProfileCosts(load_profile("bytes"), "repack")
    graph = chain()
    plan = plan_graph(graph, Limits(), costs)
    whatif = WhatIf(graph, plan, costs)
    assert plan.cost > 0
    saving = {o.acceptance.operator for o in whatif.occurrences or () if o.optimum[0] < plan.cost}
    assert saving == {"aten.t_copy.default", "aten.mm.default"}
    assert min(o.optimum for o in whatif.occurrences or ()) == (0, 0)


def test_a_graph_that_is_too_dense_still_has_the_optimum_of_a_type(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(problem: Problem) -> None:
        raise TooDenseError

    monkeypatch.setattr(planner.optimise.whatif, "marginals", refuse)
    costs = ProfileCosts(load_profile("bytes"), "repack")
    graph = chain()
    whatif = WhatIf(graph, plan_graph(graph, Limits(), costs), costs)
    assert whatif.occurrences is None
    assert min(whatif.if_all(acceptance)[0] for acceptance in whatif.acceptances) == (0, 0)


@settings(max_examples=120, deadline=None)
@given(graphs(), st.sampled_from(["repack", "latency"]))
def test_that_nothing_helps_is_known_of_a_graph_that_is_too_dense(
    graph: LayoutGraph, objective: Objective
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise TooDenseError

    costs = ProfileCosts(load_profile("default"), objective)
    try:
        plan = plan_graph(graph, Limits(), costs)
    except NoRepresentationError:
        return
    expected = WhatIf(graph, plan, costs)
    found, by_solving = WhatIf(graph, plan, costs), WhatIf(graph, plan, costs)
    with pytest.MonkeyPatch.context() as patched:
        for name in ("marginals", "optima"):
            patched.setattr(planner.optimise.whatif, name, refuse)
        occurrences = found.occurrences
        found.find_all(found.acceptances)
        patched.setattr(WhatIf, "_is_least", False)
        solved = by_solving.occurrences
    # Not known where some helps, and else all is, and right.
    known = {(id(o.group), o.acceptance): o.optimum for o in expected.occurrences or ()}
    everything = [expected.if_all(acceptance)[0] for acceptance in expected.acceptances]
    if any(cost < expected.cost for cost in (*known.values(), *everything)):
        assert occurrences is None
    if expected.cost == (0, 0):
        assert occurrences is not None
    # What is known sooner is what solving says as well.
    assert (occurrences is None) == (solved is None)
    if occurrences is not None:
        assert [o.optimum for o in occurrences] == list(known.values())
        assert [found.if_all(a)[0] for a in found.acceptances] == everything
