"""Secrets that all servers of one database share."""

from __future__ import annotations

import secrets
from typing import Final, Literal

from api.store.database import Database
from api.store.tables import ServerSecret

_NUMBERS: Final = {"forms": 1, "signatures": 2}


def secret_of(database: Database, purpose: Literal["forms", "signatures"] = "forms") -> str:
    """A secret of a database, drawn at random when it is first asked for.

    That of ``forms`` is on every page; that of ``signatures`` never leaves the service. Raises
    ``UnreachableError``.
    """
    number = _NUMBERS[purpose]
    row = {"number": number, "value": secrets.token_urlsafe(32)}
    with database.writing() as session:
        session.execute(database.insert(ServerSecret).on_conflict_do_nothing(), [row])
        return session.get_one(ServerSecret, number).value
