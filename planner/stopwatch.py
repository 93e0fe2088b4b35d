"""Measures the time of a stage of work."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter


@dataclass(slots=True)
class Stopwatch:
    """The wall-clock seconds of a stage, once it is over."""

    seconds: float = 0.0


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """Times its body in wall-clock seconds, with the garbage collector off, as ``timeit`` does.

    In a process that holds a large model, a collection takes longer than planning, and would be
    charged to whichever stage happens to trigger it.
    """
    watch = Stopwatch()
    was_enabled = gc.isenabled()
    gc.disable()
    start = perf_counter()
    try:
        yield watch
    finally:
        watch.seconds = perf_counter() - start
        if was_enabled:
            gc.enable()
