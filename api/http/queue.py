"""Work of planning processes that clients wait for: so much at a time, and none for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from api.http.metrics import Metrics
from api.http.problem_kinds import ProblemKind
from api.http.problems import ProblemError, retry_after

T = TypeVar("T")

_RETRY_SECONDS: Final = 10
_FULL: Final = (
    "the service has as many programs to plan as it takes at a time: try again later, or submit a "
    "job (POST /jobs), which waits for its turn"
)


class Queue:
    """At most ``most`` pieces of work are done, or wait to be, at a time."""

    def __init__(self, most: int, metrics: Metrics) -> None:
        self._most, self._taken, self._metrics = most, 0, metrics

    @property
    def is_full(self) -> bool:
        """Whether one more is refused."""
        return self._taken >= self._most

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for one piece of work; raises ``ProblemError`` where there is none."""
        if self.is_full:
            raise ProblemError(ProblemKind.QUEUE_FULL, _FULL, retry_after(_RETRY_SECONDS))
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


async def left(request: Request) -> None:
    """Returns when the client of a request has left; its body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def while_waited_for(request: Request, work: Coroutine[None, None, T]) -> T:
    """What work returns; ended with ``ClientDisconnect`` if the client leaves before."""
    working, leaving = asyncio.create_task(work), asyncio.create_task(left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        leaving.cancel()
        working.cancel()
        # What it has open is closed before its files are removed.
        await asyncio.wait({working})
