"""Worker processes: planning runs in them, so that torch never loads in the one that serves."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from api.store.files import PlanFiles
from planner.errors import PlannerError
from planner.options import PlanOptions

if TYPE_CHECKING:
    from planner.pipelines.dispatch import Planned

# A forked process would share the threads' locks of this one, held by threads that it lacks.
_spawn = multiprocessing.get_context("spawn")

_END_SECONDS = 5.0
"""How long a process may take to end by itself."""


Tell = Callable[[str], None]
"""Called with the name of each stage of a job as it begins."""


def tell_nobody(stage: str) -> None:
    """For work that nobody follows."""


class Work(Protocol):
    """What a process is asked to do; it is sent there."""

    @property
    def name(self) -> str:
        """What to call the program in messages."""

    def run(self, tell: Tell = tell_nobody) -> None:
        """Does it. Raises ``PlannerError``."""


@dataclass(frozen=True, slots=True)
class Job:
    """A program to plan, what to call it in messages, and where to write the plan."""

    source: Path
    name: str
    options: PlanOptions
    files: PlanFiles

    def run(self, tell: Tell = tell_nobody) -> None:
        """Plans the file and writes the plan's files. Raises ``PlannerError``."""
        from planner.pipelines.dispatch import plan_program

        done = 0

        def progress(stage: str, delegate: object) -> None:
            nonlocal done
            done += delegate is not None
            tell(f"{done} delegate{'s' * (done > 1)} planned" if done else stage)

        planned = plan_program(self.source.read_bytes(), self.name, self.options, progress)
        tell("writing")
        write_plan(planned, planned.report, self.files)


@dataclass(frozen=True, slots=True)
class _Stage:
    """What a process says of a job before its end."""

    name: str


class WorkerError(Exception):
    """A job came to no end for a reason that is not in its request."""


class CrashedJobError(WorkerError):
    """Planning failed in a way that nobody foresaw."""


class LostWorkerError(WorkerError):
    """The worker's process ended in the middle of a job."""


class OvertimeError(WorkerError):
    """The job was stopped because it took longer than it may."""


class StoppedError(WorkerError):
    """The service shuts down, and the job with it."""


def write_plan(planned: Planned, report: dict[str, Any], files: PlanFiles) -> None:
    """Writes the files of a plan, with what is reported of it."""
    is_program = report["kind"] != "vkgraph"
    files.program.write_bytes(planned.pte() if is_program else b"")
    files.graph.write_bytes(planned.flatbuffer())
    files.report.write_text(json.dumps(report, allow_nan=False), "utf-8")


def serve_jobs(connection: Connection) -> None:
    """The life of a worker's process: runs the jobs that come in until the other end is closed."""
    # Ctrl-C reaches every process of a terminal; only the one that serves shall answer to it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, name="follow", daemon=True).start()
    _go_first()
    # What libraries print is not the service's output.
    os.dup2(2, 1)
    # An honest .pt2 needs no unpickling of arbitrary objects. This narrows what a hostile one can
    # do; it does not make it safe to load.
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    while True:
        try:
            job: Work = connection.recv()
        except EOFError:
            return
        error: Exception | None = None
        try:
            job.run(lambda stage: connection.send(_Stage(stage)))
        except PlannerError as refusal:
            error = refusal
        except Exception as crash:
            traceback.print_exc()
            # As text: to unpickle it, the process that serves might have to import torch.
            error = CrashedJobError(
                f"planning {job.name} failed: {type(crash).__name__}: {crash}".splitlines()[0]
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


def _go_first() -> None:
    """Tells a system that runs out of memory to end this process, and none that waits for it."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


class PlanningProcess:
    """A process that runs one job after another."""

    def __init__(self) -> None:
        self._connection, theirs = _spawn.Pipe()
        self._process = _spawn.Process(
            target=serve_jobs, args=(theirs,), name="layout-planner-worker", daemon=True
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

    def run(self, job: Work, seconds: float, tell: Tell = tell_nobody) -> None:
        """Has a job done. No process is left after ``OvertimeError`` and ``LostWorkerError``."""
        end = time.monotonic() + seconds
        try:
            self._connection.send(job)
            while True:
                if not self._connection.poll(max(0.0, end - time.monotonic())):
                    self.kill()
                    raise OvertimeError(
                        f"planning {job.name} took longer than {seconds:g} s and was stopped: "
                        "hand in a smaller program, or give the service more time"
                    )
                said: Exception | _Stage | None = self._connection.recv()
                if not isinstance(said, _Stage):
                    break
                tell(said.name)
        except (EOFError, OSError):
            self._process.join()
            raise LostWorkerError(
                f"the process that was planning {job.name} has {self._end()}: "
                "try again, with more memory if that ran out"
            ) from None
        if said is not None:
            raise said

    def _end(self) -> str:
        code = self._process.exitcode or 0
        if code < 0:
            return f"been killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}" if code else "ended"


class Workers:
    """Up to ``count`` worker processes, each with at most ``seconds`` for a job.

    A process starts when there is a job and no process free for it, and is kept for the next:
    importing ExecuTorch takes seconds.
    """

    def __init__(self, count: int, seconds: float) -> None:
        self._seconds = seconds
        # As many threads as processes, each waiting for the job of one.
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="worker")
        self._lock = threading.Lock()
        self._workers: set[PlanningProcess] = set()
        self._idle: list[PlanningProcess] = []
        self._stopped = False

    async def run(self, job: Job, tell: Tell = tell_nobody) -> None:
        """Runs a job once a process is free. Raises ``PlannerError`` and ``WorkerError``."""
        self._check_running(job)
        await asyncio.get_running_loop().run_in_executor(self._threads, self._run, job, tell)

    def stop(self) -> None:
        """Ends every process; jobs, waiting ones too, end with ``StoppedError``."""
        with self._lock:
            self._stopped = True
            for worker in self._workers:
                if worker in self._idle:
                    worker.end()
                else:
                    worker.kill()
        self._threads.shutdown(wait=False)

    def _run(self, job: Job, tell: Tell) -> None:
        worker = self._take(job)
        try:
            worker.run(job, self._seconds, tell)
        except LostWorkerError:
            self._check_running(job)
            raise
        finally:
            self._give_back(worker)

    def _take(self, job: Job) -> PlanningProcess:
        with self._lock:
            self._check_running(job)
            while self._idle:
                worker = self._idle.pop()
                if worker.is_alive():
                    return worker
                self._workers.remove(worker)
            worker = PlanningProcess()
            self._workers.add(worker)
            return worker

    def _give_back(self, worker: PlanningProcess) -> None:
        with self._lock:
            if worker.is_alive():
                self._idle.append(worker)
            else:
                self._workers.remove(worker)

    def _check_running(self, job: Job) -> None:
        if self._stopped:
            raise StoppedError(f"the service shuts down: {job.name} was not planned, try again")
