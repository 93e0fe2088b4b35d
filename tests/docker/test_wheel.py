"""What is installed is all that there is: an installed package has every file of the source."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

from tests.paths import ROOT

_NOT_SHIPPED = {"__pycache__", ".gitattributes"}


def test_the_wheel_has_every_file_of_the_packages(tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found = project["tool"]["setuptools"]["packages"]["find"]["include"]
    packages = {pattern.removesuffix("*") for pattern in found}
    # From a copy: a build leaves files beside its source.
    source = tmp_path / "source"
    for name in packages:
        shutil.copytree(
            ROOT / name, source / name, ignore=shutil.ignore_patterns(*_NOT_SHIPPED, "*.pyc")
        )
    for name in ("pyproject.toml", "README.md", *project["project"].get("license-files", ())):
        shutil.copy(ROOT / name, source / name)
    pip = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    command = [sys.executable, *pip, "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
    written = {
        str(file.relative_to(ROOT))
        for name in packages
        for file in (ROOT / name).rglob("*")
        if file.is_file() and _NOT_SHIPPED.isdisjoint(file.parts)
    }
    assert shipped == written
