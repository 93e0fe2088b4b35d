"""Disks that are really full."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


class SmallDisk:
    """A small disk of its own, in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    @property
    def free(self) -> int:
        """The bytes that are free."""
        return shutil.disk_usage(self.folder).free

    def fill(self, but: int = 0) -> None:
        """Leaves no room, but so many bytes."""
        with self._filler.open("ab", buffering=0) as file:
            with suppress(OSError):  # others may have taken some meanwhile
                os.posix_fallocate(file.fileno(), file.tell(), self.free)
            file.seek(0, os.SEEK_END)
            for size in (2**16, 2**12, 1):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError:
                    continue
            file.truncate(file.tell() - but)

    def empty(self) -> None:
        """Takes away what fills it."""
        self._filler.unlink()


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    """A disk at a folder, as long as it is used; skips the test where none can be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a disk to fill")
    try:
        yield SmallDisk(folder)
    finally:
        # Lazily: what a test has left open there ends with the test.
        subprocess.run(["umount", "-l", str(folder)], check=True)
