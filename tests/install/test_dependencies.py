"""Every package that the project needs is named where it is used, and has a reason."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from tests.install.project import BASE, PACKAGES, PROJECT, Dependency, dependencies
from tests.paths import ROOT

NOT_IMPORTED = {
    "psycopg",  # by the URL of a database, through SQLAlchemy
}

_EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
_SDK = ("propagate", "sdk.resources", "sdk.trace", "sdk.trace.export", "trace")
_PARTS = {
    _EXPORTER: "opentelemetry_exporter_otlp_proto_http",
    **{f"opentelemetry.{name}": "opentelemetry_sdk" for name in _SDK},
}
"""Modules of packages that share a folder."""


def test_the_docs_name_the_same_packages_with_the_same_reasons() -> None:
    rows = [
        Dependency(name, BASE if extra == "always" else extra, reason)
        for name, extra, reason in _rows(3)
    ]
    assert rows == dependencies()


def test_the_docs_name_every_extra() -> None:
    assert [name for name, _ in _rows(2)] == list(PROJECT["optional-dependencies"])


def test_every_package_has_one_place_and_a_reason() -> None:
    known = dependencies()
    assert len({dependency.package for dependency in known}) == len(known)
    assert [d.package for d in known if not d.reason] == []


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    imported = {name for path in _sources() for name in _imports(path)}
    declared = {d.package: d for d in dependencies()}
    assert sorted(imported - declared.keys()) == []
    shipped = {name for name, d in declared.items() if d.extra != "dev"}
    assert sorted(shipped - imported - NOT_IMPORTED) == []


def test_only_one_extra_a_room_needs_at_the_top_of_its_modules() -> None:
    """What modules import at their top is there for whoever has the room's extra."""
    extra_of = {d.package: d.extra for d in dependencies()}
    rooms = {
        "api/store/s3.py": {BASE, "serve", "s3"},
        "api/http": {BASE, "serve"},
        "api/dashboard": {BASE, "serve"},
        "api/jobs": {BASE, "serve"},
        "api/planning": {BASE, "serve"},
        "api/store": {BASE, "serve"},
        "api/bench": {BASE, "serve"},
        "planner/executorch": {BASE, "export"},
    }
    for path in _sources():
        room = str(path.relative_to(ROOT))
        room = next((name for name in rooms if f"{room}/".startswith(f"{name}/")), room)
        wanted = {extra_of[name] for name in _imports(path, top=True)}
        assert wanted <= rooms.get(room, {BASE}), path


def _rows(columns: int) -> list[list[str]]:
    """Rows of the page's table with so many columns, without the head."""
    lines = (ROOT / "docs" / "dependencies.md").read_text().splitlines()
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in lines]
    return [row for row in rows if len(row) == columns][2:]


def _sources() -> list[Path]:
    return [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]


def _imports(path: Path, top: bool = False) -> set[str]:
    """Packages of others that a module imports, at its top alone or anywhere."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    for node in tree.body if top else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    names = {_PARTS.get(name, name).partition(".")[0] for name in found}
    ours = {*PACKAGES, "generated", *sys.stdlib_module_names}
    return {name.replace("_", "-") for name in names - ours}
