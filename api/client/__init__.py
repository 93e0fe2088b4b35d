"""The client of a server: plan there, submit jobs and follow them, look after devices.

from api.client import Client

with Client("http://127.0.0.1:8000") as client:
    plan = client.plan(Path("model.pte"), profile="bytes")
    print(client.report(plan.id).total.ratio)

Names are imported when they are first used: every command knows the client's errors, and few need
what speaks HTTP.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from api.client import documents
    from api.client.client import AsyncClient, Client
    from api.client.difference import Change, Comparison, compare_jobs
    from api.client.errors import AwayError, RefusedError
    from api.client.manifest import Submission, read_submission
    from api.client.operations import ServerPlan

__all__ = [
    "AsyncClient",
    "AwayError",
    "Change",
    "Client",
    "Comparison",
    "RefusedError",
    "ServerPlan",
    "Submission",
    "compare_jobs",
    "documents",
    "read_submission",
]

_HOMES = {
    "AsyncClient": "api.client.client",
    "AwayError": "api.client.errors",
    "Change": "api.client.difference",
    "Client": "api.client.client",
    "Comparison": "api.client.difference",
    "RefusedError": "api.client.errors",
    "ServerPlan": "api.client.operations",
    "Submission": "api.client.manifest",
    "compare_jobs": "api.client.difference",
    "read_submission": "api.client.manifest",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name == "documents":
        return import_module("api.client.documents")
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    found = getattr(import_module(home), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
