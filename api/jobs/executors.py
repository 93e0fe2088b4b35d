"""Who is alive: each worker says so every second, by the database's clock."""

from __future__ import annotations

import os
import socket
import uuid
from typing import Any, Final, cast

from sqlalchemy import CursorResult, delete, select, update

import planner
from api.jobs.clock import Ago
from api.store.database import Database
from api.store.tables import Executor

BEAT_SECONDS: Final = 1.0
GONE_SECONDS: Final = 10.0
"""Who has not said so for that long is gone, for all others and for itself."""
_OLD_SECONDS: Final = 86400.0


def new_id() -> str:
    """An id for this process that no other had or will have."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


class Executors:
    """The register of workers. Methods raise ``UnreachableError``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def enter(self, id_: str) -> None:
        """Enters this process as alive."""
        row = {
            "id": id_,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": planner.__version__,
            "started": Ago(),
            "beat": Ago(),
        }
        with self._database.writing() as session:
            session.execute(self._database.insert(Executor).values(**row))

    def beat(self, id_: str) -> bool:
        """Says that one is alive; False if it is too late, because it counts as gone already."""
        beat = (
            update(Executor)
            .where(Executor.id == id_, Executor.beat >= Ago(GONE_SECONDS))
            .values(beat=Ago())
        )
        with self._database.writing() as session:
            return rows(session.execute(beat)) > 0

    def leave(self, id_: str) -> None:
        """Says that one ends: its tasks need not wait until it counts as gone."""
        with self._database.writing() as session:
            session.execute(delete(Executor).where(Executor.id == id_))

    def alive(self) -> list[Executor]:
        """Those that are alive."""
        with self._database.reading() as session:
            found = select(Executor).where(Executor.beat >= Ago(GONE_SECONDS))
            return list(session.scalars(found.order_by(Executor.started, Executor.id)))

    def forget(self) -> None:
        """Deletes those that have been gone for a day."""
        with self._database.writing() as session:
            session.execute(delete(Executor).where(Executor.beat < Ago(_OLD_SECONDS)))


def rows(result: Any) -> int:
    """How many rows a statement changed."""
    return cast("CursorResult[Any]", result).rowcount
