"""What the service does not do because it would be too much: each time counted by its reason."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from starlette.exceptions import HTTPException
from starlette.types import Scope

Reason = Literal[
    "body_size",
    "combinations",
    "connections",
    "queue",
    "requests",
    "running_plans",
    "slow_body",
    "stored_bytes",
    "upload_rate",
    "uploads",
]


def count_refusal(scope: Scope, reason: Reason) -> None:
    """Counts a refused request; ``app.state.metrics`` has the figures."""
    scope["app"].state.metrics.refusals.labels(reason).inc()


def refusal(
    scope: Scope, reason: Reason, status: int, detail: str, retry_seconds: float | None = None
) -> HTTPException:
    """Counts a refused request; returns what is to be raised."""
    count_refusal(scope, reason)
    return HTTPException(status, detail, retry_after(retry_seconds))


def retry_after(seconds: float | None) -> dict[str, str]:
    """A header that says when to try again, in whole seconds; without a number, none."""
    return {} if seconds is None else {"Retry-After": str(max(1, math.ceil(seconds)))}


@contextmanager
def counted(scope: Scope, error: type[Exception], reason: Reason) -> Iterator[None]:
    """Counts a request that is refused by such an error."""
    try:
        yield
    except error:
        count_refusal(scope, reason)
        raise
