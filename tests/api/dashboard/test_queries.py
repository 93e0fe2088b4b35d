"""What the overview asks of the store, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from api.dashboard.trend import series_of
from api.store.plans import PlanFilter, PlanStore, Saved, open_store
from planner.costs.profile_file import load_profile
from planner.options import make_options
from tests.api.store.drafts import put


@pytest.fixture
def store(tmp_path: Path, database_url: str) -> Iterator[PlanStore]:
    found = open_store(tmp_path / "data", database_url)
    yield found
    found.close()


def _put(store: PlanStore, folder: Path, text: str, cost: float, **total: Any) -> str:
    plan = put(
        store,
        folder / text,
        text,
        baseline_repack_cost=100.0,
        repack_cost=cost,
        objective_cost=cost,
        **total,
    )
    return plan.id


def test_totals_are_of_all_that_pass_a_filter(store: PlanStore, tmp_path: Path) -> None:
    assert store.totals().saved == ()
    assert (store.totals().plans, store.totals().models) == (0, 0)
    _put(store, tmp_path, "a", 40.0, name="Net.pt2")
    _put(store, tmp_path, "b", 70.0, name="net.pt2", status="FEASIBLE")
    _put(store, tmp_path, "c", 10.0, name="other.pt2")
    totals = store.totals()
    assert (totals.plans, totals.proven, totals.models) == (3, 2, 2)
    assert totals.saved == (Saved("bytes", 300.0, 180.0),)
    assert store.totals(PlanFilter(name="NET")).saved == (Saved("bytes", 200.0, 90.0),)
    assert store.totals(PlanFilter(source_name="net.pt2")).saved == (Saved("bytes", 100.0, 30.0),)


def test_plans_are_found_by_their_whole_name_alone(store: PlanStore, tmp_path: Path) -> None:
    for text, name in (("a", "net.pt2"), ("b", "Net.pt2"), ("c", "net.pt2.pte"), ("d", "n%t.pt2")):
        _put(store, tmp_path, text, 50.0, name=name)
    for name in ("net.pt2", "Net.pt2", "n%t.pt2"):
        page = store.page(PlanFilter(source_name=name))
        assert [plan.source_name for plan in page.plans] == [name]


def test_profiles_to_filter_by_are_those_of_plans(store: PlanStore, tmp_path: Path) -> None:
    assert store.profile_names() == []
    put(store, tmp_path / "a", "a", options=make_options("default"))
    put(store, tmp_path / "b", "b")
    put(store, tmp_path / "c", "c")
    assert store.profile_names() == ["bytes", "default"]


def test_a_model_s_history_marks_what_became_worse(store: PlanStore, tmp_path: Path) -> None:
    ids = [
        _put(store, tmp_path, text, cost, name="net.pt2")
        for text, cost in (("a", 50.0), ("b", 50.4), ("c", 60.0), ("d", 40.0), ("e", 0.0))
    ]
    _put(store, tmp_path, "x", 99.0, name="other.pt2")
    history = store.history("net.pt2")
    assert [plan.id for plan in history] == ids
    assert [plan.id for plan in store.history("net.pt2", 2)] == ids[-2:]
    (series,) = series_of(history)
    assert series.name == "bytes, repack, without 2 layouts"
    assert [p.is_regression for p in series.points] == [False, False, True, False, False]


def test_plans_of_other_options_are_another_series(store: PlanStore, tmp_path: Path) -> None:
    put(store, tmp_path / "a", "a", objective_cost=10.0)
    put(store, tmp_path / "b", "b", options=make_options("default"), objective_cost=20.0)
    first, second = series_of(store.history("net.pt2"))
    assert first.name.startswith("bytes, ") and second.name.startswith("default, ")
    assert not any(p.is_regression for p in (*first.points, *second.points))


def test_a_plan_is_judged_by_the_objective_that_it_minimises(
    store: PlanStore, tmp_path: Path
) -> None:
    options = make_options("default", "latency")
    costs = [("a", 100.0, 1.0), ("b", 60.0, 3.0), ("c", 100.0, 3.0)]
    for text, cost, repacks in costs:
        total: dict[str, Any] = {
            "objective_cost": cost,
            "repack_cost": repacks,
            "baseline_objective_cost": 200.0,
        }
        put(store, tmp_path / text, text, options=options, **total)
    (series,) = series_of(store.history("net.pt2"))
    assert [(p.before, p.after, p.repack_cost) for p in series.points] == [
        (200.0, cost, repacks) for _, cost, repacks in costs
    ]
    assert [p.is_regression for p in series.points] == [False, False, True]


def test_a_profile_whose_content_changed_is_another_series(
    store: PlanStore, tmp_path: Path
) -> None:
    profile = load_profile("bytes")
    changed = replace(profile, description="changed")
    assert (profile.name, profile.digest != changed.digest) == (changed.name, True)
    put(store, tmp_path / "a", "a", options=make_options(profile), objective_cost=1.0)
    put(store, tmp_path / "b", "b", options=make_options(changed), objective_cost=2.0)
    series = series_of(store.history("net.pt2"))
    assert len({s.name for s in series}) == 2
    assert not any(p.is_regression for s in series for p in s.points)


def test_a_plan_that_costs_nothing_is_followed_by_a_regression(
    store: PlanStore, tmp_path: Path
) -> None:
    put(store, tmp_path / "a", "a", objective_cost=0.0)
    put(store, tmp_path / "b", "b", objective_cost=0.0)
    put(store, tmp_path / "c", "c", objective_cost=1.0)
    (series,) = series_of(store.history("net.pt2"))
    assert [p.is_regression for p in series.points] == [False, False, True]
