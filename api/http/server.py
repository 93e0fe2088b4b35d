"""The service on a port."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn
from fastapi import FastAPI
from uvicorn.server import HANDLED_SIGNALS

import planner
from api.http.access import AccessRules
from api.http.app import Settings, create_app
from api.http.connections import ACCEPTED, connections_of, listen_to_many
from api.http.metrics import Metrics
from api.http.problem_kinds import ProblemKind
from api.http.service import PlanService
from api.jobs.service import JobService
from api.store.plans import open_store
from api.store.tokens import Tokens
from api.telemetry import traces
from planner.errors import OptionError

_SHUTDOWN_SECONDS: Final = 10
_OPEN: Final = {
    False: "so .pt2 files are taken from this machine alone (--without-jail takes them from all)",
    True: "and .pt2 files are taken from everywhere all the same (--without-jail)",
}

_log = logging.getLogger(__name__)


def serve(host: str, port: int, settings: Settings) -> None:
    """Serves until SIGINT or SIGTERM; prints the address once it listens (a free port for 0).

    To be called in the main thread. Raises ``OptionError`` if plans cannot be kept where they
    should be, and if tokens are asked for and there are none; ``MissingExtraError`` if traces are
    asked for and cannot be sent.
    """
    if settings.data_dir is not None:
        # Raised before anything listens, and by this function, not by the application.
        store = open_store(settings.data_dir, settings.database_url, settings.blobs_url)
        try:
            _check_access(settings.access, Tokens(store.database))
        finally:
            store.close()
    if settings.logs is not None:
        settings.logs.install()
    traces.start(planner.__version__)
    settings.jail.log_missing()
    if not settings.jail.is_closed:
        _log.warning("Jail: %s", _OPEN[settings.takes_unjailed])
    app = create_app(settings)

    def turned_away() -> None:
        # The lifespan makes them.
        metrics: Metrics = app.state.metrics
        metrics.problems.labels(ProblemKind.TOO_MANY_CONNECTIONS.slug).inc()

    config = uvicorn.Config(
        app,
        http=connections_of(settings.head_seconds, settings.most_connections, turned_away),
        backlog=ACCEPTED,
        host=host,
        port=port,
        # Its loggers are told where to write with ours.
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    try:
        _Server(config, app).run()
    finally:
        traces.stop()


def _check_access(rules: AccessRules, tokens: Tokens) -> None:
    if rules.mode == "tokens" and rules.identity_header is None and not tokens.any():
        raise OptionError(
            "others could reach this service, and nobody has a token for it: make one "
            "('layout-planner token create NAME'), listen on this machine alone (--host "
            "127.0.0.1), or let everybody in (--access off)"
        )


class _Server(uvicorn.Server):
    """A server that prints where it listens, and does not wait for plans when it is to end."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        listen_to_many(each.fileno() for server in self.servers for each in server.sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        print(f"Listening on http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # The server waits for its open requests first and only then ends the lifespan.
        service: PlanService = self._app.state.service
        service.stop()
        jobs: JobService = self._app.state.jobs
        jobs.watches.stop()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As in the base class, which then raises the signal again: here it has been served."""
        before = {number: signal.signal(number, self.handle_exit) for number in HANDLED_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
