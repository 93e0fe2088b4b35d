"""A device's file: what it holds, that it is canonical, and that damage is named."""

from __future__ import annotations

import json
import lzma
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import planner
from planner.costs.by_profile import ProfileSource
from planner.costs.profile_file import load_profile
from planner.errors import InputError, OptionError
from planner.ir.representation import REPRS
from planner.kernels.faults import parse_faults
from planner.measured.calls import Call
from planner.measured.costs import DeviceTimes, MeasuredSource
from planner.measured.database import CostDatabase, Run, RunRecord
from planner.measured.device import (
    SUFFIX,
    Device,
    database_device,
    device_file,
    device_options,
    device_source,
    is_device,
    learn,
    load_device,
    read_device,
    save_device,
    shipped_devices,
    with_device,
)
from planner.measured.join import Join, Sample, Step
from planner.options import PlanOptions, make_options
from planner.pipelines.lowered import replan
from tests.planner.costs.curves import curved
from tests.recorded import recorded

ROW = {
    "operators": ["aten.linear.default"],
    "representations": ["texture"],
    "effect": "wrong values",
    "source": "tuning on phone",
}
CALL = Call("aten.add.Tensor", '[[{"tensor":["FLOAT32",[1,8]]},2],[{"tensor":["FLOAT32",[1,8]]}]]')
SAMPLE = Sample(CALL, (("0", REPRS[0]), ("o0", REPRS[1])), ("add", "copy"), 100.5, 2.0, 5)
RUN = RunRecord(Run("phone", "v615", "a.etdump", "11", "22"), 120.0, 100.5, (SAMPLE,))
PHONE = Device("phone", "v615", "Adreno (TM) 740", (4096, 4096, 2048), 2**27, (ROW,), (RUN,))


def written(tmp_path: Path, data: bytes, name: str = "phone.json") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def test_a_file_has_all_of_a_device() -> None:
    found = read_device(PHONE.to_json(), "phone.json")
    assert found == PHONE
    assert found.to_json() == PHONE.to_json()
    assert found.faults() == parse_faults(json.dumps([ROW]), "rows")


def test_the_order_of_fields_says_nothing() -> None:
    document = json.loads(PHONE.to_json())
    turned = json.dumps(dict(reversed(document.items())), indent=2).encode()
    assert turned != PHONE.to_json()
    assert read_device(turned, "turned").to_json() == PHONE.to_json()


_TEXTS = st.text(max_size=8)
_TIMES = st.floats(min_value=0, max_value=1e12)
_SAMPLES = st.builds(
    Sample,
    st.sampled_from([CALL, Call("aten.relu.default", "[[],[]]")]),
    st.dictionaries(st.sampled_from(["0", "2", "10", "o0"]), st.sampled_from(REPRS)).map(
        lambda operands: tuple(operands.items())
    ),
    st.lists(_TEXTS, max_size=3).map(tuple),
    _TIMES,
    _TIMES,
    st.integers(0, 100),
)
_SIZES = st.integers(1, 2**31 - 1)


@st.composite
def devices(draw: st.DrawFn) -> Device:
    name, driver = draw(_TEXTS), draw(_TEXTS)
    runs = st.builds(
        RunRecord,
        st.builds(Run, st.just(name), st.just(driver), _TEXTS, _TEXTS, _TEXTS),
        _TIMES,
        _TIMES,
        st.lists(_SAMPLES, max_size=3).map(tuple),
    )
    return Device(
        name,
        driver,
        draw(st.none() | _TEXTS),
        draw(st.none() | st.tuples(_SIZES, _SIZES, _SIZES)),
        draw(st.none() | _SIZES),
        draw(st.sampled_from([(), (ROW,)])),
        tuple(draw(st.lists(runs, max_size=3))),
        draw(st.sampled_from([None, load_profile("h200"), curved()])),
    )


@given(devices())
def test_any_device_comes_back(device: Device) -> None:
    data = device.to_json()
    found = read_device(data, "device")
    assert found == device
    assert found.to_json() == data


_ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 10**400, 1e999, float("nan"), 0.5, "", "[", "[[],[]]", "1", [], {}]),
    st.sampled_from([[1], [0, 0, 0], {"a": 1}, '[[{"tensor":["NOTHING",[1]]}],[]]', "[1]"]),
)


@settings(max_examples=300)
@given(st.data())
def test_a_document_that_is_damaged_anywhere_is_named(data: st.DataObject) -> None:
    """A value is replaced or taken away: what is read is a device, or an error that names it."""
    document: Any = json.loads(PHONE.to_json())
    place: Any = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        inside = place[key]
        if not isinstance(inside, (dict, list)) or not inside or data.draw(st.booleans()):
            break
        place = inside
    if data.draw(st.booleans()):
        del place[key]
    else:
        place[key] = data.draw(_ODD)
    try:
        found = read_device(json.dumps(document).encode(), "phone.json")
    except InputError as error:
        assert "phone.json" in str(error)
    else:
        assert read_device(found.to_json(), "again") == found
        learn(found.runs)


_PACKED = lzma.compress(PHONE.to_json())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(min_value=0), st.booleans(), st.integers(0, 255))
def test_a_file_that_is_cut_off_or_changed_is_named(
    tmp_path: Path, place: int, is_cut: bool, byte: int
) -> None:
    for name, whole in {"phone.json": PHONE.to_json(), "phone.json.xz": _PACKED}.items():
        at = place % len(whole)
        data = whole[:at] if is_cut else whole[:at] + bytes([byte]) + whole[at + 1 :]
        path = written(tmp_path, data, f"damaged-{name}")
        try:
            load_device(str(path))
        except InputError as error:
            assert path.name in str(error)
        else:
            assert not is_cut


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"format": "layout-planner-profile"}, "is not a device's file of this release"),
        ({"version": 2}, "is not a device's file of this release"),
        ({"name": None}, "not a text"),
        ({"gpu": ["Adreno"]}, "not a text"),
        ({"texture_limits": [4096, 0, 2048]}, "three positive numbers of texels"),
        ({"texture_limits": [4096, 4096]}, "three positive numbers of texels"),
        ({"buffer_limit": 0}, "not a positive number of elements"),
        ({"buffer_limit": 1e9}, "TypeError"),
        ({"avoid": [{"operators": []}]}, "row 0"),
        ({"avoid": {}, "runs": [{}]}, "KeyError: 'source'"),
        ({"runs": None}, "TypeError"),
        ({"profile": {}}, "phone.json's profile is not a valid device profile"),
        ({"profile": json.loads(load_profile("bytes").to_json())}, "does not count in ns"),
    ],
)
def test_what_is_wrong_is_said(damage: dict[str, Any], said: str) -> None:
    document = json.loads(PHONE.to_json()) | damage
    with pytest.raises(InputError, match=said):
        read_device(json.dumps(document).encode(), "phone.json")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"total_ns": -1}, "a run's time"),
        ({"joined_ns": 1e999}, "a run's time"),
        ({"samples": [["op", "[[],[]]", [], [], float("nan"), 0, 3]]}, "a sample's time"),
        ({"samples": [["op", "[[],[]]", [["0", "texture:NONE"]], [], 1, 0, 3]]}, "texture:NONE"),
        ({"samples": [["op", "[]", [], [], 1, 0, 3]]}, "not enough values"),
        ({"samples": [["op", "[[],[]]", [], [], 1, 0]]}, "not enough values"),
        ({"samples": [["op", "[[],[]]", [], [], 1, 0, 1e999]]}, "OverflowError"),
    ],
)
def test_a_wrong_run_is_said(damage: dict[str, Any], said: str) -> None:
    document = json.loads(PHONE.to_json())
    document["runs"][0] |= damage
    with pytest.raises(InputError, match=said):
        read_device(json.dumps(document).encode(), "phone.json")


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"format": 1'])
def test_what_is_no_file_of_a_device(tmp_path: Path, data: bytes) -> None:
    path = written(tmp_path, data)
    with pytest.raises(InputError, match=r"phone\.json is damaged, or no device's file"):
        load_device(str(path))
    path = written(tmp_path, lzma.compress(data), "other.json.xz")
    with pytest.raises(InputError, match=r"other\.json\.xz is damaged, or no device's file"):
        load_device(str(path))


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "phone.json"
    with pytest.raises(OptionError, match="avoid list of device phone, row 0"):
        save_device(replace(PHONE, avoid=({"operators": ["a"]},)), path)
    assert not list(tmp_path.iterdir())
    for name in ("phone.json", "phone.json.xz"):
        save_device(PHONE, tmp_path / name)
        assert load_device(str(tmp_path / name)) == PHONE
    assert path.read_bytes() == PHONE.to_json()
    assert lzma.decompress((tmp_path / "phone.json.xz").read_bytes()) == PHONE.to_json()


def test_a_device_out_of_a_database(tmp_path: Path) -> None:
    path = tmp_path / "database.sqlite"
    with CostDatabase(path) as database:
        database.add(RUN.run, Join((Step(0, None, SAMPLE),), 19.5))
    assert database_device([path], "phone") == Device("phone", "v615", runs=(RUN,))
    with pytest.raises(InputError, match="has no device 'tablet': there is phone"):
        database_device([path], "tablet")
    with pytest.raises(OptionError, match="there is no cost database"):
        database_device([path, tmp_path / "none.sqlite"], "phone")


def test_a_device_out_of_several_databases(tmp_path: Path) -> None:
    """Each run once, in the order of the databases; never of two drivers."""
    other = replace(RUN, run=replace(RUN.run, etdump_sha256="33"))
    paths = [tmp_path / name for name in ("a.sqlite", "b.sqlite", "c.sqlite")]
    newer = replace(RUN.run, driver="v700")
    for path, runs in zip(paths, ([RUN.run], [other.run, RUN.run], [newer]), strict=True):
        with CostDatabase(path) as database:
            database.add_all([(run, Join((Step(0, None, SAMPLE),), 19.5)) for run in runs])
    assert database_device(paths[:2], "phone").runs == (RUN, other)
    with pytest.raises(InputError, match="drivers 'v615' and 'v700'"):
        database_device(paths, "phone")


def test_devices_ship() -> None:
    assert shipped_devices() == ("lavapipe", "nvidia-h100")
    assert planner.shipped_devices() == shipped_devices()
    for name in shipped_devices():
        device = load_device(name)
        assert device.name == name
        assert {(run.run.device, run.run.driver) for run in device.runs} == {(name, device.driver)}
        assert lzma.decompress(device_file(name).read_bytes()) == device.to_json()
        assert is_device(name)
    assert is_device("phone.json") and is_device(f"x/phone{SUFFIX}")
    assert not is_device("costs.sqlite")


def test_an_unknown_device_is_told_what_there_is(tmp_path: Path) -> None:
    for name in ("phone", str(tmp_path / "none.json"), str(tmp_path)):
        with pytest.raises(OptionError, match=r"ships with the planner \(lavapipe, nvidia-h100\)"):
            device_options(name)


def test_options_for_a_device(tmp_path: Path) -> None:
    path = tmp_path / "phone.json"
    save_device(PHONE, path)
    options = device_options(str(path))
    assert options.objective == "latency"
    assert options.costs.name == "phone, measured; else default"
    assert (options.texture_limits, options.buffer_limit) == ((4096, 4096, 2048), 2**27)
    assert options.gpu == "Adreno (TM) 740"
    assert options.avoid == PHONE.faults()
    assert planner.device_options(str(path), objective="repack").objective == "repack"
    asked = make_options(texture_limits="64,64,64", buffer_limit=9, gpu="Mali", runtime="1.3")
    options = device_options(str(path), replace(asked, avoid=PHONE.faults()))
    assert (options.texture_limits, options.buffer_limit, options.gpu) == ((64,) * 3, 9, "Mali")
    assert options.runtime == asked.runtime
    assert len(options.avoid.rows) == 2
    with pytest.raises(OptionError, match="profile 'bytes' counts bytes"):
        device_options(str(path), make_options("bytes"))


def test_a_devices_own_profile_prices_what_was_not_measured(tmp_path: Path) -> None:
    path = tmp_path / "phone.json"
    save_device(replace(PHONE, runs=(), profile=curved()), path)
    assert device_options(str(path)).profile == curved()
    # Another one that is asked for comes first.
    assert device_options(str(path), make_options("h200")).profile == load_profile("h200")
    # Without runs its profile is all that is known: plans are those by the profile alone.
    program = recorded("mv2_xs_int8", "greedy.pte")
    by_device = replan(program, "mv2.pte", device_options(str(path)))
    alone = replace(device_options(str(path)), costs=ProfileSource(curved()))
    by_profile = replan(program, "mv2.pte", alone)
    assert by_device.report.total.objective_cost == by_profile.report.total.objective_cost


def test_a_device_that_says_little_changes_little() -> None:
    device = Device("quiet")
    source = device_source("quiet", device_file("lavapipe"))
    options = with_device(PlanOptions(), device, source)
    assert replace(options, costs=PlanOptions().costs) == PlanOptions()


def test_a_plan_is_the_same_by_a_file_and_by_its_runs(tmp_path: Path) -> None:
    """What a file teaches is what its runs do, wherever it lies and however it is written."""
    program = recorded("mv2_xs_int8", "greedy.pte")
    shipped = load_device("lavapipe")
    few = replace(shipped, runs=tuple(r for r in shipped.runs if "mv2" in r.run.source)[:3])
    plans = []
    for name in ("a.json", "b.json.xz"):
        save_device(few, tmp_path / name)
        plans.append(replan(program, "mv2.pte", device_options(str(tmp_path / name))))
    assert len({plan.report.profile.hash for plan in plans}) == 1
    times = DeviceTimes.of(few.name, [run.samples for run in few.runs])
    source = MeasuredSource(times, load_profile("default"))
    plans.append(replan(program, "mv2.pte", PlanOptions(source, "latency", gpu=few.gpu)))
    assert len({plan.data for plan in plans}) == 1
    total = plans[0].report.total
    assert total.objective_cost < (total.baseline_objective_cost or 0)
    # The profile that stands behind it counts.
    other = device_options("lavapipe", PlanOptions(make_options("h200").costs))
    assert other.costs.digest != device_options("lavapipe").costs.digest
    assert other.profile == load_profile("h200")


def test_a_file_that_takes_the_place_of_another_is_learned_anew(tmp_path: Path) -> None:
    path = tmp_path / "phone.json"
    digests = set()
    for ns in (100.0, 200.0):
        run = replace(RUN, samples=(replace(SAMPLE, median=ns),))
        save_device(replace(PHONE, runs=(run,)), path)
        options = device_options(str(path))
        digests.add(options.costs.digest)
        options.cost_model()
    assert len(digests) == 2
