"""The files of a plan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class PlanFiles:
    """The files of a plan: its JSON report, its flatbuffer, and the program for the runtime.

    The program is empty where the plan is of a VkGraph alone.
    """

    report: Path
    graph: Path
    program: Path

    @classmethod
    def within(cls, folder: Path) -> PlanFiles:
        """The files by their names in a folder of their own."""
        return cls(folder / "report.json", folder / "graph.plan", folder / "program.pte")

    def all(self) -> tuple[Path, Path, Path]:
        """Each of them."""
        return self.report, self.graph, self.program
