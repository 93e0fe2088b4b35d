"""A wall clock that can be moved while a process runs: Debian's libfaketime."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

# Python's own waits for an end by the monotonic clock, which libfaketime takes for one by the wall
# clock: the call fails at once.
_SLEEP: Final = """
import threading
import time

time.sleep = lambda seconds: threading.Event().wait(seconds)
"""


class MovedClock:
    """The wall clock of the processes that are started with its environment.

    Their monotonic clock is the machine's, as are the times of files: those of a disk that is
    elsewhere.
    """

    def __init__(self, folder: Path) -> None:
        libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
        if not libraries:
            pytest.skip("there is no libfaketime: 'make faketime' installs it")
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(_SLEEP)
        self._file, self._library = folder / "hours", libraries[0]
        self.move(0)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a process that goes by it."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            # To read the file each time would take most of a server's time.
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
            "PYTHONPATH": str(self._file.parent),
        }

    def move(self, hours: int) -> None:
        """Sets it so many hours ahead of the machine's, from a second from now on at the latest."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{hours:+}h\n")
        new.replace(self._file)
