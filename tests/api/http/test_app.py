"""The service as an application, with its store."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Engine, event

from api.http.app import Settings
from api.planning.work import PlanWork
from tests.api.http.inside import StandIn, run
from tests.api.store.drafts import write_files


def test_statements_never_run_in_the_event_loop(conv: bytes, database_url: str) -> None:
    statements, in_loop = [], []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)
        if asyncio._get_running_loop() is not None:
            in_loop.append(statement)

    async def body(client: httpx.AsyncClient) -> None:
        location = (await client.post("/plan", content=conv)).headers["location"]
        for path in (location, f"{location}/graph", f"{location}/program.pte", "/plans"):
            assert (await client.get(path)).status_code == 200
        assert (await client.delete(location)).status_code == 204

    event.listen(Engine, "before_cursor_execute", note)
    try:
        run(Settings(database_url=database_url), body, StandIn())
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert len(statements) > 10
    assert in_loop == []


def test_plans_outlive_the_service(conv: bytes, database_url: str, tmp_path: Path) -> None:
    settings = Settings(tmp_path / "data", database_url)
    found: list[tuple[bytes, Any]] = []

    async def body(client: httpx.AsyncClient) -> None:
        answer = await client.post("/plan", content=conv)
        found.append((answer.content, (await client.get("/plans")).json()))

    run(settings, body, StandIn())
    unused = StandIn()
    run(settings, body, unused)
    assert unused.works == []
    assert found[0] == found[1]


def test_lists_a_page(conv: bytes, database_url: str) -> None:
    ratios = {"a.pt2": 1.5, "b.pt2": None, "c.pt2": 3.0}

    async def plan(work: PlanWork) -> None:
        write_files(work.source, work.files, work.name, ratio=ratios[work.name])

    async def body(client: httpx.AsyncClient) -> None:
        for number, name in enumerate(ratios):
            await client.post(f"/plan?name={name}&buffer_limit={1 + number}", content=conv)

        async def names(**query: Any) -> tuple[int, list[str]]:
            page = (await client.get("/plans", params=query)).json()
            return page["total"], [plan["name"] for plan in page["plans"]]

        assert await names() == (3, ["c.pt2", "b.pt2", "a.pt2"])
        assert await names(sort="ratio") == (3, ["b.pt2", "c.pt2", "a.pt2"])
        assert await names(sort="name", order="asc", limit=1, offset=1) == (3, ["b.pt2"])
        assert await names(name="C.", status="OPTIMAL", objective="repack") == (1, ["c.pt2"])
        assert await names(min_ratio=2, max_ratio=5) == (1, ["c.pt2"])
        assert await names(created_before="2026-01-01T00:00:00") == (0, [])
        assert await names(created_after="2026-01-01T00:00:00+05:00", profile="default") == (
            *(3, ["c.pt2", "b.pt2", "a.pt2"]),
        )
        plans = (await client.get("/plans")).json()["plans"]
        assert [plan["ratio"] for plan in plans] == [3.0, None, 1.5]
        assert [plan["buffer_limit"] for plan in plans] == [3, 2, 1]
        assert all(plan["created"].endswith("Z") for plan in plans)

    run(Settings(database_url=database_url), body, StandIn(plan))
