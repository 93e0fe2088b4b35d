"""Jobs: what was handed in together, how far it is, and what came of it."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, delete, exists, func, select, update
from sqlalchemy.orm import Session, aliased

from api.jobs.engine import blocks
from api.jobs.matrix import Input, check_size
from api.jobs.states import ACTIVE, STATES, STOPPED
from api.jobs.submissions import SubmissionKey, submitted, take
from api.store.accounts import Account, discharge
from api.store.blobs import LostBlobError
from api.store.clock import Ago
from api.store.options import write_options
from api.store.plans import PlanStore, plan_id
from api.store.tables import Item, Job, Plan, State, Task
from planner.errors import OptionError
from planner.files.kinds import MAGIC_BYTES, FileKind, kind_of
from planner.options import PlanOptions
from planner.result.revision import PLANNER

LOWERING: Final = "lower-"
"""What the ids of lowerings begin with."""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job, and how many of its items are in each state."""

    id: str
    name: str
    created: datetime
    cancelled: datetime | None
    request: dict[str, Any]
    counts: dict[State, int]

    @property
    def total(self) -> int:
        """How many items there are."""
        return sum(self.counts.values())

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return not any(self.counts[state] for state in ACTIVE)


@dataclass(frozen=True, slots=True)
class ItemStatus:
    """An item of a job: its task, and the plan once there is one."""

    number: int
    input_name: str
    state: State
    task: Task
    options: dict[str, Any]
    plan: Plan | None


class Jobs:
    """The jobs of a store. Methods raise ``UnreachableError``."""

    def __init__(self, store: PlanStore) -> None:
        self._store = store
        self._database = store.database

    def submit(
        self,
        name: str,
        inputs: Iterable[Input],
        choices: Sequence[PlanOptions],
        request: dict[str, Any],
        account: Account | None = None,
        key: SubmissionKey | None = None,
    ) -> str:
        """Notes a job down, and returns its id; ``queued`` then says what is to be started.

        The ``account`` is charged for its inputs and for what it makes. Where another submission
        with the same ``key`` comes first, its job is returned. Raises ``OptionError`` for inputs
        that were not uploaded, and for too many of them, ``FullAccountError``, ``KeyReusedError``.
        """
        found = check_size(inputs, len(choices))
        rows: dict[str, dict[str, Any]] = {}
        items: list[tuple[str, str]] = []
        for item in found:
            is_exported = self._is_exported(item)
            for options in choices:
                needs = None
                if is_exported:
                    # Lowered once for all options that ask for the same limits, and planned from
                    # what comes out.
                    needs = _lowering_id(item.sha256, options)
                    rows.setdefault(needs, _lowering_row(needs, item, options))
                id_ = plan_id(item.sha256, options)
                rows.setdefault(id_, _row(id_, item, options, needs))
                items.append((item.name, id_))
        wanted = {id_ for _, id_ in items}
        devices = {row["device_sha256"] for row in rows.values()} - {None}
        job_id, insert = uuid.uuid4().hex, self._database.insert
        with self._named(found), self._database.writing() as session:
            if key is not None and not take(self._database, session, key, job_id):
                earlier = submitted(session, key)
                assert earlier is not None
                return earlier
            self._store.keep_blobs(session, {item.sha256 for item in found} | devices)
            for options in choices:
                self._store.keep_profile(session, options.profile)
            for ids in (set(rows) - wanted, wanted):
                self._insert(session, [rows[id_] for id_ in sorted(ids)])
            session.execute(
                insert(Job).values(
                    id=job_id,
                    name=name,
                    created=Ago(),
                    request=json.dumps(request),
                    account=None if account is None else account.name,
                )
            )
            session.execute(
                insert(Item),
                [
                    {"job_id": job_id, "number": number, "input_name": name, "task_id": id_}
                    for number, (name, id_) in enumerate(items)
                ],
            )
            _settle(session, wanted)
            _queue(session, wanted)
            if account is not None:
                sizes = {item.sha256: self._store.blobs.size(item.sha256) for item in found}
                self._store.accounts.charge_strictly(session, account, sizes)
        return job_id

    def submitted(self, key: SubmissionKey) -> str | None:
        """The job that was submitted with a key; None for a new one. Raises ``KeyReusedError``."""
        with self._database.reading() as session:
            return submitted(session, key)

    def _insert(self, session: Session, tasks: Sequence[dict[str, Any]]) -> None:
        """Sees to it that tasks are there, and stay until the commit."""
        # In an order: two that insert the same rows in different ones wait for each other.
        by_id = {task["id"]: task for task in tasks}
        for block in blocks(by_id):
            missing = block
            while missing:
                values = [by_id[id_] for id_ in missing]
                session.execute(self._database.insert(Task).on_conflict_do_nothing(), values)
                # Whoever deletes a job may just have deleted one that was there.
                held = select(Task.id).where(Task.id.in_(missing)).order_by(Task.id)
                lock = held.with_for_update(read=True, key_share=True)
                missing = sorted(set(missing).difference(session.scalars(lock)))

    def queued(self, job_id: str) -> list[str]:
        """The tasks of a job that are queued, in the job's order; lowerings come first."""
        own = (
            select(Task.id, Task.state, Task.needs)
            .join(Item)
            .where(Item.job_id == job_id)
            .order_by(Item.number)
        )
        with self._database.reading() as session:
            tasks = session.execute(own).all()
            needed = dict.fromkeys(needs for _, state, needs in tasks if state == "waiting")
            ready = {
                id_
                for block in blocks(id_ for id_ in needed if id_ is not None)
                for id_ in session.scalars(
                    select(Task.id).where(Task.id.in_(block), Task.state == "queued")
                )
            }
        lowerings = [id_ for id_ in needed if id_ in ready]
        return lowerings + [id_ for id_, state, _ in tasks if state == "queued"]

    def cancel(self, job_id: str) -> list[str]:
        """Cancels what no other job wants; returns the tasks that are to be stopped."""
        with self._database.writing() as session:
            return _cancel(session, job_id)

    def delete(self, job_id: str) -> list[str]:
        """Deletes a job; its plans stay. Returns the tasks that are to be stopped.

        Tasks go, too, if no other job has them, and at once what nothing else refers to.
        """
        stopped, blobs = self._store.reserve.spend(lambda: self._delete(job_id))
        self._store.free(blobs)
        return stopped

    def _delete(self, job_id: str) -> tuple[list[str], set[str]]:
        """The tasks that are to be stopped, and what those that go refer to."""
        blobs: set[str] = set()
        with self._database.writing() as session:
            stopped = _cancel(session, job_id)
            own = session.scalars(select(Item.task_id).where(Item.job_id == job_id)).all()
            session.execute(delete(Item).where(Item.job_id == job_id))
            session.execute(delete(Job).where(Job.id == job_id))
            tasks, needs = sorted(set(own)), aliased(Task)
            for block in blocks(tasks):
                # Held first and looked at then: meanwhile no other job can come to want them.
                lock = select(Task).where(Task.id.in_(block)).order_by(Task.id).with_for_update()
                found = session.scalars(lock).all()
                lowerings = sorted({task.needs for task in found if task.needs is not None})
                unwanted = ~exists().where(Item.task_id == Task.id)
                blobs |= _delete(session, Task.id.in_(block), unwanted)
                lock = select(Task).where(Task.id.in_(lowerings)).order_by(Task.id)
                session.execute(lock.with_for_update())
                unneeded = ~exists().where(needs.needs == Task.id)
                blobs |= _delete(session, Task.id.in_(lowerings), unneeded)
            discharge(session, blobs)
            return stopped, blobs

    def retry(self, job_id: str) -> int:
        """Queues the failed and cancelled tasks of a job again; returns how many."""
        with self._database.writing() as session:
            session.execute(update(Job).where(Job.id == job_id).values(cancelled=None))
            own = select(Item.task_id).where(Item.job_id == job_id)
            return _queue(session, session.scalars(own).all())

    def get(self, job_id: str) -> JobStatus | None:
        """A job, or None where there is none."""
        with self._database.reading() as session:
            job = session.get(Job, job_id)
            return None if job is None else _statuses(session, [job])[0]

    def page(self, limit: int = 50, offset: int = 0) -> tuple[int, list[JobStatus]]:
        """How many jobs there are, and some of them, the newest first."""
        newest = select(Job).order_by(Job.created.desc(), Job.id.desc())
        with self._database.reading() as session:
            total = session.scalar(select(func.count()).select_from(Job)) or 0
            jobs = session.scalars(newest.limit(limit).offset(offset)).all()
            return total, _statuses(session, jobs)

    def items(self, job: JobStatus, limit: int | None = None, offset: int = 0) -> list[ItemStatus]:
        """Items of a job in their order."""
        query = (
            select(Item, Task, Plan)
            .join(Task, Task.id == Item.task_id)
            .outerjoin(Plan, and_(Plan.id == Task.id, Task.state == "done"))
            .where(Item.job_id == job.id)
            .order_by(Item.number)
            .limit(limit)
            .offset(offset)
        )
        with self._database.reading() as session:
            return [
                ItemStatus(
                    item.number,
                    item.input_name,
                    _state(task.state, job.cancelled is not None),
                    task,
                    json.loads(task.options),
                    plan,
                )
                for item, task, plan in session.execute(query)
            ]

    def states(self, job: JobStatus) -> list[tuple[State, int]]:
        """The state and the attempts of each item, in their order."""
        query = (
            select(Task.state, Task.attempts)
            .join(Item)
            .where(Item.job_id == job.id)
            .order_by(Item.number)
        )
        with self._database.reading() as session:
            is_cancelled = job.cancelled is not None
            return [(_state(state, is_cancelled), n) for state, n in session.execute(query)]

    def task_counts(self) -> dict[State, int]:
        """How many tasks there are in each state, of all jobs."""
        query = select(Task.state, func.count()).group_by(Task.state)
        with self._database.reading() as session:
            found = dict(session.execute(query).tuples().all())
        return {state: found.get(state, 0) for state in STATES}

    @contextmanager
    def _named(self, inputs: Sequence[Input]) -> Iterator[None]:
        """Says of an input that was deleted while it was named what is said of others."""
        names = {item.sha256: item.name for item in inputs}
        try:
            yield
        except LostBlobError as error:
            if error.sha256 not in names:
                raise
            raise _not_uploaded(names[error.sha256]) from None

    def _is_exported(self, item: Input) -> bool:
        """Whether an input is a ``.pt2``, as far as its first bytes show."""
        try:
            # No sweep takes it before the commit.
            with self._store.blobs.renew(item.sha256).open("rb") as file:
                return kind_of(file.read(MAGIC_BYTES)) is FileKind.EXPORTED
        except FileNotFoundError:
            raise _not_uploaded(item.name) from None


def _not_uploaded(name: str) -> OptionError:
    return OptionError(f"the input {name} has not been uploaded: POST its bytes to /inputs first")


def _row(id_: str, item: Input, options: PlanOptions, needs: str | None) -> dict[str, Any]:
    """A new task that plans, which is not to be done yet."""
    written = write_options(options)
    return {
        "id": id_,
        "kind": "plan",
        "version": PLANNER,
        "input_name": item.name,
        "input_sha256": item.sha256,
        "profile_hash": options.profile.digest,
        "device_sha256": written["device_sha256"],
        "options": json.dumps(written),
        "needs": needs,
        "state": "cancelled",
        "attempts": 0,
    }


def _lowering_row(id_: str, item: Input, options: PlanOptions) -> dict[str, Any]:
    """A new task that lowers a program as options ask for it."""
    return _row(id_, item, options, None) | {
        "kind": "lower",
        "profile_hash": None,
        "device_sha256": None,
        "options": json.dumps(options.lowering.document()),
    }


def _lowering_id(sha256: str, options: PlanOptions) -> str:
    text = json.dumps([PLANNER, sha256, options.lowering.document()])
    return LOWERING + hashlib.sha256(text.encode()).hexdigest()[:32]


def _cancel(session: Session, job_id: str) -> list[str]:
    """Cancels a job's tasks that no other job wants; returns those that are to be stopped."""
    other, others, dependent = aliased(Item), aliased(Job), aliased(Task)
    wanted_elsewhere = exists().where(
        other.task_id == Task.id,
        other.job_id == others.id,
        others.id != job_id,
        others.cancelled.is_(None),
    )
    session.execute(
        update(Job).where(Job.id == job_id, Job.cancelled.is_(None)).values(cancelled=Ago())
    )
    own = select(Item.task_id).where(Item.job_id == job_id)
    stop = update(Task).values(state="cancelled", finished=Ago()).returning(Task.id)
    plans = stop.where(Task.id.in_(own), Task.state.in_(ACTIVE), ~wanted_elsewhere)
    stopped = list(session.scalars(plans))
    waits = exists().where(dependent.needs == Task.id, dependent.state == "waiting")
    needed = select(dependent.needs).where(dependent.id.in_(own))
    lowerings = stop.where(Task.id.in_(needed), Task.state.in_(ACTIVE), ~waits)
    return stopped + list(session.scalars(lowerings))


def _delete(session: Session, *conditions: ColumnElement[bool]) -> set[str]:
    """Deletes tasks; returns the blobs that these referred to."""
    these = delete(Task).where(*conditions)
    found = session.execute(these.returning(Task.input_sha256, Task.output_sha256))
    return {sha256 for row in found for sha256 in row if sha256 is not None}


def _settle(session: Session, ids: Collection[str]) -> None:
    """Makes tasks agree with the plans that there are: others may have made or deleted them."""
    for block in blocks(ids):
        planned = exists().where(Plan.id == Task.id)
        these = update(Task).where(Task.id.in_(block))
        done = {"state": "done", "error": None, "finished": Ago()}
        session.execute(these.where(Task.state.in_(STOPPED), planned).values(done))
        session.execute(these.where(Task.state == "done", ~planned).values(state="cancelled"))


def _queue(session: Session, ids: Collection[str]) -> int:
    """Queues those of the tasks that have stopped, with what they need; returns how many."""
    queued = {
        "state": "queued",
        "attempts": 0,
        "error": None,
        "queued": Ago(),
        "started": None,
        "finished": None,
    }
    count = 0
    for block in blocks(sorted(ids)):
        stopped = select(Task.id, Task.needs).where(Task.id.in_(block), Task.state.in_(STOPPED))
        found = session.execute(stopped).all()
        needed = {needs for _, needs in found if needs is not None}
        # Held until the commit: a lowering that ends meanwhile finds those that wait for it.
        lock = select(Task).where(Task.id.in_(needed)).order_by(Task.id).with_for_update()
        lowerings = list(session.scalars(lock.execution_options(populate_existing=True)))
        again = [task.id for task in lowerings if task.state in STOPPED]
        lowered = {task.id for task in lowerings if task.state == "done"}
        waiting = [id_ for id_, needs in found if needs is not None and needs not in lowered]
        ready = [id_ for id_, needs in found if needs is None or needs in lowered]
        these = update(Task).where(Task.state.in_(STOPPED))
        session.execute(these.where(Task.id.in_(again + ready)).values(queued))
        session.execute(these.where(Task.id.in_(waiting)).values(queued | {"state": "waiting"}))
        count += len(found)
    return count


def _statuses(session: Session, jobs: Sequence[Job]) -> list[JobStatus]:
    query = (
        select(Item.job_id, Task.state, func.count())
        .join(Task, Task.id == Item.task_id)
        .where(Item.job_id.in_([job.id for job in jobs]))
        .group_by(Item.job_id, Task.state)
    )
    counts: dict[str, dict[State, int]] = {job.id: dict.fromkeys(STATES, 0) for job in jobs}
    cancelled = {job.id for job in jobs if job.cancelled is not None}
    for job_id, state, count in session.execute(query):
        counts[job_id][_state(state, job_id in cancelled)] += count
    return [
        JobStatus(
            job.id,
            job.name,
            job.created,
            job.cancelled,
            json.loads(job.request),
            counts[job.id],
        )
        for job in jobs
    ]


def _state(task: State, is_cancelled: bool) -> State:
    """An item's state: in a cancelled job nothing goes on, even if another job wants the task."""
    return "cancelled" if is_cancelled and task in ACTIVE else task
