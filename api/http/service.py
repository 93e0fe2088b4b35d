"""The service behind the requests: plans uploaded programs, and the same request only once."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Protocol

from fastapi import HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from api.http.metrics import Metrics
from api.http.uploads import Uploads
from api.jobs.retention import Retention
from api.jobs.tasks import Tasks
from api.planning.process import ProcessError
from api.planning.work import CheckWork, OnStage, PlanWork, Work, ignore_stage
from api.store.files import PlanFiles
from api.store.plans import PlanStore, plan_id
from api.store.room import FullDiskError, needs_room
from api.store.tables import Plan
from api.wording import HTTP
from planner.errors import InputError
from planner.files.kinds import MAGIC_BYTES, check_is_lowered, check_plannable, is_lowered
from planner.options import PlanOptions
from planner.result.check import CheckReport, read_check

_SWEEP_SECONDS: Final = 3600
_CLAIM_SECONDS: Final = 0.2
_RETRY_SECONDS: Final = 10
_STAGES: Final = frozenset(("loading", "lowering", "planning", "writing"))
_FULL: Final = (
    "the service has as many programs to plan as it takes at a time: try again later, or submit a "
    "job (POST /jobs), which waits for its turn"
)


class PlanningPool(Protocol):
    """Where programs are planned."""

    async def run(self, work: Work, on_stage: OnStage = ignore_stage) -> None:
        """Does a piece of work. Raises ``PlannerError`` and ``ProcessError``."""

    def stop(self) -> None:
        """Ends all planning, now and to come."""

    def unready(self) -> str | None:
        """Why programs cannot be planned at once; None if they can. May be slow."""


@dataclass(eq=False, slots=True)
class _Pending:
    """A plan that is being made, or waits to be: how far it is, and how many wait for it."""

    task: asyncio.Task[Plan]
    waiting: int = 0
    _begun: list[tuple[str, float]] = field(default_factory=list)

    @property
    def stage(self) -> str:
        """The stage that it is at."""
        return self._begun[-1][0] if self._begun else "waiting"

    def begin(self, stage: str) -> None:
        """Takes note of a stage."""
        self._begun.append((stage, time.perf_counter()))

    def stages(self) -> Iterator[tuple[str, float]]:
        """Each stage with the seconds that it took; the last one ends now."""
        ends = [*(start for _, start in self._begun[1:]), time.perf_counter()]
        for (stage, start), end in zip(self._begun, ends, strict=True):
            yield stage, end - start


class PlanService:
    """Plans uploaded programs, and the same request only once."""

    def __init__(
        self,
        store: PlanStore,
        pool: PlanningPool,
        uploads: Uploads,
        plan_seconds: float,
        most_pending: int,
        metrics: Metrics,
        retention: Retention,
    ) -> None:
        """At most ``most_pending`` plans are made or wait to be at a time."""
        self.store = store
        self._pool = pool
        self._uploads = uploads
        self._tasks = Tasks(store)
        self._plan_seconds = plan_seconds
        self._is_stopped = False
        self._most_pending, self._metrics = most_pending, metrics
        self.retention = retention
        metrics.pending.set_function(lambda: len(self._pending))
        self._pending: dict[str, _Pending] = {}  # by plan
        # Plans by the ids that clients follow them by. Nothing keeps two requests from having the
        # same one: the latest counts, and then those before it.
        self._followed: dict[str, list[_Pending]] = {}

    async def plan(
        self, request: Request, name: str, options: PlanOptions, progress_id: str | None = None
    ) -> Plan:
        """The plan for the program in a request's body. ``stage`` says how far it is.

        Raises ``HTTPException`` for a body that is too large or not a program, and where too much
        waits already, ``ClientDisconnect`` if the client leaves.
        """
        with ExitStack() as scratch:
            folder = Path(scratch.enter_context(await self._room()))
            upload = await self._uploads.receive(request, folder / "source")
            self.retention.check_size(upload.size)
            needs_no_torch = await run_in_threadpool(_check_plannable, upload.path, name)
            id_ = plan_id(upload.sha256, options)
            plan = await run_in_threadpool(self._stored, id_)
            if plan is not None:
                self._metrics.stored_plans.inc()
                return plan
            if id_ not in self._pending:
                if len(self._pending) >= self._most_pending:
                    raise HTTPException(503, _FULL, {"Retry-After": str(_RETRY_SECONDS)})
                files = PlanFiles.within(folder)
                work = PlanWork(upload.path, name, options, files, needs_no_torch)
                # The task takes the folder over: the client that asked first may go away while
                # others wait for the same plan.
                task = asyncio.create_task(self._solve(id_, work, scratch.pop_all()))
                task.add_done_callback(_mark_retrieved)
                self._pending[id_] = _Pending(task)
        return await self._wait(self._pending[id_], request, progress_id)

    async def _wait(self, pending: _Pending, request: Request, progress_id: str | None) -> Plan:
        """Waits for a plan as long as its client does; the last one to leave ends it."""
        follows = self._followed.setdefault(progress_id, []) if progress_id is not None else []
        follows.append(pending)
        pending.waiting += 1
        leaving = asyncio.create_task(_left(request))
        try:
            await asyncio.wait({pending.task, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if pending.task.done():
                return pending.task.result()
            raise ClientDisconnect
        finally:
            leaving.cancel()
            pending.waiting -= 1
            if pending.waiting == 0 and not pending.task.done():
                self._forget(pending)
                pending.task.cancel()
            follows.remove(pending)
            if not follows and progress_id is not None:
                self._followed.pop(progress_id, None)

    async def check(
        self, request: Request, name: str, runtime: str | None, gpu: str | None
    ) -> CheckReport:
        """What a check of the lowered program in a request's body found.

        Raises ``HTTPException`` for a body that is too large or no such program.
        """
        with await self._room() as folder:
            upload = await self._uploads.receive(request, Path(folder) / "source")
            await run_in_threadpool(_check_lowered, upload.path, name)
            work = CheckWork(upload.path, name, runtime, gpu, Path(folder) / "found")
            await self._pool.run(work)
            return read_check(json.loads(work.output.read_bytes()))

    def unready(self) -> str | None:
        """Why no plan can be made now; None if one can. May be slow."""
        if self._is_stopped:
            return "the service shuts down"
        if len(self._pending) >= self._most_pending:
            return f"{len(self._pending)} plans wait to be made: the queue is full"
        return self._pool.unready()

    def stage(self, progress_id: str) -> str | None:
        """How far the plan is that a request of this id waits for; None without such a request."""
        followed = self._followed.get(progress_id)
        return followed[-1].stage if followed else None

    def stop(self) -> None:
        """Stops all planning, now and to come; the requests that wait for it are answered so."""
        self._is_stopped = True
        self._pool.stop()

    async def close(self) -> None:
        """Stops, and returns once no plan is pending any more."""
        self.stop()
        tasks = [pending.task for pending in self._pending.values()]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def sweep(self) -> None:
        """Frees the space of plans that were deleted, now and every hour; to be cancelled."""
        while True:
            sweeping = asyncio.ensure_future(run_in_threadpool(self._sweep))
            try:
                await asyncio.shield(sweeping)
            except asyncio.CancelledError:
                # Its thread goes on, and needs its folder until it is done.
                await asyncio.wait([sweeping])
                raise
            except Exception:
                # What could not be deleted now can be later: the service goes on.
                traceback.print_exc()
            await asyncio.sleep(_SWEEP_SECONDS)

    async def _room(self) -> TemporaryDirectory[str]:
        """A folder for a request; raises ``FullDiskError``."""
        await run_in_threadpool(self.store.reserve.check, "the upload")
        with needs_room("the upload"):
            return TemporaryDirectory(dir=self._uploads.folder)

    async def _solve(self, id_: str, work: PlanWork, scratch: ExitStack) -> Plan:
        with scratch:
            pending = self._pending[id_]
            try:
                async with self._claimed(id_):
                    plan = await run_in_threadpool(self._stored, id_)
                    return plan or await self._make(id_, work, pending)
            finally:
                self._forget(pending)

    async def _make(self, id_: str, work: PlanWork, pending: _Pending) -> Plan:
        observe = self._metrics.stage_seconds
        try:
            await self._pool.run(work, pending.begin)
        except ProcessError as error:
            self._metrics.failed(error)
            raise
        for stage, seconds in pending.stages():
            # One for each delegate, and a process can say anything: these are all planning.
            observe.labels(stage if stage in _STAGES else "planning").observe(seconds)
        plan = await run_in_threadpool(self._keep, id_, work)
        self._metrics.made(plan)
        return plan

    def _keep(self, id_: str, work: PlanWork) -> Plan:
        kept = (work.source, *work.files.all())
        self.retention.make_room(sum(path.stat().st_size for path in kept))
        return self.store.put(id_, work.files, work.source, work.options)

    def _stored(self, id_: str) -> Plan | None:
        """A plan that is there, whole; one with a damaged file is forgotten, to be made again."""
        plan = self.store.get(id_)
        if plan is None:
            return None
        if self.store.is_whole(plan):
            self.store.use(plan)
            return plan
        self.store.delete(id_)
        return None

    def _sweep(self) -> None:
        self.retention.apply()
        self.store.sweep()
        if not self.store.reserve.fill():
            print(f"{FullDiskError('plans')}", file=sys.stderr, flush=True)

    def _forget(self, pending: _Pending) -> None:
        """Has the next request for the same plan ask for it anew."""
        for id_, known in list(self._pending.items()):
            if known is pending:
                del self._pending[id_]

    @asynccontextmanager
    async def _claimed(self, id_: str) -> AsyncIterator[None]:
        """Waits until no other server and no worker makes a plan, and claims it.

        But not for ever: the other may be stuck, and to make a plan twice does no harm.
        """
        claims, end = self.store.claims, time.monotonic() + self._plan_seconds
        is_ours = False
        while time.monotonic() < end and not self._is_stopped:
            # Nothing is claimed while a worker is at it, which waits for claims itself.
            is_running = await run_in_threadpool(self._tasks.is_running, id_)
            is_ours = not is_running and claims.take(id_)
            if is_ours:
                break
            await asyncio.sleep(_CLAIM_SECONDS)
        try:
            yield
        finally:
            if is_ours:
                claims.release(id_)


def _check_plannable(path: Path, name: str) -> bool:
    """Whether a program is lowered already."""
    with _refused(), path.open("rb") as file:
        check_plannable(file, name)
        file.seek(0)
        return is_lowered(file.read(MAGIC_BYTES))


def _check_lowered(path: Path, name: str) -> None:
    with _refused(), path.open("rb") as file:
        check_is_lowered(file.read(MAGIC_BYTES), name)


@contextmanager
def _refused() -> Iterator[None]:
    """Answers that a body is no program with 400."""
    try:
        yield
    except InputError as error:
        raise HTTPException(400, error.worded(HTTP)) from None


async def _left(request: Request) -> None:
    """Returns when the client of a request has left; its body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _mark_retrieved(task: asyncio.Task[Plan]) -> None:
    """Keeps asyncio from logging an error for which no client waits any more."""
    if not task.cancelled():
        task.exception()
