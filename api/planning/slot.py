"""A planning process: what a worker does in it can be stopped, and cannot take the worker along."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from api.planning.process import PlanningProcess
from api.planning.work import Work

_END_SECONDS: Final = 2.0
"""Less than a supervisor gives the worker."""


class Slot:
    """One planning process, which is started for the first work and kept for the next."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="planning")
        self._process: PlanningProcess | None = None
        self._is_busy = False

    async def run(self, work: Work) -> None:
        """Has work done; its process is killed if this is cancelled.

        Raises ``PlannerError`` and ``ProcessError``.
        """
        running = asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            while not running.done():
                self.kill()
                await asyncio.wait({running}, timeout=0.1)
            running.exception()
            raise

    def kill(self) -> None:
        """Ends the process now."""
        if self._process is not None:
            self._process.kill()

    def end(self) -> None:
        """Ends the process: now if it works, else so that it can clean up after its libraries."""
        if self._process is not None and not self._is_busy:
            self._process.end(_END_SECONDS)
        self.kill()

    def _run(self, work: Work) -> None:
        if self._process is None or not self._process.is_alive():
            self._process = PlanningProcess()
        self._is_busy = True
        try:
            self._process.run(work, self._seconds)
        finally:
            self._is_busy = False
