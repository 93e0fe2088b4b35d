from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.planning.process import (
    CrashedJobError,
    Job,
    LostWorkerError,
    OvertimeError,
    StoppedError,
    WorkerError,
    Workers,
)
from api.store.files import PlanFiles
from planner.errors import InputError
from planner.options import PlanOptions


@pytest.fixture
def workers() -> Iterator[Workers]:
    workers = Workers(1, 600)
    yield workers
    workers.stop()


def _job(source: Path) -> Job:
    return Job(source, "net.pt2", PlanOptions(), PlanFiles.within(source.parent))


@pytest.fixture
def no_archive(tmp_path: Path) -> Job:
    """A job that a worker refuses without loading torch."""
    (tmp_path / "source").write_bytes(b"text")
    return _job(tmp_path / "source")


@pytest.fixture
def endless(tmp_path: Path) -> Job:
    """A job that no worker comes to the end of: nobody writes to the pipe that it reads."""
    os.mkfifo(tmp_path / "pipe")
    return _job(tmp_path / "pipe")


def _refusal(workers: Workers, job: Job) -> str:
    with pytest.raises(InputError) as refused:
        asyncio.run(workers.run(job))
    return str(refused.value)


def _workers_pid() -> int:
    for _ in range(6000):
        for process in multiprocessing.active_children():
            if process.pid is not None:
                return process.pid
        time.sleep(0.01)
    raise AssertionError("no worker process was started")


def _fails(workers: Workers, job: Job, kind: type[WorkerError], act: object) -> str:
    """The error's text when ``act`` is called while the job runs."""

    async def run() -> None:
        running = asyncio.create_task(workers.run(job))
        await asyncio.to_thread(_workers_pid)
        assert callable(act)
        act()
        await running

    with pytest.raises(kind) as failed:
        asyncio.run(run())
    return str(failed.value)


def test_a_refusal_keeps_its_type_and_text(workers: Workers, no_archive: Job) -> None:
    assert _refusal(workers, no_archive) == (
        "net.pt2 is not a zip archive: hand in a file written by torch.export.save, a lowered "
        "program (.pte), or a VkGraph"
    )


def test_one_process_serves_many_jobs(workers: Workers, no_archive: Job, tmp_path: Path) -> None:
    _refusal(workers, no_archive)
    pid = _workers_pid()
    with pytest.raises(CrashedJobError, match=r"^planning net.pt2 failed: FileNotFoundError: .*"):
        asyncio.run(workers.run(_job(tmp_path / "missing")))
    _refusal(workers, no_archive)
    assert _workers_pid() == pid


def test_a_killed_process_is_told_of_and_replaced(
    workers: Workers, no_archive: Job, endless: Job
) -> None:
    text = _fails(workers, endless, LostWorkerError, lambda: os.kill(_workers_pid(), 9))
    assert "planning net.pt2 has been killed by SIGKILL" in text
    _refusal(workers, no_archive)


def test_a_process_killed_between_jobs_is_replaced(workers: Workers, no_archive: Job) -> None:
    _refusal(workers, no_archive)
    pid = _workers_pid()
    os.kill(pid, signal.SIGKILL)
    while multiprocessing.active_children():
        time.sleep(0.01)
    _refusal(workers, no_archive)
    assert _workers_pid() != pid


def test_an_endless_job_is_stopped(endless: Job, no_archive: Job) -> None:
    workers = Workers(1, 0.5)
    with pytest.raises(OvertimeError, match=r"planning net.pt2 took longer than 0.5 s"):
        asyncio.run(workers.run(endless))
    assert not multiprocessing.active_children()
    workers.stop()


def test_stopping_ends_running_waiting_and_coming_jobs(
    workers: Workers, no_archive: Job, endless: Job
) -> None:
    async def run() -> list[BaseException | None]:
        running = [asyncio.create_task(workers.run(job)) for job in (endless, no_archive)]
        await asyncio.to_thread(_workers_pid)
        workers.stop()
        running.append(asyncio.create_task(workers.run(no_archive)))
        return await asyncio.gather(*running, return_exceptions=True)

    errors = asyncio.run(run())
    assert [type(error) for error in errors] == [StoppedError] * 3
    assert not multiprocessing.active_children()


def test_as_many_jobs_run_at_once_as_there_are_workers(endless: Job, no_archive: Job) -> None:
    workers = Workers(2, 600)

    async def run() -> None:
        running = asyncio.create_task(workers.run(endless))
        with pytest.raises(InputError):
            await workers.run(no_archive)
        assert len(multiprocessing.active_children()) == 2
        workers.stop()
        with pytest.raises(StoppedError):
            await running

    asyncio.run(run())
