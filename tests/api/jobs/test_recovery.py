"""Jobs whose database crashes, whose workers are of another release or die again and again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text, update

from api.jobs.engine import RECOVERIES
from api.jobs.jobs import JobStatus
from api.jobs.reconcile import reconcile
from api.jobs.worker import LOST_CODE
from api.store.tables import Task, WorkerRecord
from tests.api import postgres
from tests.api.graphs import graph
from tests.api.jobs import plant
from tests.api.jobs.plant import Plant, wait
from tests.api.planning.processes import planning_pids

pytestmark = pytest.mark.chaos


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Iterator[Plant]:
    with plant.running(tmp_path, database_url) as site:
        yield site


@pytest.mark.postgresql
def test_a_job_outlives_a_crash_of_its_database(tmp_path: Path) -> None:
    with (
        postgres.running() as cluster,
        cluster.database() as url,
        plant.running(tmp_path, url) as site,
    ):
        site.hire(2)
        wait(lambda: len(site.register.alive()) == 2)
        job = site.submit({f"net {n}": graph(8 + n, 1500) for n in range(20)})
        wait(lambda: site.status(job.id).counts["done"] >= 3)
        cluster.stop()
        time.sleep(1)
        cluster.start()
        items = site.finished(job)
        assert {(item.state, item.task.error) for item in items.values()} == {("done", None)}
        assert site.store.page().total == 20


def in_the_queue(site: Plant, job: JobStatus, change: str, value: object) -> None:
    """Changes how the job's net stands in the queue, behind everyone's back."""
    queue = create_engine(site.engine.url)
    with queue.begin() as connection:
        table = "dbos.workflow_status" if queue.name == "postgresql" else "workflow_status"
        connection.execute(
            text(f"UPDATE {table} SET {change} WHERE workflow_uuid = :id"),
            {"value": value, "id": site.items(job)["net"].task.id},
        )
    queue.dispose()


def test_a_task_that_its_worker_does_not_know_of_goes_on_at_another(site: Plant) -> None:
    """As when the database crashes right after it has given a task out."""
    workers = site.hire()
    # One that has only entered itself is not at the queue yet: it takes up what is there for it.
    site.finished(site.submit({"first": graph(7)}))
    (pid,), (before,) = workers.pids(), site.register.alive()
    job = site.note({"net": graph(8)})
    os.kill(pid, signal.SIGSTOP)
    site.engine.start(site.jobs.queued(job.id))
    in_the_queue(site, job, "status = 'PENDING', executor_id = :value", before.id)
    os.kill(pid, signal.SIGCONT)
    assert site.finished(job)["net"].state == "done"
    assert before.id not in {worker.id for worker in site.register.alive()}


BROKEN = """
import os, sys, time
from sqlalchemy.exc import OperationalError
from api.jobs.engine import Consumer, Engine
from api.jobs.worker import LOST_CODE
from api.store.database import Database
from dbos._sys_db import SystemDatabase

GIVEN_UP = 3

def fail(*args, **kw):
    raise OperationalError("SELECT 1", {}, Exception("the server closed the connection"))

async def attempt(id_):
    if sys.argv[2] == "task":
        fail()

async def give_up(id_, reason):
    os._exit(GIVEN_UP if "the server closed" in reason else 1)

if sys.argv[2] == "queue":
    SystemDatabase.record_operation_result = fail
engine = Engine(Database(sys.argv[1]))
consumer = Consumer(engine.url, "worker", attempt, give_up, (), lambda: os._exit(LOST_CODE))
engine.start(["task"])
consumer.launch()
time.sleep(600)
"""


@pytest.mark.parametrize(("whose", "code"), [("queue", LOST_CODE), ("task", 3)])
def test_an_error_of_the_queue_is_no_failure_of_the_task(
    tmp_path: Path, whose: str, code: int
) -> None:
    url = f"sqlite:///{tmp_path / 'plans.sqlite'}"
    command = [sys.executable, "-c", BROKEN, url, whose]
    ended = subprocess.run(command, check=False, capture_output=True)
    assert ended.returncode == code, ended.stderr.decode()


def test_a_task_whose_workers_die_again_and_again_is_given_up(site: Plant) -> None:
    first = site.hire()
    job, (stuck,) = site.submit_stuck(net=graph(8))
    wait(lambda: site.status(job.id).counts["running"] > 0)
    # As if it had been taken over as often as that already.
    in_the_queue(site, job, "recovery_attempts = :value", RECOVERIES + 1)
    (pid,) = first.pids()
    plant.kill(pid)

    def is_finished() -> bool:
        reconcile(site.tasks, site.engine)
        return site.status(job.id).is_finished

    wait(is_finished)
    item = site.items(job)["net"]
    assert item.state == "failed"
    assert item.task.error == "its workers were killed 10 times while they did it"
    # It can be retried, and is then as good as new.
    stuck.let_go()
    assert site.jobs.retry(job.id) == 1
    site.engine.start(site.jobs.queued(job.id))
    assert site.finished(job)["net"].state == "done"


def test_tasks_of_a_release_that_nobody_runs_any_more_fail(site: Plant) -> None:
    job = site.note({"net": graph(8)})
    long_ago = datetime.now(UTC) - timedelta(minutes=5)
    with site.store.database.writing() as session:
        session.execute(update(Task).values(version="0.0.1", queued=long_ago))
        older = WorkerRecord(
            id="older",
            host="h",
            pid=1,
            version="0.0.1",
            started=long_ago,
            beat=datetime.now(UTC),
        )
        session.add(older)
    # A worker of that release is alive: it is that one's.
    reconcile(site.tasks, site.engine)
    assert site.items(job)["net"].state == "queued"
    with site.store.database.writing() as session:
        session.execute(update(WorkerRecord).values(beat=long_ago))
    reconcile(site.tasks, site.engine)
    item = site.items(job)["net"]
    assert item.state == "failed"
    assert item.task.error is not None
    assert item.task.error.startswith("submitted to planner 0.0.1, of which no worker is left")


def test_a_job_is_deleted_but_not_what_another_job_has(site: Plant) -> None:
    job, (stuck, _) = site.submit_stuck(running=graph(8), queued=graph(12))
    other = site.submit({"shared": graph(16)})
    third = site.submit({"shared": graph(16), "own": graph(20)})
    workers = site.hire()
    wait(lambda: site.status(job.id).counts["running"] > 0)
    (worker,) = workers.pids()
    wait(lambda: bool(planning_pids(worker)))
    (planner,) = planning_pids(worker)
    site.engine.cancel(site.jobs.delete(job.id))
    assert site.jobs.get(job.id) is None
    wait(lambda: not Path(f"/proc/{planner}").exists(), 10)
    assert site.finished(other)["shared"].state == "done"
    site.finished(third)
    assert site.jobs.delete(third.id) == []
    # Of a job that is gone only the plans are left.
    assert site.items(other)["shared"].state == "done"
    with site.store.database.reading() as session:
        assert [task.input_name for task in session.query(Task)] == ["shared"]
    assert site.store.page().total == 2
    again = site.note({"own": graph(20)})
    assert site.items(again)["own"].state == "done"
    stuck.let_go()


def test_jobs_of_the_same_programs_come_and_go_at_once(site: Plant) -> None:
    inputs = {f"{n}": graph(n) for n in range(8, 12)}

    def come_and_go(_: int) -> None:
        for _ in range(12):
            site.jobs.delete(site.note(inputs).id)

    with ThreadPoolExecutor() as pool:
        list(pool.map(come_and_go, range(4)))
    assert site.jobs.page()[0] == 0
    with site.store.database.reading() as session:
        assert session.query(Task).count() == 0
