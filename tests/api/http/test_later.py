"""Plans of programs that are here already, and answers that do not wait for a plan."""

from __future__ import annotations

import hashlib
import json
import lzma
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.http.app import Settings
from api.jail.jail import Jail
from api.store.options import read_options, write_options
from api.store.plans import plan_id
from planner.measured.device import device_file
from planner.options import make_options
from tests.api.graphs import graph
from tests.api.http.inside import StandIn, run
from tests.api.serving import serving

_LATER = {"Prefer": "respond-async"}


async def _upload(client: httpx.AsyncClient, data: bytes) -> str:
    answer = await client.post("/inputs", content=data)
    sha256: str = answer.json()["sha256"]
    return sha256


def _device() -> bytes:
    return lzma.decompress(device_file("lavapipe").read_bytes())


def test_a_program_that_is_there_is_not_sent_again() -> None:
    pool = StandIn()

    async def body(client: httpx.AsyncClient) -> None:
        sha256 = await _upload(client, graph(8))
        named = await client.post("/plan", params={"input": sha256, "name": "net.pte"})
        assert named.status_code == 200
        assert named.headers["content-disposition"] == 'attachment; filename="net.plan"'
        sent = await client.post("/plan", content=graph(8))
        assert sent.headers["location"] == named.headers["location"]
        assert [work.name for work in pool.works] == ["net.pte"]

    run(Settings(), body, pool)


def test_an_input_that_is_not_there_and_one_too_many_are_refused() -> None:
    pool = StandIn()

    async def body(client: httpx.AsyncClient) -> None:
        lost = await client.post("/plan", params={"input": "0" * 64, "name": "net.pte"})
        assert lost.status_code == 422
        assert "POST the bytes of net.pte to /inputs first" in lost.json()["detail"]
        sha256 = await _upload(client, graph(8))
        both = await client.post("/plan", params={"input": sha256}, content=graph(9))
        assert both.status_code == 422
        assert "leave out one of them" in both.json()["detail"]
        text = await _upload(client, b"no program")
        assert (await client.post("/plan", params={"input": text})).status_code == 400
        assert (await client.post("/plan", params={"input": "net"})).status_code == 422

    run(Settings(), body, pool)
    assert pool.works == []


def test_without_a_jail_torch_reads_no_input_for_others(
    conv: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(client: httpx.AsyncClient) -> None:
        sha256 = await _upload(client, conv)  # from this machine
        monkeypatch.setattr("api.http.uploads.is_local", lambda request: False)
        for headers in ({}, _LATER):
            answer = await client.post("/plan", params={"input": sha256}, headers=headers)
            assert answer.status_code == 403

    run(Settings(jail=Jail()), body, StandIn())


@pytest.mark.parametrize(
    ("prefer", "status"),
    [
        (["respond-async"], 202),
        (["Respond-Async; x=1, wait=10"], 202),
        (["handling=lenient", "wait=10, respond-async"], 202),
        (["handling=lenient"], 200),
        (['note="so, respond-async, please"'], 200),
    ],
)
def test_an_answer_that_does_not_wait_is_a_job(prefer: list[str], status: int) -> None:
    async def body(client: httpx.AsyncClient) -> None:
        answer = await client.post(
            "/plan?name=net.pte", content=graph(8), headers=[("Prefer", each) for each in prefer]
        )
        assert answer.status_code == status
        assert ("preference-applied" in answer.headers) == (status == 202)

    run(Settings(), body, StandIn())


def test_what_is_in_store_is_answered_at_once_and_the_rest_is_a_job() -> None:
    pool = StandIn()

    async def body(client: httpx.AsyncClient) -> None:
        later = await client.post("/plan?name=net.pte&gpu=X", content=graph(8), headers=_LATER)
        assert later.status_code == 202 and pool.works == []
        assert later.headers["preference-applied"] == "respond-async"
        job = (await client.get(later.headers["location"])).json()
        assert job["name"] == job["items"][0]["input"] == "net.pte"
        assert job["items"][0]["options"]["gpu"] == "X" and job["request"]["gpus"] == ["X"]
        assert {**later.json(), "items": job["items"]} == job
        made = await client.post("/plan?name=net.pte", content=graph(8))
        there = await client.post("/plan?name=net.pte", content=graph(8), headers=_LATER)
        assert (there.status_code, there.content) == (200, made.content)
        assert there.headers["location"] == made.headers["location"]
        assert "preference-applied" not in there.headers
        assert (await client.get("/jobs")).json()["total"] == 1

    run(Settings(), body, pool)


def test_who_does_not_wait_is_refused_like_others() -> None:
    async def body(client: httpx.AsyncClient) -> None:
        for query, content, status in (
            ("", b"no program", 400),
            ("?objective=speed", graph(8), 422),
            ("?device=none", graph(8), 404),
            ("", graph(8) + bytes(2**20), 413),
        ):
            answer = await client.post(f"/plan{query}", content=content, headers=_LATER)
            assert answer.status_code == status
        assert (await client.get("/jobs")).json()["total"] == 0

    run(Settings(max_upload_bytes=2**20), body, StandIn())


def test_a_device_may_come_as_its_file() -> None:
    pool = StandIn()

    async def body(client: httpx.AsyncClient) -> None:
        sha256 = await _upload(client, _device())
        for device in (sha256, "lavapipe"):
            answer = await client.post("/plan", params={"device": device}, content=graph(8))
            assert answer.status_code == 200
        (work,) = pool.works  # it is the same device
        assert work.options.costs.name.startswith("lavapipe, measured")
        unknown = await client.post("/plan", params={"device": "0" * 64}, content=graph(8))
        assert unknown.status_code == 404
        assert "POST its bytes to /inputs first" in unknown.json()["detail"]
        wrong = await _upload(client, b"{}")
        damaged = await client.post("/plan", params={"device": wrong}, content=graph(8))
        assert damaged.status_code == 422
        assert "no device's file" in damaged.json()["detail"]
        large = await _upload(client, b"{}" + b" " * 16 * 2**20)
        refused = await client.post("/plan", params={"device": large}, content=graph(8))
        assert refused.status_code == 422 and "is larger than" in refused.json()["detail"]

    run(Settings(), body, pool)


@pytest.mark.parametrize("target", [None, "vulkan", "webgpu"])
def test_a_job_plans_what_the_request_asked_for(target: str | None) -> None:
    options = make_options(
        *("bytes", "repack", "64,64,64", ["HEIGHT_PACKED"], 2**20), gpu="X", target=target
    )
    written: dict[str, Any] = json.loads(json.dumps(write_options(options)))
    again = read_options(written, options.profile.to_json(), None)
    assert plan_id("0" * 64, again) == plan_id("0" * 64, options)


@pytest.mark.server
def test_the_result_of_the_job_leads_to_the_plan(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'db.sqlite'}"
    with serving(tmp_path / "data", url, workers=1) as server:
        query = {"device": server.upload(_device()), "name": "net.pte"}
        later = server.client.post("/plan", params=query, content=graph(8), headers=_LATER)
        job = later.headers["location"]
        with server.client.stream("GET", f"{job}/events") as events:
            assert "event: end" in list(events.iter_lines())
        (item,) = server.get(job)["items"]
        there = server.client.post("/plan", params=query, content=graph(8), headers=_LATER)
        assert there.headers["location"] == f"/plans/{item['plan_id']}"
        assert server.get(f"/plans/{item['plan_id']}")["source"]["sha256"] == (
            hashlib.sha256(graph(8)).hexdigest()
        )
