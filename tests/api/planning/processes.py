"""The planning processes of this one, by Linux's list of processes."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from api.jail.jail import Jail
from api.jail.limits import Limits
from api.planning.pool import Pool

_MARK = b"api.planning.zygote"
_PLANS = b"planning\n"


def planning_pids(root: int | None = None) -> list[int]:
    """The processes that plan now for another, by default for this one.

    Zygotes are none, nor are those that wait for work.
    """
    marked = _marked(root)
    return [pid for pid, each in marked.items() if each.parent in marked and each.name == _PLANS]


def spare_pids(root: int | None = None) -> list[int]:
    """The processes below another, by default this one, that wait for work."""
    marked = _marked(root)
    return [pid for pid, each in marked.items() if each.parent in marked and each.name != _PLANS]


def zygote_pids(root: int | None = None) -> list[int]:
    """The zygotes of another process, by default of this one."""
    marked = _marked(root)
    return [pid for pid, each in marked.items() if each.parent not in marked]


async def planning_pid() -> int:
    """The only process that plans, once there is one."""
    while True:
        pids = planning_pids()
        if pids:
            (pid,) = pids
            return pid
        await asyncio.sleep(0.01)


async def until_none_plans() -> None:
    """Returns once no process plans: one whose work is done may still be ending."""
    while planning_pids():
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


class _Marked(NamedTuple):
    parent: int
    name: bytes


def _marked(root: int | None) -> dict[int, _Marked]:
    """The zygotes below a process, and what they started."""
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
    return {
        pid: _Marked(parents[pid], name)
        for pid, name in marked.items()
        if _is_below(root, pid, parents)
    }


def _is_below(root: int, pid: int, parents: dict[int, int]) -> bool:
    while pid > 1 and pid != root:
        pid = parents.get(pid, 0)
    return pid == root
