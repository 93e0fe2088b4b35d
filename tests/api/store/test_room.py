"""Plans on a disk that is full: nothing is half there, and deleting makes room."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from api.jobs.jobs import Jobs
from api.jobs.matrix import Input
from api.store.database import Database
from api.store.plans import PlanStore, open_store
from api.store.room import FullDiskError, Reserve
from api.store.tables import Profile
from tests.api import postgres
from tests.api.disks import SmallDisk, small_disk
from tests.api.store.drafts import OPTIONS, check_whole, draft, put

_RESERVE = 2**20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 8) as disk:
        yield disk


@pytest.fixture
def store(disk: SmallDisk) -> Iterator[PlanStore]:
    store = open_store(disk.folder / "data", reserve_bytes=_RESERVE)
    assert store.reserve.fill()
    yield store
    store.close()


def _blobs(disk: SmallDisk) -> set[str]:
    return {path.name for path in (disk.folder / "data/blobs").glob("??/??/*")}


def test_a_put_on_a_full_disk_leaves_nothing(
    store: PlanStore, disk: SmallDisk, tmp_path: Path
) -> None:
    kept = put(store, tmp_path / "one", "one")
    before = _blobs(disk)
    disk.fill()
    with pytest.raises(FullDiskError, match="no room on the disk for a file of the store: delete"):
        put(store, tmp_path / "two", "two")
    assert _blobs(disk) == before
    assert list((disk.folder / "data/blobs/unfinished").iterdir()) == []
    assert store.page().total == 1
    check_whole(store, kept)
    disk.empty()
    check_whole(store, put(store, tmp_path / "again", "two"))


def test_a_row_that_has_no_room_is_not_there(store: PlanStore, disk: SmallDisk) -> None:
    disk.fill()
    row = Profile(hash="a" * 64, name="large", document="x" * 10**6)
    said = "no room on the disk for what the database is to keep"
    with pytest.raises(FullDiskError, match=said), store.database.writing() as session:
        session.add(row)
    assert store.profile("a" * 64) is None
    disk.empty()
    with store.database.writing() as session:
        session.add(Profile(hash="b" * 64, name="small", document="{}"))


def test_deleting_a_plan_on_a_full_disk_makes_room_at_once(
    store: PlanStore, disk: SmallDisk, tmp_path: Path
) -> None:
    source, files = draft(tmp_path / "draft")
    files.program.write_bytes(bytes(2 * 2**20))
    plan = store.put("0123456789abcdef" * 2, files, source, OPTIONS)
    other = put(store, tmp_path / "other", "other")
    disk.fill()
    assert disk.free == 0
    assert store.delete(plan.id)
    assert disk.free > 2**20
    check_whole(store, other)
    assert store.get(plan.id) is None
    assert len(_blobs(disk)) == 4


def test_what_the_reserve_took_is_for_deletions_however_little_is_handed_in(
    store: PlanStore, disk: SmallDisk
) -> None:
    disk.fill(but=2**16)
    os.truncate(disk.folder / "data/reserve", 0)
    disk.fill(but=2**16)
    with pytest.raises(FullDiskError):
        store.hand_in(b"few")
    disk.empty()
    store.hand_in(b"few")


def test_deleting_a_large_job_on_a_full_disk_takes_the_reserve(
    store: PlanStore, disk: SmallDisk
) -> None:
    jobs = Jobs(store)
    inputs = [Input(f"{n}", store.blobs.put(f"\0\0\0\0VK00 {n}".encode())) for n in range(300)]
    job_id = jobs.submit("many", inputs, [OPTIONS], {})
    reserve = disk.folder / "data/reserve"
    reserve.rename(disk.folder / "away")
    disk.fill()
    with pytest.raises(FullDiskError):
        jobs.delete(job_id)
    job = jobs.get(job_id)
    assert job is not None and job.total == 300
    assert len(_blobs(disk)) == 300
    (disk.folder / "away").rename(reserve)
    jobs.delete(job_id)
    assert jobs.get(job_id) is None
    assert _blobs(disk) == set()


def test_what_the_reserve_left_is_for_deletions_alone(disk: SmallDisk) -> None:
    reserve = Reserve(disk.folder / "reserve", _RESERVE)
    reserve.check("the upload")
    disk.fill()
    reserve.check("the upload")
    needed = []

    def delete() -> str:
        needed.append(disk.free)
        if disk.free < 2**12:
            raise FullDiskError("a row")
        (disk.folder / "row").write_bytes(bytes(2**12))
        return "deleted"

    assert reserve.spend(delete) == "deleted"
    assert needed == [0, _RESERVE]
    # It could not be made again.
    with pytest.raises(FullDiskError, match="no room on the disk for the upload"):
        reserve.check("the upload")
    assert disk.free == _RESERVE - 2**12
    assert reserve.spend(delete) == "deleted"
    (disk.folder / "row").unlink()
    reserve.check("the upload")
    assert disk.free == 0


def test_a_reserve_that_is_spent_cannot_be_spent_again(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve", 2**12)

    def delete() -> None:
        raise FullDiskError("a row")

    assert reserve.fill()
    for _ in range(2):
        with pytest.raises(FullDiskError):
            reserve.spend(delete)
    assert (tmp_path / "reserve").stat().st_size == 0


def test_a_full_disk_of_postgresql(cluster: postgres.Cluster) -> None:
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(cluster.folder / "small", 16))
        shutil.chown(disk.folder, postgres.USER)
        cluster.execute(f"CREATE TABLESPACE small LOCATION '{disk.folder}'")
        stack.callback(cluster.execute, "DROP TABLESPACE small")
        url = stack.enter_context(cluster.database("TABLESPACE small"))
        database = Database(url)
        stack.callback(database.close)
        disk.fill()
        text = json.dumps([hash(str(n)) for n in range(200_000)])
        with pytest.raises(FullDiskError), database.writing() as session:
            session.add(Profile(hash="a" * 64, name="large", document=text))
        with database.reading() as session:
            assert session.get(Profile, "a" * 64) is None
        disk.empty()
        with database.writing() as session:
            session.add(Profile(hash="a" * 64, name="large", document=text))
