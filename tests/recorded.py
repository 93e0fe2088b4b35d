"""Programs and runs out of the archives of recorded runs."""

from __future__ import annotations

import tarfile
from functools import cache

from tests.paths import RECORDED


@cache
def recorded(model: str, name: str) -> bytes:
    """A file of a model's archive: ``recorded("mv2_xs_int8", "greedy.pte")``."""
    with tarfile.open(RECORDED / f"{model}.tar.xz") as archive:
        file = archive.extractfile(f"{model}_{name}")
        assert file is not None
        return file.read()
