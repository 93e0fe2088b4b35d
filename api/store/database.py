"""The database: SQLite in a file, or PostgreSQL."""

from __future__ import annotations

import fcntl
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, func, make_url, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.orm import Session

from api.store.room import FullDiskError, needs_room
from api.store.tables import Base
from planner.errors import OptionError

_BUSY_SECONDS: Final = 30
_CONNECT_SECONDS: Final = 10
_PAGES: Final = 2**16
"""Bytes that SQLite takes at a time."""
_DISK_FULL: Final = "53100"
"""PostgreSQL's code of that error."""
# "layout" in ASCII: a number that other programs on the same server are not likely to lock.
_MIGRATION_LOCK: Final = 0x6C61796F7574
# "blobs" and "keeps" likewise.
_BLOBS_LOCK: Final = 0x626C6F6273
_KEEPING_LOCK: Final = 0x6B65657073
_CLAIM_SECONDS: Final = 2.0


class UnreachableError(Exception):
    """The database did not answer; it may again, later."""


class Database:
    """A database with the tables of this release. May be used from several threads at once."""

    def __init__(self, url: str | URL) -> None:
        """Opens a database, and brings its tables up to this release.

        Raises ``OptionError`` for one that cannot be reached or used, or that a newer release has
        changed, and ``FullDiskError``. Several processes may open a new one at once.
        """
        self._url = parse_url(url)
        self._engine = _engine(self._url)
        # Writers of SQLite take turns from their first statement on: one that first read and then
        # writes would be refused if another has written in between.
        self._writer = self._engine.execution_options(writes=True)
        try:
            self._migrate()
        except (DBAPIError, OSError) as error:
            self.close()
            if isinstance(error, DBAPIError) and out_of_room(error.orig, self._url):
                raise FullDiskError("the database") from error
            shown = self._url.render_as_string(hide_password=True)
            reason = str(error.orig if isinstance(error, DBAPIError) else error).splitlines()
            raise OptionError(
                f"cannot use the database {shown} ({reason[0] if reason else 'no reason given'}): "
                "see that it runs and may be written, or name another one"
            ) from error
        except BaseException:
            self.close()
            raise

    @classmethod
    def within(cls, folder: Path) -> Database:
        """The SQLite database of a data directory."""
        return cls(URL.create("sqlite", database=str(folder.absolute() / "layout-planner.sqlite")))

    @property
    def url(self) -> URL:
        """Where it is, with its password."""
        return self._url

    def close(self) -> None:
        """Closes every connection."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that only reads. Raises ``UnreachableError``."""
        with self._translated_errors(), Session(self._engine) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction; it is committed at the end, or undone by an exception.

        Rows can be read after it. Raises ``UnreachableError`` and ``FullDiskError``.
        """
        with (
            self._translated_errors(),
            Session(self._writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    def spare_blobs(self, session: Session) -> None:
        """Until a transaction ends, no blob is deleted for which it finds that it is there."""
        # In SQLite, transactions that write take turns as it is, from here on.
        session.connection()
        if not self._is_sqlite:
            session.execute(select(func.pg_advisory_xact_lock_shared(_BLOBS_LOCK)))

    def claim_blobs(self, session: Session) -> bool:
        """Sees to it that until a transaction ends, others find no blob there; False if they do.

        To be called before all that the transaction locks.
        """
        session.connection()
        end = time.monotonic() + _CLAIM_SECONDS
        # Not waited for in the database: others would have to wait behind it.
        while not self._is_sqlite:
            if session.scalar(select(func.pg_try_advisory_xact_lock(_BLOBS_LOCK))):
                break
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """While it is active no process deletes a blob: see ``deleting``."""
        if self._is_sqlite:
            with self._keep_file() as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield
            return
        with self._engine.connect() as connection, connection.begin():
            connection.execute(select(func.pg_advisory_xact_lock(_KEEPING_LOCK)))
            yield

    @contextmanager
    def deleting(self) -> Iterator[bool]:
        """Whether blobs may be deleted while it is active: no process keeps them."""
        if self._is_sqlite:
            with self._keep_file() as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    yield False
                else:
                    yield True
            return
        with self._translated_errors(), self._engine.connect() as connection, connection.begin():
            lock = func.pg_try_advisory_xact_lock_shared(_KEEPING_LOCK)
            yield bool(connection.scalar(select(lock)))

    @property
    def _is_sqlite(self) -> bool:
        return self._url.get_backend_name() == "sqlite"

    def _keep_file(self) -> BinaryIO:
        with needs_room("a lock of the database"):
            return Path(f"{self._url.database}.keep").open("ab")

    def insert(self, table: type[Base]) -> sqlite.Insert | postgresql.Insert:
        """An insertion that can say what is to be done about a row that is there already."""
        # Into the table itself: what the session's own way adds is not needed here.
        into = Base.metadata.tables[table.__tablename__]
        return sqlite.insert(into) if self._is_sqlite else postgresql.insert(into)

    def away(self, error: DBAPIError) -> UnreachableError | FullDiskError:
        """What to raise where a statement failed for a reason that is not in what it says."""
        if out_of_room(error.orig, self._url):
            return FullDiskError("what the database is to keep")
        reason = (str(error.orig).splitlines() or ["no reason given"])[0]
        return UnreachableError(f"the database does not answer ({reason}): try again")

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:
            raise self.away(error) from error

    def _migrate(self) -> None:
        from api.store.migrations import upgrade

        with self._locked() as connection:
            upgrade(connection, self._url.render_as_string(hide_password=True))

    @contextmanager
    def _locked(self) -> Iterator[Connection]:
        """A transaction while which no other process migrates the same database."""
        if not self._is_sqlite:
            with self._writer.begin() as connection:
                connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
                yield connection
            return
        # A new file becomes one with a write-ahead log at the first connection, and SQLite does
        # not let two do that at once: so the lock is a file's, and comes before the connection.
        assert self._url.database is not None
        with Path(f"{self._url.database}.lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with self._writer.begin() as connection:
                yield connection


def with_password(url: str, password: str) -> str:
    """The URL of a database with a password. Raises ``OptionError`` where it has one already."""
    found = _read_url(url)
    if found.password is not None:
        raise OptionError("the database's URL has a password in it, and there is a file with one")
    return found.set(password=password).render_as_string(hide_password=False)


def _read_url(text: str | URL) -> URL:
    try:
        return make_url(text)
    except ArgumentError:
        # The text may hold a password.
        raise OptionError(
            "the database's URL cannot be read: write postgresql://user:password@host/name"
        ) from None


def parse_url(text: str | URL) -> URL:
    """A database's URL with the driver that is used here. Raises ``OptionError``."""
    url = _read_url(text)
    backend = url.get_backend_name()
    if backend in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and url.database not in (None, "", ":memory:"):
        return url.set(drivername="sqlite")
    raise OptionError(
        f"plans cannot be kept in {url.render_as_string(hide_password=True)}: "
        "write postgresql://user:password@host/name or sqlite:////path/to/file"
    )


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, connect_args={"timeout": _BUSY_SECONDS})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    # A server that was started anew has closed the connections that wait in the pool.
    return create_engine(
        url, pool_pre_ping=True, connect_args={"connect_timeout": _CONNECT_SECONDS}
    )


def _prepare_sqlite(connection: Any, record: object) -> None:
    # Python's own driver begins transactions late, and none before it changes tables.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def out_of_room(error: BaseException | None, url: URL) -> bool:
    """Whether a database's error is that its disk is full."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            return True
        # So says SQLite where it cannot make, or make larger, a file beside the database's.
        assert url.database is not None
        free = shutil.disk_usage(Path(url.database).absolute().parent).free
        return code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) and free < _PAGES
    return getattr(error, "sqlstate", None) == _DISK_FULL
