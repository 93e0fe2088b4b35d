"""A store is looked at: what is damaged or missing is found, with the rows that refer to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from api.jobs.jobs import Jobs
from api.jobs.matrix import Input
from api.store.check import check_store
from api.store.plans import PlanStore, open_store
from tests.api.store.drafts import OPTIONS, put


@pytest.fixture
def store(tmp_path: Path, database_url: str) -> Iterator[PlanStore]:
    store = open_store(tmp_path / "data", database_url)
    yield store
    store.close()


def _spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


def test_a_store_that_is_whole(store: PlanStore, tmp_path: Path) -> None:
    put(store, tmp_path / "one", "one")
    put(store, tmp_path / "two", "two")
    store.blobs.put(b"stray")
    found = check_store(store)
    assert found.is_whole
    assert (found.plans, found.blobs, found.strays, found.stray_bytes) == (2, 9, 1, 5)


@pytest.mark.parametrize("how", ["damaged", "missing"])
@pytest.mark.parametrize("column", ["source", "report", "graph", "program"])
def test_what_a_plan_refers_to(store: PlanStore, tmp_path: Path, column: str, how: str) -> None:
    spoil: Callable[[Path], None] = _spoil if how == "damaged" else Path.unlink
    plan = put(store, tmp_path / "one", "one")
    put(store, tmp_path / "two", "two")
    sha256 = getattr(plan, f"{column}_sha256")
    spoil(store.path(sha256))
    (damage,) = check_store(store).damages
    assert (damage.sha256, damage.how) == (sha256, how)
    assert (damage.column, damage.key) == (f"plan.{column}_sha256", plan.id)
    assert damage.name == "net.pt2"
    assert damage.remedy


def test_the_input_of_a_job_and_what_nothing_refers_to(store: PlanStore) -> None:
    sha256 = store.blobs.put(b"\0\0\0\0VK00")
    Jobs(store).submit("job", [Input("net", sha256)], [OPTIONS], {})
    _spoil(store.path(sha256))
    _spoil(store.path(store.blobs.put(b"stray")))
    job, stray = check_store(store).damages
    assert (job.sha256, job.column, job.name) == (sha256, "task.input_sha256", "net")
    assert "/inputs" in job.remedy
    assert (stray.column, stray.how) == ("", "damaged")


def test_a_database_that_is_damaged(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    for number in range(60):
        put(store, tmp_path / str(number), str(number))
    store.close()
    with (tmp_path / "data/layout-planner.sqlite").open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(size * 3 // 4)
        file.write(b"\xff" * (size // 8))
    (tmp_path / "data/jobs.sqlite").write_bytes(b"no database" * 1000)
    store = open_store(tmp_path / "data")
    found = check_store(store, [tmp_path / "data/jobs.sqlite", tmp_path / "data/none.sqlite"])
    assert not found.is_whole
    assert len(found.database) >= 2
    assert found.database[-1] == "jobs.sqlite: file is not a database"
    store.close()
