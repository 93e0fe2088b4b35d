"""Whether one plan is faster than another, from runs that were taken in turn.

A device's speed drifts, so plans are run in blocks: each plan once, in random order. What is
compared are the two times of a block. The interval of the median of these ratios is exact for any
distribution of noise (order statistics), and not a formula for one that devices do not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Gain:
    """How many times faster a plan is than another: the median, and its interval.

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
    from scipy.stats import quantile_test

    ratios = [log(a / b) for a, b in zip(before, after, strict=True)]
    interval: Any = quantile_test(ratios).confidence_interval(confidence)
    low, high = float(interval.low), float(interval.high)
    return Gain(
        exp(float(np.median(ratios))),
        0.0 if np.isnan(low) else exp(low),
        float("inf") if np.isnan(high) else exp(high),
    )
