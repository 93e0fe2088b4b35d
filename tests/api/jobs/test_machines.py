"""Machines that share a database and an S3 store, and no directory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from api.store.database import Database
from api.store.secret import secret_of
from tests.api.graphs import graph
from tests.api.jobs.plant import wait
from tests.api.objects import ObjectStore
from tests.api.postgres import Cluster
from tests.api.serving import Server, serving
from tests.api.store.homes import S3Home


@pytest.fixture
def machines(
    tmp_path: Path, cluster: Cluster, blobs_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Server, Server]]:
    """A server without workers, and one with a worker on another machine."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with ExitStack() as stack:
        url = stack.enter_context(cluster.database())
        yield (
            stack.enter_context(serving(tmp_path / "one", url, 0, blobs=blobs_url)),
            stack.enter_context(serving(tmp_path / "other", url, 1, blobs=blobs_url)),
        )


def _finished(server: Server, job: str) -> list[str]:
    """The plans of a job, once all are made."""
    wait(lambda: server.get(f"/jobs/{job}")["is_finished"])
    items = server.get(f"/jobs/{job}")["items"]
    assert [item["state"] for item in items] == ["done"] * len(items)
    return [item["plan_id"] for item in items]


def test_machines_that_share_no_directory(
    machines: tuple[Server, Server],
    objects_server: ObjectStore,
    blobs_url: str,
    tmp_path: Path,
) -> None:
    one, other = machines
    # A job that one takes is done by the other's worker, and each reads the plan.
    (plan,) = _finished(one, one.submit({"net": graph(8)}, profiles=["bytes"]))
    paths = f"/plans/{plan}", f"/plans/{plan}/graph"
    for path in paths:
        assert one.client.get(path).content == other.client.get(path).content != b""
    for server in machines:
        found = server.client.post("/plan?profile=bytes&name=net", content=graph(8))
        assert found.headers["location"] == f"/plans/{plan}"
        assert server.get("/readyz")["checks"]["store"]["ok"]

    # A file that was spoilt in the store is told of by who has no copy, and is made again there.
    home = S3Home(tmp_path, blobs_url)
    for sha256 in home.found():
        home.spoil(sha256, b"other bytes")
    shutil.rmtree(tmp_path / "one" / "cache")
    (tmp_path / "one" / "cache" / "unfinished").mkdir(parents=True)
    for path in paths:
        assert one.client.get(path).status_code == 410
    assert one.client.post("/plan?profile=bytes&name=net", content=graph(8)).status_code == 200
    for path in paths:
        assert one.client.get(path).status_code == 200
        assert one.client.get(path).content == other.client.get(path).content

    # Nothing is lost with a store that is away for a while, and each says what is missing.
    job = one.submit({"a": graph(10), "b": graph(12)}, profiles=["bytes"])
    objects_server.stop()
    try:
        refused = one.client.post("/plan?profile=bytes", content=graph(14))
        assert refused.status_code == 503 and blobs_url in refused.json()["detail"]
        assert one.client.post("/inputs", content=graph(14)).status_code == 503
        unready = one.client.get("/readyz")
        assert unready.status_code == 503
        assert blobs_url in unready.json()["checks"]["store"]["detail"]
        assert one.client.get(paths[0]).status_code == 200  # a copy is read
    finally:
        objects_server.start()
    assert one.client.post("/plan?profile=bytes", content=graph(14)).status_code == 200
    for plan in _finished(one, job):
        assert json.loads(other.client.get(f"/plans/{plan}").content)


def test_servers_of_one_database_have_one_secret(database_url: str) -> None:
    found = set()
    for _ in range(2):
        database = Database(database_url)
        found.add(secret_of(database))
        database.close()
    assert len(found) == 1 and len(found.pop()) >= 32
