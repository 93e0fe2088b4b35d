"""What a device's runs teach: measured times are kept, and guesses are cautious and sensible."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import exp, log
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.ir.representation import REPRS
from planner.measured.calls import Call, Operands, Place, place
from planner.measured.join import STAGING, Sample
from planner.measured.timemodel import MOST_PLACES, TimeModel, _OperatorModel, counted_places
from schema import CostOrigin

LABELS = range(4)
PLACES = ("0", "o0")
TABLE = (tuple(LABELS), tuple(LABELS))
MEASURED, INTERPOLATED, ESTIMATED = (
    CostOrigin.MEASURED,
    CostOrigin.INTERPOLATED,
    CostOrigin.ESTIMATED,
)


def call(*shape: int, name: str = "op") -> Call:
    """An operator on one tensor that makes another of its shape."""
    tensor = {"tensor": ["FLOAT32", list(shape)]}
    return Call(name, json.dumps([[tensor], [tensor]]))


def operands(source: int, target: int) -> Operands:
    return ("0", REPRS[source]), ("o0", REPRS[target])


def sample(of: Call, where: Operands, ns: float) -> Sample:
    return Sample(of, where, (), ns, 0.0, 3)


def runs_of(table: Sequence[tuple[int, int, int, float]]) -> list[Sample]:
    """Samples of (size, label, label, ns)."""
    return [sample(call(size), operands(a, b), ns) for size, a, b, ns in table]


def ns_of(
    model: TimeModel, of: Call, caution: float = 1.0
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return model.predict(of, PLACES, TABLE, caution).ns


few = settings(max_examples=25)
times = st.floats(1, 1e9)
rows = st.tuples(st.integers(1, 6), st.sampled_from(LABELS), st.sampled_from(LABELS), times)
tables = st.lists(rows, min_size=1, max_size=25)


@few
@given(tables)
def test_what_was_measured_is_the_median_of_its_samples(
    table: list[tuple[int, int, int, float]],
) -> None:
    model = TimeModel([runs_of(table)])
    for size in range(1, 8):
        found = model.predict(call(size), PLACES, TABLE)
        for a in LABELS:
            for b in LABELS:
                taken = [log(ns) for s, x, y, ns in table if (s, x, y) == (size, a, b)]
                together = any((x, y) == (a, b) for _, x, y, _ in table)
                if taken:
                    assert found.ns[a, b] == pytest.approx(exp(median(taken)))
                    assert found.origin[a, b] == MEASURED
                else:
                    assert found.origin[a, b] == (INTERPOLATED if together else ESTIMATED)
        measured = model.measured(call(size))
        assert measured == {
            (("0", a), ("o0", b)): pytest.approx(found.ns[a, b])
            for a, b in np.argwhere(found.origin == MEASURED)
        }


@few
@given(tables, st.integers(1, 9))
def test_a_guess_is_never_cheaper_with_caution(
    table: list[tuple[int, int, int, float]], size: int
) -> None:
    model = TimeModel([runs_of(table)])
    hopeful, plain, careful = (ns_of(model, call(size), c) for c in (-1.0, 0.0, 1.0))
    origin = model.predict(call(size), PLACES, TABLE).origin
    known, guessed = origin == MEASURED, origin != MEASURED
    assert (hopeful[known] == careful[known]).all()
    within = guessed & (careful < 0.9e12)
    assert (careful[guessed] >= plain[guessed]).all()
    # One standard error up, and one down; where the origin is the same, so is the error.
    assert careful[within] / plain[within] == pytest.approx(plain[within] / hopeful[within])
    errors = {int(o): (careful / plain)[within & (origin == o)] for o in np.unique(origin)}
    for found in errors.values():
        assert found == pytest.approx(found[:1].repeat(len(found)))
    if len(errors.get(INTERPOLATED, ())) and len(errors.get(ESTIMATED, ())):
        assert errors[INTERPOLATED][0] <= errors[ESTIMATED][0] * (1 + 1e-9)


@few
@given(tables, st.integers(1, 9), st.sets(st.sampled_from(LABELS), min_size=1))
def test_a_table_does_not_depend_on_what_else_is_asked(
    table: list[tuple[int, int, int, float]], size: int, some: set[int]
) -> None:
    model = TimeModel([runs_of(table)])
    labels = sorted(some, reverse=True)
    whole = model.predict(call(size), PLACES, TABLE)
    part = model.predict(call(size), PLACES, (labels, labels))
    assert (part.ns == whole.ns[np.ix_(labels, labels)]).all()
    assert (part.origin == whole.origin[np.ix_(labels, labels)]).all()


@few
@given(
    tables,
    st.lists(st.floats(0.01, 100), min_size=1, max_size=6),
)
def test_runs_that_differ_by_a_factor_alone(
    table: list[tuple[int, int, int, float]], factors: list[float]
) -> None:
    # Times from 1000 ns: less than one would not be told from one.
    base = [(size, a, b, 1000 + ns) for size, a, b, ns in table]
    model = TimeModel([runs_of([(size, a, b, ns * f) for size, a, b, ns in base]) for f in factors])
    speeds = np.log(factors) if len(factors) > 1 else np.zeros(1)
    assert model.drift == pytest.approx(speeds - np.median(speeds), abs=1e-9)
    middle = exp(float(np.median(np.log(factors))))
    alone = TimeModel([runs_of([(size, a, b, ns * middle) for size, a, b, ns in base])])
    for size in range(1, 8):
        assert ns_of(model, call(size)) == pytest.approx(ns_of(alone, call(size)), rel=1e-6)


@few
@given(st.lists(tables, min_size=2, max_size=5), st.floats(0.01, 100), st.data())
def test_a_run_that_is_slower_altogether_changes_no_prediction(
    runs: list[list[tuple[int, int, int, float]]], factor: float, data: st.DataObject
) -> None:
    which = data.draw(st.integers(0, len(runs) - 1))
    # All have something in common, and enough of their time.
    runs = [
        [(9, 0, 0, 1e4), *((size, a, b, 1000 + ns / 1e6) for size, a, b, ns in run)] for run in runs
    ]
    slower = [
        [(size, a, b, ns * (factor if r == which else 1)) for size, a, b, ns in run]
        for r, run in enumerate(runs)
    ]
    before, after = (TimeModel([runs_of(run) for run in found]) for found in (runs, slower))
    moved = np.array(after.drift) - before.drift
    others = np.delete(moved, which)
    # Only the median run may be another one.
    assert others == pytest.approx(others[:1].repeat(len(others)), abs=1e-6)
    assert moved[which] - others[0] == pytest.approx(log(factor), abs=1e-6)
    for size in range(1, 10):
        for labels, ns in before.measured(call(size)).items():
            assert after.measured(call(size))[labels] == pytest.approx(
                ns * exp(-others[0]), rel=1e-6
            )


def test_runs_are_compared_through_others() -> None:
    speeds = [0.3, -0.5, 0.9, 0.0, -0.2, 0.4, -0.9, 0.1, 0.6]
    runs = [
        runs_of([(size, 0, 0, 1e4 * exp(speed)) for size in (r, r + 1)])
        for r, speed in enumerate(speeds, 1)
    ]
    assert TimeModel(runs).drift == pytest.approx(np.array(speeds) - median(speeds))


def test_what_is_shared_with_nobody_says_nothing_of_speed() -> None:
    shared = [runs_of([(1, 0, 0, ns), (2, 0, 0, 2 * ns)]) for ns in (1000.0, 2000.0, 1100.0)]
    alone = runs_of([(3, 0, 0, 7.0)])
    model = TimeModel([*shared, alone])
    assert model.drift == pytest.approx([log(1 / 1.1), log(2 / 1.1), 0, 0])
    assert list(model.measured(call(3)).values()) == pytest.approx([7])


def test_a_slow_run_of_one_program_makes_no_other_program_slow() -> None:
    one = [runs_of([(1, 0, 0, ns)]) for ns in (1000.0, 1000.0, 1000.0, 1000.0, 50000.0)]
    other = [runs_of([(2, 0, 0, ns)]) for ns in (1000.0, 1000.0)]
    drift = TimeModel([*one, *other]).drift
    assert drift == pytest.approx([0, 0, 0, 0, log(50), 0, 0])


def test_runs_that_share_next_to_nothing_are_not_compared() -> None:
    # Two programs have one small step in common, which took twice as long by chance.
    one = [runs_of([(1, 0, 0, 1e6), (9, 0, 0, 100.0)]) for _ in range(3)]
    other = [runs_of([(2, 0, 0, 1e6), (9, 0, 0, 200.0)]) for _ in range(3)]
    model = TimeModel([*one, *other])
    assert model.drift == pytest.approx([0] * 6, abs=1e-3)
    assert list(model.measured(call(2)).values()) == pytest.approx([1e6], rel=1e-3)


@few
@given(st.lists(tables, min_size=1, max_size=3))
def test_the_order_of_samples_and_runs_does_not_matter(
    runs: list[list[tuple[int, int, int, float]]],
) -> None:
    turned = [list(reversed(run)) for run in reversed(runs)]
    one, other = (TimeModel([runs_of(run) for run in found]) for found in (runs, turned))
    assert one.drift == pytest.approx(other.drift[::-1], abs=1e-9)
    for size in range(1, 8):
        assert ns_of(one, call(size)) == pytest.approx(ns_of(other, call(size)), rel=1e-6)


@few
@given(st.lists(rows, min_size=4, max_size=15, unique_by=lambda row: row[:3]))
def test_validation_is_that_of_fitting_without_each_call(
    table: list[tuple[int, int, int, float]],
) -> None:
    # Columns that only the call that is left out has are 0 in all other rows. Their weights are
    # then 0, as if they were not there: so this holds for all calls. No guess may reach the cap.
    known = [(call(size), (("0", a), ("o0", b)), 0.2 * log(ns)) for size, a, b, ns in table]
    found = _OperatorModel("op", known).validation()
    interpolated: list[float] = []
    estimated: list[float] = []
    for i, (of, labels, value) in enumerate(known):
        others = known[:i] + known[i + 1 :]
        without = _OperatorModel("op", others)
        (_, a), (_, b) = labels
        error = abs(exp(without.predict(of, PLACES, TABLE, 0.0)[0][a, b] - value) - 1)
        is_together = any(labels == other for _, other, _ in others)
        (interpolated if is_together else estimated).append(error)
    assert found.operator == "op" and found.calls == len(table)
    assert found.interpolated == pytest.approx(interpolated, rel=1e-3, abs=1e-3)
    assert found.estimated == pytest.approx(estimated, rel=1e-3, abs=1e-3)


def test_too_few_calls_to_validate() -> None:
    (found,) = TimeModel([runs_of([(1, 0, 0, 5.0), (2, 0, 0, 9.0), (3, 0, 1, 9.0)])]).validation()
    assert found.calls == 3 and not len(found.interpolated) and not len(found.estimated)


def test_what_was_never_measured_takes_its_launch_and_its_work() -> None:
    def ns(size: int) -> float:
        return 5000 + 8 * size * 0.01

    sizes = (10, 100, 1000, 10**6, 10**7)
    model = TimeModel([runs_of([(size, 0, 0, ns(size)) for size in sizes])])
    for size in (1, 3000, 10**5, 10**8):
        assert model.least(call(size, name="unknown")) == pytest.approx(ns(size), rel=0.3)
    assert TimeModel([]).least(call(1)) is None


@pytest.mark.parametrize("share", [0.005, 0.02, 0.05])
def test_two_models_with_some_calls_in_common_are_not_taken_for_one(share: float) -> None:
    """The same call takes another time in another model: that is no speed of its runs."""
    one, other = [
        [
            runs_of(
                [
                    *((size, 0, 0, 1e6 * speed) for size in sizes),
                    (9, 0, 0, 3e6 * share * slower * speed),
                ]
            )
            for speed in (1.0, 1.02, 0.99)
        ]
        for sizes, slower in (((1, 2, 3), 1.0), ((4, 5, 6), 1.4))
    ]
    alone, together = TimeModel(one), TimeModel([*one, *other])
    assert together.drift[:3] == pytest.approx(alone.drift)
    assert together.drift[3:] == pytest.approx(alone.drift)


def test_a_law_is_recovered_for_an_unseen_shape() -> None:
    factor = (1.0, 3.0, 0.5, 8.0)

    def law(size: int, a: int, b: int) -> float:
        return float(5 * call(size).work[0] ** 0.8 * factor[a] * factor[b] ** 0.5)

    sizes = (100, 300, 1000, 5000, 20000, 100_000)
    model = TimeModel([runs_of([(s, a, b, law(s, a, b)) for s in sizes for a, b in SEEN])])
    guess = model.predict(call(8000), PLACES, TABLE, 0.0)
    for a in LABELS:
        for b in LABELS:
            right = INTERPOLATED if (a, b) in SEEN else ESTIMATED
            assert guess.origin[a, b] == right
            tolerance = 0.1 if right == INTERPOLATED else 0.3
            assert abs(log(guess.ns[a, b] / law(8000, a, b))) < tolerance


SEEN = [(a, b) for a in LABELS for b in LABELS if (a + b) % 4]


def many(count: int) -> tuple[Place, ...]:
    return *(place(False, i) for i in range(count)), place(True, 0), place(True, 1)


@pytest.mark.parametrize(
    ("places", "counted"),
    [
        (many(2), ("0", "1", "o0", "o1")),
        (many(3), ("0", "1", "2", "o0")),
        (many(9), ("0", "1", "2", "o0")),
        (("0", "o0", "o1", "o2", "o3"), ("0", "o0", "o1", "o2")),
        (("0", "1", "2", "3", "4"), ("0", "1", "2", "3")),
        ((), ()),
    ],
)
def test_the_operands_that_count(places: tuple[Place, ...], counted: tuple[Place, ...]) -> None:
    assert counted_places(places) == counted
    assert len(counted) <= MOST_PLACES


def test_operands_beyond_those_that_count_change_nothing() -> None:
    places = many(6)
    labels = [dict.fromkeys(places, 1) | {"5": 2}, dict.fromkeys(places, 1) | {"o1": 3}]
    where = [tuple((p, REPRS[label]) for p, label in one.items()) for one in labels]
    model = TimeModel(
        [[sample(call(4), w, ns) for w, ns in zip(where, (100.0, 400.0), strict=True)]]
    )
    found = model.predict(call(4), counted_places(places), ((1,),) * MOST_PLACES)
    assert found.ns.flat[0] == pytest.approx(200)  # the median of both, as logarithms
    assert found.origin.flat[0] == MEASURED


def test_samples_of_no_time() -> None:
    model = TimeModel([runs_of([(size, 0, 0, 0.0) for size in range(1, 6)])] * 2)
    assert ns_of(model, call(1))[0, 0] == 1  # the least that there is
    assert np.isfinite(ns_of(model, call(9))).all()


def test_a_single_sample() -> None:
    model = TimeModel([runs_of([(5, 1, 2, 123.0)])])
    assert ns_of(model, call(5))[1, 2] == pytest.approx(123)
    other = ns_of(model, call(50))
    assert np.isfinite(other).all() and (other > 123).all()
    assert model.drift == (0,)


def test_an_operator_without_operands_that_have_a_choice() -> None:
    model = TimeModel([[sample(call(5), (), 123.0)]])
    known, other = (model.predict(call(size), (), ()) for size in (5, 6))
    assert float(known.ns) == pytest.approx(123) and known.origin == MEASURED
    assert float(other.ns) > 123 and other.origin == INTERPOLATED


@pytest.mark.parametrize("runs", [[], [[]], [[], []]])
def test_no_samples(runs: list[list[Sample]]) -> None:
    model = TimeModel(runs)
    assert not model.knows("op") and not model.measured(call(1)) and not model.validation()
    assert model.drift == (0,) * len(runs) and model.staging == 0


def test_staging_is_no_operator() -> None:
    model = TimeModel([[sample(STAGING, (), ns)] for ns in (10.0, 30.0, 11.0)])
    assert model.staging == 11 and not model.knows(STAGING.operator)


@pytest.mark.parametrize("ns", [1e12, 1e19, 1e300, float("inf")])
@pytest.mark.parametrize("size", [1, 2**62])
def test_huge_numbers_stay_finite(ns: float, size: int) -> None:
    table = [(1, 0, 0, 1.0), (1, 1, 1, ns), (size, 0, 0, ns), (3, 1, 2, ns), (4, 1, 2, 1.0)]
    model = TimeModel([runs_of(table), runs_of(table[1:])])
    assert np.isfinite(model.drift).all()
    for of in (call(1), call(3), call(size), call(2**63, 2**63)):
        for caution in (-1.0, 0.0, 1.0):
            found = ns_of(model, of, caution)
            assert np.isfinite(found).all() and (found <= 1e12 * (1 + 1e-9)).all()
