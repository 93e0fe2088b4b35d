"""Devices in the store: what is kept of them, when it is forgotten, and what is learned of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text

from api.store import devices, migrations
from api.store.database import Database
from api.store.devices import ConflictError, DeviceStore, MeasuredFiles, UnknownDeviceError
from api.store.plans import PlanStore, open_store
from planner.errors import OptionError
from planner.ir.representation import REPRS
from planner.measured.calls import Call
from planner.measured.database import Run, RunRecord
from planner.measured.device import Device, read_device
from planner.measured.join import Sample
from planner.options import PlanOptions, make_options

PHONE = Device("my phone", "v1", "Adreno (TM) 740", (4096, 4096, 2048), 2**27)
ROW: dict[str, Any] = {
    "operators": ["aten.linear.default"],
    "representations": ["texture:WIDTH_PACKED"],
    "effect": "wrong values",
    "source": "a run",
}


@pytest.fixture
def store(tmp_path: Path, database_url: str) -> Iterator[PlanStore]:
    store = open_store(tmp_path / "data", database_url)
    yield store
    store.close()


@pytest.fixture
def phone(store: PlanStore) -> DeviceStore:
    found = DeviceStore(store)
    assert found.add(PHONE)
    return found


def measured(folder: Path, number: int = 0, ns: float = 100.0) -> MeasuredFiles:
    """A run with one sample."""
    etdump, program = folder / f"etdump{number}", folder / f"program{number}"
    etdump.write_text(f"etdump {number}")
    program.write_text(f"program {number}")
    call = Call("aten.relu.default", f'[[{{"tensor":["FLOAT32",[1,{number + 8}]]}}],[]]')
    sample = Sample(call, (("0", REPRS[0]),), ("relu",), ns, 1.0, 5)
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (etdump, program)]
    run = Run("my phone", "v1", f"run {number}", *digests)
    return MeasuredFiles(RunRecord(run, ns, ns, (sample,)), "net.pte", etdump, program)


def test_a_device_is_added_once(phone: DeviceStore) -> None:
    assert not phone.add(PHONE)
    assert phone.get("my phone").device == PHONE
    with pytest.raises(ConflictError, match="'my phone' with another driver"):
        phone.add(replace(PHONE, driver="v2"))
    with pytest.raises(ConflictError, match="'my phone' with another description"):
        phone.add(replace(PHONE, gpu=None))
    with pytest.raises(ConflictError, match="'nvidia-h100' ships with the planner"):
        phone.add(Device("nvidia-h100"))
    with pytest.raises(OptionError, match="row 0: effect should be one of"):
        phone.add(Device("other", avoid=({**ROW, "effect": "slow"},)))
    assert [each.device.name for each in phone.all() if not each.is_shipped] == ["my phone"]


def test_devices_that_ship_are_there_and_cannot_be_changed(phone: DeviceStore) -> None:
    shipped = phone.get("nvidia-h100")
    assert shipped.is_shipped and shipped.runs > 30 and not shipped.device.runs
    known = phone.known("nvidia-h100")
    assert len(read_device(known.path.read_bytes(), "it").runs) == shipped.runs
    for change in (
        lambda: phone.avoid("nvidia-h100", [ROW], add=True),
        lambda: phone.delete("nvidia-h100"),
        lambda: phone.begin_tuning("nvidia-h100", "net.pte"),
    ):
        with pytest.raises(ConflictError, match="ships with the planner"):
            change()


def test_runs_are_kept_once_and_known_together(phone: DeviceStore, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="'my phone' has no runs yet: POST one"):
        phone.known("my phone")
    first, is_new = phone.add_run("my phone", measured(tmp_path))
    assert is_new
    again, is_new = phone.add_run("my phone", measured(tmp_path))
    assert (again.id, is_new) == (first.id, False)
    one = phone.known("my phone")
    assert phone.known("my phone").sha256 == one.sha256
    phone.add_run("my phone", measured(tmp_path, 1))
    two = phone.known("my phone")
    assert two.sha256 != one.sha256
    runs = read_device(two.path.read_bytes(), "it").runs
    assert [run.run.source for run in runs] == ["run 0", "run 1"]
    assert runs[0] == measured(tmp_path).record
    assert [run.source for run in phone.runs("my phone")] == ["run 1", "run 0"]
    assert phone.get("my phone").runs == 2
    assert phone.delete_run("my phone", again.id)
    assert not phone.delete_run("my phone", again.id)
    assert [run.source for run in phone.runs("my phone")] == ["run 1"]


def test_there_is_no_such_device(phone: DeviceStore, tmp_path: Path) -> None:
    for ask in (
        lambda: phone.get("pixel"),
        lambda: phone.known("pixel"),
        lambda: phone.runs("pixel"),
        lambda: phone.delete("pixel"),
        lambda: phone.avoid("pixel", [], add=False),
        lambda: phone.add_run("pixel", measured(tmp_path)),
        lambda: phone.begin_tuning("pixel", "net.pte"),
    ):
        with pytest.raises(UnknownDeviceError, match="there is no device 'pixel'"):
            ask()


def test_no_more_runs_than_a_device_may_have(
    phone: DeviceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "MOST_RUNS", 2)
    for number in range(2):
        phone.add_run("my phone", measured(tmp_path, number))
    with pytest.raises(OptionError, match="has 2 runs, and no more are taken: delete old ones"):
        phone.add_run("my phone", measured(tmp_path, 2))
    assert not phone.add_run("my phone", measured(tmp_path, 1))[1]


def test_runs_that_come_at_once_are_all_kept(phone: DeviceStore, tmp_path: Path) -> None:
    runs = [measured(tmp_path, number % 6) for number in range(12)]
    with ThreadPoolExecutor(6) as threads:
        added = list(threads.map(lambda run: phone.add_run("my phone", run)[1], runs))
    assert sum(added) == 6
    assert phone.get("my phone").runs == 6
    assert len(read_device(phone.known("my phone").path.read_bytes(), "it").runs) == 6


def test_what_is_avoided_is_part_of_what_is_known(phone: DeviceStore, tmp_path: Path) -> None:
    phone.add_run("my phone", measured(tmp_path))
    before = phone.known("my phone")
    other = {**ROW, "effect": "unstable"}
    assert phone.avoid("my phone", [ROW], add=True).avoid == (ROW,)
    assert phone.avoid("my phone", [ROW, other], add=True).avoid == (ROW, other)
    with pytest.raises(OptionError, match="the avoid list of device my phone, row 0"):
        phone.avoid("my phone", [{"effect": "?"}], add=False)
    after = phone.known("my phone")
    assert after.sha256 != before.sha256
    assert len(after.options(make_options()).avoid.rows) == 2
    assert phone.avoid("my phone", [], add=False).avoid == ()
    with pytest.raises(OptionError, match="at most 500 rows, not 501"):
        phone.avoid("my phone", [ROW | {"seen": str(n)} for n in range(501)], add=False)


def test_plans_for_a_device_have_its_costs_limits_and_gpu(
    phone: DeviceStore, tmp_path: Path
) -> None:
    phone.add_run("my phone", measured(tmp_path))
    known = phone.known("my phone")
    options = known.options(make_options())
    assert options.texture_limits == PHONE.texture_limits
    assert options.buffer_limit == PHONE.buffer_limit
    assert options.gpu == PHONE.gpu
    assert options.costs.name == "my phone, measured; else default"
    stated = known.options(make_options(texture_limits="64,64,64", buffer_limit=7, gpu="Mali"))
    assert (stated.texture_limits, stated.buffer_limit) == ((64, 64, 64), 7)
    assert stated.gpu == "Mali"
    with pytest.raises(OptionError, match="profile 'bytes' counts bytes"):
        known.options(make_options("bytes"))


def test_a_fit_is_kept_until_the_device_changes(
    phone: DeviceStore, store: PlanStore, tmp_path: Path
) -> None:
    phone.add_run("my phone", measured(tmp_path))
    known = phone.known("my phone")
    assert phone.fit(known.sha256) is None
    phone.keep_fit(known.sha256, b"{}")
    phone.keep_fit(known.sha256, b"{}")
    assert phone.fit(known.sha256) == b"{}"
    store.sweep(timedelta(0))
    assert phone.fit(known.sha256) == b"{}"
    phone.add_run("my phone", measured(tmp_path, 1))
    assert phone.fit(known.sha256) is None


def test_a_deleted_device_leaves_nothing(
    phone: DeviceStore, store: PlanStore, tmp_path: Path
) -> None:
    phone.add_run("my phone", measured(tmp_path))
    known = phone.known("my phone")
    phone.keep_fit(known.sha256, b"{}")
    tuning = phone.begin_tuning("my phone", "net.pte")
    store.sweep(timedelta(0))
    assert known.path.exists()
    phone.delete("my phone")
    assert phone.tuning("my phone", tuning) is None
    store.sweep(timedelta(0))
    assert not list((tmp_path / "data/blobs").glob("??/??/*"))
    assert phone.add(PHONE)
    assert phone.runs("my phone") == []


def test_a_tuning_is_told_of(phone: DeviceStore) -> None:
    phone.add(Device("other"))
    id_ = phone.begin_tuning("my phone", "net.pte")
    assert phone.tell_tuning("my phone", id_, {"stage": "round 1"}, None)
    assert not phone.tell_tuning("my phone", "0" * 32, {}, None)
    assert not phone.tell_tuning("other", id_, {}, None)
    found = phone.tuning("my phone", id_)
    assert found is not None
    assert (json.loads(found.document), found.ended) == ({"stage": "round 1"}, None)
    assert phone.tuning("other", id_) is None
    assert phone.tell_tuning("my phone", id_, {}, "all rounds are done")
    (found,) = phone.tunings("my phone")
    assert found.ended == "all rounds are done"
    assert found.updated >= found.created


def test_options_of_a_device_travel_as_its_file(phone: DeviceStore, tmp_path: Path) -> None:
    import pickle

    phone.add_run("my phone", measured(tmp_path))
    options = phone.known("my phone").options(make_options(objective="latency"))
    data = pickle.dumps(options)
    assert len(data) < 30_000
    there: PlanOptions = pickle.loads(data)
    assert there.costs.digest == options.costs.digest
    assert there.cost_model() is not None


def test_what_is_there_stays_when_devices_come(database_url: str) -> None:
    """An older database is brought up to date, and back, with its rows."""
    database = Database(database_url)
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    rows = (
        "INSERT INTO blob (sha256, size, created) VALUES ('a', 1, '2026-01-01')",
        "INSERT INTO task (id, kind, version, input_name, input_sha256, options, state, attempts) "
        "VALUES ('t', 'plan', '1', 'net', 'a', '{}', 'done', 0)",
        "INSERT INTO job (id, name, created, request) VALUES ('j', 'job', '2026-01-01', '{}')",
        "INSERT INTO item VALUES ('j', 0, 'net', 't')",
    )
    with database.writing() as session:
        for row in rows:
            session.execute(text(row))
        config.attributes["connection"] = session.connection()
        command.downgrade(config, "0003")
    with database.writing() as session:
        config.attributes["connection"] = session.connection()
        command.upgrade(config, "head")
        found = session.execute(text("SELECT task.id, device_sha256, number FROM task, item")).all()
    assert found == [("t", None, 0)]
    database.close()
