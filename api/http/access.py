"""Who may ask what: by a token, or by what a reverse proxy says of who asks."""

from __future__ import annotations

import base64
import binascii
import time
from dataclasses import dataclass
from typing import Final, Literal

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Asked

from api.http.problem_kinds import ProblemKind
from api.http.problems import problem_answer
from api.store.database import UnreachableError
from api.store.tables import TokenRecord
from api.store.tokens import Scope, Tokens

WHO: Final = "layout_planner.who"
"""Where a request has the name of who asks, once that is known."""
TOKEN: Final = "layout_planner.token"
"""Where it has the record of the token that it came with."""

LINKED: Final = "layout_planner.linked"
"""Where it has the device that it may calibrate, and do no more, if it came with such a link."""
LINK: Final = "calibration link"
"""What ``app.state.signer`` signs links for."""
LINK_HEADER: Final = "Calibration-Link"
"""What requests of the page that a link opened carry; the page's own address has it as ``link``."""

OPEN: Final = ("/health", "/healthz", "/readyz", "/static/", "/problems/")
"""Paths that tell nothing of anybody's plans."""
_READS: Final = frozenset(("GET", "HEAD", "OPTIONS"))
_LINKED: Final = ("/calibrate", "/calibrations", "/calibrations/samples", "/calibrations/profiles")
_LINKED_READS: Final = "/calibrations/sweeps/"
_CHALLENGE: Final = 'Bearer realm="Layout Planner", Basic realm="Layout Planner"'
_KNOWN_SECONDS: Final = 5.0
"""How long a token is taken for valid once it was looked up: as long may revoking it take."""
_MOST_KNOWN: Final = 1000


@dataclass(frozen=True, slots=True)
class AccessRules:
    """How a server lets people in: all of them, by tokens, or by a proxy's ``identity_header``."""

    mode: Literal["off", "tokens"] = "off"
    identity_header: str | None = None


class AccessControl:
    """Refuses who has no token, or one for less; ``app.state.tokens`` are those that there are.

    A browser hands in its token as the password of any user. With an ``identity_header``, who it
    names is let in without a token: only the proxy may reach the port then.
    """

    def __init__(self, app: ASGIApp, rules: AccessRules) -> None:
        self._app, self._rules = app, rules
        self._known: dict[str, tuple[float, TokenRecord]] = {}  # by token

    async def __call__(self, scope: Asked, receive: Receive, send: Send) -> None:
        """Answers one request."""
        answer = await self._refusal(scope) if scope["type"] == "http" else None
        await (answer or self._app)(scope, receive, send)

    async def _refusal(self, scope: Asked) -> Response | None:
        if self._rules.mode == "off" or scope["path"].startswith(OPEN):
            return None
        headers = Headers(scope=scope)
        if self._rules.identity_header and (who := headers.get(self._rules.identity_header)):
            scope[WHO] = who
            return None
        linked = _linked(scope, headers)
        if linked is not None:
            scope[WHO], scope[LINKED] = f"link for {linked}", linked
            return None
        token = _token(headers.get("authorization", ""))
        try:
            found = await self._find(scope["app"].state.tokens, token) if token else None
        except UnreachableError as error:
            return problem_answer(scope, ProblemKind.STORE_AWAY, str(error))
        if found is None:
            detail = (
                "this service takes requests with a token alone (Authorization: Bearer ..., or "
                "LAYOUT_PLANNER_TOKEN for the command line): ask who runs it for one "
                "(layout-planner token create)"
            )
            challenge = {"WWW-Authenticate": _CHALLENGE}
            return problem_answer(scope, ProblemKind.TOKEN_NEEDED, detail, challenge)
        scope[WHO], scope[TOKEN] = found.name, found
        allowed = Scope[found.scope.upper()]
        needed = _needed(scope["method"], scope["path"])
        if allowed < needed:
            detail = (
                f"your token is for {allowed.name.lower()}, and this takes {needed.name.lower()}: "
                "ask for another one"
            )
            return problem_answer(scope, ProblemKind.SCOPE_TOO_SMALL, detail)
        return None

    async def _find(self, tokens: Tokens, token: str) -> TokenRecord | None:
        until, found = self._known.get(token, (0.0, None))
        if until < time.monotonic():
            found = await run_in_threadpool(tokens.find, token)
            if found is None:
                self._known.pop(token, None)
                return None
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[token] = time.monotonic() + _KNOWN_SECONDS, found
        return found


def _linked(scope: Asked, headers: Headers) -> str | None:
    """The device of the link that a request came with; None without one, or for other paths."""
    path = scope["path"]
    if path not in _LINKED and not path.startswith(_LINKED_READS):
        return None
    link = headers.get(LINK_HEADER) or QueryParams(scope["query_string"]).get("link", "")
    found = scope["app"].state.signer.read(LINK, link)
    return None if found is None else str(found["device"])


def _needed(method: str, path: str) -> Scope:
    if method in _READS:
        return Scope.READ
    # What others have is an administrator's to take away or to replace.
    if method == "DELETE" or (method == "PUT" and path.endswith("/avoid")):
        return Scope.ADMIN
    return Scope.PLAN


def _token(authorization: str) -> str | None:
    kind, _, value = authorization.partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return None
    return None
