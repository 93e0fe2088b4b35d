"""What a planning process is asked to do for a job."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from api.store.files import PlanFiles
from api.worker import write_plan
from planner.options import PlanOptions


@dataclass(frozen=True, slots=True)
class Lowering:
    """Lower a ``.pt2`` with ExecuTorch's own layouts, which are planned afterwards."""

    source: Path
    name: str
    output: Path

    def run(self) -> None:
        """Writes the ``.pte``. Raises ``InputError``."""
        from planner.exported import lower_exported

        self.output.write_bytes(lower_exported(self.source.read_bytes(), self.name))


@dataclass(frozen=True, slots=True)
class Replanning:
    """Plan what a ``Lowering`` made; the plan is one of the ``.pt2``."""

    source: Path
    lowered: Path
    name: str
    options: PlanOptions
    files: PlanFiles

    def run(self) -> None:
        """Writes the plan's files. Raises ``PlannerError``."""
        from planner.replan import replan

        planned = replan(self.lowered.read_bytes(), self.name, self.options)
        sha256 = hashlib.sha256(self.source.read_bytes()).hexdigest()
        report = planned.report | {
            "kind": "pt2",
            "baseline": "executorch",
            "source": {"name": self.name, "sha256": sha256},
        }
        program = replace(planned.program, source_sha256=sha256)
        write_plan(replace(planned, program=program), report, self.files)
