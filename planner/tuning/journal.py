"""A tuning's folder: the programs that were run, and a line for each run, so that it can go on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Literal

from planner.errors import OptionError
from planner.files.whole import write_whole
from schema.frozen import frozen

Verdict = Literal["right", "wrong", "crash", "time-out", "away", "unreadable"]
"""What became of a run. ``unreadable`` is one whose ETDump or outputs are not of the program."""

INPUTS: Final = "inputs"
"""The folder's own folder of inputs that were drawn."""

STATE: Final = "tuning.json"
"""What is tuned, where, and how."""

_RUNS: Final = "runs.jsonl"
_FORMAT: Final = "layout-planner-tuning"
_VERSION: Final = 1


@frozen
class RunRecord:
    """A run: what for, of which program (SHA-256), and what came of it.

    ``seconds`` is how long the device was busy with it, with retries; ``ns`` the GPU time of an
    inference and ``wall_ns`` that of the whole, 0 where there is none. ``error`` is the largest
    difference of an output, relative to the largest value expected.
    """

    purpose: str
    program: str
    verdict: Verdict
    seconds: float
    ns: float = 0.0
    wall_ns: float = 0.0
    error: float = 0.0
    said: str = ""
    temperature: float | None = None
    clock: float | None = None


class Journal:
    """The runs of a tuning, in its folder; a run is kept as soon as it ended."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        """Makes the folder, or opens one that was made with equal settings.

        Raises ``OptionError`` for the folder of another tuning, or of something else.
        """
        self.folder = folder
        self._records: dict[tuple[str, str], RunRecord] = {}
        state = {"format": _FORMAT, "version": _VERSION, **settings}
        path = folder / STATE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if path.exists():
                self._resume(path, state)
            elif any(found.name != INPUTS for found in folder.iterdir()):
                raise OptionError(f"{folder} is not empty, and no tuning's: choose another folder")
            else:
                write_whole(path, json.dumps(state, indent=2).encode() + b"\n")
        except OSError as error:
            raise OptionError(f"cannot write to {folder}: {error.strerror}") from error

    def _resume(self, path: Path, state: dict[str, Any]) -> None:
        try:
            kept = json.loads(path.read_text("utf-8"))
            lines = (self.folder / _RUNS).read_bytes().split(b"\n")
        except FileNotFoundError:
            lines = []
        except ValueError as error:
            raise OptionError(f"{path} is damaged: choose another folder") from error
        if kept != state:
            differ = sorted(k for k in kept.keys() | state.keys() if kept.get(k) != state.get(k))
            raise OptionError(
                f"{self.folder} is the folder of a tuning with another {', '.join(differ)}: "
                "choose another folder, or the same options"
            )
        for line in lines:
            # What a process wrote last may be cut off where it was killed.
            try:
                record = RunRecord(**json.loads(line))
            except (ValueError, TypeError):
                continue
            self._records[record.purpose, record.program] = record

    def __iter__(self) -> Iterator[RunRecord]:
        return iter(self._records.values())

    def of(self, purpose: str, program: str) -> RunRecord | None:
        """A run that ended."""
        return self._records.get((purpose, program))

    def add(self, record: RunRecord) -> None:
        """Keeps a run."""
        self._records[record.purpose, record.program] = record
        with (self.folder / _RUNS).open("ab") as file:
            file.write(b"\n" * (file.tell() > 0) + json.dumps(asdict(record)).encode())
            file.flush()
            os.fsync(file.fileno())

    def program(self, data: bytes) -> Path:
        """The file of a program, written if it is not there."""
        path = self.program_of(digest(data))
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            write_whole(path, data)
        return path

    def program_of(self, key: str) -> Path:
        """Where the program of this SHA-256 is."""
        return self.folder / "programs" / f"{key[:16]}.pte"

    def etdump(self, purpose: str, program: str) -> Path:
        """Where the ETDump of a run is."""
        place = self.folder / "etdumps"
        place.mkdir(exist_ok=True)
        return place / f"{purpose.replace(' ', '-')}-{program[:16]}.etdump"

    def write(self, name: str, data: bytes) -> Path:
        """Writes a file of the folder, whole or not at all."""
        write_whole(self.folder / name, data)
        return self.folder / name


def digest(data: bytes) -> str:
    """The SHA-256 of a program, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
