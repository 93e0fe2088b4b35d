"""The service in a process of its own, for as long as it is needed."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

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
    command = ["-m", "api.cli", "serve", "--port", "0", "--data-dir", str(data_dir)]
    command += ["--log-level", "warning", *options]
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        address = _address(process.stdout)
        # A full pipe would stop the service in the middle of a line.
        threading.Thread(target=_drain, args=(process.stdout,), daemon=True).start()
        yield Service(address, process)
    finally:
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(output: IO[str]) -> str:
    for line in output:
        if "http://" in line:
            return line[line.index("http://") :].strip()
    raise PlannerError("the service did not start")


def _drain(output: IO[str]) -> None:
    for line in output:
        sys.stderr.write(line)
