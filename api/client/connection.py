"""A connection to a server."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx

from api.client.errors import AwayError
from planner.errors import OptionError

SECONDS = 60.0
TOKEN: Final = "LAYOUT_PLANNER_TOKEN"
"""The variable that has a token: on a command line, others would see it."""


class Connection:
    """Calls a server. Methods raise ``OptionError`` if it refuses, ``AwayError`` if it is away."""

    def __init__(self, server: str, token: str | None = None) -> None:
        """For a server's address; ``token`` is by default the variable ``LAYOUT_PLANNER_TOKEN``."""
        self.server = server
        token = token or os.environ.get(TOKEN)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            self._client = httpx.Client(base_url=server, timeout=SECONDS, headers=headers)
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
        """Uploads bytes that a later request names, if they are new; returns their SHA-256."""
        sha256 = hashlib.sha256(data).hexdigest()
        # A server of an earlier release does not know this question.
        if self.answer("HEAD", f"/inputs/{sha256}").status_code != 200:
            self.call("POST", "/inputs", content=data)
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
    if not answer.is_server_error:
        raise OptionError(detail)
    # By this, who runs the server finds in its log what happened.
    request_id = answer.headers.get("x-request-id")
    raise AwayError(f"{detail} (request {request_id})" if request_id else detail)
