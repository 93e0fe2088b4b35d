"""Submissions that come again: with the same key they give the same job, and not another one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, select, tuple_
from sqlalchemy.orm import Session

from api.store.clock import Ago
from api.store.database import Database
from api.store.tables import Submission

KEPT_SECONDS: Final = 48 * 3600.0
"""How long a key is kept."""


class KeyReusedError(Exception):
    """A key that has come with another job."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"the Idempotency-Key {key!r} has come with another job before: give each job a key "
            "of its own"
        )


@dataclass(frozen=True, slots=True)
class SubmissionKey:
    """The key of a submission: whose, and of what."""

    caller: str
    key: str
    request_sha256: str


def submitted(session: Session, key: SubmissionKey) -> str | None:
    """The job that was submitted with a key; None for a new one. Raises ``KeyReusedError``."""
    found = session.get(Submission, (key.caller, key.key))
    if found is None:
        return None
    if found.request_sha256 != key.request_sha256:
        raise KeyReusedError(key.key)
    return found.job_id


def take(database: Database, session: Session, key: SubmissionKey, job_id: str) -> bool:
    """Keeps a key with a job, if it is new; else the transaction of another had it first.

    Waits until that one has ended. What is too old goes.
    """
    old = select(Submission.caller, Submission.key).where(Submission.created < Ago(KEPT_SECONDS))
    # PostgreSQL leaves out what another transaction is just deleting.
    held = old.with_for_update(skip_locked=True)
    session.execute(delete(Submission).where(tuple_(Submission.caller, Submission.key).in_(held)))
    row = database.insert(Submission).values(
        caller=key.caller,
        key=key.key,
        request_sha256=key.request_sha256,
        job_id=job_id,
        created=Ago(),
    )
    taken = session.execute(row.on_conflict_do_nothing().returning(Submission.key))
    return taken.first() is not None
