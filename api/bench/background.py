"""The service in a process of its own, for as long as it is needed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from planner.errors import PlannerError

_END_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Service:
    """A service that runs: ``address`` is where, as in http://127.0.0.1:8000."""

    address: str
    process: subprocess.Popen[str]


@contextmanager
def serving(data_dir: Path, *options: str) -> Iterator[Service]:
    """Runs ``layout-planner serve`` on a free port of this machine, and ends it.

    Raises ``PlannerError`` if it does not start; it has printed why.
    """
    command = ["-m", "api.cli", "serve", "--port", "0", "--data-dir", str(data_dir), *options]
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
    try:
        yield Service(_address(process), process)
    finally:
        process.terminate()
        process.wait(_END_SECONDS)


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if "http://" in line:
            return line[line.index("http://") :].strip()
    raise PlannerError("the service did not start")
