"""The independent check of a plan that was written.

Nothing here comes from the planner's own reasoning: the graph that goes out is decoded again, and
shown to compute what the program computed, in representations that every operator accepts, for the
price that the plan claims. The facts of ET-VK that this needs are written down here a second time,
so that an error in one place is caught by the other.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from planner.costs.profile import DeviceProfile
from planner.errors import VerificationError
from planner.measured.costs import DeviceTimes, LearnedCosts
from planner.verify.claims import check_claims
from planner.verify.correspondence import match_programs
from planner.verify.layouts import TextureLimits
from planner.verify.operands import (
    check_accepted,
    check_representations,
    check_synchronised,
    read_demands,
)
from planner.verify.pinned import check_pinned as verify_pinned
from planner.verify.prices import LearnedPrices, Prices, ProfilePrices
from planner.verify.program import Program
from planner.verify.resolution import check_resolution
from schema import DelegatePlan, SchemaError, VkGraph, VkMemoryLayout

__all__ = ["verify_contraction", "verify_delegate", "verify_pinned"]


def verify_delegate(
    plan: DelegatePlan,
    before: VkGraph,
    *,
    profile: DeviceProfile,
    objective: Literal["repack", "latency"],
    texture_limits: TextureLimits,
    excluded_layouts: frozenset[VkMemoryLayout] = frozenset(),
    buffer_limit: int | None = None,
    times: DeviceTimes | None = None,
) -> None:
    """Shows that the graph in ``plan`` is ``before`` with right layouts, at the claimed price.

    Storage, layout and memory object of the tensors in ``before`` are not looked at. A buffer must
    have fewer elements than ``buffer_limit``. With ``times`` prices are those that were learned
    from a device's runs. Raises ``VerificationError`` naming the operator, the operand and the rule
    that is broken.
    """
    try:
        program = Program(plan.decode_graph())
    except SchemaError as error:
        raise VerificationError(f"the written graph is malformed: {error}") from error
    check_representations(program, texture_limits, excluded_layouts, buffer_limit)
    repacks = match_programs(before, program, {t.operator_index for t in plan.transitions})
    demands = read_demands(program, texture_limits, {repack.index for repack in repacks})
    check_accepted(program, demands)
    check_synchronised(program, demands, program.representations, "")
    check_resolution(program, demands)
    prices: Prices = ProfilePrices(profile, objective)
    if times is not None:
        prices = LearnedPrices(LearnedCosts(times, profile, objective), profile, objective)
    check_claims(plan, program, demands, repacks, prices)


def verify_contraction(before: VkGraph, file: VkGraph, clones: Collection[int]) -> None:
    """Shows that a file's graph is ``before`` with repacks at these positions of its chain.

    Raises ``VerificationError`` naming the operator where the two part.
    """
    match_programs(before, Program(file), frozenset(clones))
