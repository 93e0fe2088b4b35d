"""Backups: a copy of a store in one file, made while it is used, and brought back from there."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Final

from sqlalchemy import (
    URL,
    Connection,
    NullPool,
    create_engine,
    func,
    inspect,
    select,
    union,
    update,
)
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

import planner
from api.store.blobs import BlobStore, LostBlobError
from api.store.database import Database, UnreachableError, out_of_room, parse_url
from api.store.once import flush_folder
from api.store.plans import UNFINISHED, PlanStore, open_blobs
from api.store.room import FullDiskError, needs_room
from api.store.tables import Base, Blob, BlobHome, blob_references
from planner.errors import InputError, OptionError

_FORMAT: Final = 1
_MANIFEST: Final = "backup.json"
_DATABASE: Final = "database"
_BLOB: Final = re.compile(r"blobs/([0-9a-f]{64})")
_CHUNK: Final = 2**20
_FILE: Final = "layout-planner.sqlite"
_HOME: Final = "home"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds. ``database`` is ``sqlite`` or ``postgresql``."""

    format: int
    planner: str
    created: str
    database: str
    database_sha256: str
    blobs: int
    bytes: int


def back_up(store: PlanStore, target: Path) -> tuple[Path, Manifest]:
    """Writes a backup to a file, or into a folder to one named by the time; returns where it is.

    It is for its owner alone, looked at once it is written, and there as a whole or not at all.
    Raises ``OptionError`` for a file that is there already, ``InputError`` for a store that is
    damaged, ``UnreachableError`` and ``FullDiskError``.
    """
    now = datetime.now(UTC)
    if target.is_dir():
        target /= f"layout-planner-{now:%Y%m%d-%H%M%S}.tar"
    if target.exists():
        raise OptionError(f"cannot write {target}: it is there already; name another file")
    if not target.absolute().parent.is_dir():
        raise OptionError(f"cannot write {target}: its directory does not exist; create it first")
    with needs_room("the backup"), _folder(target.absolute().parent) as folder:
        written = folder / "backup.tar"
        # What the copy of the database refers to stays until it is copied as well.
        with store.database.keeping():
            blobs = _copy_database(store, folder / _DATABASE)
            manifest = _write(written, folder / _DATABASE, store, blobs, now)
        for _ in _members(written, manifest, Path(os.devnull)):
            pass
        written.replace(target)
        flush_folder(target.absolute().parent)
    return target, manifest


def restore(
    file: Path,
    data_dir: Path,
    database_url: str | None,
    settle: Callable[[Session], None],
    blobs_url: str | None = None,
) -> Manifest:
    """Brings a backup back, into an empty data directory, database and store of files.

    ``settle`` puts right what the database says of processes that are gone. Raises ``InputError``
    for a file that is no backup or damaged, ``OptionError`` for what is not empty; nothing is left
    there then.
    """
    manifest = manifest_of(file)
    url = parse_url(database_url) if database_url else None
    backend = "sqlite" if url is None else url.get_backend_name()
    if backend != manifest.database:
        way = "leave out --database" if manifest.database == "sqlite" else "name one (--database)"
        raise OptionError(f"{file} is of a store in {manifest.database}: {way}")
    if backend == "sqlite" and url is not None:
        raise OptionError("a backup of SQLite goes into the data directory: leave out --database")
    begun = _check_empty(data_dir)
    with needs_room("what is restored"):
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder, put = data_dir / UNFINISHED, list[str]()
        try:
            folder.mkdir(mode=0o700)
            blobs = open_blobs(data_dir, blobs_url)
            _check_no_blobs(blobs, begun, blobs_url or str(data_dir))
            (folder / _HOME).write_text(blobs.identity)
            path = folder / "member"
            for name in _members(file, manifest, path):
                if name == _DATABASE:
                    path.replace(folder / _FILE)
                else:
                    put.append(blobs.put(path))
            _restore_database(folder / _FILE, data_dir, url, blobs, settle)
        except BaseException:
            for sha256 in put:
                blobs.delete(sha256)
            _clear(data_dir)
            raise
    shutil.rmtree(folder)
    return manifest


def manifest_of(file: Path) -> Manifest:
    """What a backup holds; raises ``InputError`` for a file that is none."""
    try:
        with tarfile.open(file, "r:") as archive:
            member = archive.next()
            found = archive.extractfile(member) if member and member.name == _MANIFEST else None
            manifest = Manifest(**json.loads(found.read(2**16))) if found else None
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from error
    except (tarfile.TarError, ValueError, TypeError) as error:
        raise InputError(f"{file} is no backup of a store") from error
    if manifest is None:
        raise InputError(f"{file} is no backup of a store")
    if manifest.format != _FORMAT:
        raise InputError(
            f"{file} is a backup by a newer release ({manifest.planner}): use that one"
        )
    return manifest


def _members(file: Path, manifest: Manifest, copy: Path) -> Iterator[str]:
    """Copies the database and each blob of a backup in turn to a file, and says which it is.

    Raises ``InputError`` for one that has not the SHA-256 that its name, or the manifest, says.
    """
    blobs = databases = 0
    try:
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                match = _BLOB.fullmatch(member.name)
                stream = archive.extractfile(member) if member.isreg() else None
                if stream is None or not (match or member.name in (_DATABASE, _MANIFEST)):
                    raise InputError(f"{file} holds {member.name!r}, which no backup does")
                if member.name == _MANIFEST:
                    continue
                digest = hashlib.sha256()
                with copy.open("wb") as out:
                    while chunk := stream.read(_CHUNK):
                        digest.update(chunk)
                        out.write(chunk)
                if digest.hexdigest() != (match[1] if match else manifest.database_sha256):
                    raise InputError(f"{file} is damaged: {member.name} has other bytes")
                blobs, databases = blobs + bool(match), databases + (not match)
                yield _DATABASE if match is None else match[1]
    except tarfile.TarError as error:
        raise InputError(f"{file} is damaged: {error}") from error
    if databases != 1 or blobs != manifest.blobs:
        raise InputError(f"{file} is damaged: it ends too early")


def _write(
    file: Path, database: Path, store: PlanStore, blobs: list[str], now: datetime
) -> Manifest:
    is_sqlite = store.database.url.get_backend_name() == "sqlite"
    with database.open("rb") as copy:
        digest = hashlib.file_digest(copy, "sha256").hexdigest()
    manifest = Manifest(
        _FORMAT,
        planner.__version__,
        now.isoformat(timespec="seconds"),
        "sqlite" if is_sqlite else "postgresql",
        digest,
        len(blobs),
        sum(map(store.blobs.size, blobs)),
    )
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as raw:
        with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
            _add(archive, _MANIFEST, BytesIO(json.dumps(asdict(manifest)).encode()), now)
            with database.open("rb") as copy:
                _add(archive, _DATABASE, copy, now)
            for sha256 in blobs:
                with store.blobs.open(sha256) as blob:
                    _add(archive, f"blobs/{sha256}", blob, now)
        raw.flush()
        os.fsync(raw.fileno())
    return manifest


def _add(archive: tarfile.TarFile, name: str, file: IO[bytes], now: datetime) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = file.seek(0, os.SEEK_END), 0o600, int(now.timestamp())
    file.seek(0)
    archive.addfile(member, file)


def _copy_database(store: PlanStore, copy: Path) -> list[str]:
    """Copies the database as it is at one moment; returns the blobs that it then knows.

    Raises ``InputError`` if one is not whole that it refers to.
    """
    copy.touch(0o600)
    if store.database.url.get_backend_name() == "sqlite":
        url = URL.create("sqlite", database=str(copy))
        try:
            with (
                closing(sqlite3.connect(store.database.url.database or "", timeout=30)) as source,
                closing(sqlite3.connect(copy)) as target,
            ):
                source.backup(target)
                target.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.OperationalError as error:
            if out_of_room(error, url):
                raise FullDiskError("the backup") from error
            raise UnreachableError(f"the database does not answer ({error}): try again") from error
        engine = create_engine(url, poolclass=NullPool)
        with engine.connect() as connection:
            return _blobs(store.blobs, connection)
    engine = create_engine(
        store.database.url, poolclass=NullPool, isolation_level="REPEATABLE READ"
    )
    with engine.connect() as connection:
        snapshot = connection.scalar(select(func.pg_export_snapshot()))
        tables = (f"--table={name}" for name in (*Base.metadata.tables, "alembic_version"))
        options = ("--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}")
        with copy.open("wb") as out:
            _run("pg_dump", store.database.url, [*options, *tables], stdout=out)
        return _blobs(store.blobs, connection)


def _blobs(blobs: BlobStore, connection: Connection) -> list[str]:
    """The blobs that a database knows, and that are there."""
    needed = set(connection.scalars(union(*(select(column) for column in blob_references()))))
    known = connection.scalars(select(Blob.sha256).order_by(Blob.sha256)).all()
    bad: set[str] = set()
    for sha256 in known:
        try:
            blobs.path(sha256)
        except LostBlobError:
            bad.add(sha256)
    if lost := bad & needed:
        raise InputError(
            f"{len(lost)} files of the store are damaged or missing, so that no backup of it would "
            "be whole: see 'layout-planner store check', and mend it with 'store repair'"
        )
    return [sha256 for sha256 in known if sha256 not in bad]


def _restore_database(
    copy: Path, data_dir: Path, url: URL | None, blobs: BlobStore, settle: Callable[[Session], None]
) -> None:
    if url is not None:
        if _has_tables(url):
            raise OptionError("there are plans in that database already: name an empty one")
        options = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges"]
        _run("pg_restore", url, [*options, str(copy)])
        _settle(Database(url), blobs, settle)
        return
    _settle(Database(URL.create("sqlite", database=str(copy))), blobs, settle)
    # It is there from now on, with all that it refers to.
    copy.replace(data_dir / copy.name)
    flush_folder(data_dir)


def _settle(database: Database, blobs: BlobStore, settle: Callable[[Session], None]) -> None:
    try:
        with database.writing() as session:
            session.execute(update(BlobHome).values(identity=blobs.identity))
            settle(session)
    finally:
        database.close()


def _has_tables(url: URL) -> bool:
    engine = create_engine(url, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            return not Base.metadata.tables.keys().isdisjoint(inspect(connection).get_table_names())
    except OperationalError as error:
        raise OptionError(
            f"cannot reach the database ({str(error.orig).splitlines()[0]})"
        ) from error


def _run(name: str, url: URL, options: list[str], stdout: IO[bytes] | None = None) -> None:
    """Runs a program of PostgreSQL; its password is in no command line."""
    program = shutil.which(name)
    if program is None:
        raise OptionError(
            f"there is no {name} here, which copies a PostgreSQL database: install PostgreSQL's "
            "client (postgresql-client)"
        )
    shown = url.set(drivername="postgresql", password=None).render_as_string(hide_password=False)
    environment = os.environ | ({} if url.password is None else {"PGPASSWORD": str(url.password)})
    command = [program, f"--dbname={shown}", *options]
    ended = subprocess.run(
        command, stdout=stdout, stderr=subprocess.PIPE, env=environment, check=False
    )
    if ended.returncode:
        said = ended.stderr.decode(errors="replace").strip().splitlines()
        raise OptionError(f"{name} failed ({said[0] if said else 'it does not say why'})")


def _check_empty(data_dir: Path) -> str | None:
    """Refuses a directory that holds something, unless that is of a restore that was killed.

    Returns the identity of the store of files that such a one has put files into.
    """
    begun = None
    if data_dir.exists() and not data_dir.is_dir():
        raise OptionError(f"cannot restore into {data_dir}: it is a file; name a directory")
    if (data_dir / UNFINISHED).is_dir() and not (data_dir / _FILE).exists():
        with suppress(FileNotFoundError):
            begun = (data_dir / UNFINISHED / _HOME).read_text()
        _clear(data_dir)
    if data_dir.is_dir() and any(data_dir.iterdir()):
        raise OptionError(
            f"cannot restore into {data_dir}: it is not empty; name another directory"
        )
    return begun


def _check_no_blobs(blobs: BlobStore, begun: str | None, place: str) -> None:
    """Refuses a store of files that holds some, unless they are of a restore that was killed."""
    for sha256, _ in blobs.all():
        if blobs.identity != begun:
            raise OptionError(
                f"cannot restore into {place}: there are files already; name another folder"
            )
        blobs.delete(sha256)


def _clear(data_dir: Path) -> None:
    for path in data_dir.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def _folder(parent: Path) -> Iterator[Path]:
    """A folder of one's own there, which goes in the end."""
    with TemporaryDirectory(prefix=".layout-planner-backup-", dir=parent) as folder:
        yield Path(folder)
