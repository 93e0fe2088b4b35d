from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.api.http.running import Server, post, start_server


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files; nothing else writes there."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = start_server(tmp_path_factory.mktemp("data"))
    with running.client:
        yield running
    assert running.terminate() == 0


@pytest.fixture(scope="session")
def planned(server: Server, conv: bytes) -> httpx.Response:
    """The answer to a request, while whose plan was made the service answered others."""
    headers = {"Content-Type": "application/octet-stream"}
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(
            server.client.post,
            "/plan",
            content=conv,
            params={"name": "tiny.pt2"},
            headers=headers,
        )
        answers = [server.client.get("/health").status_code, post(server, b"").status_code]
        assert not running.done()
        assert answers == [200, 400]
        return running.result()
