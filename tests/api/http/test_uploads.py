"""Bodies that are too large, or whose clients go away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from api.http.app import Settings, create_app
from tests.api.http.inside import run, until_removed
from tests.api.http.running import detail


def test_a_body_that_is_too_large(scratch: Path) -> None:
    taken = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield bytes(600)

    async def body(client: httpx.AsyncClient) -> None:
        text = "the file is larger than the 1000 bytes that are taken here"
        announced = await client.post("/plan", content=chunks(), headers={"Content-Length": "1001"})
        assert (announced.status_code, detail(announced)) == (413, text)
        assert taken == 0
        streamed = await client.post("/plan", content=chunks())
        assert (streamed.status_code, detail(streamed)) == (413, text)
        assert taken == 2
        assert (await client.post("/plan", content=bytes(1000))).status_code == 400
        await until_removed(scratch)

    run(Settings(max_upload_bytes=1000), body)


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
        "headers": [(b"host", b"test")],
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
            await until_removed(scratch)

    asyncio.run(run())
