"""How much one caller may ask for, and what others notice of it: nothing."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.cli import main
from api.http.access import AccessRules
from api.http.app import Settings, create_app
from api.http.callers import Buckets, CallerLimits, Callers
from api.planning.work import PlanWork
from api.store.tokens import Allowance, Scope, Tokens
from tests.api.http.inside import StandIn, write_plan

_BODY = b"\0\0\0\0VK00"
_TOKENS = AccessRules("tokens")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """A service that takes tokens."""
    with TestClient(create_app(Settings(tmp_path / "data", access=_TOKENS), StandIn())) as client:
        yield client


def _headers(app: Any, name: str = "ann", **allowed: int) -> dict[str, str]:
    """What a request of a new token comes with."""
    tokens: Tokens = app.state.tokens
    token = tokens.create(name, Scope.ADMIN, Allowance(**allowed))
    return {"Authorization": f"Bearer {token}"}


def _refusals(app: Any) -> dict[str, float]:
    (family,) = app.state.metrics.problems.collect()
    return {
        sample.labels["kind"]: sample.value
        for sample in family.samples
        if sample.name.endswith("_total")
    }


@asynccontextmanager
async def _serving(
    settings: Settings, pool: StandIn, address: str = "127.0.0.1"
) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    app = create_app(settings, pool)
    transport = httpx.ASGITransport(app, client=(address, 1), raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield app, client


class _Blocked:
    """A pool's work that goes on when a test says so."""

    def __init__(self) -> None:
        self.begun, self.may_end = asyncio.Semaphore(0), asyncio.Event()

    async def plan(self, work: PlanWork) -> None:
        self.begun.release()
        await self.may_end.wait()
        await write_plan(work)


def test_a_bucket_is_emptied_at_once_and_fills_up_again() -> None:
    now = 100.0
    buckets = Buckets(60.0, lambda: now)
    assert [buckets.take("a", 1, 3) for _ in range(4)] == [0, 0, 0, 20]
    assert buckets.left("a", 3) == (0, 60)
    assert buckets.take("b", 3, 3) == 0
    assert buckets.wait("b", 4, 3) == float("inf")
    now += 20
    assert buckets.left("a", 3) == (1, 40)
    assert [buckets.take("a", 1, 3) for _ in range(2)] == [0, 20]
    now += 1000
    assert buckets.left("a", 3) == (3, 0)


def test_buckets_that_are_full_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.http.callers._MOST_KNOWN", 10)
    now = 100.0
    buckets = Buckets(60.0, lambda: now)
    for number in range(100):
        now += 60
        buckets.take(f"{number}", 1, 1)
    assert len(vars(buckets)["_full"]) <= 10


def test_requests_of_one_token_are_bounded(client: TestClient) -> None:
    ann = _headers(client.app, requests_per_minute=2)
    answers = [client.get("/plans", headers=ann) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["ratelimit-policy"] == '"requests";q=2;w=60'
    assert answers[0].headers["ratelimit"] == '"requests";r=1;t=30'
    assert answers[2].headers["ratelimit"].startswith('"requests";r=0;t=')
    assert 0 < int(answers[2].headers["retry-after"]) <= 30
    assert "you may send 2 requests a minute" in answers[2].json()["detail"]
    assert client.get("/healthz", headers=ann).status_code == 200
    bob = client.get("/plans", headers=_headers(client.app, "ann"))  # of the same name
    assert bob.status_code == 200
    assert bob.headers["ratelimit-policy"] == '"requests";q=3000;w=60'
    assert _refusals(client.app) == {"too-many-requests": 1}
    assert (
        b'layout_planner_problems_total{kind="too-many-requests"} 1.0'
        in client.get("/metrics", headers=_headers(client.app)).content
    )


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("127.0.0.1", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("192.0.2.1", "address 192.0.2.1"),
        ("::ffff:192.0.2.1", "address 192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "address 2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::", "address 2001:db8:1:2::"),
        ("/run/socket", None),
    ],
)
def test_without_tokens_an_address_is_a_caller_unless_it_is_this_machine(
    address: str, name: str | None
) -> None:
    callers = Callers(CallerLimits(), 64)
    found = callers.of({"type": "http", "client": (address, 1)})
    assert (None if found is None else found.name) == name


def test_whom_a_proxy_names_is_a_caller() -> None:
    callers = Callers(CallerLimits(), 64)
    names = ["ann", "x" * 1000, "x" * 999]
    found = [callers.of({"layout_planner.who": n, "client": ("127.0.0.1", 1)}) for n in names]
    assert found[0] is not None and found[0].name == "user ann"
    assert len({caller.name for caller in found if caller is not None}) == 3
    assert all(caller is not None and len(caller.name) < 100 for caller in found)


def test_this_machine_has_no_limits_and_others_have(tmp_path: Path) -> None:
    limits = CallerLimits(requests_per_minute=1)

    async def run() -> None:
        for address, statuses in (("127.0.0.1", [200, 200]), ("192.0.2.1", [200, 429])):
            settings = Settings(tmp_path, limits=limits)
            async with _serving(settings, StandIn(), address) as (_, client):
                found = [(await client.get("/plans")).status_code for _ in range(2)]
            assert found == statuses

    asyncio.run(run())


def test_plans_of_one_caller_are_bounded_and_leave_the_queue_to_others(tmp_path: Path) -> None:
    async def run() -> None:
        blocked = _Blocked()
        settings = Settings(tmp_path, access=_TOKENS, most_pending=3)
        async with _serving(settings, StandIn(blocked.plan)) as (app, client):
            ann, bob = _headers(app, "ann"), _headers(app, "bob", running_plans=1)

            def post(who: dict[str, str], body: bytes) -> asyncio.Task[httpx.Response]:
                return asyncio.create_task(client.post("/plan", content=body, headers=who))

            waiting = [post(ann, _BODY + b"1"), post(ann, _BODY + b"2"), post(ann, _BODY + b"2")]
            for _ in range(2):
                await blocked.begun.acquire()
            refused = await post(ann, _BODY + b"3")
            assert refused.status_code == 429
            assert "you may have 2" in refused.json()["detail"]
            assert int(refused.headers["retry-after"]) > 0
            waiting.append(post(bob, _BODY + b"4"))
            await blocked.begun.acquire()
            assert (await post(bob, _BODY + b"5")).status_code == 429
            full = await post(_headers(app, "eve"), _BODY + b"6")
            assert full.status_code == 503
            # The same as another's plan: it takes no place of the queue.
            waiting.append(post(_headers(app, "eve"), _BODY + b"4"))
            blocked.may_end.set()
            assert [(await each).status_code for each in waiting] == [200] * 5
            assert _refusals(app) == {"too-many-plans": 2, "queue-full": 1}
            assert (await post(bob, _BODY + b"5")).status_code == 200

    asyncio.run(run())


def test_uploads_of_one_caller_are_bounded(client: TestClient) -> None:
    ann = _headers(client.app, upload_bytes_per_hour=100)
    larger = client.post("/inputs", content=bytes(101), headers=ann)
    assert (larger.status_code, larger.headers.get("retry-after")) == (413, None)
    assert "the 100 bytes that you may upload in an hour" in larger.json()["detail"]
    assert client.post("/inputs", content=bytes(60), headers=ann).status_code == 201
    for content in (bytes(60), iter([bytes(30), bytes(30)])):
        more = client.post("/inputs", content=content, headers=ann)
        assert more.status_code == 429
        assert "you may upload 100 bytes an hour" in more.json()["detail"]
        assert 0 < int(more.headers["retry-after"]) <= 3600
    bob = _headers(client.app, "bob")
    assert client.post("/inputs", content=bytes(60), headers=bob).status_code == 201
    assert _refusals(client.app) == {"too-large": 1, "too-much-uploaded": 2}


def test_uploads_of_all_have_so_much_room_until_they_are_planned(tmp_path: Path) -> None:
    async def run() -> None:
        blocked = _Blocked()
        settings = Settings(tmp_path, most_upload_bytes=20)
        async with _serving(settings, StandIn(blocked.plan)) as (app, client):
            alone = await client.post("/inputs", content=bytes(21))
            assert alone.status_code == 507
            first = asyncio.create_task(client.post("/plan", content=_BODY + bytes(4)))
            await blocked.begun.acquire()

            async def chunks() -> AsyncIterator[bytes]:
                yield bytes(8)
                yield bytes(1)

            for content in (bytes(9), chunks()):
                busy = await client.post("/inputs", content=content)
                assert (busy.status_code, busy.headers["retry-after"]) == (503, "10")
                assert "others upload" in busy.json()["detail"]
            assert (await client.post("/inputs", content=bytes(8))).status_code == 201
            blocked.may_end.set()
            assert (await first).status_code == 200
            assert (await client.post("/inputs", content=bytes(20))).status_code == 201
            assert _refusals(app) == {"store-full": 1, "uploads-full": 2}

    asyncio.run(run())


def test_uploads_leave_half_of_the_room_on_the_disk(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 4 * 2**20

    monkeypatch.setattr("api.http.uploads.disk_usage", lambda _: Usage)
    ann = _headers(client.app)
    assert client.post("/inputs", content=bytes(2 * 2**20 + 1), headers=ann).status_code == 507
    assert client.post("/inputs", content=bytes(2 * 2**20), headers=ann).status_code == 201
    Usage.free = 0
    # What stays in memory needs no room for files.
    assert client.post("/inputs", content=bytes(2**20), headers=ann).status_code == 201


def test_a_full_disk_is_told_from_others_that_upload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 0

    async def run() -> None:
        blocked = _Blocked()
        async with _serving(Settings(tmp_path), StandIn(blocked.plan)) as (app, client):
            first = asyncio.create_task(client.post("/plan", content=_BODY))
            await blocked.begun.acquire()
            monkeypatch.setattr("api.http.uploads.disk_usage", lambda _: Usage)
            refused = await client.post("/inputs", content=bytes(2**20 + 1))
            assert (refused.status_code, refused.headers.get("retry-after")) == (507, None)
            blocked.may_end.set()
            assert (await first).status_code == 200
            assert _refusals(app) == {"store-full": 1}

    asyncio.run(run())


def test_what_a_caller_has_in_the_store_is_bounded(client: TestClient) -> None:
    ann = _headers(client.app, stored_bytes=100)
    kept = client.post("/inputs", content=_BODY + bytes(52), headers=ann)
    assert kept.status_code == 201
    for content in (bytes(50), iter([bytes(50)])):
        refused = client.post("/inputs", content=content, headers=ann)
        assert refused.status_code == 413
        assert "that you may have: delete plans and jobs" in refused.json()["detail"]
    # The same bytes again are there once.
    again = client.post("/inputs", content=iter([_BODY + bytes(52)]), headers=ann)
    assert again.status_code == 201
    assert client.post("/inputs", content=bytes(100), headers=_headers(client.app, "bob"))

    # A plan is charged with all its files, even if these are more: then there is no room left.
    plan = client.post("/plan", content=_BODY, headers=ann)
    assert plan.status_code == 200
    refused = client.post("/plan", content=_BODY + b"1", headers=ann)
    assert refused.status_code == 413
    inputs = [{"name": "a", "sha256": kept.json()["sha256"]}]
    job = {"inputs": inputs, "profiles": ["bytes"]}
    assert client.post("/jobs", json=job, headers=ann).status_code == 413
    # What is in store is answered all the same, and to delete it makes room at once.
    assert client.post("/plan", content=_BODY, headers=ann).status_code == 200
    assert client.delete(plan.headers["location"], headers=ann).status_code == 204
    assert client.post("/jobs", json=job, headers=ann).status_code == 201
    assert _refusals(client.app) == {"account-full": 4}


def test_of_two_servers_only_one_gives_the_last_room_away(
    database_url: str, tmp_path: Path
) -> None:
    settings = Settings(
        tmp_path / "data",
        database_url,
        access=AccessRules("tokens", "X-User"),
        limits=CallerLimits(stored_bytes=100),
    )

    async def run() -> None:
        async with (
            _serving(settings, StandIn()) as (_, one),
            _serving(settings, StandIn()) as (_, two),
        ):
            for number in range(4):
                user = {"X-User": f"{number}"}
                answers = await asyncio.gather(
                    *(
                        client.post("/inputs", content=bytes([number, which]) * 30, headers=user)
                        for which, client in enumerate((one, two))
                    )
                )
                assert sorted(answer.status_code for answer in answers) == [201, 413]

    asyncio.run(run())


def test_who_names_an_input_of_another_is_charged_for_it(client: TestClient) -> None:
    data = _BODY + bytes(92)
    sha256 = hashlib.sha256(data).hexdigest()
    ann, bob = _headers(client.app), _headers(client.app, "bob", stored_bytes=99)
    assert client.post("/inputs", content=data, headers=ann).status_code == 201
    job = {"inputs": [{"name": "a", "sha256": sha256}], "profiles": ["bytes"]}
    refused = client.post("/jobs", json=job, headers=bob)
    assert refused.status_code == 413
    assert client.get("/jobs", headers=bob).json()["total"] == 0
    assert client.post("/jobs", json=job, headers=ann).status_code == 201


def test_a_plan_that_is_not_waited_for_is_charged_as_well(client: TestClient) -> None:
    ann = _headers(client.app, stored_bytes=100) | {"Prefer": "respond-async"}
    assert client.post("/plan", content=_BODY + bytes(52), headers=ann).status_code == 202
    assert client.post("/plan", content=_BODY + bytes(51), headers=ann).status_code == 413
    app: Any = client.app
    accounts = app.state.service.store.accounts
    (caller,) = {f"token {token.id}" for token in app.state.tokens.all()}
    assert accounts.stored(caller) == 60
    assert _refusals(client.app) == {"account-full": 1}


def test_limits_of_a_token_are_given_by_commands(tmp_path: Path) -> None:
    def run(*args: str) -> str:
        ended = CliRunner().invoke(main, ["token", *args, "--data-dir", str(tmp_path)])
        assert ended.exit_code == 0, ended.output
        return ended.output

    run("create", "plain")
    limits = ("--running-plans", "2", "--stored-gib", "0.5", "--upload-gib-per-hour", "3")
    run("create", "bounded", "--requests-per-minute", "60", *limits)
    bounded, plain = run("list").splitlines()
    assert bounded.endswith(
        "bounded  60 requests/min  2 plans at a time  0.5 GiB stored  3 GiB/h uploaded"
    )
    assert plain.endswith("plain")
