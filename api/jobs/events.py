"""Progress of jobs as it comes: one look at the store for all listeners of a job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from starlette.concurrency import run_in_threadpool

from api.jobs.jobs import Jobs, JobStatus
from api.store.database import UnreachableError
from api.store.tables import State

_LOOK_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Progress:
    """A job now, and by their numbers the items whose state or attempts are new."""

    job: JobStatus
    items: dict[int, tuple[State, int]]


@dataclass(slots=True)
class _Watch:
    """What was last seen of a job, and what waits for the next look at it."""

    listeners: int = 0
    looks: int = 0
    job: JobStatus | None = None
    states: list[tuple[State, int]] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    task: asyncio.Task[None] | None = None


class Watches:
    """The jobs that have listeners. To be used in one event loop."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._watches: dict[str, _Watch] = {}
        self._is_stopped = False

    async def follow(self, job_id: str) -> AsyncIterator[Progress]:
        """The job at once, and again with each change, until it has ended."""
        watch = self._watches.setdefault(job_id, _Watch())
        watch.listeners += 1
        if watch.task is None:
            watch.task = asyncio.create_task(self._look(job_id, watch))
        seen: list[tuple[State, int]] = []
        looks, last = 0, None
        try:
            while not self._is_stopped:
                async with watch.changed:
                    while watch.looks == looks and not self._is_stopped:
                        await watch.changed.wait()
                    looks, job, states = watch.looks, watch.job, watch.states
                if job is None or self._is_stopped:
                    return
                new = {n: s for n, s in enumerate(states) if n >= len(seen) or seen[n] != s}
                if new or job != last:
                    yield Progress(job, new)
                seen, last = states, job
                if job.is_finished:
                    return
        finally:
            watch.listeners -= 1
            if not watch.listeners:
                self._watches.pop(job_id, None)
                watch.task.cancel()

    def stop(self) -> None:
        """Ends all that listen."""
        self._is_stopped = True
        for watch in self._watches.values():
            asyncio.create_task(_notify(watch))  # noqa: RUF006

    async def _look(self, job_id: str, watch: _Watch) -> None:
        while True:
            try:
                job = await run_in_threadpool(self._jobs.get, job_id)
                if job is not None and (watch.job != job or not watch.looks):
                    watch.states = await run_in_threadpool(self._jobs.states, job)
                watch.job = job
            except UnreachableError:
                pass  # there is nothing new
            else:
                watch.looks += 1
                await _notify(watch)
            await asyncio.sleep(_LOOK_SECONDS)


async def _notify(watch: _Watch) -> None:
    async with watch.changed:
        watch.changed.notify_all()
