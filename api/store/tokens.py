"""Tokens of those who may use a server: what they may do, and a hash of each."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any, Final

from sqlalchemy import insert, select, update

from api.store.clock import Ago
from api.store.database import Database
from api.store.tables import TokenRecord

_TOKEN: Final = re.compile(r"lp_(?P<id>[0-9a-f]{16})_(?P<secret>[A-Za-z0-9_-]{43})")


class Scope(IntEnum):
    """What a token may be used for; each includes those before it."""

    READ = 1
    PLAN = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one caller may ask of a server; None stands for what the server allows everybody.

    Plans count while they are made or wait to be, bytes while they are in the store.
    """

    requests_per_minute: int | None = None
    running_plans: int | None = None
    stored_bytes: int | None = None
    upload_bytes_per_hour: int | None = None


class Tokens:
    """The tokens of a database. Methods raise ``UnreachableError``.

    A token is 32 random bytes behind its id; the database has its SHA-256, from which no one finds
    it again.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: str, scope: Scope, allowance: Allowance = Allowance()) -> str:
        """Makes a token for someone; this is the only time that it is told."""
        id_, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        token = f"lp_{id_}_{secret}"
        row = {"id": id_, "name": name, "scope": scope.name.lower(), "hash": _hash(token)}
        values: dict[str, Any] = row | asdict(allowance)
        with self._database.writing() as session:
            session.execute(insert(TokenRecord).values(**values, created=Ago()))
        return token

    def all(self) -> Sequence[TokenRecord]:
        """Every token that was made, the newest first; those that were revoked as well."""
        query = select(TokenRecord).order_by(TokenRecord.created.desc(), TokenRecord.id)
        with self._database.reading() as session:
            return session.scalars(query).all()

    def revoke(self, id_: str) -> bool:
        """Makes a token worthless; False where no token that is valid has this id."""
        mine = TokenRecord.id == id_, TokenRecord.revoked.is_(None)
        with self._database.writing() as session:
            revoked = session.execute(
                update(TokenRecord).where(*mine).values(revoked=Ago()).returning(TokenRecord.id)
            )
            return revoked.first() is not None

    def find(self, token: str) -> TokenRecord | None:
        """The record of a token that is valid."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        with self._database.reading() as session:
            found = session.get(TokenRecord, match["id"])
        if found is None or found.revoked is not None:
            return None
        return found if hmac.compare_digest(found.hash, _hash(token)) else None

    def any(self) -> bool:
        """Whether there is a token that is valid."""
        query = select(TokenRecord.id).where(TokenRecord.revoked.is_(None)).limit(1)
        with self._database.reading() as session:
            return session.scalar(query) is not None


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
