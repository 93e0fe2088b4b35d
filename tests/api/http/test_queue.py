"""Where more is asked for than can be planned."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import httpx
import pytest

from api.http.app import Settings
from api.http.queue import Queue
from api.planning.work import PlanWork
from tests.api.http.inside import StandIn, run, write_plan

_BODY = b"\0\0\0\0VK00"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that a queue goes by."""
    now = [100.0]
    monkeypatch.setattr("api.http.queue.time.monotonic", lambda: now[0])
    return now


def test_a_full_queue_looks_at_few_requests(clock: list[float]) -> None:
    full = Queue(2)
    with full.place(), full.place():
        looked = []
        for _ in range(1000):
            looked.append(not full.sheds())
            clock[0] += 0.001
        assert all(looked[:3])
        assert 10 <= sum(looked) <= 30
    assert not any(full.sheds() for _ in range(10))


def test_requests_that_are_looked_at_count_once_the_queue_is_half_full(clock: list[float]) -> None:
    some = Queue(4)
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(some.arriving())
        # What is in store needs no place, however many ask for it.
        assert not any(some.sheds() for _ in range(10))
        for _ in range(2):
            stack.enter_context(some.place())
        assert [some.sheds() for _ in range(10)][-3:] == [True] * 3
        for _ in range(10):
            stack.enter_context(some.waiting())
        assert not any(some.sheds() for _ in range(10))


def test_what_is_shed_is_told_so_and_what_is_in_store_is_answered() -> None:
    async def plan(work: PlanWork) -> None:
        if work.name == "slow":
            begun.set()
            await ends.wait()
        await write_plan(work)

    begun, ends = asyncio.Event(), asyncio.Event()

    async def body(client: httpx.AsyncClient) -> None:
        assert (await client.post("/plan", content=_BODY)).status_code == 200
        slow = asyncio.create_task(client.post("/plan?name=slow", content=_BODY + b"slow"))
        await begun.wait()
        answers = [await client.post("/plan", content=_BODY + b"%d" % n) for n in range(5)]
        assert {answer.status_code for answer in answers} == {503}
        assert {answer.headers["retry-after"] for answer in answers} == {"10"}
        assert {answer.json()["type"] for answer in answers} == {"/problems/queue-full"}
        while (answer := await client.post("/plan", content=_BODY)).status_code == 503:
            pass
        assert answer.status_code == 200
        ends.set()
        assert (await slow).status_code == 200

    run(Settings(most_pending=1), body, StandIn(plan))
