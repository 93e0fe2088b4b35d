"""A request that a service makes of itself at its start, so that the first one finds all warm."""

from __future__ import annotations

from collections.abc import MutableMapping
from contextlib import AsyncExitStack
from typing import Any

from fastapi import FastAPI
from starlette.types import Message

from api.http.problems import ProblemError


async def ask_in_vain(app: FastAPI) -> None:
    """Asks for the plan of an empty program, which is refused: nothing comes of it.

    The framework prepares a route, and reads its source, as it is first asked for. What counts,
    limits and notes requests does not hear of this one.
    """

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        pass

    async with AsyncExitStack() as stack:
        scope: MutableMapping[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/plan",
            "raw_path": b"/plan",
            "root_path": "",
            "query_string": b"",
            "headers": [],
            "client": ("127.0.0.1", 0),
            "server": ("127.0.0.1", 0),
            "state": {},
            "app": app,
            "fastapi_middleware_astack": stack,
        }
        try:
            await app.router(scope, receive, send)
        except ProblemError:
            return
    raise AssertionError("an empty program was planned")
