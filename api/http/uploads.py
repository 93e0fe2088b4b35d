"""Bodies of requests: received into files, up to a size."""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from shutil import disk_usage, rmtree
from typing import Any, BinaryIO, Final

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.callers import Callers
from api.http.origin import is_local
from api.http.problem_kinds import ProblemKind
from api.http.problems import ProblemError, problem_answer, retry_after
from api.store.room import FullDiskError, Reserve, needs_room
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
_RETRY_SECONDS: Final = 10
_SLOWEST: Final = 20_000
"""Bytes a second at which a body has to arrive after that."""
_TOO_SLOW: Final = "the body arrives too slowly: try again where the connection is better"
_TWO_ENDS: Final = "Content-Length and Transfer-Encoding say different ends: send one of them"
_TOO_LARGE: Final = f"the body is larger than the {_MOST_JSON} bytes that are taken here"


_SOURCE: Final = "source"
_IN_MEMORY: Final = 2**20
"""The bytes of a body that needs no file before it is planned."""


class UploadFolder:
    """A folder for an upload and what is made of it: it is made when it is needed."""

    def __init__(self, parent: Path) -> None:
        self._path = parent / uuid.uuid4().hex
        self.size = 0
        """The bytes that the upload takes of the room for all."""
        self.is_made = False
        """Whether it is there: most requests for a plan in store need none."""

    @property
    def path(self) -> Path:
        """Where it is."""
        if not self.is_made:
            self._path.mkdir()
            self.is_made = True
        return self._path


@dataclass(frozen=True, slots=True)
class Upload:
    """A body that was received: its bytes where they are few, else a file; and their SHA-256."""

    body: bytes | Path
    sha256: str
    size: int

    def open(self) -> BinaryIO:
        """The body, opened for reading."""
        return BytesIO(self.body) if isinstance(self.body, bytes) else self.body.open("rb")

    def file(self, folder: UploadFolder) -> Path:
        """A file with the body, in the folder if it is in memory so far.

        Raises ``FullDiskError``.
        """
        if isinstance(self.body, Path):
            return self.body
        with needs_room("the upload"):
            path = folder.path / _SOURCE
            path.write_bytes(self.body)
        return path


@dataclass(slots=True)
class Uploads:
    """Receives bodies of at most ``max_bytes`` bytes into folders in ``root``.

    All that are there at a time have at most ``most_bytes``, and those that go to files leave half
    of the disk's room. Unless ``is_jailed``, exported programs are taken from this
    machine alone: torch reads them.
    """

    root: Path
    reserve: Reserve
    max_bytes: int
    most_bytes: int
    is_jailed: bool = True
    _taken: int = 0
    _removing: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, "removing uploads")
    )

    @contextmanager
    def folder(self) -> Iterator[UploadFolder]:
        """A folder for one upload: what that takes of the room is free again in the end.

        The folder is removed soon after: no answer waits for that.
        """
        folder = UploadFolder(self.root)
        try:
            yield folder
        finally:
            self._taken -= folder.size
            if folder.is_made:
                self._removing.submit(rmtree, folder.path, ignore_errors=True)

    def close(self) -> None:
        """Returns once all folders are removed; may be slow."""
        self._removing.shutdown()

    async def receive(self, request: Request, folder: UploadFolder) -> Upload:
        """Reads a request's body, into a file of the folder if it is large.

        Raises ``ProblemError`` for one that is too large, or more than its caller may upload, at
        once if its length is announced, for one that there is no room for, and for an exported
        program that is not taken from there; ``FullDiskError``.
        """
        callers: Callers = request.app.state.callers
        announced = request.headers.get("content-length", "")
        if announced.isdecimal():
            self._check_size(request, int(announced))
            callers.check_upload(request, int(announced))
            self._take(request, folder, int(announced))
        size, digest, start, held = 0, hashlib.sha256(), b"", bytearray()
        file = None

        def write() -> None:
            nonlocal file
            with needs_room("the upload"):
                if file is None:
                    self.reserve.check("the upload")
                    file = (folder.path / _SOURCE).open("wb")
                digest.update(held)
                file.write(held)
            held.clear()

        try:
            async for chunk in request.stream():
                size += len(chunk)
                self._check_size(request, size)
                callers.take_upload(request, len(chunk))
                self._take(request, folder, size)
                start += chunk[: MAGIC_BYTES - len(start)]
                self.check_taken(request, start)
                held += chunk
                if len(held) > _IN_MEMORY:
                    await run_in_threadpool(write)
            if file is None:
                digest.update(held)
                return Upload(bytes(held), digest.hexdigest(), size)
            await run_in_threadpool(write)
        finally:
            if file is not None:
                with needs_room("the upload"):  # for what is still in its buffer
                    file.close()
        return Upload(folder.path / _SOURCE, digest.hexdigest(), size)

    def check_taken(self, request: Request, start: bytes) -> None:
        """Raises ``ProblemError`` if what starts so is not taken from where a request is from."""
        if self.is_jailed or kind_of(start) is not FileKind.EXPORTED or is_local(request):
            return
        raise ProblemError(ProblemKind.NO_JAIL, _UNJAILED)

    def _check_size(self, request: Request, size: int) -> None:
        if size > self.max_bytes:
            detail = f"the file is larger than the {self.max_bytes} bytes that are taken here"
            raise ProblemError(ProblemKind.TOO_LARGE, detail)

    def _take(self, request: Request, folder: UploadFolder, size: int) -> None:
        """Has an upload take so many bytes in all."""
        if (more := size - folder.size) <= 0:
            return
        most = alone = self.most_bytes
        if size > _IN_MEMORY:
            free = disk_usage(self.root).free
            most, alone = min(most, free // 2), min(alone, (free + self._taken) // 2)
        if self._taken + more > most:
            if size > alone:  # also once the others are gone, and their files with them
                if size <= self.most_bytes:
                    raise FullDiskError("the upload")
                detail = f"there is no room for an upload of {size} bytes: ask who runs the service"
                raise ProblemError(ProblemKind.STORE_FULL, detail)
            detail = "others upload as much just now as there is room for: try again later"
            raise ProblemError(ProblemKind.UPLOADS_FULL, detail, retry_after(_RETRY_SECONDS))
        self._taken += more
        folder.size += more


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
            closing = {"Connection": "close"}
            refused = problem_answer(scope, ProblemKind.MALFORMED_REQUEST, _TWO_ENDS, closing)
            await refused(scope, receive, send)
            return
        if announced.isdecimal() and int(announced) > most:
            refused = problem_answer(scope, ProblemKind.TOO_LARGE, _TOO_LARGE)
            await refused(scope, receive, send)
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
                closing = {"Connection": "close"}
                raise ProblemError(ProblemKind.TOO_SLOW, _TOO_SLOW, closing) from None
            is_complete = not message.get("more_body", False)
            size += len(message.get("body", b""))
            if size > most:
                raise ProblemError(ProblemKind.TOO_LARGE, _TOO_LARGE)
            return message

        await self._app(scope, bounded, send)
