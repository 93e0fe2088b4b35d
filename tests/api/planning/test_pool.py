from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest

from api.jail.jail import Jail
from api.jail.limits import Limits
from api.planning.owner import ANYBODY, NOBODY, Owner, owner_of
from api.planning.pool import Pool
from api.planning.process import (
    CrashError,
    LostProcessError,
    OvertimeError,
    ProcessError,
    StoppedError,
    Zygote,
)
from api.planning.work import PlanWork
from api.planning.zygote import ZygoteSettings
from api.store.files import PlanFiles
from planner.errors import InputError, NoRepresentationError, Remedy
from planner.options import PlanOptions, make_options
from schema import VkDataType, VkGraph, VkTensor
from schema.vkgraph import OperatorCall, encode
from tests.api.planning.processes import (
    has_ended,
    parent_of,
    planning_pid,
    planning_pids,
    pool_of,
    spare_pids,
    until_none_plans,
)
from tests.planner.programs import exported

pytestmark = [pytest.mark.server, pytest.mark.lowering]


def _work(source: Path) -> PlanWork:
    return PlanWork(source, "net.pt2", PlanOptions(), PlanFiles.within(source.parent))


@pytest.fixture(scope="module")
def pool() -> Pool:
    """A pool that has imported torch, for tests that leave it as it was."""
    return pool_of()


@pytest.fixture
def no_archive(tmp_path: Path) -> PlanWork:
    """Work that a process refuses at once."""
    (tmp_path / "source").write_bytes(b"text")
    return _work(tmp_path / "source")


@pytest.fixture
def slow(tmp_path: Path) -> PlanWork:
    """Work that takes long enough for its process to be found."""
    (tmp_path / "slow").write_bytes(exported("mixed"))
    return _work(tmp_path / "slow")


def _refusal(pool: Pool, work: PlanWork) -> str:
    with pytest.raises(InputError) as refused:
        asyncio.run(pool.run(work))
    return str(refused.value)


def _fails(pool: Pool, work: PlanWork, kind: type[ProcessError], act: Callable[[int], None]) -> str:
    """The error's text when something is done to the process while the work runs."""

    async def run() -> None:
        running = asyncio.create_task(pool.run(work))
        act(await planning_pid())
        await running

    with pytest.raises(kind) as failed:
        asyncio.run(run())
    assert not planning_pids()
    return str(failed.value)


async def _spares(pool: Pool) -> set[int]:
    """The processes that wait, once each of its zygotes has one."""
    pool.start()
    started = [zygote._process for zygote in (pool._light, pool._torch)]
    while not all(found := [spare_pids(each.pid) for each in started if each is not None]):
        await asyncio.sleep(0.01)
    return set(chain.from_iterable(found))


def _stop(pid: int) -> None:
    """Leaves a process where it is, for ever."""
    os.kill(pid, signal.SIGSTOP)


def test_a_refusal_keeps_its_type_its_text_and_what_to_do(
    pool: Pool, no_archive: PlanWork, slow: PlanWork
) -> None:
    assert _refusal(pool, no_archive) == (
        "net.pt2 is not a zip archive: hand in a file written by torch.export.save, a lowered "
        "program (.pte, .bpte), or a VkGraph"
    )
    limited = replace(slow, options=make_options("bytes", texture_limits="4,4,4"))
    with pytest.raises(NoRepresentationError) as refused:
        asyncio.run(pool.run(limited))
    assert Remedy.RAISE_TEXTURE_LIMITS in refused.value.remedies


def test_what_runs_torch_has_a_process_of_its_own(pool: Pool, slow: PlanWork) -> None:
    pids: list[int] = []

    async def run() -> None:
        for _ in range(2):
            running = asyncio.create_task(pool.run(slow))
            pids.append(await planning_pid())
            await running
            await until_none_plans()

    asyncio.run(run())
    assert len(set(pids)) == 2


@pytest.fixture
def zygote() -> Iterator[Zygote]:
    """A zygote without torch, of which a process does two pieces of work at most."""
    jail, limits = Jail.of_machine(), Limits.of_machine(600)
    settings = ZygoteSettings(jail, limits, uses_torch=False, idle_seconds=600, most_work=2)
    zygote = Zygote(settings)
    yield zygote
    zygote.stop()


async def _waiting(zygote: Zygote, count: int) -> set[int]:
    """The processes of a zygote that wait, once there are so many."""
    zygote.start()
    while True:
        process = zygote._process
        found = set() if process is None else set(spare_pids(process.pid))
        if zygote.is_warm and len(found) == count and not planning_pids():
            return found
        await asyncio.sleep(0.01)


async def _does(zygote: Zygote, work: PlanWork, owner: Owner, waiting: int) -> set[int]:
    """The processes that wait, so many, once work is done."""
    await (await zygote.run(work, 600, owner=owner))
    return await _waiting(zygote, waiting)


def test_a_process_is_kept_for_its_owner_and_no_other(zygote: Zygote, tmp_path: Path) -> None:
    work, ann, bob = _lowered(tmp_path, 1), owner_of("ann"), owner_of("bob")

    async def run() -> None:
        (first,) = await _waiting(zygote, 1)
        (spare,) = await _does(zygote, work, ann, 2) - {first}
        # Bob's work leaves Ann's process where it is, and so does nobody's.
        for owner in (bob, NOBODY):
            waiting = await _does(zygote, work, owner, 3)
            assert {first, spare} < waiting
        # It has done two, and is not kept.
        waiting = await _does(zygote, work, ann, 2)
        assert first not in waiting and spare in waiting

    asyncio.run(run())


def test_a_process_of_trusted_work_is_kept_for_anybody(zygote: Zygote, tmp_path: Path) -> None:
    work = _lowered(tmp_path, 1)

    async def run() -> None:
        (first,) = await _waiting(zygote, 1)
        (spare,) = await _does(zygote, work, ANYBODY, 2) - {first}
        # Ann's work is the second that it does, and the last.
        assert await _does(zygote, work, owner_of("ann"), 1) == {spare}

    asyncio.run(run())


def test_a_process_is_not_kept_that_could_not_do_its_work(
    zygote: Zygote, no_archive: PlanWork
) -> None:
    async def run() -> None:
        waiting = await _waiting(zygote, 1)
        with pytest.raises(InputError):
            await zygote.run(replace(no_archive, is_lowered=True), 600, owner=owner_of("ann"))
        others = await _waiting(zygote, 1)
        assert others.isdisjoint(waiting)

    asyncio.run(run())


def test_a_process_is_kept_for_a_while(tmp_path: Path) -> None:
    settings = ZygoteSettings(
        Jail.of_machine(), Limits.of_machine(600), uses_torch=False, idle_seconds=0.01
    )
    zygote, work = Zygote(settings), _lowered(tmp_path, 1)

    async def run() -> None:
        waiting = await _waiting(zygote, 1)
        others = await _does(zygote, work, owner_of("ann"), 1)
        assert others.isdisjoint(waiting)

    try:
        asyncio.run(run())
    finally:
        zygote.stop()


def test_a_kept_process_that_was_killed_is_not_missed(zygote: Zygote, tmp_path: Path) -> None:
    work, ann = _lowered(tmp_path, 1), owner_of("ann")

    async def run() -> None:
        (first,) = await _waiting(zygote, 1)
        await _does(zygote, work, ann, 2)
        _stop(first)  # nor one that is stuck: work that it gets is ended in time
        with pytest.raises(OvertimeError):
            await zygote.run(work, 0.01, owner=ann)
        waiting = await _waiting(zygote, 1)
        for pid in waiting:
            os.kill(pid, signal.SIGKILL)
            while not has_ended(pid):
                await asyncio.sleep(0.01)
        await _does(zygote, work, ann, 1)

    asyncio.run(run())


def test_a_process_is_there_ahead_of_its_work(pool: Pool, slow: PlanWork) -> None:
    async def run() -> None:
        spares = await _spares(pool)
        running = asyncio.create_task(pool.run(slow))
        assert await planning_pid() in spares
        await running
        while not (await _spares(pool)).difference(spares):
            await asyncio.sleep(0.01)
        await until_none_plans()

    asyncio.run(run())


def test_a_zygote_is_warm_once_a_process_waits_in_the_jail() -> None:
    settings = ZygoteSettings(Jail.of_machine(), Limits.of_machine(60, None), uses_torch=False)
    before, zygote = set(spare_pids()), Zygote(settings)
    zygote.start()
    try:
        while not zygote.is_warm:
            time.sleep(0.001)
        (spare,) = set(spare_pids()) - before
        assert "\nSeccomp:\t2\n" in Path(f"/proc/{spare}/status").read_text()
    finally:
        zygote.stop()


def test_work_hears_why_its_process_cannot_go_into_the_jail(no_archive: PlanWork) -> None:
    limits = Limits(2**32, 600, file_bytes=2**70)  # more than there is a number for
    zygote = Zygote(ZygoteSettings(Jail.of_machine(), limits, uses_torch=False))
    try:
        with pytest.raises(CrashError, match="OverflowError"):
            asyncio.run(zygote.run(replace(no_archive, is_lowered=True), 600))
    finally:
        zygote.stop()


def test_one_that_was_killed_before_its_work_is_not_missed(
    pool: Pool, no_archive: PlanWork, slow: PlanWork
) -> None:
    async def run() -> None:
        spares = await _spares(pool)
        for pid in spares:
            os.kill(pid, signal.SIGKILL)
        while not all(map(has_ended, spares)):
            await asyncio.sleep(0.01)
        await pool.run(slow)

    asyncio.run(run())
    _refusal(pool, replace(no_archive, is_lowered=True))


def test_a_missing_file_is_said(pool: Pool, tmp_path: Path) -> None:
    with pytest.raises(CrashError, match=r"^planning net.pt2 failed: FileNotFoundError: "):
        asyncio.run(pool.run(_work(tmp_path / "missing")))


def test_a_killed_process_is_reported_and_the_next_plans(
    pool: Pool, no_archive: PlanWork, slow: PlanWork
) -> None:
    text = _fails(pool, slow, LostProcessError, lambda pid: os.kill(pid, signal.SIGKILL))
    assert "planning net.pt2 has been killed by SIGKILL" in text
    _refusal(pool, no_archive)


def test_a_killed_zygote_is_replaced(no_archive: PlanWork, slow: PlanWork) -> None:
    pool = pool_of()
    text = _fails(pool, slow, LostProcessError, lambda pid: os.kill(parent_of(pid), signal.SIGKILL))
    assert "planning net.pt2 is gone" in text
    _refusal(pool, no_archive)
    asyncio.run(pool.run(slow))


def test_a_zygote_that_is_on_its_way_to_its_end_is_replaced(no_archive: PlanWork) -> None:
    settings = ZygoteSettings(Jail.of_machine(), Limits.of_machine(60), uses_torch=False)
    zygote, work = Zygote(settings), replace(no_archive, is_lowered=True)
    try:
        for _ in range(2):
            with pytest.raises(InputError):
                asyncio.run(zygote.run(work, 60))
            assert zygote._control is not None
            zygote._control.shutdown(socket.SHUT_RDWR)
    finally:
        zygote.stop()


def test_work_that_takes_too_long_is_stopped(no_archive: PlanWork, slow: PlanWork) -> None:
    pool = pool_of(seconds=0.5)
    text = _fails(pool, slow, OvertimeError, _stop)
    assert "planning net.pt2 took longer than 0.5 s" in text


def test_to_cancel_ends_the_process(pool: Pool, slow: PlanWork) -> None:
    async def run() -> None:
        running = asyncio.create_task(pool.run(slow))
        _stop(await planning_pid())
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not planning_pids()

    asyncio.run(run())


def test_to_cancel_ends_a_process_that_has_not_been_heard_yet(pool: Pool, slow: PlanWork) -> None:
    async def run() -> None:
        await _spares(pool)
        running = asyncio.create_task(pool.run(slow))
        while not any(thread.name.startswith("asyncio") for thread in threading.enumerate()):
            await asyncio.sleep(0)
        # Nothing that it says is read while this waits.
        while not (found := planning_pids()):
            time.sleep(0.001)
        zygote = parent_of(found[0])
        _stop(zygote)
        resumes = threading.Timer(0.2, os.kill, (zygote, signal.SIGCONT))
        resumes.start()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not planning_pids()
        resumes.join()

    asyncio.run(run())


def test_stopping_ends_running_waiting_and_coming_work(
    no_archive: PlanWork, slow: PlanWork
) -> None:
    async def run() -> list[BaseException | None]:
        pool = pool_of()
        running = [asyncio.create_task(pool.run(work)) for work in (slow, no_archive)]
        await planning_pid()
        pool.stop()
        running.append(asyncio.create_task(pool.run(no_archive)))
        return await asyncio.gather(*running, return_exceptions=True)

    errors = asyncio.run(run())
    assert [type(error) for error in errors] == [StoppedError] * 3
    assert not planning_pids()


def test_nobody_waits_for_a_program_that_is_stuck(no_archive: PlanWork, slow: PlanWork) -> None:
    async def run() -> None:
        pool = pool_of(2)
        running = asyncio.create_task(pool.run(slow))
        _stop(await planning_pid())
        with pytest.raises(InputError):
            await pool.run(no_archive)
        assert len(planning_pids()) == 1
        pool.stop()
        with pytest.raises(StoppedError):
            await running

    asyncio.run(run())


def test_a_program_that_needs_more_memory_than_it_may_take(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**28)
    pool = Pool(1, 600, Jail.of_machine(), Limits(2**26, 600))
    with pytest.raises(CrashError, match="it needs more memory than it may take"):
        asyncio.run(pool.run(_work(tmp_path / "large")))


def _lowered(folder: Path, operators: int) -> PlanWork:
    """Work on a lowered program, a chain."""
    tensor = VkTensor(VkDataType.FLOAT32, (1, 8, 4, 4))
    chain = [OperatorCall(i, "aten.relu.default", (i, i + 1)) for i in range(operators)]
    values = (tensor,) * (operators + 1)
    graph = VkGraph("0", tuple(chain), values, (0,), (operators,))
    (folder / "lowered").write_bytes(encode(graph))
    return _work(folder / "lowered")


def test_files_that_grow_too_large_end_the_work(tmp_path: Path) -> None:
    pool = Pool(1, 600, Jail.of_machine(), Limits(2**32, 600, file_bytes=100))
    with pytest.raises(CrashError, match=r"planning net.pt2 failed: OSError: .*File too large"):
        asyncio.run(pool.run(_lowered(tmp_path, 1)))


def test_work_that_takes_too_much_of_the_processor_is_stopped(tmp_path: Path) -> None:
    pool = Pool(1, 600, Jail.of_machine(), Limits(2**32, 1))
    with pytest.raises(LostProcessError, match="took more processor time than it may"):
        asyncio.run(pool.run(_lowered(tmp_path, 20_000)))
