"""Callers, and how much each may ask for: requests, plans at a time, uploads, bytes in the store.

A caller is a token, whom a proxy names, or, where everybody is let in, an address. Who is on this
machine, and let in without a token, has no limits. Rates and plans are counted by each server for
itself, bytes in the store by all servers of a database together.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from ipaddress import IPv6Address, ip_address
from typing import Final

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.access import OPEN, TOKEN, WHO
from api.http.problem_kinds import ProblemKind
from api.http.problems import ProblemError, problem_answer, retry_after
from api.store.accounts import Account
from api.store.tables import TokenRecord
from api.store.tokens import Allowance

_CALLER: Final = "layout_planner.caller"
_MINUTE: Final = 60.0
_HOUR: Final = 3600.0
_RETRY_SECONDS: Final = 10
_MOST_KNOWN: Final = 10_000
_MOST_NAME: Final = 200


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """What each caller may ask of a server, unless its token says otherwise.

    Requests may come at once as many as a minute may have, uploaded bytes as many as an hour may.
    """

    requests_per_minute: int = 3000
    running_plans: int = 16
    stored_bytes: int = 100 * 2**30
    upload_bytes_per_hour: int = 100 * 2**30

    def with_allowance(self, allowance: Allowance) -> CallerLimits:
        """These limits, with those of a token in their place where it has any."""
        own = {name: value for name, value in asdict(allowance).items() if value is not None}
        return replace(self, **own)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as ``token 0123456789abcdef``, ``user ann`` or ``address 192.0.2.1``."""

    name: str
    limits: CallerLimits

    @property
    def account(self) -> Account:
        """What it puts into the store is charged to this."""
        return Account(self.name, self.limits.stored_bytes)


class Buckets:
    """A bucket for each caller: it holds what may be taken at once, and fills up in ``seconds``."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._full: dict[str, float] = {}  # when the bucket is full again, by caller

    def wait(self, name: str, amount: int, most: int) -> float:
        """Seconds until so much is in a bucket of ``most``; infinite if it never is."""
        if amount > most:
            return float("inf")
        return max(0.0, self._missing(name) + amount * self._seconds / most - self._seconds)

    def take(self, name: str, amount: int, most: int) -> float:
        """Takes so much out of a bucket and returns 0, or else nothing, as ``wait``."""
        wait = self.wait(name, amount, most)
        if wait == 0:
            missing = self._missing(name) + amount * self._seconds / most
            self._forget_full()
            self._full[name] = self._clock() + missing
        return wait

    def left(self, name: str, most: int) -> tuple[int, float]:
        """How much is in a bucket, and in how many seconds it is full."""
        missing = self._missing(name)
        return int((self._seconds - missing) * most / self._seconds), missing

    def _missing(self, name: str) -> float:
        """Seconds until a bucket is full."""
        return max(0.0, self._full.get(name, 0.0) - self._clock())

    def _forget_full(self) -> None:
        if len(self._full) >= _MOST_KNOWN:
            now = self._clock()
            self._full = {name: full for name, full in self._full.items() if full > now}


class Callers:
    """What the callers of a server have asked of it lately. To be used in the event loop alone."""

    def __init__(self, limits: CallerLimits, most_pending: int) -> None:
        """However much a caller may ask, a queue of ``most_pending`` plans has room for others."""
        self._limits, self._most_plans = limits, max(1, most_pending - 1)
        self.requests, self.uploads = Buckets(_MINUTE), Buckets(_HOUR)
        self._plans: dict[str, Counter[object]] = defaultdict(Counter)  # by caller

    def of(self, scope: Scope) -> Caller | None:
        """Who sent a request; None where there are no limits."""
        token: TokenRecord | None = scope.get(TOKEN)
        if token is not None:
            own = {name: getattr(token, name) for name in Allowance.__dataclass_fields__}
            return Caller(f"token {token.id}", self._limits.with_allowance(Allowance(**own)))
        who = scope.get(WHO)
        name = _address(scope) if who is None else f"user {_short(who)}"
        return None if name is None else Caller(name, self._limits)

    def check_plan(self, request: Request, what: object) -> None:
        """Raises ``ProblemError`` if a request may not wait for one more plan."""
        if (caller := caller_of(request)) is None:
            return
        plans = self._plans.get(caller.name, Counter())
        most = min(caller.limits.running_plans, self._most_plans)
        if what not in plans and len(plans) >= most:
            detail = (
                f"{len(plans)} of your plans are made now, or wait to be, and you may have {most}: "
                "wait for one of them, or submit a job (POST /jobs), which waits for its turn"
            )
            raise ProblemError(ProblemKind.TOO_MANY_PLANS, detail, retry_after(_RETRY_SECONDS))

    @contextmanager
    def planning(self, request: Request, what: object) -> Iterator[None]:
        """Counts a plan as long as a request waits for it; the same one counts once."""
        if (caller := caller_of(request)) is None:
            yield
            return
        plans = self._plans[caller.name]
        plans[what] += 1
        try:
            yield
        finally:
            plans[what] -= 1
            if not plans[what]:
                del plans[what]
            if not plans:
                self._plans.pop(caller.name, None)

    @contextmanager
    def working(self, request: Request) -> Iterator[None]:
        """Counts other work of planning processes as a plan; raises ``ProblemError`` as well."""
        work = object()
        self.check_plan(request, work)
        with self.planning(request, work):
            yield

    def check_upload(self, request: Request, size: int) -> None:
        """Raises ``ProblemError`` if a request may not upload so many bytes now."""
        if (caller := caller_of(request)) is not None:
            most = caller.limits.upload_bytes_per_hour
            _check_wait(request, most, self.uploads.wait(caller.name, size, most))

    def take_upload(self, request: Request, size: int) -> None:
        """Counts uploaded bytes; raises ``ProblemError`` where these are too many."""
        if (caller := caller_of(request)) is not None:
            most = caller.limits.upload_bytes_per_hour
            _check_wait(request, most, self.uploads.take(caller.name, size, most))


def caller_of(request: Request) -> Caller | None:
    """Who sent a request that ``LimitRequests`` let pass; None where there are no limits."""
    caller: Caller | None = request.scope.get(_CALLER)
    return caller


class LimitRequests:
    """Refuses requests of callers that ask too often; ``app.state.callers`` counts them.

    Answers say how many more there may be, in the ``RateLimit`` fields of the IETF's draft.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http" or scope["path"].startswith(OPEN):
            await self._app(scope, receive, send)
            return
        callers: Callers = scope["app"].state.callers
        caller = scope[_CALLER] = callers.of(scope)
        if caller is None:
            await self._app(scope, receive, send)
            return
        most = caller.limits.requests_per_minute
        wait = callers.requests.take(caller.name, 1, most)
        left, seconds = callers.requests.left(caller.name, most)
        headers = {
            "RateLimit-Policy": f'"requests";q={most};w={_MINUTE:.0f}',
            "RateLimit": f'"requests";r={left};t={seconds:.0f}',
        }
        if wait:
            detail = f"you may send {most} requests a minute, and this is one more: try again later"
            again = headers | retry_after(wait)
            refused = problem_answer(scope, ProblemKind.TOO_MANY_REQUESTS, detail, again)
            await refused(scope, receive, send)
            return

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
            await send(message)

        await self._app(scope, receive, telling)


def _short(name: str) -> str:
    """A name that a key of the database has room for."""
    return name if len(name) <= _MOST_NAME else hashlib.sha256(name.encode()).hexdigest()


def _check_wait(request: Request, most: int, wait: float) -> None:
    if math.isinf(wait):
        detail = f"the file is larger than the {most} bytes that you may upload in an hour"
        raise ProblemError(ProblemKind.TOO_LARGE, detail)
    if wait:
        detail = f"you may upload {most} bytes an hour, and this is more: try again later"
        raise ProblemError(ProblemKind.TOO_MUCH_UPLOADED, detail, retry_after(wait))


def _address(scope: Scope) -> str | None:
    """The address of a client as the name of a caller; None for this machine's own."""
    client = scope.get("client")
    try:
        found = ip_address("" if client is None else client[0])
    except ValueError:
        return None  # a socket of this machine
    if isinstance(found, IPv6Address):
        # Whoever has one address there has 2^64 of them.
        found = found.ipv4_mapped or (
            found if found.is_loopback else IPv6Address(int(found) >> 64 << 64)
        )
    return None if found.is_loopback else f"address {found}"
