"""A model's plans over time, and where they became worse."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from api.store.tables import Plan

TOLERANCE: Final = 0.01
"""Part of a cost by which it may grow before that is called a regression."""


@dataclass(frozen=True, slots=True)
class Point:
    """A plan, in time; a regression costs more than the plan before it. Costs are of repacks."""

    id: str
    created: datetime
    before: float
    after: float
    is_regression: bool


@dataclass(frozen=True, slots=True)
class Series:
    """Plans of a model that were asked for in the same way, oldest first; ``name`` says how."""

    name: str
    unit: str
    points: tuple[Point, ...]


def series_of(plans: Iterable[Plan]) -> tuple[Series, ...]:
    """The series of plans of one model, oldest first; those of the same options belong together.

    A model changes under its name from one export to the next: that is what a series shows.
    """
    found: dict[tuple[object, ...], list[Plan]] = {}
    for plan in plans:
        found.setdefault(_options(plan), []).append(plan)
    return tuple(
        Series(_name(group[0]), group[0].unit, tuple(_points(group))) for group in found.values()
    )


def _options(plan: Plan) -> tuple[object, ...]:
    # By name: a device's costs that were learned anew are still that device's.
    limits = plan.texture_limits, plan.buffer_limit, tuple(plan.excluded_layouts)
    return plan.profile_name, plan.costs_name, plan.objective, plan.unit, *limits


def _name(plan: Plan) -> str:
    parts = [plan.costs_name, plan.objective]
    if plan.excluded_layouts:
        parts.append(f"without {len(plan.excluded_layouts)} layouts")
    return ", ".join(parts)


def _points(plans: list[Plan]) -> Iterable[Point]:
    last: float | None = None
    for plan in plans:
        cost = plan.repack_cost
        worse = last is not None and cost > last * (1 + TOLERANCE)
        yield Point(plan.id, plan.created, plan.baseline_repack_cost, cost, worse)
        last = cost
