"""A server's jobs as the command line sees them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from api.client.errors import AwayError
from api.client.manifest import Submission
from planner.errors import InputError, OptionError

_SECONDS = 60.0
_AGAIN_SECONDS = 0.5


class Client:
    """Calls a server. Methods raise ``OptionError`` if it refuses, ``AwayError`` if it is away."""

    def __init__(self, server: str, patience: float = _SECONDS) -> None:
        """For a server's address; ``follow`` waits so many seconds for one that goes away."""
        self._server = server
        self.patience = patience
        try:
            self._client = httpx.Client(base_url=server, timeout=_SECONDS)
        except (httpx.InvalidURL, ValueError) as error:
            raise OptionError(
                f"{server!r} is not a server's address ({error}): write http://host:8000"
            ) from error

    def submit(self, submission: Submission) -> str:
        """Uploads the files and submits the job; returns its id."""
        inputs = []
        for name, path in submission.files.items():
            answer = self._call("POST", "/inputs", content=_read(path))
            inputs.append({"name": name, "sha256": answer["sha256"]})
        body = {"name": submission.name, "inputs": inputs, **submission.options}
        job_id: str = self._call("POST", "/jobs", json=body)["id"]
        return job_id

    def job(self, job_id: str) -> dict[str, Any]:
        """A job without its items."""
        answer: dict[str, Any] = self._call("GET", f"/jobs/{job_id}?limit=0")
        return answer

    def jobs(self) -> list[dict[str, Any]]:
        """The newest jobs."""
        found: list[dict[str, Any]] = self._call("GET", "/jobs")["jobs"]
        return found

    def act(self, job_id: str, what: str) -> int:
        """Cancels or retries a job; returns how many tasks that changed."""
        count: int = self._call("POST", f"/jobs/{job_id}/{what}")["tasks"]
        return count

    def delete(self, job_id: str) -> None:
        """Deletes a job."""
        with self._translate_errors():
            _checked(self._client.delete(f"/jobs/{job_id}"))

    def results(self, job_id: str) -> list[dict[str, Any]]:
        """All items of a job."""
        found: list[dict[str, Any]] = self._call("GET", f"/jobs/{job_id}/results.json")["items"]
        return found

    def file(self, job_id: str, kind: str) -> bytes:
        """The results of a job as a ``csv`` or ``json`` file."""
        with self._translate_errors():
            return _checked(self._client.get(f"/jobs/{job_id}/results.{kind}")).content

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
                    f"the server {self._server} went away, and the job goes on without it: follow "
                    f"it with 'layout-planner jobs watch {job_id}' when the server is back"
                )
            time.sleep(_AGAIN_SECONDS)

    def _events(self, job_id: str) -> Iterator[tuple[str, Any]]:
        """The events of a job, as long as the server sends any."""
        timeout = httpx.Timeout(_SECONDS, read=None)
        with (
            self._translate_errors(),
            self._client.stream("GET", f"/jobs/{job_id}/events", timeout=timeout) as answer,
        ):
            if answer.is_error:
                answer.read()
            event = ""
            for line in _checked(answer).iter_lines():
                name, _, value = line.partition(": ")
                if name == "event":
                    event = value
                elif name == "data":
                    yield event, json.loads(value)

    def _call(self, method: str, path: str, **body: Any) -> Any:
        with self._translate_errors():
            return _checked(self._client.request(method, path, **body)).json()

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            raise AwayError(
                f"cannot reach the server {self._server} ({error}): start one with "
                "'layout-planner serve', or name another with --server"
            ) from error


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    try:
        detail = str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        detail = f"the server answered {answer.status_code}: is it a Layout Planner?"
    raise AwayError(detail) if answer.is_server_error else OptionError(detail)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
