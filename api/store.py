"""Where finished plans are kept: the seam behind which storage can change."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol

_PLAN_ID = re.compile(r"[0-9a-f]{32}")
_UNFINISHED = ".unfinished-"


@dataclass(frozen=True, slots=True)
class PlanFiles:
    """The files of a plan: its JSON report, its flatbuffer, and the program for the runtime."""

    report: Path
    graph: Path
    program: Path

    @classmethod
    def within(cls, folder: Path) -> PlanFiles:
        """The files by their names in a folder of their own."""
        return cls(folder / "report.json", folder / "graph.plan", folder / "program.pte")


class PlanStore(Protocol):
    """Keeps plans by id. May be called from several threads at once."""

    def get(self, plan_id: str) -> PlanFiles | None:
        """The files of a plan, to be read only; None for an id that no plan has."""

    def put(self, plan_id: str, files: PlanFiles) -> PlanFiles:
        """Takes files over, to keep them as this plan; returns them as ``get`` will."""


def is_plan_id(text: str) -> bool:
    """Whether a text has the form of a plan's id: 32 hexadecimal digits in lower case."""
    return _PLAN_ID.fullmatch(text) is not None


class DirectoryStore:
    """Keeps each plan in a directory that is named by its id.

    A plan is gathered under another name and renamed when it is whole, so that it can be seen
    either whole or not at all, wherever the process is ended.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def get(self, plan_id: str) -> PlanFiles | None:
        """The files of a plan; None for an id that no plan has, or that is no id."""
        # The id comes from a URL: nothing but hexadecimal digits may become part of a path.
        if not is_plan_id(plan_id):
            return None
        folder = self._root / plan_id
        return PlanFiles.within(folder) if folder.is_dir() else None

    def put(self, plan_id: str, files: PlanFiles) -> PlanFiles:
        """Moves files into the store; where the plan is there already, the one there stays."""
        if not is_plan_id(plan_id):
            raise ValueError(f"{plan_id!r} is not the id of a plan")
        folder = self._root / plan_id
        unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self._root))
        try:
            kept = PlanFiles.within(unfinished)
            for field in fields(PlanFiles):
                target: Path = getattr(kept, field.name)
                shutil.move(getattr(files, field.name), target)
                _flush(target)
            _flush(unfinished)
            try:
                unfinished.rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise
            _flush(self._root)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return PlanFiles.within(folder)


def _flush(path: Path) -> None:
    """Sees to it that a power cut after the rename finds the renamed files filled."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
