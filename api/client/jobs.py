"""A server's jobs as the command line sees them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from api.client.connection import SECONDS, Connection, checked
from api.client.errors import AwayError
from api.client.manifest import Submission
from planner.errors import InputError

_AGAIN_SECONDS = 0.5


class Client:
    """Calls a server. Methods raise ``OptionError`` if it refuses, ``AwayError`` if it is away."""

    def __init__(self, server: str, patience: float = SECONDS) -> None:
        """For a server's address; ``follow`` waits so many seconds for one that goes away."""
        self._connection = Connection(server)
        self.patience = patience

    def submit(self, submission: Submission) -> str:
        """Uploads the files and submits the job; returns its id."""
        inputs = []
        for name, path in submission.files.items():
            inputs.append({"name": name, "sha256": self._connection.upload(_read(path))})
        body = {"name": submission.name, "inputs": inputs, **submission.options}
        job_id: str = self._connection.call("POST", "/jobs", json=body)["id"]
        return job_id

    def job(self, job_id: str) -> dict[str, Any]:
        """A job without its items."""
        answer: dict[str, Any] = self._connection.call("GET", f"/jobs/{job_id}?limit=0")
        return answer

    def jobs(self) -> list[dict[str, Any]]:
        """The newest jobs."""
        found: list[dict[str, Any]] = self._connection.call("GET", "/jobs")["jobs"]
        return found

    def act(self, job_id: str, what: str) -> int:
        """Cancels or retries a job; returns how many tasks that changed."""
        count: int = self._connection.call("POST", f"/jobs/{job_id}/{what}")["tasks"]
        return count

    def delete(self, job_id: str) -> None:
        """Deletes a job."""
        self._connection.call("DELETE", f"/jobs/{job_id}")

    def results(self, job_id: str) -> list[dict[str, Any]]:
        """All items of a job."""
        found: list[dict[str, Any]] = self._connection.call("GET", f"/jobs/{job_id}/results.json")[
            "items"
        ]
        return found

    def file(self, job_id: str, kind: str) -> bytes:
        """The results of a job as a ``csv`` or ``json`` file."""
        return self._connection.request("GET", f"/jobs/{job_id}/results.{kind}").content

    def program(self, plan_id: str) -> bytes | None:
        """The program of a plan; None for a plan of a VkGraph alone."""
        answer = self._connection.answer("GET", f"/plans/{plan_id}/program.pte")
        return None if answer.status_code == 404 else checked(answer).content

    def follow(self, job_id: str) -> Iterator[dict[str, Any]]:
        """The job now, and again with each change until its end.

        Waits for a server that goes away in between, as when it is started anew; the job goes on
        meanwhile.
        """
        heard = None  # when something was last heard of the job
        while True:
            try:
                for event, data in self._events(job_id):
                    heard = time.monotonic()
                    if event == "end":
                        return
                    if event == "job":
                        yield data
            except AwayError:
                if heard is None:
                    raise
            if heard is not None and time.monotonic() - heard > self.patience:
                raise AwayError(
                    f"the server {self._connection.server} went away, and the job goes on without "
                    f"it: follow it with 'layout-planner jobs watch {job_id}' when the server is "
                    "back"
                )
            time.sleep(_AGAIN_SECONDS)

    def _events(self, job_id: str) -> Iterator[tuple[str, Any]]:
        """The events of a job, as long as the server sends any."""
        with self._connection.stream(f"/jobs/{job_id}/events") as answer:
            event = ""
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if name == "event":
                    event = value
                elif name == "data":
                    yield event, json.loads(value)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
