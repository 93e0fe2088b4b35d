"""Requests about jobs."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Annotated, Any, Final

import fastapi
from fastapi import (
    APIRouter,
    BackgroundTasks,
    Depends,
    Header,
    Query,
    Request,
    Response,
)
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from api.http.callers import Caller, caller_of
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
    JobOpportunities,
    JobRequest,
    JobResults,
    JobSummary,
    UploadedInput,
    WorkerSummary,
)
from api.http.problem_kinds import ProblemKind
from api.http.problems import ProblemError, problems, retry_after
from api.http.service import PlanService
from api.http.uploads import PROGRAM_BODY, Uploads
from api.jobs.jobs import JobStatus
from api.jobs.matrix import MAX_ITEMS, Input
from api.jobs.service import InProgressError, JobService
from api.jobs.submissions import SubmissionKey
from api.store.blobs import LostBlobError
from api.store.database import UnreachableError
from api.store.profiles import find_profile
from api.store.room import NoRoomError
from planner.result.opportunities import Opportunities, rank_found, read_opportunities


async def _service(request: Request) -> JobService:
    service: JobService = request.app.state.jobs
    return service


def _job(
    service: Annotated[JobService, Depends(_service)],
    job_id: Annotated[str, fastapi.Path(description="The id of a job.", examples=[EXAMPLE_JOB_ID])],
) -> JobStatus:
    job = service.jobs.get(job_id) if re.fullmatch("[0-9a-f]{32}", job_id) else None
    if job is None:
        raise ProblemError(
            ProblemKind.NOT_FOUND, f"there is no job {job_id!r}: GET /jobs lists those there are"
        )
    return job


async def _plans(request: Request) -> PlanService:
    plans: PlanService = request.app.state.service
    return plans


Service = Annotated[JobService, Depends(_service)]
Plans = Annotated[PlanService, Depends(_plans)]
FoundJob = Annotated[JobStatus, Depends(_job)]

_NO_JOB: Final = problems(status_404="No job has this id.", status_422="The id is wrong.")
_WRONG: Final = problems(status_422="A query parameter is wrong.")

_MOST_RANKED: Final = 500
"""Plans of a job whose opportunities are ranked: their reports are read for it."""

_KEY: Final = r'^"?[!#-~]{1,200}"?$'
_FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r")

router = APIRouter(tags=["jobs"])


@router.post(
    "/inputs",
    summary="Upload an input of a job",
    status_code=201,
    responses=problems(
        status_413="The body is larger than this service takes, or than what you may have in the "
        "store.",
        status_429="You upload too much: `Retry-After` says when to try again.",
        status_503="Others upload too much just now: `Retry-After` says when to try again.",
        status_507="There is no room for the body.",
    ),
    openapi_extra={"requestBody": PROGRAM_BODY},
)
async def post_input(request: Request, service: Service) -> UploadedInput:
    """Keeps a program for jobs that name it by its SHA-256. It is not read yet."""
    uploads: Uploads = request.app.state.uploads
    caller, accounts = caller_of(request), service.store.accounts
    with uploads.folder() as folder:
        if caller is not None:
            announced = request.headers.get("content-length", "")
            more = int(announced) if announced.isdecimal() else 0
            await run_in_threadpool(accounts.check, caller.account, more)
        upload = await uploads.receive(request, folder)
        plans: PlanService = request.app.state.service
        await run_in_threadpool(plans.retention.make_room, upload.size)
        if caller is not None:
            found = {upload.sha256: upload.size}
            await run_in_threadpool(accounts.reserve, caller.account, found)
        await run_in_threadpool(service.store.hand_in, upload.body)
        return UploadedInput(sha256=upload.sha256, size=upload.size)


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
    try:
        path = service.store.renew(sha256)  # no sweep takes it before the job
        return Response(headers={"Content-Length": str(path.stat().st_size)})
    except FileNotFoundError:
        return Response(status_code=404)


@router.post(
    "/jobs",
    summary="Submit a job",
    status_code=201,
    responses=problems(
        status_404="There is no such device.",
        status_409="A request with the same `Idempotency-Key` is not answered yet.",
        status_410="The job that this `Idempotency-Key` made was deleted.",
        status_413="You have as much in the store as you may.",
        status_422="An input was not uploaded, an option is wrong, or the `Idempotency-Key` came "
        "with another job.",
        status_507="There is no room for it on the disk.",
    ),
)
def post_job(
    request: Request,
    service: Service,
    job: JobRequest,
    response: Response,
    later: BackgroundTasks,
    idempotency_key: Annotated[
        str | None,
        Header(
            pattern=_KEY,
            description="A text of your own, drawn at random, as a UUID: the same request with "
            "it, within a day, is answered with the same job.",
        ),
    ] = None,
) -> JobSummary:
    """Plans every input with every combination of the options, as soon as workers come to it.

    What is in store already is not planned again, and what other jobs want too only once.
    """
    caller = caller_of(request)
    key = None if idempotency_key is None else _key(caller, idempotency_key, job)
    try:
        with service.submitting(key):
            job_id = (key and service.jobs.submitted(key)) or _submit(request, service, job, key)
    except InProgressError as error:
        raise ProblemError(ProblemKind.IN_PROGRESS, str(error), retry_after(1)) from None
    later.add_task(start_job, service, job_id)
    response.headers["Location"] = f"/jobs/{job_id}"
    status = service.jobs.get(job_id)
    if status is None:
        raise ProblemError(
            ProblemKind.DELETED, f"the job {job_id}, which was submitted so, has been deleted"
        )
    return JobSummary.of(status)


def _key(caller: Caller | None, text: str, job: JobRequest) -> SubmissionKey:
    # A structured field is in quotes; those who send one without mean the same.
    key, request = text.strip('"'), job.model_dump_json().encode()
    return SubmissionKey(caller.name if caller else "", key, hashlib.sha256(request).hexdigest())


def _submit(
    request: Request, service: JobService, job: JobRequest, key: SubmissionKey | None
) -> str:
    inputs = [Input(item.name, item.sha256) for item in job.inputs]
    devices: DeviceService = request.app.state.devices
    matrix = job.matrix(partial(find_profile, service.store), devices.devices.known)
    caller = caller_of(request)
    account = None if caller is None else caller.account
    if account is not None:
        service.store.accounts.check(account)
    choices, summary = matrix.choices(len(set(inputs))), job.summary(matrix)
    return service.jobs.submit(job.name, inputs, choices, summary, account, key)


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
    later.add_task(start_job, service, job.id)
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
    "/jobs/{job_id}/opportunities",
    summary="Read what would make a job's plans cheaper",
    responses=_NO_JOB,
)
def get_opportunities(service: Service, plans: Plans, job: FoundJob) -> list[JobOpportunities]:
    """What kernels could take, ranked over the plans that there are, by their options."""
    found: dict[str, tuple[ItemOptions, list[Opportunities]]] = {}
    items = [item for item in service.jobs.items(job) if item.plan is not None]
    for item in items[:_MOST_RANKED]:
        assert item.plan is not None
        try:
            report = plans.store.path(item.plan.report_sha256).read_bytes()
        except LostBlobError:
            continue
        part = json.loads(report).get("opportunities")
        if part is not None:
            options = JobItem.of(item).options
            _, programs = found.setdefault(options.model_dump_json(), (options, []))
            programs.append(read_opportunities(part))
    return [
        JobOpportunities(options=options, plans=len(programs), ranking=rank_found(programs))
        for options, programs in found.values()
    ]


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


def start_job(service: JobService, job_id: str) -> None:
    """Puts the tasks of a job into the queue, now or later."""
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
