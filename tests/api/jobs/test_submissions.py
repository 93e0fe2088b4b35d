"""A job that is submitted again with the same key is the same job."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update

from api.client.client import Client
from api.client.manifest import read_submission
from api.http.access import AccessRules
from api.http.app import Settings, create_app
from api.jobs.jobs import Jobs
from api.jobs.matrix import Input
from api.jobs.submissions import KEPT_SECONDS, KeyReusedError, SubmissionKey
from api.store.clock import Ago
from api.store.plans import PlanStore, open_store
from api.store.tables import Submission
from tests.api.graphs import graph
from tests.api.http.inside import StandIn
from tests.api.serving import serving
from tests.api.store.drafts import OPTIONS

KEY = SubmissionKey("ann", "key", "a" * 64)

# Ends as by kill -9 once a job is committed, before anything is answered.
_SERVE_AND_DIE = """
import os, sys
from pathlib import Path
from api.http.app import Settings
from api.http.server import serve
from api.jobs.jobs import Jobs
submit = Jobs.submit
def submit_and_die(*args):
    submit(*args)
    os._exit(9)
Jobs.submit = submit_and_die
serve("127.0.0.1", 0, Settings(Path(sys.argv[1]), sys.argv[2]))
"""


@pytest.fixture
def store(tmp_path: Path, database_url: str) -> Iterator[PlanStore]:
    store = open_store(tmp_path / "data", database_url)
    yield store
    store.close()


def _submit(store: PlanStore, key: SubmissionKey) -> str:
    found = [Input("net", store.blobs.put(graph(8)))]
    return Jobs(store).submit("test", found, [OPTIONS], {}, None, key)


def test_many_at_once_at_two_servers_make_one_job(
    store: PlanStore, tmp_path: Path, database_url: str
) -> None:
    with ExitStack() as stack:
        other = open_store(tmp_path / "data", database_url)
        stack.callback(other.close)
        barrier = threading.Barrier(8)

        def submit(number: int) -> str:
            barrier.wait()
            return _submit((store, other)[number % 2], KEY)

        with ThreadPoolExecutor(8) as threads:
            assert len(set(threads.map(submit, range(8)))) == 1
    assert Jobs(store).page()[0] == 1


def test_a_key_is_of_one_caller_and_of_one_request(store: PlanStore) -> None:
    job_id = _submit(store, KEY)
    assert _submit(store, KEY) == job_id == Jobs(store).submitted(KEY)
    assert _submit(store, SubmissionKey("bob", "key", "b" * 64)) != job_id
    for call in (Jobs(store).submitted, lambda key: _submit(store, key)):
        with pytest.raises(KeyReusedError, match="'key' has come with another job"):
            call(SubmissionKey("ann", "key", "b" * 64))
    assert Jobs(store).page()[0] == 2


def test_keys_are_kept_for_longer_than_a_day(store: PlanStore) -> None:
    job_id = _submit(store, KEY)
    assert KEPT_SECONDS > 24 * 3600

    def age(seconds: float) -> None:
        with store.database.writing() as session:
            session.execute(update(Submission).values(created=Ago(seconds)))

    age(KEPT_SECONDS - 60)
    assert _submit(store, KEY) == job_id
    age(KEPT_SECONDS + 60)
    _submit(store, SubmissionKey("ann", "other", "a" * 64))
    assert _submit(store, KEY) != job_id
    with store.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Submission)) == 2


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    settings = Settings(tmp_path / "data", access=AccessRules("tokens", "X-User"))
    with TestClient(create_app(settings, StandIn()), headers={"X-User": "ann"}) as client:
        yield client


def _post(client: TestClient, key: str, user: str = "ann", **request: Any) -> Any:
    sha256 = client.post("/inputs", content=graph(8)).json()["sha256"]
    body = {"inputs": [{"name": "net", "sha256": sha256}], **request}
    return client.post("/jobs", json=body, headers={"Idempotency-Key": key, "X-User": user})


def test_the_same_again_is_answered_with_the_same_job(client: TestClient) -> None:
    wrong = _post(client, "key", objectives=["speed"])
    assert wrong.status_code == 422
    first = _post(client, "key")
    again = [_post(client, "key"), _post(client, '"key"', profiles=["default"])]
    for answer in (first, *again):
        assert answer.status_code == 201
        assert answer.json()["id"] == first.json()["id"]
        assert answer.headers["location"] == first.headers["location"]
    other = _post(client, "key", name="other")
    assert other.status_code == 422
    assert "give each job a key of its own" in other.json()["detail"]
    assert _post(client, "key", "bob").json()["id"] != first.json()["id"]
    assert client.get("/jobs").json()["total"] == 2
    assert client.delete(first.headers["location"]).status_code == 204
    gone = _post(client, "key")
    assert gone.status_code == 410


@pytest.mark.parametrize("key", ["", '""', "a b", "x" * 201, 'a"b'])
def test_what_is_no_key_is_refused(client: TestClient, key: str) -> None:
    answer = _post(client, key)
    assert answer.status_code == 422
    assert "idempotency-key" in answer.json()["detail"]


def test_while_the_first_is_not_answered_the_second_is_told_so(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end, submit = threading.Event(), threading.Event(), Jobs.submit

    def slow(*args: Any) -> str:
        begun.set()
        assert may_end.wait(60)
        return submit(*args)

    monkeypatch.setattr(Jobs, "submit", slow)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(_post, client, "key")
        assert begun.wait(60)
        second = _post(client, "key")
        assert (second.status_code, second.headers["retry-after"]) == (409, "1")
        may_end.set()
        assert first.result().status_code == 201
    assert _post(client, "key").json()["id"] == first.result().json()["id"]


@pytest.mark.server
def test_a_client_whose_server_is_killed_in_between_makes_one_job(
    tmp_path: Path, database_url: str
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/net.vkgraph").write_bytes(graph(8))
    submission = read_submission(tmp_path / "models", {"profiles": ["bytes"]})
    data_dir = tmp_path / "data"
    command = [sys.executable, "-c", _SERVE_AND_DIE, str(data_dir), database_url]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as dying,
        ThreadPoolExecutor(1) as threads,
    ):
        assert dying.stdout is not None
        address = dying.stdout.readline().removeprefix("Listening on ").strip()
        client = Client(address, patience=600)
        submitting = threads.submit(client.submit, submission)
        assert dying.wait() == 9
        with serving(data_dir, database_url, 0, int(address.rpartition(":")[2])) as server:
            job_id = submitting.result()
            assert [job["id"] for job in server.get("/jobs")["jobs"]] == [job_id]
