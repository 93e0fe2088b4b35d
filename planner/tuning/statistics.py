"""Whether one plan is faster than another, from runs that were taken in turn.

A device's speed drifts, so plans are run in blocks: each plan once, in random order. What is
compared are the two times of a block. As the order is random, what disturbs both plans alike puts
their ratio above the gain as often as below, by as much. The interval is the one that is exact for
that, whatever the distribution is: Wilcoxon's signed-rank test turned round (Hodges and Lehmann
1963). It needs fewer blocks than order statistics, which would be exact for more.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import exp

import numpy as np
from numpy.typing import NDArray

from schema.frozen import frozen


@frozen
class Gain:
    """How many times faster a plan is than another: the likeliest, and its interval.

    ``median`` is that of the means of any two blocks, which a few bad blocks do not move.

    At the interval's confidence the gain is between ``low`` and ``high``: ``low`` is 0 and
    ``high`` infinite where there are too few blocks to say.
    """

    median: float
    low: float
    high: float

    @property
    def is_faster(self) -> bool:
        """Whether the plan is faster, beyond noise."""
        return self.low > 1

    @property
    def is_slower(self) -> bool:
        """Whether the plan is slower, beyond noise."""
        return self.high < 1


def gain_of(before: Sequence[float], after: Sequence[float], confidence: float) -> Gain:
    """The gain between two plans, by their times in the same blocks: at least one."""
    ratios = np.log(before) - np.log(after)
    first, second = np.triu_indices(len(ratios))
    means = np.sort((ratios[first] + ratios[second]) / 2)
    outside = int(np.searchsorted(_chances(len(ratios)), (1 - confidence) / 2, side="right"))
    if not outside:
        return Gain(exp(float(np.median(means))), 0.0, float("inf"))
    low, middle, high = means[outside - 1], np.median(means), means[-outside]
    return Gain(exp(middle), exp(low), exp(high))


@cache
def _chances(blocks: int) -> NDArray[np.float64]:
    """For each number of means of two blocks, the chance that so few at most are below the gain."""
    ways = np.zeros(blocks * (blocks + 1) // 2 + 1)
    ways[0] = 1.0
    for rank in range(1, blocks + 1):
        ways[rank:] += ways[:-rank].copy()
        ways /= 2
    return np.cumsum(ways)
