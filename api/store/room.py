"""Room on the disk where plans are kept: what is said when there is none, and a reserve of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")

RESERVE_BYTES: Final = 32 * 2**20
"""More than SQLite writes to delete the largest job."""
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class NoRoomError(Exception):
    """There is no room for what was to be kept. Nothing of it is there."""


class FullDiskError(NoRoomError):
    """There is no room on the disk."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"there is no room on the disk for {what}: delete plans or jobs, which frees theirs at "
            "once, or make room otherwise, and try again"
        )


def is_full(error: OSError) -> bool:
    """Whether a system call failed because a disk, or what may be used of it, is full."""
    return error.errno in _FULL


@contextmanager
def needs_room(what: str) -> Iterator[None]:
    """Raises ``FullDiskError`` where the body cannot write ``what`` for want of room."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise FullDiskError(what) from error
        raise


class Reserve:
    """A file that only takes room: it is given up where something is to be deleted on a full disk.

    Until it can be made again, nothing but deletions has what it took: see ``check``.
    """

    def __init__(self, path: Path, size: int) -> None:
        """``size`` are the bytes that it is to have; with 0 there is none."""
        self._path, self._size = path, size

    def fill(self) -> bool:
        """Makes it whole; False where there is no room for that."""
        with suppress(FileNotFoundError):
            if self._path.stat().st_size >= self._size:
                return True
        if self._size == 0:
            return True
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._size)
        except OSError as error:
            os.ftruncate(descriptor, 0)
            if is_full(error):
                return False
            raise
        finally:
            os.close(descriptor)
        return True

    def check(self, what: str) -> None:
        """Raises ``FullDiskError`` as long as the room that is left is for deletions."""
        with needs_room(what):
            if not self.fill():
                raise FullDiskError(what)

    def spend(self, call: Callable[[], T]) -> T:
        """What a call returns that frees room, with the reserve's if there is no other."""
        try:
            return call()
        except FullDiskError:
            if not self._release():
                raise
        result = call()
        with suppress(OSError):
            self.fill()
        return result

    def _release(self) -> bool:
        """Gives it up; False where there is nothing to give up."""
        try:
            if self._path.stat().st_size == 0:
                return False
            os.truncate(self._path, 0)
        except FileNotFoundError:
            return False
        return True
