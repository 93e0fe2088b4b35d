"""Commands for the store: whether it is whole, mending it, its room, and backups."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from api.cli.jobs import BLOBS, DATA_DIR, DATABASE
from api.cli.options import AS_JSON, KEEP_DAYS, MOST_STORE

if TYPE_CHECKING:
    from api.store.check import StoreCheck
    from api.store.plans import PlanStore


@click.group("store")
def store_group() -> None:
    """Look after what a server keeps. All of it works while the server runs, unless it says not."""


@store_group.command()
@DATA_DIR
@DATABASE
@BLOBS
@AS_JSON
def check(
    data_dir: Path | None, database_url: str | None, blobs_url: str | None, as_json: bool
) -> None:
    """Read every file and every row, and say what is damaged; exits with 1 if something is."""
    with _store(data_dir, database_url, blobs_url) as (store, folder):
        _report(_check(store), folder, as_json=as_json)


@store_group.command()
@DATA_DIR
@DATABASE
@BLOBS
def repair(data_dir: Path | None, database_url: str | None, blobs_url: str | None) -> None:
    """Make again what is damaged, or forget it; exits with 1 if something could not be mended."""
    with _store(data_dir, database_url, blobs_url) as (store, folder):
        found = _check(store)
        if found.database:
            _report(found, folder, as_json=False)
        # A quarter as long to import as all else that a plan of a small program needs.
        import asyncio

        if not asyncio.run(_repair(store, found, folder)):
            raise SystemExit(1)


@store_group.command()
@click.option("--now", is_flag=True, help="Spare nothing that is new; no server may run.")
@KEEP_DAYS
@MOST_STORE
@DATA_DIR
@DATABASE
@BLOBS
def gc(
    now: bool,
    keep_days: float | None,
    most_store_bytes: int | None,
    data_dir: Path | None,
    database_url: str | None,
    blobs_url: str | None,
) -> None:
    """Delete files that nothing refers to, as the server does every hour."""
    from datetime import timedelta

    from api.jobs.retention import Retention
    from api.store.plans import GRACE
    from planner.errors import OptionError

    with _store(data_dir, database_url, blobs_url) as (store, folder):
        if now and _is_in_use(store, folder):
            raise OptionError(
                "a server or workers use the store, and might lose what they have just put: stop "
                "them first, or leave out --now"
            )
        before = sum(size for _, size in store.blobs.all())
        for gone in Retention(store, keep_days, most_store_bytes).apply():
            click.echo(f"{gone.kind} {gone.id} of {gone.name} went for its {gone.reason}")
        count = store.sweep(timedelta() if now else GRACE)
        freed = before - sum(size for _, size in store.blobs.all())
        click.echo(f"{count} files swept, {max(freed, 0):,} bytes freed in all")


@store_group.command()
@click.argument("target", metavar="FILE|DIR", type=click.Path(path_type=Path))
@DATA_DIR
@DATABASE
@BLOBS
def backup(
    target: Path, data_dir: Path | None, database_url: str | None, blobs_url: str | None
) -> None:
    """Copy all into one file, or into a folder under a name by the time."""
    from api.store.backup import back_up

    with _store(data_dir, database_url, blobs_url) as (store, _):
        written, manifest = back_up(store, target)
    click.echo(f"{written}: {manifest.blobs} files, {manifest.bytes:,} bytes, and the database")


@store_group.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@DATA_DIR
@DATABASE
@BLOBS
def restore(
    file: Path, data_dir: Path | None, database_url: str | None, blobs_url: str | None
) -> None:
    """Bring a backup back into a data directory, and with --database a database, that are empty."""
    from platformdirs import user_data_path

    from api.jobs.tasks import resume
    from api.store.backup import restore as bring_back

    folder = data_dir or user_data_path("layout-planner", appauthor=False)
    with _said():
        bring_back(file, folder, database_url, resume, blobs_url or None)
    with _store(folder, database_url, blobs_url) as (store, _):
        _report(_check(store), folder, as_json=False)


def _check(store: PlanStore) -> StoreCheck:
    from sqlalchemy import make_url

    from api.jobs.engine import queue_url
    from api.store.check import check_store

    queue = make_url(queue_url(store.database))
    files = [Path(queue.database or "")] if queue.get_backend_name() == "sqlite" else []
    return check_store(store, files)


def _report(found: StoreCheck, folder: Path, *, as_json: bool) -> None:
    """Prints what was found; exits with 1 if something is wrong."""
    from api.terminal.console import stdout
    from api.terminal.store import check_document, check_lines

    if as_json:
        click.echo(json.dumps(check_document(found)))
    else:
        stdout().print(*check_lines(found, folder), sep="\n")
    if not found.is_whole:
        raise SystemExit(1)


async def _repair(store: PlanStore, found: StoreCheck, folder: Path) -> bool:
    """Whether all could be mended."""
    from api.cli.wording import COMMAND_LINE
    from api.jail.jail import Jail
    from api.jail.limits import Limits
    from api.planning.pool import Pool
    from api.planning.repair import repair as mend
    from api.store.scratch import scratch_in

    seconds = 1800.0
    pool, is_mended = Pool(1, seconds, Jail.of_machine(), Limits.of_machine(seconds)), True
    with scratch_in(folder) as scratch:
        async for each in mend(store, found.damages, pool, scratch, COMMAND_LINE):
            click.echo(f"{each.what} {each.how}")
            is_mended = is_mended and each.is_mended
    if not found.damages:
        click.echo("nothing is damaged")
    return is_mended


def _is_in_use(store: PlanStore, folder: Path) -> bool:
    from api.jobs.register import WorkerRegister
    from api.store.scratch import is_in_use

    return is_in_use(folder) or bool(WorkerRegister(store.database).alive())


@contextmanager
def _store(
    data_dir: Path | None, database_url: str | None, blobs_url: str | None
) -> Iterator[tuple[PlanStore, Path]]:
    """The store, and its data directory, which has to be there."""
    from platformdirs import user_data_path

    from api.store.plans import open_store
    from planner.errors import OptionError

    folder = data_dir or user_data_path("layout-planner", appauthor=False)
    if not folder.is_dir():
        raise OptionError(f"there is no store in {folder}: name its directory (--data-dir)")
    with _said():
        store = open_store(folder, database_url, blobs_url or None)
        try:
            yield store, folder
        finally:
            store.close()


@contextmanager
def _said() -> Iterator[None]:
    """Says what keeps a command from its work that is not in what it was given."""
    from api.store.database import UnreachableError
    from api.store.room import FullDiskError

    try:
        yield
    except (UnreachableError, FullDiskError) as error:
        raise click.ClickException(str(error)) from error
