"""Both clients against a real server: every operation that it describes."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict
from urllib.parse import quote_plus

import httpx
import pytest

from api.client import AsyncClient, Client, Submission, documents
from api.client.documents import DeviceRequest, PlanQuery, PlansQuery, WantedQuery
from gpu.probes import SWEEPS
from planner.costs.profile_file import load_profile
from tests.api.client.calls import CLIENTS, Caller, run
from tests.api.graphs import graph
from tests.api.serving import Server, serving
from tests.gpu.claimed import LIMITS, shape
from tests.recorded import recorded

_ROW = {
    "operators": ["aten.linear.default"],
    "representations": ["texture:WIDTH_PACKED"],
    "effect": "wrong values",
    "source": "a run",
    "state": "open",
    "seen": "off by 0.3",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with serving(folder / "data", f"sqlite:///{folder / 'db.sqlite'}", workers=1) as server:
        yield server


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The requests that clients make: methods and paths."""
    found: list[tuple[str, str]] = []

    def noted(client: Any, request: httpx.Request, **options: Any) -> Any:
        found.append((request.method, request.url.raw_path.decode().partition("?")[0]))
        return send(client, request, **options)

    async def noted_later(client: Any, request: httpx.Request, **options: Any) -> Any:
        found.append((request.method, request.url.raw_path.decode().partition("?")[0]))
        return await send_later(client, request, **options)

    send, send_later = httpx.Client.send, httpx.AsyncClient.send
    monkeypatch.setattr(httpx.Client, "send", noted)
    monkeypatch.setattr(httpx.AsyncClient, "send", noted_later)
    return found


@pytest.mark.lowering
@pytest.mark.parametrize("kind", CLIENTS)
def test_every_operation_has_a_method(
    kind: type[Client | AsyncClient],
    server: Server,
    asked: list[tuple[str, str]],
    tmp_path: Path,
) -> None:
    source = tmp_path / "net.pte"
    source.write_bytes(graph(8 if kind is Client else 9))
    etdump, ran = tmp_path / "run.etdump", tmp_path / "ran.pte"
    etdump.write_bytes(recorded("mv2_xs_int8", "greedy.etdump"))
    ran.write_bytes(recorded("mv2_xs_int8", "greedy.pte"))
    phone = f"phone of {kind.__name__}"

    async def script(client: Caller) -> None:
        assert (await client.health())["status"] == "ok"
        assert (await client.readiness())["is_ready"]
        assert "layout_planner_" in await client.metrics()
        assert (await client.problem_kind("queue-full"))["status"] == 503

        profile = json.loads(load_profile("bytes").to_json()) | {"name": kind.__name__}
        kept = await client.add_profile(profile)
        assert kept in await client.profiles()

        stages: list[str] = []
        plan = await client.plan(source, profile=kept["hash"], on_stage=stages.append)
        assert stages[0] == "sending the program"
        assert await client.has_input((await client.report(plan.id)).source.sha256)
        assert not await client.has_input("0" * 64)
        assert await client.graph(plan.id) == plan.flatbuffer
        assert await client.program(plan.id) is None  # a VkGraph alone
        assert (await client.explanation(plan.id)).source == "net.pte"
        assert (await client.opportunities(plan.id)).unit == "bytes"
        assert (await client.tradeoffs(plan.id)).unit == "bytes"
        assert (await client.check(source)).findings is not None
        limits: WantedQuery = {"max_transitions": 10**6, "forbid": ["HEIGHT_PACKED"]}
        assert (await client.check(source, **limits)).findings is not None
        listed = await client.plans(name="net", profile=kind.__name__, limit=5)
        assert [each["id"] for each in listed["plans"]] == [plan.id]
        assert await client.progress("0" * 32) is None

        again = await client.plan(source, wait=False, profile=kept["hash"])
        assert again == plan
        later = await client.plan(source, wait=False, gpu="X")
        *_, last = [job async for job in client.follow(later["id"])]
        assert last["counts"]["done"] == 1
        (item,) = await client.results(later["id"])
        assert await client.items(later["id"], limit=1) == [item]
        assert (await client.plan(source, gpu="X")).id == item["plan_id"]
        (ranked,) = await client.job_opportunities(later["id"])
        assert ranked["plans"] == 1
        assert b"is_proven" in await client.file(later["id"], "csv")
        assert json.loads(await client.file(later["id"], "json"))["items"] == [item]

        job = await client.submit(Submission("both", {"net": source}, {"profiles": ["bytes"]}))
        assert (await client.job(job))["name"] == "both"
        assert job in [each["id"] for each in await client.jobs()]
        assert await client.cancel(job) in (0, 1)
        await client.retry(job)
        await client.delete_job(job)
        assert len(await client.workers()) == 1
        await client.delete_plan(plan.id)

        await client.add_device(phone, gpu="Mali-G78", avoid=[_ROW])
        assert (await client.device(phone))["gpu"] == "Mali-G78"
        assert await client.device("none") is None
        assert phone in [each["name"] for each in await client.devices()]
        assert await client.avoid(phone) == [_ROW]
        assert await client.replace_avoid(phone, []) == []
        assert await client.add_avoid(phone, [_ROW]) == [_ROW]
        assert await client.device_file(phone) is None
        added, is_new = await client.add_run(phone, etdump, ran)
        assert is_new and (await client.add_run(phone, etdump, ran)) == (added, False)
        assert await client.runs(phone) == [added]
        assert json.loads(await client.device_file(phone))["name"] == phone
        assert (await client.fit(phone))["runs"][0]["id"] == added["id"]
        tuning = await client.begin_tuning(phone, "net.pte")
        await client.tell_tuning(phone, tuning, {"stage": "measuring"})
        assert (await client.tuning(phone, tuning))["progress"]["stage"] == "measuring"
        assert await client.tuning(phone, "none") is None
        assert [each["id"] for each in await client.tunings(phone)] == [tuning]
        await client.delete_run(phone, added["id"])

        assert (await client.calibration_link(phone))["url"].endswith(f"device={quote_plus(phone)}")
        sweep = SWEEPS[(await client.sweep("trial"))["name"]]
        first = await client.sweep_shape("trial", 0)
        assert tuple(first["shape"]) == sweep.shapes[0]
        begun = await client.begin_calibration(phone, "trial")
        samples = {
            "session": begun["session"],
            **{"adapter": {}, "limits": LIMITS, "timing": "timestamps", "resolution_ns": 1.0},
            "shapes": [shape(sweep, n, begun["seed"]) for n in range(len(sweep.shapes))],
        }
        wanted = await client.check_samples(samples)
        again = [
            shape(sweep, each["number"], wanted["seed"], frozenset((each["key"],)))
            for each in wanted["probes"]
        ]
        replays = {"again": wanted["again"], "replays": again}
        calibrated = await client.keep_samples({**samples, **replays})
        kept_device = await client.device(phone)
        assert kept_device["profile"]["hash"] == calibrated["profile"]
        await client.delete_device(phone)

    run(kind, str(server.client.base_url), script)
    described = server.get("/openapi.json")["paths"]
    missing = [
        f"{method.upper()} {path}"
        for path, operations in described.items()
        for method in operations
        if not any(_is_of(path, method, *request) for request in asked)
    ]
    assert missing == []


def _is_of(template: str, method: str, asked: str, path: str) -> bool:
    pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template))
    return method.upper() == asked and re.fullmatch(pattern, path) is not None


def test_documents_are_those_that_the_service_describes(server: Server) -> None:
    schemas = server.get("/openapi.json")["components"]["schemas"]
    known = {name: kind for name, kind in vars(documents).items() if is_typeddict(kind)}
    queries = {"WantedQuery", "PlanQuery", "PlansQuery", "DeviceRequest"}
    assert known.keys() - queries <= schemas.keys()
    for name in known.keys() - queries:
        described, ours = schemas[name]["properties"], get_type_hints(known[name])
        assert ours.keys() == described.keys(), name
        for key, kind in ours.items():
            assert _takes(kind, described[key], schemas), f"{name}.{key} is no {kind}"


def test_queries_are_those_that_the_service_describes(server: Server) -> None:
    document = server.get("/openapi.json")
    for kind, path, method in ((PlanQuery, "/plan", "post"), (PlansQuery, "/plans", "get")):
        parameters = document["paths"][path][method]["parameters"]
        described = {each["name"] for each in parameters if each["in"] == "query"}
        assert get_type_hints(kind).keys() == described
    limits = {each["name"] for each in document["paths"]["/check"]["post"]["parameters"]}
    assert get_type_hints(WantedQuery).keys() == limits - {"runtime", "target", "gpu", "name"}
    device = document["components"]["schemas"]["DeviceRequest"]["properties"].keys()
    assert get_type_hints(DeviceRequest).keys() == device - {"name"}


_JSON = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def _takes(kind: Any, schema: dict[str, Any], schemas: dict[str, Any]) -> bool:
    """Whether a type is the one that a schema describes."""
    if "$ref" in schema:
        return is_typeddict(kind) and schema["$ref"].endswith(f"/{kind.__name__}")
    if "anyOf" in schema:
        if get_origin(kind) not in (Union, types.UnionType):
            return False
        ours, theirs = get_args(kind), schema["anyOf"]
        return len(ours) == len(theirs) and all(
            any(_takes(each, one, schemas) for each in ours) for one in theirs
        )
    if get_origin(kind) is Literal:
        return set(get_args(kind)) == set(schema.get("enum", ()))
    if get_origin(kind) is list:
        return schema["type"] == "array" and _takes(get_args(kind)[0], schema["items"], schemas)
    if get_origin(kind) is dict:
        values = schema.get("additionalProperties")
        return schema["type"] == "object" and (
            not isinstance(values, dict) or _takes(get_args(kind)[1], values, schemas)
        )
    return _JSON.get(kind) == schema.get("type") and "enum" not in schema
