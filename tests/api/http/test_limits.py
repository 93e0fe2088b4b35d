"""What a request may ask for, and how large it may be."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.http.app import Settings, create_app
from tests.api.http.inside import StandIn


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(tmp_path), StandIn())) as client:
        yield client


def _job(client: TestClient, name: str = "net", **request: Any) -> Any:
    sha256 = client.post("/inputs", content=b"\0\0\0\0VK00").json()["sha256"]
    return client.post("/jobs", json={"inputs": [{"name": name, "sha256": sha256}], **request})


def test_combinations_are_counted_before_any_is_made(client: TestClient) -> None:
    answer = _job(
        client,
        texture_limits=[f"{n},{n},{n}" for n in range(64, 164)],
        buffer_limits=list(range(1, 101)),
        without_layouts=[["TENSOR_WIDTH_PACKED"]] * 100,
        compile_options=[[]] * 100,
    )
    assert answer.status_code == 422
    assert answer.json()["detail"] == (
        "100,000,000 combinations of options are more than the 10,000 tasks that a job may have: "
        "name fewer values, or submit several jobs"
    )


def test_so_are_combinations_with_inputs(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    monkeypatch.setattr("api.jobs.matrix.make_options", lambda *args, **kw: made.append(args))
    sha256 = client.post("/inputs", content=b"\0\0\0\0VK00").json()["sha256"]
    inputs = [{"name": f"{number}", "sha256": sha256} for number in range(101)]
    answer = client.post("/jobs", json={"inputs": inputs, "buffer_limits": list(range(1, 101))})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("100 combinations of options of 101 inputs are more")
    assert made == []
    app: Any = client.app
    metrics = app.state.metrics.text().decode()
    assert 'layout_planner_problems_total{kind="too-many-tasks"} 1.0' in metrics


@pytest.mark.parametrize("name", ['=HYPERLINK("http://evil.example")', "@x", "+1", "-1"])
def test_no_cell_of_a_table_is_a_formula(client: TestClient, name: str) -> None:
    job = _job(client, name)
    assert job.status_code == 201, job.text
    table = client.get(f"{job.headers['location']}/results.csv").text
    (row,) = csv.DictReader(io.StringIO(table))
    assert row["input"] == f"'{name}"


@pytest.mark.parametrize("path", ["/jobs", "/profiles", "/devices"])
def test_a_body_that_is_no_program_may_not_be_large(client: TestClient, path: str) -> None:
    body = json.dumps({"name": "x" * 9 * 2**20}).encode()
    headers = {"Content-Type": "application/json"}
    announced = client.post(path, content=body, headers=headers)
    sent = client.post(path, content=iter([body[:4], body[4:]]), headers=headers)
    for answer in (announced, sent):
        assert answer.status_code == 413
        assert "larger than" in answer.json()["detail"]


def test_a_program_may_be_larger_than_that(client: TestClient) -> None:
    assert client.post("/inputs", content=bytes(9 * 2**20)).status_code == 201


@pytest.mark.parametrize("body", [b"[" * 10**6, b'{"a":' * 10**5, b"\xff", b"", b"1" * 10**5])
def test_json_that_cannot_be_read_is_refused(client: TestClient, body: bytes) -> None:
    answer = client.post("/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422), answer.text


def test_a_body_with_two_ends_is_refused_and_its_connection_closed(client: TestClient) -> None:
    headers = {"Content-Length": "5", "Transfer-Encoding": "chunked"}
    answer = client.post("/plan", content=b"0\r\n\r\n", headers=headers)
    assert answer.status_code == 400
    assert "Content-Length and Transfer-Encoding" in answer.json()["detail"]
    assert answer.headers["connection"] == "close"


def test_what_is_known_need_not_be_sent(client: TestClient) -> None:
    sha256 = hashlib.sha256(b"a program").hexdigest()
    assert client.head(f"/inputs/{sha256}").status_code == 404
    assert client.post("/inputs", content=b"a program").json()["sha256"] == sha256
    found = client.head(f"/inputs/{sha256}")
    assert (found.status_code, found.headers["content-length"]) == (200, "9")
    app: Any = client.app
    app.state.service.store.blobs.path(sha256).write_bytes(b"a Program")
    assert client.head(f"/inputs/{sha256}").status_code == 404
    assert client.head("/inputs/x").status_code == 422


def test_a_store_keeps_no_more_than_it_may(tmp_path: Path) -> None:
    """The plan that was asked for the longest ago goes; what never fits is refused."""
    most = 2000
    with TestClient(create_app(Settings(tmp_path, most_store_bytes=most), StandIn())) as client:
        bodies = [b"\0\0\0\0VK00" + bytes([n]) * 100 for n in range(2)]
        first, second = (client.post("/plan", content=body) for body in bodies)
        assert (first.status_code, second.status_code) == (200, 200)
        assert client.get(first.headers["location"]).status_code == 404
        assert client.get(second.headers["location"]).status_code == 200
        figures = client.get("/metrics").text
        assert 'layout_planner_removed_total{kind="plan",reason="size"} 1.0' in figures
        assert '"removed": "plan"' in (tmp_path / "audit.log").read_text()
        assert client.post("/plan", content=bodies[0]).status_code == 200
        for path in ("/plan", "/inputs"):
            refused = client.post(path, content=b"\0\0\0\0VK00" + bytes(most))
            assert refused.status_code == 413
            assert "this service keeps in all" in refused.json()["detail"]
        assert client.post("/inputs", content=bytes(most - 200)).status_code == 201
        full = client.post("/inputs", content=bytes(300) + b"other")
        assert full.status_code == 507
        assert "try again later" in full.json()["detail"]
