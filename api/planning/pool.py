"""The planning processes of a service."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

from api.planning.process import LostProcessError, PlanningProcess, StoppedError
from api.planning.work import OnStage, Work, ignore_stage


class Pool:
    """Up to ``count`` planning processes, each with at most ``seconds`` for a piece of work.

    A process starts when there is work and no process free for it, and is kept for the next:
    importing ExecuTorch takes seconds.
    """

    def __init__(self, count: int, seconds: float) -> None:
        self._seconds = seconds
        # As many threads as processes, each waiting for the work of one.
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="pool")
        self._lock = threading.Lock()
        self._processes: set[PlanningProcess] = set()
        self._idle: list[PlanningProcess] = []
        self._is_stopped = False

    async def run(self, work: Work, on_stage: OnStage = ignore_stage) -> None:
        """Has work done once a process is free. Raises ``PlannerError`` and ``ProcessError``."""
        self._check_running(work)
        await asyncio.get_running_loop().run_in_executor(self._threads, self._run, work, on_stage)

    def stop(self) -> None:
        """Ends every process; all work, waiting or not, ends with ``StoppedError``."""
        with self._lock:
            self._is_stopped = True
            for process in self._processes:
                if process in self._idle:
                    process.end()
                else:
                    process.kill()
        self._threads.shutdown(wait=False)

    def _run(self, work: Work, on_stage: OnStage) -> None:
        process = self._take(work)
        try:
            process.run(work, self._seconds, on_stage)
        except LostProcessError:
            self._check_running(work)
            raise
        finally:
            self._give_back(process)

    def _take(self, work: Work) -> PlanningProcess:
        with self._lock:
            self._check_running(work)
            while self._idle:
                process = self._idle.pop()
                if process.is_alive():
                    return process
                self._processes.remove(process)
            process = PlanningProcess()
            self._processes.add(process)
            return process

    def _give_back(self, process: PlanningProcess) -> None:
        with self._lock:
            if process.is_alive():
                self._idle.append(process)
            else:
                self._processes.remove(process)

    def _check_running(self, work: Work) -> None:
        if self._is_stopped:
            raise StoppedError(f"the service shuts down: {work.name} was not planned, try again")
