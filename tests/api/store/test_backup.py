"""Backups: made while a store is used, whole or not there, and brought back."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from sqlalchemy import select

from api.jobs.jobs import Jobs
from api.jobs.matrix import Input
from api.jobs.register import WorkerRegister
from api.jobs.tasks import Tasks, resume
from api.store.backup import back_up, manifest_of, restore
from api.store.blobs import DirectoryBlobs
from api.store.check import check_store
from api.store.plans import UNFINISHED, PlanStore, open_blobs, open_store
from api.store.tables import Task, WorkerRecord
from planner.errors import InputError, OptionError
from tests.api import postgres
from tests.api.disks import small_disk
from tests.api.store.drafts import OPTIONS, check_whole, put


@pytest.fixture
def store(tmp_path: Path, database_url: str) -> Iterator[PlanStore]:
    store = open_store(tmp_path / "data", database_url)
    yield store
    store.close()


@pytest.fixture
def empty_url(request: pytest.FixtureRequest, database_url: str) -> Iterator[str | None]:
    """A database to restore into."""
    if database_url.startswith("sqlite"):
        yield None
        return
    cluster: postgres.Cluster = request.getfixturevalue("cluster")
    with cluster.database() as url:
        yield url


@pytest.fixture
def here(tmp_path: Path) -> PlanStore:
    """A store in SQLite."""
    store = open_store(tmp_path / "data")
    put(store, tmp_path / "draft")
    return store


def test_what_is_backed_up_comes_back(
    store: PlanStore, tmp_path: Path, empty_url: str | None
) -> None:
    plan = put(store, tmp_path / "one", "one")
    put(store, tmp_path / "two", "two")
    jobs, register = Jobs(store), WorkerRegister(store.database)
    register.add("worker")
    inputs = [Input(f"{n}", store.blobs.put(f"\0\0\0\0VK00{n}".encode())) for n in range(2)]
    job = jobs.submit("job", inputs, [OPTIONS], {"asked": "for"})
    running = jobs.queued(job)[0]
    assert Tasks(store).begin(running, "worker") is not None

    written, manifest = back_up(store, tmp_path)
    assert written.parent == tmp_path and written.name.startswith("layout-planner-")
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert manifest == manifest_of(written)
    assert manifest.blobs == 10
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []

    assert restore(written, tmp_path / "back", empty_url, resume) == manifest
    assert stat.S_IMODE((tmp_path / "back").stat().st_mode) == 0o700
    with ExitStack() as stack:
        back = open_store(tmp_path / "back", empty_url)
        stack.callback(back.close)
        found = check_store(back)
        assert found.is_whole
        assert (found.plans, found.blobs) == (2, 10)
        again = back.get(plan.id)
        assert again is not None and again.created == plan.created
        check_whole(back, again)
        status = Jobs(back).get(job)
        assert status is not None and status.request == {"asked": "for"}
        # What ran when the copy was made is to be done again: no worker is at it here.
        assert status.counts["queued"] == 2
        with back.database.reading() as session:
            assert session.scalars(select(WorkerRecord)).all() == []
            assert session.get_one(Task, running).attempts == 0
    # The one that was copied goes on as it was.
    assert Tasks(store).is_running(running)


def test_a_backup_beside_puts_and_deletions_is_whole(
    store: PlanStore, tmp_path: Path, empty_url: str | None
) -> None:
    stop = threading.Event()

    def churn() -> int:
        number = 0
        while not stop.is_set():
            number += 1
            plan = put(store, tmp_path / f"draft{number}", f"{number % 3}")
            assert store.delete(plan.id)
        return number

    put(store, tmp_path / "kept", "kept")
    with ThreadPoolExecutor(1) as threads:
        churning = threads.submit(churn)
        try:
            written = [back_up(store, tmp_path / f"{n}.tar")[0] for n in range(5)]
        finally:
            stop.set()
        assert churning.result() >= 1
    for file in written[:4]:
        manifest_of(file)
    restore(written[-1], tmp_path / "back", empty_url, resume)
    back = open_store(tmp_path / "back", empty_url)
    assert check_store(back).is_whole
    back.close()


def test_what_is_deleted_during_a_backup_goes_with_a_later_sweep(here: PlanStore) -> None:
    (plan,) = here.page().plans
    with here.database.keeping():
        assert here.delete(plan.id)
        assert here.sweep() == 0
        check_whole(here, plan)
    assert check_store(here).damages == ()


def test_a_damaged_store_is_not_backed_up(here: PlanStore, tmp_path: Path) -> None:
    (plan,) = here.page().plans
    here.path(plan.graph_sha256).write_bytes(b"other")
    with pytest.raises(InputError, match="1 files of the store are damaged or missing"):
        back_up(here, tmp_path / "backup.tar")
    assert not list(tmp_path.glob("*.tar")) and not list(tmp_path.glob(".*"))


def test_a_file_that_is_there_is_not_overwritten(here: PlanStore, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(OptionError, match="it is there already"):
        back_up(here, tmp_path / "mine")
    with pytest.raises(OptionError, match="its directory does not exist"):
        back_up(here, tmp_path / "no" / "backup.tar")
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_backup_on_a_full_disk_is_not_there(here: PlanStore, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1) as disk:
        disk.fill()
        with pytest.raises(Exception, match="no room on the disk for the backup"):
            back_up(here, disk.folder / "backup.tar")
        assert [path.name for path in disk.folder.iterdir()] == ["filler"]


@pytest.mark.parametrize("place", [0.3, 0.9])
def test_a_damaged_backup_leaves_nothing(here: PlanStore, tmp_path: Path, place: float) -> None:
    written, _ = back_up(here, tmp_path / "backup.tar")
    with tarfile.open(written) as archive:
        members = archive.getmembers()
        chosen = members[1 if place < 0.5 else -1]
    with written.open("r+b") as file:
        file.seek(chosen.offset_data + 3)
        file.write(b"\xff\x00\xff")
    with pytest.raises(InputError, match="is damaged"):
        restore(written, tmp_path / "back", None, resume)
    assert list((tmp_path / "back").iterdir()) == []


def test_a_backup_that_ends_too_early(here: PlanStore, tmp_path: Path) -> None:
    written, _ = back_up(here, tmp_path / "backup.tar")
    with tarfile.open(written) as archive:
        last = archive.getmembers()[-1]
    os.truncate(written, last.offset)
    with pytest.raises(InputError, match="ends too early"):
        restore(written, tmp_path / "back", None, resume)
    (tmp_path / "text").write_text("no backup")
    with pytest.raises(InputError, match="is no backup of a store"):
        restore(tmp_path / "text", tmp_path / "back", None, resume)


def test_a_directory_that_is_not_empty_is_refused(here: PlanStore, tmp_path: Path) -> None:
    written, _ = back_up(here, tmp_path / "backup.tar")
    with pytest.raises(OptionError, match="it is not empty"):
        restore(written, tmp_path / "data", None, resume)
    assert check_store(here).is_whole


def test_a_restore_that_was_killed_is_begun_again(here: PlanStore, tmp_path: Path) -> None:
    written, _ = back_up(here, tmp_path / "backup.tar")
    back = tmp_path / "back"
    (back / "restore-unfinished").mkdir(parents=True)
    DirectoryBlobs(back / "blobs").put(b"half of it")
    with pytest.raises(OptionError, match="was not to its end"):
        open_store(back)
    restore(written, back, None, resume)
    store = open_store(back)
    found = check_store(store)
    assert found.is_whole and found.strays == 0
    store.close()


def test_a_database_that_is_not_empty_is_refused(cluster: postgres.Cluster, tmp_path: Path) -> None:
    with cluster.database() as url:
        store = open_store(tmp_path / "data", url)
        put(store, tmp_path / "draft")
        written, _ = back_up(store, tmp_path / "backup.tar")
        store.close()
        with pytest.raises(OptionError, match="plans in that database already"):
            restore(written, tmp_path / "back", url, resume)
        with pytest.raises(OptionError, match="in postgresql: name one"):
            restore(written, tmp_path / "back", None, resume)
        assert not (tmp_path / "back").exists() or not list((tmp_path / "back").iterdir())


def test_without_pg_dump_that_is_said(
    cluster: postgres.Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cluster.database() as url:
        store = open_store(tmp_path / "data", url)
        monkeypatch.setattr(shutil, "which", lambda name: None)
        with pytest.raises(OptionError, match=r"there is no pg_dump here.*postgresql-client"):
            back_up(store, tmp_path / "backup.tar")
        store.close()


def test_a_store_of_files_comes_back_into_an_empty_one_alone(
    blobs_url: str, tmp_path: Path, here: PlanStore
) -> None:
    written, manifest = back_up(here, tmp_path)
    url, back = f"{blobs_url}-restored", tmp_path / "back"
    assert restore(written, back, None, resume, url) == manifest
    with closing(open_store(back, None, url)) as store:
        assert check_store(store).is_whole
        (plan,) = store.page().plans
        check_whole(store, plan)
        again, _ = back_up(store, tmp_path / "again.tar")
    with pytest.raises(OptionError, match="there are files already"):
        restore(again, tmp_path / "other", None, resume, url)
    assert not any((tmp_path / "other").iterdir())
    # One that is damaged leaves nothing; one that was killed is cleared by the next.
    spoilt = tmp_path / "spoilt.tar"
    spoilt.write_bytes(written.read_bytes()[:-20_000])
    half = f"{blobs_url}-half"
    with pytest.raises(InputError, match="damaged"):
        restore(spoilt, tmp_path / "half", None, resume, half)
    blobs = open_blobs(tmp_path / "half", half)
    assert list(blobs.all()) == []
    blobs.put(b"left by a restore that was killed")
    (tmp_path / "half" / UNFINISHED).mkdir()
    (tmp_path / "half" / UNFINISHED / "home").write_text(blobs.identity)
    assert restore(written, tmp_path / "half", None, resume, half) == manifest
    assert len(list(blobs.all())) == manifest.blobs
