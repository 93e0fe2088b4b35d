"""Memory that a forked process is going to write to, copied at once: page by page takes longer.

A process that was forked shares its memory with its parent, and the first write to each page makes
a copy of it, for which the process stops. Which pages planning writes to hardly depends on what is
planned: one process finds out, and those after it have the same pages copied before they begin.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Final

from api.jail.libc import libc

Pages = tuple[tuple[int, int], ...]
"""Ranges of addresses: where each begins, and its bytes."""

_PRESENT: Final = 1 << 63
_EXCLUSIVE: Final = 1 << 56
"""No other process has this page (proc_pid_pagemap(5))."""
_POPULATE_WRITE: Final = 23
"""The advice of madvise(2) that copies pages as if they were written to; since Linux 5.14."""


def own_pages() -> Pages:
    """The pages of this process that its parent does not share: those that it has written to."""
    if sys.platform != "linux":
        return ()
    found: list[tuple[int, int]] = []
    try:
        with Path("/proc/self/pagemap").open("rb") as file:
            for first, last in _writable():
                file.seek(first // mmap.PAGESIZE * 8)
                entries = struct.iter_unpack("=Q", file.read((last - first) // mmap.PAGESIZE * 8))
                found += _ranges(first, (entry for (entry,) in entries))
    except OSError:
        return ()
    return tuple(found)


def copy_pages(pages: Pages) -> None:
    """Has this process have its own copies of pages. Those that it does not have are left out."""
    if not pages:
        return
    for address, size in pages:
        libc().madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), _POPULATE_WRITE)


def _ranges(address: int, entries: Iterator[int]) -> Iterator[tuple[int, int]]:
    wanted = _PRESENT | _EXCLUSIVE
    for is_own, same in groupby(entries, lambda entry: entry & wanted == wanted):
        size = sum(1 for _ in same) * mmap.PAGESIZE
        if is_own:
            yield address, size
        address += size


def _writable() -> Iterator[tuple[int, int]]:
    """Where this process may write, but for its stack."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        where, access, *_, name = (*line.split(maxsplit=5), "")[:6]
        if access == "rw-p" and name != "[stack]":
            first, last = (int(text, 16) for text in where.split("-"))
            yield first, last
