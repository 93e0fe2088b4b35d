"""Errors, as the service answers them."""

from __future__ import annotations

from pathlib import Path

import httpx
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError

from api.http.app import Settings
from api.http.problems import answer_errors
from api.planning.work import PlanWork
from planner.errors import VerificationError
from tests.api.http.inside import StandIn, run, uploads


def test_a_plan_that_fails_its_check_is_not_handed_out(conv: bytes, scratch: Path) -> None:
    async def fail(work: PlanWork) -> None:
        raise VerificationError("delegate 0: tensor 3 has no layout")

    async def body(client: httpx.AsyncClient) -> None:
        answer = await client.post("/plan", content=conv)
        assert answer.status_code == 500
        assert answer.json() == {"detail": "delegate 0: tensor 3 has no layout"}
        assert uploads(scratch) == []

    run(Settings(), body, StandIn(fail))


def test_an_unforeseen_error_is_not_shown(conv: bytes, scratch: Path) -> None:
    async def fail(work: PlanWork) -> None:
        raise OSError("no space left on /secret")

    async def body(client: httpx.AsyncClient) -> None:
        answer = await client.post("/plan", content=conv)
        assert answer.status_code == 500
        assert answer.json() == {"detail": "the service failed: its log says why"}
        assert uploads(scratch) == []

    run(Settings(), body, StandIn(fail))


def test_a_database_that_does_not_answer(conv: bytes) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("SELECT secret", (), OSError("connection refused"))

    async def body(client: httpx.AsyncClient) -> None:
        event.listen(Engine, "before_cursor_execute", fail)
        try:
            answers = [
                await client.post("/plan", content=conv),
                await client.get("/plans"),
                await client.get(f"/plans/{'0' * 32}"),
            ]
        finally:
            event.remove(Engine, "before_cursor_execute", fail)
        for answer in answers:
            assert answer.status_code == 503
            assert answer.json() == {
                "detail": "the database does not answer (connection refused): try again"
            }
        assert (await client.post("/plan", content=conv)).status_code == 200

    run(Settings(), body, StandIn())


def test_a_browser_gets_a_page_and_anything_else_a_document() -> None:
    async def body(client: httpx.AsyncClient) -> None:
        path = f"/plans/{'0' * 32}"
        document = await client.get(path, headers={"Accept": "*/*"})
        assert document.status_code == 404
        assert list(document.json()) == ["detail"]
        page = await client.get(path, headers={"Accept": "text/html,*/*"})
        assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
        assert "there is no plan" in page.text

    run(Settings(), body, StandIn())


def test_without_a_page_a_browser_gets_the_document() -> None:
    app = FastAPI()
    answer_errors(app, {}, {})
    client = TestClient(app)
    answer = client.get("/nothing", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})
