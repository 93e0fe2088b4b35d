"""The libraries of the pages: released files, kept in this repository byte for byte."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

VENDOR: Final = Path(__file__).parent / "static" / "vendor"


@dataclass(frozen=True, slots=True)
class Library:
    """A file of a release on npm, its SHA-256, and the licences of what is in it, beside it."""

    package: str
    version: str
    licence: str
    source: str
    sha256: str
    notices: tuple[str, ...]


CHARTS: Final = "echarts-6.1.0/echarts.esm.min.js"
API_SCRIPT: Final = "swagger-ui-dist-5.35.0/swagger-ui-bundle.js"
API_STYLE: Final = "swagger-ui-dist-5.35.0/swagger-ui.css"
LIBRARIES: Final = {
    # The smaller builds of this release have no chart of the type "graph".
    CHARTS: Library(
        package="echarts",
        version="6.1.0",
        licence="Apache-2.0",
        source="dist/echarts.esm.min.js",
        sha256="28515f26aa57f87eb1e4ed4eb446927eaf329b5f5e02b4bfd4b0264fea40d1da",
        notices=("LICENSE", "NOTICE", "LICENSE-d3", "LICENSE-zrender"),
    ),
    # A global script: the builds that are modules are for bundlers.
    API_SCRIPT: Library(
        package="swagger-ui-dist",
        version="5.35.0",
        licence="Apache-2.0",
        source="swagger-ui-bundle.js",
        sha256="e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
        notices=("LICENSE", "NOTICE", "swagger-ui-bundle.js.LICENSE.txt"),
    ),
    API_STYLE: Library(
        package="swagger-ui-dist",
        version="5.35.0",
        licence="Apache-2.0",
        source="swagger-ui.css",
        sha256="5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d",
        notices=("LICENSE", "NOTICE"),
    ),
}


@dataclass(frozen=True, slots=True)
class Served:
    """A library's bytes, compressed."""

    gzipped: bytes
    sha256: str


@cache
def read_library(name: str) -> Served:
    """Raises ``KeyError`` for an unknown name, ``ValueError`` for bytes of another release."""
    library = LIBRARIES[name]
    data = (VENDOR / name).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != library.sha256:
        raise ValueError(f"{name} is not of {library.package} {library.version}: install again")
    return Served(gzip.compress(data, mtime=0), digest)
