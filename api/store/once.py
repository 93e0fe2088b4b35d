"""Files that are written once, by whichever process comes first, and read by all."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def written_once(path: Path, draw: Callable[[], str], temporary: Path) -> str:
    """The text of a file; ``draw`` makes it if there is none. For its owner alone.

    It is whole, wherever a process is ended: it is written to ``temporary`` first. Raises
    ``OSError``.
    """
    if not path.exists():
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(draw())
                file.flush()
                os.fsync(file.fileno())
            # Unlike a rename, a link leaves what another process has written meanwhile.
            with suppress(FileExistsError):
                path.hardlink_to(temporary)
            flush_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    return path.read_text("utf-8")


def flush_folder(folder: Path) -> None:
    """Sees to it that a power cut after a rename finds the file under its new name."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
