"""``layout-planner problem``: a program's layout problem in a format of the field."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from api.cli import main
from planner.options import make_options
from planner.pipelines.lowered import replan
from solver import solve
from solver.formats import read_problem
from tests.planner.pipelines.test_verifying import recorded


def problem(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["problem", *map(str, arguments)])


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "cvt.pte"
    path.write_bytes(recorded("cvt_xs_fp32"))
    return path


@pytest.mark.parametrize("levels", [1, 2])
def test_other_solvers_find_the_cost_of_the_plan(
    program: Path, tmp_path: Path, levels: int
) -> None:
    made = replan(program.read_bytes(), "cvt", make_options("bytes")).delegates[0]
    cost = made.layout_plan.solution.cost
    path = tmp_path / "cvt.wcsp"
    done = problem(program, "-o", path, "--profile", "bytes", "--levels", levels)
    assert done.exit_code == 0, done.output
    count = len(made.layout_plan.layout.problem.variables)
    words, _, told = done.stdout.strip().rpartition(" ")
    assert words == f"{count} variables, optimal: cost"
    assert levels == 2 or int(told) == cost[0]
    assert solve(read_problem(path)).cost == (int(told),)


def test_what_cannot_be_written(program: Path, tmp_path: Path) -> None:
    done = problem(program, "-o", tmp_path / "cvt.cfn", "--delegate", 9)
    assert done.exit_code == 2
    assert "has 2 delegates" in done.stderr
    done = problem(program, "-o", tmp_path / "cvt.txt")
    assert done.exit_code == 2
    assert "has to end in one of" in done.stderr
    assert not (tmp_path / "cvt.txt").exists()
