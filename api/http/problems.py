"""What went wrong: the service's answers to errors, as problem details (RFC 9457)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import Scope

from api.http.problem_kinds import PROBLEMS, ProblemKind, kind_of_status
from api.http.request_ids import PROBLEM, REQUEST_ID, REQUEST_ID_HEADER
from api.jobs.wording import HTTP
from planner.errors import PlannerError

MEDIA_TYPE: Final = "application/problem+json"

ErrorPage = Callable[[Request, int, str, str | None], Response]
"""Answers a browser with a page: for a request, a status, what went wrong, and the request's id."""


class ProblemKindDetails(BaseModel):
    """A kind of problem."""

    type: str = Field(
        description="The kind of problem: a path of this service that describes it, or "
        "`about:blank` where the status says all.",
        examples=[ProblemKind.INVALID_OPTION.type],
    )
    title: str = Field(
        description="What it is, the same in each case.",
        examples=[ProblemKind.INVALID_OPTION.title],
    )
    status: int = Field(description="The HTTP status.", examples=[422])
    remedy: str | None = Field(
        None,
        description="What to do about it.",
        examples=[ProblemKind.INVALID_OPTION.remedy],
    )


class Problem(ProblemKindDetails):
    """What went wrong (RFC 9457)."""

    detail: str = Field(
        description="What is wrong in this case, in one line that says what to do.",
        examples=["unknown objective 'speed': use repack or latency"],
    )
    request_id: str | None = Field(
        None,
        description="The request, as the logs of the service name it; `X-Request-Id` is the same.",
        examples=["6f1d0a3c5b7e4f9d8c2a1b0e9f8d7c6b"],
    )


class ProblemError(HTTPException):
    """A request that is answered with a problem of this kind."""

    def __init__(
        self,
        kind: ProblemKind,
        detail: str,
        headers: Mapping[str, str] | None = None,
        remedy: str | None = None,
    ) -> None:
        """Without a ``remedy``, the one of the kind counts."""
        super().__init__(kind.status, detail, headers)
        self.kind, self.remedy = kind, remedy


router = APIRouter()


@router.get(
    PROBLEMS + "{name}",
    summary="Describe a kind of problem",
    responses={404: {"model": Problem, "description": "There is no such kind."}},
)
def get_problem_kind(name: str) -> ProblemKindDetails:
    """The kind that the `type` of a problem names."""
    for kind in ProblemKind:
        if kind.slug == name:
            return ProblemKindDetails(
                type=kind.type, title=kind.title, status=kind.status, remedy=kind.remedy
            )
    raise ProblemError(
        ProblemKind.NOT_FOUND,
        f"there is no kind of problem {name!r}",
        remedy=f"there are {', '.join(kind.slug for kind in ProblemKind)}",
    )


def problems(**descriptions: str) -> dict[int | str, dict[str, Any]]:
    """Answers that are a ``Problem``, for OpenAPI; keywords are ``status_404`` and the like."""
    return {
        name.removeprefix("status_"): {"model": Problem, "description": text}
        for name, text in descriptions.items()
    }


def problem_of(
    kind: ProblemKind | int, detail: str, remedy: str | None = None, request_id: str | None = None
) -> Problem:
    """The problem of a case; of a mere status the kind is the usual one."""
    found = kind_of_status(kind) if isinstance(kind, int) else kind
    if found is not None:
        type_, title, status, remedy = found.type, found.title, found.status, remedy or found.remedy
    else:
        assert isinstance(kind, int)
        type_, title, status = "about:blank", HTTPStatus(kind).phrase, kind
    return Problem(
        type=type_,
        title=title,
        status=status,
        remedy=remedy,
        detail=detail,
        request_id=request_id,
    )


def problem_answer(
    scope: Scope,
    kind: ProblemKind | int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    remedy: str | None = None,
) -> JSONResponse:
    """The answer to a request that cannot be served; the request takes note of it."""
    problem = problem_of(kind, detail, remedy, scope.get(REQUEST_ID))
    scope[PROBLEM] = problem.type.removeprefix(PROBLEMS)
    # Some are answered beyond the middleware that adds the header to all others.
    identified = {REQUEST_ID_HEADER: problem.request_id} if problem.request_id else {}
    return JSONResponse(
        problem.model_dump(exclude_none=True),
        problem.status,
        {**identified, **(headers or {})},
        MEDIA_TYPE,
    )


def retry_after(seconds: float) -> dict[str, str]:
    """The header that says when to try again, in whole seconds."""
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


def answer_errors(
    app: FastAPI,
    kinds: Mapping[type[Exception], ProblemKind],
    queries: Mapping[str, type[BaseModel]],
    page: ErrorPage | None = None,
) -> None:
    """Has an application answer its errors with a ``Problem``, or a browser with a page.

    ``kinds`` are those of exceptions: the most particular class counts. ``queries`` are those
    that paths take: an answer to a wrong one names the parameters that there are.
    """

    def answer(
        request: Request,
        kind: ProblemKind | int,
        detail: str,
        headers: Mapping[str, str] | None = None,
        remedy: str | None = None,
    ) -> Response:
        document = problem_answer(request.scope, kind, detail, headers, remedy)
        is_browser = request.method == "GET" and "text/html" in request.headers.get("accept", "")
        if page is None or not is_browser:
            return document
        request_id = request.scope.get(REQUEST_ID)
        response = page(request, document.status_code, detail, request_id)
        response.headers.update(headers or {})
        if request_id:
            response.headers[REQUEST_ID_HEADER] = request_id
        return response

    async def answer_error(request: Request, error: Exception) -> Response:
        kind = next(kinds[each] for each in type(error).__mro__ if each in kinds)
        if isinstance(error, PlannerError):
            return answer(request, kind, error.worded(HTTP), remedy=error.remedy(HTTP))
        return answer(request, kind, str(error))

    async def answer_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if isinstance(error, ProblemError):
            return answer(request, error.kind, error.detail, error.headers, error.remedy)
        return answer(request, error.status_code, error.detail, error.headers)

    async def answer_query(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        query = queries.get(request.url.path)
        known = f" (there are {', '.join(query.model_fields)})" if query else ""
        where = "query parameter" if first["loc"][0] == "query" else "field"
        detail = f"{where} {first['loc'][-1]!r}: {first['msg']}{known}"
        return answer(request, ProblemKind.INVALID_REQUEST, detail)

    async def answer_bug(request: Request, error: Exception) -> Response:
        detail = "the service failed: its log says why"
        return answer(request, ProblemKind.SERVICE_FAILED, detail)

    for kind in kinds:
        app.add_exception_handler(kind, answer_error)
    app.add_exception_handler(HTTPException, answer_http)
    app.add_exception_handler(RequestValidationError, answer_query)
    app.add_exception_handler(Exception, answer_bug)
    _describe(app)


def _describe(app: FastAPI) -> None:
    """Has the application's description of itself name the media type of problems."""
    describe = app.openapi
    reference = {"$ref": f"#/components/schemas/{Problem.__name__}"}

    def openapi() -> dict[str, Any]:
        document = describe()
        for path in document["paths"].values():
            for operation in path.values():
                for found in operation["responses"].values():
                    content = found.get("content", {})
                    if content.get("application/json", {}).get("schema") == reference:
                        content[MEDIA_TYPE] = content.pop("application/json")
        return document

    app.openapi = openapi  # type: ignore[method-assign]
