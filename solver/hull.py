"""The corners of trade-offs: assignments that are the best by some weighted sum of two criteria.

They are the convex hull of all that can be had: no assignment lies below the lines between them.
What else may lie above, and be worth having, only ``pareto`` finds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from solver.problem import Problem
from solver.sums import WIDEST, Amounts, Pair, WeightedSums, between, weigh


def corners(
    problem: Problem, amounts: Sequence[Amounts], assignment: Sequence[int]
) -> list[tuple[Pair, ...]]:
    """For each of the amounts, the pairs of cost and amount at the corners, the cheapest first.

    Costs are those of the first level; the assignment has to be the best by it. Amounts are factors
    with costs of one level, none of them negative or forbidden. Where numbers are too large to be
    weighed to the last digit, a corner that is hardly one may be missing.

    Raises ``TooDenseError`` where elimination leaves a core.
    """
    sums = WeightedSums(problem, amounts)
    cost, *own = sums.of(assignment)
    least = sums.best([(level, (0, 1)) for level in range(1, 1 + len(amounts))])
    found = [{(cost, amount), end} for amount, end in zip(own, least, strict=True)]
    edges = [
        (level, (cost, amount), end)
        for level, (amount, end) in enumerate(zip(own, least, strict=True), 1)
    ]
    while edges:
        weighed = [
            (edge, weights)
            for edge in edges
            if edge[1][1] > edge[2][1]
            and (weights := between(edge[1], edge[2], *sums.extent(edge[0]), WIDEST))
        ]
        best = sums.best([(level, weights) for (level, _, _), weights in weighed])
        edges = []
        for ((level, first, last), weights), pair in zip(weighed, best, strict=True):
            if weigh(pair, weights) < min(weigh(first, weights), weigh(last, weights)):
                found[level - 1].add(pair)
                edges += [(level, first, pair), (level, pair, last)]
    return [tuple(_unbeaten(pairs)) for pairs in found]


def _unbeaten(pairs: Iterable[Pair]) -> Iterable[Pair]:
    """Those to which no other is as good in both, by rising cost."""
    ordered = sorted(pairs)
    yield ordered[0]
    least = ordered[0][1]
    for _, pair in pairwise(ordered):
        if pair[1] < least:
            least = pair[1]
            yield pair
