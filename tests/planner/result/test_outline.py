"""The outlines of trade-offs, against their points, and against all sums of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

import planner.result.outline
from planner.optimise.outline import Corners, outline
from planner.optimise.tradeoff import SUMMED, amounts
from planner.options import make_options
from planner.pipelines.lowered import replan
from planner.result.outline import highest, read_outlines, together
from solver import TooDenseError, pareto
from tests.api.graphs import pooled
from tests.recorded import recorded
from tests.solver.test_corners import hull

corners = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=5).map(
    lambda pairs: tuple(hull(unbeaten(pairs)))
)


def unbeaten(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return sorted(
        {p for p in pairs if not any(o != p and o[0] <= p[0] and o[1] <= p[1] for o in pairs)}
    )


@pytest.mark.parametrize("objective", ["repack", "latency"])
def test_corners_of_a_real_program_are_points_of_its_trade_offs(objective: str) -> None:
    program = recorded("cvt_xs_fp32", "random0.pte")
    planned = replan(program, "cvt.pte", make_options("default", objective=objective))
    delegate = max(planned.delegates, key=lambda delegate: delegate.operators)
    found = outline(delegate.graph, delegate.layout_plan)
    for criterion in SUMMED:
        layout = delegate.layout_plan.layout
        points = pareto(
            layout.problem, amounts(delegate.graph, layout, criterion), gap_limit=0
        ).points
        assert list(found[criterion]) == hull([(point.cost, point.amount) for point in points])
    assert any(len(pairs) > 2 for pairs in found.values())
    told = planned.outlines()
    assert [one.criterion for one in told.outlines] == [*found, "memory"]
    assert read_outlines(told.document()) == told


@pytest.mark.parametrize("read", [pooled, lambda: recorded("mv2_xs_int8", "random0.pte")])
def test_corners_of_memory_are_those_of_all_points(read: Callable[[], bytes]) -> None:
    planned = replan(read(), "x", make_options("bytes"))
    (of_memory,) = (one for one in planned.outlines().outlines if one.criterion == "memory")
    found = [(one.objective_cost, one.amount) for one in of_memory.corners]
    (points,) = planned.tradeoffs(["memory"]).tradeoffs
    assert points.is_complete
    every = [(int(one.objective_cost), one.peak_memory_bytes) for one in points.points]
    assert found == hull(every)


@given(st.lists(corners, min_size=1, max_size=3))
def test_a_whole_has_the_memory_of_its_highest_part(parts: list[Corners]) -> None:
    sums = [(sum(c for c, _ in each), max(a for _, a in each)) for each in product(*parts)]
    assert list(highest(parts)) == hull(unbeaten(sums))


@given(st.lists(corners, min_size=1, max_size=3))
def test_a_whole_is_the_hull_of_all_sums_of_parts(parts: list[Corners]) -> None:
    sums = [(sum(c for c, _ in each), sum(a for _, a in each)) for each in product(*parts)]
    assert list(together(parts)) == hull(unbeaten(sums))


def test_what_is_not_known_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def dense(*_: object) -> None:
        raise TooDenseError("too dense")

    planned = replan(recorded("mv2_xs_int8", "random0.pte"), "net")
    monkeypatch.setattr(planner.result.outline, "outline", dense)
    found = planned.outlines()
    assert found.unknown == ("delegate 0",)
    assert [one.criterion for one in found.outlines] == ["memory"]
    monkeypatch.undo()
    monkeypatch.setattr(planner.result.outline, "least_alive", dense)
    assert [one.criterion for one in planned.outlines().outlines] == list(SUMMED)
