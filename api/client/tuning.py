"""A tuning that tells a server how it goes: its runs teach the server's device, as they come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final, cast

from api.client.devices import DeviceClient
from api.client.documents import TuningProgress
from api.client.errors import AwayError
from planner.errors import PlannerError
from planner.files.lowered import without_constants
from planner.measured.importing import ProfiledFiles
from planner.tuning.journal import Journal, digest
from planner.tuning.result import (
    BASELINE,
    Candidate,
    Round,
    Tuned,
    finalist_document,
    plan_document,
)
from planner.tuning.tune import Watcher

_PAGE: Final = "server.txt"
"""A file of the tuning's folder: the address of its page."""


class Telling:
    """Tells a server what another watcher is told as well.

    A tuning goes on without its server: what could not be told is said once, to ``warn``, and the
    runs are sent when it is back, or by the same command later.
    """

    def __init__(
        self, device: DeviceClient, program: str, inner: Watcher, warn: Callable[[str], None]
    ) -> None:
        """To be begun with ``begin``."""
        self._device, self._program, self._inner, self._warn = device, program, inner, warn
        self._id = ""
        self._stage = ""
        self._plans: list[Candidate] = []
        self._rounds: list[Round] = []
        self._sent: set[str] = set()
        self._has_warned = False
        self._journal: Journal | None = None

    def begin(self, journal: Journal) -> str:
        """Takes note of the tuning there, or goes on with it; returns the address of its page.

        The journal's folder keeps the address. Raises ``AwayError`` and ``OptionError``.
        """
        self._journal = journal
        kept = journal.folder / _PAGE
        begun = kept.read_text("utf-8").strip() if kept.exists() else ""
        page, _, id_ = begun.rpartition("/tuning/")
        if page == self._device.page and self._device.has_tuning(id_):
            self._id = id_
            return begun
        self._id = self._device.begin_tuning(self._program)
        begun = f"{self._device.page}/tuning/{self._id}"
        journal.write(_PAGE, begun.encode() + b"\n")
        return begun

    def stage(self, text: str) -> None:
        """What is done now."""
        self._stage = text
        self._inner.stage(text)
        self._try(self._tell)

    def measured(self, candidate: Candidate, baseline: Candidate | None) -> None:
        """A plan that was measured, and ExecuTorch's."""
        self._plans.append(candidate)
        self._inner.measured(candidate, baseline)
        self._try(self._tell)

    def learned(self, found: Round) -> None:
        """A round that ended."""
        self._rounds.append(found)
        self._inner.learned(found)
        self._try(self._tell)
        # Not with each plan: the server takes a second to read a run, and the device would wait.
        self._try(self._send_runs)

    def ended(self, tuned: Tuned) -> None:
        """Tells what came of it, and what was found to be wrong on the device."""
        self._try(self._send_runs)
        winner = BASELINE if tuned.winner is None else tuned.winner.candidate.name
        self._try(
            lambda: self._tell(
                finalists=[finalist_document(f) for f in tuned.finalists],
                winner=winner,
                device_seconds=tuned.seconds,
                ended=tuned.ended,
            )
        )
        if tuned.avoided:
            self._try(lambda: self._device.add_avoid(tuned.avoided))

    def broken_off(self, reason: str) -> None:
        """Tells that the tuning ended before it was done, and what it has measured."""
        self._try(self._send_runs)
        self._try(lambda: self._tell(ended=reason))

    def _send_runs(self) -> None:
        """Sends the runs that are not there yet, of plans that computed what they should."""
        for candidate in self._plans:
            run, journal = candidate.run, self._journal
            if run.verdict != "right" or run.program in self._sent or journal is None:
                continue
            data = journal.etdump(run.purpose, run.program).read_bytes()
            program = without_constants(candidate.program, self._program)
            name = f"{candidate.name}, {digest(data)[:8]}"
            self._device.add_run(ProfiledFiles(name, data, self._program, program))
            self._sent.add(run.program)

    def _tell(self, **more: Any) -> None:
        progress = {
            "stage": self._stage,
            "plans": [plan_document(plan) for plan in self._plans],
            "rounds": [asdict(each) for each in self._rounds],
        }
        self._device.tell_tuning(self._id, cast("TuningProgress", progress | more))

    def _try(self, tell: Callable[[], Any]) -> None:
        """Calls the server, which may be away or refuse."""
        try:
            tell()
        except (AwayError, PlannerError) as error:
            if not self._has_warned:
                self._has_warned = True
                self._warn(f"the tuning goes on without the server: {error}")
