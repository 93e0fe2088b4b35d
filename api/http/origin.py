"""Where a request comes from: which name it asks, and whose page sent it.

A page of any site can have a browser send requests to this machine, and a site's name can be made
to point here. Neither may read plans, nor make or delete them.
"""

from __future__ import annotations

import hmac
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.problem_kinds import ProblemKind
from api.http.problems import problem_answer

TOKEN_HEADER: Final = "Form-Token"
"""What the dashboard's own requests carry: only its pages know what is in it."""
_SAFE: Final = frozenset(("GET", "HEAD", "OPTIONS"))
_OWN: Final = frozenset(("same-origin", "none"))
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
_MOST_NAME: Final = 100


def is_local(request: Request) -> bool:
    """Whether a request comes from this machine, and from no proxy on it that says it is one."""
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return False
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        return False


class OriginCheck:
    """Refuses requests for names that are not this service's, and those of other sites' pages.

    Addresses, names without a dot and ``allowed_hosts`` are its names: no site of the Internet has
    one of those. What no browser sends needs no token; ``app.state.form_token`` is the right one.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: frozenset[str]) -> None:
        self._app, self._allowed = app, frozenset(host.lower() for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        answer = self._refusal(scope) if scope["type"] == "http" else None
        await (answer or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_ours(host):
            name = host[:_MOST_NAME]
            return problem_answer(
                scope,
                ProblemKind.WRONG_HOST,
                f"this service does not go by the name {name!r}: use its address, or start it "
                f"with --allowed-host {name}",
            )
        if scope["method"] in _SAFE:
            return None
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site is None and origin is None:
            return None  # no browser
        is_other = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
        if is_other or (site is not None and site not in _OWN):
            detail = "a page of another site sent this request: it is refused"
            return problem_answer(scope, ProblemKind.OTHER_SITE, detail)
        token: str = scope["app"].state.form_token
        if not hmac.compare_digest(headers.get(TOKEN_HEADER, "").encode(), token.encode()):
            return problem_answer(
                scope,
                ProblemKind.OTHER_SITE,
                "a browser sent this request, but not from a page of this service: reload the "
                "page, and try again",
            )
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".").lower()
        except ValueError:
            return False
        if not name:
            return False
        if "." not in name or name.endswith(".localhost") or name in self._allowed:
            return True
        try:
            ip_address(name)
        except ValueError:
            return False
        return True
