"""The planning processes of a service or a worker."""

from __future__ import annotations

import asyncio
from functools import cache

from api.jail.jail import Jail
from api.jail.limits import Limits
from api.planning.owner import NOBODY, Owner
from api.planning.process import CrashError, ProcessError, StoppedError, Zygote
from api.planning.work import Needs, OnStage, Work, ignore_stage, known_stage
from api.planning.zygote import ZygoteSettings
from api.store.room import FullDiskError, is_full
from api.telemetry import traces


@cache
def zygote_of(settings: ZygoteSettings) -> Zygote:
    """The zygote of this process with such settings; it ends with this process."""
    return Zygote(settings)


class Pool:
    """Up to ``count`` planning processes at once, each with at most ``seconds`` for its work.

    Each goes into ``jail``, as far as there is one, and keeps to ``limits``.
    """

    def __init__(self, count: int, seconds: float, jail: Jail, limits: Limits) -> None:
        self._seconds = seconds
        self._free = asyncio.Semaphore(count)
        self._light = zygote_of(ZygoteSettings(jail, limits, uses_torch=False))
        self._torch = zygote_of(ZygoteSettings(jail, limits, uses_torch=True))
        self._running: set[asyncio.Task[None]] = set()
        self._is_started = self._is_stopped = False

    def start(self) -> None:
        """Has all imported that planning needs, before it is needed. Raises ``ProcessError``."""
        self._is_started = True
        self._light.start()
        self._torch.start()

    def unready(self) -> str | None:
        """Why programs cannot be planned at once; None if they can.

        What was started and has ended since is started again.
        """
        if self._is_stopped:
            return "it is stopped"
        if not self._is_started:
            return None  # it imports what it needs with the first program
        try:
            self.start()
        except ProcessError as error:
            return str(error)
        is_warm = self._light.is_warm and self._torch.is_warm
        return None if is_warm else "it imports what planning needs"

    async def run(
        self, work: Work, on_stage: OnStage = ignore_stage, owner: Owner = NOBODY
    ) -> None:
        """Has work done once a process may run, which has seen no other owner's.

        The process may not have ended when this returns, but counts until it is gone or kept.
        Raises ``PlannerError``, ``ProcessError`` and ``FullDiskError``. To cancel this kills the
        process.
        """
        self._check_running(work)
        running = asyncio.ensure_future(self._run(work, on_stage, owner))
        self._running.add(running)
        try:
            await running
        except asyncio.CancelledError:
            self._check_running(work)
            raise
        finally:
            self._running.discard(running)

    def stop(self) -> None:
        """Ends all work, waiting or not, with ``StoppedError``; to be called in its loop."""
        self._is_stopped = True
        for running in self._running:
            running.cancel()

    async def _run(self, work: Work, on_stage: OnStage, owner: Owner) -> None:
        with traces.span("waiting for a process"):
            await self._free.acquire()
        try:
            with traces.span("planning process", work=type(work).__name__, program=work.name):
                end = await self._run_now(work, on_stage, owner)
        except BaseException:
            self._free.release()
            raise
        end.add_done_callback(lambda _: self._free.release())

    async def _run_now(self, work: Work, on_stage: OnStage, owner: Owner) -> asyncio.Future[None]:
        stages = traces.Stages()

        def begin(stage: str) -> None:
            stages.begin(known_stage(stage))
            on_stage(stage)

        try:
            # What runs torch has a process of its own, whoever's it is.
            if work.needs is not Needs.NOTHING:
                return await self._torch.run(work, self._seconds, begin)
            return await self._light.run(work, self._seconds, begin, owner)
        except OSError as error:
            if is_full(error):
                raise FullDiskError(f"the plan of {work.name}") from error
            # A file of it was deleted meanwhile, or none can be written.
            said = f"{type(error).__name__}: {error}"
            raise CrashError(f"planning {work.name} failed: {said}") from error
        finally:
            stages.end()

    def _check_running(self, work: Work) -> None:
        if self._is_stopped:
            raise StoppedError(f"the service shuts down: {work.name} was not planned, try again")
