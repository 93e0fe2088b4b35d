"""What a service says of itself: to whom watches it, and to Prometheus."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from api.http import health
from api.http.app import Settings, create_app
from api.planning.process import OvertimeError
from api.planning.work import PlanWork
from api.store.database import UnreachableError
from tests.api.http.inside import StandIn, run, write_plan

_BODY = b"\0\0\0\0VK00"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(tmp_path / "data"), StandIn())) as client:
        yield client


def _figures(client: TestClient) -> dict[str, float]:
    """Every figure by its name and labels, as Prometheus reads them."""
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_a_service_that_can_work_is_ready(client: TestClient) -> None:
    assert client.get("/healthz").json() == client.get("/health").json()
    found = client.get("/readyz")
    assert found.status_code == 200
    assert found.json()["is_ready"]
    checks = found.json()["checks"]
    assert set(checks) == {"database", "store", "disk", "planner", "workers"}
    wrong = {name: check["detail"] for name, check in checks.items() if not check["ok"]}
    assert wrong == {"workers": "there are none: jobs wait"}


def test_a_service_whose_store_is_gone_is_not(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "data").rename(tmp_path / "away")
    found = client.get("/readyz")
    assert found.status_code == 503
    assert not found.json()["is_ready"]
    assert "No such file" in found.json()["checks"]["store"]["detail"]
    assert client.get("/healthz").status_code == 200


def test_a_service_whose_database_is_away_is_not(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    app: Any = client.app

    def away() -> None:
        raise UnreachableError("the database does not answer (gone): try again")

    monkeypatch.setattr(app.state.service.store.database, "reading", away)
    checks = client.get("/readyz").json()["checks"]
    assert checks["database"] == {
        "ok": False,
        "detail": "the database does not answer (gone): try again",
    }
    assert _figures(client)["layout_planner_database_up"] == 0


def test_requests_and_plans_are_counted(client: TestClient) -> None:
    assert client.post("/plan", content=_BODY).status_code == 200
    assert client.post("/plan", content=_BODY).status_code == 200
    assert client.get("/plans/none").status_code == 404
    assert client.get("/nothing/here").status_code == 404
    found = _figures(client)
    assert found["layout_planner_requests_total POST /plan 200"] == 2
    assert found["layout_planner_requests_total GET /plans/{plan_id} 404"] == 1
    assert found["layout_planner_requests_total GET other 404"] == 1
    assert found["layout_planner_request_seconds_count /plan"] == 2
    assert found["layout_planner_plan_cache_hits_total"] == 1
    assert found["layout_planner_plans_total OPTIMAL"] == 1
    assert found["layout_planner_plan_gap_count"] == 1
    assert found["layout_planner_plans_pending"] == 0
    assert found["layout_planner_workers"] == 0
    assert found["layout_planner_tasks queued"] == 0
    assert found["layout_planner_disk_free_bytes"] > 0
    assert found["layout_planner_store_bytes"] > 0
    assert any(re.match(r"layout_planner_plan_stage_seconds_count planning", n) for n in found)


def test_planning_processes_that_are_ended_are_counted() -> None:
    async def late(work: PlanWork) -> None:
        raise OvertimeError("it took too long")

    async def body(client: httpx.AsyncClient) -> None:
        assert (await client.post("/plan", content=_BODY)).status_code == 504
        text = (await client.get("/metrics")).text
        assert 'layout_planner_planning_processes_ended_total{reason="time"} 1.0' in text

    run(Settings(), body, StandIn(late))


def test_a_full_queue_is_not_ready() -> None:
    async def plan(work: PlanWork) -> None:
        answer = await clients[0].get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["checks"]["planner"]["detail"] == (
            "1 plans wait to be made: the queue is full"
        )
        await write_plan(work)

    clients: list[httpx.AsyncClient] = []

    async def body(client: httpx.AsyncClient) -> None:
        clients.append(client)
        assert (await client.post("/plan", content=_BODY)).status_code == 200

    run(Settings(most_pending=1), body, StandIn(plan))


def test_a_service_is_ready_once_it_has_planned_a_program_of_its_own() -> None:
    async def plan(work: PlanWork) -> None:
        begun.set()
        await asked.wait()
        await write_plan(work)
        planned.set()

    begun, asked, planned = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def body(client: httpx.AsyncClient) -> None:
        await begun.wait()
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["checks"]["planner"]["detail"].startswith("it starts: it plans")
        asked.set()
        await planned.wait()
        while (await client.get("/readyz")).status_code != 200:
            pass
        assert (await client.get("/plans")).json()["total"] == 0
        figures = (await client.get("/metrics")).text
        assert "layout_planner_plans_total{" not in figures
        assert 'route="/plan"' not in figures
        assert (await client.post("/plan", content=_BODY)).status_code == 200

    run(Settings(warms=True), body, StandIn(plan))


def test_a_service_that_cannot_plan_its_own_program_answers() -> None:
    async def body(client: httpx.AsyncClient) -> None:
        while (await client.get("/readyz")).status_code != 200:
            pass
        assert len(pool.works) == 1
        assert (await client.post("/plan", content=_BODY)).status_code == 504

    async def late(work: PlanWork) -> None:
        raise OvertimeError("it took too long")

    pool = StandIn(late)
    run(Settings(warms=True), body, pool)


def test_what_does_not_answer_is_not_waited_for(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    app: Any = client.app
    answers = threading.Event()
    monkeypatch.setattr(health, "_SECONDS", 0.1)
    monkeypatch.setattr(app.state.service, "unready", answers.wait)
    checks = client.get("/readyz").json()["checks"]
    answers.set()
    assert checks["planner"]["detail"] == "it did not answer within 0.1 s"
