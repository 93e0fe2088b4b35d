"""Requests about jobs."""

from __future__ import annotations

import csv
import io
import json
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Annotated, Any, Final

import fastapi
from fastapi import APIRouter, BackgroundTasks, Depends, HTTPException, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from api.http.measuring import DeviceService
from api.http.models import (
    EXAMPLE_JOB_ID,
    Changed,
    ItemChange,
    ItemOptions,
    ItemResult,
    JobDetail,
    JobItem,
    JobList,
    JobRequest,
    JobResults,
    JobSummary,
    UploadedInput,
    WorkerSummary,
)
from api.http.problems import problems
from api.http.service import PlanService
from api.http.uploads import PROGRAM_BODY, Uploads
from api.jobs.jobs import JobStatus
from api.jobs.matrix import MAX_ITEMS, Input
from api.jobs.service import JobService
from api.store.database import UnreachableError
from api.store.profiles import find_profile
from api.store.room import NoRoomError


def _service(request: Request) -> JobService:
    service: JobService = request.app.state.jobs
    return service


def _job(
    service: Annotated[JobService, Depends(_service)],
    job_id: Annotated[str, fastapi.Path(description="The id of a job.", examples=[EXAMPLE_JOB_ID])],
) -> JobStatus:
    job = service.jobs.get(job_id) if re.fullmatch("[0-9a-f]{32}", job_id) else None
    if job is None:
        raise HTTPException(404, f"there is no job {job_id!r}: GET /jobs lists those there are")
    return job


Service = Annotated[JobService, Depends(_service)]
FoundJob = Annotated[JobStatus, Depends(_job)]

_NO_JOB: Final = problems(status_404="No job has this id.", status_422="The id is wrong.")
_WRONG: Final = problems(status_422="A query parameter is wrong.")

_FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r")

router = APIRouter(tags=["jobs"])


@router.post(
    "/inputs",
    summary="Upload an input of a job",
    status_code=201,
    responses=problems(
        status_413="The body is larger than this service takes.",
        status_507="There is no room for it on the disk.",
    ),
    openapi_extra={"requestBody": PROGRAM_BODY},
)
async def post_input(request: Request, service: Service) -> UploadedInput:
    """Keeps a program for jobs that name it by its SHA-256. It is not read yet."""
    uploads: Uploads = request.app.state.uploads
    path = uploads.folder / f"input-{uuid.uuid4().hex}"
    try:
        await run_in_threadpool(service.store.reserve.check, "the upload")
        upload = await uploads.receive(request, path)
        plans: PlanService = request.app.state.service
        await run_in_threadpool(plans.retention.make_room, upload.size)
        await run_in_threadpool(service.store.hand_in, path)
        return UploadedInput(sha256=upload.sha256, size=upload.size)
    finally:
        path.unlink(missing_ok=True)


@router.head(
    "/inputs/{sha256}",
    summary="Ask whether an input is there",
    response_class=Response,
    responses={
        200: {"description": "It is there, and stays for long enough to be named in a job."},
        404: {"description": "It is not there, or damaged: upload it."},
    },
)
def head_input(
    service: Service,
    sha256: Annotated[
        str, fastapi.Path(pattern="^[0-9a-f]{64}$", description="The SHA-256 of its bytes.")
    ],
) -> Response:
    """Spares a client from sending what the server has: the answer has no body."""
    store = service.store
    try:
        # Handed in again: it is kept until a job may name it.
        store.hand_in(store.path(sha256))
        return Response(headers={"Content-Length": str(store.blobs.size(sha256))})
    except FileNotFoundError:
        return Response(status_code=404)


@router.post(
    "/jobs",
    summary="Submit a job",
    status_code=201,
    responses=problems(
        status_404="There is no such device.",
        status_422="An input was not uploaded, or an option is wrong.",
        status_507="There is no room for it on the disk.",
    ),
)
def post_job(
    request: Request,
    service: Service,
    job: JobRequest,
    response: Response,
    later: BackgroundTasks,
) -> JobSummary:
    """Plans every input with every combination of the options, as soon as workers come to it.

    What is in store already is not planned again, and what other jobs want too only once.
    """
    inputs = [Input(item.name, item.sha256) for item in job.inputs]
    devices: DeviceService = request.app.state.devices
    matrix = job.matrix(partial(find_profile, service.store), devices.devices.known)
    job_id = service.jobs.submit(job.name, inputs, matrix.choices(), job.summary(matrix))
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
    return [WorkerSummary.model_validate(worker) for worker in service.register.alive()]


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
    except (UnreachableError, NoRoomError):
        return  # reconciling starts it when the database answers, and has room


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


def _cell(value: Any) -> Any:
    """A value as a cell that no spreadsheet takes for a formula."""
    if isinstance(value, list):
        value = " ".join(map(str, value))
    is_formula = isinstance(value, str) and value.startswith(_FORMULAS)
    return f"'{value}" if is_formula else value


def _table(items: list[JobItem]) -> Iterator[str]:
    options, results = list(ItemOptions.model_fields), list(ItemResult.model_fields)
    columns = ["number", "input", "input_sha256", *options, "state", "attempts", "error", "plan_id"]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*columns, *results], extrasaction="ignore")
    writer.writeheader()
    for item in items:
        row = item.model_dump(mode="json", exclude={"options", "result"})
        row |= item.options.model_dump() | (item.result.model_dump() if item.result else {})
        writer.writerow({column: _cell(value) for column, value in row.items()})
        yield text.getvalue()
        text.seek(0)
        text.truncate()
