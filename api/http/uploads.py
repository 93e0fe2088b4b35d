"""Bodies of requests: received into files, up to a size."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fastapi import HTTPException, Request
from starlette.concurrency import run_in_threadpool

from api.http.origin import is_local
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
        for an exported program that is not taken from there.
        """
        announced = request.headers.get("content-length", "")
        if announced.isdecimal():
            self._check_size(int(announced))
        size, digest, start = 0, hashlib.sha256(), b""
        is_taken = self.is_jailed or is_local(request)
        with path.open("wb") as file:

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
