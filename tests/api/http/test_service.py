"""The same request is planned once, whatever becomes of processes and clients."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.http.app import Settings, create_app
from api.planning.owner import NOBODY, Owner
from api.planning.work import CheckWork, OnStage, PlanWork, Work, ignore_stage
from api.store.claims import DatabaseClaims, FileClaims
from tests.api.http.inside import StandIn, client_of, run, until_removed, uploads, write_plan
from tests.api.planning.processes import (
    planning_pid,
    planning_pids,
    pool_of,
    until_none_plans,
)


async def _kill_process() -> None:
    os.kill(await planning_pid(), signal.SIGKILL)


def test_goes_on_after_a_killed_process_and_plans_the_same_once(conv: bytes, scratch: Path) -> None:
    processes = pool_of()
    pool = StandIn(processes.run)

    async def body(client: httpx.AsyncClient) -> None:
        lost, _ = await asyncio.gather(client.post("/plan", content=conv), _kill_process())
        assert lost.status_code == 503
        assert "upload.pt2 has been killed by SIGKILL" in lost.json()["detail"]
        await until_removed(scratch)

        first, second = await asyncio.gather(
            client.post("/plan?name=first.pt2", content=conv),
            client.post("/plan?name=second.pt2", content=conv),
        )
        assert (first.status_code, second.status_code) == (200, 200)
        assert first.headers["location"] == second.headers["location"]
        assert first.content == second.content
        assert first.headers["content-disposition"] == 'attachment; filename="first.plan"'
        assert second.headers["content-disposition"] == 'attachment; filename="second.plan"'
        assert len(pool.works) == 2
        await until_removed(scratch)

    try:
        run(Settings(), body, pool)
    finally:
        processes.stop()
    assert pool.is_stopped
    # Without a data folder, plans live as long as the service.
    assert list(scratch.iterdir()) == []
    asyncio.run(until_none_plans())


def test_a_plan_that_takes_too_long(conv: bytes, scratch: Path) -> None:
    async def body(client: httpx.AsyncClient) -> None:
        answer = await client.post("/plan", content=conv)
        assert answer.status_code == 504
        assert answer.json()["detail"].startswith("planning upload.pt2 took longer than 0.3 s")
        assert not planning_pids()
        await until_removed(scratch)

    run(Settings(plan_seconds=0.3), body)


def test_a_client_that_goes_away_leaves_the_plan_to_others(conv: bytes, scratch: Path) -> None:
    started, finish = asyncio.Event(), asyncio.Event()

    async def plan(work: PlanWork) -> None:
        started.set()
        await finish.wait()
        assert work.source.read_bytes() == conv
        await write_plan(work)

    async def body(client: httpx.AsyncClient) -> None:
        first = asyncio.create_task(client.post("/plan", content=conv))
        await started.wait()
        second = asyncio.create_task(client.post("/plan", content=conv))
        first.cancel()
        await asyncio.wait([first])
        finish.set()
        assert (await second).content == b"graph of net"
        await until_removed(scratch)

    run(Settings(), body, StandIn(plan))


def test_of_two_services_that_plan_the_same_the_first_to_commit_is_kept(
    conv: bytes, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the lock of the first were lost: else the second waits for it.
    monkeypatch.setattr(DatabaseClaims, "take", lambda self, id_: True)
    both = asyncio.Barrier(2)

    async def plan(work: PlanWork) -> None:
        await both.wait()
        await write_plan(work)

    settings = Settings(tmp_path / "data", database_url)

    async def run() -> None:
        async with (
            client_of(create_app(settings, StandIn(plan))) as one,
            client_of(create_app(settings, StandIn(plan))) as two,
        ):
            answers = await asyncio.gather(
                one.post("/plan?name=one.pt2", content=conv),
                two.post("/plan?name=two.pt2", content=conv),
            )
            assert [answer.status_code for answer in answers] == [200, 200]
            (location,) = {answer.headers["location"] for answer in answers}
            reports = [(await client.get(location)).content for client in (one, two)]
            assert reports[0] == reports[1]
            assert (await two.get("/plans")).json()["total"] == 1

    asyncio.run(run())


def test_two_requests_with_one_progress_id_are_both_followed(conv: bytes) -> None:
    started = {name: asyncio.Event() for name in ("one", "two")}
    finish = {name: asyncio.Event() for name in ("one", "two")}
    headers = {"Progress-Id": "0123456789abcdef" * 2}

    async def plan(work: PlanWork) -> None:
        started[work.name].set()
        await finish[work.name].wait()
        await write_plan(work)

    async def body(client: httpx.AsyncClient) -> None:
        async def post(name: str, buffer_limit: int) -> httpx.Response:
            query: dict[str, Any] = {"name": name, "buffer_limit": buffer_limit}
            return await client.post("/plan", content=conv, params=query, headers=headers)

        async def stage() -> Any:
            return (await client.get(f"/progress/{headers['Progress-Id']}")).json()["stage"]

        one = asyncio.create_task(post("one", 1))
        await started["one"].wait()
        assert await stage() == "planning one"
        two = asyncio.create_task(post("two", 2))
        await started["two"].wait()
        assert await stage() == "planning two"
        finish["one"].set()
        assert (await one).status_code == 200
        assert await stage() == "planning two"
        finish["two"].set()
        assert (await two).status_code == 200
        assert await stage() is None

    run(Settings(), body, StandIn(plan))


def test_a_plan_that_nobody_waits_for_any_more_is_ended(conv: bytes, scratch: Path) -> None:
    ended = asyncio.Event()
    started = asyncio.Event()

    async def plan(work: PlanWork) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def body(client: httpx.AsyncClient) -> None:
        requests = [asyncio.create_task(client.post("/plan", content=conv)) for _ in range(2)]
        await started.wait()
        while len(uploads(scratch)) > 1:
            await asyncio.sleep(0.01)
        requests[0].cancel()
        await asyncio.wait([requests[0]])
        assert not ended.is_set()
        requests[1].cancel()
        await ended.wait()
        await until_removed(scratch)

    run(Settings(), body, StandIn(plan))


def test_a_claim_of_who_has_left_is_given_up(conv: bytes) -> None:
    """Else other servers wait for it as long as a plan may take."""
    begun, may_end, released = threading.Event(), threading.Event(), threading.Event()

    class Slow(FileClaims):
        def take(self, plan_id: str) -> bool:
            begun.set()
            may_end.wait()
            return super().take(plan_id)

        def release(self, plan_id: str) -> None:
            super().release(plan_id)
            released.set()

    async def body() -> None:
        app = create_app(Settings(), StandIn())
        async with client_of(app) as client:
            app.state.service.store.claims = Slow(app.state.data_dir / "slow")
            request = asyncio.create_task(client.post("/plan", content=conv))
            await asyncio.to_thread(begun.wait)
            request.cancel()
            await asyncio.wait([request])
            assert not released.is_set()
            may_end.set()
            assert await asyncio.to_thread(released.wait, 30)

    asyncio.run(body())


def test_who_comes_after_it_was_ended_gets_a_plan(conv: bytes) -> None:
    started, count = asyncio.Event(), 0

    async def plan(work: PlanWork) -> None:
        nonlocal count
        count += 1
        started.set()
        if count == 1:
            await asyncio.Event().wait()
        await write_plan(work)

    async def body(client: httpx.AsyncClient) -> None:
        first = asyncio.create_task(client.post("/plan", content=conv))
        await started.wait()
        first.cancel()
        assert (await client.post("/plan", content=conv)).status_code == 200
        assert count == 2

    run(Settings(), body, StandIn(plan))


def test_more_than_can_wait_are_told_to_come_again(conv: bytes) -> None:
    started, finish = asyncio.Event(), asyncio.Event()

    async def plan(work: PlanWork) -> None:
        started.set()
        await finish.wait()
        await write_plan(work)

    async def body(client: httpx.AsyncClient) -> None:
        first = asyncio.create_task(client.post("/plan?buffer_limit=1", content=conv))
        await started.wait()
        refused = await client.post("/plan?buffer_limit=2", content=conv)
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "10"
        assert "as many programs to plan as it takes" in refused.json()["detail"]
        # What is being made already, and what was, is answered.
        same = asyncio.create_task(client.post("/plan?buffer_limit=1", content=conv))
        finish.set()
        assert (await first).status_code == (await same).status_code == 200
        assert (await client.post("/plan?buffer_limit=1", content=conv)).status_code == 200

    run(Settings(most_pending=1), body, StandIn(plan))


@pytest.mark.parametrize("which", ["graph_sha256", "report_sha256"])
@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_a_damaged_file_is_never_served_and_made_again(
    conv: bytes, tmp_path: Path, which: str, how: str
) -> None:
    pool = StandIn()

    async def body(client: httpx.AsyncClient) -> None:
        first = await client.post("/plan", content=conv)
        location = first.headers["location"]
        app: Any = client._transport
        store = app.app.state.service.store
        path = store.path(getattr(store.get(location.rpartition("/")[2]), which))
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.unlink()
        if how != "gone":
            path.write_bytes(data if how == "flipped" else data[:3])
        is_graph = which == "graph_sha256"
        lost = await client.get(f"{location}/graph" if is_graph else location)
        assert lost.status_code == 410
        assert ("missing" if how == "gone" else "damaged") in lost.json()["detail"]
        again = await client.post("/plan", content=conv)
        assert again.status_code == 200
        assert (again.content, again.headers["location"]) == (first.content, location)
        assert (await client.get(location)).status_code == 200
        assert len(pool.works) == 2

    run(Settings(tmp_path), body, pool)


class _Checking:
    """A pool whose checks never end; it says how many there are."""

    def __init__(self) -> None:
        self.begun, self.running = asyncio.Semaphore(0), 0

    async def run(
        self, work: Work, on_stage: OnStage = ignore_stage, owner: Owner = NOBODY
    ) -> None:
        assert isinstance(work, CheckWork)
        self.running += 1
        self.begun.release()
        try:
            await asyncio.Event().wait()
        finally:
            self.running -= 1

    def stop(self) -> None:
        pass

    def unready(self) -> str | None:
        return None


def test_checks_wait_in_the_queue_and_end_with_their_client() -> None:
    body = b"\0\0\0\0VK00"
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/check",
        "raw_path": b"/check",
        "query_string": b"",
        "headers": [(b"host", b"test")],
        "scheme": "http",
        "server": ("test", 80),
        "client": ("test", 1),
        "root_path": "",
    }

    async def check() -> None:
        leaves, pool = asyncio.Event(), _Checking()
        messages: list[dict[str, Any]] = [{"type": "http.request", "body": body}]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop(0)
            await leaves.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            pass

        app = create_app(Settings(most_pending=1), pool)
        async with client_of(app) as client:
            first = asyncio.create_task(app(scope, receive, send))
            await pool.begun.acquire()
            refused = await client.post("/check", content=body)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
            assert (await client.get("/readyz")).status_code == 503
            leaves.set()
            await first
            assert pool.running == 0
            assert (await client.get("/readyz")).json()["checks"]["planner"]["ok"]

    asyncio.run(check())
