"""The id of each request: in its answer, in what is logged of it, and in its trace."""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.telemetry import logs, traces

REQUEST_ID: Final = "layout_planner.request_id"
"""Where a request has its id."""
REQUEST_ID_HEADER: Final = "X-Request-Id"
PROBLEM: Final = "layout_planner.problem"
"""Where a request has the name of the kind of problem that it is answered with."""

_WELL_FORMED: Final = re.compile(r"[0-9A-Za-z._-]{1,64}")
_POLLED: Final = ("/health", "/readyz", "/metrics", "/static/", "/progress/")
"""Paths that are asked for again and again: what is logged of them matters to few."""
_log = logging.getLogger(__name__)


class RequestIds:
    """Gives each request an id, its client's own if that is well-formed, and logs its answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        asked = headers.get(REQUEST_ID_HEADER, "")
        request_id = asked if _WELL_FORMED.fullmatch(asked) else uuid.uuid4().hex
        scope[REQUEST_ID] = request_id
        # For good: what the server logs of a failure comes after this, in the same task.
        logs.bind(request_id=request_id)
        start, status = time.perf_counter(), 500

        async def identified(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        method = scope["method"]
        with traces.request_span(method, headers) as span:
            span.note(http__request__method=method, layout_planner__request_id=request_id)
            try:
                await self._app(scope, receive, identified)
            finally:
                route = route_of(scope)
                span.rename(f"{method} {route}")
                span.note(http__route=route, http__response__status_code=status)
                if status >= 500:
                    span.fail(str(scope.get(PROBLEM, status)))
                fields = {
                    "method": method,
                    "route": route,
                    "status": status,
                    "seconds": round(time.perf_counter() - start, 4),
                    **({"problem": scope[PROBLEM]} if PROBLEM in scope else {}),
                }
                level = logging.DEBUG if scope["path"].startswith(_POLLED) else logging.INFO
                _log.log(level, "%s %s: %d", method, route, status, extra={"fields": fields})


def route_of(scope: Scope) -> str:
    """The route that answers a request; not its path, of which there are any number."""
    return getattr(scope.get("route"), "path_format", "other")
