"""What is installed is all that there is: an installed package has every file of the source."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import pytest

from api.bench.install import build_wheel
from tests.install.project import PACKAGES
from tests.paths import ROOT

_NOT_SHIPPED = {"__pycache__", ".gitattributes"}


@pytest.mark.install
def test_the_wheel_has_every_file_of_the_packages(tmp_path: Path) -> None:
    with ZipFile(build_wheel(tmp_path)) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
    written = {
        str(file.relative_to(ROOT))
        for name in PACKAGES
        for file in (ROOT / name).rglob("*")
        if file.is_file() and _NOT_SHIPPED.isdisjoint(file.parts)
    }
    assert shipped == written
