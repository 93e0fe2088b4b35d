"""The service as an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

import planner
from api.dashboard.install import install as install_dashboard
from api.dashboard.pages import error_page
from api.dashboard.query import OverviewQuery
from api.http import devices, health, jobs, plans
from api.http.access import AccessControl, AccessRules
from api.http.audit import Audited, AuditLog
from api.http.measuring import DeviceService
from api.http.metrics import CountRequests, Metrics, StoreFigures
from api.http.models import PlanQuery, PlansQuery
from api.http.origin import OriginCheck
from api.http.problems import Problem, answer_errors
from api.http.service import PlanningPool, PlanService
from api.http.uploads import BodyLimit, Uploads
from api.jail.jail import Jail
from api.jail.limits import Limits
from api.jobs.retention import Removed, Retention, TooLargeError
from api.jobs.service import serving_jobs
from api.jobs.worker import WorkerSettings
from api.planning.pool import Pool
from api.planning.process import CrashError, OvertimeError, ProcessError
from api.store.blobs import LostBlobError
from api.store.database import UnreachableError
from api.store.devices import ConflictError, UnknownDeviceError
from api.store.plans import open_store
from api.store.room import NoRoomError
from api.store.scratch import scratch_in
from api.store.secret import secret_of
from api.store.tokens import Tokens
from planner.errors import MissingExtraError, PlannerError, VerificationError

# The most particular class counts. A refusal of what was asked is the client's to mend.
_STATUSES: Final[dict[type[Exception], int]] = {
    PlannerError: 422,
    MissingExtraError: 501,
    VerificationError: 500,
    CrashError: 500,
    UnknownDeviceError: 404,
    ConflictError: 409,
    LostBlobError: 410,
    UnreachableError: 503,
    ProcessError: 503,
    OvertimeError: 504,
    TooLargeError: 413,
    NoRoomError: 507,
    # No client is left to read the answer; it only ends the request.
    ClientDisconnect: 400,
}

_PROGRAMS: Final = frozenset(("/plan", "/check", "/inputs"))
"""Where a body is a program."""
_QUERIES: Final[dict[str, type[BaseModel]]] = {
    "/plan": PlanQuery,
    "/plans": PlansQuery,
    "/": OverviewQuery,
}


@dataclass(frozen=True, slots=True)
class Settings:
    """How the service runs.

    Plans are kept in ``data_dir``, or without one for as long as the service runs; their figures
    in the database at ``database_url``, or without one in ``data_dir`` as well. At most
    ``workers`` programs are planned at once, and each for at most ``plan_seconds``. Of jobs,
    ``job_workers`` more are, each for at most ``job_seconds``. Each may take
    ``plan_memory_bytes``; without a number, most of the machine's memory. Of plans that have to be
    made, at most ``most_pending`` are at a time. The head of a request has to arrive within
    ``head_seconds``, its body within ``body_seconds`` or at a fair rate. With ``warms``, what
    planning needs is imported at the start, not for the first program. Processes go into
    ``jail``; where that is not closed, exported programs are taken from this machine alone, unless
    ``takes_unjailed``. ``allowed_hosts`` are names with a dot that the service goes by.
    ``access`` says who may ask. ``reserve_bytes`` of the disk are kept for deleting once it is
    full. Plans that nobody asked for in ``keep_days``, and jobs that ended before, go; and the
    oldest of both where the store has more than ``most_store_bytes``.
    """

    data_dir: Path | None = None
    database_url: str | None = None
    workers: int = 1
    max_upload_bytes: int = 2 * 2**30
    plan_seconds: float = 1800
    job_workers: int = 0
    job_seconds: float = 600
    plan_memory_bytes: int | None = None
    warms: bool = False
    most_pending: int = 64
    most_connections: int | None = None
    head_seconds: float = 20
    body_seconds: float = 60
    reserve_bytes: int = 0
    keep_days: float | None = None
    most_store_bytes: int | None = None
    jail: Jail = field(default_factory=Jail.of_machine)
    takes_unjailed: bool = False
    allowed_hosts: frozenset[str] = frozenset()
    access: AccessRules = field(default_factory=AccessRules)


def _pool(settings: Settings) -> Pool:
    limits = Limits.of_machine(settings.plan_seconds, settings.plan_memory_bytes)
    pool = Pool(settings.workers, settings.plan_seconds, settings.jail, limits)
    if settings.warms:
        pool.start()
    return pool


def _passing_folder(stack: ExitStack) -> Path:
    """Where plans are kept as long as the service runs."""
    return Path(stack.enter_context(TemporaryDirectory(prefix="layout-planner-"))) / "data"


def _note_removed(metrics: Metrics, audit: AuditLog, removed: Removed) -> None:
    metrics.removed.labels(removed.kind, removed.reason).inc()
    audit.write(
        who=None, removed=removed.kind, id=removed.id, name=removed.name, reason=removed.reason
    )


def create_app(settings: Settings = Settings(), pool: PlanningPool | None = None) -> FastAPI:
    """The service as an ASGI application; it runs as long as its lifespan.

    Programs are planned in ``pool``, which ends with the lifespan; without one, in processes of
    the application's own. The lifespan raises ``OptionError`` at its start if plans cannot be kept
    where they should be.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with ExitStack() as stack:
            data_dir = settings.data_dir or _passing_folder(stack)
            store = await run_in_threadpool(
                open_store, data_dir, settings.database_url, settings.reserve_bytes
            )
            # Beside the plans: uploads are as large as these, and a small /tmp may be memory.
            scratch = store.reserve.spend(lambda: stack.enter_context(scratch_in(data_dir)))
            is_jailed = settings.jail.is_closed or settings.takes_unjailed
            uploads = Uploads(scratch / "uploads", settings.max_upload_bytes, is_jailed)
            uploads.folder.mkdir()
            app.state.data_dir = data_dir
            app.state.tokens, app.state.audit = Tokens(store.database), AuditLog(data_dir)
            app.state.form_token = await run_in_threadpool(secret_of, data_dir)
            planning, metrics = pool or _pool(settings), Metrics()
            retention = Retention(
                store,
                settings.keep_days,
                settings.most_store_bytes,
                partial(_note_removed, metrics, app.state.audit),
            )
            service = PlanService(
                store,
                planning,
                uploads,
                settings.plan_seconds,
                settings.most_pending,
                metrics,
                retention,
            )
            measuring = DeviceService(store, planning, uploads)
            worker = WorkerSettings(
                str(data_dir.absolute()),
                settings.database_url,
                str(uploads.folder),
                settings.job_seconds,
                settings.plan_memory_bytes,
            )
            app.state.uploads, app.state.metrics = uploads, metrics
            app.state.service, app.state.devices = service, measuring
            sweeping = asyncio.create_task(service.sweep())
            try:
                async with serving_jobs(store, settings.job_workers, worker) as jobs:
                    app.state.jobs = jobs
                    metrics.registry.register(StoreFigures(jobs.register, jobs.jobs, data_dir))
                    yield
            finally:
                await service.close()
                await measuring.close()
                sweeping.cancel()
                await asyncio.wait([sweeping])
                await run_in_threadpool(store.close)
                app.state.audit.close()

    app = FastAPI(
        title="Layout Planner",
        summary="Plans tensor layouts for ExecuTorch's Vulkan delegate: optimal, proven, checked.",
        description="A `.pt2` file is vetted before torch reads it, and refused if it could run "
        "code. Every program is planned in a process of its own, in a jail.",
        version=planner.__version__,
        lifespan=lifespan,
        redirect_slashes=False,
        # These would load their scripts from another host: the dashboard has a page of its own.
        docs_url=None,
        redoc_url=None,
        responses={"default": {"model": Problem, "description": "Anything else that failed."}},
    )
    app.include_router(plans.router)
    app.include_router(jobs.router)
    app.include_router(devices.router)
    app.include_router(health.router)
    app.add_middleware(BodyLimit, programs=_PROGRAMS, seconds=settings.body_seconds)
    app.add_middleware(AccessControl, rules=settings.access)
    app.add_middleware(Audited)
    app.add_middleware(OriginCheck, allowed_hosts=settings.allowed_hosts)
    app.add_middleware(CountRequests)
    install_dashboard(app, lambda: app.state.service.store)
    answer_errors(app, _STATUSES, _QUERIES, error_page)
    return app
