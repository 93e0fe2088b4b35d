"""The page about phones quotes what commands really say."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.paths import ROOT

PAGE = ROOT / "docs" / "phone.md"
_LEAST = 12
_KIND = re.compile(r"^(crash|time-out|away): ")
_SPEAKERS = (
    *(ROOT / "planner" / "tuning").glob("*.py"),
    ROOT / "planner" / "measured" / "etdump.py",
    ROOT / "api" / "terminal" / "tuning.py",
)


def _patterns(path: Path) -> Iterator[str]:
    """A pattern for each text of a module, with anything where a value stands."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.JoinedStr):
            parts = [p.value if isinstance(p, ast.Constant) else None for p in node.values]
            # A text that is nearly all values would fit anything.
            if sum(len(p) for p in parts if isinstance(p, str)) >= _LEAST:
                yield "".join(".+" if p is None else re.escape(str(p)) for p in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.escape(node.value)


def _messages() -> list[str]:
    section = PAGE.read_text("utf-8").split("## What can go wrong\n")[1]
    return re.findall(r"^\| `(.+?)` \|", section, re.MULTILINE)


@pytest.fixture(scope="module")
def patterns() -> list[re.Pattern[str]]:
    return [re.compile(p) for path in _SPEAKERS for p in _patterns(path)]


def test_there_are_messages() -> None:
    assert len(_messages()) >= 15


@pytest.mark.parametrize("message", _messages())
def test_a_message_is_one_that_is_said(message: str, patterns: list[re.Pattern[str]]) -> None:
    if message.startswith("crash: "):
        return  # what follows is said by the phone's shell, by adb or by the runner
    text = _KIND.sub("", message)
    assert any(p.fullmatch(text) for p in patterns), "no such text is in the code"


def test_what_runs_of_other_models_are_worth_is_as_measured() -> None:
    """The table of devices that ship has the figures of ``benchmarks/profiles.md``."""
    measured = (ROOT / "benchmarks" / "profiles.md").read_text("utf-8")
    parts = dict(zip(("H100", "lavapipe"), measured.split("\n# lavapipe\n"), strict=True))
    page = (ROOT / "docs" / "measured.md").read_text("utf-8")
    rows = re.findall(r"^\| (\w+), (H100|lavapipe) \| (.+) \| (.+) \| (.+) \|$", page, re.MULTILINE)
    assert len(rows) == 6
    for model, device, *figures in rows:
        table = parts[device].split("## Several models\n")[1]
        (line,) = (line for line in table.splitlines() if line.startswith(f"| {model} |"))
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert [f.replace(" %", "%").replace("−", "-") for f in figures] == cells[5:]
