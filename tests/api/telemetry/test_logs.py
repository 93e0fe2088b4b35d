"""What is logged, and that nobody else's text can pass for it."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from api.cli import main
from api.telemetry import logs
from tests.api.graphs import graph

_SERVE = """
import sys
from pathlib import Path
from api.http.app import Settings
from api.http.server import serve
from api.telemetry.logs import LogSettings
serve("127.0.0.1", 0, Settings(Path(sys.argv[1]), logs=LogSettings("info", "json")))
"""
_SCRIPT = """
import logging, sys, threading
from api.telemetry.logs import LogSettings
LogSettings("info", sys.argv[1]).install()
logging.getLogger("api.x").debug("too much")
logging.getLogger("api.x").info("ours")
logging.getLogger("uvicorn.error").info("too much")
logging.getLogger("uvicorn.error").warning("uvicorn's")
logging.getLogger("sqlalchemy.pool").error("another's")
assert not logging.getLogger().handlers  # torch would trace to it
raise OSError("the end\\n2026-01-01T00:00:00.000Z ERROR forged")
"""


def _record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    record = logging.LogRecord("api.x", logging.INFO, "", 0, message, args, None)
    record.__dict__.update(extra)
    return record


def test_lines_of_a_server_have_the_id_of_their_request(tmp_path: Path) -> None:
    log = tmp_path / "stderr"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(tmp_path / "data")],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        assert process.stdout is not None
        address = process.stdout.readline().removeprefix("Listening on ").strip()
        with httpx.Client(base_url=address, timeout=120) as client:
            asked = {"X-Request-Id": "plan-1"}
            answer = client.post("/plan?name=a.vk", content=graph(), headers=asked)
            assert answer.status_code == 200, answer.text
            client.get("/plans/none?token=lp_0", headers={"X-Request-Id": "lost-1"})
            client.get("/health", headers={"X-Request-Id": "polled"})
        process.terminate()
        process.wait()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    found: dict[str, list[Any]] = {}
    for line in lines:
        assert {"time", "level", "logger", "message"} <= set(line)
        found.setdefault(line.get("request_id", ""), []).append(line)
    planned, answered = found["plan-1"]
    assert planned["message"] == "planned a.vk"
    assert planned["plan"] == answer.headers["location"].rpartition("/")[2]
    assert set(planned["stages"]) >= {"writing"}
    assert (answered["method"], answered["route"], answered["status"]) == ("POST", "/plan", 200)
    assert answered["seconds"] > 0 and answered["level"] == "info"
    (lost,) = found["lost-1"]
    assert (lost["route"], lost["status"]) == ("/plans/{plan_id}", 404)
    assert lost["problem"] == "not-found"
    assert "token" not in json.dumps(lost)
    assert "polled" not in found  # at debug


@pytest.mark.parametrize("format_", ["text", "json"])
def test_what_others_log_goes_the_same_way(format_: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _SCRIPT, format_], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    lines = [line for line in ended.stderr.splitlines() if not line.startswith("    ")]
    if format_ == "json":
        said = [(d["level"], d["logger"], d["message"]) for d in map(json.loads, lines)]
        assert json.loads(lines[-1])["trace"].splitlines()[-1].endswith("forged")
    else:
        said = [
            (level.lower(), logger.rstrip(":"), message)
            for _, level, logger, message in (line.split(maxsplit=3) for line in lines)
        ]
    assert said == [
        ("info", "api.x", "ours"),
        ("warning", "uvicorn.error", "uvicorn's"),
        ("error", "sqlalchemy.pool", "another's"),
        ("critical", "api", "this process ends"),
    ]


@pytest.mark.parametrize("control", ["\n", "\r", "\x1b[2J", "\x85", "\u2028", "\u202e", "\0"])
def test_no_text_forges_a_line(control: str) -> None:
    record = _record("planned %s", f"x{control}y", fields={"route": f"/{control}"})
    for formatter in (logs.TextFormatter(), logs.JsonFormatter()):
        line = formatter.format(record)
        assert line.isprintable()
        assert repr(control)[1:-1] in line or json.dumps(control)[1:-1] in line


def test_a_traceback_is_indented() -> None:
    text = logs.TextFormatter().format(_record("failed", trace="Traceback\n\x1b[31m boo\r\nend"))
    assert text.splitlines()[1:] == ["    Traceback", "    \\x1b[31m boo", "    end"]


def test_secrets_are_not_logged() -> None:
    token = f"lp_{'0' * 16}_{'secret-' * 5}"
    url = "postgresql+psycopg://me:se/cr:et@db.example:5432/plans"
    said = _record("%s with %s", url, token, trace=f"connect({url!r})", fields={"url": url})
    for formatter in (logs.TextFormatter(), logs.JsonFormatter()):
        line = formatter.format(said)
        assert "se/cr:et" not in line and "secret" not in line
        assert "//me:***@db.example" in line and f"lp_{'0' * 16}_***" in line


def test_fields_are_of_a_task_and_of_those_that_it_starts() -> None:
    def said() -> Any:
        return json.loads(logs.JsonFormatter().format(_record("x"))).get("request_id")

    async def request(name: str) -> list[Any]:
        logs.bind(request_id=name)
        await asyncio.sleep(0)
        return [said(), await asyncio.create_task(asyncio.to_thread(said))]

    async def both() -> list[list[Any]]:
        return list(await asyncio.gather(request("a"), request("b")))

    assert asyncio.run(both()) == [["a", "a"], ["b", "b"]]
    assert said() is None


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_commands_take_level_and_format(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYOUT_PLANNER_LOG_FORMAT", "xml")
    refused = CliRunner().invoke(main, [command])
    assert refused.exit_code == 2 and "--log-format" in refused.output
    monkeypatch.delenv("LAYOUT_PLANNER_LOG_FORMAT")
    refused = CliRunner().invoke(main, [command, "--log-level", "loud"])
    assert refused.exit_code == 2 and "--log-level" in refused.output
