"""Keeps a number of worker processes running."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from api.jail.jail import Jail
from api.jobs.worker import WorkerSettings
from api.store.plans import open_store
from api.store.scratch import scratch_in
from api.telemetry import traces
from api.telemetry.logs import LogSettings
from planner.errors import OptionError

_LOOK_SECONDS: Final = 0.2
_LONGEST_WAIT: Final = 30.0
_STEADY_SECONDS: Final = 60.0
_END_SECONDS: Final = 5.0
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Place:
    """A worker's place: its process, and how long to wait before the next one."""

    process: subprocess.Popen[str] | None = None
    scratch: ExitStack | None = None
    started: float = 0.0
    wait: float = 0.0


class Supervisor:
    """Up to ``count`` workers; one that ends is started anew, after a while if that happens often.

    They end with this process, however it ends.
    """

    def __init__(self, count: int, settings: WorkerSettings) -> None:
        """Starts the workers. The settings' ``scratch`` is where each gets a folder of its own."""
        self._settings = settings
        self._places = [_Place() for _ in range(count)]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._thread.start()

    def pids(self) -> list[int]:
        """The workers' processes that run."""
        running = [p.process for p in self._places]
        return [p.pid for p in running if p is not None and p.poll() is None]

    def are_all(self, pids: Collection[int]) -> bool:
        """Whether these are, among others, the processes of all workers."""
        running = [place.process for place in self._places]
        return all(process is not None and process.pid in pids for process in running)

    def stop(self) -> None:
        """Ends the workers; their tasks go on elsewhere, or when there is a worker again."""
        self._ended.set()
        self._thread.join()
        for place in self._places:
            if place.process is not None and place.process.stdin is not None:
                with suppress(OSError):
                    place.process.stdin.close()
        for place in self._places:
            if place.process is not None:
                try:
                    place.process.wait(_END_SECONDS)
                except subprocess.TimeoutExpired:
                    place.process.kill()
                    place.process.wait()
            self._clear(place)

    def _watch(self) -> None:
        while not self._ended.is_set():
            for place in self._places:
                if place.process is not None and place.process.poll() is not None:
                    is_steady = time.monotonic() - place.started > _STEADY_SECONDS
                    place.wait = 0.5 if is_steady else min(2 * place.wait + 0.5, _LONGEST_WAIT)
                    place.started = time.monotonic()
                    self._clear(place)
                if place.process is None and time.monotonic() - place.started >= place.wait:
                    self._try_start(place)
            self._ended.wait(_LOOK_SECONDS)

    def _try_start(self, place: _Place) -> None:
        try:
            self._start(place)
        except Exception:
            # A full disk, or too many processes: it may go better later, and the others go on.
            _log.exception("a worker cannot be started")
            place.started = time.monotonic()
            place.wait = min(2 * place.wait + 0.5, _LONGEST_WAIT)
            self._clear(place)

    def _start(self, place: _Place) -> None:
        place.scratch = ExitStack()
        folder = place.scratch.enter_context(
            TemporaryDirectory(
                prefix="worker-", dir=self._settings.scratch, ignore_cleanup_errors=True
            )
        )
        place.started = time.monotonic()
        place.process = subprocess.Popen(
            # Not as the main module: planning processes would import that again. With -P nothing is
            # imported from the current directory, and neither by these.
            [sys.executable, "-P", "-c", "from api.jobs.worker import main; main()"],
            stdin=subprocess.PIPE,
            text=True,
        )
        assert place.process.stdin is not None
        with suppress(BrokenPipeError):
            place.process.stdin.write(replace(self._settings, scratch=folder).to_json() + "\n")
            place.process.stdin.flush()

    @staticmethod
    def _clear(place: _Place) -> None:
        if place.process is not None and place.process.stdin is not None:
            with suppress(OSError):
                place.process.stdin.close()
        place.process = None
        if place.scratch is not None:
            place.scratch.close()
            place.scratch = None


def work(
    count: int,
    data_dir: Path,
    database_url: str | None,
    plan_seconds: float,
    *,
    blobs_url: str | None = None,
    plan_memory_bytes: int | None = None,
    without_jail: bool = False,
    logs: LogSettings | None = None,
) -> None:
    """Keeps so many workers running until SIGINT or SIGTERM. To be called in the main thread.

    Raises ``OptionError`` if what they need is not there: a jail, unless it is ``without_jail``.
    """
    if logs is not None:
        logs.install()
    traces.check()
    jail = Jail.of_machine()
    jail.log_missing()
    if not (jail.is_closed or without_jail):
        raise OptionError(
            "there is no jail here for torch, which reads programs that others uploaded: install "
            "bubblewrap, or say --without-jail"
        )
    # Raised once, and here, rather than by every worker again and again.
    open_store(data_dir, database_url, blobs_url).close()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with scratch_in(data_dir.absolute()) as scratch:
        settings = WorkerSettings(
            str(data_dir.absolute()),
            database_url,
            str(scratch),
            plan_seconds,
            plan_memory_bytes,
            blobs_url,
            logs,
        )
        supervisor = Supervisor(count, settings)
        plural = "s" if count > 1 else ""
        print(f"{count} worker{plural} for {data_dir}: Ctrl-C ends", flush=True)
        ended.wait()
        supervisor.stop()
