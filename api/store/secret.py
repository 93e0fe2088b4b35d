"""A secret that all servers of one data directory share."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

_NAME: Final = "secret"


def secret_of(data_dir: Path) -> str:
    """The secret of a directory, drawn at random when it is first asked for. Raises ``OSError``."""
    path = data_dir / _NAME
    if not path.exists():
        drawn = data_dir / f".{_NAME}-{secrets.token_hex(8)}"
        with os.fdopen(os.open(drawn, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
        # Whole, and the first one's: another server may do the same just now.
        with suppress(FileExistsError):
            os.link(drawn, path)
        drawn.unlink()
    return path.read_text("utf-8")
