"""A connection to a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from api.client.errors import AwayError
from planner.errors import OptionError

SECONDS = 60.0


class Connection:
    """Calls a server. Methods raise ``OptionError`` if it refuses, ``AwayError`` if it is away."""

    def __init__(self, server: str) -> None:
        """For a server's address."""
        self.server = server
        try:
            self._client = httpx.Client(base_url=server, timeout=SECONDS)
        except (httpx.InvalidURL, ValueError) as error:
            raise OptionError(
                f"{server!r} is not a server's address ({error}): write http://host:8000"
            ) from error

    def call(self, method: str, path: str, **body: Any) -> Any:
        """What the server answers, as JSON; None where it answers nothing."""
        answer = self.request(method, path, **body)
        return answer.json() if answer.content else None

    def request(self, method: str, path: str, **body: Any) -> httpx.Response:
        """The server's answer, which is one of success."""
        return checked(self.answer(method, path, **body))

    def answer(self, method: str, path: str, **body: Any) -> httpx.Response:
        """The server's answer, whatever it is."""
        with self._translated_errors():
            return self._client.request(method, path, **body)

    def upload(self, data: bytes) -> str:
        """Uploads bytes that a later request names; returns their SHA-256."""
        sha256: str = self.call("POST", "/inputs", content=data)["sha256"]
        return sha256

    @contextmanager
    def stream(self, path: str) -> Iterator[httpx.Response]:
        """An answer that comes bit by bit, for as long as that takes."""
        timeout = httpx.Timeout(SECONDS, read=None)
        with (
            self._translated_errors(),
            self._client.stream("GET", path, timeout=timeout) as answer,
        ):
            if answer.is_error:
                answer.read()
            yield checked(answer)

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            raise AwayError(
                f"cannot reach the server {self.server} ({error}): start one with "
                "'layout-planner serve', or name another with --server"
            ) from error


def checked(answer: httpx.Response) -> httpx.Response:
    """The answer, if it is one of success."""
    if answer.is_success:
        return answer
    try:
        detail = str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        detail = f"the server answered {answer.status_code}: is it a Layout Planner?"
    raise AwayError(detail) if answer.is_server_error else OptionError(detail)
