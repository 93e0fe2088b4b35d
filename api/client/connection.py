"""Connections to a server: what does the steps of a call, in a thread or in an event loop."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, cast

import httpx

from api.client.documents import Problem
from api.client.errors import AwayError, RefusedError
from api.client.steps import SECONDS, Digest, Pause, Request, Step, Steps, T, digest_of
from planner.errors import InputError, OptionError

TOKEN: Final = "LAYOUT_PLANNER_TOKEN"
"""The variable that has a token: on a command line, others would see it."""
_CHUNK: Final = 2**20


class Connection:
    """Does the steps of calls, one after another. May be used by several threads at once.

    Methods raise ``AwayError`` if the server does not answer.
    """

    def __init__(self, server: str, token: str | None = None, timeout: float = SECONDS) -> None:
        """For a server's address; ``token`` is by default the variable ``LAYOUT_PLANNER_TOKEN``.

        ``timeout`` are the seconds for which nothing may be heard, where no work is waited for.
        """
        self.server = server
        self._client = httpx.Client(**_settings(server, token, timeout))

    def close(self) -> None:
        """Closes it."""
        self._client.close()

    def run(self, steps: Steps[T]) -> T:
        """What a call returns."""
        try:
            step = next(steps)
            while True:
                try:
                    came = self._do(step)
                except AwayError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(came)
        except StopIteration as ended:
            result: T = ended.value
            return result

    def _do(self, step: Step) -> Any:
        match step:
            case Request():
                with _translated_errors(self.server):
                    body = _chunks(step.content) if isinstance(step.content, Path) else step.content
                    return self._client.request(content=body, **_arguments(step, self._client))
            case Pause(seconds):
                time.sleep(seconds)
            case Digest(source):
                return digest_of(source)
        return None

    @contextmanager
    def lines(self, path: str) -> Iterator[Iterator[str]]:
        """The lines of an answer that comes bit by bit, for as long as that takes."""
        timeout = _endless(self._client)
        with (
            _translated_errors(self.server),
            self._client.stream("GET", path, timeout=timeout) as answer,
        ):
            if answer.is_error:
                answer.read()
            yield checked(answer).iter_lines()


class AsyncConnection:
    """Does the steps of calls in an event loop, as ``Connection`` does them in a thread."""

    def __init__(self, server: str, token: str | None = None, timeout: float = SECONDS) -> None:
        """As ``Connection``."""
        self.server = server
        self._client = httpx.AsyncClient(**_settings(server, token, timeout))

    async def close(self) -> None:
        """Closes it."""
        await self._client.aclose()

    async def run(self, steps: Steps[T]) -> T:
        """What a call returns."""
        try:
            step = next(steps)
            while True:
                try:
                    came = await self._do(step)
                except AwayError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(came)
        except StopIteration as ended:
            result: T = ended.value
            return result

    async def _do(self, step: Step) -> Any:
        match step:
            case Request():
                with _translated_errors(self.server):
                    content = step.content
                    body = _chunks_apart(content) if isinstance(content, Path) else content
                    arguments = _arguments(step, self._client)
                    return await self._client.request(content=body, **arguments)
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Digest(source):
                return await asyncio.to_thread(digest_of, source)
        return None

    @asynccontextmanager
    async def lines(self, path: str) -> AsyncIterator[AsyncIterator[str]]:
        """The lines of an answer that comes bit by bit, for as long as that takes."""
        timeout = _endless(self._client)
        with _translated_errors(self.server):
            async with self._client.stream("GET", path, timeout=timeout) as answer:
                if answer.is_error:
                    await answer.aread()
                yield checked(answer).aiter_lines()


def _settings(server: str, token: str | None, timeout: float) -> dict[str, Any]:
    token = token or os.environ.get(TOKEN)
    try:
        address = httpx.URL(server)
        if address.scheme not in ("http", "https") or not address.host:
            raise ValueError("it has no scheme, or no name")
    except (httpx.InvalidURL, ValueError) as error:
        raise OptionError(
            f"{server!r} is not a server's address ({error}): write http://host:8000"
        ) from error
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return {"base_url": address, "timeout": timeout, "headers": headers}


def _arguments(request: Request, client: httpx.Client | httpx.AsyncClient) -> dict[str, Any]:
    """What both of httpx's clients take, but for the body."""
    headers = dict(request.headers)
    if isinstance(request.content, Path):
        # Not in chunks: a server that takes less can then say so at once.
        headers["Content-Length"] = str(_size(request.content))
    return {
        "method": request.method,
        "url": request.path,
        "params": {name: value for name, value in request.params.items() if value is not None},
        "json": request.json,
        "headers": headers,
        "timeout": _endless(client) if request.is_long else client.timeout,
    }


def _endless(client: httpx.Client | httpx.AsyncClient) -> httpx.Timeout:
    return httpx.Timeout(client.timeout.connect, read=None)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


async def _chunks_apart(path: Path) -> AsyncIterator[bytes]:
    """The same, where the event loop does not wait for the disk."""
    with await asyncio.to_thread(path.open, "rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk


@contextmanager
def _translated_errors(server: str) -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise AwayError(
            f"cannot reach the server {server} ({error}): start one with "
            "'layout-planner serve', or name another with --server"
        ) from error


def checked(answer: httpx.Response) -> httpx.Response:
    """The answer, if it is one of success."""
    if answer.is_success:
        return answer
    problem = _problem(answer)
    if problem is None:
        detail = f"the server answered {answer.status_code}: is it a Layout Planner?"
    else:
        detail = problem["detail"]
    if not answer.is_server_error:
        raise RefusedError(detail, problem)
    # By this, who runs the server finds in its log what happened.
    request_id = answer.headers.get("x-request-id")
    raise AwayError(f"{detail} (request {request_id})" if request_id else detail, problem)


def _problem(answer: httpx.Response) -> Problem | None:
    """What a server says is wrong; None from one that is no Layout Planner."""
    try:
        document = answer.json()
    except ValueError:
        return None
    is_one = isinstance(document, dict) and isinstance(document.get("detail"), str)
    return cast("Problem", document) if is_one else None
