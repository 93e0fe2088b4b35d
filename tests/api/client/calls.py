"""Both clients as one, so that a test of what they do is written once."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from api.client import AsyncClient, Client

Script = Callable[["Caller"], Awaitable[None]]
CLIENTS = (Client, AsyncClient)


class Caller:
    """Calls a client's methods, which are awaited whatever the client is."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self.client = client

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self.client, name)

        async def call(*arguments: Any, **named: Any) -> Any:
            if isinstance(self.client, Client):
                # In a thread: the server may be in this event loop.
                return await asyncio.to_thread(method, *arguments, **named)
            return await method(*arguments, **named)

        return call

    async def follow(self, job_id: str) -> AsyncIterator[Any]:
        """The changes of a job."""
        if isinstance(self.client, AsyncClient):
            async for job in self.client.follow(job_id):
                yield job
            return
        client = self.client
        for job in await asyncio.to_thread(lambda: list(client.follow(job_id))):
            yield job


def run(kind: type[Client | AsyncClient], server: str, script: Script, **settings: Any) -> None:
    """Runs a script with a client of a server."""

    async def body() -> None:
        client = kind(server, **settings)
        try:
            await script(Caller(client))
        finally:
            closed = client.close()
            if inspect.isawaitable(closed):
                await closed

    asyncio.run(body())
