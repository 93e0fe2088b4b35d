"""What an installation costs: seconds and bytes of an environment of its own, by extra."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from api.terminal.markdown import head, print_and_write, row
from planner.errors import OptionError, PlannerError
from planner.extras import require
from planner.stopwatch import stopwatch

_CHECKOUT: Final = Path(__file__).parents[2]
_NOT_SOURCE: Final = (".*", "build", "*.egg-info", "__pycache__", "tests", "benchmarks")
_PIP: Final = ("-m", "pip", "--disable-pip-version-check")


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment with pip, in a folder."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Environment:
        """An empty one."""
        venv.EnvBuilder(with_pip=True).create(folder)
        return cls(folder)

    def program(self, name: str) -> Path:
        """A program that is installed in it."""
        return self.folder / ("Scripts" if os.name == "nt" else "bin") / name

    def install(self, *requirements: str) -> None:
        """Installs packages. Raises ``PlannerError`` with pip's last line."""
        _run(self.program("python"), *_PIP, "install", "--quiet", *requirements)

    def packages(self) -> dict[str, str]:
        """The release of each package in it."""
        listed = _run(self.program("python"), *_PIP, "list", "--format", "json")
        return {package["name"]: package["version"] for package in json.loads(listed)}

    def size(self) -> int:
        """Bytes of all its files."""
        files = (path for path in self.folder.rglob("*") if not path.is_symlink())
        return sum(path.stat().st_size for path in files if path.is_file())


@dataclass(frozen=True, slots=True)
class Installation:
    """What an installation added to an empty environment, and how many seconds it took."""

    packages: dict[str, str]
    size: int
    seconds: float


def build_wheel(folder: Path) -> Path:
    """Builds the wheel of the checkout that this module is in, without a registry.

    Raises ``OptionError`` where the project is installed and there is no checkout.
    """
    require("a wheel", "setuptools")
    if not (_CHECKOUT / "pyproject.toml").is_file():
        raise OptionError("there is no checkout to install: run this from a clone of the project")
    # From a copy: a build leaves files beside its source, and takes what an older one left.
    source = folder / "source"
    shutil.copytree(_CHECKOUT, source, ignore=shutil.ignore_patterns(*_NOT_SOURCE))
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    _run(sys.executable, *_PIP, "wheel", *options, "-w", folder, source)
    shutil.rmtree(source)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, extra: str, environment: Environment) -> Installation:
    """Installs the wheel with an extra (or none) in an empty environment."""
    packages, size = environment.packages(), environment.size()
    with stopwatch() as watch:
        environment.install(f"{wheel}[{extra}]" if extra else str(wheel))
    added = {k: v for k, v in environment.packages().items() if k not in packages}
    return Installation(added, environment.size() - size, watch.seconds)


def bench_install(extras: Sequence[str], output: Path | None) -> None:
    """Prints a Markdown table of the base and of extras."""
    with TemporaryDirectory() as folder:
        wheel = build_wheel(Path(folder))
        found = []
        for extra in ("", *extras):
            environment = Environment.make(Path(folder) / f"with-{extra}")
            found.append((extra, install(wheel, extra, environment)))
    print_and_write("\n".join([*_table(found), ""]), output)


def _table(found: Sequence[tuple[str, Installation]]) -> Iterator[str]:
    yield (
        f"Python {sys.version_info.major}.{sys.version_info.minor}, pip with the packages in its "
        "cache where it keeps them; what an empty virtual environment grows by."
    )
    yield ""
    yield from head(("installed", "packages", "MB", "seconds"))
    for extra, done in found:
        name = f"`layout-planner[{extra}]`" if extra else "`layout-planner`"
        if torch := done.packages.get("torch"):
            name += f" (torch {torch})"
        figures = (f"{len(done.packages)}", f"{done.size / 1e6:,.0f}", f"{done.seconds:.1f}")
        yield row((name, *figures))


def _run(*command: str | Path) -> str:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        lines = (ran.stderr or ran.stdout).strip().splitlines() or [f"exit code {ran.returncode}"]
        raise PlannerError(f"installing failed: {lines[-1]}")
    return ran.stdout
