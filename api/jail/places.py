"""Where a program's code is: what a process may read however shut in it is."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt/intel")
_FACTS: Final = (
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/alternatives",
)
"""Files that say how a program is loaded, and nothing of the users."""


def system_places() -> list[Path]:
    """The folders and files of the system's programs and libraries, as they exist."""
    return [place for place in map(Path, (*_SYSTEM, *_FACTS)) if place.exists()]


def code_places(packages: tuple[str, ...]) -> list[Path]:
    """The folders and files that hold Python, its libraries and these packages, as they exist.

    Of a checkout that is on Python's path only the packages: beside them may be anything.
    """
    places = [*system_places(), Path(sys.prefix), Path(sys.base_prefix)]
    for name in packages:
        spec = find_spec(name)
        places += map(Path, (spec and spec.submodule_search_locations) or ())
    for entry in map(Path, sys.path):
        if entry.name in ("site-packages", "dist-packages", "lib-dynload"):
            places.append(entry)
    return [place for place in dict.fromkeys(places) if place.exists()]
