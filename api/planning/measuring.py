"""What a planning process is asked to do about devices: read a run, and judge what runs taught."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from api.planning.files import Files
from api.planning.work import Needs, OnStage, ignore_stage


@dataclass(frozen=True, slots=True)
class ReadRun:
    """Read an ETDump with the program that ran, by their files and names.

    ``bare`` is where the program goes without its constants, ``output`` where the run goes.
    """

    needs: ClassVar[Needs] = Needs.TORCH_AND_PROGRAMS

    etdump: Path
    name: str
    program: Path
    program_name: str
    bare: Path
    output: Path

    @property
    def reads(self) -> Sequence[Path]:
        """The ETDump and its program."""
        return (self.etdump, self.program)

    @property
    def writes(self) -> Sequence[Path]:
        """The program without constants, and the run."""
        return (self.bare, self.output)

    def run(self, files: Files, on_stage: OnStage = ignore_stage) -> None:
        """Writes what was measured as JSON; raises ``InputError`` and ``MissingExtraError``."""
        from planner.files.lowered import graphs_of, without_constants
        from planner.measured.database import Run, RunRecord
        from planner.measured.device import write_run
        from planner.measured.etdump import read_etdump
        from planner.measured.join import join

        etdump = files.read(self.etdump)
        bare = without_constants(files.read(self.program), self.program_name)
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
        files.write(self.bare, bare)
        files.write(self.output, json.dumps(write_run(record)).encode())


@dataclass(frozen=True, slots=True)
class JudgeDevice:
    """Say how well the times of a device are known, by its file.

    ``programs``, each with a name, are those to say what to measure next of.
    """

    needs: ClassVar[Needs] = Needs.NOTHING

    device: Path
    name: str
    programs: tuple[tuple[str, Path], ...]
    output: Path

    @property
    def reads(self) -> Sequence[Path]:
        """The device and the programs."""
        return (self.device, *(path for _, path in self.programs))

    @property
    def writes(self) -> Sequence[Path]:
        """The fit."""
        return (self.output,)

    def run(self, files: Files, on_stage: OnStage = ignore_stage) -> None:
        """Writes the fit as JSON. Raises ``InputError``."""
        from planner.measured.device import read_device
        from planner.tuning.fit import fit_of

        device = read_device(files.read(self.device), self.name)
        programs = [(name, files.read(path)) for name, path in self.programs]
        files.write(self.output, json.dumps(asdict(fit_of(device, programs))).encode())
