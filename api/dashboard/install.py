"""How the pages come into an application."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from api.dashboard.headers import SecurityHeaders
from api.dashboard.pages import error_page, router, static_files
from api.dashboard.views import Views


def install(app: FastAPI) -> None:
    """Adds the pages, and headers that say what they may load, to an app with a plan service."""
    app.state.views = Views()
    app.include_router(router)
    app.mount("/static", static_files, name="static")
    app.add_middleware(SecurityHeaders)
    app.add_exception_handler(HTTPException, _answer)


def problem(request: Request, status: int, detail: str) -> Response:
    """What went wrong: a page for a browser's address bar, a document for anything else."""
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        return error_page(request, status, detail)
    return JSONResponse({"detail": detail}, status)


async def _answer(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = problem(request, error.status_code, error.detail)
    answer.headers.update(error.headers or {})
    return answer
