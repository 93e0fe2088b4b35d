"""Work of planning processes that clients wait for: so much at a time, and none for nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.problem_kinds import ProblemKind
from api.http.problems import ProblemError, problem_answer, retry_after

T = TypeVar("T")

_PLANS: Final = "/plan"
_LOOK_SECONDS: Final = 0.05
"""How far apart requests for plans are looked at where no place is left."""
_LOOKS: Final = 4
"""How many may come at once."""
_RETRY_SECONDS: Final = 10
_FULL: Final = (
    "the service has as many programs to plan as it takes at a time: try again later, or submit a "
    "job (POST /jobs), which waits for its turn"
)


class Queue:
    """At most ``most`` pieces of work are done, or wait to be, at a time."""

    def __init__(self, most: int) -> None:
        self._most, self._taken, self._arriving, self._next_look = most, 0, 0, 0.0

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

    def sheds(self) -> bool:
        """Whether one more request is not even looked at, which would take time from planning.

        Once the queue is half full, those that are looked at count as if they had a place; where
        none is left few are looked at: for what is in store needs none.
        """
        if self._taken < self._most / 2 or self._taken + self._arriving < self._most:
            return False
        now = time.monotonic()
        if self._next_look > now + _LOOKS * _LOOK_SECONDS:
            return True
        self._next_look = max(now, self._next_look) + _LOOK_SECONDS
        return False

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """While a request is looked at that may need a place."""
        self._arriving += 1
        try:
            yield
        finally:
            self._arriving -= 1

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While a request waits for its plan, and is not looked at."""
        self._arriving -= 1
        try:
            yield
        finally:
            self._arriving += 1


class ShedLoad:
    """Refuses requests for plans unseen where the queue, ``app.state.queue``, sheds them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http" or scope["path"] != _PLANS:
            await self._app(scope, receive, send)
            return
        queue: Queue = scope["app"].state.queue
        if queue.sheds():
            again = retry_after(_RETRY_SECONDS)
            refused = problem_answer(scope, ProblemKind.QUEUE_FULL, _FULL, again)
            await refused(scope, receive, send)
            return
        with queue.arriving():
            await self._app(scope, receive, send)


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
