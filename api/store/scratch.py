"""Folders for what is not to be kept: each is removed with its process, or after it."""

from __future__ import annotations

import fcntl
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from api.store.room import needs_room

_ROOT: Final = "scratch"
_LOCK: Final = ".lock"


@contextmanager
def scratch_in(data_dir: Path) -> Iterator[Path]:
    """A folder of this process's own in a data directory, removed in the end.

    Those of processes that were killed go first: the system has given up their locks. Raises
    ``FullDiskError``.
    """
    root = data_dir / _ROOT
    folder = root / uuid.uuid4().hex
    with ExitStack() as stack:
        with needs_room("a folder for uploads"):
            root.mkdir(mode=0o700, exist_ok=True)
            # In turns: a folder that has no lock yet would pass for a dead process's.
            with (root / _LOCK).open("ab") as turn:
                fcntl.flock(turn, fcntl.LOCK_EX)
                _sweep(root)
                folder.mkdir()
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
                _lock(stack.enter_context((folder / _LOCK).open("ab")))
        yield folder


def is_in_use(data_dir: Path) -> bool:
    """Whether a server, or what keeps workers, has a folder in a data directory."""
    for folder in (data_dir / _ROOT).glob("*/"):
        with suppress(FileNotFoundError), (folder / _LOCK).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    return False


def _sweep(root: Path) -> None:
    for folder in root.iterdir():
        if not folder.is_dir():
            continue
        with ExitStack() as stack:
            try:
                _lock(stack.enter_context((folder / _LOCK).open("ab")))
            except BlockingIOError:
                continue  # its process runs
            shutil.rmtree(folder, ignore_errors=True)


def _lock(file: IO[bytes]) -> None:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
