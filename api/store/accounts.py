"""Who is charged for what is in the store: a right sum over all servers of a database."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import ColumnElement, delete, exists, func, select, tuple_, update
from sqlalchemy.orm import Session

from api.store.clock import Ago
from api.store.database import Database
from api.store.tables import AccountRecord, Blob, Charge, blob_references

_BLOCK: Final = 500
"""Rows of one statement."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who is charged, and how many bytes that account may have in the store."""

    name: str
    most_bytes: int


class FullAccountError(Exception):
    """An account has as much in the store as it may."""

    def __init__(self, stored: int, more: int, most: int) -> None:
        super().__init__(
            f"you have {_text(stored)} in the store, and {_text(more)} more would be over the "
            f"{_text(most)} that you may have: delete plans and jobs that you do not need, or ask "
            "who runs the service for more"
        )


class Accounts:
    """The accounts of a database. Methods raise ``UnreachableError``.

    What is in the store twice, for two accounts, is charged to both. A charge goes when the blob is
    not referred to any more: at once with the plan or job that was deleted, else with a sweep.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def stored(self, account: str) -> int:
        """The bytes that an account is charged for."""
        with self._database.reading() as session:
            return _stored(session, account)

    def check(self, account: Account, more: int = 0) -> None:
        """Raises ``FullAccountError`` if there is no room for so many more bytes, or for any."""
        stored = self.stored(account.name)
        if stored + max(more, 1) > account.most_bytes:
            raise FullAccountError(stored, more, account.most_bytes)

    def reserve(self, account: Account, blobs: Mapping[str, int]) -> None:
        """Charges an account for blobs that it is about to put, by SHA-256 with their sizes.

        Raises ``FullAccountError``, and then charges nothing.
        """
        with self._database.writing() as session:
            self.charge_strictly(session, account, blobs)

    def charge_strictly(self, session: Session, account: Account, blobs: Mapping[str, int]) -> None:
        """Charges an account in a transaction; raises ``FullAccountError`` if it has no room."""
        self.charge(session, account, blobs)
        stored = _stored(session, account.name)
        if stored > account.most_bytes:
            more = sum(blobs.values())
            raise FullAccountError(max(stored - more, 0), more, account.most_bytes)

    def charge(self, session: Session, account: Account, blobs: Mapping[str, int]) -> None:
        """Charges an account in a transaction, even if it has no room."""
        records, charges = self._database.insert(AccountRecord), self._database.insert(Charge)
        # The account is held from here to the commit: no other server counts it meanwhile.
        session.execute(
            records.values(name=account.name, most_bytes=account.most_bytes).on_conflict_do_update(
                index_elements=[AccountRecord.name],
                set_={"most_bytes": records.excluded.most_bytes},
            )
        )
        found = sorted(blobs)
        for first in range(0, len(found), _BLOCK):
            values = [
                {"account": account.name, "sha256": each, "size": blobs[each], "created": Ago()}
                for each in found[first : first + _BLOCK]
            ]
            session.execute(
                charges.values(values).on_conflict_do_update(
                    index_elements=[Charge.account, Charge.sha256],
                    set_={"created": charges.excluded.created},
                )
            )

    def renew(self, session: Session, sha256: str) -> None:
        """Keeps the charges for a blob that has been handed in again."""
        session.execute(update(Charge).where(Charge.sha256 == sha256).values(created=Ago()))


def full_accounts(session: Session, names: Collection[str]) -> list[Account]:
    """Those of some accounts that have as much as they may."""
    return [
        each
        for each in find_accounts(session, names)
        if _stored(session, each.name) >= each.most_bytes
    ]


def find_accounts(session: Session, names: Collection[str]) -> list[Account]:
    """Accounts by their names, in an order."""
    query = select(AccountRecord).where(AccountRecord.name.in_(names)).order_by(AccountRecord.name)
    return [Account(found.name, found.most_bytes) for found in session.scalars(query)]


def discharge(session: Session, blobs: Iterable[str]) -> None:
    """Ends the charges for those of some blobs that nothing refers to any more."""
    unused = [~exists().where(column == Charge.sha256) for column in blob_references()]
    found = sorted(set(blobs))
    for first in range(0, len(found), _BLOCK):
        _end(session, Charge.sha256.in_(found[first : first + _BLOCK]), *unused)


def discharge_swept(session: Session, grace: timedelta) -> None:
    """Ends the charges for blobs that were put before ``grace``, and are known no more."""
    _end(
        session,
        Charge.created < Ago(grace.total_seconds()),
        ~exists().where(Blob.sha256 == Charge.sha256),
    )


def _end(session: Session, *conditions: ColumnElement[bool]) -> None:
    # PostgreSQL leaves out the charges that a transaction holds, which are new when it is done.
    found = select(Charge.account, Charge.sha256).where(*conditions)
    held = found.with_for_update(skip_locked=True)
    session.execute(delete(Charge).where(tuple_(Charge.account, Charge.sha256).in_(held)))


def _stored(session: Session, account: str) -> int:
    query = select(func.coalesce(func.sum(Charge.size), 0)).where(Charge.account == account)
    return int(session.scalar(query) or 0)


def _text(size: int) -> str:
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20)):
        if size >= factor / 10:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"
