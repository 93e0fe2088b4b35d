"""How far the prices of a planned program may change, as a document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from planner.costs.model import CostModel
from planner.costs.profile import DeviceProfile
from planner.optimise.sensitivity import Price, Sensitivity, sensitivities
from planner.result.program import DelegateResult
from planner.result.report import to_document, to_number
from schema import PlannedProgram
from schema.frozen import frozen
from solver import TooDenseError


@frozen
class PriceReport:
    """How far a price may change before another plan is better.

    ``fall`` and ``rise`` are parts of the price; of a launch they are in the unit of the costs, for
    each transition. At an end another plan is as good. Null: any fall, or rise, changes nothing.
    """

    kind: str
    """``launch``, ``repack`` or ``operator``."""
    name: str
    """As ``texture:WIDTH_PACKED -> buffer:WIDTH_PACKED``; of an operator with its first operand."""
    paid: float
    """What the plan pays by it; of a launch, how many transitions pay it."""
    fall: float | None
    rise: float | None
    is_exact: bool
    """False where the numbers are too large to be weighed: another plan may win a little before."""
    uncertain_fall: float | None
    """How far the price may be below what is planned with; null where the costs do not say."""
    uncertain_rise: float | None
    settles: bool
    """Whether measuring the price would settle the plan: an end is within what is uncertain."""


@frozen
class SensitivityReport:
    """How far the prices of a planned program may change. Costs are in ``unit``.

    Those that would settle the plan come first, then those with the nearest ends.
    """

    source: str
    objective: str
    unit: str
    prices: tuple[PriceReport, ...]
    unknown: tuple[str, ...]
    """Delegates of which nothing is known: they are connected too densely, or not proven."""

    def document(self) -> dict[str, Any]:
        """The report as a JSON document."""
        found: dict[str, Any] = to_document(self)
        return found


def sensitivity(
    program: PlannedProgram,
    delegates: Sequence[DelegateResult],
    costs: CostModel,
    profile: DeviceProfile,
) -> SensitivityReport:
    """How far each price of a planned program may change; ``costs`` are those that it is of.

    A price is the same in all delegates, and the first of them that would change ends its range.
    """
    by_price: dict[Price, Sensitivity] = {}
    known: dict[int, list[Sensitivity]] = {}
    unknown = []
    for result in delegates:
        key = id(result.layout_plan)
        try:
            if key not in known:
                known[key] = list(sensitivities(result.graph, result.layout_plan, costs))
        except TooDenseError:
            known[key] = []
            unknown.append(result.plan.name)
        for found in known[key]:
            price = found.price
            by_price[price] = _both(by_price[price], found) if price in by_price else found
    every = sorted(by_price.values(), key=_nearest)
    return SensitivityReport(
        program.source_name,
        program.objective,
        profile.unit,
        tuple(_report(found, profile) for found in every),
        tuple(unknown),
    )


def _both(one: Sensitivity, other: Sensitivity) -> Sensitivity:
    """What holds in two delegates."""
    return Sensitivity(
        one.price,
        one.paid + other.paid,
        _end(max, one.low, other.low),
        _end(min, one.high, other.high),
        one.is_exact and other.is_exact,
        _end(min, one.range_low, other.range_low),
        _end(max, one.range_high, other.range_high),
    )


def _end(choose: Callable[[list[Fraction]], Fraction], *ends: Fraction | None) -> Fraction | None:
    known = [end for end in ends if end is not None]
    return choose(known) if known else None


def _nearest(found: Sensitivity) -> tuple[bool, bool, Fraction, str]:
    """What settles the plan first, then the launch, then by how near an end is."""
    ends = [abs(end) for end in (found.low, found.high) if end is not None]
    nearest = min(ends) if ends else Fraction(10**12)
    return not found.settles, not found.price.is_launch, nearest, _name(found.price)


def _name(price: Price) -> str:
    if price.is_launch:
        return "launch of a transition"
    if price.operator is not None:
        return f"{price.operator} in {price.source}"
    return f"{price.source} -> {price.target}"


def _report(found: Sensitivity, profile: DeviceProfile) -> PriceReport:
    price = found.price

    def change(end: Fraction | None) -> float | None:
        if end is None:
            return None
        return float(end) / profile.precision if price.is_launch else float(end)

    kind = "launch" if price.is_launch else "repack" if price.operator is None else "operator"
    paid = found.paid if price.is_launch else to_number(profile.in_units(found.paid), profile.unit)
    return PriceReport(
        kind,
        _name(price),
        paid,
        change(found.low),
        change(found.high),
        found.is_exact,
        change(found.range_low),
        change(found.range_high),
        found.settles,
    )
