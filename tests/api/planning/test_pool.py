from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.planning.pool import Pool
from api.planning.process import (
    CrashError,
    LostProcessError,
    OvertimeError,
    ProcessError,
    StoppedError,
)
from api.planning.work import PlanWork
from api.store.files import PlanFiles
from planner.errors import InputError
from planner.options import PlanOptions

pytestmark = pytest.mark.server


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool(1, 600)
    yield pool
    pool.stop()


def _work(source: Path) -> PlanWork:
    return PlanWork(source, "net.pt2", PlanOptions(), PlanFiles.within(source.parent))


@pytest.fixture
def no_archive(tmp_path: Path) -> PlanWork:
    """Work that a process refuses without loading torch."""
    (tmp_path / "source").write_bytes(b"text")
    return _work(tmp_path / "source")


@pytest.fixture
def endless(tmp_path: Path) -> PlanWork:
    """Work without an end: nothing is written to the pipe that it reads."""
    os.mkfifo(tmp_path / "pipe")
    return _work(tmp_path / "pipe")


def _refusal(pool: Pool, work: PlanWork) -> str:
    with pytest.raises(InputError) as refused:
        asyncio.run(pool.run(work))
    return str(refused.value)


def _process_pid() -> int:
    for _ in range(6000):
        for process in multiprocessing.active_children():
            if process.pid is not None:
                return process.pid
        time.sleep(0.01)
    raise AssertionError("no process was started")


def _fails(pool: Pool, work: PlanWork, kind: type[ProcessError], act: object) -> str:
    """The error's text when ``act`` is called while the work runs."""

    async def run() -> None:
        running = asyncio.create_task(pool.run(work))
        await asyncio.to_thread(_process_pid)
        assert callable(act)
        act()
        await running

    with pytest.raises(kind) as failed:
        asyncio.run(run())
    return str(failed.value)


@pytest.mark.lowering
def test_a_refusal_keeps_its_type_and_text(pool: Pool, no_archive: PlanWork) -> None:
    assert _refusal(pool, no_archive) == (
        "net.pt2 is not a zip archive: hand in a file written by torch.export.save, a lowered "
        "program (.pte, .bpte), or a VkGraph"
    )


def test_one_process_does_one_piece_of_work_after_another(
    pool: Pool, no_archive: PlanWork, tmp_path: Path
) -> None:
    _refusal(pool, no_archive)
    pid = _process_pid()
    with pytest.raises(CrashError, match=r"^planning net.pt2 failed: FileNotFoundError: .*"):
        asyncio.run(pool.run(_work(tmp_path / "missing")))
    _refusal(pool, no_archive)
    assert _process_pid() == pid


def test_a_killed_process_is_reported_and_replaced(
    pool: Pool, no_archive: PlanWork, endless: PlanWork
) -> None:
    text = _fails(pool, endless, LostProcessError, lambda: os.kill(_process_pid(), 9))
    assert "planning net.pt2 has been killed by SIGKILL" in text
    _refusal(pool, no_archive)


def test_a_process_killed_while_idle_is_replaced(pool: Pool, no_archive: PlanWork) -> None:
    _refusal(pool, no_archive)
    pid = _process_pid()
    os.kill(pid, signal.SIGKILL)
    while multiprocessing.active_children():
        time.sleep(0.01)
    _refusal(pool, no_archive)
    assert _process_pid() != pid


def test_endless_work_is_stopped(endless: PlanWork, no_archive: PlanWork) -> None:
    pool = Pool(1, 0.5)
    with pytest.raises(OvertimeError, match=r"planning net.pt2 took longer than 0.5 s"):
        asyncio.run(pool.run(endless))
    assert not multiprocessing.active_children()
    pool.stop()


def test_stopping_ends_running_waiting_and_coming_work(
    pool: Pool, no_archive: PlanWork, endless: PlanWork
) -> None:
    async def run() -> list[BaseException | None]:
        running = [asyncio.create_task(pool.run(work)) for work in (endless, no_archive)]
        await asyncio.to_thread(_process_pid)
        pool.stop()
        running.append(asyncio.create_task(pool.run(no_archive)))
        return await asyncio.gather(*running, return_exceptions=True)

    errors = asyncio.run(run())
    assert [type(error) for error in errors] == [StoppedError] * 3
    assert not multiprocessing.active_children()


def test_as_many_run_at_once_as_there_are_processes(
    endless: PlanWork, no_archive: PlanWork
) -> None:
    pool = Pool(2, 600)

    async def run() -> None:
        running = asyncio.create_task(pool.run(endless))
        with pytest.raises(InputError):
            await pool.run(no_archive)
        assert len(multiprocessing.active_children()) == 2
        pool.stop()
        with pytest.raises(StoppedError):
            await running

    asyncio.run(run())
