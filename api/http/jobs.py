"""Jobs over HTTP."""

from __future__ import annotations

import csv
import io
import json
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from math import isinf
from typing import Annotated, Any, Final

import fastapi
from fastapi import APIRouter, BackgroundTasks, Depends, HTTPException, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.concurrency import run_in_threadpool

from api.http.problems import problems
from api.jobs.jobs import ItemStatus, JobStatus
from api.jobs.matrix import MAX_ITEMS, Input, Matrix, read_profile
from api.jobs.service import JobService
from api.store.database import UnreachableError
from api.store.tables import State

_EXAMPLE_ID: Final = "5d2c41a0b93e4f6d8a7c1e0f2b3d4c5a"
_EXAMPLE_SHA: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

# PostgreSQL takes no text with a NUL in it; and names are printed.
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]


class UploadedInput(BaseModel):
    """The bytes of an input, which are kept for an hour, and as long as a job has them."""

    sha256: str = Field(examples=[_EXAMPLE_SHA])
    size: int = Field(description="In bytes.")


class JobInput(BaseModel):
    """A program of a job."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name = Field(description="What to call it.", examples=["models/mobilenet_v2.pte"])
    sha256: str = Field(
        pattern=r"^[0-9a-f]{64}$",
        description="As `POST /inputs` answered.",
        examples=[_EXAMPLE_SHA],
    )


class JobRequest(BaseModel):
    """Many inputs, and options to plan each of them with, in every combination."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name = Field("job", description="What to call the job.", examples=["nightly"])
    inputs: list[JobInput] = Field(min_length=1, max_length=MAX_ITEMS)
    profiles: list[str | dict[str, Any]] = Field(
        ["default"],
        min_length=1,
        max_length=100,
        description="Names of built-in profiles, or documents of others.",
    )
    objectives: list[str] = Field(["repack"], min_length=1, max_length=2)
    texture_limits: list[str | None] = Field(
        [None],
        min_length=1,
        max_length=100,
        description="Largest image extents, each as `X,Y,Z`; null for those of the program.",
    )
    buffer_limits: list[int | None] = Field(
        [None],
        min_length=1,
        max_length=100,
        description="Fewest elements that are too many for a buffer; null for no limit.",
    )
    without_layouts: list[list[str]] = Field(
        [[]], min_length=1, max_length=100, description="Sets of layouts that plans must not use."
    )

    def matrix(self) -> Matrix:
        """The options in every combination; raises ``OptionError``."""
        return Matrix(
            tuple(read_profile(profile) for profile in self.profiles),
            tuple(self.objectives),
            tuple(self.texture_limits),
            tuple(self.buffer_limits),
            tuple(map(tuple, self.without_layouts)),
        )

    def said(self) -> dict[str, Any]:
        """What was asked for, without the inputs; of a profile its name."""
        names = [read_profile(profile).name for profile in self.profiles]
        return self.model_dump(exclude={"inputs", "profiles"}) | {"profiles": names}


class JobSummary(BaseModel):
    """A job, and how far it is."""

    id: str = Field(examples=[_EXAMPLE_ID])
    name: str
    created: datetime
    cancelled: datetime | None = Field(description="When it was cancelled, if it was.")
    is_finished: bool = Field(description="Whether nothing is left to do.")
    total: int = Field(description="How many items it has.")
    counts: dict[State, int] = Field(description="How many of its items are in each state.")
    request: dict[str, Any] = Field(description="What was asked for, without the inputs.")

    @classmethod
    def of(cls, job: JobStatus) -> JobSummary:
        """The job as it is told."""
        return cls(
            id=job.id,
            name=job.name,
            created=job.created,
            cancelled=job.cancelled,
            is_finished=job.is_finished,
            total=job.total,
            counts=job.counts,
            request=job.request,
        )


class JobList(BaseModel):
    """A page of jobs, the newest first."""

    total: int
    jobs: list[JobSummary]


class ItemOptions(BaseModel):
    """How an item is planned."""

    profile: str
    profile_hash: str
    objective: str
    texture_limits: list[int] | None
    buffer_limit: int | None
    without_layouts: list[str]


class ItemResult(BaseModel):
    """What came of an item. Costs are in `unit`."""

    model_config = ConfigDict(from_attributes=True)

    status: str = Field(description="`OPTIMAL` or `FEASIBLE`.")
    unit: str
    bound: float
    repack_cost: float
    baseline_repack_cost: float
    ratio: float | None = Field(description="Baseline over plan; null where only the plan's is 0.")
    objective_cost: float
    baseline_objective_cost: float
    objective_ratio: float | None
    transitions: int
    baseline_transitions: int
    operators: int
    plan_seconds: float

    @field_validator("ratio", "objective_ratio", mode="before")
    @classmethod
    def _finite(cls, value: float) -> float | None:
        return None if isinf(value) else value


class JobItem(BaseModel):
    """An input of a job with options."""

    number: int = Field(description="Its place in the job, from 0.")
    input: str
    input_sha256: str
    options: ItemOptions
    state: State
    attempts: int = Field(description="How often it was begun.")
    error: str | None = Field(description="Why it failed.")
    plan_id: str | None = Field(description="The plan at `/plans/{id}`, once it is done.")
    worker: str | None = Field(description="Who began it last.")
    queued: datetime | None
    started: datetime | None
    finished: datetime | None
    result: ItemResult | None

    @classmethod
    def of(cls, item: ItemStatus) -> JobItem:
        """The item as it is told."""
        task, plan = item.task, item.plan
        return cls(
            number=item.number,
            input=item.input_name,
            input_sha256=task.input_sha256,
            options=ItemOptions(**item.options),
            state=item.state,
            attempts=task.attempts,
            error=task.error,
            plan_id=None if plan is None else plan.id,
            worker=task.executor_id,
            queued=task.queued,
            started=task.started,
            finished=task.finished,
            result=None if plan is None else ItemResult.model_validate(plan),
        )


class JobDetail(JobSummary):
    """A job with its items."""

    items: list[JobItem]


class JobResults(BaseModel):
    """All items of a job."""

    job: JobSummary
    items: list[JobItem]


class Changed(BaseModel):
    """How many tasks are to be stopped, or were queued again."""

    tasks: int


class WorkerSummary(BaseModel):
    """A worker that is alive."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    host: str
    pid: int
    version: str = Field(description="The planner's.")
    started: datetime


class ItemChange(BaseModel):
    """An item whose state is new, in an event."""

    number: int
    state: State
    attempts: int


def _service(request: Request) -> JobService:
    service: JobService = request.app.state.jobs
    return service


def _job(
    service: Annotated[JobService, Depends(_service)],
    job_id: Annotated[str, fastapi.Path(description="The id of a job.", examples=[_EXAMPLE_ID])],
) -> JobStatus:
    job = service.jobs.get(job_id) if re.fullmatch("[0-9a-f]{32}", job_id) else None
    if job is None:
        raise HTTPException(404, f"there is no job {job_id!r}: GET /jobs lists those there are")
    return job


Service = Annotated[JobService, Depends(_service)]
FoundJob = Annotated[JobStatus, Depends(_job)]

_NO_JOB: Final = problems(status_404="No job has this id.", status_422="The id is wrong.")
_WRONG: Final = problems(status_422="A query parameter is wrong.")

router = APIRouter(tags=["jobs"])


@router.post(
    "/inputs",
    summary="Upload an input of a job",
    status_code=201,
    responses=problems(status_413="The body is larger than this service takes."),
    openapi_extra={
        "requestBody": {
            "description": "A `.pt2`, a `.pte` or a VkGraph, as it is.",
            "required": True,
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
            },
        }
    },
)
async def post_input(request: Request, service: Service) -> UploadedInput:
    """Keeps a program for jobs that name it by its SHA-256. It is not looked into yet."""
    path = service.uploads / f"input-{uuid.uuid4().hex}"
    size = 0
    try:
        with path.open("wb") as file:
            async for chunk in request.stream():
                size += len(chunk)
                if size > service.max_upload_bytes:
                    raise HTTPException(
                        413,
                        f"the file is larger than the {service.max_upload_bytes} bytes that are "
                        "taken here",
                    )
                await run_in_threadpool(file.write, chunk)
        return UploadedInput(
            sha256=await run_in_threadpool(service.store.blobs.put, path), size=size
        )
    finally:
        path.unlink(missing_ok=True)


@router.post(
    "/jobs",
    summary="Submit a job",
    status_code=201,
    responses=problems(status_422="An input was not uploaded, or an option is wrong."),
)
def post_job(
    service: Service, job: JobRequest, response: Response, later: BackgroundTasks
) -> JobSummary:
    """Plans every input with every combination of the options, as soon as workers come to it.

    What is in store already is not planned again, and what other jobs want too only once.
    """
    inputs = [Input(item.name, item.sha256) for item in job.inputs]
    job_id = service.jobs.submit(job.name, inputs, job.matrix().choices(), job.said())
    later.add_task(_start, service, job_id)
    response.headers["Location"] = f"/jobs/{job_id}"
    return JobSummary.of(_job(service, job_id))


@router.get("/jobs", summary="List jobs", responses=_WRONG)
def get_jobs(
    service: Service,
    limit: Annotated[int, Query(ge=1, le=500, description="How many jobs at most.")] = 50,
    offset: Annotated[int, Query(ge=0, lt=2**63, description="How many to leave out.")] = 0,
) -> JobList:
    """The jobs, the newest first."""
    total, jobs = service.jobs.page(limit, offset)
    return JobList(total=total, jobs=[JobSummary.of(job) for job in jobs])


@router.get("/workers", summary="List the workers")
def get_workers(service: Service) -> list[WorkerSummary]:
    """The workers that are alive, on this machine and on others."""
    return [WorkerSummary.model_validate(worker) for worker in service.executors.alive()]


@router.get("/jobs/{job_id}", summary="Read a job", responses=_NO_JOB)
def get_job(
    service: Service,
    job: FoundJob,
    limit: Annotated[int, Query(ge=0, le=MAX_ITEMS, description="How many items.")] = 1000,
    offset: Annotated[int, Query(ge=0, lt=2**63, description="How many to leave out.")] = 0,
) -> JobDetail:
    """How far a job is, and its items in their order."""
    items = service.jobs.items(job, limit, offset)
    return JobDetail(**dict(JobSummary.of(job)), items=[JobItem.of(item) for item in items])


@router.get(
    "/jobs/{job_id}/events",
    summary="Follow a job",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events. `job`: a JobSummary. `items`: a list of "
            "ItemChange, at first of all items. `end`: nothing is left to do.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **_NO_JOB,
    },
)
async def get_events(service: Service, job: FoundJob) -> StreamingResponse:
    """The progress of a job, as it comes, until its end."""
    return StreamingResponse(
        _events(service, job.id),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


@router.post("/jobs/{job_id}/cancel", summary="Cancel a job", responses=_NO_JOB)
def cancel_job(service: Service, job: FoundJob) -> Changed:
    """Stops what is not done yet, unless another job wants it."""
    ids = service.jobs.cancel(job.id)
    service.cancel(ids)
    return Changed(tasks=len(ids))


@router.post("/jobs/{job_id}/retry", summary="Retry a job", responses=_NO_JOB)
def retry_job(service: Service, job: FoundJob, later: BackgroundTasks) -> Changed:
    """Queues the failed and cancelled items of a job again."""
    count = service.jobs.retry(job.id)
    later.add_task(_start, service, job.id)
    return Changed(tasks=count)


@router.delete(
    "/jobs/{job_id}",
    summary="Delete a job",
    status_code=204,
    responses={204: {"description": "The job was deleted."}, **_NO_JOB},
)
def delete_job(service: Service, job: FoundJob) -> None:
    """Stops what is not done yet, unless another job wants it, and forgets the job. Plans stay."""
    service.cancel(service.jobs.delete(job.id))


@router.get("/jobs/{job_id}/results.json", summary="Read all results of a job", responses=_NO_JOB)
def get_results(service: Service, job: FoundJob) -> JobResults:
    """Every item of a job, with what came of it."""
    items = [JobItem.of(item) for item in service.jobs.items(job)]
    return JobResults(job=JobSummary.of(job), items=items)


@router.get(
    "/jobs/{job_id}/results.csv",
    summary="Read all results of a job as a table",
    response_class=StreamingResponse,
    responses={
        200: {"description": "A row for each item.", "content": {"text/csv": {}}},
        **_NO_JOB,
    },
)
def get_table(service: Service, job: FoundJob) -> StreamingResponse:
    """Every item of a job in a row, as CSV."""
    items = [JobItem.of(item) for item in service.jobs.items(job)]
    return StreamingResponse(
        _table(items),
        media_type="text/csv",
        headers={"Content-Disposition": f'attachment; filename="{job.id}.csv"'},
    )


def _start(service: JobService, job_id: str) -> None:
    try:
        service.start(job_id)
    except UnreachableError:
        return  # reconciling starts it when the database answers


async def _events(service: JobService, job_id: str) -> AsyncIterator[str]:
    is_finished = False
    async for progress in service.watches.follow(job_id):
        changes = [
            ItemChange(number=number, state=state, attempts=attempts).model_dump()
            for number, (state, attempts) in progress.items.items()
        ]
        if changes:
            yield f"event: items\ndata: {json.dumps(changes)}\n\n"
        yield f"event: job\ndata: {JobSummary.of(progress.job).model_dump_json()}\n\n"
        is_finished = progress.job.is_finished
    # A listener whose server shuts down is to come again, as browsers do by themselves.
    if is_finished:
        yield "event: end\ndata: {}\n\n"


def _table(items: list[JobItem]) -> Iterator[str]:
    options, results = list(ItemOptions.model_fields), list(ItemResult.model_fields)
    columns = ["number", "input", "input_sha256", *options, "state", "attempts", "error", "plan_id"]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*columns, *results], extrasaction="ignore")
    writer.writeheader()
    for item in items:
        row = item.model_dump(mode="json", exclude={"options", "result"})
        row |= item.options.model_dump() | (item.result.model_dump() if item.result else {})
        lists = {
            key: " ".join(map(str, value)) for key, value in row.items() if type(value) is list
        }
        writer.writerow(row | lists)
        yield text.getvalue()
        text.seek(0)
        text.truncate()
