"""Logs: lines of text or of JSON on the standard error.

Only loggers that matter get a handler: torch traces everything where the root logger has one.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, Literal, TextIO

from api.telemetry import traces

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["text", "json"]

_OURS: Final = "api"
_OTHERS: Final = {"uvicorn": logging.WARNING, "dbos": logging.ERROR, "asyncio": logging.WARNING}
"""Loggers of libraries, and from which level on they tell something that matters."""
_SECRETS: Final = (
    # The password in the address of a database or a proxy.
    (re.compile(r"(://[^\s:/@]*:)[^\s@\"']*@"), r"\1***@"),
    # A token: its id is no secret.
    (re.compile(r"(lp_[0-9a-f]{16}_)[\w-]+"), r"\1***"),
)
_fields: ContextVar[Mapping[str, str]] = ContextVar("fields", default=MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class LogSettings:
    """From which level on this project's lines are logged, and what they look like."""

    level: Level = "info"
    format: Format = "text"

    def install(self) -> None:
        """Has this process log so, also what others log at a level that matters."""
        formatter = JsonFormatter() if self.format == "json" else TextFormatter()
        handler = _ToStandardError()
        handler.setFormatter(formatter)
        ours = getattr(logging, self.level.upper())
        for name, level in {_OURS: ours, **_OTHERS}.items():
            logger = logging.getLogger(name)
            logger.handlers[:] = [handler]
            logger.propagate = False
            logger.setLevel(level)
        # Whatever has no handler of its own, from warnings on.
        last = _ToStandardError(logging.WARNING)
        last.setFormatter(formatter)
        logging.lastResort = last
        sys.excepthook = _log_uncaught


class _ToStandardError(logging.StreamHandler[TextIO]):
    """Writes to what the standard error is at the time."""

    def __init__(self, level: int = logging.NOTSET) -> None:
        logging.Handler.__init__(self, level)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """The standard error."""
        return sys.stderr


def bind(**fields: str) -> None:
    """Has lines carry fields from now on: in this task or thread, and in tasks that it starts."""
    _fields.set({**_fields.get(), **fields})


@contextmanager
def bound(**fields: str) -> Iterator[None]:
    """The same, for its body."""
    before = _fields.set({**_fields.get(), **fields})
    try:
        yield
    finally:
        _fields.reset(before)


def without_secrets(text: str) -> str:
    """Text as it may be logged."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


class JsonFormatter(logging.Formatter):
    """A line of JSON: time, level, logger, message, then what else there is."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        return without_secrets(json.dumps(_said(record), default=str))


class TextFormatter(logging.Formatter):
    """A line for people; a traceback follows, indented, so that it cannot pass for lines."""

    def format(self, record: logging.LogRecord) -> str:
        """The lines of a record."""
        said = _said(record)
        start = [said.pop(name) for name in ("time", "level", "logger", "message")]
        trace = said.pop("trace", "")
        line = f"{start[0]} {start[1].upper():7} {start[2]}: {_printable(start[3])}"
        line += "".join(f" {name}={_printable(str(value))}" for name, value in said.items())
        return without_secrets("\n    ".join([line, *map(_printable, trace.splitlines())]))


def _said(record: logging.LogRecord) -> dict[str, Any]:
    """What a record says; ``fields`` and ``trace`` are what is logged as ``extra``."""
    time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    said: dict[str, Any] = {
        "time": time.replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": record.getMessage(),
        **_fields.get(),
        **getattr(record, "fields", {}),
    }
    if trace_id := traces.trace_id():
        said["trace_id"] = trace_id
    trace = getattr(record, "trace", "")
    if record.exc_info and record.exc_info[1] is not None:
        trace = "".join(traceback.format_exception(record.exc_info[1]))
    return said | ({"trace": trace} if trace else {})


def _printable(text: str) -> str:
    """Text without what would begin a line, or what a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger(_OURS).critical("this process ends", exc_info=error)
