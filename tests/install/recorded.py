"""A run that was recorded, with its program."""

from __future__ import annotations

import tarfile

from tests.paths import RECORDED


def recorded(kind: str) -> bytes:
    """The ``pte`` or the ``etdump`` of a small vision transformer with ExecuTorch's layouts."""
    with tarfile.open(RECORDED / "cvt_xs_fp32.tar.xz") as archive:
        file = archive.extractfile(f"cvt_xs_fp32_greedy.{kind}")
        assert file is not None
        return file.read()
