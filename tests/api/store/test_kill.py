"""Processes are killed while they put plans: what can be seen afterwards is whole."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from api.store.plans import open_store
from tests.api.store.drafts import check_whole, put
from tests.paths import ROOT

pytestmark = pytest.mark.chaos

_KILLED = (sys.executable, "-m", "tests.api.store.killed")


def _environment(folder: Path) -> dict[str, str]:
    """That of a process which leaves its temporary files behind, as one does that is killed."""
    return {**os.environ, "TMPDIR": str(folder)}


def test_a_process_killed_at_any_seam_leaves_nothing_half_visible(
    tmp_path: Path, database_url: str
) -> None:
    command = [*_KILLED, str(tmp_path), database_url, "seams"]
    ended = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=ROOT,
        env=_environment(tmp_path),
    )
    killed, first_seen = map(int, ended.stdout.split())
    # Only after the commit the plan is to be seen: next to the end.
    assert killed > 30
    assert first_seen > 0.8 * killed
    store = open_store(tmp_path, database_url)
    check_whole(store, put(store, tmp_path / "draft"))
    assert store.page().total == 2
    store.close()


def test_processes_killed_at_any_time_leave_nothing_half_visible(
    tmp_path: Path, database_url: str
) -> None:
    times = random.Random(0)
    store = open_store(tmp_path / "data", database_url)
    for number in range(2):
        writers = [
            subprocess.Popen(
                [*_KILLED, str(tmp_path / "data"), database_url, label],
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env=_environment(tmp_path),
            )
            for label in (f"{number}", f"{number} too")
        ]
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "0\n"
        time.sleep(times.uniform(0, 0.1))
        # Their blobs are new, so that a sweep spares them, whether they are referred to yet or not.
        store.sweep()
        said = 0
        for writer in writers:
            writer.kill()
            assert writer.stdout is not None
            said += 1 + len(writer.stdout.readlines()) // 2
            writer.wait()
        page = store.page(limit=10_000)
        assert page.total == len(page.plans) >= said
        for plan in page.plans:
            check_whole(store, plan)
    before = store.page().total
    store.sweep(timedelta(0))
    for plan in store.page(limit=10_000).plans:
        check_whole(store, plan)
    check_whole(store, put(store, tmp_path / "draft"))
    assert store.page().total == before + 1
    store.close()
