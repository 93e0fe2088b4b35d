"""The command that tunes, with a stand-in for ExecuTorch's runner in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from api.cli import main
from planner.files.lowered import graphs_of
from planner.measured.calls import calls_of
from tests.api.graphs import graph
from tests.paths import ROOT

pytestmark = pytest.mark.lowering

RUNNER = (
    f"{sys.executable} {ROOT / 'tests' / 'executor_runner.py'} --model_path={{pte}} "
    "--inputs={inputs} --output_file={outputs} --etdump_path={etdump} --num_executions={runs} "
    "--output_bytes=768,16"
)
QUICK = ("--rounds", 1, "--blocks", 7, "--inferences", 4, "--device", "phone")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copy(ROOT / "tests/programs/by_executorch_1.4.1.pte", tmp_path / "m.pte"))


def tune(*args: object) -> Result:
    return CliRunner().invoke(main, ["tune", *map(str, args)])


def laid_out(program: bytes) -> set[tuple[str, str]]:
    calls = (call for g in graphs_of(program, "m") for call in calls_of(g))
    return {(call.call.operator, str(r)) for call in calls for _, r in call.operands}


def test_one_command_writes_the_fastest_program(model: Path) -> None:
    result = tune(model, "--run", RUNNER, *QUICK)
    assert result.exit_code == 0, result.output
    best, folder = model.with_suffix(".tuned.pte"), model.with_suffix(".tuning")
    report = json.loads((folder / "report.json").read_text())
    assert report["winner"] != "ExecuTorch's plan"
    (winner,) = (f for f in report["finalists"] if f["name"] == report["winner"])
    assert winner["gain"]["low"] > 1 and winner["is_faster"]
    assert best.read_bytes() != model.read_bytes()
    shown = CliRunner().invoke(main, ["show", str(best)])
    assert shown.exit_code == 0, shown.output
    # Once more, nothing is run again, and the same comes out.
    runs, before = (folder / "runs.jsonl").read_bytes(), best.read_bytes()
    again = tune(model, "--run", "false", *QUICK)
    assert again.exit_code == 0, again.output
    assert (folder / "runs.jsonl").read_bytes() == runs and best.read_bytes() == before
    # What was learned is a cost database like any other.
    options = ("--costs", folder / "costs.sqlite", "--objective", "latency")
    planned = CliRunner().invoke(main, ["plan", str(model), *map(str, options)])
    assert planned.exit_code == 0, planned.output

    # Had its fastest layout been wrong, it would be another program.
    fast = laid_out(before) - laid_out(model.read_bytes())
    operator, representation = sorted(fast)[0]
    elsewhere = ("--folder", folder.with_name("wrong"), "-o", folder.with_name("right.pte"))
    wrong = f"{RUNNER} --wrong={operator}={representation}"
    result = tune(model, "--run", wrong, *QUICK, *elsewhere)
    assert result.exit_code == 0, result.output
    written = laid_out((model.parent / "right.pte").read_bytes())
    assert (operator, representation) not in written
    rows = json.loads((model.parent / "wrong" / "avoid.json").read_text())
    assert (operator, representation) in {
        (row["operators"][0], row["representations"][0]) for row in rows
    }


def test_ctrl_c_keeps_what_was_measured(model: Path) -> None:
    command = [sys.executable, "-m", "api.cli", "tune", str(model), "--run", RUNNER]
    with subprocess.Popen(
        [*command, *map(str, QUICK)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        for line in running.stdout:
            if "variant 1.1" in line:
                running.send_signal(signal.SIGINT)
                break
        said = running.stderr.read()
        assert running.wait() == 130
    folder = model.with_suffix(".tuning")
    assert f"What was measured is kept in {folder}" in said
    assert "the same command goes on from there" in said
    assert len((folder / "runs.jsonl").read_text().splitlines()) >= 2
    assert not model.with_suffix(".tuned.pte").exists()


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((), "by one of --run, --adb and --ssh"),
        (("--run", "x", "--ssh", "host"), "by one of --run, --adb and --ssh"),
        (("--run", "x", "--runner", "y"), "--runner is for --adb and --ssh"),
        (("--run", "run {model}"), "names {model}: there is {pte}, {etdump}, {inputs}"),
        (("--run", "run '{pte}"), "is no command line: No closing quotation"),
        (("--run", "run {pte"), "is no command line: expected '}' before end of string"),
        (("--run", "/nowhere {pte}"), "cannot run /nowhere: No such file or directory"),
        (("--run", "false"), "m.pte does not run on phone as ExecuTorch lays it out: crash: it"),
        (("--run", "true"), "m.pte does not run on phone as ExecuTorch lays it out: the run of"),
        (("--run", "x", "--input", __file__), "input 0 is float32 1x3x8x8, 768 bytes, but"),
    ],
)
def test_what_cannot_be_tuned(model: Path, args: tuple[str, ...], text: str) -> None:
    result = tune(model, *QUICK, *args)
    assert result.exit_code == 2, result.output
    assert text in result.output
    assert not model.with_suffix(".tuned.pte").exists()


def test_a_model_that_cannot_be_read(tmp_path: Path) -> None:
    for name, data in (("x.pte", b"no program"), ("graph.bin", graph())):
        (tmp_path / name).write_bytes(data)
        result = tune(tmp_path / name, "--run", "x")
        assert result.exit_code == 2
        assert f"{name} is neither a .pt2 nor a .pte" in result.output
    result = tune(tmp_path / "none.pte", "--run", "x")
    assert result.exit_code == 2 and "none.pte" in result.output
