"""Errors, as the service answers them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError

from api.client.connection import checked
from api.client.errors import AwayError, RefusedError
from api.http.access import AccessRules
from api.http.app import Settings
from api.http.problem_kinds import ProblemKind
from api.http.problems import answer_errors, problem_of
from api.planning.work import PlanWork
from planner.errors import NoRepresentationError, Remedy, VerificationError
from tests.api.http.inside import StandIn, run, until_removed
from tests.api.http.running import detail
from tests.paths import ROOT


def test_a_plan_that_fails_its_check_is_not_handed_out(conv: bytes, scratch: Path) -> None:
    async def fail(work: PlanWork) -> None:
        raise VerificationError("delegate 0: tensor 3 has no layout")

    async def body(client: httpx.AsyncClient) -> None:
        answer = await client.post("/plan", content=conv)
        assert answer.status_code == 500
        assert detail(answer) == "delegate 0: tensor 3 has no layout"
        await until_removed(scratch)

    run(Settings(), body, StandIn(fail))


def test_an_unforeseen_error_is_not_shown(conv: bytes, scratch: Path) -> None:
    async def fail(work: PlanWork) -> None:
        raise OSError("no space left on /secret")

    async def body(client: httpx.AsyncClient) -> None:
        answer = await client.post("/plan", content=conv)
        assert answer.status_code == 500
        assert detail(answer) == "the service failed: its log says why"
        await until_removed(scratch)

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
            said = "the database does not answer (connection refused): try again"
            assert detail(answer) == said
        assert (await client.post("/plan", content=conv)).status_code == 200

    run(Settings(), body, StandIn())


def test_a_browser_gets_a_page_and_anything_else_a_document() -> None:
    async def body(client: httpx.AsyncClient) -> None:
        path = f"/plans/{'0' * 32}"
        document = await client.get(path, headers={"Accept": "*/*"})
        assert document.status_code == 404
        assert detail(document).startswith("there is no plan")
        page = await client.get(path, headers={"Accept": "text/html,*/*"})
        assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
        assert "there is no plan" in page.text
        assert page.headers["x-request-id"] in page.text

    run(Settings(), body, StandIn())


def test_without_a_page_a_browser_gets_the_document() -> None:
    app = FastAPI()
    answer_errors(app, {}, {})
    client = TestClient(app)
    answer = client.get("/nothing", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.json()["detail"]) == (404, "Not Found")


def test_each_kind_of_problem_describes_itself_and_is_documented() -> None:
    page = (ROOT / "docs" / "problems.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \| (\d+) \| (.+?) \| (.+?) \|$", page, re.M)
    kinds = [(kind.slug, str(kind.status), kind.title, kind.remedy) for kind in ProblemKind]
    assert sorted(rows) == sorted(kinds)

    async def body(client: httpx.AsyncClient) -> None:
        for kind in ProblemKind:
            described = (await client.get(kind.type)).json()
            assert described["type"] == kind.type and described["status"] == kind.status
        unknown = await client.get("/problems/nothing")
        assert unknown.status_code == 404
        assert "queue-full" in unknown.json()["remedy"]

    run(Settings(access=AccessRules("tokens")), body, StandIn())


def test_a_refusal_of_the_planner_has_its_remedy_apart() -> None:
    async def refuse(work: PlanWork) -> None:
        raise NoRepresentationError("operator 3 has none", Remedy.RESHAPE_TENSORS)

    async def body(client: httpx.AsyncClient) -> None:
        answer = await client.post("/plan", content=b"\0\0\0\0VK00")
        assert detail(answer) == "operator 3 has none: reshape its tensors"
        assert answer.json()["remedy"] == "reshape its tensors"
        assert answer.json()["type"] == "/problems/no-representation"

    run(Settings(), body, StandIn(refuse))


def test_refusals_before_the_routes_are_problems() -> None:
    async def body(client: httpx.AsyncClient) -> None:
        def kind(answer: httpx.Response, status: int) -> str:
            assert answer.status_code == status
            detail(answer)
            return str(answer.json()["type"]).removeprefix("/problems/")

        assert kind(await client.get("/plans"), 401) == "token-needed"
        other = {"Host": "evil.example"}
        assert kind(await client.get("/plans", headers=other), 421) == "wrong-host"
        other = {"Origin": "http://evil"}
        assert kind(await client.post("/plan", headers=other), 403) == "other-site"
        known = {"X-User": "ann"}
        large = {"Content-Length": str(2**30), **known}
        assert kind(await client.post("/jobs", headers=large), 413) == "too-large"
        two = {"Content-Length": "1", "Transfer-Encoding": "chunked", **known}
        assert kind(await client.post("/jobs", headers=two), 400) == "malformed-request"
        assert kind(await client.put("/plans", headers=known), 405) == "method-not-allowed"
        assert kind(await client.get("/nothing", headers=known), 404) == "not-found"
        assert kind(await client.get("/plans?limit=x", headers=known), 422) == "invalid-request"
        assert kind(await client.post("/plan?runtime=9", headers=known), 422) == "invalid-option"
        assert kind(await client.post("/plan", headers=known), 400) == "not-a-program"
        # Refusals are counted by their kinds.
        figures = (await client.get("/metrics", headers=known)).text
        for each in ("token-needed", "wrong-host", "other-site", "too-large", "not-a-program"):
            assert f'layout_planner_problems_total{{kind="{each}"}} 1.0' in figures

    run(Settings(access=AccessRules("tokens", "X-User")), body, StandIn())


def test_a_status_without_a_kind_of_its_own_is_no_more_than_that() -> None:
    problem = problem_of(418, "no coffee here")
    assert (problem.type, problem.title, problem.remedy) == ("about:blank", "I'm a Teapot", None)


def test_a_request_has_an_id_its_client_s_own_if_it_is_one(tmp_path: Path) -> None:
    async def body(client: httpx.AsyncClient) -> None:
        mine = await client.get("/plans/none", headers={"X-Request-Id": "build-17.a"})
        assert mine.headers["x-request-id"] == mine.json()["request_id"] == "build-17.a"
        for odd in ("", "a b", "x" * 65, 'a"b', "a;b"):
            given = await client.get("/plans/none", headers={"X-Request-Id": odd})
            assert re.fullmatch("[0-9a-f]{32}", given.headers["x-request-id"])
        well = await client.get("/profiles")
        assert re.fullmatch("[0-9a-f]{32}", well.headers["x-request-id"])

    run(Settings(tmp_path), body, StandIn())
    first = json.loads((tmp_path / "audit.log").read_text().splitlines()[0])
    assert first["request_id"] == "build-17.a"


def test_the_client_names_the_request_where_the_server_failed() -> None:
    headers = {"X-Request-Id": "build-17"}
    said = {"detail": "the service failed", "type": "/problems/service-failed"}
    with pytest.raises(AwayError, match=r"^the service failed \(request build-17\)$"):
        checked(httpx.Response(500, json=said, headers=headers))
    with pytest.raises(AwayError, match=r"^the service failed$"):
        checked(httpx.Response(500, json=said))
    with pytest.raises(RefusedError, match=r"^the service failed$") as refused:
        checked(httpx.Response(404, json=said, headers=headers))
    problem = refused.value.problem
    assert problem is not None and problem["type"] == said["type"]
    for odd in (b"<html>", b"[1]", b'{"detail": 1}'):
        with pytest.raises(RefusedError, match="404: is it a Layout Planner") as refused:
            checked(httpx.Response(404, content=odd))
        assert refused.value.problem is None
