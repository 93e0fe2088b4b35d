"""What the dashboard draws of a plan: operators, representations, transitions with their costs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from planned import lowered, planned

from api.dashboard import graph as graphs
from api.dashboard.graph import GraphView, SideView, read_views
from api.dashboard.views import Views
from planner.errors import InputError
from planner.listing import read_listing
from schema import plan
from schema.plan import PlannedProgram


@pytest.fixture(scope="module")
def program() -> PlannedProgram:
    return plan.decode(planned()[0])


@pytest.fixture(scope="module")
def view() -> GraphView:
    return read_views(planned()[0], lowered())[0]


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


def test_an_exported_program_has_no_side_before(view: GraphView) -> None:
    found = read_views(planned()[0], None)[0]
    assert found.before is None
    assert (found.after, found.nodes, found.edges) == (view.after, view.nodes, view.edges)


def test_a_program_that_the_plan_is_not_of_is_refused(program: PlannedProgram) -> None:
    first, second = program.delegates
    with pytest.raises(InputError, match="no planned program"):
        read_views(lowered(), None)
    fewer = replace(first, baseline_repacks=first.baseline_repacks[1:])
    with pytest.raises(InputError, match="was planned from another program"):
        read_views(plan.encode(replace(program, delegates=(fewer, second))), lowered())
    with pytest.raises(InputError, match="has other delegates"):
        read_views(plan.encode(replace(program, delegates=(first,))), lowered())


def test_a_graph_that_nobody_could_read_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MOST_NODES", 100)
    with pytest.raises(InputError, match="too large to be drawn"):
        read_views(planned()[0], lowered())


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
