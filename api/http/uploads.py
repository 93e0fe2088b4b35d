"""Bodies of requests: received into files, up to a size."""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fastapi import HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.origin import is_local
from api.store.room import needs_room
from planner.files.kinds import MAGIC_BYTES, FileKind, kind_of

_UNJAILED: Final = (
    "this service has no jail for torch, and takes .pt2 files from its own machine alone: lower "
    "the program where you are and hand in the .pte, or have the service run where bubblewrap is "
    "installed (layout-planner serve says what is missing)"
)

PROGRAM_BODY: Final[dict[str, Any]] = {
    "description": "A program as it is: a `.pt2` that `torch.export.save` wrote, a lowered `.pte`, "
    "or a VkGraph. The content type does not matter.",
    "required": True,
    "content": {
        media_type: {"schema": {"type": "string", "format": "binary"}}
        for media_type in ("application/octet-stream", "application/zip")
    },
}
"""A request whose body is a program, for OpenAPI."""

_MOST_JSON: Final = 8 * 2**20
"""The bytes of a body that is no program: a job of as many inputs as one may have takes fewer."""
_SLOWEST: Final = 20_000
"""Bytes a second at which a body has to arrive after that."""
_TOO_SLOW: Final = "the body arrives too slowly: try again where the connection is better"
_TWO_ENDS: Final = "Content-Length and Transfer-Encoding say different ends: send one of them"
_TOO_LARGE: Final = f"the body is larger than the {_MOST_JSON} bytes that are taken here"


@dataclass(frozen=True, slots=True)
class Upload:
    """A body that was received: where it is, and its SHA-256 in hexadecimal."""

    path: Path
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Uploads:
    """Receives bodies of at most ``max_bytes`` bytes; ``folder`` has room for them.

    Unless ``is_jailed``, exported programs are taken from this machine alone: torch reads them.
    """

    folder: Path
    max_bytes: int
    is_jailed: bool = True

    async def receive(self, request: Request, path: Path) -> Upload:
        """Writes a request's body to a file.

        Raises ``HTTPException`` for one that is too large, at once if its length is announced, and
        for an exported program that is not taken from there; ``FullDiskError``.
        """
        announced = request.headers.get("content-length", "")
        if announced.isdecimal():
            self._check_size(int(announced))
        size, digest, start = 0, hashlib.sha256(), b""
        is_taken = self.is_jailed or is_local(request)
        with needs_room("the upload"), path.open("wb") as file:

            def write(chunk: bytes) -> None:
                digest.update(chunk)
                file.write(chunk)

            async for chunk in request.stream():
                size += len(chunk)
                self._check_size(size)
                start += chunk[: MAGIC_BYTES - len(start)]
                if not is_taken and kind_of(start) is FileKind.EXPORTED:
                    raise HTTPException(403, _UNJAILED)
                await run_in_threadpool(write, chunk)
        return Upload(path, digest.hexdigest(), size)

    def _check_size(self, size: int) -> None:
        if size > self.max_bytes:
            raise HTTPException(
                413, f"the file is larger than the {self.max_bytes} bytes that are taken here"
            )


class BodyLimit:
    """Refuses bodies that are too large or too slow, or that do not say clearly where they end.

    Those of ``programs`` may be larger: they are paths where ``Uploads`` has them go to files. All
    others are read as a whole into memory.
    """

    def __init__(self, app: ASGIApp, programs: frozenset[str], seconds: float) -> None:
        """A body may take so many seconds, and more as it arrives at a fair rate."""
        self._app, self._programs, self._seconds = app, programs, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = 2**63 if scope["path"] in self._programs else _MOST_JSON
        headers = Headers(scope=scope)
        announced = headers.get("content-length", "")
        if announced and "transfer-encoding" in headers:
            # A proxy may go by the one and this server by the other: what follows is nobody's.
            refused = JSONResponse({"detail": _TWO_ENDS}, 400, {"Connection": "close"})
            await refused(scope, receive, send)
            return
        if announced.isdecimal() and int(announced) > most:
            await JSONResponse({"detail": _TOO_LARGE}, 413)(scope, receive, send)
            return
        size, start, is_complete = 0, time.monotonic(), False

        async def bounded() -> Message:
            nonlocal size, is_complete
            if is_complete:
                return await receive()  # which tells that the client leaves, whenever it does
            end = start + self._seconds + size / _SLOWEST
            try:
                async with asyncio.timeout(end - time.monotonic()):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, _TOO_SLOW, {"Connection": "close"}) from None
            is_complete = not message.get("more_body", False)
            size += len(message.get("body", b""))
            if size > most:
                raise HTTPException(413, _TOO_LARGE)
            return message

        await self._app(scope, bounded, send)
