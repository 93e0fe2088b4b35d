"""What the dashboard draws of a plan: operators, representations, transitions with their costs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from api.dashboard import graph as graphs
from api.dashboard.graph import GraphView, SideView, read_views
from api.dashboard.views import Views
from planner.errors import InputError
from planner.files.listing import read_listing
from schema import DelegatePlan, PlannedProgram, plan
from tests.api.planned import lowered, planned


@pytest.fixture(scope="module")
def program() -> PlannedProgram:
    return plan.decode(planned()[0])


@pytest.fixture(scope="module")
def view() -> GraphView:
    return read_views(planned()[0])[0]


def _cost(side: SideView | None) -> float:
    assert side is not None
    return sum(transition.cost for transition in side.transitions)


def test_costs_are_those_of_the_plan(view: GraphView, program: PlannedProgram) -> None:
    delegate = program.delegates[0]
    assert view.unit == program.cost_unit == "ns"
    assert view.before is not None and len(view.before.transitions) > 0
    assert _cost(view.before) == pytest.approx(delegate.figures.baseline_repack_cost)
    assert _cost(view.after) == pytest.approx(delegate.figures.repack_cost)
    costs = [node.cost for node in view.nodes if node.cost is not None]
    assert sorted(costs) == sorted(cost.cost for cost in delegate.operator_costs) != []
    assert sum(costs) + _cost(view.after) == pytest.approx(delegate.figures.objective_cost)


def test_each_transition_is_of_a_tensor_that_its_readers_read(view: GraphView) -> None:
    read = {(edge.tensor, edge.target) for edge in view.edges}
    for side in (view.before, view.after):
        assert side is not None
        for transition in side.transitions:
            assert transition.users
            assert all((transition.tensor, user) in read for user in transition.users)
            assert side.representations[transition.tensor] == transition.source
            assert transition.target != transition.source


def test_operators_are_those_of_the_program(view: GraphView) -> None:
    delegate = read_listing(lowered(), "it").delegates[0]
    operators = [node.name for node in view.nodes if node.kind == "operator"]
    assert operators == [operator.name for operator in delegate.contracted.graph.operators]
    kinds = Counter(node.kind for node in view.nodes)
    assert (kinds["input"], kinds["output"]) == (1, 1)
    layouts = {view.representations[r] for r in view.after.representations if r is not None}
    assert layouts <= set(view.representations) and layouts


def test_before_is_what_the_file_came_with(view: GraphView) -> None:
    file = read_listing(lowered(), "it").delegates[0].contracted
    assert view.before is not None
    made = [None if r is None else view.representations[r] for r in view.before.representations]
    assert made == [None if r is None else str(r) for r in file.made]
    found = [
        (t.tensor, view.representations[t.source], view.representations[t.target], t.users)
        for t in view.before.transitions
    ]
    assert found == [
        (t.tensor, str(t.source), str(t.target), tuple(sorted({u.operator for u in t.users})))
        for t in file.transitions
    ]


def test_a_plan_of_an_older_release_has_one_side(program: PlannedProgram, view: GraphView) -> None:
    def as_older(delegate: DelegatePlan) -> DelegatePlan:
        repacks = tuple(replace(r, source=0, users=()) for r in delegate.baseline_repacks)
        return replace(delegate, baseline_tensors=(), baseline_repacks=repacks)

    older = replace(program, delegates=tuple(map(as_older, program.delegates)))
    assert read_views(plan.encode(older))[0] == replace(view, before=None)


def test_what_is_no_plan_or_a_damaged_one_is_refused(program: PlannedProgram) -> None:
    first, second = program.delegates
    with pytest.raises(InputError, match="no planned program"):
        read_views(lowered())
    tensor = replace(first.baseline_tensors[0], value_id=2**31)
    repack = replace(first.baseline_repacks[0], source=2**31)
    user = replace(first.baseline_repacks[0].users[0], operator_index=2**31)
    reader = replace(first.baseline_repacks[0], users=(user,))
    for damaged in (
        replace(first, baseline_tensors=(tensor,)),
        replace(first, baseline_repacks=(repack,)),
        replace(first, baseline_repacks=(reader,)),
    ):
        with pytest.raises(InputError, match="is damaged: it is compared with another graph"):
            read_views(plan.encode(replace(program, delegates=(damaged, second))))


def test_a_graph_that_nobody_could_read_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MOST_NODES", 100)
    with pytest.raises(InputError, match="too large to be drawn"):
        read_views(planned()[0])


def test_views_are_drawn_once_and_the_oldest_go(view: GraphView) -> None:
    drawn = []

    def draw(name: str) -> tuple[GraphView, ...]:
        drawn.append(name)
        return (view,)

    kept = Views()
    first = kept.get("a", lambda: draw("a"))
    assert kept.get("a", lambda: draw("a")) == first and drawn == ["a"]
    size = len(first[0])
    small = Views(2 * size)
    for name in ("a", "b", "a", "c", "a", "b"):
        small.get(name, lambda name=name: draw(name))  # type: ignore[misc]
    assert drawn[1:] == ["a", "b", "c", "b"]
