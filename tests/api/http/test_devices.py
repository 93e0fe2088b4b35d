"""Devices over HTTP: real runs of ExecuTorch's runtime, and plans by what they taught."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from planner.costs.profile_file import load_profile
from tests.api.http.running import Server, detail, post
from tests.recorded import recorded

MODEL = "mv2_xs_int8"
PLANS = ("greedy", "planned", "random0")
ROW = {
    "operators": ["et_vk.q8ta_conv2d_dw.default"],
    "representations": ["buffer:4C1W"],
    "effect": "wrong values",
    "source": "a run",
}


def upload(server: Server, data: bytes) -> str:
    sha256: str = server.client.post("/inputs", content=data).json()["sha256"]
    return sha256


def add_run(server: Server, device: str, plan: str) -> httpx.Response:
    files = {
        "etdump": {"name": f"{plan}.etdump", "sha256": upload(server, etdump(plan))},
        "program": {"name": "mv2.pte", "sha256": upload(server, program(plan))},
    }
    return server.client.post(f"/devices/{device}/runs", json=files)


def etdump(plan: str) -> bytes:
    return recorded(MODEL, f"{plan}.etdump")


def program(plan: str) -> bytes:
    return recorded(MODEL, f"{plan}.pte")


@pytest.fixture(scope="module")
def phone(server: Server) -> str:
    """A device with three runs."""
    answer = server.client.post("/devices", json={"name": "my phone", "driver": "Mesa 22.3.6"})
    assert answer.status_code == 201
    assert answer.headers["location"] == "/devices/my%20phone"
    for plan in PLANS:
        added = add_run(server, "my phone", plan)
        assert added.status_code == 201, added.text
    return "my phone"


def report(server: Server, answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return server.client.get(answer.headers["location"]).json()


def test_a_device_has_the_runs_that_were_added(server: Server, phone: str) -> None:
    runs = server.client.get(f"/devices/{phone}/runs").json()
    assert [run["source"] for run in runs] == [f"{plan}.etdump" for plan in reversed(PLANS)]
    assert all(run["program_name"] == "mv2.pte" and run["total_ns"] > 1e8 for run in runs)
    again = add_run(server, phone, "greedy")
    assert (again.status_code, again.json()) == (200, runs[-1])
    device = server.client.get(f"/devices/{phone}").json()
    assert (device["runs"], device["driver"], device["is_shipped"]) == (3, "Mesa 22.3.6", False)
    names = [each["name"] for each in server.client.get("/devices").json()["devices"]]
    assert names.index(phone) < names.index("nvidia-h100")


def test_its_fit_says_how_well_it_is_known(server: Server, phone: str) -> None:
    answer = server.client.get(f"/devices/{phone}/fit")
    assert answer.status_code == 200
    fit = answer.json()
    by_source = {run["source"]: run for run in fit["runs"]}
    assert set(by_source) == {f"{plan}.etdump" for plan in PLANS}
    for run in by_source.values():
        assert run["program"] == "mv2.pte" and run["id"] and run["created"]
        assert 0.6 < run["predicted"] / run["measured"] < 1.6
        assert abs(run["speed"]) < 0.5
    operators = {each["operator"]: each for each in fit["operators"]}
    convolution = operators["et_vk.q8ta_conv2d_dw.default"]
    assert convolution["share"] > 0.2 and convolution["interpolated"]["median_error"] < 0.5
    (next_,) = fit["next"]
    assert next_["program"] == "mv2.pte" and next_["untried"]
    assert server.client.get(f"/devices/{phone}/fit").json() == fit


def test_a_plan_for_a_device_is_by_its_times(server: Server, phone: str) -> None:
    found = report(server, post(server, program("greedy"), device=phone, name="mv2.pte"))
    assert (found["objective"], found["unit"]) == ("latency", "ns")
    assert found["total"]["cost_origins"]["measured"] > 0.9
    assert found["total"]["objective_cost"] < found["total"]["baseline_objective_cost"]
    alone = report(
        server, post(server, program("greedy"), device=phone, objective="repack", name="mv2.pte")
    )
    assert alone["objective"] == "repack"
    listed = server.client.get("/plans", params={"device": phone}).json()
    assert listed["total"] == 2
    assert {plan["device"] for plan in listed["plans"]} == {phone}


def test_a_shipped_device_plans_as_well(server: Server) -> None:
    found = report(server, post(server, program("greedy"), device="nvidia-h100", name="mv2.pte"))
    assert found["total"]["cost_origins"]["measured"] > 0.9
    assert server.client.get("/devices/nvidia-h100/device.json").json()["name"] == "nvidia-h100"
    for method, path, body in (
        ("DELETE", "", None),
        ("PUT", "/avoid", []),
        ("POST", "/tunings", {"program": "a.pte"}),
    ):
        answer = server.client.request(method, f"/devices/nvidia-h100{path}", json=body)
        assert answer.status_code == 409
        assert "ships with the planner" in detail(answer)


def test_what_is_wrong_on_a_device_is_avoided(server: Server) -> None:
    server.client.post("/devices", json={"name": "faulty", "avoid": []})
    assert add_run(server, "faulty", "greedy").status_code == 201

    def layouts() -> str:
        answer = post(server, program("greedy"), device="faulty", name="mv2.pte")
        return str(report(server, answer))

    before = layouts()
    assert server.client.post("/devices/faulty/avoid", json=[ROW]).json() == [ROW]
    assert server.client.post("/devices/faulty/avoid", json=[ROW]).json() == [ROW]
    assert server.client.get("/devices/faulty/avoid").json() == [ROW]
    after = layouts()
    assert before != after
    assert server.client.put("/devices/faulty/avoid", json=[]).json() == []


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"name": ""}, 422, "field 'name': String should have at least 1 character"),
        ({"name": "a/b"}, 422, "field 'name': String should match pattern"),
        ({"name": ".."}, 422, "field 'name': String should match pattern"),
        ({"name": "a\nb"}, 422, "field 'name': String should match pattern"),
        ({"name": "a", "texture_limits": "1,2"}, 422, "texture limits '1,2' are not three"),
        ({"name": "a", "buffer_limit": 0}, 422, "buffer limit 0 is not a positive number"),
        ({"name": "a", "avoid": [{}]}, 422, "the avoid list of device a, row 0: effect should"),
        ({"name": "a", "colour": 1}, 422, "field 'colour': Extra inputs are not permitted"),
        ({"name": "lavapipe"}, 409, "the device 'lavapipe' ships with the planner"),
        ({"name": "my phone", "driver": "other"}, 409, "'my phone' with another driver"),
    ],
)
def test_a_wrong_device_is_told(
    server: Server, phone: str, body: dict[str, Any], status: int, text: str
) -> None:
    answer = server.client.post("/devices", json=body)
    assert answer.status_code == status
    assert text in detail(answer)


def test_a_wrong_run_is_told_and_nothing_is_kept(server: Server) -> None:
    server.client.post("/devices", json={"name": "empty"})
    good, other = upload(server, etdump("greedy")), upload(server, program("random0"))
    cut = upload(server, etdump("greedy")[:5000])
    name = {"name": "it"}
    for ran, program_, text in (
        (good, other, "does not belong to this program"),
        (other, other, "is not an ETDump: hand in the file that ETDumpGen wrote"),
        (cut, other, "is damaged: ExecuTorch's Inspector fails on it"),
        (good, good, "is"),
        (good, "0" * 64, "the file it has not been uploaded: POST its bytes to /inputs first"),
    ):
        files = {"etdump": name | {"sha256": ran}, "program": name | {"sha256": program_}}
        answer = server.client.post("/devices/empty/runs", json=files)
        assert answer.status_code == 422, answer.text
        assert text in detail(answer)
    assert server.client.get("/devices/empty/runs").json() == []
    answer = server.client.get("/devices/empty/fit")
    assert answer.status_code == 422
    assert detail(answer).startswith("device 'empty' has no runs yet: POST one to /devices/empty")
    assert server.client.delete("/devices/empty").status_code == 204


def test_there_is_no_such_device(server: Server) -> None:
    for path in ("", "/runs", "/fit", "/avoid", "/device.json", "/tunings"):
        answer = server.client.get(f"/devices/pixel{path}")
        assert answer.status_code == 404
        assert detail(answer).startswith("there is no device 'pixel': GET /devices lists")
    answer = post(server, program("greedy"), device="pixel")
    assert answer.status_code == 404
    assert server.client.delete("/devices/my phone/runs/0").status_code == 404


def test_a_run_can_be_deleted(server: Server) -> None:
    server.client.post("/devices", json={"name": "short"})
    run = add_run(server, "short", "greedy").json()
    assert server.client.delete(f"/devices/short/runs/{run['id']}").status_code == 204
    assert server.client.get("/devices/short/runs").json() == []


def test_a_tuning_is_followed(server: Server, phone: str) -> None:
    begun = server.client.post(f"/devices/{phone}/tunings", json={"program": "net.pt2"})
    path = f"/devices/{phone}/tunings/{begun.json()['id']}"
    plan = {
        "name": "ExecuTorch's plan",
        "round": 0,
        "sha256": "0" * 64,
        "transitions": 3,
        "predicted_ns": None,
        "verdict": "right",
        "ns": 2e6,
        "wall_ns": 3e6,
        "error": 0.0,
        "said": "",
    }
    told = {"stage": "round 1", "plans": [plan]}
    assert server.client.put(path, json=told).status_code == 204
    found = server.client.get(path).json()
    assert found["tuning"]["ended"] is None
    assert found["progress"]["plans"] == [plan]
    gain = {"median": 1.1, "low": 1.05, "high": None}
    finalist = {
        "name": "variant 1.1",
        "gain": gain,
        "wall_gain": None,
        "predicted_gain": 1.2,
        "is_faster": True,
    }
    told |= {"finalists": [finalist], "winner": "variant 1.1", "ended": "all rounds are done"}
    assert server.client.put(path, json=told).status_code == 204
    (listed,) = server.client.get(f"/devices/{phone}/tunings").json()
    assert (listed["ended"], listed["gain"]) == ("all rounds are done", gain)
    for wrong in ({"plans": [plan | {"ns": -1}]}, {"plans": [plan | {"verdict": "?"}]}, {"x": 1}):
        assert server.client.put(path, json=wrong).status_code == 422
    assert server.client.put(path[:-1] + "g", json=told).status_code == 404


def test_a_profile_of_ones_own_is_planned_with(server: Server) -> None:
    document = json.loads(load_profile("default").to_json())
    document |= {"name": "mine", "description": "of mine"}
    document["transition"]["launch"] = 5000
    kept = server.client.post("/profiles", json=document)
    assert kept.status_code == 201
    profile = kept.json()
    assert (profile["name"], profile["unit"], profile["is_builtin"]) == ("mine", "ns", False)
    found = report(server, post(server, program("random0"), profile=profile["hash"]))
    assert found["profile"] == {"name": "mine", "hash": profile["hash"]}
    assert profile in server.client.get("/profiles").json()
    assert server.client.post("/profiles", json=document).json() == profile
    wrong = server.client.post("/profiles", json=document | {"unit": "hours"})
    assert wrong.status_code == 422
    assert "unit" in detail(wrong)
