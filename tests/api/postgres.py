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

USER = "postgres"
# Commits are written before they are acknowledged: a server that crashes, on a machine that does
# not, loses none.
_SETTINGS = (
    "-c listen_addresses='' -c fsync=off -c full_page_writes=off "
    "-c shared_buffers=16MB -c max_connections=200"
)


class Cluster:
    """A running server: a socket in a folder, and no password."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def database(self, options: str = "") -> Iterator[str]:
        """The URL of an empty database, which goes at the end."""
        name = f"test_{uuid.uuid4().hex}"
        self.execute(f"CREATE DATABASE {name} {options}")
        yield self._url(name)
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def start(self) -> None:
        """Starts the server."""
        self._control("start", "-o", f"{_SETTINGS} -c unix_socket_directories={self.folder}")

    def stop(self) -> None:
        """Ends every connection and process at once, as a crash does."""
        self._control("stop", "-m", "immediate")

    def execute(self, statement: str) -> None:
        """Executes a statement that is no database's."""
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def _control(self, *command: str) -> None:
        data, log = self.folder / "data", self.folder / "log"
        _run(_program("pg_ctl"), "-D", str(data), "-l", str(log), "-w", "-t", "60", *command)

    def _url(self, name: str) -> str:
        return f"postgresql://{USER}@/{name}?host={self.folder}"


@contextmanager
def running() -> Iterator[Cluster]:
    """Starts a server and stops it."""
    # A socket's path must be short; and the folders that pytest makes are closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="layout-planner-pg-", dir="/tmp"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, USER)
        data = str(folder / "data")
        _run(_program("initdb"), "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync")
        cluster = Cluster(folder)
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()
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
    as_user = ("runuser", "-u", USER, "--") if os.geteuid() == 0 else ()
    ended = subprocess.run(
        [*as_user, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # the server inherits it: a pipe would never come to its end
        stderr=subprocess.DEVNULL,
        cwd="/",
        check=False,
    )
    assert ended.returncode == 0, f"{' '.join(command)} ended with {ended.returncode}"
