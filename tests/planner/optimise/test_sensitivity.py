"""Up to an end the plan stays the best, and beyond it another is: by planning again."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from api.bench.answers import ChangedCosts
from planner.costs.model import CostModel, UncertainCosts
from planner.errors import NoRepresentationError
from planner.ir.graph import LayoutGraph
from planner.kernels.limits import Limits
from planner.measured.device import device_options
from planner.optimise.plan import LayoutPlan, plan_graph
from planner.optimise.problem import build_problem
from planner.optimise.sensitivity import sensitivities
from planner.pipelines.lowered import replan
from schema import CostOrigin, VkDataType
from tests.api.graphs import graph
from tests.planner.optimise.brute_force import graphs
from tests.planner.optimise.test_plan import AnyCosts


def costs_now(net: LayoutGraph, plan: LayoutPlan, costs: CostModel) -> tuple[int, int]:
    """What a plan costs by other costs, and what the best one does."""
    problem = build_problem(net, Limits(), costs).problem
    own = problem.cost(plan.solution.assignment)
    assert own is not None
    return own[0], plan_graph(net, Limits(), costs).cost


@settings(max_examples=20)
@given(graphs(), st.lists(st.integers(0, 40), min_size=3, max_size=9))
def test_ends_by_planning_again(net: LayoutGraph, prices: list[int]) -> None:
    costs = AnyCosts(prices)
    try:
        plan = plan_graph(net, Limits(), costs)
    except NoRepresentationError:
        assume(False)
    for found in sensitivities(net, plan, costs):
        assert found.is_exact
        for end, beyond in ((found.low, Fraction(-1, 97)), (found.high, Fraction(1, 97))):
            if end is None:
                continue
            own, best = costs_now(net, plan, ChangedCosts(costs, found.price, end))
            assert own == best
            if end + beyond >= -1 or found.price.is_launch:
                own, best = costs_now(net, plan, ChangedCosts(costs, found.price, end + beyond))
                assert own > best
        if found.low is None and not found.price.is_launch:
            own, best = costs_now(net, plan, ChangedCosts(costs, found.price, Fraction(-1)))
            assert own == best
        if found.high is None:
            own, best = costs_now(net, plan, ChangedCosts(costs, found.price, Fraction(1000)))
            assert own == best


def test_a_devices_prices_have_ranges() -> None:
    options = device_options("nvidia-h100")
    costs = options.cost_model()
    assert isinstance(costs, UncertainCosts)
    shape, dtype = (1, 16, 8, 8), VkDataType.FLOAT32
    prices = costs.transition(shape, dtype)
    low, high = costs.transition_range(shape, dtype)
    assert (low <= prices).all() and (prices <= high).all() and (low < high).any()
    for source, target in np.argwhere(prices > 0).tolist():
        if costs.transition_origin(shape, dtype, source, target) == CostOrigin.MEASURED:
            assert low[source, target] == high[source, target]


def test_what_would_settle_a_plan_comes_first() -> None:
    found = replan(graph(12), "net", device_options("nvidia-h100")).sensitivity()
    assert found.prices and not found.unknown
    settles = [price.settles for price in found.prices]
    assert settles == sorted(settles, reverse=True)
    for price in found.prices:
        below = price.fall is not None and (price.uncertain_fall or 0) < price.fall
        above = price.rise is not None and (price.uncertain_rise or 0) > price.rise
        assert price.settles == (price.kind != "launch" and (below or above))
        assert (price.fall is None or price.fall <= 0) and (price.rise is None or price.rise >= 0)
