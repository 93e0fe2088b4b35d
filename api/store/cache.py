"""Copies of blobs on this machine's disk, of a store that is elsewhere."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from api.store.blobs import LostBlobError, check_sha256, sha256_of

_MOST_BYTES: Final = 10 * 2**30
_MOST_OF_DISK: Final = 0.1
_IN_USE_SECONDS: Final = 600.0
"""How long a copy stays that was asked for: whoever did has opened it by then."""
_ABANDONED_SECONDS: Final = 86400.0
_SLACK: Final = 0.05


class Cache:
    """Copies of blobs, each in a file under its SHA-256: ``ab/abcd...``.

    Those that were not asked for longest go when there are more than ``most_bytes`` in all (by
    default 10 GiB, or a tenth of the disk if that is less), give or take a few per cent. Nothing
    is lost with a copy, and none is trusted. Several processes may use a cache at once.

    Methods raise ``ValueError`` for what is no SHA-256.
    """

    def __init__(self, root: Path, most_bytes: int | None = None) -> None:
        self._root = root
        self._unfinished = root / "unfinished"
        self._unfinished.mkdir(mode=0o700, parents=True, exist_ok=True)
        share = int(shutil.disk_usage(root).total * _MOST_OF_DISK)
        self._most_bytes = min(_MOST_BYTES, share) if most_bytes is None else most_bytes
        # What is there is counted with the first copy that comes.
        self._uncounted = self._most_bytes

    def find(self, sha256: str) -> Path | None:
        """A copy, as it is; None where there is none."""
        target = self._target(sha256)
        try:
            with self._lock(fcntl.LOCK_SH):
                os.utime(target)
        except FileNotFoundError:
            return None
        return target

    def find_whole(self, sha256: str) -> Path | None:
        """A copy whose bytes were looked at just now; a damaged one is removed."""
        found = self.find(sha256)
        if found is None or sha256_of(found) == sha256:
            return found
        self.drop(sha256)
        return None

    def add(self, sha256: str, write: Callable[[BinaryIO], object]) -> Path:
        """Keeps a copy, which ``write`` writes into a file.

        Raises ``LostBlobError`` if it writes anything else, ``OSError`` if there is no room.
        """
        target = self._target(sha256)
        temporary = self._unfinished / uuid.uuid4().hex
        try:
            with temporary.open("xb") as file:
                write(file)
            if sha256_of(temporary) != sha256:
                raise LostBlobError(sha256, "damaged")
            target.parent.mkdir(mode=0o700, exist_ok=True)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        self._uncounted += target.stat().st_size
        if self._uncounted > self._most_bytes * _SLACK:
            self._uncounted = 0
            self._trim()
        return target

    def drop(self, sha256: str) -> None:
        """Removes a copy, if there is one."""
        self._target(sha256).unlink(missing_ok=True)

    def _target(self, sha256: str) -> Path:
        check_sha256(sha256)
        return self._root / sha256[:2] / sha256

    def _trim(self) -> None:
        """Removes what was not asked for longest, until the rest is few enough bytes."""
        for leftover in self._unfinished.iterdir():
            self._remove_older(leftover, _ABANDONED_SECONDS)
        found = []
        for path in self._root.glob("[0-9a-f][0-9a-f]/*"):
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue  # another process trims as well
            found.append((stat.st_mtime, stat.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self._most_bytes:
                break
            total -= size * self._remove_older(path, _IN_USE_SECONDS)

    def _remove_older(self, path: Path, seconds: float) -> bool:
        """Removes a file, unless it was asked for since it was looked at."""
        try:
            with self._lock(fcntl.LOCK_EX):
                if path.stat().st_mtime > time.time() - seconds:
                    return False
                path.unlink()
        except FileNotFoundError:
            pass
        return True

    @contextmanager
    def _lock(self, kind: int) -> Iterator[None]:
        """Holds the lock between finding copies (shared) and removing them (exclusive)."""
        with (self._root / ".lock").open("ab") as file:
            fcntl.flock(file, kind)
            yield
