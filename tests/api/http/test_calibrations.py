"""Calibrations in a browser, without the browser: what the service hands out and takes back."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from fastapi.testclient import TestClient

from api.http.access import AccessRules
from api.http.app import Settings, create_app
from api.http.signing import Signer
from api.store.tokens import Scope, Tokens
from gpu.probes import SWEEPS, probes
from planner.costs.profile_file import parse_profile
from planner.measured.device import read_device
from tests.api.graphs import graph
from tests.api.http.inside import StandIn
from tests.gpu.claimed import LIMITS, shape

NAME: Final = "trial"
SWEEP: Final = SWEEPS[NAME]
ADAPTER: Final = {"vendor": "arm", "architecture": "valhall", "is_fallback": False}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(tmp_path / "data"))) as client:
        yield client


def begin(client: TestClient, device: str = "my phone", **headers: str) -> dict[str, Any]:
    """The samples of an honest calibration."""
    begun = client.post("/calibrations", json={"device": device, "sweep": NAME}, headers=headers)
    assert begun.status_code == 200, begun.text
    seed = begun.json()["seed"]
    return {
        "session": begun.json()["session"],
        "adapter": ADAPTER,
        "limits": LIMITS,
        "timing": "queue",
        "resolution_ns": 100.0,
        "shapes": [shape(SWEEP, number, seed) for number in range(len(SWEEP.shapes))],
    }


def replays(wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """What the service wants to have measured again."""
    by_number: dict[int, set[str]] = {}
    for each in wanted["probes"]:
        by_number.setdefault(each["number"], set()).add(each["key"])
    return [shape(SWEEP, n, wanted["seed"], frozenset(keys)) for n, keys in by_number.items()]


def hand_in(client: TestClient, samples: dict[str, Any], **headers: str) -> Any:
    """Goes all the way; returns the last answer, or the first that is a refusal."""
    wanted = client.post("/calibrations/samples", json=samples, headers=headers)
    if wanted.status_code != 200:
        return wanted
    again = {"again": wanted.json()["again"], "replays": replays(wanted.json())}
    return client.post("/calibrations/profiles", json={**samples, **again}, headers=headers)


def refused(answer: Any) -> str:
    assert answer.status_code == 422, answer.text
    assert answer.json()["type"] == "/problems/samples-refused"
    said: str = answer.json()["detail"]
    return said


def test_a_calibration_becomes_a_devices_profile_and_plans_a_model(client: TestClient) -> None:
    kept = hand_in(client, begin(client))
    assert kept.status_code == 201, kept.text
    told = kept.json()
    assert told["device"] == "my phone" and told["left_out"] == 0 and told["samples"] == 100
    device = client.get("/devices/my phone").json()
    assert device["profile"]["hash"] == told["profile"]
    assert device["calibrated"] and device["runs"] == 0
    assert "not ExecuTorch's kernels" in device["profile"]["description"]

    # By the device, and by the profile alone: the same costs.
    found = []
    for query in ({"device": "my phone"}, {"profile": told["profile"], "objective": "latency"}):
        planned = client.post("/plan", params=query, content=graph())
        assert planned.status_code == 200, planned.text
        total = client.get(planned.headers["location"]).json()["total"]
        found.append((total["repack_cost"], total["objective_cost"], total["bound"]))
    assert found[0] == found[1]
    assert found[0][1] > 0
    # Another profile that is asked for prices it instead.
    other = client.post("/plan", params={"device": "my phone", "profile": "h200"}, content=graph())
    total = client.get(other.headers["location"]).json()["total"]
    assert total["objective_cost"] != found[0][1]

    file = read_device(client.get("/devices/my phone/device.json").content, "the file")
    assert file.profile is not None and file.profile.digest == told["profile"]
    measured_by = file.profile.measured
    assert measured_by is not None and measured_by.adapter == "arm valhall"
    assert measured_by.backend == "WebGPU, batches timed by the queue"
    assert parse_profile(file.profile.to_json(), "here") == file.profile

    # Once more: the newer profile takes its place.
    again = hand_in(client, begin(client)).json()
    assert again["profile"] != told["profile"]
    assert client.get("/devices/my phone").json()["profile"]["hash"] == again["profile"]


def test_nothing_of_a_visitor_is_kept_but_the_adapter_and_the_fit(
    client: TestClient, tmp_path: Path
) -> None:
    samples = begin(client)
    samples["shapes"][0]["probes"][0]["ns"] = [5123.456789, 5123.456789, 5123.456789]
    headers = {"User-Agent": "Browser of Ann", "Accept-Language": "xx-ann"}
    assert hand_in(client, samples, **headers).status_code == 201
    client.get("/devices/my phone/device.json")  # which writes the device's file
    everything = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert b"valhall" in everything
    for private in (b"Browser of Ann", b"xx-ann", b"5123.456789", samples["session"].encode()):
        assert private not in everything


def test_wrong_and_hostile_samples_are_refused_and_nothing_is_kept(client: TestClient) -> None:
    samples = begin(client)

    def one(**fields: Any) -> dict[str, Any]:
        first, *rest = samples["shapes"]
        probe, *others = first["probes"]
        return {**samples, "shapes": [{**first, "probes": [{**probe, **fields}, *others]}, *rest]}

    made_up = {**samples, "shapes": [shape(SWEEP, n, 1) for n in range(len(SWEEP.shapes))]}
    assert "wrong bytes" in refused(hand_in(client, made_up))
    assert "wrong bytes" in refused(hand_in(client, one(digest=None)))
    assert "no device does" in refused(hand_in(client, one(ns=[1e-6] * 5)))
    assert "not in the sweep" in refused(hand_in(client, one(key="rm -rf /")))
    assert "too few" in refused(hand_in(client, {**samples, "shapes": samples["shapes"][:1]}))
    assert "begin again" in refused(hand_in(client, {**samples, "session": "x.y"}))
    malformed: list[dict[str, Any]] = [
        one(ns=[-1.0] * 5),
        one(ns=[]),
        one(ns=[1.0] * 1000),
        one(count=0),
        one(digest="../../etc/passwd"),
        {**samples, "limits": {}},
        {**samples, "adapter": {**ADAPTER, "description": "x" * 10_000}},
        {**samples, "resolution_ns": 0},
        {**samples, "more": 1},
        {**samples, "session": "\0"},
    ]
    for wrong in malformed:
        answer = client.post("/calibrations/samples", json=wrong)
        assert answer.status_code == 422, answer.text
        assert answer.json()["type"] == "/problems/invalid-request"
    text = json.dumps(one(ns=[5000.0] * 5)).replace("5000.0", "NaN")
    assert client.post("/calibrations/samples", content=text).status_code == 422
    shipped = client.post("/calibrations", json={"device": "lavapipe", "sweep": NAME})
    assert shipped.status_code == 409
    assert [each["name"] for each in client.get("/devices").json()["devices"]] == [
        *("lavapipe", "nvidia-h100"),
    ]
    assert all(profile["is_builtin"] for profile in client.get("/profiles").json())


def test_samples_cannot_change_once_they_were_checked(client: TestClient) -> None:
    samples = begin(client)
    wanted = client.post("/calibrations/samples", json=samples).json()
    ready = {**samples, "again": wanted["again"], "replays": replays(wanted)}
    keep = "/calibrations/profiles"

    def changed(**fields: Any) -> Any:
        return client.post(keep, json={**ready, **fields})

    faster = json.loads(json.dumps(samples["shapes"]))
    faster[0]["probes"][0]["ns"] = [4000.0] * 5
    assert "other samples" in refused(changed(shapes=faster))
    assert "not what was asked for" in refused(changed(replays=[]))
    assert "not what was asked for" in refused(changed(replays=ready["replays"][1:]))
    assert "begin again" in refused(changed(again=samples["session"]))
    assert "begin again" in refused(changed(session=begin(client)["session"]))
    slow = json.loads(json.dumps(ready["replays"]))
    for each in slow:
        for probe in each["probes"]:
            probe["ns"] = [10 * ns for ns in probe["ns"]]
    assert "did not come again" in refused(changed(replays=slow))
    assert client.post(keep, json=ready).status_code == 201


def test_the_sweep_is_data(client: TestClient) -> None:
    sweep = client.get(f"/calibrations/sweeps/{NAME}").json()
    assert sweep["shapes"] == [list(each) for each in SWEEP.shapes]
    for file in ("conversions", "halves_integer"):
        text = Path("gpu/shaders", f"{file}.wgsl").read_text("utf-8")
        assert text in sweep["library"]
    for number, each in enumerate(SWEEP.shapes):
        document = client.get(f"/calibrations/sweeps/{NAME}/{number}").json()
        assert len(document["probes"]) == sweep["probes"]
        for probe, told in zip(probes(each), document["probes"], strict=True):
            assert (told["key"], told["code"]) == (probe.key, probe.shader.code)
            sides = [told["source"], told["target"]]
            for placement, side in zip((probe.source, probe.target), sides, strict=True):
                tensor = {"bytes": 16} if side is None else document["tensors"][side]
                assert tensor["bytes"] == placement.bytes
    assert client.get(f"/calibrations/sweeps/{NAME}/99").status_code == 404
    assert client.get("/calibrations/sweeps/other").status_code == 422


def test_signatures_hold_for_their_purpose_and_time() -> None:
    now = 1000.0
    signer = Signer("a secret", lambda: now)
    text = signer.sign("one", {"device": "é/"}, 60)
    found = signer.read("one", text)
    assert found is not None and found["device"] == "é/"
    body, _, mark = text.partition(".")
    for wrong in ("", ".", body, f"{body}.", f"{body}.{mark[:-2]}", f".{mark}", "é.é", "a.b.c"):
        assert signer.read("one", wrong) is None
    assert signer.read("two", text) is None
    assert Signer("another", lambda: now).read("one", text) is None
    other = base64.urlsafe_b64encode(b'{"device":"x","until":9999}').decode().rstrip("=")
    assert signer.read("one", f"{other}.{mark}") is None
    now = 1061.0
    assert signer.read("one", text) is None


def test_a_link_calibrates_one_device_and_does_nothing_else(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "data", access=AccessRules("tokens"))
    with TestClient(create_app(settings, StandIn())) as client:
        app: Any = client.app
        tokens: Tokens = app.state.tokens
        planner = {"Authorization": f"Bearer {tokens.create('ann', Scope.PLAN)}"}
        reader = {"Authorization": f"Bearer {tokens.create('bob', Scope.READ)}"}
        wanted = {"device": "my phone"}
        assert client.post("/calibrations/links", json=wanted).status_code == 401
        assert client.post("/calibrations/links", json=wanted, headers=reader).status_code == 403
        assert client.post("/calibrations", json={}, headers=reader).status_code == 403
        made = client.post("/calibrations/links", json=wanted, headers=planner).json()
        assert made["seconds"] == 3600 and made["qr"].startswith("data:image/svg+xml;base64,")
        link = httpx.URL(made["url"]).params["link"]

        assert client.get("/calibrate").status_code == 401
        assert client.get("/calibrate", params={"link": link[:-1]}).status_code == 401
        page = client.get(made["url"])
        assert page.status_code == 200 and "my phone" in page.text
        linked = {"Calibration-Link": link}
        for path in ("/", "/plans", "/devices", "/device/my%20phone", "/profiles", "/docs"):
            assert client.get(path, headers=linked).status_code == 401, path
            assert client.get(path, params={"link": link}).status_code == 401, path
        for path in ("/calibrations/links", "/devices", "/profiles", "/plan"):
            assert client.post(path, json=wanted, headers=linked).status_code == 401, path
        other = client.post(
            "/calibrations", json={"device": "another", "sweep": NAME}, headers=linked
        )
        assert other.status_code == 403 and "'my phone' alone" in other.json()["detail"]
        theirs = begin(client, "another", **planner)
        assert client.post("/calibrations/samples", json=theirs, headers=linked).status_code == 403

        assert hand_in(client, begin(client, **linked), **linked).status_code == 201
        audited = (tmp_path / "data" / "audit.log").read_text()
        assert '"link for my phone"' in audited and "link=" in audited and link not in audited
        lines = [json.loads(line) for line in audited.splitlines()]
        for line in lines:
            assert (line["address"] is None) == line["path"].startswith("/calibrat"), line
        assert client.get("/devices/my phone", headers=reader).json()["profile"]


def test_where_no_token_is_wanted_a_link_has_none(client: TestClient) -> None:
    made = client.post("/calibrations/links", json={"device": "my phone"}).json()
    assert made["seconds"] is None
    assert httpx.URL(made["url"]).params == httpx.QueryParams(device="my phone")
    assert made["url"].startswith("http://testserver/calibrate?")
    # A browser that came through a proxy with a certificate.
    app: Any = client.app
    headers = {"Origin": "https://testserver", "Form-Token": app.state.form_token}
    behind = client.post("/calibrations/links", json={"device": "x"}, headers=headers).json()
    assert behind["url"] == "https://testserver/calibrate?device=x"
    assert b"<svg" in base64.b64decode(made["qr"].partition(",")[2])
