"""bubblewrap: namespaces without network, without other processes, with the code alone to read."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from api.jail.places import system_places

_SHARED_BYTES: Final = 256 * 2**20
"""What the only folder that can be written holds, in memory."""


def find_bubblewrap() -> str | None:
    """The program, where it is installed and may make namespaces; None elsewhere."""
    program = shutil.which("bwrap") if sys.platform == "linux" else None
    if program is None:
        return None
    command = [*wrapped(program, system_places(), {}), "/bin/true"]
    try:
        subprocess.run(command, capture_output=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        # A container's own filter, and some distributions, keep users from making namespaces.
        return None
    return program


def wrapped(program: str, places: Iterable[Path], environment: Mapping[str, str]) -> list[str]:
    """The start of a command line: what follows runs inside, with these places to read.

    ``/tmp`` is its own, empty and in memory.
    """
    arguments = [program, "--unshare-all", "--cap-drop", "ALL", "--new-session"]
    arguments += ["--die-with-parent", "--clearenv"]
    for name, value in environment.items():
        arguments += ["--setenv", name, value]
    arguments += ["--proc", "/proc", "--dev", "/dev"]
    # First: what follows may lie in it.
    arguments += ["--size", str(_SHARED_BYTES), "--tmpfs", "/tmp"]
    for place in places:
        if place.is_symlink() and place.parent == Path("/"):
            arguments += ["--symlink", str(place.readlink()), str(place)]
        else:
            arguments += ["--ro-bind", str(place), str(place)]
    return [*arguments, "--remount-ro", "/dev", "--remount-ro", "/", "--"]
