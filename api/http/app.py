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
from api.dashboard.query import CalibrateQuery, OverviewQuery
from api.http import calibrations, devices, health, jobs, plans, problems
from api.http.access import AccessControl, AccessRules
from api.http.audit import Audited, AuditLog
from api.http.calibrating import CalibrationService
from api.http.callers import CallerLimits, Callers, LimitRequests
from api.http.measuring import DeviceService
from api.http.metrics import CountRequests, Metrics, StoreFigures
from api.http.models import CheckQuery, PlanQuery, PlansQuery
from api.http.origin import OriginCheck
from api.http.problem_kinds import ProblemKind
from api.http.problems import Problem, answer_errors
from api.http.queue import Queue, ShedLoad
from api.http.rehearsal import ask_in_vain
from api.http.request_ids import RequestIds
from api.http.service import PlanningPool, PlanService
from api.http.signing import Signer
from api.http.uploads import BodyLimit, Uploads
from api.jail.jail import Jail
from api.jail.limits import Limits
from api.jobs.matrix import TooManyTasksError
from api.jobs.retention import Removed, Retention, TooLargeError
from api.jobs.service import serving_jobs
from api.jobs.submissions import KeyReusedError
from api.jobs.worker import WorkerSettings
from api.planning.pool import Pool
from api.planning.process import CrashError, OvertimeError, ProcessError, StoppedError
from api.store.accounts import FullAccountError
from api.store.blobs import LostBlobError
from api.store.database import UnreachableError
from api.store.devices import ConflictError, UnknownDeviceError
from api.store.plans import open_store
from api.store.room import NoRoomError
from api.store.scratch import scratch_in
from api.store.secret import secret_of
from api.store.tokens import Tokens
from api.telemetry.logs import LogSettings
from gpu.claims import ClaimError
from planner.errors import (
    ConflictingLimitsError,
    InputError,
    MissingExtraError,
    NoRepresentationError,
    OptionError,
    PlannerError,
    VerificationError,
)

# The most particular class counts. A refusal of what was asked is the client's to mend.
_KINDS: Final[dict[type[Exception], ProblemKind]] = {
    PlannerError: ProblemKind.CANNOT_BE_PLANNED,
    ClaimError: ProblemKind.SAMPLES_REFUSED,
    InputError: ProblemKind.INVALID_PROGRAM,
    OptionError: ProblemKind.INVALID_OPTION,
    ConflictingLimitsError: ProblemKind.CONFLICTING_LIMITS,
    NoRepresentationError: ProblemKind.NO_REPRESENTATION,
    MissingExtraError: ProblemKind.EXTRA_MISSING,
    VerificationError: ProblemKind.CHECK_FAILED,
    CrashError: ProblemKind.PLANNING_FAILED,
    UnknownDeviceError: ProblemKind.NOT_FOUND,
    ConflictError: ProblemKind.CONFLICT,
    FullAccountError: ProblemKind.ACCOUNT_FULL,
    TooManyTasksError: ProblemKind.TOO_MANY_TASKS,
    KeyReusedError: ProblemKind.KEY_REUSED,
    LostBlobError: ProblemKind.FILE_LOST,
    UnreachableError: ProblemKind.STORE_AWAY,
    ProcessError: ProblemKind.PLANNING_ENDED,
    StoppedError: ProblemKind.SHUTTING_DOWN,
    OvertimeError: ProblemKind.OVERTIME,
    TooLargeError: ProblemKind.TOO_LARGE,
    NoRoomError: ProblemKind.STORE_FULL,
    # No client is left to read the answer; it only ends the request.
    ClientDisconnect: ProblemKind.MALFORMED_REQUEST,
}

_PROGRAMS: Final = frozenset(("/plan", "/check", "/inputs"))
"""Where a body is a program."""
_QUERIES: Final[dict[str, type[BaseModel]]] = {
    "/plan": PlanQuery,
    "/check": CheckQuery,
    "/plans": PlansQuery,
    "/": OverviewQuery,
    "/calibrate": CalibrateQuery,
}


@dataclass(frozen=True, slots=True)
class Settings:
    """How the service runs.

    Plans are kept in ``data_dir``, or without one for as long as the service runs; their figures
    in the database at ``database_url``, their files in the S3-compatible store at ``blobs_url``,
    or without one in ``data_dir`` as well. At most
    ``workers`` programs are planned at once, and each for at most ``plan_seconds``. Of jobs,
    ``job_workers`` more are, each for at most ``job_seconds``. Each may take
    ``plan_memory_bytes``; without a number, most of the machine's memory. Of plans that have to be
    made, at most ``most_pending`` are at a time. The head of a request has to arrive within
    ``head_seconds``, its body within ``body_seconds`` or at a fair rate. With ``warms``, what
    planning needs is imported at the start, not for the first program. Processes go into
    ``jail``; where that is not closed, exported programs are taken from this machine alone, unless
    ``takes_unjailed``. ``allowed_hosts`` are names with a dot that the service goes by.
    ``access`` says who may ask, and ``limits`` for how much unless a token says otherwise.
    Uploads that are on their way, or are planned, have at most ``most_upload_bytes`` in all.
    ``logs`` says how its processes log: those of jobs as well.
    ``reserve_bytes`` of the disk are kept for deleting once it is
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
    blobs_url: str | None = None
    limits: CallerLimits = field(default_factory=CallerLimits)
    most_upload_bytes: int = 16 * 2**30
    logs: LogSettings | None = None


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
                open_store,
                data_dir,
                settings.database_url,
                settings.blobs_url,
                settings.reserve_bytes,
            )
            # Beside the plans: uploads are as large as these, and a small /tmp may be memory.
            scratch = store.reserve.spend(lambda: stack.enter_context(scratch_in(data_dir)))
            is_jailed = settings.jail.is_closed or settings.takes_unjailed
            uploads = Uploads(
                scratch / "uploads",
                store.reserve,
                settings.max_upload_bytes,
                settings.most_upload_bytes,
                is_jailed,
            )
            uploads.root.mkdir()
            app.state.data_dir = data_dir
            app.state.tokens, app.state.audit = Tokens(store.database), AuditLog(data_dir)
            app.state.form_token = await run_in_threadpool(secret_of, store.database)
            secret = await run_in_threadpool(secret_of, store.database, "signatures")
            app.state.signer = Signer(secret)
            planning, metrics = pool or _pool(settings), Metrics()
            queue = app.state.queue = Queue(settings.most_pending)
            callers = Callers(settings.limits, settings.most_pending)
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
                queue,
                callers,
                metrics,
                retention,
            )
            measuring = DeviceService(store, planning, uploads, queue)
            worker = WorkerSettings(
                str(data_dir.absolute()),
                settings.database_url,
                str(uploads.root),
                settings.job_seconds,
                settings.plan_memory_bytes,
                settings.blobs_url,
                settings.logs,
            )
            app.state.uploads, app.state.metrics, app.state.callers = uploads, metrics, callers
            app.state.service, app.state.devices = service, measuring
            app.state.calibrations = CalibrationService(
                measuring.devices, app.state.signer, settings.access.mode != "off"
            )
            background = [asyncio.create_task(service.sweep())]
            try:
                async with serving_jobs(store, settings.job_workers, worker) as jobs:
                    app.state.jobs = jobs
                    if settings.warms:
                        rehearsal = service.rehearse(jobs.started, partial(ask_in_vain, app))
                        background.append(asyncio.create_task(rehearsal))
                    metrics.registry.register(
                        StoreFigures(store, jobs.register, jobs.jobs, data_dir)
                    )
                    yield
            finally:
                await service.close()
                await measuring.close()
                for task in background:
                    task.cancel()
                await asyncio.wait(background)
                await run_in_threadpool(uploads.close)
                await run_in_threadpool(store.close)
                app.state.audit.close()

    app = FastAPI(
        title="Layout Planner",
        summary="Plans tensor layouts for ExecuTorch's Vulkan delegate: optimal, proven, checked.",
        description="A `.pt2` file is vetted before torch reads it, and refused if it could run "
        "code. Every program is planned in a jail, by a process that has seen no other caller's.",
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
    app.include_router(calibrations.router)
    app.include_router(health.router)
    app.include_router(problems.router)
    app.add_middleware(BodyLimit, programs=_PROGRAMS, seconds=settings.body_seconds)
    app.add_middleware(ShedLoad)
    app.add_middleware(LimitRequests)
    app.add_middleware(AccessControl, rules=settings.access)
    app.add_middleware(Audited)
    app.add_middleware(OriginCheck, allowed_hosts=settings.allowed_hosts)
    app.add_middleware(CountRequests)
    install_dashboard(app, lambda: app.state.service.store)
    app.add_middleware(RequestIds)
    answer_errors(app, _KINDS, _QUERIES, error_page)
    return app
