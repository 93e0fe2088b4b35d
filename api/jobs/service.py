"""What a server does about jobs: takes them in, keeps workers running, and reports progress."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from starlette.concurrency import run_in_threadpool

from api.jobs.engine import Engine
from api.jobs.events import Watches
from api.jobs.jobs import Jobs
from api.jobs.register import WorkerRegister
from api.jobs.submissions import SubmissionKey
from api.jobs.supervisor import Supervisor
from api.jobs.tasks import Tasks
from api.jobs.worker import WorkerSettings, reconcile_for_ever
from api.store.database import UnreachableError
from api.store.plans import PlanStore
from api.store.room import FullDiskError

_START_SECONDS: Final = 30.0
"""A worker that does not start in this time is no longer waited for."""
_LOOK_SECONDS: Final = 0.1


class InProgressError(Exception):
    """A submission while another one with the same key is not answered yet."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"another request with the Idempotency-Key {key!r} is not answered yet: try again later"
        )


@dataclass(slots=True)
class JobService:
    """The jobs of a server. The queue is opened for the first job, or for the first worker."""

    store: PlanStore
    jobs: Jobs
    register: WorkerRegister
    watches: Watches
    _supervisor: Supervisor | None = None
    _engine: Engine | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)
    _submitting: set[tuple[str, str]] = field(default_factory=set)

    async def started(self) -> None:
        """Returns once the workers of this server do tasks: to start takes time from requests."""
        end = time.monotonic() + _START_SECONDS
        while self._supervisor is not None and time.monotonic() < end:
            alive = await run_in_threadpool(self.register.alive)
            own = {worker.pid for worker in alive if worker.host == socket.gethostname()}
            if self._supervisor.are_all(own):
                return
            await asyncio.sleep(_LOOK_SECONDS)

    def engine(self) -> Engine:
        """The queue; raises ``UnreachableError``."""
        with self._lock:
            if self._engine is None:
                try:
                    self._engine = Engine(self.store.database)
                except (OperationalError, InterfaceError) as error:
                    raise self._away(error) from error
                threading.Thread(
                    target=reconcile_for_ever,
                    args=(Tasks(self.store), self._engine, self.register),
                    kwargs={"ended": self._ended},
                    name="reconcile",
                    daemon=True,
                ).start()
            return self._engine

    @contextmanager
    def submitting(self, key: SubmissionKey | None) -> Iterator[None]:
        """Raises ``InProgressError`` while another request with the same key is at it."""
        if key is None:
            yield
            return
        mine = (key.caller, key.key)
        with self._lock:
            if mine in self._submitting:
                raise InProgressError(key.key)
            self._submitting.add(mine)
        try:
            yield
        finally:
            with self._lock:
                self._submitting.discard(mine)

    def start(self, job_id: str) -> None:
        """Puts the tasks of a job into the queue; raises ``UnreachableError``."""
        try:
            self.engine().start(self.jobs.queued(job_id))
        except (OperationalError, InterfaceError) as error:
            raise self._away(error) from error

    def cancel(self, ids: Collection[str]) -> None:
        """Takes tasks out of the queue; raises ``UnreachableError``."""
        if ids:
            self.store.reserve.spend(lambda: self._cancel(ids))

    def _cancel(self, ids: Collection[str]) -> None:
        try:
            self.engine().cancel(ids)
        except (OperationalError, InterfaceError) as error:
            raise self._away(error) from error

    def _away(self, error: DBAPIError) -> UnreachableError | FullDiskError:
        """The queue's database is ours, or a file beside it."""
        return self.store.database.away(error)

    def employ(self, workers: Supervisor) -> None:
        """Takes workers that are this server's own: they end with it."""
        self._supervisor = workers

    def close(self) -> None:
        """Ends what runs beside the requests."""
        if self._supervisor is not None:
            self._supervisor.stop()
        self._ended.set()
        with self._lock:
            if self._engine is not None:
                self._engine.close()


@asynccontextmanager
async def serving_jobs(
    store: PlanStore, workers: int, settings: WorkerSettings
) -> AsyncIterator[JobService]:
    """The jobs of a server, done by so many workers of its own and by any others that there are."""
    jobs = Jobs(store)
    service = JobService(store, jobs, WorkerRegister(store.database), Watches(jobs))
    try:
        if workers:
            await run_in_threadpool(service.engine)
            service.employ(Supervisor(workers, settings))
        yield service
    finally:
        service.watches.stop()
        await run_in_threadpool(service.close)
