"""The queue of tasks, by DBOS Transact: durable, and shared by every process of one database.

This is the only module that knows DBOS. A task is a workflow of the same id; what became of it is
in our own tables, which worker does it in the queue's. DBOS is imported when it is first needed.
"""

from __future__ import annotations

import fcntl
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from sqlalchemy import NullPool, create_engine, func, make_url, select
from sqlalchemy.exc import SQLAlchemyError

from api.jobs.wording import HTTP
from api.store.database import Database
from planner.errors import PlannerError
from planner.result.revision import PLANNER

if TYPE_CHECKING:
    from dbos import DBOSClient

ATTEMPTS: Final = 3
"""How often a task is tried whose planning process ends or takes too long."""
RECOVERIES: Final = 10
"""How often a task is taken over whose worker was killed."""
ENDED: Final = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
GIVEN_UP: Final = ("ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")

_APPLICATION: Final = "layout-planner"
_QUEUE: Final = "plans"
_WORKFLOW: Final = "run_task"
_POLL_SECONDS: Final = 0.1
_STRAY_SECONDS: Final = 5.0
"""How long a worker may have a task in the queue and not be at it."""
_BLOCK: Final = 500
_log = logging.getLogger(__name__)
# "queues" in ASCII: see ``database``.
_PREPARE_LOCK: Final = 0x717565756573


def queue_url(database: Database) -> str:
    """Where the queue is: in the same PostgreSQL, or in a SQLite file beside ours."""
    url = make_url(database.url)
    if url.get_backend_name() == "sqlite":
        # One file for both would make each wait for the other's writes.
        url = url.set(database=str(Path(url.database or "").with_name("jobs.sqlite")))
    return url.render_as_string(hide_password=False)


def blocks(ids: Iterable[str]) -> Iterator[list[str]]:
    """Ids in lists that are short enough for one statement."""
    found = list(ids)
    for first in range(0, len(found), _BLOCK):
        yield found[first : first + _BLOCK]


class Engine:
    """The queue from outside: puts tasks in, takes them out, and reads how they stand.

    May be used from several threads. Methods raise SQLAlchemy's ``OperationalError`` if the
    database does not answer.
    """

    def __init__(self, database: Database) -> None:
        """Opens the queue, and makes its tables if they are not there."""
        self.url = queue_url(database)
        _prepare(self.url)
        from dbos import DBOSClient

        self._is_closed = False
        self._client: DBOSClient = DBOSClient(
            system_database_url=self.url, application_name=_APPLICATION
        )
        # The queue's settings are in its database, for all workers. Each does one task at a time.
        self._client.register_queue(
            _QUEUE, worker_concurrency=1, polling_interval_sec=_POLL_SECONDS
        )

    def close(self) -> None:
        """Closes every connection; what puts tasks in meanwhile leaves that to others."""
        self._is_closed = True
        self._client.destroy()

    def statuses(self, ids: Collection[str]) -> Mapping[str, str]:
        """How tasks stand in the queue; those that were never in it are left out."""
        return {
            workflow.workflow_id: workflow.status
            for block in blocks(ids)
            for workflow in self._client.list_workflows(
                workflow_ids=block, load_input=False, load_output=False
            )
        }

    def start(self, ids: Collection[str]) -> None:
        """Puts tasks into the queue that are not in it: new ones, and ended ones once more.

        May be called again, and by several at once, for the same ones.
        """
        known = self.statuses(ids)
        for id_ in ids:
            if self._is_closed:
                return  # many take minutes, and reconciling puts the others in
            if id_ not in known:
                self._client.enqueue(
                    {
                        "workflow_name": _WORKFLOW,
                        "queue_name": _QUEUE,
                        "workflow_id": id_,
                        "app_version": PLANNER,
                    },
                    id_,
                )
            elif known[id_] in ENDED:
                self._rewind(id_)

    def cancel(self, ids: Collection[str]) -> None:
        """Takes tasks out of the queue; those that run learn of it within a second."""
        for block in blocks(ids):
            self._client.cancel_workflows(block)

    def _rewind(self, id_: str) -> None:
        from dbos import error as errors

        try:
            self._client.rewind_workflow(id_, application_version=PLANNER, queue_name=_QUEUE)
        except errors.DBOSException:
            # Another was faster: then it has not ended any more.
            if self.statuses([id_]).get(id_) in ENDED:
                raise


class Consumer:
    """Takes tasks from the queue for a worker, one at a time."""

    def __init__(
        self,
        url: str,
        id_: str,
        attempt: Callable[[str], Awaitable[None]],
        give_up: Callable[[str, str], Awaitable[None]],
        may_pass: tuple[type[Exception], ...],
        lose: Callable[[], NoReturn],
    ) -> None:
        """Prepares to do tasks; there can be one in a process.

        ``attempt`` does the task of an id, and is cancelled with it. It is called again if it
        raises one of ``may_pass``; for other errors, and after too many, ``give_up`` gets the id
        and the reason. ``lose`` ends this process where it and the queue are at odds, as they can
        be after a crash of the database: what the queue has given it goes on at another.
        """
        from dbos import DBOS
        from dbos import error as errors

        logging.getLogger("dbos").addFilter(_is_news)
        DBOS(
            config={
                "name": _APPLICATION,
                "system_database_url": url,
                "executor_id": id_,
                "application_version": PLANNER,
                "log_level": "ERROR",
                "enable_otlp": False,
                "run_migrations": False,
                "use_listen_notify": False,
                "scheduler_polling_interval_sec": 3600.0,
            }
        )
        self._dbos = DBOS
        self._id, self._lose = id_, lose
        self._doing: set[str] = set()
        self._strays: dict[str, float] = {}

        async def once(task_id: str) -> None:
            try:
                await attempt(task_id)
            except SQLAlchemyError as error:
                # Told apart from those that the queue itself raises.
                raise RuntimeError(str(error)) from error

        step = DBOS.step(
            name="attempt",
            retries_allowed=True,
            max_attempts=ATTEMPTS,
            interval_seconds=0.5,
            backoff_rate=2.0,
            preemptible=True,
            should_retry=lambda error: isinstance(error, may_pass),
        )(once)

        @DBOS.workflow(name=_WORKFLOW, max_recovery_attempts=RECOVERIES)
        async def run_task(task_id: str) -> None:
            # A task's failure is recorded in our tables, not in the queue.
            self._doing.add(task_id)
            try:
                await step(task_id)
            except (errors.DBOSWorkflowCancelledError, errors.DBOSWorkflowConflictIDError):
                raise
            except errors.DBOSMaxStepRetriesExceeded as error:
                await give_up(task_id, f"{error.errors[-1]} ({ATTEMPTS} times)")
            except (SQLAlchemyError, errors.DBOSException):
                # The queue's own: it says nothing of the task.
                _log.exception("the queue cannot go on with a task")
                lose()
            except Exception as error:
                await give_up(task_id, _reason(error))
            finally:
                self._doing.discard(task_id)

    def launch(self) -> None:
        """Starts to do tasks."""
        self._dbos.listen_queues([_QUEUE])
        self._dbos.launch()

    def take_over(self, alive: Collection[str]) -> int:
        """Gives back to the queue what runs at a worker that is not alive; returns how many.

        Several may do this at once: each task goes back once, and what its former worker still
        reports of it does not count. What this one has and is not at, it loses.
        """
        pending = self._dbos.list_workflows(
            status="PENDING", app_version=PLANNER, load_input=False, load_output=False
        )
        self._look_for_strays({w.workflow_id for w in pending if w.executor_id == self._id})
        gone: Sequence[str] = sorted(
            {w.executor_id for w in pending if w.executor_id is not None}.difference(alive)
        )
        # Not resume_workflow, which is public, but starts a task again that another has taken over.
        return len(self._dbos._recover_pending_workflows(list(gone))) if gone else 0

    def _look_for_strays(self, mine: Collection[str]) -> None:
        """The queue gave this worker a task, and the answer was lost in a crash of the database."""
        now = time.monotonic()
        self._strays = {id_: self._strays.get(id_, now) for id_ in set(mine) - self._doing}
        if any(now - since > _STRAY_SECONDS for since in self._strays.values()):
            self._lose()


def _prepare(url: str) -> None:
    """Makes the queue's tables, or brings them up to date; one process at a time."""
    from dbos import DBOS

    logging.getLogger("dbos").setLevel(logging.ERROR)
    file = make_url(url)
    if file.get_backend_name() != "sqlite":
        with _locked(url):
            DBOS.migrate(url)
        return
    with Path(f"{file.database}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with closing(sqlite3.connect(file.database or "", timeout=30)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        DBOS.migrate(url)


@contextmanager
def _locked(url: str) -> Iterator[None]:
    """While it is active no other process of this program is here with the same PostgreSQL.

    Not in a transaction, nor waiting in a statement: DBOS makes indexes concurrently, which waits
    for every other statement and transaction to end.
    """
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        while not connection.scalar(select(func.pg_try_advisory_lock(_PREPARE_LOCK))):
            time.sleep(0.05)
        yield


def _is_news(record: logging.LogRecord) -> bool:
    """Whether what DBOS logs is more than that a task was cancelled, as was asked for."""
    from dbos import error as errors

    error: Any = record.exc_info[1] if record.exc_info else None
    cancelled = (errors.DBOSAwaitedWorkflowCancelledError, errors.DBOSWorkflowCancelledError)
    return not isinstance(error, cancelled)


def _reason(error: Exception) -> str:
    if isinstance(error, PlannerError):
        return error.worded(HTTP)
    return str(error) or type(error).__name__
