"""Wheels of other releases of ExecuTorch: fetched once, and only their Vulkan delegate unpacked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from planner.kernels.releases import Release
from tests.paths import ROOT

VERSIONS: dict[Release, str] = {"1.1": "1.1.0", "1.2": "1.2.0", "1.3": "1.3.1", "1.4": "1.4.1"}
_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "layout-planner"
_DELEGATE = "executorch/backends/vulkan/"
_REGISTRY = ROOT / "tests" / "planner" / "kernels" / "their_registry.py"


def delegate_of(release: Release) -> Path:
    """The folder of a release's Vulkan delegate; skips the test where no registry answers."""
    version = VERSIONS[release]
    folder = _CACHE / f"executorch-{version}"
    if not folder.is_dir():
        _CACHE.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += [
            "--only-binary=:all:",
            "--python-version=3.11",
            "--platform=manylinux_2_28_x86_64",
        ]
        command += ["--retries=1", f"--dest={_CACHE}", f"executorch=={version}"]
        fetched = subprocess.run(command, capture_output=True, text=True, check=False)
        if fetched.returncode:
            pytest.skip(f"no wheel of executorch {version}: {fetched.stderr.strip()[-200:]}")
        (wheel,) = _CACHE.glob(f"executorch-{version}-*.whl")
        unpacked = _CACHE / f"{folder.name}.{os.getpid()}"
        with ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.startswith(_DELEGATE)]
            archive.extractall(unpacked, names)
        if not folder.is_dir():
            unpacked.rename(folder)
        wheel.unlink()
    return folder / _DELEGATE


@cache
def registries() -> dict[Release, dict[str, Any]]:
    """The registry of each release, read in a process of their own."""
    folders = [str(delegate_of(release)) for release in VERSIONS]
    done = subprocess.run(
        [sys.executable, str(_REGISTRY), *folders], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return dict(zip(VERSIONS, found, strict=True))
