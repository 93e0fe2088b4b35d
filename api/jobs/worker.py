"""A worker process: does the tasks of the queue, one at a time, in a planning process."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NoReturn, ParamSpec, TypeVar

from sqlalchemy.exc import InterfaceError, OperationalError

import planner
from api.jail.jail import Jail
from api.jail.limits import Limits
from api.jobs.engine import Consumer, Engine
from api.jobs.jobs import LOWERING
from api.jobs.reconcile import reconcile
from api.jobs.register import BEAT_SECONDS, GONE_SECONDS, WorkerRegister, new_worker_id
from api.jobs.tasks import Begun, Tasks
from api.planning.pool import Pool
from api.planning.process import LostProcessError, OvertimeError
from api.planning.work import Lowering, PlanWork, Replanning, Work
from api.store.database import UnreachableError
from api.store.files import PlanFiles
from api.store.plans import again_if_lost, open_store
from api.store.room import FullDiskError, needs_room
from api.telemetry import traces
from api.telemetry.logs import LogSettings, bind
from planner.errors import PlannerError

P = ParamSpec("P")
T = TypeVar("T")

AWAY: Final = (UnreachableError, OperationalError, InterfaceError, FullDiskError)
"""What is raised while a database does not answer, or can keep nothing more."""
GIVEN_UP_CODE: Final = 75
"""The exit code of a worker that others take for dead."""
LOST_CODE: Final = 74
"""The exit code of a worker that is at odds with the queue."""
_RECONCILE_SECONDS: Final = 2.0
_RECONCILE_CHANCE: Final = 0.1
_CLAIM_SECONDS: Final = 0.2
_ROOM: Final = 16 * 2**20
"""Free bytes below which a worker begins nothing: it would not come to its end."""
_ROOM_SECONDS: Final = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Where plans are kept, a folder for this worker's own files, and what each task may take.

    Without ``plan_memory_bytes``, that is most of the machine's memory. ``logs`` is how it logs.
    """

    data_dir: str
    database_url: str | None
    scratch: str
    plan_seconds: float
    plan_memory_bytes: int | None = None
    blobs_url: str | None = None
    logs: LogSettings | None = None

    def to_json(self) -> str:
        """The settings in one line: the database's URL may hold a password, so no argument."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> WorkerSettings:
        """The settings that such a line holds."""
        found = json.loads(text)
        logs = found.pop("logs", None)
        return cls(**found, logs=None if logs is None else LogSettings(**logs))


class Worker:
    """Does tasks of the queue. It ends as soon as others might take it for dead."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.id = new_worker_id()
        self._settings = settings
        self._store = open_store(Path(settings.data_dir), settings.database_url, settings.blobs_url)
        self._tasks = Tasks(self._store)
        self._register = WorkerRegister(self._store.database)
        self._engine = Engine(self._store.database)
        limits = Limits.of_machine(settings.plan_seconds, settings.plan_memory_bytes)
        self._pool = Pool(1, settings.plan_seconds, Jail.of_machine(), limits)
        self._consumer = Consumer(
            self._engine.url,
            self.id,
            self._attempt,
            self._give_up,
            (LostProcessError, OvertimeError, FullDiskError),
            lambda: self.end(LOST_CODE),
        )
        self._beaten = _seconds()

    def start(self) -> None:
        """Starts to do tasks; others know of it first."""
        self._register.add(self.id)
        self._beaten = _seconds()
        for loop in (self._beat_for_ever, self._take_over_for_ever, self._reconcile_for_ever):
            threading.Thread(target=loop, name=loop.__name__, daemon=True).start()
        self._consumer.launch()

    def end(self, code: int = 0) -> NoReturn:
        """Ends this process, and with it its planning process; its task goes on elsewhere."""
        try:
            # A worker that others take for dead must end at once.
            if code != GIVEN_UP_CODE:
                self._register.remove(self.id)
                traces.stop()
        finally:
            os._exit(code)

    async def _attempt(self, task_id: str) -> None:
        bind(task=task_id)
        with traces.span("task", layout_planner__task=task_id):
            await self._do(task_id)

    async def _do(self, task_id: str) -> None:
        await self._wait_for_room()
        await self._wait_for_claim(task_id)
        start, begun = time.monotonic(), await retry_while_away(self._tasks.begin, task_id, self.id)
        if begun is None:
            return
        with needs_room(f"the plan of {begun.name}"):
            scratch = TemporaryDirectory(dir=self._settings.scratch)
        with scratch as folder:
            files, output = PlanFiles.within(Path(folder)), Path(folder) / "lowered.zip"
            await self._pool.run(_work(begun, files, output))
            if begun.options is None:
                finish = partial(self._tasks.finish_lowering, task_id, output)
                ready = await retry_while_away(again_if_lost, finish)
                await retry_while_away(self._engine.start, ready)
                _log_done("lowered", begun.name, start)
                return
            keep = partial(self._tasks.keep, task_id, files, begun.source, begun.options)
            await retry_while_away(again_if_lost, keep)
            _log_done("planned", begun.name, start)

    async def _wait_for_room(self) -> None:
        """Returns once the disk has room for what a task leaves."""
        while shutil.disk_usage(self._settings.scratch).free < _ROOM:
            await asyncio.sleep(_ROOM_SECONDS)

    async def _wait_for_claim(self, task_id: str) -> None:
        """Returns once no server plans just this, or has had the time that a task has."""
        if task_id.startswith(LOWERING):
            return
        end = _seconds() + self._settings.plan_seconds
        while _seconds() < end:
            if await retry_while_away(self._store.claims.is_free, task_id):
                break
            await asyncio.sleep(_CLAIM_SECONDS)

    async def _give_up(self, task_id: str, reason: str) -> None:
        await retry_while_away(self._tasks.fail, task_id, reason)
        _log.warning("a task failed: %s", reason, extra={"fields": {"task": task_id}})

    def _beat_for_ever(self) -> None:
        while True:
            time.sleep(BEAT_SECONDS)
            try:
                is_alive = self._register.beat(self.id)
            except AWAY:
                is_alive = _seconds() - self._beaten < GONE_SECONDS
            else:
                self._beaten = _seconds() if is_alive else self._beaten
            if not is_alive:
                self.end(GIVEN_UP_CODE)

    def _take_over_for_ever(self) -> None:
        while True:
            time.sleep(BEAT_SECONDS)
            with _log_errors():
                self._consumer.take_over({worker.id for worker in self._register.alive()})

    def _reconcile_for_ever(self) -> None:
        reconcile_for_ever(self._tasks, self._engine, self._register, _RECONCILE_CHANCE)


def reconcile_for_ever(
    tasks: Tasks,
    engine: Engine,
    register: WorkerRegister,
    chance: float = 1.0,
    ended: threading.Event | None = None,
) -> None:
    """Makes store and queue agree again and again, each time with this chance, until it ends."""
    ended = ended or threading.Event()
    seconds = _RECONCILE_SECONDS
    while not ended.wait(seconds):
        if random.random() >= chance:
            continue
        start = time.monotonic()
        with _log_errors():
            reconcile(tasks, engine)
            register.forget_gone()
        # Where much is queued this takes a while: it shall not take the most of the time.
        seconds = max(_RECONCILE_SECONDS, 20 * (time.monotonic() - start))


async def retry_while_away(call: Callable[P, T], *args: P.args, **kw: P.kwargs) -> T:
    """What a call returns, once the database answers and the disk has room.

    That it does not is no failure of a task. A worker for which it stays away ends by its beat.
    """
    while True:
        try:
            return await asyncio.to_thread(call, *args, **kw)
        except AWAY:
            await asyncio.sleep(0.5)


def main() -> None:
    """The life of a worker's process: settings come as the first line of its input.

    It ends with its input, and so with the process that started it.
    """
    # Ctrl-C reaches every process of a terminal; the one that started this one ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)
    settings = WorkerSettings.from_json(sys.stdin.readline())
    if settings.logs is not None:
        settings.logs.install()
    traces.start(planner.__version__)
    try:
        worker = Worker(settings)
    except PlannerError as error:
        # As a rule the database is away: the supervisor starts another.
        _log.error("a worker ends: %s", error)
        sys.exit(1)
    signal.signal(signal.SIGTERM, lambda number, frame: worker.end())
    worker.start()
    sys.stdin.read()
    worker.end()


def _work(begun: Begun, files: PlanFiles, output: Path) -> Work:
    source, name, sha256 = begun.source, begun.name, begun.sha256
    if begun.lowering is not None:
        return Lowering(source, name, begun.lowering, output, sha256)
    assert begun.options is not None
    if begun.lowered is None:
        return PlanWork(source, name, begun.options, files, is_lowered=True, sha256=sha256)
    return Replanning(source, begun.lowered, name, begun.options, files, sha256)


@contextmanager
def _log_errors() -> Iterator[None]:
    """Prints errors, except that the database does not answer, and goes on."""
    try:
        yield
    except AWAY:
        pass
    except Exception:
        _log.exception("the queue and the store could not be looked at")


def _log_done(what: str, name: str, start: float) -> None:
    seconds = round(time.monotonic() - start, 4)
    _log.info("%s %s", what, name, extra={"fields": {"seconds": seconds}})


def _seconds() -> float:
    """Seconds that pass also while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


if __name__ == "__main__":
    main()
