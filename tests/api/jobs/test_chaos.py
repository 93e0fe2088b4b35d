"""Workers and the server are killed at random while they do a job: it is done, each task once."""

from __future__ import annotations

import random
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select, text

from api.jobs.register import WorkerRegister
from api.jobs.supervisor import Supervisor
from api.jobs.worker import WorkerSettings
from api.store.plans import PlanStore, open_store
from api.store.tables import Item, Plan, Task
from tests.api.graphs import graph
from tests.api.jobs.plant import kill, wait
from tests.api.serving import serving

pytestmark = pytest.mark.chaos

TASKS = 60
SEED = 20260131
VICTIMS = ("worker", "worker", "server", "worker", "worker")

_NOTE_ENDS = {
    "sqlite": (
        "CREATE TABLE ended (task_id TEXT)",
        "CREATE TRIGGER note AFTER UPDATE OF state ON task WHEN NEW.state = 'done' "
        "BEGIN INSERT INTO ended VALUES (NEW.id); END",
    ),
    "postgresql": (
        "CREATE TABLE ended (task_id TEXT)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN INSERT INTO ended VALUES (NEW.id); RETURN NULL; END'",
        "CREATE TRIGGER note AFTER UPDATE OF state ON task FOR EACH ROW "
        "WHEN (NEW.state = 'done') EXECUTE FUNCTION note()",
    ),
}


def test_a_job_outlives_its_workers_and_its_server(tmp_path: Path, database_url: str) -> None:
    chance, data, port = random.Random(SEED), tmp_path / "data", _free_port()
    inputs = {f"net {n}": graph(8 + n, chance.randint(600, 2400)) for n in range(TASKS)}
    with ExitStack() as stack:
        store = open_store(data, database_url)
        stack.callback(store.close)
        with store.database.writing() as session:
            for statement in _NOTE_ENDS[store.database.url.get_backend_name()]:
                session.execute(text(statement))
        servers = stack.enter_context(ExitStack())
        server = servers.enter_context(serving(data, database_url, 1, port))
        stack.enter_context(_workers(2, tmp_path, data, database_url))
        wait(lambda: len(WorkerRegister(store.database).alive()) == 3)
        job_id = server.submit(inputs, profiles=["bytes"])

        killed = 0
        for victim in VICTIMS:
            time.sleep(chance.uniform(0.5, 2))
            if _left(store) == 0:
                break
            killed += 1
            if victim == "server":
                server.process.kill()
                time.sleep(chance.uniform(0, 2))
                server = servers.enter_context(serving(data, database_url, 1, port))
            else:
                kill(chance.choice(_alive(store)))
        assert killed == len(VICTIMS)
        wait(lambda: bool(server.get(f"/jobs/{job_id}?limit=0")["is_finished"]), 120)

        with store.database.reading() as session:
            tasks, plans = session.scalars(select(Task)).all(), session.scalars(select(Plan)).all()
            items = session.scalars(select(Item).where(Item.job_id == job_id)).all()
            ended = Counter(session.scalars(text("SELECT task_id FROM ended")))
        assert len(items) == TASKS
        assert Counter(task.state for task in tasks) == {"done": TASKS}
        assert ended == Counter(item.task_id for item in items)
        assert {plan.id for plan in plans} == set(ended)
        # Some were begun by one that was killed, and ended by another.
        assert any(task.attempts > 1 for task in tasks)
        for plan in plans:
            assert store.path(plan.graph_sha256).stat().st_size > 0


@contextmanager
def _workers(count: int, folder: Path, data: Path, url: str) -> Iterator[None]:
    (folder / "scratch").mkdir()
    settings = WorkerSettings(str(data), url, str(folder / "scratch"), 60)
    supervisor = Supervisor(count, settings)
    try:
        yield
    finally:
        supervisor.stop()


def _left(store: PlanStore) -> int:
    with store.database.reading() as session:
        return len(session.scalars(select(Task.id).where(Task.state != "done")).all())


def _alive(store: PlanStore) -> list[int]:
    """The workers that run, whether or not the others know already of those that do not."""
    found: list[int] = []
    while not found:
        pids = (worker.pid for worker in WorkerRegister(store.database).alive())
        found = sorted(pid for pid in pids if Path(f"/proc/{pid}").exists())
    return found


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
