"""The benchmark of lowering, on a small net."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.bench.lowering import lowering
from planner.errors import OptionError


@pytest.mark.slow
def test_a_row_has_both_times_twice(tmp_path: Path) -> None:
    output = tmp_path / "lowering.md"
    lowering(["unet"], "small", output)
    heading, _, row = output.read_text().splitlines()
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert heading.startswith("| model | ExecuTorch, s | ours, s | ratio |")
    assert cells[0] == "unet"
    assert all(float(cell) > 0 for cell in cells[1:])
    with pytest.raises(OptionError, match="unknown model 'nothing'"):
        lowering(["nothing"], "small", None)
