"""Processes that are killed while they put plans; run by ``test_kill``."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from api.store.plans import PlanStore, open_store
from tests.api.store.drafts import check_whole, put

_FILE_CALLS = {"fsync", "replace", "flock"}


def put_for_ever(store: PlanStore, label: str) -> None:
    """Puts plans, every other one with files that are in a plan before it, and says so."""
    with tempfile.TemporaryDirectory() as folder:
        for number in itertools.count():
            put(store, Path(folder) / str(number), f"{label} {number // 2}", f"{number}.pt2")
            print(number, flush=True)


class Death:
    """Kills this process at a seam of a put: before a call for files, or around a statement."""

    def __init__(self, seam: int) -> None:
        self._left = seam

    def pass_seam(self, *_: object) -> None:
        """Counts down."""
        self._left -= 1
        if self._left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def profile(self, frame: FrameType, event: str, function: Any) -> None:
        """Told by the interpreter of every call."""
        if event == "c_call" and getattr(function, "__name__", "") in _FILE_CALLS:
            self.pass_seam()

    def watch(self) -> None:
        """Starts to count."""
        for name in ("before_cursor_execute", "after_cursor_execute", "commit"):
            event.listen(Engine, name, self.pass_seam)
        event.listen(Session, "after_commit", self.pass_seam)
        sys.setprofile(self.profile)
        # Blobs are put in threads, which are yet to start.
        threading.setprofile(self.profile)


def put_and_die(data_dir: Path, url: str, text: str, seam: int) -> bool:
    """In a process of its own: whether it was killed at a seam, rather than come to an end."""
    child = os.fork()
    if child == 0:
        with tempfile.TemporaryDirectory() as folder:
            store = open_store(data_dir, url)
            Death(seam).watch()
            put(store, Path(folder) / "draft", text)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def put_and_die_at_seams(data_dir: Path, url: str) -> None:
    """Kills puts of one plan, each a seam later than the one before, until one comes through.

    Prints how many were killed, and at which of these the plan was there.
    """
    seen: list[bool] = []
    while put_and_die(data_dir, url, f"net {len(seen)}", len(seen)):
        # Opened anew: the forked processes must not share connections with this one.
        store = open_store(data_dir, url)
        plans = store.page().plans
        for plan in plans:
            check_whole(store, plan)
            store.delete(plan.id)
        store.close()
        seen.append(bool(plans))
    print(len(seen), seen.index(True))


if __name__ == "__main__":
    data_dir, url, what = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    if what == "seams":
        put_and_die_at_seams(data_dir, url)
    else:
        put_for_ever(open_store(data_dir, url), what)
