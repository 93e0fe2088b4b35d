"""Blobs: bytes that are kept once, under their SHA-256."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from api.store.once import flush_folder, written_once
from api.store.room import needs_room

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_CHUNK: Final = 2**20
_BATCH: Final = 500
FEW: Final = 2**20
"""Bytes that are read at once."""


class LostBlobError(FileNotFoundError):
    """A blob that is missing, or whose bytes have changed. To put it again mends it."""

    def __init__(self, sha256: str, how: str) -> None:
        super().__init__(
            f"the store's file {sha256} is {how}: hand in the program again, which mends it"
        )
        self.sha256, self.how = sha256, how


class BlobStore(Protocol):
    """Keeps bytes by their SHA-256 in hexadecimal. May be called from several threads at once.

    ``path``, ``renew``, ``content``, ``place``, ``open`` and ``size`` raise ``FileNotFoundError``
    for a blob that is not there; all but ``place`` and ``size`` for one with other bytes as well (a
    ``LostBlobError`` says which), ``put`` ``FullDiskError``, and every method ``ValueError`` for
    what is no SHA-256.
    """

    @property
    def identity(self) -> str:
        """32 hexadecimal digits: the same for all that reach the same blobs, and for them alone."""

    def put(self, source: bytes | Path) -> str:
        """Keeps bytes, or those of a file; returns their SHA-256 once they are whole on disk.

        The blob counts as new from now on, even if it was there before: see ``sweep``.
        """

    def path(self, sha256: str) -> Path:
        """A file with the blob's bytes, to be read only."""

    def renew(self, sha256: str) -> Path:
        """As ``path``, and the blob counts as new from now on, as if it was put again."""

    def content(self, sha256: str) -> bytes | Path:
        """A blob's bytes where they are few, else as ``path``."""

    def place(self, sha256: str) -> Path:
        """As ``path``, for whom looks at the SHA-256 of what it reads there."""

    def open(self, sha256: str) -> BinaryIO:
        """The blob, opened for reading."""

    def size(self, sha256: str) -> int:
        """The blob's size in bytes."""

    def exists(self, sha256: str) -> bool:
        """Whether the blob is there."""

    def all(self) -> Iterator[tuple[str, int]]:
        """The SHA-256 and the size of every blob, whole or not, in no order."""

    def delete(self, sha256: str) -> None:
        """Deletes a blob now, whoever refers to it; does nothing where there is none."""

    def sweep(self, kept: Callable[[list[str]], Collection[str]], grace: timedelta) -> int:
        """Deletes what was last put longer ago than ``grace``, and leftovers of puts that died.

        ``kept`` returns which of some blobs are referred to: these stay. Returns how many were
        deleted. Who puts a blob has ``grace`` to refer to it: it is not deleted meanwhile, even if
        the same bytes were there, old and unused, before.
        """


class DirectoryBlobs:
    """Keeps each blob in a file of a directory: ``ab/cd/abcd...``.

    A blob is written under another name, flushed and renamed, so that a file under a blob's name is
    whole, wherever a process is ended. Several processes, and machines that share the directory,
    may use it at once.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._unfinished = root / "unfinished"
        self._unfinished.mkdir(parents=True, exist_ok=True)
        self.identity = self._identify()

    def put(self, source: bytes | Path) -> str:
        """Keeps bytes, or those of a file; returns their SHA-256 once they are whole on disk."""
        sha256 = sha256_of(source)
        with needs_room("a file of the store"):
            try:
                self.renew(sha256)
            except LostBlobError:
                self._write(source, sha256)
        return sha256

    def path(self, sha256: str) -> Path:
        """The blob's own file, to be read only."""
        target = self._target(sha256)
        with _missing_is_lost(sha256):
            _check_whole(target, sha256)
        return target

    def renew(self, sha256: str) -> Path:
        """The blob's own file, to be read only."""
        target = self.path(sha256)
        with _missing_is_lost(sha256), self._lock(fcntl.LOCK_SH):
            os.utime(target)
        # The entry may be of another process that has not come to flush it yet.
        self._flush(target)
        return target

    def content(self, sha256: str) -> bytes | Path:
        """The blob's bytes, or its own file, to be read only."""
        target = self._target(sha256)
        with _missing_is_lost(sha256):
            if target.stat().st_size > FEW:
                return self.path(sha256)
            data = target.read_bytes()
        _check_whole(data, sha256)
        return data

    def place(self, sha256: str) -> Path:
        """The blob's own file, to be read only and with care."""
        target = self._target(sha256)
        target.stat()
        return target

    def open(self, sha256: str) -> BinaryIO:
        """The blob, opened for reading."""
        return self.path(sha256).open("rb")

    def size(self, sha256: str) -> int:
        """The blob's size in bytes."""
        return self._target(sha256).stat().st_size

    def exists(self, sha256: str) -> bool:
        """Whether the blob is there."""
        return self._target(sha256).is_file()

    def all(self) -> Iterator[tuple[str, int]]:
        """The SHA-256 and the size of every blob."""
        for path in self._root.glob("[0-9a-f][0-9a-f]/[0-9a-f][0-9a-f]/*"):
            with suppress(FileNotFoundError):
                if _SHA256.fullmatch(path.name) is not None:
                    yield path.name, path.stat().st_size

    def delete(self, sha256: str) -> None:
        """Deletes a blob now, whoever refers to it."""
        self._target(sha256).unlink(missing_ok=True)

    def sweep(self, kept: Callable[[list[str]], Collection[str]], grace: timedelta) -> int:
        """Deletes blobs that are older than ``grace`` and not among the ``kept``."""
        latest = self._now() - grace.total_seconds()
        for leftover in self._unfinished.iterdir():
            self._delete_older(leftover, latest)
        deleted = 0
        for folder in self._root.glob("[0-9a-f][0-9a-f]"):
            files = {path.name: path for path in folder.glob("*/*") if _mtime(path) < latest}
            names = list(files)
            for first in range(0, len(names), _BATCH):
                batch = names[first : first + _BATCH]
                for name in set(batch).difference(kept(batch)):
                    deleted += self._delete_older(files[name], latest)
        return deleted

    def _identify(self) -> str:
        """Reads the identity from its file, which the first to come has written."""
        temporary = self._unfinished / uuid.uuid4().hex
        return written_once(self._root / ".identity", lambda: uuid.uuid4().hex, temporary)

    def _target(self, sha256: str) -> Path:
        check_sha256(sha256)
        return self._root / sha256[:2] / sha256[2:4] / sha256

    def _flush(self, target: Path) -> None:
        for folder in target.parents[:3]:
            flush_folder(folder)

    def _write(self, source: bytes | Path, sha256: str) -> None:
        target, temporary = self._target(sha256), self._unfinished / uuid.uuid4().hex
        try:
            with temporary.open("xb") as file:
                digest = hashlib.sha256()
                for chunk in _chunks(source):
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            if digest.hexdigest() != sha256:
                raise ValueError(f"{source!r} changed while it was read")
            target.parent.mkdir(parents=True, exist_ok=True)
            with self._lock(fcntl.LOCK_SH):
                # Written long ago if the file is large, but new from now on.
                os.utime(temporary)
                temporary.replace(target)
            self._flush(target)
        finally:
            temporary.unlink(missing_ok=True)

    def _delete_older(self, path: Path, latest: float) -> bool:
        """Deletes a file, unless it was put again since it was looked at."""
        with self._lock(fcntl.LOCK_EX):
            if _mtime(path) >= latest:
                return False
            path.unlink(missing_ok=True)
        return True

    @contextmanager
    def _lock(self, kind: int) -> Iterator[None]:
        """Holds the lock between puts (shared) and deletions (exclusive); ends with the process."""
        with (self._root / ".lock").open("ab") as file:
            fcntl.flock(file, kind)
            yield

    def _now(self) -> float:
        """The time by the clock that the files have theirs from: it may be another machine's."""
        clock = self._root / ".clock"
        clock.touch()
        return clock.stat().st_mtime


def _chunks(source: bytes | Path) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


@contextmanager
def _missing_is_lost(sha256: str) -> Iterator[None]:
    try:
        yield
    except LostBlobError:
        raise
    except FileNotFoundError:
        raise LostBlobError(sha256, "missing") from None


def _check_whole(source: bytes | Path, sha256: str) -> None:
    if sha256_of(source) != sha256:
        raise LostBlobError(sha256, "damaged")


def sha256_of(source: bytes | Path) -> str:
    """The SHA-256 of bytes, or of those of a file, in hexadecimal."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(sha256: str) -> None:
    """Nothing but hexadecimal digits may become part of a path: raises ``ValueError``."""
    if _SHA256.fullmatch(sha256) is None:
        raise ValueError(f"{sha256!r} is not a SHA-256")


def _mtime(path: Path) -> float:
    """When a file was last put; infinitely late if it has gone meanwhile."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
