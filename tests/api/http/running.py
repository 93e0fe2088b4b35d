"""The service in a process of its own, as users run it."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

_SERVE = """
import sys
from pathlib import Path
from api.http.app import Settings
from api.http.server import serve
serve("127.0.0.1", 0, Settings(data_dir=Path(sys.argv[1])))
"""


@dataclass(frozen=True)
class Server:
    """The service in a process of its own, as users run it."""

    process: subprocess.Popen[str]
    client: httpx.Client
    data_dir: Path

    def terminate(self) -> int:
        """Stops the process as a supervisor would; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=120)


def start_server(data_dir: Path) -> Server:
    """Starts the service on a free port."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(data_dir)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("Listening on http://127.0.0.1:"), line
    client = httpx.Client(base_url=line.removeprefix("Listening on ").strip(), timeout=600)
    return Server(process, client, data_dir)


def post(server: Server, body: bytes, **query: Any) -> httpx.Response:
    """Asks for a plan."""
    return server.client.post("/plan", content=body, params=query)


def detail(response: httpx.Response) -> str:
    """What went wrong, from an answer."""
    assert response.headers["content-type"] == "application/problem+json"
    answer = response.json()
    assert set(answer) == {"type", "title", "status", "detail", "remedy", "request_id"}
    assert answer["type"].startswith("/problems/") and answer["title"] and answer["remedy"]
    assert answer["status"] == response.status_code
    assert answer["request_id"] == response.headers["x-request-id"]
    detail: str = answer["detail"]
    assert "\n" not in detail
    return detail
