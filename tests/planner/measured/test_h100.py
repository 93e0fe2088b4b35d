"""Runs of ExecuTorch's Vulkan runtime on an NVIDIA H100, of programs that ``explore`` wrote.

``benchmarks/profiles/h100`` has them with their programs, whose weights are zeros.
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
from tests.paths import RECORDED

RUNS = (
    *("convnext_xs_greedy", "convnext_xs_fewest", "convnext_xs_random0", "convnext_xs_random3"),
    *("mv2_xs_int8_greedy", "mv2_xs_int8_fewest"),
)


@cache
def files() -> dict[str, bytes]:
    found = {}
    for model in ("convnext_xs", "mv2_xs_int8"):
        with tarfile.open(RECORDED.parent / "h100" / f"{model}.tar.xz") as archive:
            opened = ((m.name, archive.extractfile(m)) for m in archive if m.name.startswith(RUNS))
            found.update({name: file.read() for name, file in opened if file is not None})
    return found


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
