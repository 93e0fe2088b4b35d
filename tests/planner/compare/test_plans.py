"""What the dashboard says of two plans of a program."""

from __future__ import annotations

import pytest

from planner.compare.plans import compare_plans
from planner.errors import InputError
from planner.options import make_options
from planner.pipelines.dispatch import plan_program
from schema import plan
from tests.api.graphs import graph
from tests.api.planned import lowered, planned


def test_what_one_plan_alone_has_makes_up_the_difference() -> None:
    other = make_options("default", "repack")
    a, b = planned()[0], plan_program(lowered(), "cvt.pte", other).flatbuffer()
    costs = [plan.decode(data).total.repack_cost for data in (a, b)]
    delegates = compare_plans(a, b)
    assert sum(len(delegate.tensors) for delegate in delegates) > 0
    only_a = sum(t.cost for delegate in delegates for t in delegate.only_in_a)
    only_b = sum(t.cost for delegate in delegates for t in delegate.only_in_b)
    assert only_b - only_a == pytest.approx(costs[1] - costs[0])
    for delegate in delegates:
        assert all(tensor.a != tensor.b for tensor in delegate.tensors)
        assert all(t.source != t.target for t in delegate.only_in_a + delegate.only_in_b)
    mirrored = compare_plans(b, a)
    for delegate, mirror in zip(delegates, mirrored, strict=True):
        assert [t.cost for t in delegate.only_in_b] == [t.cost for t in mirror.only_in_a]


def test_a_plan_does_not_differ_from_itself() -> None:
    first, second = compare_plans(planned()[0], planned()[0])
    assert first.tensors == second.tensors == ()
    assert first.only_in_a == first.only_in_b == ()
    assert first.in_both > 0


def test_plans_of_different_programs_are_not_compared() -> None:
    small = [plan_program(graph(8, n), "a", make_options("bytes")).flatbuffer() for n in (3, 4)]
    with pytest.raises(InputError, match="different programs"):
        compare_plans(*small)
    with pytest.raises(InputError, match="different programs"):
        compare_plans(small[0], planned()[0])
