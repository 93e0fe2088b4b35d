"""Who is charged for what the tasks of jobs make."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from api.jobs.jobs import Jobs
from api.jobs.matrix import Input
from api.jobs.tasks import Tasks
from api.store.accounts import Account, FullAccountError
from api.store.plans import PlanStore, open_store
from tests.api.graphs import graph
from tests.api.store.drafts import OPTIONS, draft

EXPORTED = b"PK\x03\x04 exported"


@pytest.fixture
def store(tmp_path: Path, database_url: str) -> Iterator[PlanStore]:
    store = open_store(tmp_path / "data", database_url)
    yield store
    store.close()


def _submit(store: PlanStore, data: bytes, account: Account | None) -> tuple[str, str]:
    """Notes a job of one input down; returns its id, and the first of its tasks."""
    jobs = Jobs(store)
    found = [Input("net", store.blobs.put(data))]
    job_id = jobs.submit("test", found, [OPTIONS], {}, account)
    return job_id, jobs.queued(job_id)[0]


def _finish(store: PlanStore, folder: Path, id_: str) -> None:
    source, files = draft(folder)
    assert Tasks(store).finish(id_, store.prepare(id_, files, source, OPTIONS))


def test_plans_of_a_job_are_charged_to_all_whose_jobs_want_them(
    store: PlanStore, tmp_path: Path
) -> None:
    ann, bob, eve = (Account(name, 10**6) for name in ("ann", "bob", "eve"))
    data = graph(8)
    job_id, id_ = _submit(store, data, ann)
    _submit(store, data, bob)
    cancelled, _ = _submit(store, data, eve)
    Jobs(store).cancel(cancelled)
    stored = store.accounts.stored
    assert [stored(each.name) for each in (ann, bob, eve)] == [len(data)] * 3
    assert Tasks(store).begin(id_, "worker") is not None
    _finish(store, tmp_path / "draft", id_)
    assert stored("ann") == stored("bob") > len(data) == stored("eve")
    store.delete(id_)
    assert stored("ann") == stored("bob") == len(data)
    Jobs(store).delete(job_id)
    assert stored("ann") == len(data)  # as long as the others have it


def test_a_job_that_was_deleted_is_not_charged(store: PlanStore) -> None:
    job_id, _ = _submit(store, graph(8), Account("ann", 10**6))
    Jobs(store).delete(job_id)
    assert store.accounts.stored("ann") == 0


def test_what_a_lowering_makes_is_charged(store: PlanStore, tmp_path: Path) -> None:
    _, id_ = _submit(store, EXPORTED, Account("ann", 10**6))
    assert id_.startswith("lower-")
    assert Tasks(store).begin(id_, "worker") is not None
    (tmp_path / "lowered").write_bytes(bytes(1000))
    assert Tasks(store).finish_lowering(id_, tmp_path / "lowered")
    assert store.accounts.stored("ann") == len(EXPORTED) + 1000


@pytest.mark.parametrize("data", [graph(8), EXPORTED], ids=["plan", "lowering"])
def test_nothing_is_made_for_who_has_no_room(store: PlanStore, data: bytes) -> None:
    ann = Account("ann", len(data))
    job_id, id_ = _submit(store, data, ann)
    assert Tasks(store).begin(id_, "worker") is None
    jobs = Jobs(store)
    job = jobs.get(job_id)
    assert job is not None and job.is_finished
    (item,) = jobs.items(job)
    assert item.state == "failed"
    assert "as much in the store as they may" in (item.task.error or "")
    # But it is for one who has, or who has no limits.
    _, id_ = _submit(store, data, None)
    assert Tasks(store).begin(id_, "worker") is not None


def test_a_job_whose_inputs_are_too_much_is_not_noted_down(store: PlanStore) -> None:
    with pytest.raises(FullAccountError):
        _submit(store, graph(8), Account("ann", 3))
    assert Jobs(store).page()[0] == 0
    assert store.accounts.stored("ann") == 0
