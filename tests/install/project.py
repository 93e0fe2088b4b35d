"""What pyproject.toml says of the packages that the project needs."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import Any, Final

from tests.paths import ROOT

NAME: Final = "layout-planner"
_TEXT: Final = (ROOT / "pyproject.toml").read_text()
PROJECT: Final[dict[str, Any]] = tomllib.loads(_TEXT)["project"]
PACKAGES: Final = tuple(
    pattern.removesuffix("*")
    for pattern in tomllib.loads(_TEXT)["tool"]["setuptools"]["packages"]["find"]["include"]
)
BASE: Final = ""
_LINE: Final = re.compile(r'^    "(?P<requirement>[^"]+)",(?: # (?P<reason>.+))?$')
_HEAD: Final = re.compile(r"^(?P<group>[a-z0-9]+) = \[$")


@dataclass(frozen=True)
class Dependency:
    """A package, the extra that installs it (none: ``BASE``), and the reason for it."""

    package: str
    extra: str
    reason: str


def dependencies() -> list[Dependency]:
    """Every package, in the order of the file."""
    found, group = [], None
    for line in _TEXT.splitlines():
        if head := _HEAD.match(line):
            group = head["group"]
        elif line == "]":
            group = None
        elif group in ("dependencies", *PROJECT["optional-dependencies"]):
            match = _LINE.match(line)
            assert match is not None, line
            if (name := package(match["requirement"])) != NAME:
                extra = BASE if group == "dependencies" else str(group)
                found.append(Dependency(name, extra, match["reason"] or ""))
    return found


def package(requirement: str) -> str:
    """The name of the package of a requirement."""
    match = re.match(r"[\w.-]+", requirement)
    assert match is not None
    return match[0]


def metadata() -> list[str]:
    """The requirements as an installed project names them."""
    found: list[str] = [*PROJECT["dependencies"]]
    for extra, requirements in PROJECT["optional-dependencies"].items():
        for requirement in requirements:
            name, _, marker = requirement.partition("; ")
            found.append(f'{name}; {f"({marker}) and " if marker else ""}extra == "{extra}"')
    return found


def normal(name: str) -> str:
    """The name of a package as registries compare names."""
    return re.sub(r"[-_.]+", "-", name).lower()
