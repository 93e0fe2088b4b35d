"""Which plans are being made now, known to all processes that share a store."""

from __future__ import annotations

import fcntl
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from sqlalchemy import URL, Connection, create_engine, func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from api.store.database import UnreachableError

_DIGITS: Final = 15
"""Hexadecimal digits of an id, as many as an offset in a file or a bigint has room for."""
_CONNECT_SECONDS: Final = 10
# A machine that loses its power says no good-bye: after a minute it counts as gone.
_KEEPALIVES: Final = (
    "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"
)


class Claims(Protocol):
    """A lock for each plan, held by the process that makes it.

    A lock ends with its process, however that ends. It is the process's: within it, and for the
    same plan, the caller must see to it that there is one at a time. A claim can succeed for two
    where the locks are lost: a plan may then be made twice, and is kept once.
    """

    def take(self, plan_id: str) -> bool:
        """Claims a plan; False if another process has."""

    def release(self, plan_id: str) -> None:
        """Gives a claim up."""

    def is_free(self, plan_id: str) -> bool:
        """Whether no other process has claimed a plan, which this one has not."""

    def close(self) -> None:
        """Gives all claims of this process up."""


class FileClaims:
    """Claims of processes that share a directory: each locks one byte of a file.

    Where a file system has no locks, every claim succeeds.
    """

    def __init__(self, path: Path) -> None:
        # Open as long as the process lives: to close one such file would give up all its locks.
        self._file = path.open("ab")

    def take(self, plan_id: str) -> bool:
        """Claims a plan; False if another process has."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(plan_id))
        except (BlockingIOError, PermissionError):
            return False
        except OSError:
            return True
        return True

    def release(self, plan_id: str) -> None:
        """Gives a claim up."""
        with suppress(OSError):
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _place(plan_id))

    def is_free(self, plan_id: str) -> bool:
        """Whether no other process has claimed a plan, which this one has not."""
        is_free = self.take(plan_id)
        if is_free:
            self.release(plan_id)
        return is_free

    def close(self) -> None:
        """Gives all claims of this process up."""
        self._file.close()


class DatabaseClaims:
    """Claims of processes that share a PostgreSQL database: each holds an advisory lock there.

    The locks are a connection's, which is made for the first claim and stays. With it they are
    lost if the database restarts. ``take`` and ``is_free`` raise ``UnreachableError``.
    """

    def __init__(self, url: URL) -> None:
        self._engine = create_engine(
            url,
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args={"connect_timeout": _CONNECT_SECONDS},
        )
        self._connection: Connection | None = None
        self._held: set[str] = set()
        self._turn = threading.Lock()

    def take(self, plan_id: str) -> bool:
        """Claims a plan; False if another process has."""
        with self._turn:
            return plan_id in self._held or self._lock(plan_id)

    def release(self, plan_id: str) -> None:
        """Gives a claim up."""
        with self._turn:
            self._unlock(plan_id)

    def is_free(self, plan_id: str) -> bool:
        """Whether no other process has claimed a plan, which this one has not."""
        with self._turn:
            is_free = self._lock(plan_id)
            self._unlock(plan_id)
            return is_free

    def close(self) -> None:
        """Gives all claims of this process up."""
        with self._turn:
            self._drop()

    def _lock(self, plan_id: str) -> bool:
        lock = select(func.pg_try_advisory_lock(_place(plan_id)))
        is_first = self._connection is None
        try:
            if self._connection is None:
                self._connection = self._engine.connect()
                self._connection.exec_driver_sql(_KEEPALIVES)
            is_ours = bool(self._connection.scalar(lock))
        except OperationalError as error:
            self._drop()
            if is_first:
                raise UnreachableError("the database does not answer: try again") from error
            # The connection was of a database that was started anew since.
            return self._lock(plan_id)
        if is_ours:
            self._held.add(plan_id)
        return is_ours

    def _unlock(self, plan_id: str) -> None:
        if plan_id not in self._held or self._connection is None:
            return
        self._held.remove(plan_id)
        try:
            self._connection.execute(select(func.pg_advisory_unlock(_place(plan_id))))
        except OperationalError:
            self._drop()

    def _drop(self) -> None:
        """Gives up the connection, and all locks with it."""
        self._held.clear()
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with suppress(OperationalError):
                connection.close()


def _place(plan_id: str) -> int:
    return int(plan_id[:_DIGITS], 16)
