"""Traces for OpenTelemetry: requests and the planning of programs, as spans.

They are on where a collector is named by the standard variables (``OTEL_EXPORTER_OTLP_ENDPOINT``).
Where they are off, its SDK is not imported. (FastAPI imports its interface, always.)
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from planner.errors import MissingExtraError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_SERVICE: Final = "layout-planner"
_NAME: Final = "OTEL_SERVICE_NAME"
_LAST_SECONDS: Final = 2.0
"""How long the last spans are tried to be sent: a supervisor waits for the process to end."""

_tracer: Tracer | None = None
_provider: TracerProvider | None = None


def check() -> bool:
    """Whether a collector is named. Raises ``MissingExtraError`` if nothing can be sent to it."""
    named = next((name for name in _ENDPOINTS if os.environ.get(name)), None)
    if named is not None and not _has_exporter():
        raise MissingExtraError(named, "opentelemetry-exporter-otlp-proto-http", "telemetry")
    return named is not None


def start(version: str) -> None:
    """Has this process send traces, if a collector is named. Raises ``MissingExtraError``."""
    global _tracer, _provider  # noqa: PLW0603 - a process has one, as it has one log
    if not check() or _tracer is not None:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    service = {"service.name": os.environ.get(_NAME) or _SERVICE, "service.version": version}
    _provider = TracerProvider(resource=Resource.create(service), shutdown_on_exit=False)
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = _provider.get_tracer(_SERVICE, version)


def _has_exporter() -> bool:
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


def stop() -> None:
    """Sends what was not sent yet, if that takes no longer than a moment."""
    global _tracer, _provider  # noqa: PLW0603
    if _provider is not None:
        # It would go on for half a minute where the collector is away.
        sending = threading.Thread(target=_provider.shutdown, daemon=True)
        sending.start()
        sending.join(_LAST_SECONDS)
    _tracer = _provider = None


def trace_id() -> str | None:
    """The trace that this task or thread is at; None where there is none."""
    if _tracer is None:
        return None
    from opentelemetry.trace import format_trace_id, get_current_span

    context = get_current_span().get_span_context()
    return format_trace_id(context.trace_id) if context.is_valid else None


class Span:
    """A span that is open, or nothing where traces are off."""

    def __init__(self, span: Any = None) -> None:
        self._span = span

    def rename(self, name: str) -> None:
        """Gives it the name that it ends with."""
        if self._span is not None:
            self._span.update_name(name)

    def note(self, **attributes: str | float | None) -> None:
        """Adds attributes; those that are None are left out. ``__`` in a name is a dot."""
        if self._span is not None:
            self._span.set_attributes(_attributes(attributes))

    def fail(self, reason: str) -> None:
        """Marks it as failed."""
        if self._span is not None:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_status(Status(StatusCode.ERROR, reason))


@contextmanager
def span(name: str, **attributes: str | float | None) -> Iterator[Span]:
    """A span for its body; those that it opens are its children. An error of it is recorded."""
    if _tracer is None:
        yield Span()
        return
    with _tracer.start_as_current_span(name, attributes=_attributes(attributes)) as opened:
        yield Span(opened)


@contextmanager
def request_span(name: str, headers: Mapping[str, str]) -> Iterator[Span]:
    """The span of a request, which may belong to a trace that its client began."""
    if _tracer is None:
        yield Span()
        return
    from opentelemetry.propagate import extract
    from opentelemetry.trace import SpanKind

    parent, kind = extract(headers), SpanKind.SERVER
    with _tracer.start_as_current_span(name, context=parent, kind=kind) as opened:
        yield Span(opened)


class Stages:
    """A span for each stage of some work: the next one ends the one before."""

    def __init__(self) -> None:
        self._open: Any = None
        self._name = ""

    def begin(self, name: str) -> None:
        """A stage begins, unless it is the one that it is at already."""
        if _tracer is None or name == self._name:
            return
        self.end()
        self._open, self._name = _tracer.start_span(name), name

    def end(self) -> None:
        """The last one ends."""
        if self._open is not None:
            self._open.end()
        self._open, self._name = None, ""


def _attributes(found: Mapping[str, str | float | None]) -> dict[str, str | float]:
    return {k.replace("__", "."): v for k, v in found.items() if v is not None}
