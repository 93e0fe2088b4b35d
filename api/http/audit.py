"""Who planned, read and deleted what: a line for each request, in a file of the data directory."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import sys
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.access import WHO
from api.http.request_ids import REQUEST_ID

_NAME: Final = "audit.log"
_BYTES: Final = 10 * 2**20
_FILES: Final = 10
_LINK: Final = re.compile(r"\blink=[^&]*")
"""What lets someone in, who reads it while it holds."""
_UNTRACED: Final = ("/calibrate", "/calibrations")
"""Whose visitors are promised that their addresses are not kept."""
_PASSED_OVER: Final = ("/static/", "/health", "/readyz", "/metrics", "/progress/")


class _Private(RotatingFileHandler):
    """Files that are their owner's alone, those that come after as well."""

    def _open(self) -> TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return os.fdopen(descriptor, "a", encoding="utf-8")

    def emit(self, record: logging.LogRecord) -> None:
        """Adds a line as a whole, or has it printed."""
        line = f"{self.format(record)}\n".encode()
        try:
            if self.shouldRollover(record):
                self.doRollover()
            self.stream = self.stream or self._open()
            descriptor = self.stream.fileno()
            written = os.write(descriptor, line)
            if written < len(line):
                # The disk is full: half a line would spoil the next one.
                os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            said = f"{self.baseFilename} cannot be written ({error.strerror})"
            print(f"{said}: {line.decode().rstrip()}", file=sys.stderr, flush=True)


class AuditLog:
    """The log of a data directory: lines of JSON; the oldest go when there are 100 MiB."""

    def __init__(self, data_dir: Path) -> None:
        self._handler = _Private(data_dir / _NAME, maxBytes=_BYTES, backupCount=_FILES - 1)

    def write(self, **said: object) -> None:
        """Adds a line; where that fails, it goes to the standard error."""
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **said})
        self._handler.handle(logging.LogRecord("audit", logging.INFO, "", 0, line, None, None))

    def close(self) -> None:
        """Closes the file."""
        self._handler.close()


class Audited:
    """Takes note of requests for plans, jobs and devices; ``app.state.audit`` is the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http" or scope["path"].startswith(_PASSED_OVER):
            await self._app(scope, receive, send)
            return
        status, location = 500, None

        async def noting(message: Message) -> None:
            nonlocal status, location
            if message["type"] == "http.response.start":
                status = message["status"]
                location = Headers(raw=message["headers"]).get("location")
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            is_traced = not scope["path"].startswith(_UNTRACED)
            client = scope.get("client") if is_traced else None
            log: AuditLog = scope["app"].state.audit
            log.write(
                who=scope.get(WHO),
                address=None if client is None else client[0],
                method=scope["method"],
                path=scope["path"],
                query=_LINK.sub("link=…", scope["query_string"].decode("latin-1")),
                status=status,
                made=location,
                request_id=scope.get(REQUEST_ID),
            )
