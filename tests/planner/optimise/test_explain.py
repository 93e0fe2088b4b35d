"""Why repacks remain: the cost of a plan without each, and operands that force it."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import planner.optimise.explain
from planner.costs.by_profile import ProfileCosts
from planner.costs.model import Objective
from planner.costs.profile_file import load_profile
from planner.errors import NoRepresentationError
from planner.ir.graph import LayoutGraph, Operator, Tensor, TensorArg
from planner.ir.representation import LABELS
from planner.kernels.limits import Limits
from planner.optimise.explain import Reason, explain_plan, users_of
from planner.optimise.plan import LayoutPlan, plan_graph
from planner.pipelines.lowered import Planned
from schema import VkDataType
from solver import FORBIDDEN, CostTable, InfeasibleError, Problem, TooDenseError, solve
from tests.planner.optimise.brute_force import graphs
from tests.planner.programs import NETS, replanned

FLOAT = VkDataType.FLOAT32


def pinned(problem: Problem, variables: tuple[int, ...], label: int) -> Problem | None:
    tables = []
    for v in dict.fromkeys(variables):
        domain = problem.variables[v].domain
        if label not in domain:
            return None
        costs = np.zeros((problem.levels, len(domain)), np.int64)
        costs[0] = FORBIDDEN
        costs[0, domain.index(label)] = 0
        tables.append(CostTable((v,), costs))
    return replace(problem, factors=(*problem.factors, *tables))


def by_solving(plan: LayoutPlan, reason: Reason) -> tuple[int, int] | None:
    """The least cost where source and users have one label, by solving for each of them."""
    problem, tensor = plan.layout.problem, reason.transition.tensor
    source, users = plan.layout.producers[tensor], users_of(plan.layout, reason.transition)
    assert source is not None
    found = []
    for label in range(problem.labels):
        same = pinned(problem, (source, *users), label)
        if same is not None:
            try:
                found.append(solve(same).cost[:2])
            except InfeasibleError:
                continue
    cost, transitions = min(found, default=(None, 0))
    return None if cost is None else (cost, transitions)


def by_trying(plan: LayoutPlan, reason: Reason) -> tuple[int, int] | None:
    problem, tensor = plan.layout.problem, reason.transition.tensor
    source, users = plan.layout.producers[tensor], users_of(plan.layout, reason.transition)
    assert source is not None
    best = None
    for labels in itertools.product(*[variable.domain for variable in problem.variables]):
        if all(labels[user] == labels[source] for user in users):
            cost = problem.cost(labels)
            if cost is not None and (best is None or cost < best):
                best = cost
    return None if best is None else (best[0], best[1])


@settings(max_examples=250, deadline=None)
@given(graphs(), st.sampled_from(["bytes", "default"]), st.sampled_from(["repack", "latency"]))
def test_any_plan_without_a_repack(graph: LayoutGraph, profile: str, objective: Objective) -> None:
    try:
        plan = plan_graph(graph, Limits(), ProfileCosts(load_profile(profile), objective))
    except NoRepresentationError:
        return
    sizes = math.prod(len(v.domain) for v in plan.layout.problem.variables)
    for reason in explain_plan(graph, plan):
        assert reason.is_known
        assert reason.without == by_solving(plan, reason)
        assert reason.without is None or reason.without >= (plan.cost, len(plan.transitions))
        if sizes <= 3000:
            assert reason.without == by_trying(plan, reason)
        if objective == "repack":
            assert reason.made
            assert reason.read
        for side, label in (
            (reason.made, reason.transition.target),
            (reason.read, reason.transition.source),
        ):
            assert all(LABELS[label] not in blocker.accepted for blocker in side)
            assert [b.distance for b in side] == sorted(b.distance for b in side)


def chain() -> LayoutGraph:
    """A texture packed along channels, two activations, and what reads it packed along width."""
    tensors = tuple(Tensor(f"t{i}", (4, 4), FLOAT) for i in range(5))
    names = ("aten.t_copy", "aten.relu", "aten.relu", "aten.mm")
    operators = tuple(
        Operator(f"{name}.default", (TensorArg(i), *[TensorArg(i)] * (name == "aten.mm")), (i + 1,))
        for i, name in enumerate(names)
    )
    return LayoutGraph("chain", tensors, operators, (0,), (4,))


def test_the_operators_that_force_a_repack_are_named_from_any_distance() -> None:
    graph = chain()
    plan = plan_graph(graph, Limits(), ProfileCosts(load_profile("bytes"), "repack"))
    (reason,) = explain_plan(graph, plan)
    assert [b.slot.operator for b in reason.made] == [0]
    assert [b.slot.operator for b in reason.read] == [3]
    assert reason.made[0].distance + reason.read[0].distance == 2
    assert {b.why for b in (*reason.made, *reason.read)} == {"kernel"}
    # It can be elsewhere in the chain, at the same cost.
    assert reason.without == (plan.cost, 1)


def test_limits_are_told_from_kernels() -> None:
    graph = chain()
    tensors = (*graph.tensors[:2], *(replace(t, shape=(1, 1, 1, 4, 4)) for t in graph.tensors[2:]))
    view = replace(graph.operators[1], name="aten.view_copy.default")
    graph = replace(graph, tensors=tensors, operators=(graph.operators[0], view))
    plan = plan_graph(graph, Limits(), ProfileCosts(load_profile("bytes"), "repack"))
    (reason,) = explain_plan(graph, plan)
    assert [(b.slot.operator, b.why) for b in reason.made] == [(0, "kernel")]
    assert [(b.slot.operator, b.why) for b in reason.read] == [(1, "limits")]
    assert reason.without is None


def test_a_graph_that_is_too_dense_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(problem: Problem) -> None:
        raise TooDenseError

    monkeypatch.setattr(planner.optimise.explain, "marginals", refuse)
    plan = plan_graph(chain(), Limits(), ProfileCosts(load_profile("bytes"), "repack"))
    (reason,) = explain_plan(chain(), plan)
    assert not reason.is_known
    assert reason.without is None
    assert reason.made


@pytest.mark.parametrize("name", NETS)
def test_real_plans_without_a_repack(name: str) -> None:
    planned: Planned = replanned(name)
    explanation = planned.explanation()
    assert len(explanation.delegates) == len(planned.delegates)
    for result, told in zip(planned.delegates, explanation.delegates, strict=True):
        assert len(told.repacks) == len(result.plan.transitions)
        reasons = explain_plan(result.graph, result.layout_plan)
        for number, reason in enumerate(reasons):
            assert reason.without == by_solving(result.layout_plan, reason)
            written = told.repacks[number]
            assert written.cost == result.plan.transitions[number].cost
            if reason.without is None:
                assert written.without is None
            else:
                assert written.without is not None
                assert written.without.objective_cost == reason.without[0]
                assert written.without.extra >= 0
    assert explanation.document()["unit"] == "bytes"
