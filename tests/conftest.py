"""What a test needs is told from what it uses, and said with a marker."""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings

from tests.paths import ROOT

MARKERS: Final = {
    "server": "starts a server, workers or planning processes",
    "postgresql": "starts a PostgreSQL server",
    "s3": "starts an S3-compatible store",
    "browser": "drives Chromium",
    "gpu": "opens a GPU, of which a software one is enough",
    "lowering": "loads torch, here or in a process of its own",
    "chaos": "kills processes of a server and waits for others to do their work",
    "install": "builds a wheel or installs packages",
    "slow": "takes seconds: many examples, or large ones",
}
_BY_FIXTURE: Final = {
    "server": "server",
    "one_server": "server",
    "site": "server",
    "workers": "server",
    "cluster": "postgresql",
    "objects_server": "s3",
    "visit": "browser",
    "gpu": "gpu",
    "conv": "lowering",
    "sort": "lowering",
    "bare": "install",
    # What reads ETDumps loads torch: ExecuTorch's Inspector does.
    "etdump": "lowering",
    "measured": "lowering",
    "runs": "lowering",
    "times": "lowering",
    "recordings": "lowering",
    "costs": "lowering",
}
_LOWERING: Final = {"torch", "torchao", "executorch", "transformers"}
_SERVING: Final = {"tests.api.serving", "tests.api.jobs.plant", "api.bench.background"}
"""Modules that start processes: what imports one of them at its top is taken to do so."""
_ABSENT: Final = ("torch", "wgpu")
"""What a fast run cannot import: a test that lacks its marker fails there, and not in a minute."""


# A machine with other work to do is slow, and no example is wrong for that.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fast",
        action="store_true",
        help=f"only tests with none of the markers {', '.join(MARKERS)}",
    )


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    if config.getoption("--fast"):
        for module in _ABSENT:
            sys.modules[module] = None  # type: ignore[assignment]


def pytest_make_parametrize_id(val: object) -> str | None:
    """Names bytes by their length: a zip holds the time, and workers have to agree on a name."""
    return f"{len(val)}_bytes" if isinstance(val, bytes) else None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves alone what would load torch to no end."""
    is_test = collection_path.suffix == ".py" and collection_path.name.startswith("test_")
    skip = config.getoption("--fast") and is_test and _lowers(collection_path)
    return True if skip else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for name in _needs(item):
            item.add_marker(name)
    if config.getoption("--fast"):
        slow = {item for item in items if {m.name for m in item.iter_markers()} & MARKERS.keys()}
        config.hook.pytest_deselected(items=[item for item in items if item in slow])
        items[:] = [item for item in items if item not in slow]


def _needs(item: pytest.Item) -> set[str]:
    """Markers by the fixtures that a test asks for, and by what its module imports."""
    found = {_BY_FIXTURE[name] for name in getattr(item, "fixturenames", ()) if name in _BY_FIXTURE}
    if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
        found |= {"postgresql"} & {v for v in item.callspec.params.values() if isinstance(v, str)}
    if _lowers(item.path):
        found.add("lowering")
    if not _imports(item.path).isdisjoint(_SERVING):
        found.add("server")
    return found


@cache
def _imports(path: Path) -> frozenset[str]:
    """What a module imports at its top."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


@cache
def _lowers(path: Path) -> bool:
    """Whether a module of the tests loads torch at its top, itself or by another of the tests."""
    names = _imports(path)
    if any(name.partition(".")[0] in _LOWERING for name in names):
        return True
    ours = (ROOT / f"{name.replace('.', '/')}.py" for name in names if name.startswith("tests."))
    return any(_lowers(other) for other in ours if other.is_file())
