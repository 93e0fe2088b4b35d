"""Plans of small random graphs are the brute-force optimum, under every objective."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.costs.by_profile import ProfileCosts
from planner.costs.model import Costs, FreeTransitions, Objective, PricedOperand
from planner.costs.profile import DeviceProfile
from planner.costs.profile_file import load_profile
from planner.errors import NoRepresentationError
from planner.ir.graph import LayoutGraph, Layouts, Operator, Tensor, TensorArg
from planner.ir.representation import REPRS
from planner.kernels.limits import Limits
from planner.optimise.plan import plan_graph
from schema import VkDataType, VkMemoryLayout
from tests.planner.costs.curves import curved
from tests.planner.optimise.brute_force import QUANTIZE, graphs, layouts, optimal_plan


@pytest.mark.slow
@settings(max_examples=150)
@given(
    graphs().flatmap(lambda graph: st.tuples(st.just(graph), st.none() | layouts(graph))),
    st.sampled_from([load_profile("bytes"), load_profile("default"), curved()]),
    st.sampled_from(["repack", "latency"]),
    st.sampled_from(
        [(), (VkMemoryLayout.TENSOR_WIDTH_PACKED,), (VkMemoryLayout.PACKED_INT8_4C1W,)]
    ),
)
def test_a_plan_is_the_brute_force_optimum(
    program: tuple[LayoutGraph, Layouts | None],
    profile: DeviceProfile,
    objective: Objective,
    excluded: tuple[VkMemoryLayout, ...],
) -> None:
    graph, given_layouts = program
    optimal_plan(graph, ProfileCosts(profile, objective), excluded, given_layouts)


class AnyCosts(FreeTransitions):
    """Prices that follow no rule: what never pays elsewhere pays here."""

    def __init__(self, prices: Sequence[int]) -> None:
        self.prices = np.array(prices, np.int64)

    def transition(self, shape: tuple[int, ...], dtype: VkDataType) -> Costs:
        prices: Costs = self.prices[-1] * (1 - np.eye(len(REPRS), dtype=np.int64))
        return prices

    def operator(
        self, operator: Operator, tensors: Sequence[Tensor], operands: Sequence[PricedOperand]
    ) -> Iterable[tuple[tuple[int, ...], Costs]]:
        for index, operand in enumerate(operands):
            shift = 5 * index + 3 * operand.is_output + len(operator.name)
            places = [(label * 7 + shift) % len(self.prices) for label in operand.domain]
            yield (index,), self.prices[places]


def convolved() -> LayoutGraph:
    """A quantized tensor that a convolution and an activation read."""
    shape = (1, 8, 4, 4)
    tensors = (
        *(Tensor("x", shape, VkDataType.FLOAT32), Tensor("q", shape, VkDataType.INT8)),
        *(Tensor("y", shape, VkDataType.INT8), Tensor("z", shape, VkDataType.INT8)),
    )
    operators = (
        Operator(QUANTIZE, (TensorArg(0),), (1,)),
        Operator("et_vk.q8ta_conv2d.default", (TensorArg(1),), (2,)),
        Operator("et_vk.q8ta_relu.default", (TensorArg(1),), (3,)),
    )
    return LayoutGraph("convolved", tensors, operators, (0,), (2, 3))


@pytest.mark.slow
@settings(max_examples=150)
@given(st.just(convolved()) | graphs(), st.lists(st.integers(0, 100), min_size=13, max_size=13))
def test_a_plan_is_the_optimum_for_any_prices(graph: LayoutGraph, prices: list[int]) -> None:
    optimal_plan(graph, AnyCosts(prices))


def test_conv2d_is_no_layout_where_nothing_resolves_it() -> None:
    """A convolution makes a layout of it; where no one reads it, it would become any other."""
    convolved_ = convolved()
    operators = (convolved_.operators[0], convolved_.operators[2])
    graph = replace(convolved_, operators=operators, outputs=(3,))
    others = {r.memory_layout for r in REPRS if r.is_packed_int8}
    limits = Limits(excluded_layouts=frozenset(others - {VkMemoryLayout.PACKED_INT8_CONV2D}))
    with pytest.raises(NoRepresentationError, match=r"output 0 .* is left nothing but .*CONV2D"):
        plan_graph(graph, limits, ProfileCosts(load_profile("bytes"), "repack"))
    plan = plan_graph(graph, Limits(), ProfileCosts(load_profile("bytes"), "repack"))
    assert plan.made[1] is not None
    assert plan.made[1].memory_layout == VkMemoryLayout.PACKED_INT8_4C1W
