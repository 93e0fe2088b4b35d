"""Files of the store are spoilt while jobs need them: made again, or said with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from api.store.blobs import LostBlobError
from api.store.tables import State, Task
from planner.errors import InputError
from planner.options import make_options
from tests.api.disks import small_disk
from tests.api.jobs import plant as plants
from tests.api.jobs.plant import OPTIONS, Plant
from tests.api.planned import lowered

_EXPORTED = b"PK\x03\x04 no real one"


@pytest.fixture
def plant(tmp_path: Path, database_url: str) -> Iterator[Plant]:
    with plants.running(tmp_path, database_url) as plant:
        yield plant


@pytest.fixture
def worked(tmp_path: Path) -> Iterator[Plant]:
    """One in SQLite, which has workers."""
    with plants.running(tmp_path, f"sqlite:///{tmp_path / 'database.sqlite'}") as plant:
        plant.hire()
        yield plant


def _spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _state(plant: Plant, id_: str) -> State:
    with plant.store.database.reading() as session:
        return session.get_one(Task, id_).state


def _lowered(plant: Plant, id_: str, text: str = "lowered") -> Path:
    """Does a lowering; returns the file of what it made."""
    assert plant.tasks.begin(id_, "worker") is not None
    output = plant.folder / "output"
    output.write_text(text)
    plant.tasks.finish_lowering(id_, output)
    with plant.store.database.reading() as session:
        sha256 = session.get_one(Task, id_).output_sha256
    assert sha256 is not None
    return plant.store.path(sha256)


@pytest.mark.parametrize("is_missing", [False, True])
def test_what_was_lowered_and_is_spoilt_is_lowered_again(plant: Plant, is_missing: bool) -> None:
    choices = [OPTIONS, make_options("default")]
    job = plant.note({"net": _EXPORTED}, choices)
    (lowering,) = plant.jobs.queued(job.id)
    made = _lowered(plant, lowering)
    first, second = plant.jobs.queued(job.id)
    made.unlink() if is_missing else _spoil(made)

    assert plant.tasks.begin(first, "worker") is None
    assert (_state(plant, first), _state(plant, lowering)) == ("waiting", "queued")
    # The other one finds that it is lowered again already.
    assert plant.tasks.begin(second, "worker") is None
    assert (_state(plant, second), _state(plant, lowering)) == ("waiting", "queued")
    _lowered(plant, lowering)
    for task in (first, second):
        begun = plant.tasks.begin(task, "worker")
        assert begun is not None and begun.lowered == made
        assert made.read_text() == "lowered"


def test_what_is_spoilt_again_and_again_is_given_up(plant: Plant) -> None:
    job = plant.note({"net": _EXPORTED})
    (lowering,) = plant.jobs.queued(job.id)
    with pytest.raises(LostBlobError, match="is damaged"):
        for _ in range(10):
            _spoil(_lowered(plant, lowering))
            (task,) = plant.jobs.queued(job.id)
            assert plant.tasks.begin(task, "worker") is None


def test_an_input_that_is_missing_is_said(plant: Plant) -> None:
    job = plant.note({"net": b"\0\0\0\0VK00"})
    (task,) = plant.jobs.queued(job.id)
    sha256 = plant.items(job)["net"].task.input_sha256
    plant.store.path(sha256).unlink()
    with pytest.raises(
        InputError, match="net is not in the store any more: POST its bytes to /inp"
    ):
        plant.tasks.begin(task, "worker")


def test_spoilt_inputs_fail_their_items_alone_and_are_mended_by_handing_them_in(
    worked: Plant,
) -> None:
    plant = worked
    programs = {"damaged": lowered() + b"1", "missing": lowered() + b"2", "whole": lowered()}
    job = plant.note(programs)
    tasks = {name: item.task for name, item in plant.items(job).items()}
    _spoil(plant.store.path(tasks["damaged"].input_sha256))
    plant.store.path(tasks["missing"].input_sha256).unlink()
    plant.engine.start(plant.jobs.queued(job.id))
    items = plant.finished(job)
    assert {name: item.state for name, item in items.items()} == {
        "damaged": "failed",
        "missing": "failed",
        "whole": "done",
    }
    assert "the store's copy of it is damaged" in (items["damaged"].task.error or "")
    assert "is not in the store any more" in (items["missing"].task.error or "")
    for name in ("damaged", "missing"):
        assert "POST its bytes to /inputs again" in (items[name].task.error or "")
        plant.store.hand_in(programs[name])
    assert plant.jobs.retry(job.id) == 2
    plant.engine.start(plant.jobs.queued(job.id))
    assert {item.state for item in plant.finished(job).values()} == {"done"}


def test_a_lowering_that_is_spoilt_is_made_again_by_workers(worked: Plant, conv: bytes) -> None:
    plant = worked
    first = plant.submit({"conv.pt2": conv})
    (item,) = plant.finished(first).values()
    assert item.state == "done", item.task.error
    with plant.store.database.reading() as session:
        lowering = session.get_one(Task, item.task.needs)
    assert lowering.output_sha256 is not None
    made = plant.store.path(lowering.output_sha256)
    _spoil(made)
    again = plant.submit({"conv.pt2": conv}, [make_options("default")])
    (item,) = plant.finished(again).values()
    assert item.state == "done", item.task.error
    assert plant.store.path(made.name) == made


def test_a_worker_waits_for_room_on_the_disk(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "disk", 40) as disk,
        plants.running(disk.folder, f"sqlite:///{disk.folder / 'database.sqlite'}") as plant,
    ):
        job = plant.submit({"cvt.pte": lowered()})
        (task,) = plant.jobs.queued(job.id)
        disk.fill(but=8 * 2**20)
        plant.hire()
        plants.wait(lambda: plant.engine.statuses([task]) == {task: "PENDING"})
        assert plant.items(job)["cvt.pte"].task.attempts == 0
        disk.empty()
        (item,) = plant.finished(job).values()
        assert item.state == "done", item.task.error
