"""Imports ETDumps of a device's own runs into a cost database."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from planner.files.lowered import graphs_of
from planner.measured.database import CostDatabase, Run
from planner.measured.etdump import read_etdump
from planner.measured.join import Join, join
from schema.frozen import frozen


@frozen
class Imported:
    """A run's samples, and whether they are new to the database."""

    join: Join
    is_new: bool


@frozen
class ProfiledFiles:
    """An ETDump and the program that it measured."""

    etdump_name: str
    etdump: bytes
    program_name: str
    program: bytes


def import_run(
    etdump: bytes,
    etdump_name: str,
    program: bytes,
    program_name: str,
    device: str,
    driver: str,
    database: Path,
) -> Imported:
    """Joins an ETDump to the program that it measured, and adds the samples to a database.

    Raises ``InputError`` for damaged files, for an ETDump of another program, and for a file that
    is not a cost database; the database is then unchanged.
    """
    files = ProfiledFiles(etdump_name, etdump, program_name, program)
    (imported,) = import_runs([files], device, driver, database)
    return imported


def import_runs(
    files: Sequence[ProfiledFiles], device: str, driver: str, database: Path
) -> tuple[Imported, ...]:
    """Imports several runs of a device as ``import_run`` does: all are added, or none."""
    joined = [
        (
            Run(
                device=device,
                driver=driver,
                source=each.etdump_name,
                etdump_sha256=hashlib.sha256(each.etdump).hexdigest(),
                graph_sha256=hashlib.sha256(each.program).hexdigest(),
            ),
            join(
                read_etdump(each.etdump, each.etdump_name),
                tuple(graphs_of(each.program, each.program_name)),
                each.etdump_name,
            ),
        )
        for each in files
    ]
    with CostDatabase(database) as costs:
        added = costs.add_all(joined)
    return tuple(Imported(each, is_new) for (_, each), is_new in zip(joined, added, strict=True))
