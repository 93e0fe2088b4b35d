"""Pages of memory that a forked process writes to, and copies of them that are made ahead."""

from __future__ import annotations

import json
import mmap
import os
import resource
import sys
from collections.abc import Callable
from typing import Any

import pytest

from api.planning.pages import Pages, copy_pages, own_pages

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone says which they are")

_PAGES = 64


def _forked(call: Callable[[], Any]) -> Any:
    """What a call returns in a process that is forked for it."""
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writes, json.dumps(call()).encode())
        finally:
            os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as file:
        found = file.read()
    os.waitpid(pid, 0)
    return json.loads(found)


def _address(memory: mmap.mmap) -> int:
    import ctypes

    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _write(memory: mmap.mmap, numbers: range) -> None:
    for number in numbers:
        memory[number * mmap.PAGESIZE] = number


def _is_in(pages: Pages, address: int) -> bool:
    return any(first <= address < first + size for first, size in pages)


def test_a_process_knows_the_pages_that_it_has_written_to() -> None:
    memory = mmap.mmap(-1, _PAGES * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE)
    _write(memory, range(_PAGES))
    start = _address(memory)

    def found() -> list[bool]:
        _write(memory, range(0, _PAGES, 2))
        pages = own_pages()
        return [_is_in(pages, start + number * mmap.PAGESIZE) for number in range(_PAGES)]

    assert _forked(found) == [number % 2 == 0 for number in range(_PAGES)]


def test_pages_that_were_copied_are_as_they_were_and_are_not_faulted_in_again() -> None:
    memory = mmap.mmap(-1, _PAGES * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE)
    _write(memory, range(_PAGES))
    pages = ((_address(memory), _PAGES * mmap.PAGESIZE),)

    def faults(pages: Pages) -> tuple[int, bool]:
        copy_pages(pages)
        is_same = all(memory[number * mmap.PAGESIZE] == number for number in range(_PAGES))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        _write(memory, range(_PAGES))
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, is_same

    nowhere = (mmap.PAGESIZE, mmap.PAGESIZE)  # is left out
    few, is_same = _forked(lambda: faults((nowhere, *pages)))
    many, _ = _forked(lambda: faults(()))
    assert is_same
    assert many >= _PAGES > few
