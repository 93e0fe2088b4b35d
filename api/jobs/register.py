"""Which workers are alive: each reports so every second, by the database's clock."""

from __future__ import annotations

import os
import socket
import uuid
from typing import Any, Final, cast

from sqlalchemy import CursorResult, delete, select, update

from api.store.clock import Ago
from api.store.database import Database
from api.store.tables import WorkerRecord
from planner.result.revision import PLANNER

BEAT_SECONDS: Final = 1.0
GONE_SECONDS: Final = 10.0
"""A worker that has not reported for so long is gone, for all others and for itself."""
_OLD_SECONDS: Final = 86400.0


def new_worker_id() -> str:
    """An id for this process that no other had or will have."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


class WorkerRegister:
    """The register of workers. Methods raise ``UnreachableError``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, id_: str) -> None:
        """Enters this process as a worker that is alive."""
        row = {
            "id": id_,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": PLANNER,
            "started": Ago(),
            "beat": Ago(),
        }
        with self._database.writing() as session:
            session.execute(self._database.insert(WorkerRecord).values(**row))

    def beat(self, id_: str) -> bool:
        """Reports a worker as alive; False if it is too late, because it counts as gone."""
        beat = (
            update(WorkerRecord)
            .where(WorkerRecord.id == id_, WorkerRecord.beat >= Ago(GONE_SECONDS))
            .values(beat=Ago())
        )
        with self._database.writing() as session:
            return rows(session.execute(beat)) > 0

    def remove(self, id_: str) -> None:
        """Takes a worker out that ends: its tasks need not wait until it counts as gone."""
        with self._database.writing() as session:
            session.execute(delete(WorkerRecord).where(WorkerRecord.id == id_))

    def alive(self) -> list[WorkerRecord]:
        """The workers that are alive."""
        with self._database.reading() as session:
            found = select(WorkerRecord).where(WorkerRecord.beat >= Ago(GONE_SECONDS))
            return list(session.scalars(found.order_by(WorkerRecord.started, WorkerRecord.id)))

    def forget_gone(self) -> None:
        """Deletes the workers that have been gone for a day."""
        with self._database.writing() as session:
            session.execute(delete(WorkerRecord).where(WorkerRecord.beat < Ago(_OLD_SECONDS)))


def rows(result: Any) -> int:
    """How many rows a statement changed."""
    return cast("CursorResult[Any]", result).rowcount
