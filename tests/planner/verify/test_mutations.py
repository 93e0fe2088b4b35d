"""Random changes of right plans: the checker refuses whatever changes their meaning.

Where a change of layout may leave the plan right, the planner's own rep sets say so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from planner.errors import VerificationError
from planner.ir.physical import fitting
from planner.ir.representation import REPRS, TensorRepr, compatible
from planner.kernels.rep_sets import op_rep_sets
from schema import Status, VkDataType, VkTensor
from schema.vkgraph import SymInt, ValueList
from tests.planner.verify.sketches import EXAMPLES, LIMITS, Q_CONV2D, Case, as_operators, repr_of

pytestmark = pytest.mark.slow

CASES = {name: build() for name, build in EXAMPLES.items()}
names = st.sampled_from(list(CASES))


def is_refused(case: Case) -> bool:
    try:
        case.verify()
    except VerificationError:
        return True
    return False


def planned_tensors(case: Case) -> list[int]:
    return [t.value_id for t in case.plan.tensors]


def breaks_a_rule(case: Case) -> bool:
    """Whether the planner would not make this plan, told by its own sets and rules."""
    given_reprs = {
        i: repr_of(v) for i, v in enumerate(case.after.values) if isinstance(v, VkTensor)
    }
    operators, tensors = as_operators(case.after)
    for index, tensor in enumerate(tensors):
        representation = given_reprs.get(index)
        if representation in REPRS and (
            representation not in fitting(tensor.shape, LIMITS)
            or (representation.is_packed_int8 and tensor.dtype != VkDataType.INT8)
        ):
            return True
    repacks = {t.operator_index for t in case.plan.transitions}
    for index, operator in operators:
        sets = None if index in repacks else op_rep_sets(operator, tensors, LIMITS)
        if sets is None:
            continue
        args: list[TensorRepr] = []
        for position, members in operator.tensor_args():
            accepted = sets.args[position]
            if accepted is None or any(tensors[m].constant for m in members):
                continue
            found = {given_reprs[m] for m in members}
            if len(found) > 1 or not all(r in accepted for r in found):
                return True
            args.extend(found)
        outs = [given_reprs[out] for out in operator.outputs]
        if any(
            not accepted or r not in accepted for r, accepted in zip(outs, sets.outs, strict=True)
        ):
            return True
        groups = [
            args if sets.sync_args else [],
            outs if sets.sync_outs else [],
            [*args[:1], outs[0]] if sets.sync_primary_io else [],
        ]
        if any(not compatible(r, group[0]) for group in groups for r in group):
            return True
    return any(_transitions_break_a_rule(case, given_reprs))


def _transitions_break_a_rule(case: Case, given_reprs: dict[int, TensorRepr]) -> Iterator[bool]:
    targets: set[tuple[int, TensorRepr]] = set()
    for transition in case.plan.transitions:
        source, target = given_reprs[transition.source], given_reprs[transition.output]
        tensor: Any = case.after.values[transition.source]
        yield source == target
        yield tensor.datatype == VkDataType.INT8 and source.is_packed_int8 != target.is_packed_int8
        # A tensor that was overwritten in between may be copied again.
        yield case.before != CASES["cache"].before and (transition.source, target) in targets
        targets.add((transition.source, target))


@settings(max_examples=600)
@given(names, st.data())
def test_layouts_are_refused_exactly_where_the_planner_has_none(
    name: str, data: st.DataObject
) -> None:
    case = CASES[name]
    changed = case
    for _ in range(data.draw(st.integers(1, 2))):
        value_id = data.draw(st.sampled_from(planned_tensors(case)))
        changed = changed.laid_out(value_id, data.draw(st.sampled_from(REPRS)))
    given_reprs = [repr_of(v) for v in changed.after.values if isinstance(v, VkTensor)]
    # Where this layout is no one asks for, what becomes of it is not the planner's to say.
    assume(changed.after == case.after or Q_CONV2D not in given_reprs)
    broken = breaks_a_rule(changed)
    event("broken" if broken else "still right")
    assert is_refused(changed) == broken


@settings(max_examples=300)
@given(names, st.data())
def test_layouts_that_are_not_claimed_are_refused(name: str, data: st.DataObject) -> None:
    case = CASES[name]
    value_id = data.draw(st.sampled_from(planned_tensors(case)))
    representation = data.draw(st.sampled_from(REPRS))
    changed = case.laid_out(value_id, representation)
    assume(changed.after != case.after)
    assert is_refused(replace(changed, plan=case.plan))


@settings(max_examples=600)
@given(names, st.data())
def test_other_arguments_are_refused(name: str, data: st.DataObject) -> None:
    case = CASES[name]
    index = data.draw(st.integers(0, len(case.after.chain) - 1))
    args = case.after.chain[index].args
    position = data.draw(st.integers(0, len(args) - 1))
    value_id = data.draw(st.integers(0, len(case.after.values) - 1))
    old, new = case.after.values[args[position]], case.after.values[value_id]
    is_identity = isinstance(old, (VkTensor, SymInt))
    assume(value_id != args[position] and (is_identity or old != new))
    assert is_refused(case.call(index, position, value_id))


@settings(max_examples=300)
@given(names, st.data())
def test_other_list_members_are_refused(name: str, data: st.DataObject) -> None:
    case = CASES[name]
    lists = [i for i, v in enumerate(case.after.values) if isinstance(v, ValueList)]
    assume(lists)
    list_id = data.draw(st.sampled_from(lists))
    value: Any = case.after.values[list_id]
    position = data.draw(st.integers(0, len(value.items) - 1))
    value_id = data.draw(st.integers(0, len(case.after.values) - 1))
    old, new = case.after.values[value.items[position]], case.after.values[value_id]
    assume(value_id != value.items[position])
    assume(isinstance(old, (VkTensor, SymInt)) or old != new)
    items = (*value.items[:position], value_id, *value.items[position + 1 :])
    assert is_refused(case.value(list_id, ValueList(items)))


@settings(max_examples=300)
@given(names, st.data())
def test_other_values_are_refused(name: str, data: st.DataObject) -> None:
    case = CASES[name]
    used = {value_id for call in case.after.chain for value_id in call.args}
    value_id = data.draw(st.sampled_from(sorted(used)))
    other = data.draw(st.sampled_from(case.after.values))
    old = case.after.values[value_id]
    if isinstance(old, VkTensor) and isinstance(other, VkTensor):
        other = replace(other, mem_obj_id=old.mem_obj_id)
    assume(other != old)
    assert is_refused(case.value(value_id, other))


@settings(max_examples=300)
@given(names, st.data())
def test_another_chain_is_refused(name: str, data: st.DataObject) -> None:
    case = CASES[name]
    chain = list(case.after.chain)
    index = data.draw(st.integers(0, len(chain) - 1))
    match data.draw(st.sampled_from(("drop", "repeat", "swap"))):
        case "drop":
            del chain[index]
        case "repeat":
            chain.insert(index, chain[index])
        case _:
            other = data.draw(st.integers(0, len(chain) - 1))
            chain[index], chain[other] = chain[other], chain[index]
    assume(tuple(chain) != case.after.chain)
    assert is_refused(case.chained(*chain))


@settings(max_examples=200)
@given(names, st.data())
def test_other_inputs_and_outputs_are_refused(name: str, data: st.DataObject) -> None:
    case = CASES[name]
    what = data.draw(st.sampled_from(("input_ids", "output_ids")))
    ids = list(getattr(case.after, what))
    position = data.draw(st.integers(0, len(ids) - 1))
    value_id = data.draw(st.none() | st.integers(0, len(case.after.values) - 1))
    assume(value_id != ids[position])
    ids[position : position + 1] = [] if value_id is None else [value_id]
    assert is_refused(case.written(**{what: tuple(ids)}))


_NUMBERS = ("source", "output", "operator_index", "cost")


@settings(max_examples=300)
@given(names, st.data())
def test_other_transitions_are_refused(name: str, data: st.DataObject) -> None:
    case = CASES[name]
    claims = case.plan.transitions
    nth = data.draw(st.integers(0, len(claims) - 1)) if claims else None
    assume(nth is not None)
    assert nth is not None
    field = data.draw(st.sampled_from((*_NUMBERS, "users", "drop", "repeat")))
    if field == "drop":
        changed = case.claimed(transitions=(*claims[:nth], *claims[nth + 1 :]))
    elif field == "repeat":
        changed = case.claimed(transitions=(*claims, claims[nth]))
    elif field == "users":
        users = list(claims[nth].users)
        user = data.draw(st.integers(0, len(users) - 1))
        part = data.draw(st.sampled_from(("operator_index", "argument")))
        users[user] = replace(users[user], **{part: getattr(users[user], part) + 1})
        changed = case.transition(nth, users=tuple(users))
    else:
        old = getattr(claims[nth], field)
        new = data.draw(st.floats() if field == "cost" else st.integers(0, 2**32 - 1))
        assume(not math.isclose(old, new, rel_tol=1e-9))
        changed = case.transition(nth, **{field: new})
    assert is_refused(changed)


@settings(max_examples=200)
@given(names, st.sampled_from(("repack_cost", "objective_cost", "bound")), st.floats())
def test_other_figures_are_refused(name: str, field: str, value: float) -> None:
    case = CASES[name]
    old = getattr(case.plan.figures, field)
    assume(not math.isclose(old, value, rel_tol=1e-9))
    assert case.plan.figures.status == Status.OPTIMAL
    assert is_refused(case.figures(**{field: value}))


@pytest.mark.parametrize("name", CASES)
def test_every_representation_that_is_not_listed_is_refused(name: str) -> None:
    case = CASES[name]
    for nth in range(len(case.plan.tensors)):
        tensors = (*case.plan.tensors[:nth], *case.plan.tensors[nth + 1 :])
        assert is_refused(case.claimed(tensors=tensors))
