"""What fewer repacks of a planned program, or less memory at once, cost: as a document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import Any

from planner.costs.model import CostModel
from planner.costs.profile import DeviceProfile
from planner.optimise.plan import SEARCH_SECONDS
from planner.optimise.tradeoff import Criterion, Tradeoff, TradeoffPoint, copied_bytes, tradeoff
from planner.result.program import DelegateResult
from planner.result.report import to_document, to_number
from schema import PlannedProgram
from schema.frozen import frozen
from solver import ParetoPoint
from solver.fronts import marked


@frozen
class PointReport:
    """Plans that no others beat, both in cost and in what the cost is traded for."""

    objective_cost: float
    extra: float
    """What it costs more than the cheapest."""
    transitions: int
    copied_bytes: int
    """Bytes that the copies of its transitions take in memory."""
    peak_memory_bytes: int
    """The most bytes that are alive at once; of several delegates, in the one that has most."""
    is_supported: bool
    """Whether it is the best by some weighted sum of the two."""
    is_followed: bool
    """False if there may be points after it, and before the next one, that were not found."""
    is_proven: bool
    """Whether no plan beats it in both; else one that was not found in time might."""


@frozen
class DelegateTradeoff:
    """The trade-off of one delegate."""

    index: int
    name: str
    is_known: bool
    """False for a graph that is connected too densely: it has nothing but its plan then."""
    points: tuple[PointReport, ...]


@frozen
class TradeoffReport:
    """What the objective costs for less of a criterion, the cheapest point first."""

    criterion: str
    """``transitions``, ``bytes`` or ``memory``."""
    is_complete: bool
    """Whether every point was found, and is proven."""
    points: tuple[PointReport, ...]
    """Of the whole program: of each delegate one of its points."""
    delegates: tuple[DelegateTradeoff, ...]


@frozen
class Tradeoffs:
    """The trade-offs of a planned program. Costs are in ``unit``."""

    source: str
    objective: str
    unit: str
    tradeoffs: tuple[TradeoffReport, ...]

    def document(self) -> dict[str, Any]:
        """The trade-offs as a JSON document."""
        found: dict[str, Any] = to_document(self)
        return found


@frozen
class Sum:
    """Costs in integer steps, and the criteria, of plans for some of the delegates.

    Delegates do not run at once: the peak of several is the highest.
    """

    cost: int
    transitions: int
    copied_bytes: int
    peak_bytes: int

    @classmethod
    def of(cls, result: DelegateResult, point: TradeoffPoint) -> Sum:
        """Those of a delegate's point."""
        plan = point.plan
        copied = copied_bytes(result.graph, plan)
        return cls(plan.cost, len(plan.transitions), copied, plan.peak_bytes)

    def amount(self, criterion: Criterion) -> int:
        """What there is of a criterion."""
        amounts = {
            "transitions": self.transitions,
            "bytes": self.copied_bytes,
            "memory": self.peak_bytes,
        }
        return amounts[criterion]

    def __add__(self, other: Sum) -> Sum:
        return Sum(
            self.cost + other.cost,
            self.transitions + other.transitions,
            self.copied_bytes + other.copied_bytes,
            max(self.peak_bytes, other.peak_bytes),
        )


def trade_off(
    program: PlannedProgram,
    delegates: Sequence[DelegateResult],
    costs: CostModel,
    profile: DeviceProfile,
    criteria: Iterable[Criterion],
    search_seconds: float = SEARCH_SECONDS,
) -> Tradeoffs:
    """The trade-offs of a planned program with each of the criteria.

    ``costs`` are those that it was planned by, and ``profile`` has their unit. A search for points
    that elimination does not find ends after ``search_seconds``, for all of a criterion.
    """
    found = []
    for criterion in criteria:
        deadline = perf_counter() + search_seconds
        # Delegates that are the same share their plan.
        known: dict[int, Tradeoff] = {}
        for result in delegates:
            key = id(result.layout_plan)
            if key not in known:
                left = deadline - perf_counter()
                known[key] = tradeoff(result.graph, result.layout_plan, costs, criterion, left)
        every = [known[id(result.layout_plan)] for result in delegates]
        found.append(_report(criterion, delegates, every, profile))
    return Tradeoffs(program.source_name, program.objective, profile.unit, tuple(found))


def _report(
    criterion: Criterion,
    delegates: Sequence[DelegateResult],
    every: Sequence[Tradeoff],
    profile: DeviceProfile,
) -> TradeoffReport:
    reports, parts = [], []
    for result, found in zip(delegates, every, strict=True):
        sums = [Sum.of(result, point) for point in found.points]
        supported = [point.supported for point in found.points]
        followed = [number not in found.gaps for number in range(len(sums))]
        points = _points(sums, supported, followed, [found.is_proven] * len(sums), profile)
        reports.append(
            DelegateTradeoff(result.plan.index, result.plan.name, found.is_known, points)
        )
        parts.append(sums)
    total = unbeaten(parts, criterion)
    is_complete = all(found.is_known and not found.gaps for found in every)
    # A point of one delegate that was not found may beat sums of others, but for the cheapest.
    first = all(found.is_proven for found in every)
    proven = [first, *[is_complete or (first and len(every) == 1)] * (len(total) - 1)]
    is_last = all(found.is_known and len(found.points) - 1 not in found.gaps for found in every)
    followed = [*[is_complete] * (len(total) - 1), is_last]
    points = _points(total, _supported(total, criterion), followed, proven, profile)
    return TradeoffReport(criterion, is_complete, points, tuple(reports))


def unbeaten(parts: Iterable[Sequence[Sum]], criterion: Criterion) -> list[Sum]:
    """The sums of one of each part that no others beat, by rising cost."""
    total = [Sum(0, 0, 0, 0)]
    for part in parts:
        every = [one + another for one in total for another in part]
        total = []
        for found in sorted(every, key=lambda found: (found.cost, found.amount(criterion))):
            if not total or found.amount(criterion) < total[-1].amount(criterion):
                total.append(found)
    return total


def _supported(sums: Sequence[Sum], criterion: Criterion) -> list[bool]:
    """Which of the points are on the convex hull of all."""
    points = [ParetoPoint((), one.cost, one.amount(criterion)) for one in sums]
    return [point.supported for point in marked(points)]


def _points(
    sums: Sequence[Sum],
    supported: Sequence[bool],
    followed: Sequence[bool],
    proven: Sequence[bool],
    profile: DeviceProfile,
) -> tuple[PointReport, ...]:
    def number(steps: int) -> float:
        return to_number(profile.in_units(steps), profile.unit)

    return tuple(
        PointReport(
            number(one.cost),
            number(one.cost - sums[0].cost),
            one.transitions,
            one.copied_bytes,
            one.peak_bytes,
            is_supported,
            is_followed,
            is_proven,
        )
        for one, is_supported, is_followed, is_proven in zip(
            sums, supported, followed, proven, strict=True
        )
    )
