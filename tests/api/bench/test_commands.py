"""The bench of commands: each ends and is proven, and one that fails is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.bench.commands import commands
from planner.errors import PlannerError
from tests.api.graphs import pooled


def cells(table: Path) -> list[dict[str, str]]:
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.read_text().splitlines()
        if line.startswith("|")
    ]
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_every_command_is_run(tmp_path: Path) -> None:
    file, table = tmp_path / "net.vkgraph", tmp_path / "table.md"
    file.write_bytes(pooled())
    commands([file], [], "small", 100.0, table, ["repack"])
    (found,) = cells(table)
    assert (found.pop("model"), found.pop("objective")) == ("net", "repack")
    assert found.pop("buffers").endswith(" no plan")
    for cell in found.values():
        float(cell)


def test_what_fails_or_takes_too_long_is_named(tmp_path: Path) -> None:
    file, table = tmp_path / "net.vkgraph", tmp_path / "table.md"
    file.write_bytes(b"no program")
    with pytest.raises(PlannerError, match=r"plan of net under repack$"):
        commands([file], [], "small", 100.0, table, ["repack"])
    (found,) = cells(table)
    assert found["plan"].endswith(" failed") and not found["explain"]
    with pytest.raises(PlannerError, match="plan of net under repack, plan of net under latency"):
        commands([file], [], "small", 1e-3, table)
    assert [found["plan"][-8:] for found in cells(table)] == ["too long"] * 2
