"""How much of a machine a process may take."""

from __future__ import annotations

import math
import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MOST_OPEN_FILES: Final = 256


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes of memory beside what a process has already, seconds of CPU, and bytes of a file."""

    memory_bytes: int
    cpu_seconds: int
    file_bytes: int = 4 * 2**30

    @classmethod
    def of_machine(cls, seconds: float, memory_bytes: int | None = None) -> Limits:
        """Those of work that may take so long: all processors, and most of the memory."""
        memory = machine_memory() * 3 // 4 if memory_bytes is None else memory_bytes
        return cls(memory, math.ceil(seconds) * (os.cpu_count() or 1))

    def set(self) -> None:
        """Sets them for this process, for good."""
        _limit(resource.RLIMIT_AS, _mapped_bytes() + self.memory_bytes)
        # First with a signal of its own, so that it can be told why it ended.
        _limit(resource.RLIMIT_CPU, self.cpu_seconds, self.cpu_seconds + 5)
        _limit(resource.RLIMIT_FSIZE, self.file_bytes)
        _limit(resource.RLIMIT_NOFILE, _MOST_OPEN_FILES)
        _limit(resource.RLIMIT_CORE, 0)
        _limit(resource.RLIMIT_MEMLOCK, 0)


def machine_memory() -> int:
    """The memory in bytes that processes here may take: the machine's or the container's."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            found = min(found, int(Path(name).read_text()))
        except (OSError, ValueError):
            continue  # no such hierarchy, or no limit ("max")
    return found


def _limit(kind: int, soft: int, hard: int | None = None) -> None:
    hard = soft if hard is None else hard
    most = resource.getrlimit(kind)[1]
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(kind, (soft, hard))


def _mapped_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return 0
    return pages * resource.getpagesize()
