"""Times that were measured elsewhere: what is believed, and what is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf, nan, prod
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu.claims import (
    REPLAYED,
    Claim,
    ClaimError,
    Measured,
    check_claim,
    check_fit,
    check_replays,
    left_out,
    replayed,
)
from gpu.fitting import Calibration, fit_profile
from gpu.probes import SWEEPS, digest, pattern, probes, references, scalar
from planner.costs.profile import Measurement, pair_key
from planner.costs.profile_file import parse_profile
from tests.gpu.claimed import LIMITS, claim, measured

SWEEP: Final = SWEEPS["quick"]
SEED: Final = 0xC0FFEE
HONEST: Final = claim(SWEEP, SEED)
FITTED: Final = Measurement("a GPU", "a driver", "WebGPU", "2026-01-31", {"left_out": 0.0})

Change = Callable[[Measured], Measured]


def fitted(of: Claim) -> Calibration:
    return fit_profile(SWEEP, check_claim(SWEEP, of, SEED), "mine", "", FITTED)


def changed(change: Change, *numbers: int) -> Claim:
    """The honest claim with every probe of some shapes changed, or of all."""
    shapes = {
        number: tuple(map(change, found)) if not numbers or number in numbers else found
        for number, found in HONEST.measured.items()
    }
    return replace(HONEST, measured=shapes)


def first_changed(**fields: Any) -> Claim:
    """The honest claim with one probe changed."""
    first, *rest = HONEST.measured[1]
    return replace(HONEST, measured={**HONEST.measured, 1: (replace(first, **fields), *rest)})


def test_what_is_honest_becomes_a_profile_with_its_fit() -> None:
    made = fitted(HONEST)
    check_fit(made)
    assert made.median_error < 0.1
    assert left_out(SWEEP, HONEST) == 0
    assert parse_profile(made.profile.to_json(), "here").digest == made.profile.digest
    fit = made.profile.measured and made.profile.measured.fit
    assert fit and fit["left_out"] == 0 and fit["samples"] == 50 * len(SWEEP.fitted)
    # What it was made with: 5 µs and 100 GB/s.
    source, target = (probes(SWEEP.shapes[0])[0].source, probes(SWEEP.shapes[0])[0].target)
    curve = made.profile.transition.curves[pair_key(source.representation, target.representation)]
    assert curve[-1][1] == pytest.approx(5000 + curve[-1][0] / 100, rel=0.2)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (first_changed(digest="0" * 64), "wrong bytes"),
        (first_changed(digest=None), "wrong bytes"),
        (first_changed(ns=(0.001,) * 5), "no device does"),
        (first_changed(ns=(5000.0, nan, 5000.0)), "no time"),
        (first_changed(ns=(5000.0, -5000.0, 5000.0)), "no time"),
        (first_changed(ns=(inf,) * 5), "no time"),
        (first_changed(ns=(5000.0,)), "has 1 batches"),
        (first_changed(count=0), "batches of 0"),
        (first_changed(key="buffer:4W>x"), "not in the sweep"),
        (first_changed(key=HONEST.measured[1][1].key), "twice"),
        (replace(HONEST, measured={**HONEST.measured, 99: ()}), "not in the sweep quick"),
        (replace(HONEST, measured={0: HONEST.measured[0]}), "too few"),
        (replace(HONEST, limits={**LIMITS, "max_texture_dimension_3d": 4}), "beyond the limits"),
        (replace(HONEST, limits={**LIMITS, "max_buffer_size": 2**10}), "beyond the limits"),
        (replace(HONEST, resolution_ns=1e6), "too short for a clock"),
        (changed(lambda m: replace(m, ns=tuple(t * 9**n for n, t in enumerate(m.ns)))), "differ"),
        (changed(lambda m: replace(m, ns=tuple(t / 20 for t in m.ns)), 3), "less time than"),
    ],
)
def test_what_cannot_be_is_refused(wrong: Claim, said: str) -> None:
    with pytest.raises(ClaimError, match=said):
        check_claim(SWEEP, wrong, SEED)


def test_bytes_of_another_seed_are_refused() -> None:
    with pytest.raises(ClaimError, match="wrong bytes"):
        check_claim(SWEEP, HONEST, SEED + 1)


def test_times_that_follow_no_curve_are_refused() -> None:
    rng = np.random.default_rng(1)

    def slower(each: Measured) -> Measured:
        factor = 3 ** rng.uniform(-1, 1)
        return replace(each, ns=tuple(t * factor for t in each.ns))

    made = fitted(changed(slower, 4, 5))
    check_fit(made)
    with pytest.raises(ClaimError, match="follow no curve"):
        check_fit(replace(made, residuals={"float repack": np.array([1.2, 2.0, 1.1])}))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_made_up_times_are_refused(seed: int) -> None:
    """Times between 1 µs and 10 ms that know nothing of bytes, even with the right bytes left."""
    rng = np.random.default_rng(seed)
    made_up = changed(lambda m: replace(m, ns=tuple(10 ** rng.uniform(3, 7, 5))))
    with pytest.raises(ClaimError):
        check_fit(fitted(made_up))


def test_what_is_left_out_is_counted() -> None:
    without = tuple(each for each in HONEST.measured[0] if "texture" not in each.key)
    fewer = replace(HONEST, measured={**HONEST.measured, 0: without})
    assert left_out(SWEEP, fewer) == len(HONEST.measured[0]) - len(without) > 0
    assert fitted(fewer).profile.measured


def test_replays() -> None:
    wanted = replayed(SWEEP, HONEST, 7)
    assert len(set(wanted)) == REPLAYED
    assert wanted != replayed(SWEEP, HONEST, 8)
    again = {
        number: measured(SWEEP, number, 7, frozenset(key for n, key in wanted if n == number))
        for number, _ in wanted
    }
    check_replays(SWEEP, HONEST, wanted, again, 7)
    with pytest.raises(ClaimError, match="wrong bytes"):
        check_replays(SWEEP, HONEST, wanted, again, 8)
    with pytest.raises(ClaimError, match="not what was asked for"):
        check_replays(SWEEP, HONEST, wanted[1:], again, 7)

    def slowed(factor: float) -> dict[int, tuple[Measured, ...]]:
        return {
            number: tuple(replace(m, ns=tuple(t * factor for t in m.ns)) for m in found)
            for number, found in again.items()
        }

    check_replays(SWEEP, HONEST, wanted, slowed(2), 7)
    with pytest.raises(ClaimError, match="did not come again"):
        check_replays(SWEEP, HONEST, wanted, slowed(10), 7)


@given(st.integers(0, 2**32 - 1), st.integers(1, 999))
def test_the_pattern_starts_alike_and_is_another_with_another_seed(seed: int, count: int) -> None:
    words = pattern(seed, count)
    assert (words == pattern(seed, 1000)[:count]).all()
    assert count < 3 or (words != pattern(seed + 1 & 0xFFFFFFFF, count)).any()
    assert 0 < scalar(words) < 256


def test_the_references_of_a_shape() -> None:
    shape = (1, 4, 4, 4)
    words = pattern(SEED, prod(shape))
    right = references(shape, words)
    repacks = {probe.target for probe in probes(shape) if probe.kind == "repack"}
    assert {target for kind, target in right if kind == "repack"} == repacks
    # Rows of whole units, as they lie in a contiguous buffer.
    (flat,) = (t for t in repacks if str(t.representation) == "buffer:WIDTH_PACKED")
    assert digest(right["repack", flat]) == digest(words.view(np.uint8))
    assert set(right["write", flat]) == {scalar(words)}
