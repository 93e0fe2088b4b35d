"""Clients that are slow, or too many, as real sockets show them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.api.graphs import graph

_SERVE = """
import sys
from pathlib import Path
from api.http.app import Settings
from api.http.server import serve
settings = Settings(Path(sys.argv[1]), head_seconds=1, body_seconds=1, most_connections=4)
serve("127.0.0.1", 0, settings)
"""

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """A service without patience, for four clients."""
    folder: Path = tmp_path_factory.mktemp("data")
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    host, _, port = process.stdout.readline().strip().rpartition("/")[2].partition(":")
    yield host, int(port)
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Path]]:
    """A service that has few descriptors, and where its errors go."""
    folder: Path = tmp_path_factory.mktemp("data")
    few = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))"
    log = folder / "log"
    serve = _SERVE.replace(", most_connections=4", "").replace("_seconds=1", "_seconds=600")
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", few + serve, str(folder / "data")],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout is not None
    base = process.stdout.readline().removeprefix("Listening on ").strip()
    with httpx.Client(base_url=base, timeout=600) as client:
        yield client, log
    process.terminate()
    process.wait()


def _all(connection: socket.socket) -> bytes:
    """What is answered until the connection is closed."""
    found = b""
    while chunk := connection.recv(4096):
        found += chunk
    return found


@pytest.mark.parametrize("head", [b"", b"GET /health HTTP/1.1\r\nHost: test\r\n", b"GET"], ids=repr)
def test_a_head_that_does_not_arrive_ends_the_connection(
    address: tuple[str, int], head: bytes
) -> None:
    with socket.create_connection(address) as connection:
        start = time.monotonic()
        connection.sendall(head)
        assert _all(connection) == b""
        assert time.monotonic() - start > 0.9


def test_so_does_the_second_one(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: test\r\n\r\nGET /health")
        assert _all(connection).count(b"200 OK") == 1


@pytest.mark.parametrize("path", [b"/plan", b"/jobs"])
def test_a_body_that_does_not_arrive_is_given_up(address: tuple[str, int], path: bytes) -> None:
    with socket.create_connection(address) as connection:
        connection.sendall(
            b"POST " + path + b" HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
            b"Content-Length: 10\r\n\r\nP"
        )
        answer = _all(connection)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"arrives too slowly" in answer


def test_what_is_no_http_is_answered_with_a_problem(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nno header\r\n\r\n")
        answer = _all(connection)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"] == "/problems/malformed-request"


def test_too_many_connections_are_turned_away(address: tuple[str, int]) -> None:
    waiting = [socket.create_connection(address) for _ in range(4)]
    with socket.create_connection(address) as one_more:
        answer = _all(one_more)
    assert answer.startswith(b"HTTP/1.1 503")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Content-Type: application/problem+json" in head and b"Retry-After: 5" in head
    assert b"Content-Length: %d\r\n" % len(body) in head + b"\r\n"
    problem = json.loads(body)
    assert problem["type"] == "/problems/too-many-connections"
    assert problem["detail"] == "too many connections: try again, later"
    for connection in waiting:
        connection.close()
    # Those that have waited in vain leave room.
    host, port = address
    transport = httpx.HTTPTransport(retries=5)
    with httpx.Client(transport=transport) as client:
        while client.get(f"http://{host}:{port}/health").status_code != 200:
            time.sleep(0.05)


def test_a_crowd_leaves_descriptors_for_plans(crowded: tuple[httpx.Client, Path]) -> None:
    client, log = crowded
    assert client.get("/health").status_code == 200
    host, port = client.base_url.host, client.base_url.port
    assert port is not None
    with ExitStack() as crowd:
        for _ in range(600):
            crowd.enter_context(socket.create_connection((host, port)))
        assert client.post("/plan?profile=bytes", content=graph(8)).status_code == 200
        refused = 'layout_planner_problems_total{kind="too-many-connections"} '
        (line,) = [line for line in client.get("/metrics").text.splitlines() if refused in line]
        assert float(line.removeprefix(refused)) >= 500
    assert log.read_text() == ""
