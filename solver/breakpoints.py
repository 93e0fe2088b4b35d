"""How far prices may change before an assignment is no longer the best.

With a price that rises, the cost of an assignment rises by what it pays of it: its amount. It stays
the best until another that pays less costs as little. That is where a line through the two, in the
plane of costs and amounts, has no point below it. A few solutions find it: each takes the weight at
which the last one found would be as good (Newton's method, as Dinkelbach has it for ratios).

The solutions that all prices need next are found together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from solver.problem import Problem
from solver.solution import TooDenseError
from solver.sums import WIDEST, Amounts, Pair, WeightedSums, weigh

_TOGETHER = 64
"""Prices that are looked at together: each is a level of one problem."""


@dataclass(frozen=True, slots=True)
class Steadiness:
    """What may be added to the cost for each unit of an amount: from ``low`` to ``high``.

    Within that, the assignment is the best. At an end another is as good, and beyond it better;
    None where there is no end. Where numbers are too large to be weighed to the last digit
    (``is_exact`` is false), the assignment may be beaten a little before an end.
    """

    low: Fraction | None
    high: Fraction | None
    is_exact: bool


def steadiness(
    problem: Problem, prices: Sequence[tuple[Amounts, Fraction]], assignment: Sequence[int]
) -> Iterator[Steadiness]:
    """How much may be added to the first level for each unit of an amount, for each price alone.

    A price is its amounts, and the least that may be added. The assignment has to be the best by
    the first level. No amount is negative or forbidden. For each one of shared copies the problem
    has one with the same source and users, whose prices stay zero or more at the least; if it has
    several, amounts go with them in order.

    Raises ``ProblemError`` for other amounts, ``TooDenseError`` where elimination leaves a core.
    """
    for start in range(0, len(prices), _TOGETHER):
        yield from _Search(problem, prices[start : start + _TOGETHER], assignment).found()


@dataclass(frozen=True, slots=True)
class _Look:
    """An end of a price that is looked for; ``end`` is as near as it is known to be, if it is."""

    number: int
    rising: bool
    end: Fraction | None = None


class _Search:
    def __init__(
        self,
        problem: Problem,
        prices: Sequence[tuple[Amounts, Fraction]],
        assignment: Sequence[int],
    ) -> None:
        self._least = [least for _, least in prices]
        self._sums = WeightedSums(problem, [own for own, _ in prices], is_strict=True)
        cost, *amounts = self._sums.of(assignment)
        self._own = [(cost, amount) for amount in amounts]
        self._is_exact = [True] * len(prices)

    def found(self) -> Iterator[Steadiness]:
        """The ends of all prices, in their order."""
        ends: dict[tuple[int, bool], Fraction | None] = {}
        looks = []
        for number, (_, amount) in enumerate(self._own):
            looks.append(_Look(number, rising=False))
            if amount:
                looks.append(_Look(number, rising=True))
            else:
                # It pays nothing of the price, and nothing can pay less.
                ends[number, True] = None
        while looks:
            further = []
            for look, other, weights, is_exact in self._best(looks):
                number, own = look.number, self._own[look.number]
                if weigh(other, weights) < weigh(own, weights):
                    end = Fraction(other[0] - own[0], own[1] - other[1])
                    further.append(_Look(number, look.rising, end))
                else:
                    ends[number, look.rising] = look.end
                    self._is_exact[number] &= is_exact or look.end is None
            looks = further
        for number, is_exact in enumerate(self._is_exact):
            yield Steadiness(ends[number, False], ends[number, True], is_exact)

    def _best(self, looks: Sequence[_Look]) -> Iterator[tuple[_Look, Pair, Pair, bool]]:
        """For each look what is the best, by which weights, and whether these are exact."""
        weighed = [(look, *self._weights(look)) for look in looks]
        asked = [(1 + look.number, weights) for look, weights, _ in weighed]
        left = []
        for (look, weights, is_exact), bound in zip(weighed, self._sums.bounds(asked), strict=True):
            own = self._own[look.number]
            if bound >= weigh(own, weights):
                yield look, own, weights, is_exact
            else:
                left.append((look, weights, is_exact))
        best = self._sums.best([(1 + look.number, weights) for look, weights, _ in left])
        for (look, weights, is_exact), other in zip(left, best, strict=True):
            yield look, other, weights, is_exact

    def _weights(self, look: _Look) -> tuple[Pair, bool]:
        """Weights of cost and amount whose sums are exact: those of an end, or from before it.

        Where no end is known: those of the least, or of a price that is all that counts.
        """
        if look.end is None and look.rising:
            return (0, 1), True
        (of_cost, of_amount), (step, step_of_amount) = self._sums.extent(1 + look.number)
        end = self._least[look.number] if look.end is None else look.end
        in_steps = end * step_of_amount / step
        most = int(WIDEST / (of_cost + abs(in_steps) * of_amount + 1))
        if in_steps.denominator <= most:
            return (end.denominator, end.numerator), True
        if most < 1:
            raise TooDenseError("the costs are too large to be weighed")
        scaled = in_steps * most
        whole = scaled.__floor__() if look.rising else scaled.__ceil__()
        return (most * step_of_amount, whole * step), False
