"""What both clients do when a server is busy, away, or no server of plans; and with tokens."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from api.client import AsyncClient, AwayError, Client
from planner.errors import InputError, OptionError
from tests.api.client.calls import CLIENTS, Caller, run

Answer = tuple[int, dict[str, str], bytes]
_OK: Answer = (200, {}, b'{"status": "ok", "version": "1"}')
_BUSY: Answer = (503, {"Retry-After": "0"}, b'{"detail": "too much to plan"}')


@dataclass
class Asked:
    """Requests that came: a line and the body of each, and the token that it had."""

    lines: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def _answering(answers: Callable[[str], Answer | None]) -> Iterator[tuple[str, Asked]]:
    """A server that answers by method and path; None hangs up. Yields its address."""
    asked = Asked()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            line = f"{self.command} {self.path}"
            length = int(self.headers.get("content-length", 0))
            asked.lines.append(line)
            asked.bodies.append(self.rfile.read(length))
            asked.headers.append({name.lower(): value for name, value in self.headers.items()})
            answer = answers(line)
            if answer is None:
                self.close_connection = True
                return
            status, headers, body = answer
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_POST = do_HEAD = do_DELETE = do_PUT = _handle  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def _in_turn(*answers: Answer | None) -> Callable[[str], Answer | None]:
    left = list(answers)
    return lambda line: left.pop(0) if len(left) > 1 else left[0]


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("status", [503, 429])
def test_a_busy_server_is_asked_again_when_it_says(
    kind: type[Client | AsyncClient], status: int
) -> None:
    async def script(client: Caller) -> None:
        assert (await client.health())["version"] == "1"

    busy = (status, *_BUSY[1:])
    with _answering(_in_turn(busy, busy, _OK)) as (server, asked):
        run(kind, server, script)
        assert asked.lines == ["GET /health"] * 3


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_server_that_was_heard_and_goes_away_is_asked_again(
    kind: type[Client | AsyncClient],
) -> None:
    async def script(client: Caller) -> None:
        await client.health()
        assert (await client.health())["version"] == "1"

    with _answering(_in_turn(_OK, None, _OK)) as (server, asked):
        run(kind, server, script)
        assert asked.lines == ["GET /health"] * 3


@pytest.mark.parametrize("kind", CLIENTS)
def test_patience_ends(kind: type[Client | AsyncClient]) -> None:
    async def busy(client: Caller) -> None:
        with pytest.raises(AwayError, match="too much to plan"):
            await client.health()

    later = (503, {"Retry-After": "60"}, _BUSY[2])
    with _answering(_in_turn(later)) as (server, asked):
        run(kind, server, busy, patience=59)
        assert asked.lines == ["GET /health"]

    async def away(client: Caller) -> None:
        await client.health()
        with pytest.raises(AwayError, match="cannot reach the server"):
            await client.health()

    with _answering(_in_turn(_OK, None)) as (server, asked):
        run(kind, server, away, patience=0)
        assert asked.lines == ["GET /health"] * 2


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_server_that_was_never_heard_is_not_waited_for(kind: type[Client | AsyncClient]) -> None:
    async def script(client: Caller) -> None:
        with pytest.raises(AwayError, match="start one with 'layout-planner serve'"):
            await client.health()

    run(kind, "http://127.0.0.1:1", script)
    with _answering(_in_turn(None)) as (server, asked):
        run(kind, server, script)
        assert asked.lines == ["GET /health"]


@pytest.mark.parametrize("kind", CLIENTS)
def test_what_would_be_done_twice_is_not_repeated(kind: type[Client | AsyncClient]) -> None:
    async def script(client: Caller) -> None:
        await client.health()
        for call in (client.retry("j"), client.delete_job("j"), client.begin_tuning("d", "p")):
            with pytest.raises(AwayError):
                await call

    with _answering(_in_turn(_OK, None)) as (server, asked):
        run(kind, server, script)
        assert asked.lines[1:] == [
            "POST /jobs/j/retry",
            "DELETE /jobs/j",
            "POST /devices/d/tunings",
        ]


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_file_is_sent_again_from_its_start(
    kind: type[Client | AsyncClient], tmp_path: Path
) -> None:
    data = bytes(range(256)) * 10_000  # more than one part of it
    (tmp_path / "net.pte").write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()

    async def script(client: Caller) -> None:
        assert await client.upload(tmp_path / "net.pte") == sha256

    kept: Answer = (201, {}, f'{{"sha256": "{sha256}", "size": {len(data)}}}'.encode())
    with _answering(_in_turn((404, {}, b""), _BUSY, kept)) as (server, asked):
        run(kind, server, script)
        assert asked.lines == [f"HEAD /inputs/{sha256}", "POST /inputs", "POST /inputs"]
        assert asked.bodies[1:] == [data, data]
        assert asked.headers[1]["content-length"] == str(len(data))
        assert "transfer-encoding" not in asked.headers[1]


@pytest.mark.parametrize("kind", CLIENTS)
def test_files_that_cannot_be_read_or_change(
    kind: type[Client | AsyncClient], tmp_path: Path
) -> None:
    (tmp_path / "net.pte").write_bytes(b"net")

    async def script(client: Caller) -> None:
        with pytest.raises(InputError, match=r"cannot read .*none\.pte"):
            await client.upload(tmp_path / "none.pte")
        with pytest.raises(InputError, match="changed while it was sent"):
            await client.upload(tmp_path / "net.pte")

    other: Answer = (201, {}, b'{"sha256": "0", "size": 3}')
    with _answering(_in_turn((404, {}, b""), other)) as (server, _):
        run(kind, server, script)


@pytest.mark.parametrize("kind", CLIENTS)
def test_tokens_and_what_is_no_server_of_plans(
    kind: type[Client | AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(client: Caller) -> None:
        with pytest.raises(OptionError, match="is it a Layout Planner"):
            await client.health()
        with pytest.raises(OptionError, match="no such plan"):
            await client.report("0")

    page: Answer = (200, {}, b"<html>")
    refused: Answer = (404, {}, b'{"detail": "no such plan"}')
    for token, expected in ((None, "Bearer from the variable"), ("mine", "Bearer mine")):
        monkeypatch.setenv("LAYOUT_PLANNER_TOKEN", "from the variable")
        with _answering(_in_turn(page, refused)) as (server, asked):
            run(kind, server, script, token=token)
            assert [headers["authorization"] for headers in asked.headers] == [expected] * 2


@pytest.mark.parametrize("server", ["127.0.0.1:8000", "ftp://x", "http://", "plans"])
@pytest.mark.parametrize("kind", CLIENTS)
def test_what_is_no_address_is_named(kind: type[Client | AsyncClient], server: str) -> None:
    with pytest.raises(OptionError, match=r"is not a server's address .*: write http://host:8000"):
        kind(server)
