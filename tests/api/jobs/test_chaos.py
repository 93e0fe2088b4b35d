"""Workers and the server are killed at random while they do a job: it is done, each task once."""

from __future__ import annotations

import random
import socket
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import select, text

from api.store.plans import PlanStore
from api.store.tables import Item, Plan, Task, WorkerRecord
from tests.api.graphs import graph
from tests.api.jobs.plant import Plant, kill, running, wait
from tests.api.serving import serving

pytestmark = pytest.mark.chaos

TASKS = 32
SEED = 20260131
BETWEEN = 4
"""Tasks that end between one kill and the next."""
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
    chance, port = random.Random(SEED), _free_port()
    inputs = {f"net {n}": graph(8 + n, chance.randint(600, 2400)) for n in range(TASKS)}
    with running(tmp_path, database_url) as site, ExitStack() as servers:
        store, data = site.store, site.folder / "data"
        with store.database.writing() as session:
            for statement in _NOTE_ENDS[store.database.url.get_backend_name()]:
                session.execute(text(statement))
        server = servers.enter_context(serving(data, database_url, 1, port))
        site.hire(2, plan_seconds=600)
        wait(lambda: len(site.register.alive()) == 3)
        # A worker is kept by an input that cannot be read: whoever kills it interrupts a task.
        kept, (stuck,) = site.submit_stuck(stuck=graph(8))
        wait(lambda: site.status(kept.id).counts["running"] > 0)
        job_id = server.submit(inputs, profiles=["bytes"])

        for number, victim in enumerate(VICTIMS, 1):
            _wait_for_ends(store, number * BETWEEN)
            if victim == "server":
                server.process.kill()
                _wait_for_ends(store, number * BETWEEN + 2)  # the others go on without it
                server = servers.enter_context(serving(data, database_url, 1, port))
            else:
                kill(chance.choice(_alive(site)).pid)
        attempts = _kill_who_is_stuck(site, kept.id)
        wait(lambda: site.items(kept)["stuck"].task.attempts > attempts)
        stuck.let_go()
        assert site.finished(kept)["stuck"].state == "done"
        wait(lambda: bool(server.get(f"/jobs/{job_id}?limit=0")["is_finished"]))

        with store.database.reading() as session:
            tasks, plans = session.scalars(select(Task)).all(), session.scalars(select(Plan)).all()
            items = session.scalars(select(Item).where(Item.job_id == job_id)).all()
            ended = Counter(session.scalars(text("SELECT task_id FROM ended")))
        assert len(items) == TASKS
        tasks_of_job = {item.task_id for item in items}
        assert Counter(task.state for task in tasks) == {"done": TASKS + 1}
        assert ended == Counter([*tasks_of_job, site.items(kept)["stuck"].task.id])
        assert {plan.id for plan in plans} == set(ended)
        for plan in plans:
            assert store.path(plan.graph_sha256).stat().st_size > 0


def _wait_for_ends(store: PlanStore, count: int) -> None:
    """Waits until so many tasks have ended."""
    ends = text("SELECT count(*) FROM ended")

    def enough() -> bool:
        with store.database.reading() as session:
            return int(session.scalars(ends).one()) >= count

    wait(enough)


def _alive(site: Plant) -> list[WorkerRecord]:
    """The workers that run, whether or not the others know already of those that do not."""
    found: list[WorkerRecord] = []

    def any_is_alive() -> bool:
        known = site.register.alive()
        found[:] = [worker for worker in known if Path(f"/proc/{worker.pid}").exists()]
        return found != []

    wait(any_is_alive)
    return found


def _kill_who_is_stuck(site: Plant, job_id: str) -> int:
    """Kills the worker that is kept; returns which attempt it was."""
    attempts = 0

    def is_killed() -> bool:
        nonlocal attempts
        (item,) = site.jobs.items(site.status(job_id))
        attempts = item.task.attempts
        holders = [one for one in _alive(site) if one.id == item.task.worker_id]
        for holder in holders:
            kill(holder.pid)
        return holders != []

    wait(is_killed)
    return attempts


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
