"""What a planning process is asked to do for a job.

A lowering leaves one file, for all plans that are made of it: a zip with the lowered program, and
with the names that the exported program gave its tensors.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from zipfile import ZipFile, ZipInfo

from api.planning.process import Tell, tell_nobody, write_plan
from api.store.files import PlanFiles
from planner.options import PlanOptions

_PROGRAM: Final = "program.pte"
_NAMES: Final = "names.json"


@dataclass(frozen=True, slots=True)
class Lowering:
    """Lower a ``.pt2`` with ExecuTorch's own layouts, which are planned afterwards."""

    source: Path
    name: str
    output: Path

    def run(self, tell: Tell = tell_nobody) -> None:
        """Writes what comes out. Raises ``InputError``."""
        from planner.pipelines.exported import lower_exported

        lowered = lower_exported(self.source.read_bytes(), self.name)
        names = json.dumps(lowered.names, sort_keys=True)
        with ZipFile(self.output, "w") as archive:
            # Without a time of day: the same program makes the same bytes.
            archive.writestr(ZipInfo(_PROGRAM), lowered.pte)
            archive.writestr(ZipInfo(_NAMES), names)


@dataclass(frozen=True, slots=True)
class Replanning:
    """Plan what a ``Lowering`` made; the plan is one of the ``.pt2``."""

    source: Path
    lowered: Path
    name: str
    options: PlanOptions
    files: PlanFiles

    def run(self, tell: Tell = tell_nobody) -> None:
        """Writes the plan's files. Raises ``PlannerError``."""
        from planner.pipelines.lowered import replan

        with ZipFile(self.lowered) as archive:
            program, written = archive.read(_PROGRAM), json.loads(archive.read(_NAMES))
        # JSON has no numbers as keys.
        names = {graph: {int(v): name for v, name in of.items()} for graph, of in written.items()}
        planned = replan(program, self.name, self.options, names=names)
        sha256 = hashlib.sha256(self.source.read_bytes()).hexdigest()
        report = planned.report | {
            "kind": "pt2",
            "baseline": "executorch",
            "source": {"name": self.name, "sha256": sha256},
        }
        as_exported = replace(planned.program, source_sha256=sha256)
        write_plan(replace(planned, program=as_exported), report, self.files)
