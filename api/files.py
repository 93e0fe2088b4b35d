"""Files that a command reads and writes: whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from planner.errors import InputError, OptionError


def read_input(path: Path) -> bytes:
    """The bytes of an input file; raises ``InputError`` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def check_writable(path: Path | None) -> None:
    """Raises ``OptionError`` now rather than after the work if a file cannot be written there."""
    if path is None:
        return
    if path.is_dir():
        raise OptionError(f"cannot write {path}: it is a directory; name a file")
    if not path.absolute().parent.is_dir():
        raise OptionError(f"cannot write {path}: its directory does not exist; create it first")
    if not os.access(path.absolute().parent, os.W_OK):
        raise OptionError(f"cannot write {path}: its directory is not writable")


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file under a temporary name first, so that nobody ever sees half of it."""
    descriptor, temporary = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
