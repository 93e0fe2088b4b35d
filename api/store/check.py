"""Whether a store is whole: every blob, every row that refers to one, and the database itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Column, func, select, text
from sqlalchemy.exc import DBAPIError

from api.store.blobs import LostBlobError
from api.store.plans import PlanStore
from api.store.tables import Base, Blob, Plan, blob_references

_SPOILT: Final = (
    "stop the service and its workers, and restore a backup (layout-planner store restore)"
)
_REMEDIES: Final = {
    "plan.source_sha256": "nothing: the plan is whole. To plan the program again, hand it in again",
    "plan.report_sha256": "layout-planner store repair plans it again",
    "plan.graph_sha256": "layout-planner store repair plans it again",
    "plan.program_sha256": "layout-planner store repair plans it again",
    "task.input_sha256": "POST its bytes to /inputs again, and retry the job",
    "task.output_sha256": "nothing: it is lowered again when it is needed, or by store repair",
    "task.device_sha256": "submit the job again",
    "device.file_sha256": "layout-planner store repair has it made again from the device's runs",
    "device_fit.fit_sha256": "layout-planner store repair has it computed again",
    "device_run.etdump_sha256": "delete the run, and hand it in again",
    "device_run.program_sha256": "delete the run, and hand it in again",
    "device_run.run_sha256": "delete the run, and hand it in again",
    "": "layout-planner store repair deletes it: nothing refers to it",
}


@dataclass(frozen=True, slots=True)
class Damage:
    """A blob that is ``damaged`` or ``missing``, and a row that refers to it, by table and key.

    ``column`` is empty where no row refers to it; ``name`` is what the row's program is called.
    """

    sha256: str
    how: str
    column: str = ""
    key: str = ""
    name: str = ""

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return _REMEDIES[self.column]


@dataclass(frozen=True, slots=True)
class StoreCheck:
    """What was looked at, and what is wrong.

    ``strays`` are blobs without a row: of requests that go on, or left by processes that died.
    """

    plans: int
    blobs: int
    bytes: int
    strays: int
    stray_bytes: int
    database: tuple[str, ...]
    damages: tuple[Damage, ...]

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.database and not self.damages

    @property
    def database_remedy(self) -> str:
        """What to do about a database that is wrong."""
        return _SPOILT


def check_store(store: PlanStore, files: Sequence[Path] = ()) -> StoreCheck:
    """Reads every blob and looks at every row; nothing is deleted meanwhile.

    ``files`` are SQLite databases that belong to the store as well. Raises ``UnreachableError``.
    """
    wrong = [*_database_faults(store), *(fault for file in files for fault in _file_faults(file))]
    if wrong:
        return StoreCheck(0, 0, 0, 0, 0, tuple(wrong), ())
    with store.database.keeping():
        with store.database.reading() as session:
            plans = session.scalar(select(func.count()).select_from(Plan)) or 0
            known = set(session.scalars(select(Blob.sha256)))
        bad: dict[str, str] = {}
        found: set[str] = set()
        size = strays = stray_bytes = 0
        for sha256, bytes_ in store.blobs.all():
            found.add(sha256)
            size += bytes_
            if sha256 not in known:
                strays, stray_bytes = strays + 1, stray_bytes + bytes_
            try:
                store.blobs.path(sha256)
            except LostBlobError as error:
                bad[sha256] = error.how
        bad |= dict.fromkeys(known - found, "missing")
        # What was put since it was looked for is there by now.
        bad = {
            sha256: how
            for sha256, how in bad.items()
            if how != "missing" or _is_gone(store, sha256)
        }
        damages = tuple(_damages(store, bad))
    return StoreCheck(plans, len(found), size, strays, stray_bytes, (), damages)


def _is_gone(store: PlanStore, sha256: str) -> bool:
    return not store.blobs.exists(sha256)


def _damages(store: PlanStore, bad: dict[str, str]) -> Iterator[Damage]:
    referred: set[str] = set()
    for column in blob_references():
        for sha256, key, name in _rows(store, column):
            if sha256 in bad:
                referred.add(sha256)
                column_name = f"{column.table.name}.{column.name}"
                yield Damage(sha256, bad[sha256], column_name, key, name)
    for sha256, how in bad.items():
        # A row of a blob that is not there, and that nothing refers to, goes with a sweep.
        if sha256 not in referred and how == "damaged":
            yield Damage(sha256, how)


def _rows(store: PlanStore, column: Column[Any]) -> list[tuple[str, str, str]]:
    """What a column refers to, with the keys of its rows, and the names of their programs."""
    table = column.table
    names = [
        table.c[n] for n in ("source_name", "input_name", "program_name", "name") if n in table.c
    ]
    keys = list(table.primary_key.columns)
    query = select(column, *keys, *names[:1]).where(column.is_not(None))
    with store.database.reading() as session:
        rows = session.execute(query).all()
    return [
        (row[0], "/".join(map(str, row[1 : 1 + len(keys)])), row[-1] if names else "")
        for row in rows
    ]


def _database_faults(store: PlanStore) -> Iterator[str]:
    if store.database.url.get_backend_name() != "sqlite":
        return  # PostgreSQL checks its pages and its references itself
    try:
        with store.database.reading() as session:
            for (line,) in session.execute(text("PRAGMA integrity_check")).all():
                if line != "ok":
                    yield str(line)
            for table, row, parent, _ in session.execute(text("PRAGMA foreign_key_check")).all():
                yield f"row {row} of {table} refers to a {parent} that is not there"
            for table in Base.metadata.sorted_tables:
                session.execute(select(func.count()).select_from(table))
    except DBAPIError as error:
        yield str(error.orig)


def _file_faults(file: Path) -> Iterator[str]:
    if not file.exists():
        return
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            for (line,) in connection.execute("PRAGMA integrity_check"):
                if line != "ok":
                    yield f"{file.name}: {line}"
    except sqlite3.Error as error:
        yield f"{file.name}: {error}"
