"""The costs of the transitions and operators in a written graph, counted again."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from planner.costs.by_profile import ProfileSource
from planner.costs.model import CostSource, Objective
from planner.costs.profile import Curve, DeviceProfile, rate
from planner.ir.representation import LABELS, TensorRepr
from planner.verify.layouts import memory_bytes
from planner.verify.operands import Demand
from planner.verify.program import Program
from schema import CostOrigin, VkTensor
from schema.frozen import frozen

if TYPE_CHECKING:
    from planner.measured.costs import MeasuredSource


@frozen
class Price:
    """A cost in whole steps of a profile's unit, and its origin."""

    steps: int
    origin: CostOrigin = CostOrigin.MODELLED


class Prices(Protocol):
    """Prices in whole steps of a profile's unit."""

    profile: DeviceProfile

    def repack(self, tensor: VkTensor, source: TensorRepr, target: TensorRepr) -> Price:
        """The price of repacking a tensor."""

    def operators(self, program: Program, demands: Iterable[Demand]) -> dict[int, Price]:
        """The prices of operators by position; empty if the objective does not count them."""


def prices_of(costs: CostSource, objective: Objective) -> Prices:
    """The prices of a cost source under an objective."""
    if isinstance(costs, ProfileSource):
        return ProfilePrices(costs.profile, objective)
    from planner.measured.costs import MeasuredSource

    if isinstance(costs, MeasuredSource):
        return LearnedPrices(costs, objective)
    return ProfilePrices(costs.profile, objective)


class ProfilePrices:
    """Prices by a device profile."""

    def __init__(self, profile: DeviceProfile, objective: Objective) -> None:
        self.profile = profile
        self.counts_access = objective == "latency" and profile.access is not None

    def repack(self, tensor: VkTensor, source: TensorRepr, target: TensorRepr) -> Price:
        """The price by the pair's curve; else launch, bytes read and bytes written."""
        rates, steps = self.profile.transition, self.profile.precision
        curve = _curve_of(rates.curves, source, target)
        if curve is not None:
            moved = memory_bytes(tensor, source) + memory_bytes(tensor, target)
            return Price(round(_cost_on(curve, moved) * steps))
        read = rate(rates.read, source) * steps * memory_bytes(tensor, source)
        written = rate(rates.write, target) * steps * memory_bytes(tensor, target)
        return Price(round(rates.launch * steps + read + written))

    def operators(self, program: Program, demands: Iterable[Demand]) -> dict[int, Price]:
        """The prices of the bytes that operators read and write in operands that they constrain."""
        if not self.counts_access:
            return {}
        return {
            demand.index: self.operator(program, demand)
            for demand in demands
            if any(not operand.constant for operand in demand.operands)
        }

    def operator(self, program: Program, demand: Demand) -> Price:
        """The price of an operator's accesses; 0 without access rates."""
        access, total = self.profile.access, 0
        for operand in demand.operands:
            if operand.constant or access is None:
                continue
            representation = program.representations[operand.tensors[0]]
            rates = access.write if operand.is_output else access.read
            size = sum(memory_bytes(program.tensor(t), representation) for t in operand.tensors)
            total += round(rate(rates, representation) * self.profile.precision * size)
        return Price(total)


class LearnedPrices:
    """Prices by measured times: each call is read from the written graph and looked up."""

    def __init__(self, source: MeasuredSource, objective: Objective) -> None:
        self.profile = source.profile
        self.costs = source.model(objective)
        self.counts_operators = objective == "latency"
        self.fallback = ProfilePrices(source.profile, objective)

    def repack(self, tensor: VkTensor, source: TensorRepr, target: TensorRepr) -> Price:
        """The measured or learned price of a transition."""
        labels = LABELS[source], LABELS[target]
        steps = int(self.costs.transition(tensor.dims, tensor.datatype)[labels])
        origin = self.costs.transition_origin(tensor.dims, tensor.datatype, *labels)
        return Price(steps, origin)

    def operators(self, program: Program, demands: Iterable[Demand]) -> dict[int, Price]:
        """The measured or learned prices; the profile's for operators that were never measured."""
        if not self.counts_operators:
            return {}
        from planner.measured.calls import calls_of

        calls = {call.position: call for call in calls_of(program.graph)}
        found = {}
        for demand in demands:
            if all(operand.constant for operand in demand.operands):
                continue
            call = calls[demand.index]
            learned = self.costs.call(call.call, call.operands)
            if learned is not None:
                found[demand.index] = Price(*learned)
            elif self.profile.access is not None:
                found[demand.index] = self.fallback.operator(program, demand)
        return found


def _curve_of(curves: Mapping[str, Curve], source: TensorRepr, target: TensorRepr) -> Curve | None:
    """The curve of a pair; layouts that are resolved at load time have stand-ins."""
    names = str(source), str(target)
    if (own := curves.get(">".join(names))) is not None:
        return own
    stand_in = "buffer:4C" if "buffer:4C1W" in names else "buffer:4C1W"
    return curves.get(">".join(stand_in if n == "buffer:CONV2D" else n for n in names))


def _cost_on(curve: Curve, moved: int) -> float:
    """The cost of moving ``moved`` bytes, on the line between the two knots around it."""
    right = bisect_right(curve, moved, key=lambda knot: knot[0])
    if right == 0:
        return curve[0][1]
    is_beyond = right == len(curve)
    (x0, y0), (x1, y1) = curve[-2:] if is_beyond else curve[right - 1 : right + 1]
    slope = (y1 - y0) / (x1 - x0)
    if is_beyond:
        return y1 + max(0.0, slope) * (moved - x1)
    return y0 + slope * (moved - x0)
