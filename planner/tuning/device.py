"""A device as a tuning sees it: programs run there, and give times and outputs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import Final, Protocol

from planner.measured.etdump import Executions, read_executions
from planner.tuning.runners import DeviceState, Runner, RunRequest, wait_until_cool
from planner.tuning.subject import Subject
from planner.tuning.tensors import Array, read_outputs
from schema.frozen import frozen

_COOL_SECONDS: Final = 600.0


@frozen
class Measurement:
    """What a run gave: the times of its executions, its outputs, and the ETDump itself."""

    executions: Executions
    outputs: tuple[Array, ...] = field(repr=False)
    etdump: bytes = field(repr=False)
    state: DeviceState = field(default_factory=DeviceState)


class Device(Protocol):
    """Runs programs."""

    def execute(self, program: Path, inferences: int, seconds: float) -> Measurement:
        """Runs a program so often, for at most so many seconds.

        Raises ``RunFailedError`` where it gives nothing, ``InputError`` where what it gives cannot
        be read.
        """

    def executions(self, etdump: bytes, name: str) -> Executions:
        """The executions of a run that ended before; raises ``InputError``."""


@frozen
class MeasuringDevice:
    """A device behind a runner of ExecuTorch's runtime."""

    runner: Runner
    subject: Subject
    wait: Callable[[Runner, float], DeviceState] = wait_until_cool

    def execute(self, program: Path, inferences: int, seconds: float) -> Measurement:
        """Runs a program once the device does not throttle."""
        state = self.wait(self.runner, _COOL_SECONDS)
        with tempfile.TemporaryDirectory(prefix="layout-planner-") as folder:
            outputs, traced = Path(folder) / "out", Path(folder) / "run.etdump"
            request = RunRequest(program, self.subject.inputs, outputs, traced, inferences)
            self.runner.run(request, seconds)
            etdump = traced.read_bytes() if traced.exists() else b""
            executions = read_executions(etdump, f"the run of {program.name}")
            found = read_outputs(outputs, self.subject.signature.outputs)
        return Measurement(executions, tuple(found), etdump, state)

    def executions(self, etdump: bytes, name: str) -> Executions:
        """The executions in an ETDump of ExecuTorch's runtime."""
        return read_executions(etdump, name)
