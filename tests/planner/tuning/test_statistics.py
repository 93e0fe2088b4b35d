"""Whether a plan is faster: what intervals say of noise, and of gains."""

from __future__ import annotations

import numpy as np
import pytest

from planner.tuning.statistics import gain_of

BLOCKS, TRIALS, CONFIDENCE = 9, 2000, 0.95


def trials(gain: float, noise: str) -> tuple[float, float, float]:
    """Parts of the trials whose interval has the gain, and whose plan is faster, or slower."""
    random = np.random.default_rng(0)
    covered = faster = slower = 0
    for _ in range(TRIALS):
        # A device that slows down by a third while it is measured, and now and then much more.
        drift = np.cumsum(random.uniform(0, 0.07, BLOCKS))
        draw = random.standard_normal if noise == "normal" else random.standard_cauchy
        before, after = np.exp(drift + 0.02 * draw((2, BLOCKS)))
        found = gain_of(list(before * gain), list(after), CONFIDENCE)
        covered += found.low <= gain <= found.high
        faster, slower = faster + found.is_faster, slower + found.is_slower
    return covered / TRIALS, faster / TRIALS, slower / TRIALS


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["normal", "with outliers"])
def test_intervals_have_the_gain_as_often_as_they_say(noise: str) -> None:
    covered, faster, slower = trials(1.0, noise)
    assert covered >= CONFIDENCE - 0.01
    assert faster <= 0.03 and slower <= 0.03
    covered, faster, slower = trials(1.1, noise)
    assert covered >= CONFIDENCE - 0.01
    assert faster > (0.9 if noise == "normal" else 0.5) and slower == 0


@pytest.mark.slow
def test_too_few_blocks_say_nothing() -> None:
    found = gain_of([2.0] * 5, [1.0] * 5, CONFIDENCE)
    assert (found.median, found.low, found.high) == (2.0, 0.0, float("inf"))
    assert not found.is_faster and not found.is_slower
    assert gain_of([2.0] * 6, [1.0] * 6, CONFIDENCE).is_faster
    assert gain_of([1.0] * 6, [2.0] * 6, CONFIDENCE).is_slower
