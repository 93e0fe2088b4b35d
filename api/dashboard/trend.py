"""A model's plans over time, and where they became worse."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from api.store.tables import Plan
from planner.kernels.releases import TARGET_NAMES

TOLERANCE: Final = 0.01
"""Part of a cost by which it may grow before that is called a regression."""


@dataclass(frozen=True, slots=True)
class Point:
    """A plan, in time; a regression costs more than the plan before it.

    ``before`` and ``after`` are costs of the objective that was minimised, of the baseline and of
    the plan; ``repack_cost`` is what the plan's transitions cost alone.
    """

    id: str
    created: datetime
    before: float
    after: float
    repack_cost: float
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
    names = Counter(_name(group[0]) for group in found.values())
    return tuple(
        Series(
            _name(group[0]) if names[_name(group[0])] == 1 else _full_name(group[0]),
            group[0].unit,
            tuple(_points(group)),
        )
        for group in found.values()
    )


def _options(plan: Plan) -> tuple[object, ...]:
    # By content: costs under other prices cannot be compared, whatever the prices are called.
    limits = plan.texture_limits, plan.buffer_limit, tuple(plan.excluded_layouts), _wanted(plan)
    costs = plan.profile_hash, plan.costs_hash, plan.objective
    return *costs, plan.runtime, plan.target, *limits


def _name(plan: Plan) -> str:
    parts = [plan.costs_name, plan.objective]
    if plan.excluded_layouts:
        parts.append(f"without {len(plan.excluded_layouts)} layouts")
    if plan.target != "vulkan":
        parts.append(f"for {TARGET_NAMES[plan.target]}")
    return ", ".join([*parts, *_wanted(plan)])


def _wanted(plan: Plan) -> tuple[str, ...]:
    """The limits that a plan was asked for with."""
    return () if plan.options is None else tuple(json.loads(plan.options).get("limits", ()))


def _full_name(plan: Plan) -> str:
    """A name that is not that of other prices or limits."""
    parts = [_name(plan), f"costs {plan.costs_hash[:8]}"]
    parts.append("textures " + ",".join(map(str, plan.texture_limits)))
    if plan.runtime:
        parts.append(f"ExecuTorch {plan.runtime}")
    if plan.buffer_limit is not None:
        parts.append(f"buffers < {plan.buffer_limit}")
    return ", ".join(parts)


def _points(plans: list[Plan]) -> Iterable[Point]:
    last: float | None = None
    for plan in plans:
        cost = plan.objective_cost
        yield Point(
            plan.id,
            plan.created,
            before=plan.baseline_objective_cost,
            after=cost,
            repack_cost=plan.repack_cost,
            is_regression=last is not None and cost > last * (1 + TOLERANCE),
        )
        last = cost
