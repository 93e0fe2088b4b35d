from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, func, insert, make_url, select, text
from sqlalchemy.exc import IntegrityError, StatementError

from api.store.database import Database, UnreachableError
from api.store.tables import Base, Blob, Profile
from planner.errors import OptionError
from tests.api import postgres

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)


def test_the_migrations_make_the_tables(database_url: str) -> None:
    database = Database(database_url)
    with database.reading() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    database.close()


@pytest.mark.slow
def test_many_processes_may_open_a_new_database_at_once(database_url: str) -> None:
    program = "import sys; from api.store.database import Database; Database(sys.argv[1]).close()"
    opened = [
        subprocess.Popen(
            [sys.executable, "-c", program, database_url], stderr=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    assert [process.communicate()[1] for process in opened] == [""] * 4
    assert [process.returncode for process in opened] == [0] * 4


def test_many_threads_may_open_a_new_database_at_once(database_url: str) -> None:
    with ThreadPoolExecutor(8) as threads:
        for database in threads.map(lambda _: Database(database_url), range(8)):
            with database.reading() as session:
                assert session.scalar(select(func.count()).select_from(Blob)) == 0
            database.close()


def test_a_database_of_a_newer_release_is_refused(database_url: str) -> None:
    database = Database(database_url)
    with database.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(OptionError, match=r"is of a newer release of Layout Planner \(.* 9999, "):
        Database(database_url)


def test_a_transaction_is_undone_by_an_exception(database_url: str) -> None:
    database = Database(database_url)
    with pytest.raises(KeyError), database.writing() as session:
        session.add(Profile(hash="a" * 64, name="x", document="{}"))
        session.flush()
        raise KeyError
    with database.reading() as session:
        assert session.get(Profile, "a" * 64) is None
    database.close()


def test_a_point_in_time_comes_back_in_utc(database_url: str) -> None:
    database = Database(database_url)
    there = NOW.astimezone(timezone(timedelta(hours=5)))
    with database.writing() as session:
        session.add(Blob(sha256="a" * 64, size=2**40, created=there))
    with database.reading() as session:
        created = session.get_one(Blob, "a" * 64).created
        assert (created, created.tzinfo) == (NOW, UTC)
    naive = NOW.replace(tzinfo=None)
    refused = pytest.raises(StatementError, match="does not say its time zone")
    with refused, database.writing() as session:
        session.add(Blob(sha256="b" * 64, size=1, created=naive))
    database.close()


def test_a_row_must_refer_to_blobs_that_are_there(database_url: str) -> None:
    database = Database(database_url)
    table = Base.metadata.tables["plan"]
    numbers = [column.name for column in table.c if str(column.type) in ("DOUBLE", "INTEGER")]
    row: dict[str, object] = {column.name: "x" for column in table.c} | dict.fromkeys(numbers, 0)
    row |= {
        "created": NOW,
        "used": None,
        "texture_limits": (1,),
        "excluded_layouts": (),
        "buffer_limit": None,
    }
    with pytest.raises(IntegrityError), database.writing() as session:
        session.execute(insert(table), [row])
    database.close()


def test_writers_wait_for_each_other(database_url: str) -> None:
    database = Database(database_url)
    with database.writing() as session:
        session.add(Blob(sha256="a" * 64, size=0, created=NOW))

    def count(_: int) -> None:
        with database.writing() as session:
            row = session.get_one(Blob, "a" * 64, with_for_update=True)
            row.size += 1

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(count, range(40)))
    with database.reading() as session:
        assert session.get_one(Blob, "a" * 64).size == 40
    database.close()


def test_sqlite_writes_ahead_and_waits(tmp_path: Path) -> None:
    database = Database.within(tmp_path)
    with database.reading() as session:
        found = {
            name: session.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "busy_timeout", "foreign_keys", "synchronous")
        }
    assert found == {
        "journal_mode": "wal",
        "busy_timeout": 30_000,
        "foreign_keys": 1,
        "synchronous": 2,
    }
    database.close()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("plans", "the database's URL cannot be read"),
        ("mysql://me:secret@host/plans", r"plans cannot be kept in mysql://me:\*\*\*@host/plans"),
        ("sqlite://", "plans cannot be kept in sqlite://"),
        ("sqlite:////no/such/folder/file", "cannot use the database sqlite:////no/such"),
        (
            "postgresql://me:secret@127.0.0.1:1/plans",
            r"cannot use the database postgresql\+psycopg://me:\*\*\*@127.0.0.1:1/plans "
            r"\(.*[Cc]onnection refused.*\): see that it runs",
        ),
    ],
)
def test_a_database_that_cannot_be_used(url: str, reason: str) -> None:
    with pytest.raises(OptionError, match=reason) as refused:
        Database(url)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "layout-planner.sqlite").write_text("hello " * 1000)
    with pytest.raises(OptionError, match="file is not a database"):
        Database.within(tmp_path)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_schemes_of_postgresql(cluster: postgres.Cluster, scheme: str) -> None:
    with cluster.database() as url:
        Database(url.replace("postgresql", scheme, 1)).close()


def _end_others(url: str) -> None:
    """Ends every other connection to a database, as a server that is started anew does."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    engine.dispose()


def test_a_server_that_was_away_is_told_of_once_and_used_again(cluster: postgres.Cluster) -> None:
    with cluster.database() as url:
        database = Database(url)
        told = pytest.raises(UnreachableError, match="the database does not answer")
        with told, database.reading() as session:
            session.execute(select(1))
            _end_others(url)
            session.execute(select(1))
        with database.reading() as session:
            session.execute(select(1))
        # What waits in the pool is found dead without anybody's notice.
        _end_others(url)
        with database.reading() as session:
            assert session.scalar(select(1)) == 1
        database.close()
