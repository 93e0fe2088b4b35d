"""The service behind the requests: plans uploaded programs, and the same request only once."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from api.http.callers import Callers, caller_of
from api.http.metrics import Metrics
from api.http.problem_kinds import ProblemKind
from api.http.problems import ProblemError
from api.http.queue import Queue, left, while_waited_for
from api.http.uploads import Upload, UploadFolder, Uploads
from api.jobs.matrix import Input
from api.jobs.retention import Retention
from api.jobs.tasks import Tasks
from api.jobs.wording import HTTP
from api.planning.owner import ANYBODY, NOBODY, Owner, owner_of
from api.planning.process import ProcessError
from api.planning.warming import LOWERED
from api.planning.work import CheckWork, OnStage, PlanWork, Work, ignore_stage, known_stage
from api.store.accounts import Account
from api.store.database import UnreachableError
from api.store.files import PlanFiles
from api.store.plans import PlanStore, plan_id
from api.store.room import FullDiskError, NoRoomError
from api.store.tables import Plan
from api.telemetry import traces
from planner.errors import InputError, OptionError, PlannerError
from planner.files.kinds import MAGIC_BYTES, check_is_lowered, check_plannable, is_lowered
from planner.kernels.releases import Target
from planner.options import PlanOptions
from planner.result.check import CheckReport, read_check

_SWEEP_SECONDS: Final = 3600
_CLAIM_SECONDS: Final = 0.2
_REHEARSALS: Final = 5
_TWO_PROGRAMS: Final = "the request has a body, and names an input as well: leave out one of them"


@dataclass(frozen=True, slots=True)
class Program:
    """The program of a request: what to call it, and where it is.

    ``input`` is the SHA-256 of what ``POST /inputs`` has kept; None for the request's body.
    """

    name: str
    input: str | None = None


_log = logging.getLogger(__name__)


class PlanningPool(Protocol):
    """Where programs are planned."""

    async def run(
        self, work: Work, on_stage: OnStage = ignore_stage, owner: Owner = NOBODY
    ) -> None:
        """Does a piece of work. Raises ``PlannerError`` and ``ProcessError``."""

    def stop(self) -> None:
        """Ends all planning, now and to come."""

    def unready(self) -> str | None:
        """Why programs cannot be planned at once; None if they can. May be slow."""


@dataclass(frozen=True, slots=True)
class PlannedProgram:
    """A plan, and the planned program as ``BlobStore.content`` gives it."""

    plan: Plan
    graph: bytes | Path


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a request asks for, by its id: with the answer, if that is in store."""

    id: str
    is_lowered: bool
    stored: PlannedProgram | None


@dataclass(eq=False, slots=True)
class _Pending:
    """A plan that is being made, or waits to be: how far it is, and how many wait for it."""

    task: asyncio.Task[PlannedProgram]
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
        queue: Queue,
        callers: Callers,
        metrics: Metrics,
        retention: Retention,
    ) -> None:
        self.store = store
        self._pool = pool
        self._uploads = uploads
        self._tasks = Tasks(store)
        self._plan_seconds = plan_seconds
        self._is_stopped = self._is_rehearsing = False
        self._queue, self._callers, self._metrics = queue, callers, metrics
        self.retention = retention
        metrics.pending.set_function(lambda: len(self._pending))
        self._pending: dict[str, _Pending] = {}  # by plan
        # Plans by the ids that clients follow them by. Nothing keeps two requests from having the
        # same one: the latest counts, and then those before it.
        self._followed: dict[str, list[_Pending]] = {}

    async def plan(
        self,
        request: Request,
        program: Program,
        options: PlanOptions,
        progress_id: str | None = None,
    ) -> PlannedProgram:
        """The plan for a request's program. ``stage`` says how far it is.

        Raises ``ProblemError`` for a body that is too large or not a program, and where too much
        waits already, ``OptionError`` for an input that is not there, ``ClientDisconnect`` if the
        client leaves.
        """
        with ExitStack() as scratch:
            folder = scratch.enter_context(self._uploads.folder())
            with traces.span("receiving"):
                upload = await self._received(request, program, folder)
            self.retention.check_size(upload.size)
            # In one turn of a thread: what is in store is answered in less time than ten take.
            asked = await run_in_threadpool(self._look_up, request, upload, program, options)
            if asked.stored is not None:
                self._metrics.stored_plans.inc()
                return asked.stored
            account = await self._account(request, upload.size)
            self._callers.check_plan(request, self._pending.get(asked.id))
            if asked.id not in self._pending:
                scratch.enter_context(self._queue.place())
                source, files = upload.file(folder), PlanFiles.within(folder.path)
                work = PlanWork(
                    *(source, program.name, options, files, asked.is_lowered, program.input)
                )
                # The task takes the folder over: the client that asked first may go away while
                # others wait for the same plan.
                task = asyncio.create_task(self._solve(asked.id, work, scratch.pop_all(), account))
                task.add_done_callback(_mark_retrieved)
                self._pending[asked.id] = _Pending(task)
        pending = self._pending[asked.id]
        with self._callers.planning(request, pending), self._queue.waiting():
            return await self._wait(pending, request, progress_id)

    async def _account(self, request: Request, size: int) -> Account | None:
        """Who is charged for a plan; raises ``FullAccountError`` if there is no room for it."""
        caller = caller_of(request)
        if caller is None:
            return None
        await run_in_threadpool(self.store.accounts.check, caller.account, size)
        return caller.account

    async def plan_later(
        self, request: Request, program: Program, options: PlanOptions
    ) -> PlannedProgram | Input:
        """The plan for a request's program if it is in store, else the program, kept for a job.

        Raises as ``plan``.
        """
        with self._uploads.folder() as folder:
            upload = await self._received(request, program, folder)
            asked = await run_in_threadpool(self._look_up, request, upload, program, options)
            if asked.stored is not None:
                self._metrics.stored_plans.inc()
                return asked.stored
            account = await self._account(request, upload.size)
            if program.input is None:
                await run_in_threadpool(self.retention.make_room, upload.size)
            if account is not None:
                found = {upload.sha256: upload.size}
                await run_in_threadpool(self.store.accounts.reserve, account, found)
            if program.input is None:
                await run_in_threadpool(self.store.hand_in, upload.body)
            return Input(program.name, upload.sha256)

    async def _received(self, request: Request, program: Program, folder: UploadFolder) -> Upload:
        """The program of a request: its body, or an input."""
        if program.input is None:
            return await self._uploads.receive(request, folder)
        async for chunk in request.stream():
            if chunk:
                raise ProblemError(ProblemKind.INVALID_REQUEST, _TWO_PROGRAMS)
        return await run_in_threadpool(self._input, program.name, program.input)

    def _input(self, name: str, sha256: str) -> Upload:
        try:
            path = self.store.renew(sha256)  # no sweep takes it while it is planned
            return Upload(path, sha256, path.stat().st_size)
        except FileNotFoundError:
            raise OptionError(
                f"there is no input {sha256}: POST the bytes of {name} to /inputs first"
            ) from None

    def _look_up(
        self, request: Request, upload: Upload, program: Program, options: PlanOptions
    ) -> _Asked:
        with _refused(), upload.open() as file:
            start = _check_plannable(file, program.name)
        self._uploads.check_taken(request, start)
        id_ = plan_id(upload.sha256, options)
        stored = self._stored(id_)
        if stored is None:
            self.store.reserve.check(f"the plan of {program.name}")
        return _Asked(id_, is_lowered(start), stored)

    async def _wait(
        self, pending: _Pending, request: Request, progress_id: str | None
    ) -> PlannedProgram:
        """Waits for a plan as long as its client does; the last one to leave ends it."""
        follows = self._followed.setdefault(progress_id, []) if progress_id is not None else []
        follows.append(pending)
        pending.waiting += 1
        leaving = asyncio.create_task(left(request))
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
        self,
        request: Request,
        name: str,
        runtime: str | None,
        gpu: str | None,
        target: Target | None,
        wanted: tuple[str, ...],
    ) -> CheckReport:
        """What a check of the lowered program in a request's body found.

        ``wanted`` are the user's limits, in words.
        Raises ``ProblemError`` for a body that is too large or no such program.
        """
        with self._uploads.folder() as folder:
            upload = await self._uploads.receive(request, folder)
            with _refused(), upload.open() as file:
                check_is_lowered(file.read(MAGIC_BYTES), name)
            source, output = upload.file(folder), folder.path / "found"
            work = CheckWork(source, name, runtime, gpu, target, wanted, output)
            caller = caller_of(request)
            owner = owner_of(None if caller is None else caller.name)
            with self._callers.working(request), self._queue.place():
                await while_waited_for(request, self._pool.run(work, owner=owner))
            return read_check(json.loads(work.output.read_bytes()))

    def unready(self) -> str | None:
        """Why no plan can be made now; None if one can. May be slow."""
        if self._is_stopped:
            return "the service shuts down"
        if self._is_rehearsing:
            return "it starts: it plans a program of its own, so that the first need not wait"
        if self._queue.is_full:
            return f"{len(self._pending)} plans wait to be made: the queue is full"
        return self._pool.unready()

    async def rehearse(
        self, started: Callable[[], Awaitable[None]], ask: Callable[[], Awaitable[None]]
    ) -> None:
        """Plans a small program, of which nothing is kept: so the first one finds all warm.

        It does so once all has ``started`` that takes time from requests; ``ask`` makes a request
        that comes to nothing.
        """
        self._is_rehearsing = True
        try:
            await started()
            # Python runs faster what it has run a few times.
            for _ in range(_REHEARSALS):
                await ask()
                with self._uploads.folder() as folder:
                    files, options = PlanFiles.within(folder.path), PlanOptions()
                    work = PlanWork(LOWERED, LOWERED.name, options, files, is_lowered=True)
                    async with self._claimed(uuid.uuid4().hex):
                        await self._pool.run(work, owner=ANYBODY)
                        await run_in_threadpool(self.store.rehearse, files, LOWERED, options)
        except (PlannerError, ProcessError, NoRoomError, UnreachableError, OSError) as error:
            # What it lacks is said by the first request that needs it.
            if not self._is_stopped:
                _log.warning("the service could not plan a program of its own: %s", error)
        except Exception:
            if not self._is_stopped:
                _log.exception("the service could not plan a program of its own")
        finally:
            self._is_rehearsing = False

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
                _log.exception("a sweep of the store failed")
            await asyncio.sleep(_SWEEP_SECONDS)

    async def _solve(
        self, id_: str, work: PlanWork, scratch: ExitStack, account: Account | None
    ) -> PlannedProgram:
        with scratch:
            pending = self._pending[id_]
            try:
                async with self._claimed(id_) as has_waited:
                    # Whoever it waited for may have made it.
                    stored = await run_in_threadpool(self._stored, id_) if has_waited else None
                    return stored or await self._make(id_, work, pending, account)
            finally:
                self._forget(pending)

    async def _make(
        self, id_: str, work: PlanWork, pending: _Pending, account: Account | None
    ) -> PlannedProgram:
        observe = self._metrics.stage_seconds
        try:
            owner = owner_of(None if account is None else account.name)
            await self._pool.run(work, pending.begin, owner)
        except ProcessError as error:
            self._metrics.failed(error)
            raise
        stages = list(pending.stages())
        for stage, seconds in stages:
            observe.labels(known_stage(stage)).observe(seconds)
        with traces.span("keeping"):
            made = await run_in_threadpool(self._keep, id_, work, account)
        self._metrics.made(made.plan)
        fields = {"plan": id_, "proof": made.plan.status, "stages": dict(stages)}
        _log.info("planned %s", work.name, extra={"fields": fields})
        return made

    def _keep(self, id_: str, work: PlanWork, account: Account | None) -> PlannedProgram:
        kept = (work.source, *work.files.all())
        self.retention.make_room(sum(path.stat().st_size for path in kept))
        # What is charged now may be more than there is room for: the work has been done.
        plan = self.store.put(id_, work.files, work.source, work.options, account)
        return PlannedProgram(plan, self.store.blobs.content(plan.graph_sha256))

    def _stored(self, id_: str) -> PlannedProgram | None:
        """A plan that is there, whole; one with a damaged file is forgotten, to be made again."""
        plan = self.store.get(id_)
        if plan is None:
            return None
        graph = self.store.whole_graph(plan)
        if graph is None:
            self.store.delete(id_)
            return None
        self.store.use(plan)
        return PlannedProgram(plan, graph)

    def _sweep(self) -> None:
        self.retention.apply()
        self.store.sweep()
        if not self.store.reserve.fill():
            _log.warning("%s", FullDiskError("plans"))

    def _forget(self, pending: _Pending) -> None:
        """Has the next request for the same plan ask for it anew."""
        for id_, known in list(self._pending.items()):
            if known is pending:
                del self._pending[id_]

    @asynccontextmanager
    async def _claimed(self, id_: str) -> AsyncIterator[bool]:
        """Waits until no other server and no worker makes a plan, and claims it.

        But not for ever: the other may be stuck, and to make a plan twice does no harm. Yields
        whether it has waited.
        """
        claims, end = self.store.claims, time.monotonic() + self._plan_seconds
        is_ours = has_waited = False
        with traces.span("waiting for others"):
            while time.monotonic() < end and not self._is_stopped:
                is_ours = await self._took(id_)
                if is_ours:
                    break
                has_waited = True
                await asyncio.sleep(_CLAIM_SECONDS)
        try:
            yield has_waited
        finally:
            if is_ours:
                # To its end, whoever leaves: others wait for the claim.
                await asyncio.shield(asyncio.to_thread(claims.release, id_))

    async def _took(self, id_: str) -> bool:
        """Whether a plan could be claimed; a claim that nobody waits for any more is given up."""
        claims = self.store.claims

        def take() -> bool:
            # Nothing is claimed while a worker is at it, which waits for claims itself.
            return not self._tasks.is_running(id_) and claims.take(id_)

        taking = asyncio.ensure_future(asyncio.to_thread(take))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            # Its thread goes on.
            (taken,) = await asyncio.gather(taking, return_exceptions=True)
            if taken is True:
                await asyncio.to_thread(claims.release, id_)
            raise


def _check_plannable(file: BinaryIO, name: str) -> bytes:
    """The first bytes of a program. Raises ``InputError`` for what is none."""
    check_plannable(file, name)
    file.seek(0)
    return file.read(MAGIC_BYTES)


@contextmanager
def _refused() -> Iterator[None]:
    """Answers that a body is no program with 400."""
    try:
        yield
    except InputError as error:
        raise ProblemError(ProblemKind.NOT_A_PROGRAM, error.worded(HTTP)) from None


def _mark_retrieved(task: asyncio.Task[PlannedProgram]) -> None:
    """Keeps asyncio from logging an error for which no client waits any more."""
    if not task.cancelled():
        task.exception()
