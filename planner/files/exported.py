"""Exported programs (``.pt2``), as far as they can be checked without torch."""

from __future__ import annotations

import zipfile
from typing import BinaryIO

from planner.errors import InputError


def check_is_exported(file: BinaryIO, name: str) -> None:
    """Raises ``InputError`` unless a file looks like a ``.pt2``; needs no torch."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError):
        raise InputError(
            f"{name} is not a zip archive: hand in a file written by torch.export.save"
        ) from None
    if not any(m.endswith("archive_format") or "/models/" in m for m in members):
        raise InputError(
            f"{name} is a zip archive, but not a .pt2: hand in a file written by torch.export.save"
        )
