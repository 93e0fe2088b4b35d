"""What a call of a server is made of, without doing any of it: requests, and what is between them.

A call is a generator that yields steps, is sent what came of each, and returns what was called
for. Whoever runs it, waiting in a thread or in an event loop, knows nothing of what it is about.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx

from api.client.errors import AwayError
from planner.errors import InputError

SECONDS: Final = 60.0
AGAIN_SECONDS: Final = 0.5
"""The pause before what failed is tried again, where the server does not say."""

_REPEATABLE: Final = frozenset(("GET", "HEAD", "PUT"))
_BUSY: Final = frozenset((409, 429, 503))
"""What a server may say with a time to come again."""

T = TypeVar("T")
Source = bytes | Path
"""A program, or another file: its bytes, or where it is."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request to a server. Values of ``params`` that are None are left out."""

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    content: Source | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    absent: frozenset[int] = frozenset()
    """The statuses that say that there is no such thing, and are no error."""
    repeats: bool | None = None
    """Whether it does no harm to send it twice; None for what its method says."""
    is_long: bool = False
    """Whether the answer comes when some work is done."""

    @property
    def is_repeatable(self) -> bool:
        """Whether it does no harm to send it twice."""
        return self.method in _REPEATABLE if self.repeats is None else self.repeats


@dataclass(frozen=True, slots=True)
class Pause:
    """So many seconds of waiting."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Digest:
    """The SHA-256 of a source, which may take long to read."""

    source: Source


Step = Request | Pause | Digest
Steps = Generator[Step, Any, T]


def digest_of(source: Source) -> str:
    """The SHA-256 of a source; raises ``InputError`` for a file that cannot be read."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    try:
        with source.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {source}: {error.strerror}") from error


@dataclass(slots=True)
class Link:
    """What is known of a server: whether it has answered, and how long it is waited for."""

    patience: float
    was_heard: bool = False

    def answer(self, request: Request) -> Steps[httpx.Response]:
        """The server's answer, whatever it is.

        A request that may be repeated is, for as long as there is patience: where the server has
        answered before and is away now, and where it says when to come again. Raises
        ``AwayError``.
        """
        end = None
        while True:
            failure, pause = None, AGAIN_SECONDS
            try:
                answer: httpx.Response = yield request
            except AwayError as error:
                if not (self.was_heard and request.is_repeatable):
                    raise
                failure = error
            else:
                self.was_heard = True
                told = _told_pause(answer)
                if told is None or not request.is_repeatable:
                    return answer
                pause = told
            now = time.monotonic()
            end = now + self.patience if end is None else end
            if now + pause <= end:
                yield Pause(pause)
            elif failure is None:
                return answer
            else:
                raise failure


def _told_pause(answer: httpx.Response) -> float | None:
    """After how many seconds a server that is busy wants to be asked again."""
    told = answer.headers.get("retry-after")
    if answer.status_code not in _BUSY or told is None:
        return None
    return float(told) if told.isdecimal() else AGAIN_SECONDS
