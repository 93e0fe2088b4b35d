"""The planning processes of this one, by Linux's list of processes."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path

from api.jail.jail import Jail
from api.jail.limits import Limits
from api.planning.pool import Pool

_MARK = b"api.planning.zygote"


def planning_pids(root: int | None = None) -> list[int]:
    """The processes that plan now for another, by default for this one; no zygotes."""
    marked = _marked(root)
    return [pid for pid, parent in marked.items() if parent in marked]


def zygote_pids(root: int | None = None) -> list[int]:
    """The zygotes of another process, by default of this one."""
    marked = _marked(root)
    return [pid for pid, parent in marked.items() if parent not in marked]


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


def pool_of(count: int = 1, seconds: float = 600) -> Pool:
    """A pool in the jail that this machine has."""
    return Pool(count, seconds, Jail.of_machine(), Limits.of_machine(600))


def _marked(root: int | None) -> dict[int, int]:
    """The zygotes below a process, and what they started, with their parents."""
    root = os.getpid() if root is None else root
    parents: dict[int, int] = {}
    marked: set[int] = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
                command = (folder / "cmdline").read_bytes()
                if stat[0] == "Z":
                    continue
                parents[int(folder.name)] = int(stat[1])
                if _MARK in command and b"bwrap" not in command.split(b"\0")[0]:
                    marked.add(int(folder.name))
    return {pid: parents[pid] for pid in marked if _is_below(root, pid, parents)}


def _is_below(root: int, pid: int, parents: dict[int, int]) -> bool:
    while pid > 1 and pid != root:
        pid = parents.get(pid, 0)
    return pid == root
