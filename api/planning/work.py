"""What a planning process can be asked to do.

A lowering leaves one file, for all plans that are made of it: a zip with the lowered program, and
with the names that the exported program gave its tensors.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from zipfile import ZipFile, ZipInfo

from api.store.files import PlanFiles
from planner.options import LoweringOptions, PlanOptions

if TYPE_CHECKING:
    from planner.pipelines.lowered import Planned

_PROGRAM: Final = "program.pte"
_KNOWN: Final = "exported.json"

OnStage = Callable[[str], None]
"""Called with the name of each stage of work as it begins."""


def ignore_stage(stage: str) -> None:
    """For work whose progress does not matter."""


class Work(Protocol):
    """What a process is asked to do; it is sent there."""

    @property
    def name(self) -> str:
        """What to call the program in messages."""

    def run(self, on_stage: OnStage = ignore_stage) -> None:
        """Does the work in this process. Raises ``PlannerError`` for what cannot be planned."""


@dataclass(frozen=True, slots=True)
class PlanWork:
    """Plan a program: what to call it in messages, and where to write the plan."""

    source: Path
    name: str
    options: PlanOptions
    files: PlanFiles

    def run(self, on_stage: OnStage = ignore_stage) -> None:
        """Plans the file and writes the plan's files. Raises ``PlannerError``."""
        from planner.pipelines.dispatch import plan_program

        done = 0

        def progress(stage: str, delegate: object) -> None:
            nonlocal done
            done += delegate is not None
            on_stage(f"{done} delegate{'s' * (done > 1)} planned" if done else stage)

        planned = plan_program(self.source.read_bytes(), self.name, self.options, progress)
        on_stage("writing")
        write_plan(planned, self.files)


@dataclass(frozen=True, slots=True)
class Lowering:
    """Lower a ``.pt2`` with ExecuTorch's own layouts, which are planned afterwards.

    ``texture_limits`` are those to lower for; None for ExecuTorch's own.
    """

    source: Path
    name: str
    options: LoweringOptions
    output: Path

    def run(self, on_stage: OnStage = ignore_stage) -> None:
        """Writes what comes out. Raises ``InputError`` and ``NoRepresentationError``."""
        from planner.pipelines.exported import lower_exported

        lowered = lower_exported(self.source.read_bytes(), self.name, self.options)
        known = {"names": lowered.exported.names, "on_cpu": lowered.exported.on_cpu}
        with ZipFile(self.output, "w") as archive:
            # Without a time of day: the same program makes the same bytes.
            archive.writestr(ZipInfo(_PROGRAM), lowered.pte)
            archive.writestr(ZipInfo(_KNOWN), json.dumps(known, sort_keys=True))


@dataclass(frozen=True, slots=True)
class CheckWork:
    """Check a lowered program for a runtime and a GPU, each None where it was not named."""

    source: Path
    name: str
    runtime: str | None
    gpu: str | None
    output: Path

    def run(self, on_stage: OnStage = ignore_stage) -> None:
        """Writes what came of it as JSON. Raises ``InputError`` and ``OptionError``."""
        from planner.kernels.gpus import find_gpu
        from planner.kernels.releases import parse_runtime
        from planner.pipelines.checking import check_program

        runtime = None if self.runtime is None else parse_runtime(self.runtime)
        gpu = None if self.gpu is None else find_gpu(self.gpu)
        found = check_program(self.source.read_bytes(), self.name, runtime, gpu)
        self.output.write_text(json.dumps(found.document()), "utf-8")


@dataclass(frozen=True, slots=True)
class Replanning:
    """Plan what a ``Lowering`` made; the plan is one of the ``.pt2``."""

    source: Path
    lowered: Path
    name: str
    options: PlanOptions
    files: PlanFiles

    def run(self, on_stage: OnStage = ignore_stage) -> None:
        """Writes the plan's files. Raises ``PlannerError``."""
        from planner.pipelines.lowered import replan
        from planner.result.program import Exported, Source

        with ZipFile(self.lowered) as archive:
            program, known = archive.read(_PROGRAM), json.loads(archive.read(_KNOWN))
        # JSON has no numbers as keys.
        names = {
            graph: {int(v): name for v, name in of.items()} for graph, of in known["names"].items()
        }
        source = Source.of(self.name, self.source.read_bytes())
        exported = Exported(source, names, on_cpu=tuple(known["on_cpu"]))
        write_plan(replan(program, self.name, self.options, exported=exported), self.files)


def write_plan(planned: Planned, files: PlanFiles) -> None:
    """Writes the files of a plan."""
    is_program = planned.report.kind != "vkgraph"
    files.program.write_bytes(planned.pte() if is_program else b"")
    files.graph.write_bytes(planned.flatbuffer())
    files.report.write_text(json.dumps(planned.report.document(), allow_nan=False), "utf-8")
