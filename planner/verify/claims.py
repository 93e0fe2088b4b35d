"""A plan's claims about its graph: representations, transitions and prices, all counted again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isclose, isfinite
from typing import Final

from planner.ir.representation import REPRS, TensorRepr
from planner.verify.correspondence import Repack
from planner.verify.operands import Demand
from planner.verify.prices import Price, Prices
from planner.verify.program import Program, Representations, fail
from schema import (
    CostOrigin,
    DelegatePlan,
    Figures,
    OperatorCost,
    Status,
    Transition,
    TransitionUser,
)
from schema.vkgraph import ValueList

_TOLERANCE: Final = 1e-9
"""The relative tolerance of costs: sums of floats depend on their order."""


def check_claims(
    plan: DelegatePlan,
    program: Program,
    alike: Sequence[int],
    demands: Iterable[Demand],
    repacks: Sequence[Repack],
    prices: Prices,
) -> None:
    """Shows that all claims of the plan are true; raises ``VerificationError``.

    ``alike`` has, for each operator but transitions, the one that costs as much and is among the
    ``demands``.

    The baseline's representations and repacks are taken as they are. But they must be of the
    graph's tensors and operators, and the baseline's figures must be those of its repacks.
    """
    _check_tensors(plan, program)
    _check_baseline(plan, program, repacks, prices)
    units = prices.profile.in_units
    costs = [_price(program, repack, prices) for repack in repacks]
    _check_transitions(plan.transitions, program, repacks, costs, units)
    priced = prices.operators(program, demands)
    operators = {index: priced[first] for index, first in enumerate(alike) if first in priced}
    _check_operators(plan.operator_costs, program, operators, units)
    repack_cost = sum(price.steps for price in costs)
    objective_cost = repack_cost + sum(price.steps for price in operators.values())
    _check_figures(plan.figures, len(repacks), units(repack_cost), units(objective_cost))
    _check_levels(plan, objective_cost, len(repacks), units)


def _check_tensors(plan: DelegatePlan, program: Program) -> None:
    claimed = bytearray(len(program.graph.values))
    for tensor in plan.tensors:
        wrong = None
        written = program.representations.get(tensor.value_id)
        if written is not None and claimed[tensor.value_id]:
            wrong = "the plan lists it twice"
        elif (
            written is None
            or written.storage_type != tensor.storage_type
            or written.memory_layout != tensor.memory_layout
        ):
            wrong = "the plan lists a representation that was not written"
        if wrong is not None:
            raise fail(f"tensor {tensor.value_id} ({tensor.name})", wrong)
        claimed[tensor.value_id] = True
    for value_id in program.representations:
        if not claimed[value_id]:
            raise fail(program.place_of(value_id), f"the plan does not list value {value_id}")


def _check_baseline(
    plan: DelegatePlan, program: Program, written: Sequence[Repack], prices: Prices
) -> None:
    made = Representations(len(program.graph.values))
    known = {(r.storage_type, r.memory_layout): r for r in REPRS}
    for claim in plan.baseline_tensors:
        place = f"the baseline's tensor {claim.value_id}"
        representation = known.get((claim.storage_type, claim.memory_layout))
        if not program.is_variable(claim.value_id) or representation is None:
            raise fail(place, "it is not a tensor with a representation")
        if claim.value_id in made:
            raise fail(place, "the plan lists it twice")
        made.add(claim.value_id, representation)
    origins = {repack.output: repack.source for repack in written}
    total = 0
    for index, repack in enumerate(plan.baseline_repacks):
        place = f"the baseline's repack {index}"
        source = TensorRepr(repack.from_storage, repack.from_layout)
        target = TensorRepr(repack.to_storage, repack.to_layout)
        if target not in REPRS:
            raise fail(place, f"{target} is not a representation of a tensor")
        if made.get(repack.source) != source:
            raise fail(place, f"value {repack.source} is not in {source} there")
        tensor = program.tensor(repack.source)
        if (repack.sizes, repack.datatype) != (tensor.dims, tensor.datatype):
            raise fail(place, f"its size or type is not that of value {repack.source}")
        for user in repack.users:
            if not _reads(program, user, repack.source, origins):
                raise fail(place, f"{user.operator_name} does not read value {repack.source}")
        price = prices.repack(tensor, source, target)
        _check_cost(place, "its cost", repack.cost, prices.profile.in_units(price.steps))
        _check_origin(place, repack.origin, price)
        total += price.steps
    place, figures = "the baseline's figures", plan.figures
    count = len(plan.baseline_repacks)
    if figures.baseline_transitions != count:
        raise fail(place, f"it has {count} repacks, not {figures.baseline_transitions}")
    cost = prices.profile.in_units(total)
    _check_cost(place, "the repack cost", figures.baseline_repack_cost, cost)


def _reads(program: Program, user: TransitionUser, source: int, origins: Mapping[int, int]) -> bool:
    """Whether a user's argument is the tensor ``source``, or a repacked copy of it."""
    if user.operator_index >= len(program.calls):
        return False
    call = program.calls[user.operator_index]
    if call.name != user.operator_name or user.argument >= len(call.args) - 1:
        return False
    argument = call.args[user.argument]
    value = program.graph.values[argument]
    members = value.items if isinstance(value, ValueList) else (argument,)
    return source in (origins.get(member, member) for member in members)


def _check_transitions(
    claims: Sequence[Transition],
    program: Program,
    repacks: Sequence[Repack],
    costs: Sequence[Price],
    units: Callable[[int], float],
) -> None:
    claim_at = {claim.operator_index: claim for claim in claims}
    if len(claim_at) != len(claims):
        raise fail("the transitions", "two claims are for one operator")
    if len(repacks) != len(claims):
        # The walk found a repack at every claimed position in the chain.
        raise fail("the transitions", "a claim is for an operator that does not exist")
    for repack, cost in zip(repacks, costs, strict=True):
        claim = claim_at[repack.index]
        place = program.place(repack.index)
        source = program.representations[repack.source]
        target = program.representations[repack.output]
        if (claim.source, claim.output) != (repack.source, repack.output):
            raise fail(
                place,
                f"the plan claims {claim.source} -> {claim.output}, "
                f"the graph has {repack.source} -> {repack.output}",
            )
        if TensorRepr(claim.from_storage, claim.from_layout) != source:
            raise fail(place, f"its source is {source}, and the plan claims another")
        if TensorRepr(claim.to_storage, claim.to_layout) != target:
            raise fail(place, f"its target is {target}, and the plan claims another")
        users = [(index, program.calls[index].name, position) for index, position in repack.users]
        claimed = [(user.operator_index, user.operator_name, user.argument) for user in claim.users]
        if sorted(claimed) != sorted(users):
            raise fail(place, f"its users are {users}, not {claimed}")
        _check_cost(place, "its cost", claim.cost, units(cost.steps))
        _check_origin(place, claim.origin, cost)


def _check_operators(
    claims: Sequence[OperatorCost],
    program: Program,
    costs: Mapping[int, Price],
    units: Callable[[int], float],
) -> None:
    claim_at = {claim.operator_index: claim for claim in claims}
    if len(claim_at) != len(claims):
        raise fail("the operators' costs", "two claims are for one operator")
    if claim_at.keys() - costs.keys():
        raise fail("the operators' costs", "a claim is for an operator that costs nothing")
    for index, price in costs.items():
        place, cost = program.place(index), units(price.steps)
        if index not in claim_at:
            raise fail(place, f"it costs {cost}, which the plan does not list")
        _check_cost(place, "its cost", claim_at[index].cost, cost)
        _check_origin(place, claim_at[index].origin, price)


def _check_figures(
    figures: Figures, transitions: int, repack_cost: float, objective_cost: float
) -> None:
    place = "the figures"
    if figures.transitions != transitions:
        raise fail(place, f"{transitions} transitions were written, not {figures.transitions}")
    _check_cost(place, "the repack cost", figures.repack_cost, repack_cost)
    _check_cost(place, "the objective cost", figures.objective_cost, objective_cost)
    is_tight = isclose(figures.bound, objective_cost, rel_tol=_TOLERANCE)
    if not isfinite(figures.bound) or (figures.bound > objective_cost and not is_tight):
        raise fail(place, f"{figures.bound} is not a lower bound of {objective_cost}")
    if figures.status == Status.OPTIMAL and not is_tight:
        raise fail(
            place, f"a plan of {objective_cost} is not optimal under a bound of {figures.bound}"
        )


def _check_levels(
    plan: DelegatePlan, objective_cost: int, transitions: int, units: Callable[[int], float]
) -> None:
    """What was minimised level by level, of which the graph shows the first two."""
    place, cost, bound = "the costs by level", plan.cost_by_level, plan.bound_by_level
    if not cost and not bound:
        return
    if len(cost) != len(bound) or len(cost) < 2:
        raise fail(place, f"there are {len(cost)} of them, and {len(bound)} bounds")
    if cost[:2] != (objective_cost, transitions):
        raise fail(place, f"{(objective_cost, transitions)} were counted, not {cost[:2]}")
    if bound > cost:
        raise fail(place, f"{bound} is not a lower bound of {cost}")
    # Beyond these a plan may be further from what it was, for fewer bytes that are alive at once.
    if plan.figures.status == Status.OPTIMAL and bound[:2] != cost[:2]:
        raise fail(place, f"a plan of {cost} is not optimal under a bound of {bound}")
    _check_cost(place, "the bound", plan.figures.bound, units(bound[0]))


def _check_cost(place: str, what: str, claimed: float, counted: float) -> None:
    if not isclose(claimed, counted, rel_tol=_TOLERANCE):
        raise fail(place, f"{what} is {counted}, not {claimed}")


def _check_origin(place: str, claimed: CostOrigin, price: Price) -> None:
    if claimed != price.origin:
        raise fail(place, f"its cost is {price.origin.name}, not {claimed.name}")


def _price(program: Program, repack: Repack, prices: Prices) -> Price:
    source = program.representations[repack.source]
    target = program.representations[repack.output]
    return prices.repack(program.tensor(repack.source), source, target)
