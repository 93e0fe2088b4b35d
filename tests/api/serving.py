"""A server with workers of its own, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

_SERVE = """
import sys
from pathlib import Path
from api.http.app import Settings
from api.http.server import serve
data, url, workers, port, blobs = sys.argv[1:]
settings = Settings(Path(data), url, job_workers=int(workers), blobs_url=blobs or None)
serve("127.0.0.1", int(port), settings)
"""


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    process: subprocess.Popen[str]
    client: httpx.Client

    @property
    def port(self) -> int:
        """Where it listens."""
        port = self.client.base_url.port
        assert port is not None
        return port

    def upload(self, data: bytes) -> str:
        """Uploads an input; returns its SHA-256."""
        answer = self.client.post("/inputs", content=data)
        assert answer.status_code == 201
        sha256: str = answer.json()["sha256"]
        return sha256

    def submit(self, inputs: dict[str, bytes], **request: Any) -> str:
        """Submits a job; returns its id."""
        named = [{"name": name, "sha256": self.upload(data)} for name, data in inputs.items()]
        answer = self.client.post("/jobs", json={"inputs": named, **request})
        assert answer.status_code == 201, answer.text
        assert answer.headers["location"] == f"/jobs/{answer.json()['id']}"
        job_id: str = answer.json()["id"]
        return job_id

    def get(self, path: str) -> Any:
        """What is there, as JSON."""
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()


@contextmanager
def serving(
    data_dir: Path, url: str, workers: int, port: int = 0, blobs: str = ""
) -> Iterator[Server]:
    """Starts a server and kills it."""
    command = [sys.executable, "-c", _SERVE, str(data_dir), url, str(workers), str(port), blobs]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("Listening on http://127.0.0.1:"), line
        base = line.removeprefix("Listening on ").strip()
        with httpx.Client(base_url=base, timeout=60) as client:
            yield Server(process, client)
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()
