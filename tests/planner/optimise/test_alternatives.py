"""The plans that come next are all there are, in the order of their costs."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import assume, given, settings

import solver.ranking
from api.bench.instances import recurrent
from planner.costs.by_profile import ProfileCosts
from planner.costs.profile_file import load_profile
from planner.errors import NoRepresentationError, OptionError
from planner.ir.graph import LayoutGraph
from planner.kernels.limits import Limits
from planner.optimise.alternatives import alternatives, differences
from planner.optimise.plan import plan_graph
from planner.options import make_options
from planner.pipelines.lowered import replan
from tests.api.graphs import graph
from tests.planner.optimise.brute_force import graphs
from tests.recorded import recorded

COSTS = ProfileCosts(load_profile("bytes"), "repack")


@settings(max_examples=60)
@given(graphs())
def test_they_are_the_best_of_all_assignments(net: LayoutGraph) -> None:
    try:
        chosen = plan_graph(net, Limits(), COSTS)
    except NoRepresentationError:
        assume(False)
    problem = chosen.layout.problem
    domains = [variable.domain for variable in problem.variables]
    assume(len(domains) <= 6)
    every = [problem.cost(assignment) for assignment in itertools.product(*domains)]
    others = sorted(cost for cost in every if cost is not None)
    # Of those that cost as much with as many transitions, what is alive at once decides.
    assert chosen.solution.cost[:2] == others[0][:2]
    others.remove(chosen.solution.cost)
    found = list(itertools.islice(alternatives(net, chosen, COSTS), 8))
    assert [other.plan.solution.cost for other in found] == others[:8]
    for other in found:
        assert other.is_proven and differences(chosen, other.plan)
        assert problem.cost(other.plan.solution.assignment) == other.plan.solution.cost


@pytest.mark.parametrize("data", [graph(8), recorded("mv2_xs_int8", "random0.pte")])
def test_alternatives_of_programs_are_checked_and_differ(data: bytes) -> None:
    planned = replan(data, "net", make_options("bytes", alternatives=6))
    for delegate, listed in zip(planned.delegates, planned.report.delegates, strict=True):
        written = {delegate.plan.graph, *(other.plan.graph for other in delegate.alternatives)}
        assert len(written) == 7
        costs = [(other.objective_cost, other.transitions) for other in listed.alternatives]
        assert costs == sorted(costs)
        assert costs[0] >= (listed.objective_cost, listed.transitions)
        for other in listed.alternatives:
            assert other.is_proven
            for difference in other.differences:
                assert difference.plan != difference.alternative
    assert replan(data, "net", make_options("bytes")).data == planned.data


def test_a_graph_that_is_too_dense_says_why_it_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver.ranking, "KEPT_LIMIT", 0)
    monkeypatch.setattr(solver.ranking, "SOLVED_LIMIT", 0)
    (listed,) = replan(graph(8), "net", make_options("bytes", alternatives=6)).report.delegates
    assert not listed.alternatives and listed.status == "OPTIMAL"
    assert any("too densely to rank its plans" in warning for warning in listed.warnings)


def test_a_number_that_cannot_be_listed() -> None:
    for count in (-1, 101):
        with pytest.raises(OptionError, match="ask for 0 to 100"):
            make_options(alternatives=count)


def test_an_unrolled_recurrent_net_has_alternatives() -> None:
    net = recurrent(16, 24)
    chosen = plan_graph(net, Limits(), COSTS)
    found = list(itertools.islice(alternatives(net, chosen, COSTS), 4))
    costs = [other.plan.solution.cost for other in found]
    assert [chosen.solution.cost, *costs] == sorted([chosen.solution.cost, *costs])
    for other in found:
        assert other.is_proven and differences(chosen, other.plan)
