"""The independent check of a written plan.

Nothing here comes from the planner's own reasoning: the graph that goes out is decoded again, and
shown to compute what the program computed, in representations that every operator accepts, for the
price that the plan claims. The facts of ET-VK that this needs are written down here a second time,
so that an error in one place is caught by the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from planner.costs.model import CostSource, Objective
from planner.errors import VerificationError
from planner.kernels.limits import Limits
from planner.verify.budget import check_budget as verify_budget
from planner.verify.budget import over_budget
from planner.verify.claims import check_claims
from planner.verify.correspondence import match_programs
from planner.verify.faults import check_faults
from planner.verify.memory import check_memory as verify_memory
from planner.verify.memory import sharing_error
from planner.verify.operands import (
    check_accepted,
    check_representations,
    check_synchronised,
    read_demands,
)
from planner.verify.pinned import check_pinned as verify_pinned
from planner.verify.prices import prices_of
from planner.verify.program import LEFT_OUT, Program, alike_calls, each_call, fail
from planner.verify.resolution import check_resolution
from planner.verify.restrictions import Named, Wanted, check_restrictions
from schema import DelegatePlan, SchemaError, VkGraph

__all__ = [
    "Named",
    "broken_restrictions",
    "over_budget",
    "resolution_error",
    "sharing_error",
    "verify_budget",
    "verify_contraction",
    "verify_delegate",
    "verify_memory",
    "verify_pinned",
]


def verify_delegate(
    plan: DelegatePlan,
    before: VkGraph,
    *,
    costs: CostSource,
    objective: Objective,
    limits: Limits,
    named: Named | None = None,
) -> VkGraph:
    """Shows that the graph in ``plan`` is ``before`` with valid layouts, at the claimed price.

    Returns that graph, decoded again. Storage, layout and memory object of the tensors in
    ``before`` are ignored. Restrictions use the names that ``named`` gives to the parts of
    ``before``. Raises ``VerificationError`` naming the operator, the operand and the broken rule.
    """
    try:
        program = Program(plan.decode_graph())
    except SchemaError as error:
        raise VerificationError(f"the written graph is malformed: {error}") from error
    check_representations(program, limits)
    if limits.runtime.target == "webgpu" and plan.transitions:
        raise fail("the plan", "it has a transition, and WebGPU's runtime has one representation")
    matched = match_programs(before, program, {t.operator_index for t in plan.transitions})
    repacks = matched.repacks
    positions = {repack.index for repack in repacks}
    if limits.restrictions:
        # A user's limits may name any operator.
        alike = each_call(program, positions)
    else:
        alike = alike_calls(program, positions)
    # What is shown of one call holds of all that no rule tells from it.
    demands = read_demands(program, limits, positions, among=set(alike) - {LEFT_OUT})
    check_accepted(program, demands)
    check_synchronised(program, demands, program.representations, "")
    copies = {repack.output for repack in repacks}
    origins = matched.origins if limits.restrictions else {}
    wanted = Wanted(program, limits.restrictions, named or Named(), origins, copies, positions)
    check_restrictions(wanted, demands)
    check_faults(program, demands, limits, wanted)
    check_resolution(program, demands)
    check_claims(plan, program, alike, demands, repacks, prices_of(costs, objective))
    return program.graph


def resolution_error(graph: VkGraph, limits: Limits, repacks: Collection[int]) -> str | None:
    """Why a kernel does not get layouts that it works with, together or once loaded; else None.

    ``repacks`` are the positions of the graph's transitions.
    """
    program = Program(graph)
    try:
        demands = read_demands(program, limits, repacks)
        check_synchronised(program, demands, program.representations, "")
        check_resolution(program, demands)
    except VerificationError as error:
        return str(error)
    return None


def broken_restrictions(
    graph: VkGraph,
    limits: Limits,
    named: Named,
    copies: Mapping[int, int],
    repacks: Collection[int],
) -> Iterator[tuple[str, str]]:
    """The places where a graph breaks the restrictions among the limits, and how.

    ``copies`` are the tensors that the graph's transitions copy, by their outputs; ``repacks`` the
    transitions' positions. Raises ``VerificationError`` for arguments that do not fit.
    """
    program = Program(graph)
    origins = {value_id: copies.get(value_id, value_id) for value_id in range(len(graph.values))}
    wanted = Wanted(program, limits.restrictions, named, origins, copies, repacks)
    demands = read_demands(program, limits, repacks)
    for place, restriction, how in wanted.broken(demands):
        yield place, f"{how}, against {restriction}"


def verify_contraction(before: VkGraph, file: VkGraph, clones: Collection[int]) -> None:
    """Shows that a file's graph is ``before`` with repacks at these positions of its chain.

    Raises ``VerificationError`` naming the first operator that differs.
    """
    match_programs(before, Program(file), frozenset(clones))
