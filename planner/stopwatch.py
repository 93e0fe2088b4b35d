"""Measures the time of a stage of work."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import perf_counter, process_time


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
    with collector_off():
        start = perf_counter()
        try:
            yield watch
        finally:
            watch.seconds = perf_counter() - start


@contextmanager
def collector_off() -> Iterator[None]:
    """Runs its body with the garbage collector off.

    A graph is a million small objects without cycles: reference counts free them, and the collector
    goes through all of them again and again, for a quarter of the time of planning.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@dataclass(slots=True)
class Stages:
    """The CPU seconds of this process in each stage, less those of stages inside it."""

    seconds: dict[str, float] = field(default_factory=dict)
    _open: list[str] = field(default_factory=list)
    _since: float = 0.0

    def _enter(self, name: str) -> None:
        self._charge()
        self._open.append(name)

    def _leave(self) -> None:
        self._charge()
        self._open.pop()

    def _charge(self) -> None:
        now = process_time()
        if self._open:
            name = self._open[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now


_STAGES: ContextVar[Stages | None] = ContextVar("stages", default=None)


@contextmanager
def stages() -> Iterator[Stages]:
    """Records the stages of its body."""
    found = Stages()
    token = _STAGES.set(found)
    try:
        yield found
    finally:
        _STAGES.reset(token)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Charges the CPU time of its body to a stage, where stages are recorded."""
    found = _STAGES.get()
    if found is None:
        yield
        return
    found._enter(name)
    try:
        yield
    finally:
        found._leave()
