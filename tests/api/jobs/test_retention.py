"""What goes from a store by age and by size, and what stays."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from api.jobs.jobs import Jobs
from api.jobs.matrix import Input
from api.jobs.retention import FullStoreError, Removed, Retention, TooLargeError
from api.store.plans import PlanStore, open_store
from api.store.tables import Item, Job, Plan, Task
from tests.api.store.drafts import OPTIONS, check_whole, put


@pytest.fixture
def store(tmp_path: Path, database_url: str) -> Iterator[PlanStore]:
    store = open_store(tmp_path / "data", database_url)
    yield store
    store.close()


def _age(store: PlanStore, plan: Plan, days: float, used: float | None = None) -> None:
    """Makes a plan so old, and last asked for so long ago."""
    now = datetime.now(UTC)
    then = {"created": now - timedelta(days=days)}
    if used is not None:
        then["used"] = now - timedelta(days=used)
    with store.database.writing() as session:
        session.execute(update(Plan).where(Plan.id == plan.id).values(then))


def _plans(store: PlanStore) -> set[str]:
    return {plan.id for plan in store.page().plans}


def test_what_nobody_asked_for_goes(store: PlanStore, tmp_path: Path) -> None:
    old, used, new = (put(store, tmp_path / name, name) for name in ("old", "used", "new"))
    _age(store, old, 10)
    _age(store, used, 10, used=2)
    noted: list[Removed] = []
    assert Retention(store, days=5, on_removed=noted.append).apply() == noted
    assert noted == [Removed("plan", old.id, "net.pt2", "age")]
    assert _plans(store) == {used.id, new.id}
    assert sum(1 for _ in store.blobs.all()) == 8
    assert Retention(store).apply() == []
    check_whole(store, put(store, tmp_path / "again", "old"))


def test_to_ask_for_a_plan_is_noted_once_an_hour(store: PlanStore, tmp_path: Path) -> None:
    plan = put(store, tmp_path / "one")
    store.use(plan)
    found = store.get(plan.id)
    assert found is not None and found.used is None
    _age(store, plan, 10)
    found = store.get(plan.id)
    assert found is not None
    store.use(found)
    used = store.get(plan.id)
    assert used is not None and used.used is not None
    assert datetime.now(UTC) - used.used < timedelta(minutes=5)
    assert Retention(store, days=5).apply() == []


def test_jobs_that_ended_go_with_their_inputs_and_others_keep_theirs(
    store: PlanStore, tmp_path: Path
) -> None:
    jobs = Jobs(store)

    def submit(name: str) -> str:
        sha256 = store.blobs.put(f"\0\0\0\0VK00{name}".encode())
        return jobs.submit(name, [Input(name, sha256)], [OPTIONS], {})

    ended, going_on = submit("ended"), submit("going on")
    jobs.cancel(ended)
    then = datetime.now(UTC) - timedelta(days=10)
    with store.database.writing() as session:
        session.execute(update(Job).values(created=then))
        session.execute(update(Task).where(Task.finished.is_not(None)).values(finished=then))
    (removed,) = Retention(store, days=5).apply()
    assert removed == Removed("job", ended, "ended", "age")
    assert jobs.get(ended) is None and jobs.get(going_on) is not None
    assert sum(1 for _ in store.blobs.all()) == 1


def test_the_oldest_go_where_there_is_too_much(store: PlanStore, tmp_path: Path) -> None:
    plans = [put(store, tmp_path / f"{n}", f"{n}") for n in range(4)]
    for days, plan in enumerate(plans):
        _age(store, plan, days + 1)
    _age(store, plans[3], 4, used=0)
    size = sum(size for _, size in store.blobs.all())
    removed = Retention(store, most_bytes=size // 2).apply()
    assert [each.id for each in removed] == [plans[2].id, plans[1].id]
    assert {each.reason for each in removed} == {"size"}
    assert _plans(store) == {plans[0].id, plans[3].id}
    assert sum(size for _, size in store.blobs.all()) <= size // 2


def test_room_is_made_for_what_comes(store: PlanStore, tmp_path: Path) -> None:
    first, second = put(store, tmp_path / "1", "1"), put(store, tmp_path / "2", "2")
    _age(store, first, 1)
    size = sum(size for _, size in store.blobs.all())
    retention = Retention(store, most_bytes=size)
    retention.make_room(0)
    assert _plans(store) == {first.id, second.id}
    retention.make_room(100)
    assert _plans(store) == {second.id}
    with pytest.raises(TooLargeError, match="that this service keeps in all"):
        retention.make_room(size + 1)
    store.hand_in(b"x" * (size // 2))
    with pytest.raises(FullStoreError, match="there is no room for "):
        retention.make_room(size // 2 + 1)
    # It would have been in vain.
    assert _plans(store) == {second.id}


def test_what_a_job_that_goes_on_has_stays(store: PlanStore, tmp_path: Path) -> None:
    plan = put(store, tmp_path / "1", "1")
    _age(store, plan, 10)
    jobs = Jobs(store)
    inputs = [
        Input("planned", plan.source_sha256),
        Input("waiting", store.blobs.put(b"\0\0\0\0VK00")),
    ]
    job = jobs.submit("job", inputs, [OPTIONS], {})
    with store.database.reading() as session:
        assert session.get_one(Item, (job, 0)).task_id == plan.id
    assert Retention(store, days=5, most_bytes=1).apply() == []
    assert _plans(store) == {plan.id}
    jobs.cancel(job)
    assert {each.kind for each in Retention(store, days=0).apply()} == {"plan", "job"}
