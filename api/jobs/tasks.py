"""What becomes of a task: each change of its state is one transaction, and the first one counts."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import bindparam, delete, exists, or_, select, update
from sqlalchemy.orm import Session, aliased

from api.jobs.engine import blocks
from api.jobs.register import GONE_SECONDS, rows
from api.jobs.states import ACTIVE, STOPPED
from api.store.accounts import Account, find_accounts, full_accounts
from api.store.blobs import LostBlobError
from api.store.clock import Ago
from api.store.files import PlanFiles
from api.store.options import read_options
from api.store.plans import Draft, PlanStore
from api.store.tables import Item, Job, Plan, Profile, State, Task, WorkerRecord
from planner.errors import InputError
from planner.options import LoweringOptions, PlanOptions, read_lowering
from planner.result.revision import PLANNER

_ALIVE: Final = select(WorkerRecord.id).where(WorkerRecord.beat >= Ago(GONE_SECONDS))
# Asked before each plan: to make a statement takes longer than the database does.
_IS_RUNNING: Final = select(
    exists().where(
        Task.id == bindparam("task"), Task.state == "running", Task.worker_id.in_(_ALIVE)
    )
)
_MOST_BEGUN: Final = 5
"""How often a task is begun whose lowering is spoilt each time."""
_NO_ROOM: Final = (
    "who submitted the job has as much in the store as they may: delete plans or jobs, and retry "
    "this one"
)


@dataclass(frozen=True, slots=True)
class Begun:
    """A task to be done: to plan, with ``options``, or only to lower, with ``lowering``.

    ``source`` is what was handed in, as far as its SHA-256 is still this one, ``lowered`` what a
    lowering has made of it already.
    """

    id: str
    name: str
    source: Path
    sha256: str
    options: PlanOptions | None
    lowered: Path | None
    lowering: LoweringOptions | None


class Tasks:
    """The states of tasks in the store. Methods raise ``UnreachableError``."""

    def __init__(self, store: PlanStore) -> None:
        self._store = store
        self._database = store.database

    def begin(self, id_: str, worker_id: str) -> Begun | None:
        """Takes note that a task is begun (again); None if there is nothing to do any more."""
        begin = (
            update(Task)
            .where(Task.id == id_, Task.state.in_(("queued", "running")))
            .values(
                state="running",
                attempts=Task.attempts + 1,
                worker_id=worker_id,
                started=Ago(),
            )
        )
        with self._database.writing() as session:
            if not rows(session.execute(begin)):
                return None
            task = session.get_one(Task, id_)
            if task.kind == "plan" and session.get(Plan, id_) is not None:
                # Made meanwhile by a server, for a request of its own.
                _end(session, id_, "done")
                return None
            accounts = _wanting(session, id_)
            if accounts and None not in accounts:
                names = {name for name in accounts if name is not None}
                if len(full_accounts(session, names)) == len(names):
                    _fail(session, id_, _NO_ROOM)
                    return None
            lowering = session.get_one(Task, task.needs) if task.needs else None
            needed = None if lowering is None else lowering.output_sha256
            if lowering is not None and (lowering.state != "done" or needed is None):
                # Another has found out that what it made is spoilt.
                self._lower_again(session, task.id, lowering.id, needed)
                return None
            profile = session.get_one(Profile, task.profile_hash) if task.profile_hash else None
        asked = json.loads(task.options)
        try:
            lowered = None if needed is None else self._store.path(needed)
        except LostBlobError:
            if task.attempts > _MOST_BEGUN or task.needs is None:
                raise
            with self._database.writing() as session:
                self._lower_again(session, task.id, task.needs, needed)
            return None
        return Begun(
            id_,
            task.input_name,
            self._input(task),
            task.input_sha256,
            None
            if profile is None
            else read_options(asked, profile.document, self._device(task, asked)),
            lowered,
            read_lowering(asked) if profile is None else None,
        )

    def _input(self, task: Task) -> Path:
        """What was handed in; whoever reads it looks at its SHA-256. Raises ``InputError``."""
        try:
            return self._store.blobs.place(task.input_sha256)
        except FileNotFoundError:
            raise InputError(
                f"{task.input_name} is not in the store any more: POST its bytes to /inputs again, "
                "and retry the job"
            ) from None

    def _device(self, task: Task, asked: dict[str, Any]) -> Path | None:
        """The file of the device that a task plans for; raises ``InputError``."""
        try:
            return None if task.device_sha256 is None else self._store.path(task.device_sha256)
        except LostBlobError as error:
            raise InputError(
                f"what was known of the device {asked['device']} is {error.how} in the store: "
                "submit the job again"
            ) from None

    def _lower_again(self, session: Session, id_: str, lowering: str, spoilt: str | None) -> None:
        """Has a task wait for its lowering, and that be done once more if what it made is spoilt.

        Reconciling starts it.
        """
        held = select(Task).where(Task.id == lowering).with_for_update()
        made = session.scalars(held.execution_options(populate_existing=True)).one()
        is_spoilt = made.output_sha256 == spoilt and (spoilt is None or not self._is_whole(spoilt))
        if made.state in STOPPED or (made.state == "done" and is_spoilt):
            made.state, made.output_sha256, made.attempts = "queued", None, 0
            made.error = made.started = made.finished = None
            session.flush()
            session.execute(update(Task).where(Task.id == lowering).values(queued=Ago()))
        waits = update(Task).where(Task.id == id_, Task.state == "running")
        session.execute(waits.values(state="waiting"))

    def _is_whole(self, sha256: str) -> bool:
        try:
            self._store.path(sha256)
        except LostBlobError:
            return False
        return True

    def keep(self, id_: str, files: PlanFiles, source: Path, options: PlanOptions) -> bool:
        """Keeps the files of a task's plan, and ends it as ``finish`` does."""
        return self.finish(id_, self._store.prepare(id_, files, source, options))

    def finish(self, id_: str, draft: Draft) -> bool:
        """Ends a task and stores its plan; False if it had ended before, and nothing is stored."""
        with self._database.writing() as session:
            if not _end(session, id_, "done"):
                return False
            self._store.insert(session, draft, _charged(session, id_))
            return True

    def finish_lowering(self, id_: str, output: Path) -> list[str]:
        """Ends a lowering and keeps what it made; returns the tasks that are queued for it now."""
        sha256 = self._store.blobs.put(output)
        with self._database.writing() as session:
            self._store.keep_blobs(session, [sha256])
            made = update(Task).where(Task.id == id_).values(output_sha256=sha256)
            if not _end(session, id_, "done"):
                return []
            session.execute(made)
            size = self._store.blobs.size(sha256)
            for account in _charged(session, id_):
                self._store.accounts.charge(session, account, {sha256: size})
            return _release(session, id_)

    def fail(self, id_: str, reason: str) -> None:
        """Ends a task with a reason, and those that wait for it with the same."""
        with self._database.writing() as session:
            _fail(session, id_, reason)

    def is_running(self, id_: str) -> bool:
        """Whether a worker that is alive is at a task."""
        with self._database.reading() as session:
            return bool(session.scalar(_IS_RUNNING, {"task": id_}))

    # What reconciling asks for: see ``reconcile``.

    def release(self) -> None:
        """Sees to those that wait for a lowering that has ended."""
        needed = aliased(Task)
        ended = (
            select(needed.id, needed.state, needed.error)
            .join(Task, needed.id == Task.needs)
            .where(Task.state == "waiting", needed.state.in_(("done", "failed")))
            .distinct()
        )
        with self._database.reading() as session:
            if session.execute(ended.limit(1)).first() is None:
                return
        with self._database.writing() as session:
            for id_, state, error in session.execute(ended).all():
                if state == "done":
                    _release(session, id_)
                    continue
                waiting = select(Task.id).where(Task.needs == id_, Task.state == "waiting")
                for dependent in session.scalars(waiting).all():
                    _end(session, dependent, "failed", error)

    def stale(self, state: State, seconds: float) -> list[str]:
        """The tasks of this planner's version that have been in a state for so long."""
        since = Task.queued if state == "queued" else Task.started
        with self._database.reading() as session:
            found = select(Task.id).where(
                Task.state == state, since < Ago(seconds), Task.version == PLANNER
            )
            return list(session.scalars(found))

    def requeue(self, ids: Collection[str]) -> None:
        """Queues tasks again that run nowhere."""
        with self._database.writing() as session:
            for block in blocks(ids):
                session.execute(
                    update(Task)
                    .where(Task.id.in_(block), Task.state == "running")
                    .values(state="queued", queued=Ago())
                )

    def fail_foreign(self) -> None:
        """Fails tasks of other versions of the planner, of which no worker is alive."""
        alive = select(WorkerRecord.version).where(WorkerRecord.beat >= Ago(GONE_SECONDS))
        # A worker that is being replaced has that long to come back.
        foreign = select(Task.id, Task.version).where(
            Task.state.in_(ACTIVE),
            Task.version != PLANNER,
            Task.version.not_in(alive),
            Task.queued < Ago(60.0),
        )
        with self._database.reading() as session:
            found = session.execute(foreign).all()
        for id_, version in found:
            reason = (
                f"submitted to planner {version}, of which no worker is left: submit the job again"
            )
            with self._database.writing() as session:
                _end(session, id_, "failed", reason)


def resume(session: Session) -> None:
    """Has all go on that ran when a database was copied: there are other workers now."""
    running = update(Task).where(Task.state.in_(("queued", "running")))
    session.execute(running.values(state="queued", attempts=0, queued=Ago(), worker_id=None))
    session.execute(delete(WorkerRecord))


def _end(session: Session, id_: str, state: State, error: str | None = None) -> bool:
    """Ends a task; False if it has ended before."""
    end = (
        update(Task)
        .where(Task.id == id_, Task.state.in_(ACTIVE))
        .values(state=state, error=error, finished=Ago())
    )
    return rows(session.execute(end)) > 0


def _fail(session: Session, id_: str, reason: str) -> None:
    """Ends a task with a reason, and those that wait for it with the same."""
    if _end(session, id_, "failed", reason):
        waiting = select(Task.id).where(Task.needs == id_, Task.state == "waiting")
        for dependent in session.scalars(waiting).all():
            _end(session, dependent, "failed", reason)


def _wanting(session: Session, id_: str) -> set[str | None]:
    """The accounts of the jobs that want a task, or one that needs it."""
    query = (
        select(Job.account)
        .join(Item, Item.job_id == Job.id)
        .join(Task, Task.id == Item.task_id)
        .where(or_(Task.id == id_, Task.needs == id_), Job.cancelled.is_(None))
        .distinct()
    )
    return set(session.scalars(query))


def _charged(session: Session, id_: str) -> list[Account]:
    return find_accounts(session, {name for name in _wanting(session, id_) if name is not None})


def _release(session: Session, needed: str) -> list[str]:
    """Queues those that wait for a task."""
    ready = (
        update(Task)
        .where(Task.needs == needed, Task.state == "waiting")
        .values(state="queued", queued=Ago())
        .returning(Task.id)
    )
    return list(session.scalars(ready))
