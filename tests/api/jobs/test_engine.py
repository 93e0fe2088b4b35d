"""The queue from outside."""

from __future__ import annotations

from typing import Any

import pytest

from api.jobs.engine import Engine
from api.store.database import Database


def test_what_puts_many_tasks_in_ends_when_the_queue_is_closed(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(database_url)
    engine = Engine(database)
    put: list[str] = []

    def enqueue(options: Any, id_: str) -> None:
        put.append(id_)
        engine.close()

    monkeypatch.setattr(vars(engine)["_client"], "enqueue", enqueue)
    engine.start(["a", "b", "c"])
    assert put == ["a"]
    database.close()
