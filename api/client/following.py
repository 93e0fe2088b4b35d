"""The events of a job, read from the lines in which they come."""

from __future__ import annotations

import json
import time
from urllib.parse import quote

from api.client.documents import JobSummary
from api.client.errors import AwayError
from api.client.steps import AGAIN_SECONDS


class Following:
    """A job that is followed, over as many connections as that takes.

    A server that goes away is waited for ``patience`` seconds, once it was heard.
    """

    def __init__(self, server: str, job_id: str, patience: float) -> None:
        self.path = f"/jobs/{quote(job_id, '')}/events"
        self.has_ended = False
        self._server, self._job_id, self._patience = server, job_id, patience
        self._heard: float | None = None  # when something was last heard of the job
        self._event = ""

    @property
    def was_heard(self) -> bool:
        """Whether anything was heard of the job."""
        return self._heard is not None

    def read(self, line: str) -> JobSummary | None:
        """The job that a line has, if it has one."""
        name, _, value = line.partition(": ")
        if name == "event":
            self._event = value
        if name != "data":
            return None
        self._heard = time.monotonic()
        self.has_ended = self._event == "end"
        if self._event != "job":
            return None
        job: JobSummary = json.loads(value)
        return job

    def pause(self) -> float:
        """How long to wait before the next connection; raises ``AwayError`` if that is too long."""
        if self._heard is not None and time.monotonic() - self._heard > self._patience:
            raise AwayError(
                f"the server {self._server} went away, and the job goes on without it: follow it "
                f"with 'layout-planner jobs watch {self._job_id}' when the server is back"
            )
        return AGAIN_SECONDS
