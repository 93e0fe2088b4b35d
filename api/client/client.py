"""The clients of a server: one that waits for answers, and one whose answers are awaited."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Final, Literal, Self, Unpack, overload

from api.client.connection import AsyncConnection, Connection
from api.client.documents import JobSummary, PlanQuery
from api.client.errors import AwayError
from api.client.following import Following
from api.client.operations import OnStage, Operations, ServerPlan
from api.client.steps import SECONDS, Source
from planner.errors import PlannerError

_POLL_SECONDS: Final = 0.5
_PROGRESS_ID: Final = "Progress-Id"
_LATER: Final = {"Prefer": "respond-async"}


class Client(Operations):
    """Calls a server. Methods raise ``OptionError`` if it refuses, ``AwayError`` if it is away.

    A server that has answered and goes away, or is busy, is waited for, where it does no harm to
    ask again. May be used by several threads.
    """

    def __init__(
        self,
        server: str,
        patience: float = SECONDS,
        *,
        token: str | None = None,
        timeout: float = SECONDS,
    ) -> None:
        """For a server's address, which is waited for ``patience`` seconds if it goes away.

        ``token`` is by default the variable ``LAYOUT_PLANNER_TOKEN``. An answer may take
        ``timeout`` seconds; one for which the server has to work may take longer.
        """
        super().__init__(patience)
        self.connection = Connection(server, token, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes its connections."""
        self.connection.close()

    @overload
    def plan(
        self,
        source: Source,
        *,
        wait: Literal[True] = True,
        on_stage: OnStage | None = None,
        **query: Unpack[PlanQuery],
    ) -> ServerPlan: ...

    @overload
    def plan(
        self,
        source: Source,
        *,
        wait: bool,
        on_stage: OnStage | None = None,
        **query: Unpack[PlanQuery],
    ) -> ServerPlan | JobSummary: ...

    def plan(
        self,
        source: Source,
        *,
        wait: bool = True,
        on_stage: OnStage | None = None,
        **query: Unpack[PlanQuery],
    ) -> ServerPlan | JobSummary:
        """Plans a program, which is sent unless the server has it.

        ``on_stage`` is called with each stage, in another thread. Without ``wait``, a plan that is
        not in store becomes a job, which is returned. The plan of a caller that leaves is ended.
        """
        if not wait:
            return self.connection.run(self._plan(source, query, _LATER, on_stage))
        if on_stage is None:
            return self.connection.run(self._plan(source, query, {}))
        id_ = secrets.token_hex(16)
        with self._telling(id_, on_stage):
            return self.connection.run(self._plan(source, query, {_PROGRESS_ID: id_}, on_stage))

    @contextmanager
    def _telling(self, progress_id: str, on_stage: OnStage) -> Iterator[None]:
        """Calls ``on_stage`` with the stages of a request meanwhile."""
        ended = threading.Event()

        def poll() -> None:
            while not ended.wait(_POLL_SECONDS):
                try:
                    stage = self.progress(progress_id)
                except (AwayError, PlannerError):
                    continue  # the request itself says what is wrong
                if stage is not None and not ended.is_set():
                    on_stage(stage)

        polling = threading.Thread(target=poll, name="progress", daemon=True)
        polling.start()
        try:
            yield
        finally:
            ended.set()
            polling.join(_POLL_SECONDS)  # it may hang where the server does

    def follow(self, job_id: str) -> Iterator[JobSummary]:
        """The job now, and again with each change until its end.

        Waits for a server that goes away in between, as when it is started anew; the job goes on
        meanwhile.
        """
        following = Following(self.connection.server, job_id, self.link.patience)
        while True:
            try:
                with self.connection.lines(following.path) as lines:
                    for line in lines:
                        job = following.read(line)
                        if following.has_ended:
                            return
                        if job is not None:
                            yield job
            except AwayError:
                if not following.was_heard:
                    raise
            time.sleep(following.pause())


class AsyncClient(Operations):
    """As ``Client``, but its methods are awaited."""

    def __init__(
        self,
        server: str,
        patience: float = SECONDS,
        *,
        token: str | None = None,
        timeout: float = SECONDS,
    ) -> None:
        """As ``Client``."""
        super().__init__(patience)
        self.connection = AsyncConnection(server, token, timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes its connections."""
        await self.connection.close()

    @overload
    async def plan(
        self,
        source: Source,
        *,
        wait: Literal[True] = True,
        on_stage: OnStage | None = None,
        **query: Unpack[PlanQuery],
    ) -> ServerPlan: ...

    @overload
    async def plan(
        self,
        source: Source,
        *,
        wait: bool,
        on_stage: OnStage | None = None,
        **query: Unpack[PlanQuery],
    ) -> ServerPlan | JobSummary: ...

    async def plan(
        self,
        source: Source,
        *,
        wait: bool = True,
        on_stage: OnStage | None = None,
        **query: Unpack[PlanQuery],
    ) -> ServerPlan | JobSummary:
        """As ``Client.plan``; ``on_stage`` is called in the event loop."""
        if not wait:
            return await self.connection.run(self._plan(source, query, _LATER, on_stage))
        if on_stage is None:
            return await self.connection.run(self._plan(source, query, {}))
        id_ = secrets.token_hex(16)
        async with self._telling(id_, on_stage):
            steps = self._plan(source, query, {_PROGRESS_ID: id_}, on_stage)
            return await self.connection.run(steps)

    @asynccontextmanager
    async def _telling(self, progress_id: str, on_stage: OnStage) -> AsyncIterator[None]:
        async def poll() -> None:
            while True:
                await asyncio.sleep(_POLL_SECONDS)
                try:
                    stage = await self.progress(progress_id)
                except (AwayError, PlannerError):
                    continue
                if stage is not None:
                    on_stage(stage)

        polling = asyncio.create_task(poll())
        try:
            yield
        finally:
            polling.cancel()
            await asyncio.wait([polling])

    async def follow(self, job_id: str) -> AsyncIterator[JobSummary]:
        """As ``Client.follow``."""
        following = Following(self.connection.server, job_id, self.link.patience)
        while True:
            try:
                async with self.connection.lines(following.path) as lines:
                    async for line in lines:
                        job = following.read(line)
                        if following.has_ended:
                            return
                        if job is not None:
                            yield job
            except AwayError:
                if not following.was_heard:
                    raise
            await asyncio.sleep(following.pause())
