"""Whether the service runs, whether it can do its work, and what it has done."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response
from sqlalchemy import text

import planner
from api.http.metrics import CONTENT_TYPE, Metrics
from api.http.models import Check, Health, Readiness
from api.http.service import PlanService
from api.jobs.service import JobService
from api.store.database import UnreachableError

_SECONDS: Final = 5.0
"""What does not answer in this time is not ready."""
_ROOM: Final = 2**28
"""Free bytes below which plans may not fit."""
_NO_BLOB: Final = "0" * 64

router = APIRouter()


@router.get("/health", summary="Ask whether the service runs")
@router.get("/healthz", include_in_schema=False)
async def get_health() -> Health:
    """Answers at once, whatever is being planned. `/healthz` is the same."""
    return Health(status="ok", version=planner.__version__)


@router.get(
    "/readyz",
    summary="Ask whether the service can do its work",
    responses={503: {"model": Readiness, "description": "Something that it needs is not there."}},
)
async def get_readiness(request: Request, response: Response) -> Readiness:
    """Looks at the database, the store, room on its disk, what plans, and workers of jobs."""
    service: PlanService = request.app.state.service
    jobs: JobService = request.app.state.jobs
    folder: Path = request.app.state.data_dir
    checks: dict[str, Callable[[], str | None]] = {
        "database": lambda: _database(service),
        "store": lambda: _writable(service, folder),
        "disk": lambda: _room(folder),
        "planner": service.unready,
        "workers": lambda: None if jobs.register.alive() else "there are none: jobs wait",
    }
    found = dict(zip(checks, await asyncio.gather(*map(_looked, checks.values())), strict=True))
    # Jobs may wait for workers that come later; whoever asks for a plan needs none.
    is_ready = all(found[name] is None for name in checks if name != "workers")
    response.status_code = 200 if is_ready else 503
    return Readiness(
        is_ready=is_ready,
        checks={name: Check(ok=wrong is None, detail=wrong) for name, wrong in found.items()},
    )


@router.get(
    "/metrics",
    summary="Read figures for Prometheus",
    response_class=Response,
    responses={200: {"description": "Prometheus's text format.", "content": {"text/plain": {}}}},
)
def get_metrics(request: Request) -> Response:
    """Requests, plans, planning processes that were ended, workers, tasks, and room on the disk."""
    metrics: Metrics = request.app.state.metrics
    return Response(metrics.text(), media_type=CONTENT_TYPE)


async def _looked(check: Callable[[], str | None]) -> str | None:
    try:
        async with asyncio.timeout(_SECONDS):
            # Not Starlette's threads, which would be waited for.
            return await asyncio.to_thread(check)
    except TimeoutError:
        return f"it did not answer within {_SECONDS:g} s"
    except (OSError, UnreachableError) as error:
        return str(error)


def _database(service: PlanService) -> None:
    with service.store.database.reading() as session:
        session.execute(text("SELECT 1"))


def _writable(service: PlanService, folder: Path) -> None:
    service.store.blobs.exists(_NO_BLOB)  # raises if the blobs' own server does not answer
    descriptor, path = tempfile.mkstemp(prefix=".ready-", dir=folder)
    os.close(descriptor)
    Path(path).unlink()


def _room(folder: Path) -> str | None:
    free = shutil.disk_usage(folder).free
    return None if free >= _ROOM else f"only {free:,} bytes are free in {folder}"
