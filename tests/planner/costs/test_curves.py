"""Profiles with measured curves: read, written, priced, and checked."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.costs.by_profile import ProfileCosts
from planner.costs.profile import DeviceProfile, Measurement
from planner.costs.profile_file import load_profile, parse_profile
from planner.errors import OptionError, VerificationError
from planner.ir.physical import fitting, padded_bytes
from planner.ir.representation import LABELS, REPRS, TensorRepr
from planner.verify.prices import ProfilePrices
from schema import VkDataType, VkTensor
from tests.planner.costs.curves import CONV2D, curved, document, pair
from tests.planner.verify.sketches import TEX_C, TEX_W, Case, float_chain

FLOAT, INT8 = VkDataType.FLOAT32, VkDataType.INT8
KEY = "texture:WIDTH_PACKED>buffer:HEIGHT_PACKED"
KNOTS = [[64, 1000], [128, 1500.5]]
MEASURED: dict[str, Any] = {
    "adapter": "A GPU",
    "driver": "7.1",
    "backend": "vulkan",
    "date": "2026-01-31",
    "fit": {"median_error": 0.02, "samples": 640.0},
}
BY_NAME = {str(r): r for r in REPRS}


def parse(fields: dict[str, Any]) -> DeviceProfile:
    return parse_profile(json.dumps(fields), "x")


def priced(profile: DeviceProfile, shape: tuple[int, ...], key: str, dtype: VkDataType) -> int:
    source, target = (LABELS[BY_NAME[name]] for name in key.split(">"))
    return int(ProfileCosts(profile, "repack").transition(shape, dtype)[source, target])


@pytest.mark.slow
@given(st.integers(0, 2**32))
def test_a_curved_profile_survives_its_own_json(seed: int) -> None:
    profile = replace(curved(seed), measured=Measurement(**MEASURED))
    again = parse_profile(profile.to_json(), "x")
    assert again == profile and again.digest == profile.digest
    assert json.loads(profile.to_json())["version"] == 2


def test_a_knot_takes_one_line() -> None:
    assert f'"{KEY}": [\n        [64, 1000.0],\n' in parse(document({KEY: KNOTS})).to_json()


def test_what_version_2_adds_may_be_left_out() -> None:
    bare = parse(document(name="default", origin="model"))
    assert bare == load_profile("default")
    assert bare.digest == load_profile("default").digest
    assert json.loads(bare.to_json())["version"] == 1


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("bytes", "244b9df93b0931d7f1b6e854ef85356c57967a8320c781cdcb614d0a0217401b"),
        ("default", "7c9baa73b1ad314437a469b057097d76ad8af1b585858d5f858ccc51e035c2f1"),
    ],
)
def test_digests_of_version_1_stay(name: str, digest: str) -> None:
    assert load_profile(name).digest == digest


def test_the_digest_knows_curves_and_measurement() -> None:
    digests = {
        parse(fields).digest
        for fields in (
            document(),
            document({KEY: KNOTS}),
            document({KEY: [KNOTS[0], [128, 1500.6]]}),
            document(measured=MEASURED),
            document(measured=MEASURED | {"date": "2026-02-01"}),
        )
    }
    assert len(digests) == 5


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        (document({KEY: KNOTS}, version=1), "transition.curves is not a field"),
        (document(measured=MEASURED, version=1), "measured is not a field"),
        (document({KEY: KNOTS}, unit="bytes"), "transition.curves are in ns: unit should be 'ns'"),
        (document([]), "transition.curves is not an object"),
        (document({"a>b": KNOTS}), "transition.curves.a>b is not a pair of different"),
        (document({"buffer:4C>buffer:4C": KNOTS}), "buffer:4C>buffer:4C is not a pair"),
        (document({KEY: 1}), f"transition.curves.{KEY} should be a list of 2 to 64 knots"),
        (document({KEY: KNOTS[:1]}), "should be a list of 2 to 64 knots"),
        (document({KEY: [[i, 1] for i in range(65)]}), "should be a list of 2 to 64 knots"),
        (document({KEY: [KNOTS[0], 2]}), f"curves.{KEY}[1] should be [bytes, ns]"),
        (document({KEY: [KNOTS[0], [2]]}), f"curves.{KEY}[1] should be [bytes, ns]"),
        (document({KEY: [[1.5, 1], KNOTS[1]]}), f"{KEY}[0][0] should be a whole number from 0"),
        (document({KEY: [[True, 1], KNOTS[1]]}), f"{KEY}[0][0] should be a whole number"),
        (document({KEY: [[-1, 1], KNOTS[1]]}), f"{KEY}[0][0] should be a whole number"),
        (document({KEY: [KNOTS[1], KNOTS[1]]}), f"{KEY}[1][0] should be more than"),
        (document({KEY: [KNOTS[0], [65, -1]]}), f"{KEY}[1][1] should be from 0 to"),
        (document({KEY: [KNOTS[0], [65, "1"]]}), f"{KEY}[1][1] is not a number"),
        (document({KEY: [KNOTS[0], [65, float("inf")]]}), f"{KEY}[1][1] should be from 0"),
        (document({KEY: [KNOTS[0], [65, float("nan")]]}), f"{KEY}[1][1] should be from 0"),
        (document(measured="today"), "measured is not an object"),
        (document(measured={}), "measured.adapter is missing"),
        (document(measured=MEASURED | {"driver": 7}), "measured.driver is not a string"),
        (document(measured=MEASURED | {"backend": ""}), "measured.backend should have 1 to 100"),
        (document(measured=MEASURED | {"date": "31.1.2026"}), "measured.date should be a date"),
        (document(measured=MEASURED | {"date": "20260131"}), "measured.date should be a date"),
        (document(measured=MEASURED | {"fit": [1]}), "measured.fit is not an object"),
        (document(measured=MEASURED | {"fit": {"p90": "x"}}), "measured.fit.p90 is not a number"),
        (
            document(measured=MEASURED | {"fit": {str(i): i for i in range(33)}}),
            "measured.fit should have at most 32 numbers",
        ),
        (document(measured=MEASURED | {"colour": 1}), "measured.colour is not a field"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], wrong: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse(fields)
    assert wrong in str(caught.value)


SHAPES = st.lists(st.integers(1, 30), min_size=1, max_size=4).map(tuple)


@pytest.mark.slow
@given(st.integers(0, 2**32), SHAPES, st.sampled_from([FLOAT, VkDataType.FLOAT16, INT8]))
def test_prices_are_numpys_between_knots(
    seed: int, shape: tuple[int, ...], dtype: VkDataType
) -> None:
    profile = curved(seed)
    rates = load_profile("default")
    prices = ProfileCosts(profile, "repack").transition(shape, dtype)
    default = ProfileCosts(rates, "repack").transition(shape, dtype)
    assert not prices.diagonal().any()
    for source in REPRS:
        for target in REPRS:
            price = prices[LABELS[source], LABELS[target]] / 1000
            key = pair(source, target)
            if key not in profile.transition.curves:
                if CONV2D not in key:
                    assert price == default[LABELS[source], LABELS[target]] / 1000
                continue
            x, y = np.array(profile.transition.curves[key]).T
            moved = padded_bytes(shape, dtype, source) + padded_bytes(shape, dtype, target)
            if moved <= x[-1]:
                assert price == pytest.approx(np.interp(moved, x, y), abs=0.0006)
            else:
                slope = max(0, (y[-1] - y[-2]) / (x[-1] - x[-2]))
                assert price == pytest.approx(y[-1] + slope * (moved - x[-1]), abs=0.0006)


def test_a_curve_that_falls_at_its_end_does_not_go_on_falling() -> None:
    profile = parse(document({KEY: [[16, 2000], [32, 1000]]}))
    assert priced(profile, (1, 1, 64, 64), KEY, FLOAT) == 1_000_000
    assert priced(profile, (1,), KEY, FLOAT) == 1_750_000  # 4 elements read, 1 written


@pytest.mark.parametrize(
    ("key", "curve"),
    [
        ("buffer:4W>buffer:CONV2D", "buffer:4W>buffer:4C1W"),
        ("buffer:CONV2D>buffer:4W", "buffer:4C1W>buffer:4W"),
        ("buffer:4C1W>buffer:CONV2D", "buffer:4C1W>buffer:4C"),
        ("buffer:CONV2D>buffer:4C1W", "buffer:4C>buffer:4C1W"),
        ("buffer:CONV2D>buffer:4C", "buffer:4C1W>buffer:4C"),
    ],
)
def test_conv2d_has_its_stand_ins_curve(key: str, curve: str) -> None:
    curves = {curve: [[0, 7], [1, 7]]}
    assert priced(parse(document(curves)), (1, 8, 4, 4), key, INT8) == 7000
    curves[key] = [[0, 9], [1, 9]]
    assert priced(parse(document(curves)), (1, 8, 4, 4), key, INT8) == 9000
    bare, default = parse(document({})), load_profile("default")
    assert priced(bare, (1, 8, 4, 4), key, INT8) == priced(default, (1, 8, 4, 4), key, INT8)


# The checker has its own reading of curves.


@given(
    st.integers(0, 2**32),
    SHAPES,
    st.sampled_from(REPRS),
    st.sampled_from(REPRS),
    st.sampled_from([FLOAT, INT8]),
)
def test_the_checkers_prices_are_the_planners(
    seed: int, shape: tuple[int, ...], source: TensorRepr, target: TensorRepr, dtype: VkDataType
) -> None:
    fits = fitting(shape, (16384, 16384, 2048))
    if source == target or source not in fits or target not in fits:
        return
    profile = curved(seed)
    prices = ProfileCosts(profile, "repack").transition(shape, dtype)
    counted = ProfilePrices(profile, "repack").repack(VkTensor(dtype, shape), source, target)
    assert counted.steps == prices[LABELS[source], LABELS[target]]


def curved_chain(cost: float) -> Case:
    """The float chain under a curved profile, with a claim of its transition's cost in ns."""
    curves = {pair(TEX_C, TEX_W): [[16, 500], [4096, 700], [100_000, 9000]]}
    case = replace(float_chain(), profile=parse(document(curves, access=None)), objective="repack")
    claim = replace(case.plan.transitions[0], cost=cost)
    figures = replace(case.plan.figures, repack_cost=cost, objective_cost=cost, bound=cost)
    return case.claimed(transitions=(claim,), figures=figures, operator_costs=())


def test_the_checker_follows_the_curve() -> None:
    moved = 4 * (10 * 6 * 8 + 12 * 6 * 8)
    cost = round(700 + (moved - 4096) * 8300 / 95904, 3)
    curved_chain(cost).verify()
    with pytest.raises(VerificationError, match="its cost is"):
        curved_chain(cost + 0.001).verify()
