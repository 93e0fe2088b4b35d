"""A store with a queue and workers, as a server has them, for tests."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from api.jobs.engine import Engine
from api.jobs.jobs import ItemStatus, Jobs, JobStatus
from api.jobs.matrix import Input
from api.jobs.register import WorkerRegister
from api.jobs.supervisor import Supervisor
from api.jobs.tasks import Tasks
from api.jobs.worker import WorkerSettings
from api.store.plans import open_store
from planner.options import PlanOptions, make_options

OPTIONS = make_options("bytes")

PATIENCE = 900.0
"""Seconds after which what is waited for will not come, on a machine however slow."""


class Plant:
    """A store, its queue, and as many workers as are started."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.store = open_store(folder / "data", url)
        self.engine = Engine(self.store.database)
        self.jobs, self.tasks = Jobs(self.store), Tasks(self.store)
        self.register = WorkerRegister(self.store.database)
        self._supervisors: list[Supervisor] = []

    def hire(self, count: int = 1, plan_seconds: float = 60) -> Supervisor:
        """Starts workers."""
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        settings = WorkerSettings(str(self.folder / "data"), self.url, str(scratch), plan_seconds)
        self._supervisors.append(Supervisor(count, settings))
        return self._supervisors[-1]

    def note(
        self, inputs: dict[str, bytes], choices: Sequence[PlanOptions] = (OPTIONS,)
    ) -> JobStatus:
        """Notes a job down, without starting it."""
        found = [Input(name, self.store.hand_in(data)) for name, data in inputs.items()]
        return self.status(self.jobs.submit("test", found, choices, {}))

    def submit(
        self, inputs: dict[str, bytes], choices: Sequence[PlanOptions] = (OPTIONS,)
    ) -> JobStatus:
        """Notes a job down and starts it."""
        job = self.note(inputs, choices)
        self.engine.start(self.jobs.queued(job.id))
        return job

    def submit_stuck(self, **inputs: bytes) -> tuple[JobStatus, list[Stuck]]:
        """Submits a job none of whose inputs can be read until it is let go."""
        job = self.note(inputs)
        stuck = [Stuck(self.store.path(self.store.blobs.put(data))) for data in inputs.values()]
        self.engine.start(self.jobs.queued(job.id))
        return job, stuck

    def status(self, job_id: str) -> JobStatus:
        """How a job stands now."""
        job = self.jobs.get(job_id)
        assert job is not None
        return job

    def items(self, job: JobStatus) -> dict[str, ItemStatus]:
        """A job's items by the names of their inputs."""
        return {item.input_name: item for item in self.jobs.items(self.status(job.id))}

    def finished(self, job: JobStatus, seconds: float = PATIENCE) -> dict[str, ItemStatus]:
        """The items, once all have ended."""
        wait(lambda: self.status(job.id).is_finished, seconds)
        return self.items(job)

    def stop(self) -> None:
        """Ends all."""
        for supervisor in self._supervisors:
            supervisor.stop()
        self.engine.close()
        self.store.close()


class Stuck:
    """A blob whose reader waits: a pipe in its place, until it is let go."""

    def __init__(self, path: Path) -> None:
        self._path, self._data = path, path.read_bytes()
        path.unlink()
        os.mkfifo(path)
        # Open at both ends, so that it can be opened, and has no end while it is read.
        self._pipe = os.open(path, os.O_RDWR)

    def let_go(self) -> None:
        """Puts the bytes in place, and gives them to the one who waits."""
        new = self._path.with_suffix(".new")
        new.write_bytes(self._data)
        new.replace(self._path)
        os.write(self._pipe, self._data)
        os.close(self._pipe)


def wait(holds: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Waits until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it does not come to hold"
        time.sleep(0.02)


def kill(pid: int) -> None:
    """Kills a process as if its machine had lost its power."""
    os.kill(pid, signal.SIGKILL)


@contextmanager
def running(folder: Path, url: str) -> Iterator[Plant]:
    """A plant that is stopped in the end."""
    plant = Plant(folder, url)
    try:
        yield plant
    finally:
        plant.stop()
