"""The project without extras, installed from the registry in an environment of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import pytest

from api.bench.install import Environment, Installation, build_wheel, install
from planner.errors import PlannerError
from tests.api.graphs import graph
from tests.install.project import NAME, dependencies, normal
from tests.install.recorded import recorded

MOST_MB = 400


@dataclass(frozen=True)
class Bare:
    """What was installed, and where."""

    environment: Environment
    installation: Installation

    def run(self, *arguments: str | Path, code: int = 0) -> str:
        """What the command line says: on standard output, else on standard error."""
        program = self.environment.program(NAME)
        command = [program, *arguments]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == code, ran.stderr
        return ran.stderr if code else ran.stdout


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bare]:
    folder = tmp_path_factory.mktemp("bare")
    environment = Environment.make(folder / "environment")
    try:
        environment.install("--no-deps", "--no-cache-dir", "--target", str(folder), "click")
    except PlannerError as error:
        pytest.skip(f"no registry of packages answers: {error}")
    yield Bare(environment, install(build_wheel(folder), "", environment))


def test_no_package_of_an_extra_comes_with_it(bare: Bare) -> None:
    installed = {normal(name) for name in bare.installation.packages}
    base = {d.package for d in dependencies() if not d.extra}
    assert base | {NAME} <= installed
    assert installed.isdisjoint({d.package for d in dependencies() if d.extra})
    assert bare.installation.size < MOST_MB * 1e6


def test_lowered_programs_are_planned_in_it(bare: Bare, tmp_path: Path) -> None:
    program, planned = tmp_path / "program.pte", tmp_path / "planned.pte"
    program.write_bytes(recorded("pte"))
    assert "optimal" in bare.run("plan", program, "-o", planned)
    assert bare.run("diff", program, planned)
    wire = tmp_path / "graph.vkgraph"
    wire.write_bytes(graph())
    assert "optimal" in bare.run("plan", wire, "-o", tmp_path / "planned.vkgraph")
    assert (tmp_path / "planned.vkgraph").read_bytes()[4:8] == b"VK00"


def test_what_is_missing_is_named(bare: Bare, tmp_path: Path) -> None:
    model = tmp_path / "model.pt2"
    with ZipFile(model, "w") as archive:
        archive.writestr("model/archive_format", "pt2")
    assert bare.run("plan", model, code=2) == (
        "Error: model.pt2, an exported program, needs torch: pip install 'layout-planner[export]'\n"
    )
    assert "'layout-planner[serve]'" in bare.run("serve", code=2)
    assert "'layout-planner[gpu]'" in bare.run("gpu", "info", code=2)
