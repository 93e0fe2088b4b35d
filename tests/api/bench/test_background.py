"""The service beside a benchmark."""

from __future__ import annotations

import os
import signal
import urllib.request
from pathlib import Path

import pytest

from api.bench import background
from api.bench.background import serving
from planner.errors import PlannerError


def test_serves_until_the_end(tmp_path: Path) -> None:
    with (
        serving(tmp_path) as service,
        urllib.request.urlopen(f"{service.address}/health", timeout=60) as answer,
    ):
        assert answer.status == 200
    assert service.process.returncode == 0


def test_a_service_that_does_not_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "_END_SECONDS", 0.1)
    with serving(tmp_path) as service:
        os.kill(service.process.pid, signal.SIGSTOP)
    assert service.process.returncode == -signal.SIGKILL


def test_a_service_that_does_not_start_leaves_no_process(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PlannerError, match="the service did not start"), serving(tmp_path / "file"):
        pass
