"""A planning process: torch loads in it, and never in the one that serves."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from api.planning.work import OnStage, Work, ignore_stage
from planner.errors import PlannerError

# A forked process would share the threads' locks of this one, held by threads that it lacks.
_spawn = multiprocessing.get_context("spawn")

_END_SECONDS = 5.0
"""How long a process may take to end by itself."""


@dataclass(frozen=True, slots=True)
class _Stage:
    """A stage that has begun, as the process reports it."""

    name: str


class ProcessError(Exception):
    """Work did not come to an end, for a reason that is not in what was asked for."""


class CrashError(ProcessError):
    """Planning failed in a way that was not foreseen."""


class LostProcessError(ProcessError):
    """The planning process ended in the middle of its work."""


class OvertimeError(ProcessError):
    """The work was stopped because it took longer than it may."""


class StoppedError(ProcessError):
    """The service shuts down, and the work with it."""


def serve_work(connection: Connection) -> None:
    """The life of a planning process: does what comes in until the other end is closed."""
    # Ctrl-C reaches every process of a terminal; only the one that serves answers to it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, name="parent", daemon=True).start()
    _be_ended_first()
    # What libraries print is not the service's output.
    os.dup2(2, 1)
    # An honest .pt2 needs no unpickling of arbitrary objects. This narrows what a hostile one can
    # do; it does not make it safe to load.
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    while True:
        try:
            work: Work = connection.recv()
        except EOFError:
            return
        error: Exception | None = None
        try:
            work.run(lambda stage: connection.send(_Stage(stage)))
        except PlannerError as refusal:
            error = refusal
        except Exception as crash:
            traceback.print_exc()
            # As text: to unpickle it, the process that serves might have to import torch.
            error = CrashError(
                f"planning {work.name} failed: {type(crash).__name__}: {crash}".splitlines()[0]
            )
        try:
            connection.send(error)
        except BrokenPipeError:
            return


def _follow_parent() -> None:
    """Ends this process as soon as the one that started it has ended, however it did."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _be_ended_first() -> None:
    """Has a system that runs out of memory end this process, and none that waits for it."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


class PlanningProcess:
    """A process that does one piece of work after another."""

    def __init__(self) -> None:
        self._connection, theirs = _spawn.Pipe()
        self._process = _spawn.Process(
            target=serve_work, args=(theirs,), name="layout-planner-planning", daemon=True
        )
        self._process.start()
        # With this copy open, the process could end and the connection would not.
        theirs.close()

    def is_alive(self) -> bool:
        """Whether it can be given work."""
        return self._process.is_alive()

    def kill(self) -> None:
        """Ends it now, whatever it does."""
        self._process.kill()
        self._process.join()

    def end(self, seconds: float = _END_SECONDS) -> None:
        """Lets an idle process end by itself, so that it can clean up after its libraries."""
        self._connection.close()
        self._process.join(seconds)
        self.kill()

    def run(self, work: Work, seconds: float, on_stage: OnStage = ignore_stage) -> None:
        """Has work done. No process is left after ``OvertimeError`` and ``LostProcessError``."""
        end = time.monotonic() + seconds
        try:
            self._connection.send(work)
            while True:
                if not self._connection.poll(max(0.0, end - time.monotonic())):
                    self.kill()
                    raise OvertimeError(
                        f"planning {work.name} took longer than {seconds:g} s and was stopped: "
                        "hand in a smaller program, or give the service more time"
                    )
                message: Exception | _Stage | None = self._connection.recv()
                if not isinstance(message, _Stage):
                    break
                on_stage(message.name)
        except (EOFError, OSError):
            self._process.join()
            raise LostProcessError(
                f"the process that was planning {work.name} has {self._ending()}: "
                "try again, with more memory if that ran out"
            ) from None
        if message is not None:
            raise message

    def _ending(self) -> str:
        code = self._process.exitcode or 0
        if code < 0:
            return f"been killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}" if code else "ended"
