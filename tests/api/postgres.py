"""A PostgreSQL server of the tests' own, from the programs of Debian's package."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

_USER = "postgres"
_SETTINGS = (
    "-c listen_addresses='' -c fsync=off -c synchronous_commit=off -c full_page_writes=off "
    "-c shared_buffers=16MB -c max_connections=200"
)


class Cluster:
    """A running server: a socket in a folder, and no password."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of an empty database, which goes at the end."""
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
            yield self._url(name)
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    def _url(self, name: str) -> str:
        return f"postgresql://{_USER}@/{name}?host={self._folder}"


@contextmanager
def running() -> Iterator[Cluster]:
    """Starts a server and stops it."""
    initdb, control = _program("initdb"), _program("pg_ctl")
    # A socket's path must be short; and the folders that pytest makes are closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="layout-planner-pg-", dir="/tmp"))
    data, log = folder / "data", folder / "log"
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, _USER)
        _run(initdb, "-D", str(data), "-U", _USER, "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"{_SETTINGS} -c unix_socket_directories={folder}"
        _run(control, "-D", str(data), "-l", str(log), "-w", "-t", "60", "-o", options, "start")
        try:
            yield Cluster(folder)
        finally:
            _run(control, "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _program(name: str) -> str:
    """The newest of Debian's, else the one that a shell would find."""
    found = sorted(
        Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[4])
    )
    program = str(found[-1]) if found else shutil.which(name)
    assert program is not None, f"there is no {name}: 'make postgresql' installs PostgreSQL"
    return program


def _run(*command: str) -> None:
    # PostgreSQL refuses to run as root.
    as_user = ("runuser", "-u", _USER, "--") if os.geteuid() == 0 else ()
    ended = subprocess.run(
        [*as_user, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # the server inherits it: a pipe would never come to its end
        stderr=subprocess.DEVNULL,
        cwd="/",
        check=False,
    )
    assert ended.returncode == 0, f"{' '.join(command)} ended with {ended.returncode}"
