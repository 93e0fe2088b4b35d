"""A plan that several ask for at once, of servers and of jobs, is made once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import make_url

from api.store.claims import Claims, DatabaseClaims, FileClaims
from api.store.database import UnreachableError
from tests.api import postgres
from tests.api.graphs import graph
from tests.api.jobs import plant
from tests.api.jobs.plant import wait
from tests.api.serving import Server, serving

PLAN, OTHER = "0123456789abcdef" * 2, "1123456789abcdef" * 2

_HOLD = """
import sys
from pathlib import Path
from sqlalchemy import make_url
from api.store.claims import DatabaseClaims, FileClaims
where = sys.argv[1]
claims = DatabaseClaims(make_url(where)) if "://" in where else FileClaims(Path(where))
print(claims.take(sys.argv[2]), flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["file", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where claims are known: a file, or a database."""
    if request.param == "file":
        yield str(tmp_path / "claims")
        return
    with request.getfixturevalue("cluster").database() as url:
        yield url.replace("postgresql", "postgresql+psycopg", 1)


def _claims(where: str) -> Claims:
    return DatabaseClaims(make_url(where)) if "://" in where else FileClaims(Path(where))


def test_a_claim_is_one_process_s_until_it_ends(where: str) -> None:
    claims = _claims(where)
    command = [sys.executable, "-c", _HOLD, where, PLAN]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"True\n"
        assert not claims.take(PLAN) and not claims.is_free(PLAN)
        assert claims.is_free(OTHER) and claims.take(OTHER)
        other.kill()
    # A database has to notice that it ended.
    wait(lambda: claims.take(PLAN))
    assert claims.take(PLAN)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == b"False\n"
        other.stdin.close()
    claims.release(PLAN)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == b"True\n"
        other.stdin.close()
    claims.close()


def test_claims_take_no_room(tmp_path: Path) -> None:
    claims = FileClaims(tmp_path / "claims")
    assert claims.take(PLAN)
    claims.close()
    assert (tmp_path / "claims").stat().st_size == 0


def test_claims_are_lost_with_a_database_that_ends_and_can_be_made_again() -> None:
    with postgres.running() as cluster, cluster.database() as url:
        claims = _claims(url.replace("postgresql", "postgresql+psycopg", 1))
        other = _claims(url.replace("postgresql", "postgresql+psycopg", 1))
        assert claims.take(PLAN) and not other.take(PLAN)
        cluster.stop()
        for call in (claims.take, other.is_free):
            with pytest.raises(UnreachableError, match="does not answer"):
                call(OTHER)
        claims.release(PLAN)
        cluster.start()
        assert other.take(PLAN) and not claims.take(PLAN)
        assert claims.take(OTHER) and not other.is_free(OTHER)
        for each in (claims, other):
            each.close()


def _stages(server: Server, pool: ThreadPoolExecutor, body: bytes) -> set[str | None]:
    """What a request for a plan is told of its progress, until it has the plan."""
    headers = {"Progress-Id": PLAN}
    query = {"profile": "bytes"}
    asked = pool.submit(server.client.post, "/plan", content=body, params=query, headers=headers)
    seen = set()
    while not asked.done():
        seen.add(server.get(f"/progress/{PLAN}")["stage"])
    assert asked.result().status_code == 200
    return seen


def test_two_servers_plan_the_same_program_once(tmp_path: Path, conv: bytes) -> None:
    url = f"sqlite:///{tmp_path / 'database.sqlite'}"
    with ExitStack() as stack:
        servers = [
            stack.enter_context(serving(tmp_path / "data", url, workers=0)) for _ in range(2)
        ]
        pool = stack.enter_context(ThreadPoolExecutor())
        asked = [pool.submit(_stages, server, pool, conv) for server in servers]
        made = ["lowering" in stages.result() for stages in asked]
        assert sorted(made) == [False, True]
        assert servers[0].get("/plans")["total"] == 1


def test_a_server_waits_for_a_worker_that_plans_the_same(tmp_path: Path, database_url: str) -> None:
    with (
        plant.running(tmp_path, database_url) as site,
        serving(tmp_path / "data", database_url, workers=0) as server,
        ThreadPoolExecutor() as pool,
    ):
        site.hire()
        job, (stuck,) = site.submit_stuck(net=graph(8))
        wait(lambda: site.status(job.id).counts["running"] > 0)
        stages = pool.submit(_stages, server, pool, graph(8))
        wait(lambda: server.get(f"/progress/{PLAN}")["stage"] == "waiting")
        stuck.let_go()
        assert site.finished(job)["net"].state == "done"
        assert stages.result() <= {None, "waiting"}
        assert site.store.page().total == 1


def test_a_worker_waits_for_a_server_that_plans_the_same(tmp_path: Path, database_url: str) -> None:
    with plant.running(tmp_path, database_url) as site:
        item = site.note({"net": graph(8)})
        (id_,) = site.jobs.queued(item.id)
        # As a server does that is at it.
        assert site.store.claims.take(id_)
        site.hire()
        site.engine.start([id_])
        wait(lambda: site.engine.statuses([id_])[id_] == "PENDING")
        other = site.submit({"other": graph(12)})
        assert site.items(item)["net"].state == "queued"
        assert not site.status(other.id).is_finished
        site.store.claims.release(id_)
        assert site.finished(item)["net"].state == "done"
        assert site.finished(other)["other"].state == "done"
