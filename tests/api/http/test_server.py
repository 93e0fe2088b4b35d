"""The service as a command and a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.api.http.running import detail, post, start_server
from tests.api.planning.processes import planning_pids


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_service_and_what_it_plans(
    tmp_path: Path, conv: bytes, number: signal.Signals
) -> None:
    running = start_server(tmp_path)
    with running.client, ThreadPoolExecutor(1) as threads:
        pending = threads.submit(post, running, conv)
        # Answered only once the upload before it is in the service's hands.
        while not planning_pids(running.process.pid):
            assert running.client.get("/health").status_code == 200
        running.process.send_signal(number)
        assert running.process.wait(timeout=120) == 0
        answer = pending.result()
    assert answer.status_code == 503
    assert detail(answer) == "the service shuts down: upload.pt2 was not planned, try again"


@pytest.mark.server
def test_the_process_that_serves_never_loads_torch(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from fastapi.testclient import TestClient
from api.http.app import Settings, create_app
with TestClient(create_app(Settings(Path(sys.argv[1])))) as client:
    assert client.get("/openapi.json").status_code == 200
    assert client.post("/plan", content=b"").status_code == 400
    assert client.post("/plan", params={"objective": "speed"}).status_code == 422
    assert client.get("/plans").json() == {"total": 0, "plans": []}
    assert client.delete("/plans/" + "0" * 32).status_code == 404
print(sorted({"torch", "executorch", "transformers"} & sys.modules.keys()))
"""
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "[]\n"


def _serve(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command, where it is to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "api.cli", "serve", "--port", "0", *args],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.server
def test_a_database_that_cannot_be_reached_ends_the_command_in_one_line(tmp_path: Path) -> None:
    url = "postgresql://me:secret@127.0.0.1:1/plans"
    ended = _serve("--data-dir", str(tmp_path), LAYOUT_PLANNER_DATABASE_URL=url)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(
        "Error: cannot use the database postgresql+psycopg://me:***@127.0.0.1:1/plans ("
    )
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.server
def test_a_data_directory_that_cannot_be_made_ends_the_command_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = _serve(LAYOUT_PLANNER_DATA_DIR=str(tmp_path / "file" / "data"))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("Error: cannot keep plans in ")
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.server
def test_plans_are_in_the_users_data_directory_by_default(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "share")}
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LAYOUT_PLANNER_")}
    with subprocess.Popen(
        [sys.executable, "-m", "api.cli", "serve", "--port", "0"],
        env=kept | environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Listening on http://127.0.0.1:")
        process.terminate()
    assert process.returncode == 0
    found = {path.name for path in (tmp_path / "share" / "layout-planner").iterdir()}
    assert found >= {"blobs", "layout-planner.sqlite"}
