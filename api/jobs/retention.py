"""What goes from a store by age and by size: what was asked for the longest ago goes first."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from sqlalchemy import exists, func, or_, select

from api.jobs.jobs import Jobs
from api.jobs.states import ACTIVE
from api.store.clock import Ago
from api.store.plans import GRACE, PlanStore
from api.store.room import NoRoomError
from api.store.tables import Blob, Item, Job, Plan, Task, blob_references

_PASSING: Final = frozenset(("plan", "task"))
"""Tables whose rows may go; what others refer to stays."""


class TooLargeError(Exception):
    """Bytes that no store of this size may have."""


class FullStoreError(NoRoomError):
    """The store has all that it may have, and nothing of it may go."""


@dataclass(frozen=True, slots=True)
class Removed:
    """A plan or a job that went: because of its age, or because the store was full."""

    kind: Literal["plan", "job"]
    id: str
    name: str
    reason: Literal["age", "size"]


@dataclass(frozen=True, slots=True)
class _Candidate:
    used: datetime
    kind: Literal["plan", "job"]
    id: str
    name: str


class Retention:
    """Takes plans that were not asked for, and jobs that ended, ``days`` ago.

    And, the oldest first, those without which the store has ``most_bytes`` at most; None is no
    limit. What a job that goes on has, and what is known of devices, stays.
    """

    def __init__(
        self,
        store: PlanStore,
        days: float | None = None,
        most_bytes: int | None = None,
        on_removed: Callable[[Removed], None] = lambda removed: None,
    ) -> None:
        self._store, self._jobs = store, Jobs(store)
        self._days, self._most = days, most_bytes
        self._on_removed = on_removed
        self._lock = threading.Lock()

    def apply(self) -> list[Removed]:
        """Has go what is to go. Raises ``UnreachableError`` and ``FullDiskError``."""
        with self._lock:
            removed = []
            if self._days is not None:
                removed += [self._remove(each, "age") for each in self._candidates(self._days)]
            if self._most is not None and self._pinned() <= self._most:
                removed += self._shrink(self._most)
            return removed

    def check_size(self, size: int) -> None:
        """Raises ``TooLargeError`` for bytes that never fit, whatever goes."""
        if self._most is not None and size > self._most:
            raise TooLargeError(
                f"{size:,} bytes are more than the {self._most:,} that this service keeps in all: "
                "hand in a smaller program, or have who runs it raise --max-store-gib"
            )

    def make_room(self, size: int) -> None:
        """Has as much go as so many more bytes take.

        Raises ``TooLargeError``, ``FullStoreError`` where not enough may go, and as ``apply``.
        """
        if self._most is None:
            return
        self.check_size(size)
        with self._lock:
            # Nothing goes in vain.
            if self._pinned() + size <= self._most:
                self._shrink(self._most - size)
            if self._store.stored_bytes() + size > self._most:
                raise FullStoreError(
                    f"there is no room for {size:,} bytes more: this service keeps {self._most:,} "
                    "in all (--max-store-gib), and jobs that go on, what is known of devices, and "
                    "inputs that were just handed in take them; try again later"
                )

    def _shrink(self, most: int) -> list[Removed]:
        removed: list[Removed] = []
        if self._store.stored_bytes() <= most:
            return removed
        for each in self._candidates():
            removed.append(self._remove(each, "size"))
            if self._store.stored_bytes() <= most:
                break
        return removed

    def _remove(self, each: _Candidate, reason: Literal["age", "size"]) -> Removed:
        if each.kind == "plan":
            self._store.delete(each.id)
        else:
            self._jobs.delete(each.id)
        removed = Removed(each.kind, each.id, each.name, reason)
        self._on_removed(removed)
        return removed

    def _pinned(self) -> int:
        """The bytes that stay in any case."""
        staying = [
            exists().where(column == Blob.sha256)
            for column in blob_references()
            if column.table.name not in _PASSING
        ]
        needed = (Task.input_sha256, Task.output_sha256, Task.device_sha256)
        running = Task.state.in_(ACTIVE)
        staying += [exists().where(column == Blob.sha256, running) for column in needed]
        handed_in = Blob.handed_in >= Ago(GRACE.total_seconds())
        query = select(func.sum(Blob.size)).where(or_(handed_in, *staying))
        with self._store.database.reading() as session:
            return int(session.scalar(query) or 0)

    def _candidates(self, days: float = 0.0) -> list[_Candidate]:
        """What may go that was last asked for so many days ago, the oldest first."""
        going_on = select(Item.job_id).join(Task).where(Task.state.in_(ACTIVE))
        wanted = exists().where(Item.task_id == Plan.id, Item.job_id.in_(going_on))
        plans = select(Plan.id, Plan.source_name, func.coalesce(Plan.used, Plan.created))
        jobs = (
            select(Job.id, Job.name, Job.created, func.max(Task.finished))
            .outerjoin(Item, Item.job_id == Job.id)
            .outerjoin(Task, Task.id == Item.task_id)
            .where(Job.id.not_in(going_on))
            .group_by(Job.id, Job.name, Job.created)
        )
        with self._store.database.reading() as session:
            now = session.scalars(select(Ago())).one()
            found = [
                _Candidate(used, "plan", id_, name)
                for id_, name, used in session.execute(plans.where(~wanted))
            ]
            for id_, name, created, finished in session.execute(jobs):
                found.append(_Candidate(max(created, finished or created), "job", id_, name))
        latest = now - timedelta(days=days)
        return sorted((c for c in found if c.used <= latest), key=lambda c: (c.used, c.kind, c.id))
