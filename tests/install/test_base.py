"""What a user has without any extra, with the modules of the extras taken away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from tests.api.graphs import graph
from tests.install.project import dependencies, metadata
from tests.install.recorded import recorded
from tests.paths import ROOT

_RUN = """
import json, sys
absent, wanted, commands = json.load(sys.stdin)
sys.modules.update(dict.fromkeys(absent))
from planner import extras
extras.requires = lambda project: wanted
from click.testing import CliRunner
from api.cli import main
results = [CliRunner().invoke(main, command) for command in commands]
print(json.dumps([[r.exit_code, r.stdout, r.stderr, repr(r.exception)] for r in results]))
"""

NEEDS = {
    "plan model.pt2": ("model.pt2, an exported program,", "torch", "export"),
    "profile import run.etdump --graph program.pte --device d": (
        "run.etdump, an ETDump,",
        "executorch",
        "export",
    ),
    "serve": ("serve", "platformdirs", "serve"),
    "worker": ("worker", "platformdirs", "serve"),
    "gpu info": ("the GPU", "wgpu", "gpu"),
    "calibrate --name d -o p.json": ("the GPU", "wgpu", "gpu"),
    "compare run.etdump run.etdump --graphs program.pte program.pte --picture p.svg": (
        "a picture",
        "matplotlib",
        "plot",
    ),
    "zoo swin_t -o swin.pt2": ("the model swin_t", "transformers", "models"),
    "demo": ("demo", "transformers", "models"),
    "bench jobs": ("bench", "sqlalchemy", "serve"),
}


@pytest.mark.slow
def test_lowered_programs_are_planned_and_looked_at(tmp_path: Path) -> None:
    (tmp_path / "program.pte").write_bytes(recorded("pte"))
    (tmp_path / "graph.vkgraph").write_bytes(graph())
    results = _run(
        tmp_path,
        ["plan", "program.pte", "-o", "planned.pte", "--plan", "plan.bin"],
        ["plan", "graph.vkgraph", "-o", "planned.vkgraph"],
        ["show", "plan.bin"],
        ["diff", "program.pte", "planned.pte"],
        ["trace", "planned.pte", "-o", "trace.json"],
        ["overlay", "planned.pte", "-o", "overlay"],
        ["explore", "program.pte", "-o", "variants", "--count", "1"],
    )
    assert [code for code, *_ in results] == [0] * len(results), results
    assert (tmp_path / "planned.pte").stat().st_size > 0


def test_a_command_says_which_extra_it_needs(tmp_path: Path) -> None:
    (tmp_path / "program.pte").write_bytes(recorded("pte"))
    (tmp_path / "run.etdump").write_bytes(recorded("etdump"))
    with ZipFile(tmp_path / "model.pt2", "w") as archive:
        archive.writestr("model/archive_format", "pt2")
    for command, result in zip(NEEDS, _run(tmp_path, *map(str.split, NEEDS)), strict=True):
        what, package, extra = NEEDS[command]
        text = f"Error: {what} needs {package}: pip install 'layout-planner[{extra}]'\n"
        assert result == [2, "", text, "SystemExit(2)"], command


def _run(folder: Path, *commands: Iterable[str]) -> list[Any]:
    """Exit code, output, errors and exception of each command."""
    absent = [d.package.replace("-", "_") for d in dependencies() if d.extra not in ("", "dev")]
    given = json.dumps((absent, metadata(), [list(command) for command in commands]))
    ran = subprocess.run(
        [sys.executable, "-c", _RUN],
        input=given,
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    results: list[Any] = json.loads(ran.stdout)
    return results
