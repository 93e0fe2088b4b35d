"""What a program meets in a container of the compose file, made without an engine.

A user that is not root, without capabilities and without a way to new ones; nothing to write to but
its data and ``/tmp``; no bubblewrap, which an engine's own filter keeps from making namespaces. It
takes root to make, on Linux.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.paths import ROOT

USER: Final = 10001
_TMP: Final = Path("/tmp")
_NEEDED: Final = tuple(
    sorted(
        {ROOT, *(Path(place) for place in (sys.base_prefix, sys.prefix, *sys.path) if place)},
        key=lambda place: len(place.parts),
    )
)
"""What the program reads, by its real and by its linked names; what is above others first."""


@dataclass(frozen=True)
class Container:
    """A folder that is the user's own, and what it takes to run a program with it."""

    data: Path

    def command(self, *program: str) -> list[str]:
        """The command line that runs a program, which ends with it."""
        script = "\n".join([*self._mounts(), self._as_user(program)])
        unshare = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
        return [*unshare, "bash", "-e", "-c", script]

    @property
    def environment(self) -> dict[str, str]:
        """Its variables: those of an image, but for where Python finds the tests."""
        return {
            "PATH": os.defpath,
            "HOME": str(self.data),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def _mounts(self) -> Iterator[str]:
        yield "mount --make-rprivate /"
        yield "mount -t tmpfs tmpfs /mnt"
        if bubblewrap := shutil.which("bwrap"):
            yield f"mount --bind /dev/null {bubblewrap}"
        for folder, places in _hidden((*_NEEDED, self.data)).items():
            yield from _emptied(folder, places)
        yield "mount -o remount,bind,ro /"

    @staticmethod
    def _as_user(program: tuple[str, ...]) -> str:
        options = ("--reuid", str(USER), "--regid", str(USER), "--clear-groups", "--no-new-privs")
        capabilities = ("--bounding-set=-all", "--inh-caps=-all")
        return shlex.join(["exec", "setpriv", *options, *capabilities, *program])


def _hidden(places: tuple[Path, ...]) -> dict[Path, list[Path]]:
    """``/tmp``, and the folders that only root may enter: which of the places are in each."""
    found: dict[Path, list[Path]] = {_TMP: []}
    for place in filter(Path.is_dir, places):
        for folder in reversed(place.parents):
            if folder == _TMP or not folder.stat().st_mode & 0o001:
                inside = found.setdefault(folder, [])
                if not any(place.is_relative_to(other) for other in inside):
                    inside.append(place)
                break
    return found


def _emptied(folder: Path, places: list[Path]) -> Iterator[str]:
    """The commands that leave of a folder the places alone."""
    held = [f"/mnt/{uuid.uuid4().hex}" for _ in places]
    for place, at in zip(places, held, strict=True):
        yield f"mkdir {at}; mount --bind {place} {at}"
    yield f"mount -t tmpfs -o mode={'1777' if folder == _TMP else '755'} tmpfs {folder}"
    for place, at in zip(places, held, strict=True):
        yield f"mkdir -p {place}; mount --bind {at} {place}; umount {at}"


@contextmanager
def container() -> Iterator[Container]:
    """A container whose data go at the end."""
    # Not where pytest keeps its folders: those are closed to other users.
    data = Path(tempfile.mkdtemp(prefix="layout-planner-", dir=_TMP))
    try:
        os.chown(data, USER, USER)
        yield Container(data)
    finally:
        shutil.rmtree(data)
