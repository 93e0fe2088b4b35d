"""Models of the zoo that no other test plans, from a .pt2 and from the .pte that is made of it."""

from __future__ import annotations

import pytest

from api.bench import zoo
from planner.options import make_options
from planner.pipelines.checking import check_program
from planner.pipelines.exported import plan_exported
from planner.pipelines.lowered import replan
from tests.planner import programs
from tests.planner.readback import planned_for_webgpu

LACKING = {"whisper_tiny": ("aten.eq.Tensor",)}
"""Models that ExecuTorch's runtime does not load, and the operators for which it has no kernel."""
OTHERS = sorted(n for n in set(zoo.names()) - set(programs.ZOO) if not n.endswith("_eager"))


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_others_are_planned_and_stay_planned(name: str) -> None:
    options = make_options("bytes", runtime="1.5")
    planned = plan_exported(zoo.save(name, "small"), f"{name}.pt2", options)
    total = planned.report.total
    assert total.status == "OPTIMAL"
    assert total.repack_cost <= total.baseline_repack_cost
    lowered = planned.pte()
    assert lowered is not None
    again = replan(lowered, f"{name}.pte", options)
    assert again.data == lowered
    found = check_program(lowered, name)
    assert found.unloadable == LACKING.get(name, ())
    assert bool(found.findings) == (name in LACKING)
    planned_for_webgpu(lowered, name)
