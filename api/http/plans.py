"""Requests about plans."""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePath
from typing import Annotated, Any, Final
from urllib.parse import quote

import fastapi
from fastapi import APIRouter, Body, Depends, Header, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from api.http.callers import caller_of
from api.http.jobs import start_job
from api.http.measuring import DeviceService
from api.http.models import (
    EXAMPLE_JOB_ID,
    EXAMPLE_PLAN_ID,
    CheckQuery,
    JobSummary,
    PlanList,
    PlanQuery,
    PlansQuery,
    PlanSummary,
    Profile,
    Progress,
)
from api.http.problem_kinds import ProblemKind
from api.http.problems import ProblemError, problems
from api.http.service import PlanService, Program
from api.http.uploads import PROGRAM_BODY
from api.jobs.matrix import Input
from api.jobs.service import JobService
from api.store.blobs import LostBlobError
from api.store.profiles import find_profile
from api.store.tables import Plan
from planner.costs.profile_file import builtin_names, load_profile
from planner.options import PlanOptions, make_wanted
from planner.result.check import CheckReport
from planner.result.explanation import Explanation, read_explanation
from planner.result.opportunities import Opportunities, read_opportunities
from planner.result.outline import Outlines, read_outlines
from planner.result.report import Report

_BINARY: Final = "application/octet-stream"
_PROGRESS_ID: Final = "^[0-9a-f]{32}$"
_LATER: Final = "respond-async"
_QUOTED: Final = re.compile(r'"(\\.|[^"\\])*"')


async def _service(request: Request) -> PlanService:
    service: PlanService = request.app.state.service
    return service


Service = Annotated[PlanService, Depends(_service)]
PlanId = Annotated[
    str,
    fastapi.Path(
        description="The id of a plan: the last part of the `Location` that `POST /plan` gave.",
        examples=[EXAMPLE_PLAN_ID],
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
_NO_FILE: Final = problems(
    status_404="No plan has this id.",
    status_410="Its file is damaged or missing: the same `POST /plan` makes it again.",
)

_NO_ANSWER: Final = problems(
    status_404="No plan has this id, or it has none.",
    status_410="Its file is damaged or missing: the same `POST /plan` makes it again.",
)

router = APIRouter()


@router.post(
    "/plan",
    summary="Plan a program",
    response_class=FileResponse,
    responses={
        200: _binary(
            "The planned program: a flatbuffer as `plan.fbs` describes it.",
            {
                "Location": ("Path of the plan's report.", f"/plans/{EXAMPLE_PLAN_ID}"),
                _DISPOSITION: (
                    "The name of the answer's file.",
                    'attachment; filename="mobilenet_v2.plan"',
                ),
            },
        ),
        202: {
            "model": JobSummary,
            "description": "`Prefer: respond-async` was sent, and the plan is not in store: the "
            "job that makes it, with `plan_id` in its item once that is done.",
            "headers": {
                "Location": {
                    "description": "Path of the job.",
                    "schema": {"type": "string"},
                    "example": f"/jobs/{EXAMPLE_JOB_ID}",
                },
                "Preference-Applied": {
                    "description": f"`{_LATER}`",
                    "schema": {"type": "string"},
                    "example": _LATER,
                },
            },
        },
        **problems(
            status_400="The body is neither a `.pt2` nor a `.pte` file, nor a VkGraph.",
            status_403="A page of another site sent this, or torch would have to read the program "
            "and there is no jail for it.",
            status_404="There is no such device.",
            status_410="The plan was deleted while this waited for it: ask again.",
            status_413="The body is larger than this service takes, or than what you may have in "
            "the store.",
            status_429="You ask for too much: `Retry-After` says when to try again.",
            status_422="An option is wrong, the input was not uploaded, there is a body as well, "
            "the program cannot be lowered, holds nothing that the "
            "Vulkan delegate supports, or has an operator that the options leave without "
            "representation.",
            status_500="The plan failed the check that every plan must pass, or planning failed.",
            status_501="The program needs a package that is not installed here.",
            status_503="The process that planned ended, the service has too much to plan "
            "(`Retry-After`), or it shuts down.",
            status_504="Planning took longer than this service allows.",
            status_507="There is no room for the program or its plan.",
        ),
    },
    openapi_extra={"requestBody": PROGRAM_BODY},
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
            "request is not answered, `GET /progress/{id}` answers how far it is.",
        ),
    ] = None,
    prefer: Annotated[
        list[str] | None,
        Header(
            description="`respond-async` (RFC 7240): what is not in store becomes a job, and the "
            "answer does not wait for it.",
        ),
    ] = None,
) -> Response:
    """Plans the layout of every tensor of a program for ExecuTorch's Vulkan delegate.

    A `.pt2` is lowered first; a `.pte` or a VkGraph is lowered already, and its layouts are
    replaced. The answer comes when the plan is found and checked: in seconds to minutes. A request
    that was answered before is answered from store, by the same id. In place of a body, `input`
    names a program that is here already.
    """
    program = Program(query.file_name(), query.input)
    if query.device is None and query.profile in builtin_names():
        options = _options(request, service, query)
    else:
        options = await run_in_threadpool(_options, request, service, query)
    if _prefers_later(prefer or []):
        found = await service.plan_later(request, program, options)
        if isinstance(found, Input):
            return await run_in_threadpool(_job, request, found, options, query)
        planned = found
    else:
        planned = await service.plan(request, program, options, progress_id)
    headers = {
        "Location": f"/plans/{planned.plan.id}",
        _DISPOSITION: _attached(f"{PurePath(program.name).stem}.plan"),
    }
    if isinstance(planned.graph, bytes):
        return Response(planned.graph, media_type=_BINARY, headers=headers)
    return _StoredFile(planned.graph, media_type=_BINARY, headers=headers)


@router.post(
    "/check",
    summary="Check a lowered program",
    responses=problems(
        status_400="The body is no `.pte`, `.bpte` or VkGraph.",
        status_413="The body is larger than this service takes.",
        status_422="An option is wrong, or the program is damaged.",
        status_429="You ask for too much: `Retry-After` says when to try again.",
        status_500="Checking failed.",
        status_503="The process that checked ended, the service has too much to plan "
        "(`Retry-After`), or it shuts down.",
        status_504="Checking took longer than this service allows.",
        status_507="There is no room for the body.",
    ),
    openapi_extra={"requestBody": PROGRAM_BODY},
)
async def post_check(
    request: Request, service: Service, query: Annotated[CheckQuery, Query()]
) -> CheckReport:
    """Says whether a program will load and be right on a release of ExecuTorch, and on a GPU.

    And whether it keeps to limits, which use the names of this program. Nothing is kept.
    """
    restrictions, budget = make_wanted(**query.wanted())
    wanted = (*(each.words for each in restrictions), *budget.words)
    return await service.check(request, query.name, query.runtime, query.gpu, query.target, wanted)


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
    """Deletes a plan with its files; the same request to `POST /plan` plans again."""
    if not service.store.delete(plan_id):
        raise _no_plan(plan_id)


@router.get(
    "/plans/{plan_id}",
    summary="Read a plan's report",
    response_class=FileResponse,
    responses={
        200: {
            "description": "What was planned and what it costs, in total and by delegate.",
            "model": Report,
        },
        **_RANGES,
        **_NO_FILE,
    },
)
def get_report(service: Service, plan_id: PlanId) -> FileResponse:
    """The figures of a plan, beside those of ExecuTorch's own pass, and every transition."""
    report = service.store.path(_plan(service, plan_id).report_sha256)
    return _StoredFile(report, media_type="application/json")


@router.get(
    "/plans/{plan_id}/explanation",
    summary="Read why a plan's repacks remain",
    responses={
        200: {"description": "What keeps each repack, and the plan without it."},
        **_NO_ANSWER,
    },
)
def get_explanation(service: Service, plan_id: PlanId) -> Explanation:
    """For each repack: the operators that force it, and what the plan without it would cost."""
    return read_explanation(_answer(service, plan_id, "explanation"))


@router.get(
    "/plans/{plan_id}/opportunities",
    summary="Read what would make a plan cheaper",
    responses={
        200: {"description": "What kernels could take, with the optimum if they did."},
        **_NO_ANSWER,
    },
)
def get_opportunities(service: Service, plan_id: PlanId) -> Opportunities:
    """Representations that kernels do not take today, the most useful first."""
    return read_opportunities(_answer(service, plan_id, "opportunities"))


@router.get(
    "/plans/{plan_id}/tradeoffs",
    summary="Read what less of something would cost",
    responses={
        200: {"description": "What fewer transitions, bytes of copies, or less memory would cost."},
        **_NO_ANSWER,
    },
)
def get_tradeoffs(service: Service, plan_id: PlanId) -> Outlines:
    """The corners of trade-offs: no plan lies below the lines between them."""
    return read_outlines(_answer(service, plan_id, "tradeoffs"))


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
                    f'attachment; filename="{EXAMPLE_PLAN_ID}.plan"',
                )
            },
        ),
        **_RANGES,
        **_NO_FILE,
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
                    f'attachment; filename="{EXAMPLE_PLAN_ID}.pte"',
                )
            },
        ),
        **_RANGES,
        **_NO_FILE,
    },
)
def get_program(service: Service, plan_id: PlanId) -> FileResponse:
    """The planned program as ExecuTorch's runtime loads it."""
    program_sha256 = _plan(service, plan_id).program_sha256
    if program_sha256 is None:
        raise ProblemError(
            ProblemKind.NOT_FOUND,
            f"plan {plan_id!r} is of a VkGraph alone: /plans/{plan_id}/graph holds it",
        )
    return _download(service.store.path(program_sha256), f"{plan_id}.pte")


@router.get("/profiles", summary="List the device profiles")
def get_profiles(service: Service) -> list[Profile]:
    """The device profiles: those that are built in first, then those that were kept."""
    builtin = [Profile.of(load_profile(name)) for name in builtin_names()]
    known = {profile.hash for profile in builtin}
    kept = map(Profile.of, service.store.profiles())
    return builtin + [profile for profile in kept if profile.hash not in known]


@router.post(
    "/profiles",
    summary="Keep a device profile",
    status_code=201,
    responses=problems(status_422="The document is not a valid profile."),
)
def post_profile(
    service: Service,
    document: Annotated[
        dict[str, Any], Body(description="A profile, as `layout-planner calibrate` writes it.")
    ],
) -> Profile:
    """Keeps a profile of your own: `POST /plan` and `POST /jobs` take its hash."""
    profile = find_profile(service.store, document)
    with service.store.database.writing() as session:
        service.store.keep_profile(session, profile)
    return Profile.of(profile)


def _prefers_later(headers: list[str]) -> bool:
    """Whether the headers ``Prefer`` of a request ask for an answer that does not wait."""
    preferences = ",".join(_QUOTED.sub("", header) for header in headers).split(",")
    return any(re.split("[;=]", each)[0].strip().lower() == _LATER for each in preferences)


def _job(request: Request, program: Input, options: PlanOptions, query: PlanQuery) -> Response:
    """The answer that a job makes a plan."""
    service: JobService = request.app.state.jobs
    caller, asked = caller_of(request), query.summary(options)
    account = None if caller is None else caller.account
    job_id = service.jobs.submit(program.name, [program], [options], asked, account)
    job = service.jobs.get(job_id)
    if job is None:
        raise ProblemError(ProblemKind.NOT_FOUND, f"the job {job_id!r} was deleted just now")
    return JSONResponse(
        JobSummary.of(job).model_dump(mode="json"),
        202,
        {"Location": f"/jobs/{job_id}", "Preference-Applied": _LATER},
        background=BackgroundTask(start_job, service, job_id),
    )


def _options(request: Request, service: PlanService, query: PlanQuery) -> PlanOptions:
    """The options that a query asks for, with the costs of the device that it names."""
    options = query.options(find_profile(service.store, query.profile))
    if not query.device:
        return options
    devices: DeviceService = request.app.state.devices
    return devices.devices.known(query.device).options(options)


def _plan(service: PlanService, plan_id: str) -> Plan:
    plan = service.store.get(plan_id)
    if plan is None:
        raise _no_plan(plan_id)
    service.store.use(plan)
    return plan


def _answer(service: PlanService, plan_id: str, part: str) -> dict[str, Any]:
    """A part of a plan's report that is not in each of them."""
    report = service.store.path(_plan(service, plan_id).report_sha256)
    found: dict[str, Any] | None = json.loads(report.read_bytes()).get(part)
    if found is None:
        raise ProblemError(
            ProblemKind.NOT_FOUND,
            f"plan {plan_id!r} has no {part}: its program is too large for that, or it was planned "
            "by an older release",
            remedy="delete the plan and send the same POST /plan again, or ask the command line",
        )
    return found


class _StoredFile(FileResponse):
    """A file of the store. It may be deleted, with its plan, before the answer begins."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the file; raises ``LostBlobError``."""
        try:
            await super().__call__(scope, receive, send)
        except RuntimeError as error:
            path = Path(self.path)
            if path.exists():
                raise
            raise LostBlobError(path.name, "missing") from error


def _no_plan(plan_id: str) -> ProblemError:
    return ProblemError(
        ProblemKind.NOT_FOUND,
        f"there is no plan {plan_id!r}: ids come in the Location that POST /plan gives",
    )


def _attached(name: str) -> str:
    """The header that has a browser save an answer under a name."""
    quoted = quote(name)
    how = f'="{name}"' if quoted == name else f"*=utf-8''{quoted}"
    return f"attachment; filename{how}"


def _download(path: Path, name: str) -> FileResponse:
    return _StoredFile(path, media_type=_BINARY, filename=name)
