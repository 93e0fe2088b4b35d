"""The HTTP service: programs come in, planned programs go out."""

from __future__ import annotations

import asyncio
import hashlib
import re
import signal
import socket
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from math import isinf
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final, Literal, get_args

import fastapi
import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from uvicorn.server import HANDLED_SIGNALS

import planner
from api.dashboard.install import install, problem
from api.dashboard.query import OverviewQuery
from api.http.jobs import router as jobs_router
from api.http.problems import Problem, problems
from api.jobs.service import JobService, serving_jobs
from api.jobs.tasks import Tasks
from api.planning.process import CrashedJobError, Job, OvertimeError, WorkerError, Workers
from api.store.database import UnreachableError
from api.store.files import PlanFiles
from api.store.plans import PlanFilter, PlanStore, Sort, open_store, plan_id
from api.store.tables import Plan
from api.wording import HTTP
from planner.costs.model import Objective
from planner.costs.profile_file import builtin_names, load_profile
from planner.errors import InputError, OptionError, PlannerError, VerificationError
from planner.files.kinds import check_plannable
from planner.ir.representation import FLOAT_LAYOUTS, QUANTIZED_LAYOUTS
from planner.options import PlanOptions, make_options

_BINARY: Final = "application/octet-stream"
_DEFAULT_NAME: Final = "upload.pt2"
_EXAMPLE_ID: Final = "0f3a5c7e9b1d2f4a6c8e0b1d3f5a7c9e"
_SHUTDOWN_SECONDS: Final = 10
_SWEEP_SECONDS: Final = 3600
_CLAIM_SECONDS: Final = 0.2
_PROGRESS_ID: Final = "^[0-9a-f]{32}$"
_MAX_PAGE: Final = 500

# The most particular class counts. A refusal of what was asked is the client's to mend.
_STATUS: Final[dict[type[Exception], int]] = {
    PlannerError: 422,
    VerificationError: 500,
    CrashedJobError: 500,
    UnreachableError: 503,
    WorkerError: 503,
    OvertimeError: 504,
    # Nobody is left to read the answer; it only ends the request.
    ClientDisconnect: 400,
}


@dataclass(frozen=True, slots=True)
class Settings:
    """How the service runs.

    Plans are kept in ``data_dir``, or without one for as long as the service runs; what they say,
    in the database at ``database_url``, or without one in ``data_dir``, too. At most ``workers``
    programs are planned at once, and each for at most ``plan_seconds``. Of a job, ``job_workers``
    more do so, each program for at most ``job_seconds``.
    """

    data_dir: Path | None = None
    database_url: str | None = None
    workers: int = 1
    max_upload_bytes: int = 2 * 2**30
    plan_seconds: float = 1800
    job_workers: int = 0
    job_seconds: float = 600


class PlanService:
    """Plans uploaded programs, and the same request only once."""

    def __init__(
        self,
        store: PlanStore,
        workers: Workers,
        folder: Path,
        max_upload_bytes: int,
        plan_seconds: float,
    ) -> None:
        self.store = store
        self.max_upload_bytes = max_upload_bytes
        self._workers = workers
        self._tasks = Tasks(store)
        self._plan_seconds = plan_seconds
        self._is_stopped = False
        self._folder = folder
        self._pending: dict[str, asyncio.Task[Plan]] = {}
        self._stages: dict[str, str] = {}  # by plan
        self._followed: dict[str, str] = {}  # plans by the numbers that clients follow them by

    async def plan(
        self,
        body: AsyncIterator[bytes],
        name: str,
        options: PlanOptions,
        progress_id: str | None = None,
    ) -> Plan:
        """The plan for a program that comes in chunks. ``stage`` tells how far it is.

        Raises ``HTTPException`` for a body that is too large or no program.
        """
        with ExitStack() as scratch:
            folder = Path(scratch.enter_context(TemporaryDirectory(dir=self._folder)))
            source = folder / "source.pt2"
            sha256 = await self._receive(body, source)
            await run_in_threadpool(_check_body, source, name)
            id_ = plan_id(sha256, options)
            if id_ not in self._pending:
                job = Job(source, name, options, PlanFiles.within(folder))
                # The task takes the folder over: the client that asked first may go away while
                # others wait for the same plan.
                task = asyncio.create_task(self._solve(id_, job, scratch.pop_all()))
                task.add_done_callback(_mark_retrieved)
                self._pending[id_] = task
                self._stages[id_] = "waiting"
        if progress_id is not None:
            self._followed[progress_id] = id_
        try:
            return await asyncio.shield(self._pending[id_])
        finally:
            if progress_id is not None:
                self._followed.pop(progress_id, None)

    def stage(self, progress_id: str) -> str | None:
        """How far a plan is that somebody waits for; None if nobody does by this number."""
        plan_id = self._followed.get(progress_id)
        return None if plan_id is None else self._stages.get(plan_id)

    def stop(self) -> None:
        """Stops all planning, now and to come; the requests that wait for it are told so."""
        self._is_stopped = True
        self._workers.stop()

    async def close(self) -> None:
        """Stops, and returns once no plan is pending any more."""
        self.stop()
        await asyncio.gather(*self._pending.values(), return_exceptions=True)

    async def _receive(self, body: AsyncIterator[bytes], path: Path) -> str:
        """Writes a body to a file; returns its SHA-256."""
        size, digest = 0, hashlib.sha256()
        with path.open("wb") as file:

            def write(chunk: bytes) -> None:
                digest.update(chunk)
                file.write(chunk)

            async for chunk in body:
                size += len(chunk)
                _check_size(size, self.max_upload_bytes)
                await run_in_threadpool(write, chunk)
        return digest.hexdigest()

    async def sweep(self) -> None:
        """Frees the space of plans that were deleted, now and every hour; to be cancelled."""
        while True:
            sweeping = asyncio.ensure_future(run_in_threadpool(self.store.sweep))
            try:
                await asyncio.shield(sweeping)
            except asyncio.CancelledError:
                # Its thread goes on: nobody may take its folder away meanwhile.
                await asyncio.wait([sweeping])
                raise
            except Exception:
                # What could not be deleted now can be later: the service goes on.
                traceback.print_exc()
            await asyncio.sleep(_SWEEP_SECONDS)

    async def _solve(self, id_: str, job: Job, scratch: ExitStack) -> Plan:
        with scratch:
            try:
                plan = await run_in_threadpool(self.store.get, id_)
                if plan is None:
                    async with self._alone(id_):
                        plan = await run_in_threadpool(self.store.get, id_)
                        if plan is None:
                            plan = await self._make(id_, job)
                return plan
            finally:
                del self._pending[id_]
                self._stages.pop(id_, None)

    async def _make(self, id_: str, job: Job) -> Plan:
        await self._workers.run(job, partial(self._stages.__setitem__, id_))
        return await run_in_threadpool(self.store.put, id_, job.files, job.source, job.options)

    @asynccontextmanager
    async def _alone(self, id_: str) -> AsyncIterator[None]:
        """Waits until nobody else makes a plan, be it another server or a worker of a job.

        But not for ever: whoever it is may be stuck, and to make a plan twice does no harm.
        """
        claims, end = self.store.claims, time.monotonic() + self._plan_seconds
        is_ours = False
        while time.monotonic() < end and not self._is_stopped:
            # Nothing is claimed while a worker is at it, which waits for claims itself.
            is_running = await run_in_threadpool(self._tasks.is_running, id_)
            is_ours = not is_running and claims.take(id_)
            if is_ours:
                break
            await asyncio.sleep(_CLAIM_SECONDS)
        try:
            yield
        finally:
            if is_ours:
                claims.release(id_)


class PlanQuery(BaseModel):
    """How to plan, from the query of a URL."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    profile: str = Field(
        "default",
        description="The built-in device profile that prices transitions and accesses.",
        json_schema_extra={"enum": list(builtin_names())},
    )
    objective: str = Field(
        "repack",
        description="What to minimise: the cost of the transitions alone, or of the accesses too.",
        json_schema_extra={"enum": list(get_args(Objective))},
    )
    texture_limits: str | None = Field(
        None,
        description="Largest image extents of the device in texels, as `X,Y,Z`; left out, those "
        "that ExecuTorch lowers with.",
        examples=["2048,2048,2048"],
    )
    buffer_limit: int | None = Field(
        None,
        description="Fewest elements that are too many for a buffer of the device; left out, no "
        "limit.",
        examples=[2**27],
    )
    without_layout: list[
        Annotated[
            str,
            Field(json_schema_extra={"enum": [x.name for x in FLOAT_LAYOUTS + QUANTIZED_LAYOUTS]}),
        ]
    ] = Field(
        [],
        description="A memory layout that the plan must not use; may be given several times.",
        examples=[["TENSOR_HEIGHT_PACKED"]],
    )
    name: str = Field(
        _DEFAULT_NAME,
        description="The name of the file, for messages and for the name of the answer's file.",
        examples=["mobilenet_v2.pt2"],
    )

    def options(self) -> PlanOptions:
        """The options asked for; raises ``OptionError``."""
        # A name that is not built in would be taken for the path of a file of this machine.
        if self.profile not in builtin_names():
            raise OptionError(
                f"unknown profile {self.profile!r}: use one of {', '.join(builtin_names())}"
            )
        return make_options(
            self.profile,
            self.objective,
            self.texture_limits,
            self.without_layout,
            self.buffer_limit,
        )

    def file_name(self) -> str:
        """The name without folders or characters that do not print; never empty."""
        base = re.split(r"[/\\]", self.name)[-1]
        printable = "".join(c for c in base if c.isprintable()).strip()[:200]
        return printable if printable.strip(".") else _DEFAULT_NAME


class Health(BaseModel):
    """That the service runs, and its version."""

    status: str = Field(examples=["ok"])
    version: str = Field(examples=["0.1.0"])


class Progress(BaseModel):
    """How far a plan is."""

    stage: str | None = Field(
        description="`waiting` for a process, `loading`, `lowering`, `planning`, how many "
        "delegates are planned, or `writing`; null if no request of this number waits for a plan.",
        examples=["lowering"],
    )


class Profile(BaseModel):
    """A built-in device profile."""

    name: str = Field(examples=["default"])
    description: str


def _utc(time: datetime) -> datetime:
    """A point in time in UTC; without a zone it is in UTC already."""
    try:
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError:
        raise ValueError("there is no such time in UTC") from None


Time = Annotated[datetime, AfterValidator(_utc)]
# PostgreSQL takes no text with a NUL in it.
Part = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]


class PlansQuery(BaseModel):
    """Which plans to list, and in which order, from the query of a URL."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Part | None = Field(
        None,
        description="A part of the program's file name, in upper or lower case.",
        examples=["mobilenet"],
    )
    profile: Part | None = Field(
        None, description="The name of the device profile.", examples=["bytes"]
    )
    objective: Objective | None = Field(None, description="What was minimised.")
    status: Literal["OPTIMAL", "FEASIBLE"] | None = Field(
        None, description="`OPTIMAL` if no plan costs less; `FEASIBLE` if that is not proven."
    )
    min_ratio: float | None = Field(
        None,
        allow_inf_nan=False,
        description="Least ratio of the baseline's repack cost to the plan's.",
        examples=[1.5],
    )
    max_ratio: float | None = Field(
        None,
        allow_inf_nan=False,
        description="Largest ratio of the baseline's repack cost to the plan's.",
        examples=[10],
    )
    created_after: Time | None = Field(
        None,
        description="Plans made then or later; a time without a zone is UTC.",
        examples=["2026-01-31T00:00:00Z"],
    )
    created_before: Time | None = Field(
        None,
        description="Plans made earlier; a time without a zone is UTC.",
        examples=["2026-02-01T00:00:00Z"],
    )
    sort: Sort = Field("created", description="What to sort by.")
    order: Literal["asc", "desc"] = Field("desc", description="Smallest or largest first.")
    limit: int = Field(50, ge=1, le=_MAX_PAGE, description="How many plans at most.")
    offset: int = Field(0, ge=0, lt=2**63, description="How many plans of the list to leave out.")

    def filter(self) -> PlanFilter:
        """Which plans to list."""
        return PlanFilter(
            self.name,
            self.profile,
            self.objective,
            self.status,
            self.min_ratio,
            self.max_ratio,
            self.created_after,
            self.created_before,
        )


_QUERIES: Final[dict[str, type[BaseModel]]] = {
    "/plan": PlanQuery,
    "/plans": PlansQuery,
    "/": OverviewQuery,
}
"""The queries that paths take."""


class PlanSummary(BaseModel):
    """A plan in a list. Costs are in `unit`.

    The baseline is ExecuTorch's own pass; for a program that came lowered, its own layouts.
    """

    model_config = ConfigDict(from_attributes=True)

    id: str = Field(examples=[_EXAMPLE_ID], description="As in `/plans/{id}`.")
    created: datetime = Field(description="When the plan was made, in UTC.")
    name: str = Field(
        validation_alias="source_name",
        description="The program's file name.",
        examples=["mobilenet_v2.pt2"],
    )
    source_sha256: str = Field(description="SHA-256 of the program, in hexadecimal.")
    kind: str = Field(description="`pt2`, `pte` or `vkgraph`.", examples=["pt2"])
    profile: str = Field(validation_alias="profile_name", examples=["bytes"])
    profile_hash: str = Field(description="SHA-256 of the device profile, in hexadecimal.")
    costs: str = Field(
        validation_alias="costs_name",
        description="What the costs are called: the profile, or the device that was measured.",
        examples=["bytes"],
    )
    objective: str = Field(description="What was minimised.", examples=["repack"])
    unit: str = Field(description="`bytes` or `ns`.", examples=["bytes"])
    texture_limits: list[int] = Field(
        description="Largest image extents in texels.", examples=[[16384, 16384, 2048]]
    )
    buffer_limit: int | None = Field(
        description="Fewest elements that are too many for a buffer; null for no limit."
    )
    excluded_layouts: list[str] = Field(description="Layouts that the plan must not use.")
    status: str = Field(description="`OPTIMAL` or `FEASIBLE`.", examples=["OPTIMAL"])
    bound: float = Field(description="No plan has a lower objective cost.")
    repack_cost: float
    baseline_repack_cost: float
    saved_cost: float = Field(description="The baseline's repack cost less the plan's.")
    ratio: float | None = Field(
        description="The baseline's repack cost over the plan's; null where only the plan's is 0, "
        "which sorts as the largest."
    )
    objective_cost: float = Field(description="Cost of what was minimised.")
    baseline_objective_cost: float
    objective_ratio: float | None = Field(
        description="The baseline's objective cost over the plan's; null where only the plan's is "
        "0."
    )
    transitions: int
    baseline_transitions: int
    operators: int
    delegates: int = Field(description="Vulkan delegates of the program.")
    has_program: bool = Field(description="Whether there is a `program.pte`.")
    plan_seconds: float = Field(description="How long solving took.")
    planner_version: str = Field(examples=["0.1.0"])

    @field_validator("ratio", "objective_ratio", mode="before")
    @classmethod
    def _finite(cls, value: float) -> float | None:
        return None if isinf(value) else value


class PlanList(BaseModel):
    """A page of plans."""

    total: int = Field(description="How many plans pass the filters, on all pages.")
    plans: list[PlanSummary]


def _service(request: Request) -> PlanService:
    service: PlanService = request.app.state.service
    return service


Service = Annotated[PlanService, Depends(_service)]
PlanId = Annotated[
    str,
    fastapi.Path(
        description="The id of a plan: the last part of the `Location` that `POST /plan` gave.",
        examples=[_EXAMPLE_ID],
        # Only described: what does not match is the id of no plan, as others that do.
        json_schema_extra={"pattern": "^[0-9a-f]{32}$"},
    ),
]


def _binary(description: str, headers: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """An answer that is a file, for OpenAPI; headers are given by description and example."""
    return {
        "description": description,
        "content": {_BINARY: {"schema": {"type": "string", "format": "binary"}}},
        "headers": {
            name: {"description": text, "schema": {"type": "string"}, "example": example}
            for name, (text, example) in headers.items()
        },
    }


_DISPOSITION: Final = "Content-Disposition"
_RANGES: Final[dict[int | str, dict[str, Any]]] = {
    206: {"description": "The part that the request's `Range` names."},
    416: {"description": "The file ends before the request's `Range` begins."},
}
_NO_PLAN: Final = problems(status_404="No plan has this id.")

router = APIRouter()


@router.post(
    "/plan",
    summary="Plan a program",
    response_class=FileResponse,
    responses={
        200: _binary(
            "The planned program: a flatbuffer as `plan.fbs` describes it.",
            {
                "Location": ("Path of the plan's report.", f"/plans/{_EXAMPLE_ID}"),
                _DISPOSITION: (
                    "The name of the answer's file.",
                    'attachment; filename="mobilenet_v2.plan"',
                ),
            },
        ),
        **problems(
            status_400="The body is no `.pt2` file.",
            status_413="The body is larger than this service takes.",
            status_422="An option is wrong, the program cannot be lowered, holds nothing that the "
            "Vulkan delegate supports, or has an operator that the options leave without "
            "representation.",
            status_500="The plan failed the check that every plan must pass, or planning failed.",
            status_503="The process that planned ended, or the service shuts down.",
            status_504="Planning took longer than this service allows.",
        ),
    },
    openapi_extra={
        "requestBody": {
            "description": "A file that `torch.export.save` wrote, as it is. The content type is "
            "not looked at.",
            "required": True,
            "content": {
                media_type: {"schema": {"type": "string", "format": "binary"}}
                for media_type in (_BINARY, "application/zip")
            },
        }
    },
)
async def post_plan(
    request: Request,
    service: Service,
    query: Annotated[PlanQuery, Query()],
    progress_id: Annotated[
        str | None,
        Header(
            pattern=_PROGRESS_ID,
            description="32 hexadecimal digits of your own, drawn at random: as long as the "
            "request is not answered, `GET /progress/{id}` tells how far it is.",
        ),
    ] = None,
) -> FileResponse:
    """Lowers a `.pt2` file for ExecuTorch's Vulkan delegate and plans the layout of every tensor.

    The answer comes when the plan is found and checked: in seconds to minutes. A request that was
    answered before is answered from store, by the same id.
    """
    options, name = query.options(), query.file_name()
    announced = request.headers.get("content-length", "")
    if announced.isdecimal():
        _check_size(int(announced), service.max_upload_bytes)
    plan = await service.plan(request.stream(), name, options, progress_id)
    return FileResponse(
        service.store.path(plan.graph_sha256),
        media_type=_BINARY,
        filename=f"{PurePath(name).stem}.plan",
        headers={"Location": f"/plans/{plan.id}"},
    )


@router.get("/progress/{progress_id}", summary="Ask how far a plan is")
async def get_progress(
    service: Service,
    progress_id: Annotated[
        str, fastapi.Path(description="The `Progress-Id` of a request to `POST /plan`.")
    ],
) -> Progress:
    """Answers at once, whatever is being planned."""
    return Progress(stage=service.stage(progress_id))


@router.get(
    "/plans",
    summary="List plans",
    responses=problems(status_422="A query parameter is wrong."),
)
def get_plans(service: Service, query: Annotated[PlansQuery, Query()]) -> PlanList:
    """The plans in store that pass every filter, a page at a time."""
    page = service.store.page(
        query.filter(),
        query.sort,
        descending=query.order == "desc",
        limit=query.limit,
        offset=query.offset,
    )
    return PlanList(
        total=page.total, plans=[PlanSummary.model_validate(plan) for plan in page.plans]
    )


@router.delete(
    "/plans/{plan_id}",
    summary="Delete a plan",
    status_code=204,
    responses={204: {"description": "The plan was deleted."}, **_NO_PLAN},
)
def delete_plan(service: Service, plan_id: PlanId) -> None:
    """Deletes a plan with its files. The same request to `POST /plan` plans again."""
    if not service.store.delete(plan_id):
        raise _no_plan(plan_id)


@router.get(
    "/plans/{plan_id}",
    summary="Read a plan's report",
    response_class=FileResponse,
    responses={
        200: {
            "description": "What was planned and what it costs, in total and by delegate.",
            "content": {"application/json": {"schema": {"type": "object"}}},
        },
        **_RANGES,
        **_NO_PLAN,
    },
)
def get_report(service: Service, plan_id: PlanId) -> FileResponse:
    """The figures of a plan, beside those of ExecuTorch's own pass, and every transition."""
    report = service.store.path(_plan(service, plan_id).report_sha256)
    return FileResponse(report, media_type="application/json")


@router.get(
    "/plans/{plan_id}/graph",
    summary="Download a planned program",
    response_class=FileResponse,
    responses={
        200: _binary(
            "The flatbuffer that `POST /plan` answered with.",
            {
                _DISPOSITION: (
                    "The name of the file: the plan's id.",
                    f'attachment; filename="{_EXAMPLE_ID}.plan"',
                )
            },
        ),
        **_RANGES,
        **_NO_PLAN,
    },
)
def get_graph(service: Service, plan_id: PlanId) -> FileResponse:
    """The planned program as a flatbuffer."""
    graph = service.store.path(_plan(service, plan_id).graph_sha256)
    return _download(graph, f"{plan_id}.plan")


@router.get(
    "/plans/{plan_id}/program.pte",
    summary="Download a program for ExecuTorch's runtime",
    response_class=FileResponse,
    responses={
        200: _binary(
            "The program with the planned layouts, as a `.pte` file.",
            {
                _DISPOSITION: (
                    "The name of the file: the plan's id.",
                    f'attachment; filename="{_EXAMPLE_ID}.pte"',
                )
            },
        ),
        **_RANGES,
        **_NO_PLAN,
    },
)
def get_program(service: Service, plan_id: PlanId) -> FileResponse:
    """The planned program as ExecuTorch's runtime loads it."""
    program_sha256 = _plan(service, plan_id).program_sha256
    if program_sha256 is None:
        raise HTTPException(
            404, f"plan {plan_id!r} is of a VkGraph alone: /plans/{plan_id}/graph holds it"
        )
    return _download(service.store.path(program_sha256), f"{plan_id}.pte")


@router.get("/profiles", summary="List the device profiles")
def get_profiles() -> list[Profile]:
    """The built-in device profiles, by the names that `POST /plan` takes."""
    return [
        Profile(name=name, description=load_profile(name).description) for name in builtin_names()
    ]


@router.get("/health", summary="Ask whether the service runs")
async def get_health() -> Health:
    """Answers at once, whatever is being planned."""
    return Health(status="ok", version=planner.__version__)


def create_app(settings: Settings = Settings()) -> FastAPI:
    """The service as an ASGI application; its worker processes live as long as its lifespan.

    Its lifespan raises ``OptionError`` at the start if plans cannot be kept where they should be.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with TemporaryDirectory(prefix="layout-planner-") as folder:
            uploads = Path(folder) / "uploads"
            uploads.mkdir()
            data_dir = settings.data_dir or Path(folder) / "data"
            store = await run_in_threadpool(open_store, data_dir, settings.database_url)
            workers = Workers(settings.workers, settings.plan_seconds)
            service = PlanService(
                store, workers, uploads, settings.max_upload_bytes, settings.plan_seconds
            )
            app.state.service = service
            sweeping = asyncio.create_task(service.sweep())
            try:
                async with serving_jobs(
                    store,
                    settings.job_workers,
                    data_dir,
                    settings.database_url,
                    uploads,
                    settings.max_upload_bytes,
                    settings.job_seconds,
                ) as app.state.jobs:
                    yield
            finally:
                await service.close()
                sweeping.cancel()
                await asyncio.wait([sweeping])
                await run_in_threadpool(store.close)

    app = FastAPI(
        title="Layout Planner",
        summary="Plans tensor layouts for ExecuTorch's Vulkan delegate: optimal, proven, checked.",
        description="Loading a `.pt2` file can run code that was put into it: offer this service "
        "only to those who may run code on its machine.",
        version=planner.__version__,
        lifespan=lifespan,
        redirect_slashes=False,
        # These would load their scripts from another host: the dashboard has a page of its own.
        docs_url=None,
        redoc_url=None,
        responses={"default": {"model": Problem, "description": "Anything else that failed."}},
    )
    app.include_router(router)
    app.include_router(jobs_router)
    install(app)
    for kind in _STATUS:
        app.add_exception_handler(kind, _answer)
    app.add_exception_handler(RequestValidationError, _answer_query)
    app.add_exception_handler(Exception, _answer_bug)
    return app


def serve(host: str, port: int, settings: Settings) -> None:
    """Serves until SIGINT or SIGTERM; prints the address once it listens (a free port for 0).

    To be called in the main thread. Raises ``OptionError`` if plans cannot be kept where they
    should be.
    """
    if settings.data_dir is not None:
        # Told before anything listens, and as an error of this function, not of the application.
        open_store(settings.data_dir, settings.database_url).close()
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    _Server(config, app).run()


class _Server(uvicorn.Server):
    """A server that says where it listens, and does not wait for plans when it is to end."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
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


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise HTTPException(413, f"the file is larger than the {limit} bytes that are taken here")


def _check_body(path: Path, name: str) -> None:
    try:
        with path.open("rb") as file:
            check_plannable(file, name)
    except InputError as error:
        raise HTTPException(400, error.worded(HTTP)) from None


def _mark_retrieved(task: asyncio.Task[Plan]) -> None:
    """Keeps asyncio from logging an error for which no client waits any more."""
    if not task.cancelled():
        task.exception()


def _plan(service: PlanService, plan_id: str) -> Plan:
    plan = service.store.get(plan_id)
    if plan is None:
        raise _no_plan(plan_id)
    return plan


def _no_plan(plan_id: str) -> HTTPException:
    return HTTPException(
        404, f"there is no plan {plan_id!r}: ids come in the Location that POST /plan gives"
    )


def _download(path: Path, name: str) -> FileResponse:
    return FileResponse(path, media_type=_BINARY, filename=name)


async def _answer(request: Request, error: Exception) -> Response:
    kind = next(kind for kind in type(error).__mro__ if kind in _STATUS)
    detail = error.worded(HTTP) if isinstance(error, PlannerError) else str(error)
    return problem(request, _STATUS[kind], detail)


async def _answer_query(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    query = _QUERIES.get(request.url.path)
    known = f" (there are {', '.join(query.model_fields)})" if query else ""
    where = "query parameter" if first["loc"][0] == "query" else "field"
    detail = f"{where} {first['loc'][-1]!r}: {first['msg']}{known}"
    return problem(request, 422, detail)


async def _answer_bug(request: Request, error: Exception) -> Response:
    return problem(request, 500, "the service failed: its log says why")
