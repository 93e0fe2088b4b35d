"""What a planning process can be asked to do.

A lowering leaves one file, for all plans that are made of it: a zip with the lowered program, and
with the names that the exported program gave its tensors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol
from zipfile import ZipFile, ZipInfo

from api.planning.files import Files, opened
from api.store.files import PlanFiles
from planner.errors import InputError
from planner.kernels.releases import Target
from planner.measured.device import files_of, with_files
from planner.options import LoweringOptions, PlanOptions

if TYPE_CHECKING:
    from planner.pipelines.lowered import Planned

_PROGRAM: Final = "program.pte"
_KNOWN: Final = "exported.json"

_MOST_VARIABLES: Final = 10_000
"""Variables of the layout problems of a program whose plan is explained: seconds of work."""

OnStage = Callable[[str], None]
"""Called with the name of each stage of work as it begins."""

_STAGES: Final = frozenset(("loading", "lowering", "planning", "writing"))


def known_stage(said: str) -> str:
    """The stage that a planning process means: there is one for each delegate of a program.

    And a process can say anything: what is not known is planning.
    """
    return said if said in _STAGES else "planning"


class Needs(Enum):
    """What work takes, beside the planner."""

    NOTHING = "nothing"
    TORCH = "torch"
    TORCH_AND_PROGRAMS = "torch and programs"
    """ExecuTorch's Inspector runs ``flatc``."""


def ignore_stage(stage: str) -> None:
    """For work whose progress does not matter."""


class Work(Protocol):
    """What a process is asked to do; it is sent there, and with it its files, open."""

    @property
    def name(self) -> str:
        """What to call the program in messages."""

    @property
    def reads(self) -> Sequence[Path]:
        """The files that it reads."""

    @property
    def writes(self) -> Sequence[Path]:
        """The files that it writes."""

    @property
    def needs(self) -> Needs:
        """What there has to be where it is done."""

    def run(self, files: Files, on_stage: OnStage = ignore_stage) -> None:
        """Does the work in this process. Raises ``PlannerError`` for what cannot be planned."""


@dataclass(frozen=True, slots=True)
class PlanWork:
    """Plan a program: what to call it in messages, and where to write the plan.

    ``is_lowered`` says that it needs no torch; ``sha256`` is the program's, where it may have
    changed since.
    """

    source: Path
    name: str
    options: PlanOptions
    files: PlanFiles
    is_lowered: bool = False
    sha256: str | None = None

    @property
    def reads(self) -> Sequence[Path]:
        """The program, and what the options are read from."""
        return (self.source, *files_of(self.options))

    @property
    def writes(self) -> Sequence[Path]:
        """The plan's files."""
        return self.files.all()

    @property
    def needs(self) -> Needs:
        """Torch, unless the program is lowered."""
        return Needs.NOTHING if self.is_lowered else Needs.TORCH

    def run(self, files: Files, on_stage: OnStage = ignore_stage) -> None:
        """Plans the file and writes the plan's files. Raises ``PlannerError``."""
        from planner.pipelines.dispatch import plan_program

        done = 0

        def progress(stage: str, delegate: object) -> None:
            nonlocal done
            done += delegate is not None
            on_stage(f"{done} delegate{'s' * (done > 1)} planned" if done else stage)

        options = with_files(self.options, files.read)
        data = read_unchanged(files, self.source, self.name, self.sha256)
        planned = plan_program(data, self.name, options, progress)
        on_stage("writing")
        write_plan(planned, self.files, files)


@dataclass(frozen=True, slots=True)
class Lowering:
    """Lower a ``.pt2`` with ExecuTorch's own layouts, which are planned afterwards.

    ``texture_limits`` are those to lower for; None for ExecuTorch's own.
    """

    needs: ClassVar[Needs] = Needs.TORCH

    source: Path
    name: str
    options: LoweringOptions
    output: Path
    sha256: str | None = None

    @property
    def reads(self) -> Sequence[Path]:
        """The program."""
        return (self.source,)

    @property
    def writes(self) -> Sequence[Path]:
        """What comes out."""
        return (self.output,)

    def run(self, files: Files, on_stage: OnStage = ignore_stage) -> None:
        """Writes what comes out. Raises ``InputError`` and ``NoRepresentationError``."""
        from planner.pipelines.exported import lower_exported

        data = read_unchanged(files, self.source, self.name, self.sha256)
        lowered = lower_exported(data, self.name, self.options)
        known = {"names": lowered.exported.names, "on_cpu": lowered.exported.on_cpu}
        packed = BytesIO()
        with ZipFile(packed, "w") as archive:
            # Without a time of day: the same program makes the same bytes.
            archive.writestr(ZipInfo(_PROGRAM), lowered.pte)
            archive.writestr(ZipInfo(_KNOWN), json.dumps(known, sort_keys=True))
        files.write(self.output, packed.getvalue())


@dataclass(frozen=True, slots=True)
class CheckWork:
    """Check a lowered program for a runtime, a GPU and a target, each None if it was not named.

    ``wanted`` are the user's limits, in words.
    """

    needs: ClassVar[Needs] = Needs.NOTHING

    source: Path
    name: str
    runtime: str | None
    gpu: str | None
    target: Target | None
    wanted: tuple[str, ...]
    output: Path

    @property
    def reads(self) -> Sequence[Path]:
        """The program."""
        return (self.source,)

    @property
    def writes(self) -> Sequence[Path]:
        """What was found."""
        return (self.output,)

    def run(self, files: Files, on_stage: OnStage = ignore_stage) -> None:
        """Writes what came of it as JSON. Raises ``InputError`` and ``OptionError``."""
        from planner.kernels.gpus import find_gpu
        from planner.kernels.releases import parse_runtime
        from planner.options import read_wanted
        from planner.pipelines.checking import check_program

        runtime = None if self.runtime is None else parse_runtime(self.runtime)
        gpu = None if self.gpu is None else find_gpu(self.gpu)
        restrictions, budget = read_wanted(self.wanted)
        found = check_program(
            *(files.read(self.source), self.name, runtime, gpu),
            restrictions=restrictions,
            budget=budget,
            target=self.target,
        )
        files.write(self.output, json.dumps(found.document()).encode())


@dataclass(frozen=True, slots=True)
class Replanning:
    """Plan what a ``Lowering`` made; the plan is one of the ``.pt2``."""

    needs: ClassVar[Needs] = Needs.NOTHING

    source: Path
    lowered: Path
    name: str
    options: PlanOptions
    files: PlanFiles
    sha256: str | None = None

    @property
    def reads(self) -> Sequence[Path]:
        """The exported program, what was made of it, and what the options are read from."""
        return (self.source, self.lowered, *files_of(self.options))

    @property
    def writes(self) -> Sequence[Path]:
        """The plan's files."""
        return self.files.all()

    def run(self, files: Files, on_stage: OnStage = ignore_stage) -> None:
        """Writes the plan's files. Raises ``PlannerError``."""
        from planner.pipelines.lowered import replan
        from planner.result.program import Exported, Source

        with ZipFile(BytesIO(files.read(self.lowered))) as archive:
            program, known = archive.read(_PROGRAM), json.loads(archive.read(_KNOWN))
        # JSON has no numbers as keys.
        names = {
            graph: {int(v): name for v, name in of.items()} for graph, of in known["names"].items()
        }
        data = read_unchanged(files, self.source, self.name, self.sha256)
        source = Source.of(self.name, data)
        exported = Exported(source, names, on_cpu=tuple(known["on_cpu"]))
        options = with_files(self.options, files.read)
        planned = replan(program, self.name, options, exported=exported)
        write_plan(planned, self.files, files)


def read_unchanged(files: Files, path: Path, name: str, sha256: str | None) -> bytes:
    """The program in a file; raises ``InputError`` unless its SHA-256 is this one, if any."""
    data = files.read(path)
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise InputError(
            f"{name} is not what was uploaded: the store's copy of it is damaged. POST its bytes "
            "to /inputs again, and retry the job"
        )
    return data


def do_here(work: Work, on_stage: OnStage = ignore_stage) -> None:
    """Does work in this process, for what is one's own. Raises ``PlannerError``."""
    with opened(work.reads, work.writes) as files:
        work.run(files, on_stage)


def write_plan(planned: Planned, paths: PlanFiles, files: Files) -> None:
    """Writes the files of a plan."""
    is_program = planned.report.kind != "vkgraph"
    files.write(paths.program, planned.pte() if is_program else b"")
    files.write(paths.graph, planned.flatbuffer())
    document = planned.report.document() | answers_of(planned)
    files.write(paths.report, json.dumps(document, allow_nan=False).encode())


def answers_of(planned: Planned) -> dict[str, Any]:
    """What pages and requests may ask about a plan, as parts of its report that can be left out.

    They are found here, for planning is done where it is shut in. There are none of large programs,
    nor of plans within limits of a whole plan, which the answers would not keep.
    """
    if planned.options.budget.words:
        return {}
    plans = {id(each.layout_plan): each.layout_plan for each in planned.delegates}
    if sum(len(plan.layout.problem.variables) for plan in plans.values()) > _MOST_VARIABLES:
        return {}
    return {
        "explanation": planned.explanation().document(),
        "opportunities": planned.opportunities().document(),
        "tradeoffs": planned.outlines().document(),
    }
