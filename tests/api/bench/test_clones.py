"""ExecuTorch's clone kernels against our shaders, with a stand-in for its runner."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections import Counter
from itertools import pairwise, permutations
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from api.bench.clones import make_walks, run_walks
from api.cli import main
from planner.errors import InputError, OptionError
from planner.executorch.readback import decode_as_executorch
from planner.files.lowered import graphs_of
from planner.ir.representation import REPRS, TensorRepr
from schema import VkGraph, VkMemoryLayout, VkTensor, split_delegate
from schema.executorch_program import read_program
from tests.paths import ROOT

pytestmark = [pytest.mark.lowering, pytest.mark.gpu, pytest.mark.xdist_group("clones")]

SHAPE = (1, 6, 5, 8)
TYPES = ("float32", "float16", "int8")
RUNNER = """
import subprocess, sys
from pathlib import Path
mode, pte, inputs, outputs, etdump, runs = sys.argv[1:]
if mode == "fails" and "int8" in pte:
    print("what():  Exception raised from add_node at /a/b/Clone.cpp:3: (a < b) is false!")
    sys.exit(134)
given = Path(inputs).read_bytes()
subprocess.run([sys.executable, {stand_in!r}, "--model_path", pte, "--inputs", inputs,
    "--output_file", outputs, "--etdump_path", etdump, "--num_executions", runs,
    "--output_bytes", str(len(given))], check=True)
if not (mode == "fails" and "float16" in pte):
    Path(outputs + "-0.bin").write_bytes(given)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clones")
    make_walks(folder, [SHAPE])
    return folder


def command(folder: Path, mode: str) -> str:
    script = folder / "runner.py"
    script.write_text(RUNNER.format(stand_in=str(ROOT / "tests" / "executor_runner.py")))
    return f"{sys.executable} {script} {mode} {{pte}} {{inputs}} {{outputs}} {{etdump}} {{runs}}"


def bench(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["bench", "clones", str(folder), *options])


def tensors_of(graph: VkGraph) -> list[VkTensor]:
    """The tensors of a walk, in order: each transition reads what the one before it wrote."""
    clones = [call.args for call in graph.chain if call.name == "aten.clone.default"]
    assert all(before[-1] == after[0] for before, after in pairwise(clones))
    tensors = [graph.values[i] for i in (clones[0][0], *(args[-1] for args in clones))]
    return [tensor for tensor in tensors if isinstance(tensor, VkTensor)]


def steps_of(graph: VkGraph) -> list[tuple[TensorRepr, TensorRepr]]:
    return [*pairwise(TensorRepr(t.storage_type, t.memory_layout) for t in tensors_of(graph))]


def rows_of(table: str, dtype: str) -> dict[str, tuple[float, float, float]]:
    """Repacks of a type in a table of one shape: ExecuTorch's µs, ours, and the ratio."""
    row = re.compile(rf"^\| (.* → .*) \| {dtype} \| ([\d.]+), ([\d.]+) \(([\d.]+)\) \|$", re.M)
    return {name: (float(a), float(b), float(c)) for name, a, b, c in row.findall(table)}


@pytest.mark.parametrize("name", TYPES)
def test_a_walk_goes_from_each_representation_to_each_other_once(made: Path, name: str) -> None:
    path = made / f"{name}-1x6x5x8.pte"
    (graph,) = graphs_of(path.read_bytes(), path.name)
    tensors = [value for value in graph.values if isinstance(value, VkTensor)]
    assert {t.dims for t in tensors} == {SHAPE}
    for a, b in pairwise(tensors_of(graph)):
        assert {a.datatype.name.lower(), b.datatype.name.lower()} == {name}
        # Neither is written over while the other is read.
        assert {a.mem_obj_id, b.mem_obj_id} == {0, 1}
    steps = steps_of(graph)
    among = [
        r
        for r in REPRS
        if r.is_packed_int8 == (name == "int8")
        and r.memory_layout != VkMemoryLayout.PACKED_INT8_CONV2D
    ]
    assert Counter(steps) == Counter(permutations(among, 2))
    assert steps[0][0] == steps[-1][1]


def test_executorch_reads_the_programs(made: Path) -> None:
    from planner.executorch.running import tensors_of as program_tensors

    for path in sorted(made.glob("*.pte")):
        data = path.read_bytes()
        inputs, outputs = program_tensors(data)
        assert inputs == outputs
        assert [sizes for _, sizes in inputs] == [SHAPE]
        (entry,) = read_program(data).delegates
        (graph,) = graphs_of(data, path.name)
        assert len(decode_as_executorch(entry.blob).chain) == len(graph.chain)
        assert not split_delegate(entry.blob).constants


def test_both_are_timed_in_one_call_and_set_side_by_side(made: Path, tmp_path: Path) -> None:
    report = tmp_path / "clones.md"
    run = bench(made, "--run", command(made, "runs"), "--repeats", "2", "-o", str(report))
    assert run.exit_code == 0, run.output
    table = report.read_text()
    assert "3 of 3 programs gave their inputs back, to the bit." in table
    session = json.loads((made / "session.json").read_text())
    ours = session["shaders"]["int8-1x6x5x8"]
    assert len(ours) == len(rows_of(table, "int8")) == 20
    # Without the device, from what it left.
    again = bench(made)
    assert again.output == run.output
    # Each time is that of its own step of the walk.
    session["shaders"]["int8-1x6x5x8"] = [1000.0 * k for k in range(1, 21)]
    (made / "session.json").write_text(json.dumps(session))
    (graph,) = graphs_of((made / "int8-1x6x5x8.pte").read_bytes(), "int8")
    expected = {f"{a} → {b}": float(k) for k, (a, b) in enumerate(steps_of(graph), 1)}
    rows = rows_of(bench(made).output, "int8")
    assert {name: our for name, (_, our, _) in rows.items()} == expected
    for their, our, ratio in rows.values():
        assert ratio == pytest.approx(their / our, abs=0.06)
    session["shaders"]["int8-1x6x5x8"] = ours[:-1]
    (made / "session.json").write_text(json.dumps(session))
    short = bench(made)
    assert short.exit_code != 0
    assert "has 20 clones and session.json 19" in short.output


def test_a_shape_that_did_not_run_has_no_cell(made: Path, tmp_path: Path) -> None:
    session = json.loads((made / "session.json").read_text())
    session["shaders"]["int8-1x6x5x8"] = [2000.0] * 20
    make_walks(tmp_path, [SHAPE, (1, 4, 4, 4)])
    for name in TYPES:
        tiny, small = f"{name}-1x4x4x4", f"{name}-1x6x5x8"
        session["shaders"][tiny] = session["shaders"][small]
        session["runs"][tiny] = "wrong" if name == "float32" else "right"
        for copied in (tiny, small):
            shutil.copy(made / f"{small}.etdump", tmp_path / f"{copied}.etdump")
    (tmp_path / "session.json").write_text(json.dumps(session))
    lines = bench(tmp_path).output.splitlines()
    (every,) = [line for line in lines if line.startswith("| all |")]
    assert every.split(" | ")[2] == "80"
    for line in (line for line in lines if " → " in line):
        tiny, small = line.removesuffix(" |").split(" | ")[2:]
        assert tiny == ("" if " | float32 | " in line else small)


def test_what_is_wrong_or_does_not_run_has_no_times(made: Path) -> None:
    run_walks(made, command(made, "fails"), None, None, 1)
    text = bench(made).output
    assert "1 of 3 programs gave their inputs back, to the bit." in text
    assert "`float16-1x6x5x8`: wrong." in text
    assert "`int8-1x6x5x8`: Exception raised from add_node at Clone.cpp:3: (a < b) is" in text
    assert [name for name in TYPES if f" | {name} | " in text] == ["float32"]


def test_a_folder_or_command_that_does_not_do(made: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"names \{model\}"):
        run_walks(made, "runner {model}", None, None, 1)
    with pytest.raises(InputError, match="has no programs of clones"):
        run_walks(tmp_path, "true", None, None, 1)
    assert bench(tmp_path, "--shape", "1,2").exit_code != 0
    (made / "session.json").write_text("[]")
    assert "holds no runs of clones" in bench(made).output
    for file in [*made.glob("*.etdump"), made / "session.json"]:
        file.unlink()
    assert bench(made).output == ""
