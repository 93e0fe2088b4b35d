"""Which plans are being made now, known to all processes that share a directory."""

from __future__ import annotations

import fcntl
from contextlib import suppress
from pathlib import Path
from typing import Final

_DIGITS: Final = 15
"""Hexadecimal digits of an id, as many as an offset in a file has room for."""


class Claims:
    """One byte of a file for each plan, locked by the process that makes it.

    A lock ends with its process, however that ends. It is the process's: within it, and for the
    same plan, the caller must see to it that there is one at a time. Where a file system has no
    locks, every claim succeeds: a plan may then be made twice, and is kept once.
    """

    def __init__(self, path: Path) -> None:
        # Open as long as the process lives: to close one such file would give up all its locks.
        self._file = path.open("ab")

    def take(self, plan_id: str) -> bool:
        """Claims a plan; False if another process has."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(plan_id))
        except (BlockingIOError, PermissionError):
            return False
        except OSError:
            return True
        return True

    def release(self, plan_id: str) -> None:
        """Gives a claim up."""
        with suppress(OSError):
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _place(plan_id))

    def close(self) -> None:
        """Gives all claims of this process up."""
        self._file.close()

    def is_free(self, plan_id: str) -> bool:
        """Whether no other process has claimed a plan, which this one has not."""
        is_free = self.take(plan_id)
        if is_free:
            self.release(plan_id)
        return is_free


def _place(plan_id: str) -> int:
    return int(plan_id[:_DIGITS], 16)
