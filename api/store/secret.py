"""A secret that all servers of one data directory share."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from api.store.once import written_once

_NAME: Final = "secret"


def secret_of(data_dir: Path) -> str:
    """The secret of a directory, drawn at random when it is first asked for. Raises ``OSError``."""
    temporary = data_dir / f".{_NAME}-{secrets.token_hex(8)}"
    return written_once(data_dir / _NAME, lambda: secrets.token_urlsafe(32), temporary)
