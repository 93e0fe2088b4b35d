"""Connections: how many there may be, and how long a request may take to arrive.

uvicorn waits for ever for the head of a request, and takes connections until no descriptor is left
for plans.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Final

from uvicorn.protocols.http.h11_impl import H11Protocol

from api.http.problem_kinds import ProblemKind
from api.http.problems import MEDIA_TYPE, problem_of

_RESERVED: Final = 256
"""Descriptors that plans, the store and the database are left with."""
ACCEPTED: Final = 16
"""Connections that asyncio accepts in one turn of its loop, before it tells of the first of them.

All of them need descriptors, those that are turned away as well.
"""
_WAITING: Final = 2048
"""Connections that may wait to be accepted."""


def _answer(kind: ProblemKind, detail: str, headers: bytes = b"") -> bytes:
    """An answer to a connection of which no request was read."""
    body = problem_of(kind, detail).model_dump_json(exclude_none=True).encode()
    phrase = HTTPStatus(kind.status).phrase.encode()
    return (
        b"HTTP/1.1 %d %b\r\nConnection: close\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b\r\n"
    ) % (kind.status, phrase, MEDIA_TYPE.encode(), len(body), headers) + body


_FULL: Final = _answer(
    ProblemKind.TOO_MANY_CONNECTIONS,
    "too many connections: try again, later",
    b"Retry-After: 5\r\n",
)


def most_connections() -> int:
    """Connections that there are descriptors for, whose limit is raised as far as it goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(16, hard - _RESERVED) if hard != resource.RLIM_INFINITY else 2**20


class Connection(H11Protocol):
    """A connection of uvicorn that is closed if the head of a request takes too long to arrive.

    Each server has a class of its own, with ``head_seconds``, and ``most`` connections at a time;
    ``refused`` is called for one more.
    """

    head_seconds: float
    most: int
    on_full: Callable[[], None]

    _hurry: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Turns the client away if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self.on_full()
            transport.write(_FULL)
            transport.close()
        else:
            self._hurry_up()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the time."""
        self._calm_down()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Counts the time until the head of a request is there."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._hurry_up()
        else:
            self._calm_down()

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP, in the form of all other problems."""
        # Not into an answer that has begun.
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(_answer(ProblemKind.MALFORMED_REQUEST, msg))
        self.transport.close()

    def _hurry_up(self) -> None:
        if self._hurry is None:
            self._hurry = self.loop.call_later(self.head_seconds, self.transport.close)

    def _calm_down(self) -> None:
        if self._hurry is not None:
            self._hurry.cancel()
            self._hurry = None


def connections_of(
    head_seconds: float, most: int | None, on_full: Callable[[], None]
) -> type[Connection]:
    """The class of a server's connections; ``most`` is what there are descriptors for.

    ``on_full`` is called for each that is turned away.
    """
    members = {
        "head_seconds": head_seconds,
        "most": most_connections() if most is None else most,
        "on_full": staticmethod(on_full),
    }
    return type("Connection", (Connection,), members)


def listen_to_many(listening: Iterable[int]) -> None:
    """Has the system keep many clients waiting for sockets that accept few at a time."""
    for descriptor in listening:
        with socket.socket(fileno=os.dup(descriptor)) as same:
            same.listen(_WAITING)
