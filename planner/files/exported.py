"""Exported programs (``.pt2``), as far as they can be checked without torch."""

from __future__ import annotations

import re
import zipfile
from typing import BinaryIO, Final

from planner.errors import InputError
from planner.files.vetting.archive import names_in

_OPERATOR: Final = re.compile(r'"target":\s*"torch\.ops\.(\w+)\.(\w+)')


def operators_in(file: BinaryIO, name: str = "the program") -> frozenset[str]:
    """The operators that an exported program calls, as ``namespace.name``; needs no torch.

    Raises ``InputError`` for a file that is no zip archive of a program's size.
    """
    models = [m for m in names_in(file, name) if "/models/" in m and m.endswith(".json")]
    with zipfile.ZipFile(file) as archive:
        texts = [archive.read(member).decode("utf-8", "replace") for member in models]
    return frozenset(f"{m[1]}.{m[2]}" for text in texts for m in _OPERATOR.finditer(text))


def check_is_exported(file: BinaryIO, name: str) -> None:
    """Raises ``InputError`` unless a file looks like a ``.pt2``; needs no torch."""
    if not any(m.endswith("archive_format") or "/models/" in m for m in names_in(file, name)):
        raise InputError(
            f"{name} is a zip archive, but not a .pt2: hand in a file written by torch.export.save"
        )
