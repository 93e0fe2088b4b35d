"""What went wrong: the service's answers to errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from api.jobs.wording import HTTP
from planner.errors import PlannerError

ErrorPage = Callable[[Request, int, str], Response]
"""Answers a browser with a page: for a request, a status and what went wrong."""


class Problem(BaseModel):
    """What went wrong, in one line that says what to do."""

    detail: str = Field(examples=["unknown objective 'speed': use repack or latency"])


def problems(**descriptions: str) -> dict[int | str, dict[str, Any]]:
    """Answers that are a ``Problem``, for OpenAPI; keywords are ``status_404`` and the like."""
    return {
        name.removeprefix("status_"): {"model": Problem, "description": text}
        for name, text in descriptions.items()
    }


def answer_errors(
    app: FastAPI,
    statuses: Mapping[type[Exception], int],
    queries: Mapping[str, type[BaseModel]],
    page: ErrorPage | None = None,
) -> None:
    """Has an application answer its errors with a ``Problem``, or a browser with a page.

    ``statuses`` are those of exceptions: the most particular class counts. ``queries`` are those
    that paths take: an answer to a wrong one names the parameters that there are.
    """

    def answer(request: Request, status: int, detail: str) -> Response:
        is_browser = request.method == "GET" and "text/html" in request.headers.get("accept", "")
        if page is not None and is_browser:
            return page(request, status, detail)
        return JSONResponse({"detail": detail}, status)

    async def answer_error(request: Request, error: Exception) -> Response:
        kind = next(kind for kind in type(error).__mro__ if kind in statuses)
        detail = error.worded(HTTP) if isinstance(error, PlannerError) else str(error)
        return answer(request, statuses[kind], detail)

    async def answer_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        response = answer(request, error.status_code, error.detail)
        response.headers.update(error.headers or {})
        return response

    async def answer_query(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        query = queries.get(request.url.path)
        known = f" (there are {', '.join(query.model_fields)})" if query else ""
        where = "query parameter" if first["loc"][0] == "query" else "field"
        detail = f"{where} {first['loc'][-1]!r}: {first['msg']}{known}"
        return answer(request, 422, detail)

    async def answer_bug(request: Request, error: Exception) -> Response:
        return answer(request, 500, "the service failed: its log says why")

    for kind in statuses:
        app.add_exception_handler(kind, answer_error)
    app.add_exception_handler(HTTPException, answer_http)
    app.add_exception_handler(RequestValidationError, answer_query)
    app.add_exception_handler(Exception, answer_bug)
