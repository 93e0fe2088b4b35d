"""Profiles measured through WebGPU against recorded runs of ExecuTorch."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from api.bench import calibrations as bench
from api.bench.calibrations import calibrations
from planner.costs.profile_file import load_profile
from planner.errors import OptionError
from tests.paths import RECORDED


def _plan(measured: float, *predicted: float) -> bench._Plan:
    return bench._Plan(measured, predicted, 1.0, 1.0)


def test_the_order_and_what_is_lost() -> None:
    plans = [_plan(1.0, 5.0, 1.0), _plan(2.0, 4.0, 2.0), _plan(4.0, 4.0, 3.0)]
    pairs = [(a, b) for n, a in enumerate(plans) for b in plans[:n]]
    # Reversed, and equal, against right.
    assert [bench._right(pairs, way) for way in (0, 1)] == [0, 3]
    assert [bench._lost(plans, way) for way in (0, 1)] == [1.0, 0.0]


@pytest.mark.slow
@pytest.mark.lowering
def test_the_table_of_one_model(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "phone"
    folder.mkdir(parents=True)
    shutil.copy(RECORDED / "mv2_xs_int8.tar.xz", folder)
    with pytest.raises(OptionError, match="--profile phone=FILE"):
        calibrations(tmp_path / "runs", {}, None)
    calibrations(tmp_path / "runs", {"phone": [load_profile("lavapipe")]}, tmp_path / "table.md")
    (row,) = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (tmp_path / "table.md").read_text().splitlines()
        if line.startswith("| mv2_xs_int8")
    ]
    model, plans, pairs, profile, *ways, ratio = row
    assert (model, plans, profile) == ("mv2_xs_int8", "9", "lavapipe")
    assert len(ways) == 3 and float(ratio) > 0
    for way in ways:
        right, _, of, lost = way.split()
        assert 0 <= int(right) <= int(of) == int(pairs)
        assert float(lost.strip("(%)")) >= 0
    # What ExecuTorch's other runs teach puts all of these in order.
    assert ways[-1].split()[0] == pairs
