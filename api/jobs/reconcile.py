"""Puts right what a process left undone that was killed between the store and the queue."""

from __future__ import annotations

from typing import Final

from api.jobs.engine import ENDED, GIVEN_UP, RECOVERIES, Engine
from api.jobs.tasks import Tasks

LATE_SECONDS: Final = 2.0
"""How long a task may be queued in the store and not in the queue."""


def reconcile(tasks: Tasks, engine: Engine) -> None:
    """Makes store and queue agree. May be called at any time, and by several at once.

    Raises ``UnreachableError`` or SQLAlchemy's ``OperationalError`` if a database does not answer.
    """
    tasks.release()
    tasks.fail_foreign()
    engine.start(tasks.stale("queued", LATE_SECONDS))
    running = tasks.stale("running", LATE_SECONDS)
    lost = {id_: s for id_, s in engine.statuses(running).items() if s in ENDED}
    for id_, status in lost.items():
        if status in GIVEN_UP:
            tasks.fail(id_, f"its workers were killed {RECOVERIES} times while they did it")
    tasks.requeue([id_ for id_, status in lost.items() if status not in GIVEN_UP])
