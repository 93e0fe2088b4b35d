"""What objectives and profiles gain, on one recorded model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from api.bench.defaults import defaults
from tests.paths import RECORDED


@pytest.mark.slow
@pytest.mark.lowering
def test_a_plan_by_the_models_own_runs_gains_most(tmp_path: Path) -> None:
    (tmp_path / "runs" / "lavapipe").mkdir(parents=True)
    shutil.copy(RECORDED / "mv2_xs_int8.tar.xz", tmp_path / "runs" / "lavapipe")
    defaults(tmp_path / "runs", tmp_path / "table.md")
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (tmp_path / "table.md").read_text().splitlines()
        if line.startswith("|")
    ]
    assert head == ["plan for", "mv2_xs_int8, lavapipe", "least", "mean"]
    gains = {name: float(gain) for name, gain, least, mean in rows if gain == least == mean}
    assert len(gains) == len(rows)
    assert max(gains, key=lambda name: gains[name]) == "latency, all its own runs"
    assert gains["repack, default"] == 1
