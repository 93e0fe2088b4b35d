"""A secret that all servers of one database share."""

from __future__ import annotations

import secrets

from api.store.database import Database
from api.store.tables import ServerSecret


def secret_of(database: Database) -> str:
    """The secret of a database, drawn at random when it is first asked for.

    Raises ``UnreachableError``.
    """
    row = {"number": 1, "value": secrets.token_urlsafe(32)}
    with database.writing() as session:
        session.execute(database.insert(ServerSecret).on_conflict_do_nothing(), [row])
        return session.get_one(ServerSecret, 1).value
