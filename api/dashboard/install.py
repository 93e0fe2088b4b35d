"""How the pages come into an application."""

from __future__ import annotations

from fastapi import FastAPI

from api.dashboard.headers import SecurityHeaders
from api.dashboard.pages import router, static_files
from api.dashboard.views import Views


def install(app: FastAPI) -> None:
    """Adds the pages, and headers that say what they may load, to an app with a plan service."""
    app.state.views = Views()
    app.include_router(router)
    app.mount("/static", static_files, name="static")
    app.add_middleware(SecurityHeaders)
