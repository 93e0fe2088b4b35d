"""Files that a command reads and writes: whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from planner.errors import InputError, OptionError
from planner.files.whole import write_whole


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


def check_new_folder(path: Path) -> None:
    """Raises ``OptionError`` unless a folder can be made there, or is there and empty."""
    if path.exists() and not path.is_dir():
        raise OptionError(f"cannot write {path}: it is a file; name a folder")
    if path.is_dir() and any(path.iterdir()):
        raise OptionError(f"cannot write {path}: it is not empty; name a new folder")
    check_writable(path.absolute().parent / f"{path.name}.new")


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Writes a folder's files under a temporary name first: there are all of them, or none."""
    temporary = path.absolute().with_name(f".{path.name}.{os.urandom(8).hex()}")
    temporary.mkdir()
    try:
        for name, data in files.items():
            write_whole(temporary / name, data)
        if path.is_dir():
            path.rmdir()
        temporary.replace(path)
    except BaseException:
        import shutil

        shutil.rmtree(temporary, ignore_errors=True)
        raise
