"""The planning processes of this one, by Linux's list of processes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from api.jail.jail import Jail
from api.jail.limits import Limits
from api.planning.pool import Pool

_MARK = b"api.planning.zygote"
_SPARE = b"spare planner\n"


def planning_pids(root: int | None = None) -> list[int]:
    """The processes that plan now for another, by default for this one.

    Zygotes are none, nor are those that wait for work.
    """
    return _children(root, lambda name: name != _SPARE)


def spare_pids() -> list[int]:
    """The processes that wait for work, started ahead of it."""
    return _children(None, lambda name: name == _SPARE)


def _children(root: int | None, is_one: Callable[[bytes], bool]) -> list[int]:
    root = os.getpid() if root is None else root
    parents: dict[int, int] = {}
    marked: dict[int, bytes] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
                command = (folder / "cmdline").read_bytes()
                if stat[0] == "Z":
                    continue
                parents[int(folder.name)] = int(stat[1])
                if _MARK in command and b"bwrap" not in command.split(b"\0")[0]:
                    marked[int(folder.name)] = (folder / "comm").read_bytes()
    return [
        pid
        for pid, name in marked.items()
        if parents[pid] in marked and is_one(name) and _is_below(root, pid, parents)
    ]


async def planning_pid() -> int:
    """The only process that plans, once there is one."""
    while True:
        pids = planning_pids()
        if pids:
            (pid,) = pids
            return pid
        await asyncio.sleep(0.01)


def parent_of(pid: int) -> int:
    """The process that started another."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def has_ended(pid: int) -> bool:
    """Whether a process has ended, and closed all that it had open."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


def pool_of(count: int = 1, seconds: float = 600) -> Pool:
    """A pool in the jail that this machine has."""
    return Pool(count, seconds, Jail.of_machine(), Limits.of_machine(600))


def _is_below(root: int, pid: int, parents: dict[int, int]) -> bool:
    while pid > 1 and pid != root:
        pid = parents.get(pid, 0)
    return pid == root
