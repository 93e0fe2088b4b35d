"""How the pages come into an application."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI

from api.dashboard.headers import SecurityHeaders
from api.dashboard.pages import Shown, router, static_files
from api.store.plans import PlanStore


def install(app: FastAPI, store: Callable[[], PlanStore]) -> None:
    """Adds the pages, and headers that say what they may load, to an app.

    ``store`` is asked at each request for the plans to show. Errors are the app's to answer:
    ``pages.error_page`` makes a page of one.
    """
    app.state.dashboard = Shown(store)
    app.include_router(router)
    app.mount("/static", static_files, name="static")
    app.add_middleware(SecurityHeaders)
