"""How fast jobs are done, and what the queue costs over planning alone."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from sqlalchemy import func, make_url, select

from api.bench.profiles import recorded
from api.files import read_input
from api.jobs.engine import Engine
from api.jobs.jobs import Jobs
from api.jobs.matrix import Input
from api.jobs.register import WorkerRegister
from api.jobs.supervisor import Supervisor
from api.jobs.worker import WorkerSettings
from api.planning.work import PlanWork, do_here
from api.store.database import Database
from api.store.files import PlanFiles
from api.store.plans import open_store
from api.store.tables import Task
from api.terminal.markdown import head, print_and_write, row
from planner.errors import OptionError
from planner.files.lowered import delegates_of, graph_of
from planner.options import PlanOptions, make_options
from schema import vkgraph

WORKERS: Final = (1, 2)
_WARM: Final = 4
"""Tasks for each worker before the clock starts."""
_COLUMNS: Final = ("workers", "tasks", "seconds", "tasks/s", "ms a task", "ms of planning alone")


def bench_jobs(
    source: Path | None, tasks: int, database_url: str | None, output: Path | None
) -> None:
    """Prints a Markdown table: tasks a second by the number of workers, and the overhead of each.

    The tasks plan copies of a VkGraph (that of a recorded run where none is named) that differ in
    their version's name alone. Planning alone is the same work, files and all, without a queue.
    Raises ``OptionError`` for a database that has jobs of its own: the workers would do them.
    """
    name, graph = _graph(source)
    options = make_options("bytes")
    if database_url is not None:
        _check_empty(database_url)
    with TemporaryDirectory(prefix="layout-planner-bench-") as folder:
        alone = _seconds_alone(_copies(graph, tasks), options, Path(folder))
        lines = list(head(_COLUMNS, 0))
        first = 0.0
        for workers in WORKERS:
            copies = _copies(graph, tasks + _WARM * workers, workers)
            seconds = _job(copies, options, workers, Path(folder), database_url)
            first = first or seconds
            lines.append(
                row(
                    [
                        str(workers),
                        str(tasks),
                        f"{seconds:.2f}",
                        f"{tasks / seconds:.1f}",
                        f"{seconds / tasks * 1e3:.1f}",
                        f"{alone * 1e3:.1f}",
                    ]
                )
            )
    kind = make_url(database_url).get_backend_name() if database_url else "sqlite"
    overhead = (first / tasks - alone) * 1e3
    text = (
        f"{name}, {tasks} tasks a job; the queue and the store in "
        f"{'PostgreSQL' if kind.startswith('postgres') else 'SQLite'}.\n\n"
        + "\n".join(lines)
        + f"\n\nThe engine's overhead with one worker: {overhead:.1f} ms a task.\n"
    )
    print_and_write(text, output)


def _graph(source: Path | None) -> tuple[str, bytes]:
    """A VkGraph, and what to call it."""
    if source is not None:
        return source.name, read_input(source)
    model, recordings = next(iter(sorted(recorded(None).items(), reverse=True)))
    program = recordings[0].program
    return model, graph_of(next(iter(delegates_of(program, model).values())))


def _check_empty(database_url: str) -> None:
    with closing(Database(database_url)) as database, database.reading() as session:
        count = session.scalar(select(func.count()).select_from(Task))
    if count:
        raise OptionError("the database has jobs already: name an empty one")


def _copies(source: bytes, count: int, salt: int = 0) -> list[bytes]:
    """So many graphs that are planned alike, and are other bytes."""
    graph = vkgraph.decode(source)
    return [
        vkgraph.encode(replace(graph, version=f"{graph.version}.{salt}.{n}")) for n in range(count)
    ]


def _seconds_alone(copies: list[bytes], options: PlanOptions, folder: Path) -> float:
    """Seconds a program, in this process, from the second one on."""
    start = 0.0
    for number, data in enumerate(copies):
        if number == 1:
            start = time.perf_counter()
        path = folder / "alone.vkgraph"
        path.write_bytes(data)
        do_here(PlanWork(path, path.name, options, PlanFiles.within(folder)))
    return (time.perf_counter() - start) / max(1, len(copies) - 1)


def _job(
    copies: list[bytes],
    options: PlanOptions,
    workers: int,
    folder: Path,
    database_url: str | None,
) -> float:
    """Seconds from the start of a job to its end, with workers that have planned before."""
    (folder / "scratch").mkdir(exist_ok=True)
    store = open_store(folder / "data", database_url)
    engine, jobs = Engine(store.database), Jobs(store)
    register = WorkerRegister(store.database)
    settings = WorkerSettings(str(folder / "data"), database_url, str(folder / "scratch"), 600)
    supervisor = Supervisor(workers, settings)
    try:
        while len(register.alive()) < workers:
            time.sleep(0.05)
        seconds = 0.0
        # The first job starts the planning processes.
        for name, part in (
            ("warm", copies[: _WARM * workers]),
            ("bench", copies[_WARM * workers :]),
        ):
            inputs = [Input(f"{n}", store.blobs.put(data)) for n, data in enumerate(part)]
            start = time.perf_counter()
            job_id = jobs.submit(name, inputs, [options], {})
            engine.start(jobs.queued(job_id))
            while (job := jobs.get(job_id)) is not None and not job.is_finished:
                time.sleep(0.02)
            seconds = time.perf_counter() - start
        return seconds
    finally:
        supervisor.stop()
        engine.close()
        store.close()
