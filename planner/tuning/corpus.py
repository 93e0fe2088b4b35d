"""Recorded runs of models under several plans, to judge learning from measurements by.

A corpus is a folder with pairs of ``MODEL_PLAN.etdump`` and ``MODEL_PLAN.pte``, loose or in
archives (``*.tar.xz``). Corpora of several devices are folders in a folder. The weights in a
recorded ``.pte`` may be zeros: only its graph matters.
"""

from __future__ import annotations

import lzma
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path, PurePath
from typing import Final

from planner.errors import InputError
from planner.files.lowered import graphs_of
from planner.measured.etdump import read_etdump
from planner.measured.join import Join, join
from schema.frozen import frozen

_RUN: Final = ".etdump"
_PROGRAM: Final = ".pte"
_ARCHIVE: Final = ".tar.xz"


@frozen
class Recording:
    """A run of ``model`` with the layouts of ``plan``: its ETDump, and the program that ran."""

    model: str
    plan: str
    etdump: bytes = field(repr=False)
    program: bytes = field(repr=False)

    @property
    def name(self) -> str:
        """The model's name and the plan's."""
        return f"{self.model}_{self.plan}"

    def join(self) -> Join:
        """The run joined to its graphs; raises ``InputError`` for damaged or mismatched files."""
        runs = read_etdump(self.etdump, self.name)
        return join(runs, tuple(graphs_of(self.program, self.name)), self.name)


def read_corpus(folder: Path) -> dict[str, tuple[Recording, ...]]:
    """The recordings in a folder, by model, in the order of their names.

    Raises ``InputError`` for a folder without any, a damaged archive, and a run without its
    program.
    """
    files = dict(_files(folder))
    found: dict[str, list[Recording]] = defaultdict(list)
    for name in sorted(files):
        path = PurePath(name)
        if path.suffix != _RUN:
            continue
        program = files.get(path.stem + _PROGRAM)
        if program is None:
            raise InputError(f"{folder} has {name}, but not the program that ran: {path.stem}.pte")
        model, _, plan = path.stem.rpartition("_")
        found[model or plan].append(Recording(model or plan, plan, files[name], program))
    if not found:
        raise InputError(f"{folder} has no recorded runs (NAME.etdump with NAME.pte)")
    return {model: tuple(recordings) for model, recordings in found.items()}


def read_corpora(folder: Path) -> dict[str, dict[str, tuple[Recording, ...]]]:
    """The recordings of several devices, by device and model: each has a folder in this one.

    A folder that has recordings itself is of one device, by its own name. Raises ``InputError`` as
    ``read_corpus`` does.
    """
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from error
    devices = [] if any(map(_is_recorded, inside)) else [p for p in inside if p.is_dir()]
    return {path.name: read_corpus(path) for path in devices or [folder]}


def _is_recorded(path: Path) -> bool:
    return path.suffix == _RUN or path.name.endswith(_ARCHIVE)


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    try:
        for path in sorted(folder.iterdir()):
            if path.suffix in (_RUN, _PROGRAM):
                yield path.name, path.read_bytes()
            elif path.name.endswith(_ARCHIVE):
                yield from _members(path).items()
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from error


def _members(path: Path) -> Mapping[str, bytes]:
    try:
        with tarfile.open(path, "r:xz") as archive:
            return {
                member.name: file.read()
                for member in archive
                if (file := archive.extractfile(member)) is not None
            }
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise InputError(f"{path} is a damaged archive: {error}") from error
