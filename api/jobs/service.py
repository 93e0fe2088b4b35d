"""What a server does about jobs: takes them in, keeps workers running, and reports progress."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

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
    _engine: Engine | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)
    _submitting: set[tuple[str, str]] = field(default_factory=set)

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

    def close(self) -> None:
        """Ends what runs beside the requests."""
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
    supervisor = None
    try:
        if workers:
            await run_in_threadpool(service.engine)
            supervisor = Supervisor(workers, settings)
        yield service
    finally:
        service.watches.stop()
        if supervisor is not None:
            await run_in_threadpool(supervisor.stop)
        await run_in_threadpool(service.close)
