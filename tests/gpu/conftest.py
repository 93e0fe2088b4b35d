from __future__ import annotations

from collections.abc import Iterator

import pytest

from gpu.device import Gpu, open_gpu
from tests.gpu.cases import Machine


@pytest.fixture(scope="session")
def gpu() -> Iterator[Gpu]:
    """The GPU of this machine. Where there is none the tests fail: a software one is enough."""
    opened = open_gpu()
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def machine(gpu: Gpu) -> Machine:
    """The GPU, with what runs a conversion on it from bytes to bytes."""
    return Machine(gpu)
