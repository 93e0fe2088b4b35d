"""Jobs over HTTP."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.graphs import forced, graph
from tests.api.jobs.plant import wait
from tests.api.serving import Server, serving


@pytest.fixture
def server(tmp_path: Path, database_url: str) -> Iterator[Server]:
    with serving(tmp_path / "data", database_url, workers=1) as server:
        yield server


def _events(server: Server, job_id: str) -> list[tuple[str, object]]:
    found = []
    with server.client.stream("GET", f"/jobs/{job_id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for block in answer.read().decode().strip().split("\n\n"):
            name, data = block.split("\n")
            found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_a_job_from_upload_to_results(server: Server) -> None:
    inputs = {"a": graph(8), "b": graph(12), 'bad, "quoted"': b"text"}
    job_id = server.submit(
        inputs, name="nightly", profiles=["bytes", "default"], texture_limits=["64,64,64"]
    )
    events = _events(server, job_id)
    assert events[0][0] == "items"
    assert events[-1] == ("end", {})
    kind, last = events[-2]
    assert kind == "job"
    assert isinstance(last, dict)
    assert last["is_finished"]
    assert last["counts"] == {
        **{"waiting": 0, "queued": 0, "running": 0},
        **{"done": 4, "failed": 2, "cancelled": 0},
    }
    assert last["request"]["profiles"] == ["bytes", "default"]

    job = server.get(f"/jobs/{job_id}")
    assert (job["name"], job["total"]) == ("nightly", 6)
    first = job["items"][0]
    assert (first["input"], first["state"], first["attempts"]) == ("a", "done", 1)
    assert first["options"]["texture_limits"] == [64, 64, 64]
    assert first["result"]["repack_cost"] < first["result"]["baseline_repack_cost"]
    plan = server.get(f"/plans/{first['plan_id']}")
    assert plan["total"]["repack_cost"] == first["result"]["repack_cost"]

    results = server.get(f"/jobs/{job_id}/results.json")
    assert results["items"] == job["items"]
    table = server.client.get(f"/jobs/{job_id}/results.csv")
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert [row["input"] for row in rows] == [name for name in inputs for _ in range(2)]
    assert rows[0]["texture_limits"] == "64 64 64"
    assert float(rows[0]["repack_cost"]) == first["result"]["repack_cost"]
    assert "not a zip archive" in rows[4]["error"]

    (listed,) = server.get("/jobs")["jobs"]
    assert listed["id"] == job_id


def test_limits_are_combined_with_the_rest(server: Server) -> None:
    limits = [[], ["forbid texture", "pin v3=buffer:HEIGHT_PACKED"]]
    job_id = server.submit({"a": graph(8)}, profiles=["bytes"], limits=limits)
    assert _events(server, job_id)[-1] == ("end", {})
    job = server.get(f"/jobs/{job_id}")
    assert [item["state"] for item in job["items"]] == ["done"] * 2
    asked = [item["options"]["limits"] for item in job["items"]]
    assert asked == [[], ["pin v3=buffer:HEIGHT_PACKED", "forbid texture"]]
    reports = [server.get(f"/plans/{item['plan_id']}") for item in job["items"]]
    assert [report["limits"] for report in reports] == asked


def test_what_would_help_is_ranked_over_a_job(server: Server) -> None:
    inputs = {"small": forced(4), "large": forced(16), "free": graph(8)}
    job_id = server.submit(inputs, profiles=["bytes", "default"])
    assert _events(server, job_id)[-1] == ("end", {})
    ranked = server.get(f"/jobs/{job_id}/opportunities")
    assert [each["options"]["profile"] for each in ranked] == ["bytes", "default"]
    for each in ranked:
        assert each["plans"] == 3
        first = each["ranking"]["opportunities"][0]
        # Of three models two would not repack at all.
        assert first["share"] == 0.6667
        assert {(m["source"], m["after"]) for m in first["models"]} == {("small", 0), ("large", 0)}


def test_cancel_and_retry(server: Server) -> None:
    job_id = server.submit({f"{n}": graph(n, 3000) for n in range(8, 14)}, profiles=["bytes"])
    stopped = server.client.post(f"/jobs/{job_id}/cancel").json()["tasks"]
    assert stopped > 0
    job = server.get(f"/jobs/{job_id}")
    assert job["counts"]["cancelled"] == stopped
    assert job["is_finished"]
    assert server.client.post(f"/jobs/{job_id}/retry").json() == {"tasks": stopped}
    assert _events(server, job_id)[-1] == ("end", {})
    assert server.get(f"/jobs/{job_id}")["counts"]["done"] == 6


def test_a_job_that_runs_is_deleted(server: Server) -> None:
    job_id = server.submit({f"{n}": graph(n, 3000) for n in range(8, 14)}, profiles=["bytes"])
    assert server.client.delete(f"/jobs/{job_id}").status_code == 204
    for method in ("get", "delete"):
        assert getattr(server.client, method)(f"/jobs/{job_id}").status_code == 404
    assert server.get("/jobs") == {"total": 0, "jobs": []}
    # What it wanted can be wanted again.
    again = server.submit({"8": graph(8, 3000)}, profiles=["bytes"])
    assert _events(server, again)[-1] == ("end", {})
    assert server.get(f"/jobs/{again}")["counts"]["done"] == 1


def test_neither_the_server_nor_its_workers_load_torch(server: Server) -> None:
    job_id = server.submit({"a": graph(8)})
    _events(server, job_id)
    (worker,) = server.get("/workers")
    for pid in (server.process.pid, worker["pid"]):
        assert "libtorch" not in Path(f"/proc/{pid}/maps").read_text()
        assert "ortools" not in Path(f"/proc/{pid}/maps").read_text()


def test_the_workers_of_a_server_that_is_killed_end(server: Server) -> None:
    wait(lambda: len(server.get("/workers")) == 1)
    (worker,) = server.get("/workers")
    server.process.kill()
    wait(lambda: not Path(f"/proc/{worker['pid']}").exists(), 10)


@pytest.mark.parametrize(
    ("request_", "status", "detail"),
    [
        ({"inputs": []}, 422, "field 'inputs': List should have at least 1 item"),
        ({"inputs": [{"name": "a", "sha256": "0" * 64}]}, 422, "the input a has not been uploaded"),
        ({"inputs": [{"name": "a", "sha256": "../x"}]}, 422, "field 'sha256': String should match"),
        ({"profiles": ["/etc/passwd"]}, 422, "unknown profile '/etc/passwd'"),
        (
            {"profiles": [{"format": "x"}]},
            422,
            "the profile is not a valid device profile",
        ),
        ({"devices": ["pixel"]}, 404, "there is no device 'pixel': GET /devices lists those"),
        ({"objectives": ["speed"]}, 422, "unknown objective 'speed'"),
        ({"without_layouts": [["X"]]}, 422, "unknown layout 'X'"),
        ({"texture_limits": ["1"]}, 422, "texture limits '1' are not three"),
        ({"buffer_limits": [0]}, 422, "buffer limit 0 is not a positive number"),
        ({"limits": [["forbid all"]]}, 422, "--forbid: 'all' is not a representation"),
        ({"limits": [["bytes 3"]]}, 422, "'bytes 3' is not a limit: write one of pin, forbid"),
        ({"colour": 1}, 422, "field 'colour': Extra inputs are not permitted"),
    ],
)
def test_a_wrong_request_is_told(
    one_server: Server, request_: dict[str, object], status: int, detail: str
) -> None:
    sha256 = one_server.upload(graph(8))
    request = {"inputs": [{"name": "a", "sha256": sha256}]} | request_
    answer = one_server.client.post("/jobs", json=request)
    assert answer.status_code == status
    assert answer.json()["detail"].startswith(detail)


def test_there_is_no_such_job(one_server: Server) -> None:
    for path in ("", "/events", "/results.csv", "/results.json", "/opportunities"):
        answer = one_server.client.get(f"/jobs/{'0' * 32}{path}")
        assert answer.status_code == 404
        assert answer.json()["detail"].startswith("there is no job '000")


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("one")
    with serving(folder / "data", f"sqlite:///{folder / 'db.sqlite'}", workers=0) as server:
        yield server
