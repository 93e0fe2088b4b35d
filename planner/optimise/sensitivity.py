"""How far prices may change before another plan is better, and which of them should be measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction
from itertools import groupby
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from planner.costs.model import CostModel, PricedOperand, UncertainCosts
from planner.ir.graph import LayoutGraph, Operator
from planner.ir.representation import REPRS, TensorRepr
from planner.optimise.plan import LayoutPlan
from planner.optimise.slots import Slot
from schema.frozen import frozen
from solver import FORBIDDEN, CostTable, SharedCopies, Status, TooDenseError, steadiness

_NOTHING: Final = Fraction(-1)
"""The change of a price that falls to nothing."""

K = TypeVar("K")
Amounts = list[CostTable | SharedCopies]
Range = tuple[Fraction, Fraction]


@frozen
class Price:
    """What some choices of a plan cost together: repacks of a pair, an operator, or launches.

    ``source`` and ``target`` are those of repacks; ``operator`` runs in ``source``; without any of
    them it is what every transition costs to launch.
    """

    operator: str | None = None
    source: TensorRepr | None = None
    target: TensorRepr | None = None

    @property
    def is_launch(self) -> bool:
        """Whether it is the launch of every transition."""
        return self.source is None


@frozen
class Sensitivity:
    """How much a price may change while the plan stays the best.

    ``low`` and ``high`` are parts of the price (of a launch: integer steps for each transition);
    None where any fall or rise leaves the plan as it is. ``paid`` is what the plan pays (of
    launches: how many), in integer steps. ``range_low`` and ``range_high`` are how far the price
    may be from the truth, as the costs have it, in the same parts; None where they do not say.
    """

    price: Price
    paid: int
    low: Fraction | None
    high: Fraction | None
    is_exact: bool
    range_low: Fraction | None = None
    range_high: Fraction | None = None

    @property
    def settles(self) -> bool:
        """Whether measuring the price would settle the plan: an end is within its range."""
        below = self.low is not None and self.range_low is not None and self.range_low < self.low
        above = (
            self.high is not None and self.range_high is not None and self.range_high > self.high
        )
        return below or above


def sensitivities(graph: LayoutGraph, plan: LayoutPlan, costs: CostModel) -> Iterator[Sensitivity]:
    """Each price of the ``costs`` that plans of a graph can pay, the launch of transitions first.

    Raises ``TooDenseError`` for a graph that is connected too densely to find out.
    """
    problem, assignment = plan.layout.problem, plan.solution.assignment
    if plan.status is not Status.OPTIMAL:
        raise TooDenseError("the plan is not proven, so that nothing is known of its prices")
    copies = [factor for factor in problem.factors if isinstance(factor, SharedCopies)]
    asked: list[tuple[Price, int, Range | None]] = []
    prices: list[tuple[Amounts, Fraction]] = []
    ones, cheapest = _launches(copies)
    if ones:
        asked.append((Price(), len(plan.transitions), None))
        prices.append((ones, Fraction(-cheapest)))
    ranges = _Ranges(graph, plan, costs)
    for (source, target), amounts in sorted(_pairs(plan, copies).items()):
        pair = REPRS[source], REPRS[target]
        paid = sum(t.cost for t in plan.transitions if (t.source, t.target) == pair)
        asked.append((Price(None, *pair), paid, ranges.pairs.get((source, target))))
        prices.append((amounts, _NOTHING))
    for (operator, label), amounts in sorted(_operators(graph, plan, costs).items()):
        paid = sum(_entry(plan, table) for table in amounts if isinstance(table, CostTable))
        known = ranges.operators.get((operator, label))
        asked.append((Price(operator, REPRS[label]), paid, known))
        prices.append((amounts, _NOTHING))
    for (price, paid, known), found in zip(
        asked, steadiness(problem, prices, assignment), strict=True
    ):
        low, high = known or (None, None)
        yield Sensitivity(price, paid, found.low, found.high, found.is_exact, low, high)


def _launches(copies: list[SharedCopies]) -> tuple[Amounts, int]:
    """A step for each copy, and the price of the cheapest: so far a launch may fall."""
    amounts: Amounts = []
    made: dict[int, NDArray[np.int64]] = {}
    cheapest = FORBIDDEN
    for factor in copies:
        key = id(factor.prices)
        if key not in made:
            finite = factor.prices[0] < FORBIDDEN
            np.fill_diagonal(finite, False)
            made[key] = finite.astype(np.int64)[None]
            cheapest = min(cheapest, int(factor.prices[0][finite].min(initial=FORBIDDEN)))
        amounts.append(SharedCopies(factor.source, factor.users, made[key]))
    return amounts, cheapest


def _pairs(plan: LayoutPlan, copies: list[SharedCopies]) -> dict[tuple[int, int], Amounts]:
    """The prices of copies for each pair of labels that some copy can have."""
    variables = plan.layout.problem.variables
    found: dict[tuple[int, int], Amounts] = defaultdict(list)
    made: dict[tuple[int, int, int], NDArray[np.int64]] = {}
    for factor in copies:
        needed = {label for user in factor.users for label in variables[user].domain}
        for source in variables[factor.source].domain:
            for target in needed - {source}:
                price = int(factor.prices[0, source, target])
                if not 0 < price < FORBIDDEN:
                    continue
                key = id(factor.prices), source, target
                if key not in made:
                    made[key] = np.zeros_like(factor.prices[:1])
                    made[key][0, source, target] = price
                found[source, target].append(SharedCopies(factor.source, factor.users, made[key]))
    return found


def _operators(
    graph: LayoutGraph, plan: LayoutPlan, costs: CostModel
) -> dict[tuple[str, int], Amounts]:
    """The costs of each kind of operator, for each label of its first operand that counts."""
    variables = plan.layout.problem.variables
    found: dict[tuple[str, int], Amounts] = defaultdict(list)
    for operator, slots, operands in _priced(graph, plan):
        for scope, table in costs.operator(operator, graph.tensors, operands):
            if len(np.unique(table)) == 1:
                continue  # It costs the same in every plan.
            on = tuple(slots[i].variable for i in scope)
            for position, label in enumerate(variables[on[0]].domain):
                part = np.zeros((1, *table.shape), np.int64)
                part[0, position] = table[position]
                found[operator.name, label].append(CostTable(on, part))
    return found


def _priced(
    graph: LayoutGraph, plan: LayoutPlan
) -> Iterator[tuple[Operator, list[Slot], list[PricedOperand]]]:
    """The operators of a plan that can cost something, with their operands."""
    variables = plan.layout.problem.variables
    for index, group in groupby(plan.layout.slots, key=lambda slot: slot.operator):
        if index not in graph.pinned:
            slots = list(group)
            operands = [slot.priced(variables[slot.variable].domain) for slot in slots]
            yield graph.operators[index], slots, operands


def _entry(plan: LayoutPlan, table: CostTable) -> int:
    """What a plan pays by a table of one level."""
    costs = table.costs[0]
    for v in reversed(table.scope):
        domain = plan.layout.problem.variables[v].domain
        costs = costs[..., domain.index(plan.solution.assignment[v])]
    return int(costs)


class _Ranges:
    """How far prices may be from the truth, as parts of them: those of what is least certain."""

    def __init__(self, graph: LayoutGraph, plan: LayoutPlan, costs: CostModel) -> None:
        self._graph, self._plan, self._costs = graph, plan, costs
        self.pairs: dict[tuple[int, int], Range] = {}
        self.operators: dict[tuple[str, int], Range] = {}
        if isinstance(costs, UncertainCosts):
            self._add_pairs(costs)
            self._add_operators(costs)

    def _add_pairs(self, costs: UncertainCosts) -> None:
        layout = self._plan.layout
        domains = [variable.domain for variable in layout.problem.variables]
        for t, producer in enumerate(layout.producers):
            if producer is None:
                continue
            tensor = self._graph.tensors[t]
            prices = self._costs.transition(tensor.shape, tensor.dtype)
            low, high = costs.transition_range(tensor.shape, tensor.dtype)
            needed = {label for slot in layout.readers[t] for label in domains[slot.variable]}
            for source in domains[producer]:
                for target in needed - {source}:
                    ends = (table[source, target] for table in (low, prices, high))
                    _widen(self.pairs, (source, target), *ends)

    def _add_operators(self, costs: UncertainCosts) -> None:
        tensors = self._graph.tensors
        for operator, _, operands in _priced(self._graph, self._plan):
            ranges = costs.operator_range(operator, tensors, operands)
            tables = self._costs.operator(operator, tensors, operands)
            for (scope, prices), (low, high) in zip(tables, ranges, strict=True):
                for position, label in enumerate(operands[scope[0]].domain):
                    rows = (table[position].ravel().tolist() for table in (low, prices, high))
                    for ends in zip(*rows, strict=True):
                        _widen(self.operators, (operator.name, label), *ends)


def _widen(ranges: dict[K, Range], key: K, low: int, price: int, high: int) -> None:
    """Widens the range of a key by that of one price."""
    if not 0 < price < FORBIDDEN:
        return
    below, above = Fraction(int(low), int(price)) - 1, Fraction(int(high), int(price)) - 1
    known = ranges.get(key, (below, above))
    ranges[key] = min(known[0], below), max(known[1], above)
