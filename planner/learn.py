"""Imports profiles of a device's own runs into a cost database."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from planner.database import CostDatabase, Run
from planner.etdump import read_etdump
from planner.replan import graphs_of
from planner.samples import Join, join


@dataclass(frozen=True, slots=True)
class Imported:
    """A run's samples, and whether the database did not have them yet."""

    join: Join
    is_new: bool


def import_run(
    etdump: bytes,
    etdump_name: str,
    program: bytes,
    program_name: str,
    device: str,
    driver: str,
    database: Path,
) -> Imported:
    """Joins an ETDump to the program that it is of, and adds the samples to a database.

    Raises ``InputError`` for damaged files, for a profile of another program, and for a file that
    is no cost database; the database is then as it was.
    """
    joined = join(
        read_etdump(etdump, etdump_name), tuple(graphs_of(program, program_name)), etdump_name
    )
    run = Run(
        device=device,
        driver=driver,
        source=etdump_name,
        etdump_sha256=hashlib.sha256(etdump).hexdigest(),
        graph_sha256=hashlib.sha256(program).hexdigest(),
    )
    with CostDatabase(database) as costs:
        return Imported(joined, costs.add(run, joined))
