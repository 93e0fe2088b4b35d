"""What a planning process is asked to do about devices: read a run, and judge what runs taught."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from api.planning.work import OnStage, ignore_stage


@dataclass(frozen=True, slots=True)
class ReadRun:
    """Read an ETDump with the program that ran, by their files and names.

    ``bare`` is where the program goes without its constants, ``output`` where the run goes.
    """

    etdump: Path
    name: str
    program: Path
    program_name: str
    bare: Path
    output: Path

    def run(self, on_stage: OnStage = ignore_stage) -> None:
        """Writes what was measured as JSON; raises ``InputError`` and ``MissingExtraError``."""
        from planner.files.lowered import graphs_of, without_constants
        from planner.measured.database import Run, RunRecord
        from planner.measured.device import write_run
        from planner.measured.etdump import read_etdump
        from planner.measured.join import join

        etdump = self.etdump.read_bytes()
        bare = without_constants(self.program.read_bytes(), self.program_name)
        graphs = tuple(graphs_of(bare, self.program_name))
        found = join(read_etdump(etdump, self.name), graphs, self.name)
        run = Run(
            "",
            "",
            self.name,
            hashlib.sha256(etdump).hexdigest(),
            # Of the graphs alone: the same plan is the same program, whatever its weights.
            hashlib.sha256(bare).hexdigest(),
        )
        record = RunRecord(run, found.total, found.joined, found.samples)
        self.bare.write_bytes(bare)
        self.output.write_text(json.dumps(write_run(record)), "utf-8")


@dataclass(frozen=True, slots=True)
class JudgeDevice:
    """Say how well the times of a device are known, by its file.

    ``programs``, each with a name, are those to say what to measure next of.
    """

    device: Path
    name: str
    programs: tuple[tuple[str, Path], ...]
    output: Path

    def run(self, on_stage: OnStage = ignore_stage) -> None:
        """Writes the fit as JSON. Raises ``InputError``."""
        from planner.measured.device import read_device
        from planner.tuning.fit import fit_of

        device = read_device(self.device.read_bytes(), self.name)
        programs = [(name, path.read_bytes()) for name, path in self.programs]
        self.output.write_text(json.dumps(asdict(fit_of(device, programs))), "utf-8")
