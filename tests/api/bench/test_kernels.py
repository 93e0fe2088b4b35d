"""The sweep of kernels, run by a stand-in for a device that does what each test says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from api.bench.kernel_cases import cases
from api.bench.kernels import (
    Program,
    judge_sweep,
    make_sweep,
    read_sweep,
    read_untried,
    run_sweep,
    sweep_tables,
    write_list,
)
from api.cli import main
from planner.errors import InputError, OptionError
from planner.kernels.registry import SYMBOLIC, lookup, registered_names
from planner.pipelines.checking import check_program

pytestmark = [pytest.mark.lowering, pytest.mark.xdist_group("kernels")]

RUNNER = """
import pathlib, sys
program, outputs, mode = sys.argv[1:]
folder = pathlib.Path(program).parent
assert all(pathlib.Path(name).exists() for name in (program,))
if mode == "aborts":
    print("what():  Exception raised from add_node at /a/b/Add.cpp:3: (a < b) is false!")
    sys.exit(134)
for expected in folder.glob("expected-*.bin"):
    data = bytearray(expected.read_bytes())
    if mode == "errs" and data:
        data[3] ^= 0x40
    pathlib.Path(f"{outputs}-{expected.stem[-1]}.bin").write_bytes(data)
"""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Program]]:
    folder = tmp_path_factory.mktemp("sweep")
    return folder, make_sweep(folder, ["_softmax"])


def command(folder: Path, mode: str) -> str:
    script = folder / "runner.py"
    script.write_text(RUNNER)
    return f"{sys.executable} {script} {{pte}} {{outputs}} {mode}"


def forget(folder: Path, programs: list[Program]) -> None:
    for program in programs:
        for file in (folder / program.folder).glob("out-*.bin"):
            file.unlink()
        (folder / program.folder / "rc").unlink(missing_ok=True)


def test_a_sweep_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no program could be made"):
        write_list(tmp_path, [])
    assert not [*tmp_path.iterdir()]


def test_an_operator_is_pinned_to_each_representation_that_it_accepts(
    sweep: tuple[Path, list[Program]],
) -> None:
    folder, programs = sweep
    assert read_sweep(folder) == programs
    softmax = lookup("aten._softmax.default")
    assert softmax is not None
    accepted = {str(r) for r in softmax.inputs[0]}
    tried = {p.argument for p in programs if p.operator == "aten._softmax.default"}
    assert tried == accepted
    for program in programs:
        place = folder / program.folder
        assert [name for name in program.inputs if not (place / name).is_file()] == []
        assert check_program((place / "program.pte").read_bytes(), program.folder).operators >= 1


@pytest.mark.parametrize(
    ("mode", "verdict"), [("obeys", "right"), ("errs", "wrong"), ("aborts", "does not load")]
)
def test_what_ran_is_judged(sweep: tuple[Path, list[Program]], mode: str, verdict: str) -> None:
    folder, programs = sweep
    some = programs[:2]
    forget(folder, programs)
    assert {one.verdict for one in judge_sweep(folder, programs)} == {"not tried"}
    run_sweep(folder, some, command(folder, mode))
    judged = judge_sweep(folder, programs)
    assert [one.verdict for one in judged[:2]] == [verdict] * 2
    assert {one.verdict for one in judged[2:]} == {"not tried"}
    reason = "Exception raised from add_node at Add.cpp:3: (a < b) is false!"
    assert [one.reason for one in judged[:2]] == [reason * (mode == "aborts")] * 2


def test_the_command_runs_and_prints_the_map(
    sweep: tuple[Path, list[Program]], tmp_path: Path
) -> None:
    folder, programs = sweep
    forget(folder, programs)
    output = tmp_path / "map.md"
    arguments = ["bench", "kernels", str(folder), "--run", command(folder, "errs")]
    done = CliRunner().invoke(main, [*arguments, "-o", str(output)])
    assert done.exit_code == 0, done.output
    assert done.output == output.read_text()
    assert "| `aten._softmax.default` | **wrong** (" in done.output
    again = CliRunner().invoke(main, ["bench", "kernels", str(folder)])
    assert again.output == done.output


def test_what_a_check_finds_without_a_device_is_counted(sweep: tuple[Path, list[Program]]) -> None:
    folder, programs = sweep
    forget(folder, programs)
    run_sweep(folder, programs[:1], command(folder, "obeys"))
    judged = judge_sweep(folder, programs)
    assert {one.program.shapes for one in judged if one.foretold} == {"over channels of batches"}
    found = "finds something in\n0 of the 0 that are not right, and in 0 of the 1 that are."
    assert found in sweep_tables(judged)


def test_a_command_that_is_not_there(sweep: tuple[Path, list[Program]]) -> None:
    folder, programs = sweep
    forget(folder, programs)
    with pytest.raises(OptionError, match="cannot run /nowhere/runner"):
        run_sweep(folder, programs, "/nowhere/runner {pte}")


def test_folders_that_hold_no_sweep(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no sweep of kernels"):
        read_sweep(tmp_path)
    with pytest.raises(OptionError, match=r"no operator of the sweep is called mine\.add"):
        make_sweep(tmp_path, ["mine.add"])


def test_cases_have_names_of_their_own_and_operators_of_the_registry() -> None:
    found = list(cases())
    names = [case.name for case in found]
    assert sorted(set(names)) == sorted(names)
    assert all(lookup(case.operator) is not None for case in found)


def test_every_operator_that_makes_tensors_is_in_a_case() -> None:
    # Custom operators are registered without their overload, and under either of two namespaces.
    called = {case.operator for case in cases()}
    bare = {name.rpartition(".")[0].rpartition(".")[2] for name in called}
    left = [name for name in registered_names() if name not in (*called, *SYMBOLIC)]
    assert [name for name in left if name.rpartition(".")[2] not in bare] == []


def test_what_cannot_be_tried_is_said_with_the_reason(tmp_path: Path) -> None:
    programs = make_sweep(tmp_path, ["hardshrink", "aten.bmm"])
    assert {program.operator for program in programs} == {"aten.bmm.default"}
    untried = read_untried(tmp_path)
    made = "ExecuTorch makes aten.abs.default, aten.le.Scalar, aten.where.self of it"
    assert {(one.operator, one.reason) for one in untried} == {("aten.hardshrink.default", made)}
    table = sweep_tables(judge_sweep(tmp_path, programs), untried)
    row, *_ = (one for one in table.splitlines() if one.startswith("| `aten.hardshrink.default`"))
    assert row.split(" | ")[1:7] == ["not tried"] * 6
    assert f"| `aten.hardshrink.default` | batch | {made} |" in table


@pytest.mark.parametrize("bench", ["kernels", "runtime"])
def test_a_wrong_command_is_refused_before_anything_is_made(tmp_path: Path, bench: str) -> None:
    folder = tmp_path / "sweep"
    result = CliRunner().invoke(main, ["bench", bench, str(folder), "--run", "run {program}"])
    assert result.exit_code == 2
    assert "names {program}: there is {pte}, {etdump}, {inputs}" in result.output
    assert not folder.exists()
