"""The JavaScript libraries of the pages: files of installed Python packages, served as they are."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Library:
    """A file within a package, and the SHA-256 of the release that the pages are tested with."""

    package: str
    path: str
    sha256: str

    def locate(self) -> Path:
        """The file on disk; raises ``FileNotFoundError`` with what to install."""
        # The spec is found without running the package's own code.
        spec = find_spec(self.package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            if (file := Path(folder) / self.path).is_file():
                return file
        raise FileNotFoundError(
            f"{self.path} is missing: install {self.package.replace('_', '-')} as pyproject.toml "
            "names it"
        )


LIBRARIES: Final = {
    # Apache ECharts 6.1.0, byte for byte its own release's dist/echarts.esm.min.js.
    "echarts.js": Library(
        "instaui_echarts",
        "static/echarts.esm.min.js",
        "28515f26aa57f87eb1e4ed4eb446927eaf329b5f5e02b4bfd4b0264fea40d1da",
    ),
}


@dataclass(frozen=True, slots=True)
class Served:
    """A library's bytes, compressed."""

    gzipped: bytes
    sha256: str


@cache
def read_library(name: str) -> Served:
    """Raises ``KeyError`` for a name that is none, ``ValueError`` for bytes of another release."""
    library = LIBRARIES[name]
    data = library.locate().read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != library.sha256:
        raise ValueError(f"{name} of {library.package} is not the release that was tested")
    return Served(gzip.compress(data, mtime=0), digest)
