"""The cost database: times of operators on devices, in one SQLite file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from planner.errors import InputError, OptionError, Remedy
from planner.ir.representation import REPRS
from planner.measured.calls import Call
from planner.measured.join import Join, Sample
from schema.frozen import frozen

VERSION: Final = 2
_SCHEMA: Final = """
CREATE TABLE device (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  driver TEXT NOT NULL
);
CREATE TABLE run (
  id INTEGER PRIMARY KEY,
  device INTEGER NOT NULL REFERENCES device,
  source TEXT NOT NULL,
  etdump_sha256 TEXT NOT NULL,
  graph_sha256 TEXT NOT NULL,
  total_ns REAL NOT NULL,
  joined_ns REAL NOT NULL,
  UNIQUE (device, etdump_sha256, graph_sha256)
);
CREATE TABLE sample (
  run INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
  operator TEXT NOT NULL,
  signature TEXT NOT NULL,
  operands TEXT NOT NULL,
  kernels TEXT NOT NULL,
  median_ns REAL NOT NULL,
  spread_ns REAL NOT NULL,
  count INTEGER NOT NULL
);
CREATE INDEX sample_of_run ON sample (run);
"""
_REPRS: Final = {str(r): r for r in REPRS}


@frozen
class Run:
    """An imported run: its source, and the SHA-256 of ETDump and graphs, in hexadecimal."""

    device: str
    driver: str
    source: str
    etdump_sha256: str
    graph_sha256: str


@frozen
class RunRecord:
    """A run in the database and its samples; times are ns per inference."""

    run: Run
    total: float
    joined: float
    samples: tuple[Sample, ...]


class CostDatabase:
    """Samples of many devices. Use it as a context manager; a failed write changes nothing."""

    @classmethod
    def existing(cls, path: Path) -> CostDatabase:
        """Opens an existing database; raises ``OptionError`` if there is none."""
        if not path.is_file() or not path.stat().st_size:
            raise OptionError(f"there is no cost database {path}", Remedy.IMPORT_RUNS)
        return cls(path)

    def __init__(self, path: Path) -> None:
        """Opens the file, and creates it if there is none.

        Raises ``InputError`` for a file that is not a cost database, or one of another release.
        """
        self.path = path
        try:
            self._connection = sqlite3.connect(path, isolation_level=None)
            self._prepare()
        except sqlite3.Error as error:
            raise InputError(f"{path} is not a cost database: {error}") from error

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA foreign_keys = ON")
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        tables = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if version == 0 and tables == 0:
            self._connection.executescript(
                f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;"
            )
        elif version != VERSION:
            raise InputError(
                f"{self.path} is not a cost database of this release (version {version}, not "
                f"{VERSION}): choose another file"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise InputError(f"{self.path} cannot be written: {error}") from error

    def add(self, run: Run, join: Join) -> bool:
        """Adds one run as ``add_all`` does; False if it is already there."""
        return self.add_all([(run, join)])[0]

    def add_all(self, runs: Sequence[tuple[Run, Join]]) -> list[bool]:
        """Adds the samples of all runs or none; False for each run that is already there.

        Raises ``InputError`` for a device that is recorded with another driver, whose times may
        differ.
        """
        with self._transaction() as connection:
            return [self._add(connection, run, join) for run, join in runs]

    def _add(self, connection: sqlite3.Connection, run: Run, join: Join) -> bool:
        connection.execute(
            "INSERT INTO device (name, driver) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (run.device, run.driver),
        )
        device, driver = connection.execute(
            "SELECT id, driver FROM device WHERE name = ?", (run.device,)
        ).fetchone()
        if driver != run.driver:
            raise InputError(
                f"device {run.device!r} has driver {driver!r} in {self.path}, not "
                f"{run.driver!r}: give it another name"
            )
        made = connection.execute(
            "INSERT INTO run (device, source, etdump_sha256, graph_sha256, total_ns, joined_ns)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                device,
                run.source,
                run.etdump_sha256,
                run.graph_sha256,
                join.total,
                join.joined,
            ),
        )
        if made.rowcount == 0:
            return False
        connection.executemany(
            "INSERT INTO sample VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [(made.lastrowid, *_row(sample)) for sample in join.samples],
        )
        return True

    def devices(self) -> tuple[str, ...]:
        """Names of the devices with samples; raises ``InputError`` for a damaged database."""
        try:
            rows = self._connection.execute("SELECT name FROM device ORDER BY name").fetchall()
        except sqlite3.Error as error:
            raise InputError(f"{self.path} is damaged: {error}") from error
        return tuple(name for (name,) in rows)

    def runs(self, device: str) -> tuple[tuple[Sample, ...], ...]:
        """The samples of each of a device's runs; raises as ``records`` does."""
        return tuple(record.samples for record in self.records(device))

    def records(self, device: str) -> tuple[RunRecord, ...]:
        """A device's runs in the order in which they were imported.

        Raises ``InputError`` for an unknown device, and for a damaged database.
        """
        if device not in self.devices():
            known = ", ".join(self.devices()) or "none"
            raise InputError(f"{self.path} has no device {device!r}: there is {known}")
        try:
            runs = self._connection.execute(
                "SELECT run.id, driver, source, etdump_sha256, graph_sha256, total_ns, joined_ns "
                "FROM run JOIN device ON run.device = device.id WHERE device.name = ? "
                "ORDER BY run.id",
                (device,),
            ).fetchall()
            return tuple(
                RunRecord(Run(device, *written), total, joined, self._samples(run))
                for run, *written, total, joined in runs
            )
        except (sqlite3.Error, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{self.path} is damaged: {type(error).__name__}: {error}") from error

    def _samples(self, run: int) -> tuple[Sample, ...]:
        rows = self._connection.execute(
            "SELECT operator, signature, operands, kernels, median_ns, spread_ns, count "
            "FROM sample WHERE run = ? ORDER BY rowid",
            (run,),
        )
        with closing(rows):
            return tuple(_sample(*row) for row in rows)


def _row(sample: Sample) -> tuple[str | float | int, ...]:
    return (
        sample.call.operator,
        sample.call.signature,
        json.dumps({place: str(r) for place, r in sample.operands}),
        json.dumps(sample.kernels),
        sample.median,
        sample.spread,
        sample.count,
    )


def _sample(
    operator: str,
    signature: str,
    operands: str,
    kernels: str,
    median: float,
    spread: float,
    count: int,
) -> Sample:
    return Sample(
        call=Call(operator, signature),
        operands=tuple((place, _REPRS[name]) for place, name in json.loads(operands).items()),
        kernels=tuple(json.loads(kernels)),
        median=median,
        spread=spread,
        count=count,
    )
