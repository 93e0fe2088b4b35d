"""A service on a disk that is full: each request is told so, and deleting makes room."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.http.app import Settings, create_app
from api.http.audit import AuditLog
from api.jail.jail import Jail
from api.jail.limits import Limits
from api.planning.pool import Pool
from api.planning.work import PlanWork
from api.store.files import PlanFiles
from api.store.room import FullDiskError, needs_room
from planner.options import make_options
from tests.api.disks import SmallDisk, small_disk
from tests.api.http.inside import StandIn, write_plan
from tests.api.jobs.plant import wait
from tests.api.planned import lowered

_BODY = b"\0\0\0\0VK00"
_MB = 2**20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 12) as disk:
        yield disk


async def _plan(work: PlanWork) -> None:
    # As a pool says it: how much is left for a plan depends on what the database wrote before.
    with needs_room("the plan"):
        await write_plan(work)
        work.files.program.write_bytes(bytes(3 * _MB))


@pytest.fixture
def client(disk: SmallDisk) -> Iterator[TestClient]:
    settings = Settings(disk.folder / "data", reserve_bytes=_MB)
    with TestClient(create_app(settings, StandIn(_plan))) as client:
        yield client


def _left(disk: SmallDisk) -> list[Path]:
    """What is left of uploads, and of files of the store that were not finished."""
    folders = ("scratch/*/uploads/*", "blobs/unfinished/*")
    return [path for folder in folders for path in (disk.folder / "data").glob(folder)]


def test_a_full_disk_is_507_and_deleting_a_plan_makes_room(
    client: TestClient, disk: SmallDisk
) -> None:
    made = client.post("/plan", content=_BODY)
    assert made.status_code == 200
    disk.fill()
    requests = [
        client.post("/plan", content=_BODY + bytes(_MB)),
        client.post("/inputs", content=bytes(_MB)),
    ]
    for answer in requests:
        assert answer.status_code == 507, answer.text
        assert "no room on the disk" in answer.json()["detail"]
        assert "delete plans or jobs" in answer.json()["detail"]
    wait(lambda: _left(disk) == [])
    assert client.get(f"{made.headers['location']}/graph").status_code == 200
    assert client.post("/plan", content=_BODY).content == made.content
    assert client.get("/plans").json()["total"] == 1

    assert client.delete(made.headers["location"]).status_code == 204
    assert disk.free > 2 * _MB
    assert client.get("/plans").json()["total"] == 0
    disk.empty()
    assert client.post("/plan", content=_BODY).status_code == 200


def test_an_upload_that_finds_the_disk_full_as_it_is_written_is_507(
    client: TestClient, disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 2**30

    assert client.post("/inputs", content=bytes(_MB)).status_code == 201  # the reserve is there
    monkeypatch.setattr("api.http.uploads.disk_usage", lambda _: Usage)
    disk.fill(but=2 * _MB)
    # The last bytes are written when the file is closed.
    assert client.post("/inputs", content=bytes(2 * _MB + 100)).status_code == 507
    wait(lambda: _left(disk) == [])


def test_a_service_starts_on_a_full_disk_and_deletes(disk: SmallDisk) -> None:
    settings = Settings(disk.folder / "data", reserve_bytes=_MB)
    with TestClient(create_app(settings, StandIn(_plan))) as client:
        made = client.post("/plan", content=_BODY)
        assert made.status_code == 200
    disk.fill()
    with TestClient(create_app(settings, StandIn(_plan))) as client:
        assert client.get("/plans").json()["total"] == 1
        assert client.delete(made.headers["location"]).status_code == 204
        assert disk.free > 2 * _MB


def test_a_plan_that_has_no_room_is_told_from_one_that_failed(disk: SmallDisk) -> None:
    files = PlanFiles.within(disk.folder)
    source = disk.folder / "source"
    source.write_bytes(lowered())
    work = PlanWork(source, "cvt.pte", make_options("bytes"), files, is_lowered=True)
    disk.fill()
    pool = Pool(1, 60, Jail.of_machine(), Limits.of_machine(60))
    with pytest.raises(FullDiskError, match=r"no room on the disk for the plan of cvt\.pte: "):
        asyncio.run(pool.run(work))


def test_lines_of_the_audit_log_are_whole_or_printed(
    disk: SmallDisk, capsys: pytest.CaptureFixture[str]
) -> None:
    log = AuditLog(disk.folder)
    log.write(path="/first")
    disk.fill()
    log.write(path="/second", query="x" * 2**14)
    disk.empty()
    log.write(path="/third")
    log.close()
    lines = [json.loads(line) for line in (disk.folder / "audit.log").read_text().splitlines()]
    assert [line["path"] for line in lines] == ["/first", "/third"]
    said = capsys.readouterr().err
    assert "audit.log cannot be written (No space left on device): {" in said
    assert json.loads(said[said.index("{") :])["path"] == "/second"


def test_a_file_that_is_deleted_before_its_answer_begins_is_410(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TestClient(create_app(Settings(tmp_path), StandIn())) as client:
        location = client.post("/plan", content=_BODY).headers["location"]
        app: Any = client.app
        store = app.state.service.store
        path = store.path

        def path_and_delete(sha256: str) -> Path:
            found: Path = path(sha256)
            assert store.delete(location.removeprefix("/plans/"))
            return found

        monkeypatch.setattr(store, "path", path_and_delete)
        answer = client.get(f"{location}/graph")
        assert answer.status_code == 410
        assert "is missing" in answer.json()["detail"]
