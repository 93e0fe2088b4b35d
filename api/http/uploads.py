"""Bodies of requests: received into files, up to a size."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fastapi import HTTPException, Request
from starlette.concurrency import run_in_threadpool

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
    """Receives bodies of at most ``max_bytes`` bytes; ``folder`` has room for them."""

    folder: Path
    max_bytes: int

    async def receive(self, request: Request, path: Path) -> Upload:
        """Writes a request's body to a file.

        Raises ``HTTPException`` for one that is too large, at once if its length is announced.
        """
        announced = request.headers.get("content-length", "")
        if announced.isdecimal():
            self._check_size(int(announced))
        size, digest = 0, hashlib.sha256()
        with path.open("wb") as file:

            def write(chunk: bytes) -> None:
                digest.update(chunk)
                file.write(chunk)

            async for chunk in request.stream():
                size += len(chunk)
                self._check_size(size)
                await run_in_threadpool(write, chunk)
        return Upload(path, digest.hexdigest(), size)

    def _check_size(self, size: int) -> None:
        if size > self.max_bytes:
            raise HTTPException(
                413, f"the file is larger than the {self.max_bytes} bytes that are taken here"
            )
