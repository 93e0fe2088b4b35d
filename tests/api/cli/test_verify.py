"""``layout-planner verify``: its table, its JSON, its exit codes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from api.cli import main
from planner.options import make_options
from planner.pipelines.lowered import replan
from schema import plan, vkgraph
from tests.planner.pipelines.test_verifying import changed, dearer, optimal
from tests.planner.verify.sketches import float_chain


def verify(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["verify", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "chain.bin"
    path.write_bytes(vkgraph.encode(float_chain().before))
    return path


@pytest.fixture
def right(tmp_path: Path, source: Path) -> Path:
    path = tmp_path / "chain.plan"
    made = replan(source.read_bytes(), "chain.bin", make_options("bytes"))
    path.write_bytes(made.flatbuffer())
    return path


def test_a_plan_that_is_right(right: Path, source: Path) -> None:
    done = verify(right, source, "--profile", "bytes")
    assert done.exit_code == 0
    assert "chain.plan: profile bytes, objective repack: right" in done.output
    assert "optimal, by elimination" in done.output
    assert "none costs less" not in done.output


def test_a_plan_that_is_proven(right: Path) -> None:
    done = verify(right, "--profile", "bytes", "--prove")
    assert done.exit_code == 0
    assert "right, and proven: no plan costs less" in done.output
    assert "none costs less, and none of that cost has fewer transitions" in done.output


def test_json(right: Path) -> None:
    done = verify(right, "--profile", "bytes", "--prove", "--json")
    document = json.loads(done.output)
    assert document["verdict"] == "proven"
    assert document["delegates"][0]["bound"] == 3840


def test_a_plan_that_is_wrong(right: Path, tmp_path: Path) -> None:
    program = plan.decode(right.read_bytes())
    (delegate,) = program.delegates
    lying = replace(delegate, figures=replace(delegate.figures, transitions=3))
    path = tmp_path / "lying.plan"
    path.write_bytes(plan.encode(replace(program, delegates=(lying,))))
    done = verify(path, "--profile", "bytes")
    assert done.exit_code == 1
    assert done.stderr.startswith("Wrong: the figures: 1 transitions were written, not 3")


def test_proofs_that_are_refuted_or_do_not_come_off(tmp_path: Path) -> None:
    path = tmp_path / "mv2.plan"
    path.write_bytes(dearer())
    done = verify(path, "--profile", "bytes", "--prove")
    assert done.exit_code == 3
    assert "right, but not proven" in done.output
    assert "none costs less than 0.000 MB, and one costs 0.000 MB" in done.output
    path.write_bytes(changed(dearer(), optimal))
    done = verify(path, "--profile", "bytes", "--prove")
    assert done.exit_code == 1
    assert "REFUTED: a plan costs less than this one says any does" in done.output


def test_a_proof_that_takes_too_long(right: Path) -> None:
    done = verify(right, "--profile", "bytes", "--prove", "--prove-seconds", "0")
    assert done.exit_code == 3
    assert "right, but not proven" in done.output


def test_other_costs(right: Path) -> None:
    done = verify(right)
    assert done.exit_code == 2
    assert "name the same profile, device or costs" in done.stderr
