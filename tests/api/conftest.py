from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api import objects, postgres


def _save(module: Any, *inputs: Any) -> bytes:
    import torch

    file = io.BytesIO()
    torch.export.save(torch.export.export(module.eval(), inputs), file)
    return file.getvalue()


@pytest.fixture(scope="session")
def conv() -> bytes:
    """A ``.pt2`` file that Vulkan can run."""
    import torch

    class Conv(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
            self.linear = torch.nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            pooled = torch.relu(self.conv(x)).mean((2, 3), keepdim=True)
            scores: torch.Tensor = self.linear(pooled.view(1, 8))
            return scores

    torch.manual_seed(0)
    return _save(Conv(), torch.randn(1, 3, 16, 16))


@pytest.fixture(scope="session")
def sort() -> bytes:
    """A ``.pt2`` file without an operator that Vulkan supports."""
    import torch

    class Sort(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sort(x)[0]

    return _save(Sort(), torch.randn(4, 8))


@pytest.fixture(scope="session")
def cluster() -> Iterator[postgres.Cluster]:
    """A PostgreSQL server."""
    with postgres.running() as cluster:
        yield cluster


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database: a test that takes it runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'database.sqlite'}"
        return
    cluster: postgres.Cluster = request.getfixturevalue("cluster")
    with cluster.database() as url:
        yield url


@pytest.fixture(scope="session")
def objects_server() -> Iterator[objects.ObjectStore]:
    """An S3-compatible store."""
    with objects.running() as store:
        yield store


@pytest.fixture
def blobs_url(
    objects_server: objects.ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """An empty folder in an S3-compatible store, which clients of this process find."""
    for name, value in objects_server.environment().items():
        monkeypatch.setenv(name, value)
    yield objects_server.url()
