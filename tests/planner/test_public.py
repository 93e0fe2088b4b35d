"""What ``planner`` exports: every name is there, and importing it loads nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import planner
from planner.pipelines.dispatch import plan_program
from planner.pipelines.lowered import replan
from tests.paths import ROOT


@pytest.mark.lowering
def test_every_name_is_there_and_listed() -> None:
    assert planner.plan is plan_program
    assert planner.replan is replan
    for name in planner.__all__:
        assert getattr(planner, name) is not None
    assert set(planner.__all__) <= set(dir(planner))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        planner.nothing  # noqa: B018


def test_importing_loads_nothing_and_replanning_loads_no_torch() -> None:
    program = """
import sys
import planner
assert "numpy" not in sys.modules
from planner import DeviceProfile, PlannerError, PlanOptions, load_profile, make_options, plan
from planner import replan
assert not {"torch", "executorch"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


@pytest.mark.parametrize("package", ["api", "gpu", "planner", "schema", "solver"])
def test_every_package_says_that_it_is_typed(package: str) -> None:
    assert Path(ROOT, package, "py.typed").is_file()
