from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack, chdir
from typing import Any

import pytest

from tests.api.jobs.plant import wait
from tests.api.serving import Server, serving
from tests.paths import ROOT


@pytest.fixture(scope="session")
def example() -> dict[str, Any]:
    """What snippets take for granted: ``model``, ``example_inputs`` and ``exported``."""
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 4),
    ).eval()
    inputs = (torch.randn(1, 3, 16, 16),)
    return {
        "model": model,
        "example_inputs": inputs,
        "exported": torch.export.export(model, inputs),
    }


@pytest.fixture(scope="session")
def pt2(example: dict[str, Any]) -> bytes:
    """The example as a ``.pt2`` file."""
    import torch

    file = io.BytesIO()
    torch.export.save(example["exported"], file)
    return file.getvalue()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a worker."""
    folder = tmp_path_factory.mktemp("server")
    url = f"sqlite:///{folder / 'db.sqlite'}"
    # Pages run in folders of their own, from which the server could not import the project.
    with ExitStack() as stack:
        with chdir(ROOT):
            server = stack.enter_context(serving(folder / "data", url, workers=1))
        yield server


@pytest.fixture(scope="session")
def job(server: Server) -> str:
    """The id of a job that is done."""
    program = (ROOT / "tests/programs/by_executorch_1.4.1.pte").read_bytes()
    job_id = server.submit({"a.pte": program}, profiles=["bytes"])
    wait(lambda: bool(server.get(f"/jobs/{job_id}")["is_finished"]))
    return job_id
