"""The service as an application in this process: what takes its insides to show."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError

from api.http.service import Settings, create_app
from api.planning.process import Job, Workers
from planner.errors import VerificationError
from tests.api.store.drafts import write_files


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files; nothing else writes there."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@asynccontextmanager
async def _client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield client


def _run(settings: Settings, body: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    async def run() -> None:
        async with _client(create_app(settings)) as client:
            await body(client)

    asyncio.run(run())


def _uploads(scratch: Path) -> list[Path]:
    return list(scratch.glob("*/uploads/*"))


async def _kill_worker() -> None:
    while not multiprocessing.active_children():
        await asyncio.sleep(0.01)
    (process,) = multiprocessing.active_children()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)


def test_goes_on_after_its_worker_is_killed_and_plans_the_same_once(
    conv: bytes, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[Job] = []
    run = Workers.run

    async def counted(self: Workers, job: Job, tell: object) -> None:
        jobs.append(job)
        await run(self, job)

    monkeypatch.setattr(Workers, "run", counted)

    async def body(client: httpx.AsyncClient) -> None:
        lost, _ = await asyncio.gather(client.post("/plan", content=conv), _kill_worker())
        assert lost.status_code == 503
        assert "upload.pt2 has been killed by SIGKILL" in lost.json()["detail"]
        assert _uploads(scratch) == []

        first, second = await asyncio.gather(
            client.post("/plan?name=first.pt2", content=conv),
            client.post("/plan?name=second.pt2", content=conv),
        )
        assert (first.status_code, second.status_code) == (200, 200)
        assert first.headers["location"] == second.headers["location"]
        assert first.content == second.content
        assert first.headers["content-disposition"] == 'attachment; filename="first.plan"'
        assert second.headers["content-disposition"] == 'attachment; filename="second.plan"'
        assert len(jobs) == 2
        assert _uploads(scratch) == []

    _run(Settings(), body)
    # Without a data folder, plans live as long as the service.
    assert list(scratch.iterdir()) == []
    assert not multiprocessing.active_children()


def test_a_plan_that_takes_too_long(conv: bytes, scratch: Path) -> None:
    async def body(client: httpx.AsyncClient) -> None:
        answer = await client.post("/plan", content=conv)
        assert answer.status_code == 504
        assert answer.json()["detail"].startswith("planning upload.pt2 took longer than 0.3 s")
        assert not multiprocessing.active_children()
        assert _uploads(scratch) == []

    _run(Settings(plan_seconds=0.3), body)


def test_a_body_that_is_too_large(scratch: Path) -> None:
    taken = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield bytes(600)

    async def body(client: httpx.AsyncClient) -> None:
        detail = {"detail": "the file is larger than the 1000 bytes that are taken here"}
        announced = await client.post("/plan", content=chunks(), headers={"Content-Length": "1001"})
        assert (announced.status_code, announced.json()) == (413, detail)
        assert taken == 0
        streamed = await client.post("/plan", content=chunks())
        assert (streamed.status_code, streamed.json()) == (413, detail)
        assert taken == 2
        assert (await client.post("/plan", content=bytes(1000))).status_code == 400
        assert _uploads(scratch) == []

    _run(Settings(max_upload_bytes=1000), body)


def test_a_plan_that_fails_its_check_is_not_handed_out(
    conv: bytes, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: Workers, job: Job, tell: object) -> None:
        raise VerificationError("delegate 0: tensor 3 has no layout")

    monkeypatch.setattr(Workers, "run", fail)

    async def body(client: httpx.AsyncClient) -> None:
        answer = await client.post("/plan", content=conv)
        assert answer.status_code == 500
        assert answer.json() == {"detail": "delegate 0: tensor 3 has no layout"}
        assert _uploads(scratch) == []

    _run(Settings(), body)


def test_an_error_that_nobody_foresaw_is_not_shown(
    conv: bytes, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: Workers, job: Job, tell: object) -> None:
        raise OSError("no space left on /secret")

    monkeypatch.setattr(Workers, "run", fail)

    async def body(client: httpx.AsyncClient) -> None:
        answer = await client.post("/plan", content=conv)
        assert answer.status_code == 500
        assert answer.json() == {"detail": "the service failed: its log says why"}
        assert _uploads(scratch) == []

    _run(Settings(), body)


def test_a_client_that_goes_away_while_it_uploads_leaves_nothing(scratch: Path) -> None:
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"PK", "more_body": True},
        {"type": "http.disconnect"},
    ]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/plan",
        "raw_path": b"/plan",
        "query_string": b"",
        "headers": [],
        "scheme": "http",
        "server": ("test", 80),
        "client": ("test", 1),
        "root_path": "",
    }

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:
        pass

    async def run() -> None:
        app = create_app(Settings())
        async with app.router.lifespan_context(app):
            await app(scope, receive, send)
            assert messages == []
            assert _uploads(scratch) == []

    asyncio.run(run())


def test_a_client_that_goes_away_leaves_the_plan_to_others(
    conv: bytes, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, finish = asyncio.Event(), asyncio.Event()

    async def write(self: Workers, job: Job, tell: object) -> None:
        started.set()
        await finish.wait()
        assert job.source.read_bytes() == conv
        write_files(job.source, job.files)

    monkeypatch.setattr(Workers, "run", write)

    async def body(client: httpx.AsyncClient) -> None:
        first = asyncio.create_task(client.post("/plan", content=conv))
        await started.wait()
        second = asyncio.create_task(client.post("/plan", content=conv))
        first.cancel()
        await asyncio.wait([first])
        finish.set()
        assert (await second).content == b"graph of net"
        assert _uploads(scratch) == []

    _run(Settings(), body)


async def _write(self: Workers, job: Job, tell: object) -> None:
    write_files(job.source, job.files, job.name)


def test_statements_never_run_in_the_event_loop(
    conv: bytes, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Workers, "run", _write)
    statements, in_loop = [], []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)
        if asyncio._get_running_loop() is not None:
            in_loop.append(statement)

    async def body(client: httpx.AsyncClient) -> None:
        location = (await client.post("/plan", content=conv)).headers["location"]
        for path in (location, f"{location}/graph", f"{location}/program.pte", "/plans"):
            assert (await client.get(path)).status_code == 200
        assert (await client.delete(location)).status_code == 204

    event.listen(Engine, "before_cursor_execute", note)
    try:
        _run(Settings(database_url=database_url), body)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert len(statements) > 10
    assert in_loop == []


def test_of_two_services_that_plan_the_same_the_first_to_commit_is_kept(
    conv: bytes, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = asyncio.Barrier(2)

    async def write(self: Workers, job: Job, tell: object) -> None:
        await both.wait()
        write_files(job.source, job.files, job.name)

    monkeypatch.setattr(Workers, "run", write)
    settings = Settings(tmp_path / "data", database_url)

    async def run() -> None:
        async with _client(create_app(settings)) as one, _client(create_app(settings)) as two:
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


def test_plans_outlive_the_service(
    conv: bytes, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Workers, "run", _write)
    settings = Settings(tmp_path / "data", database_url)
    found: list[tuple[bytes, Any]] = []

    async def body(client: httpx.AsyncClient) -> None:
        answer = await client.post("/plan", content=conv)
        found.append((answer.content, (await client.get("/plans")).json()))
        monkeypatch.setattr(Workers, "run", None)

    _run(settings, body)
    _run(settings, body)
    assert found[0] == found[1]


def test_lists_a_page(conv: bytes, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ratios = {"a.pt2": 1.5, "b.pt2": None, "c.pt2": 3.0}

    async def write(self: Workers, job: Job, tell: object) -> None:
        write_files(job.source, job.files, job.name, ratio=ratios[job.name])

    monkeypatch.setattr(Workers, "run", write)

    async def body(client: httpx.AsyncClient) -> None:
        for number, name in enumerate(ratios):
            await client.post(f"/plan?name={name}&buffer_limit={1 + number}", content=conv)

        async def names(**query: Any) -> tuple[int, list[str]]:
            page = (await client.get("/plans", params=query)).json()
            return page["total"], [plan["name"] for plan in page["plans"]]

        assert await names() == (3, ["c.pt2", "b.pt2", "a.pt2"])
        assert await names(sort="ratio") == (3, ["b.pt2", "c.pt2", "a.pt2"])
        assert await names(sort="name", order="asc", limit=1, offset=1) == (3, ["b.pt2"])
        assert await names(name="C.", status="OPTIMAL", objective="repack") == (1, ["c.pt2"])
        assert await names(min_ratio=2, max_ratio=5) == (1, ["c.pt2"])
        assert await names(created_before="2026-01-01T00:00:00") == (0, [])
        assert await names(created_after="2026-01-01T00:00:00+05:00", profile="default") == (
            *(3, ["c.pt2", "b.pt2", "a.pt2"]),
        )
        plans = (await client.get("/plans")).json()["plans"]
        assert [plan["ratio"] for plan in plans] == [3.0, None, 1.5]
        assert [plan["buffer_limit"] for plan in plans] == [3, 2, 1]
        assert all(plan["created"].endswith("Z") for plan in plans)

    _run(Settings(database_url=database_url), body)


def test_a_database_that_goes_away_is_told_of(conv: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workers, "run", _write)

    def fail(*_: object) -> None:
        raise OperationalError("SELECT secret", (), OSError("connection refused"))

    async def body(client: httpx.AsyncClient) -> None:
        event.listen(Engine, "before_cursor_execute", fail)
        try:
            answers = [
                await client.post("/plan", content=conv),
                await client.get("/plans"),
                await client.get(f"/plans/{'0' * 32}"),
            ]
        finally:
            event.remove(Engine, "before_cursor_execute", fail)
        for answer in answers:
            assert answer.status_code == 503
            assert answer.json() == {
                "detail": "the database does not answer (connection refused): try again"
            }
        assert (await client.post("/plan", content=conv)).status_code == 200

    _run(Settings(), body)
