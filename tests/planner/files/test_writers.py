"""Programs that other releases wrote: of ExecuTorch, and of flatbuffers, which it does not pin.

``programs/by_*.pte`` are one small net (a convolution, a linear, a softmax, a mean), lowered by
these releases of ExecuTorch, or by 1.5.1 with these releases of flatbuffers; 24.3.25 and 25.2.10
write the same bytes as 25.9.23.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.files.listing import describe
from planner.options import make_options
from planner.pipelines.checking import check_program
from planner.pipelines.lowered import replan
from tests.paths import ROOT

PROGRAMS = sorted((ROOT / "tests" / "programs").glob("by_*.pte"))


def test_the_releases() -> None:
    assert [path.stem for path in PROGRAMS] == [
        *(f"by_executorch_{release}" for release in ("1.1.0", "1.3.1", "1.4.1")),
        *(f"by_flatbuffers_{release}" for release in ("25.12.19", "25.9.23")),
    ]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_it_is_read_and_planned_for_every_runtime_that_takes_it(path: Path) -> None:
    data = path.read_bytes()
    assert len(describe(data, path.name)["delegates"]) == 1
    planned = replan(data, path.name, make_options())
    assert planned.report.total.status == "OPTIMAL"
    assert planned.report.total.repack_cost <= planned.report.total.baseline_repack_cost
    assert planned.report.runtime == "1.1+"
    # Softmax stays where each release takes it: in a texture.
    for release in ("1.1", "1.2", "1.3", "1.4", "1.5"):
        assert release in check_program(planned.data, path.name).taken_by
    again = replan(planned.data, path.name, make_options())
    assert again.data == planned.data
