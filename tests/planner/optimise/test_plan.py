"""Plans of small random graphs are the brute-force optimum, under every objective."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.costs.by_profile import ProfileCosts
from planner.costs.model import Objective
from planner.costs.profile import DeviceProfile
from planner.costs.profile_file import load_profile
from planner.ir.graph import LayoutGraph, Layouts
from schema import VkMemoryLayout
from tests.planner.costs.curves import curved
from tests.planner.optimise.brute_force import graphs, layouts, optimal_plan


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
