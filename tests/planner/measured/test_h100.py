"""Runs of ExecuTorch's Vulkan runtime on an NVIDIA H100, of programs that ``explore`` wrote.

``profiles/h100.tar.xz`` has them with their programs, whose weights are zeros: a small ConvNeXt as
ExecuTorch laid it out, with the fewest repacks, and with two random layouts; and an int8
MobileNetV2 as ExecuTorch laid it out, and with the fewest repacks.
"""

from __future__ import annotations

import tarfile
from functools import cache

import pytest

from planner.files.lowered import graphs_of
from planner.measured.etdump import read_etdump
from planner.measured.join import join
from planner.options import make_options
from planner.pipelines.checking import check_program
from planner.pipelines.lowered import replan
from tests.paths import PROFILES

RUNS = (
    *("convnext_xs_greedy", "convnext_xs_re", "convnext_xs_r11v2", "convnext_xs_r12v4"),
    *("mv2_xs_int8_greedy", "mv2_xs_int8_re"),
)


@cache
def files() -> dict[str, bytes]:
    with tarfile.open(PROFILES / "h100.tar.xz") as archive:
        opened = ((m.name, archive.extractfile(m)) for m in archive)
        return {name: file.read() for name, file in opened if file is not None}


@pytest.mark.lowering
@pytest.mark.parametrize("run", RUNS)
def test_a_run_on_the_gpu_imports(run: str) -> None:
    graphs = list(graphs_of(files()[f"{run}.pte"], run))
    joined = join(read_etdump(files()[f"{run}.etdump"], run), graphs, run)
    assert joined.share == 1
    # A dispatch takes about 5 us there.
    assert 0.5e6 < joined.total < 5e6


@pytest.mark.parametrize("run", RUNS)
def test_nothing_is_known_against_what_ran(run: str) -> None:
    found = check_program(files()[f"{run}.pte"], run)
    assert found.findings == ()
    assert "1.5" in found.taken_by


@pytest.mark.parametrize("run", RUNS)
def test_it_is_planned_again(run: str) -> None:
    planned = replan(files()[f"{run}.pte"], run, make_options(runtime="1.5"))
    assert planned.report.total.status == "OPTIMAL"
    assert planned.report.total.repack_cost <= planned.report.total.baseline_repack_cost
    assert all(not d.warnings and not d.mended for d in planned.report.delegates)
    assert check_program(planned.data, run).findings == ()
