"""Profiles of ExecuTorch's Vulkan runtime: read, joined to the graph, and kept.

``profiles/`` has a real run on lavapipe of an int8 MobileNetV2 (``depth_multiplier=0.35``, 96x96,
random weights) with the layouts of ExecuTorch's own pass, and the graph that it ran.
"""

from __future__ import annotations

import json
import lzma
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner

from api.cli import main
from planner.errors import InputError
from planner.ir.representation import REPRS
from planner.measured.calls import Call
from planner.measured.database import CostDatabase, Run
from planner.measured.etdump import DelegateRun, Dispatch, read_etdump
from planner.measured.importing import import_run
from planner.measured.join import STAGING, Join, Sample, Step, join
from schema import VkDataType, VkGraph, VkMemoryLayout, VkStorageType, VkTensor, vkgraph
from tests.paths import PROFILES

RUN = Run("phone", "1.0", "a.etdump", "11", "22")
SAMPLE = Sample(Call("op", "[[],[]]"), (("0", REPRS[0]), ("o0", REPRS[1])), ("k", "l"), 1.0, 0.0, 3)


def joined(*samples: Sample) -> Join:
    return Join(tuple(Step(0, None, sample) for sample in samples), 0.0)


def unpacked(name: str) -> bytes:
    return lzma.decompress((PROFILES / f"{name}.xz").read_bytes())


@pytest.fixture(scope="module")
def etdump() -> bytes:
    return unpacked("mv2_xs_int8_greedy.etdump")


@pytest.fixture(scope="module")
def program() -> bytes:
    return unpacked("mv2_xs_int8_greedy.vkgraph")


@pytest.fixture(scope="module")
def graph(program: bytes) -> VkGraph:
    return vkgraph.decode(program)


@pytest.fixture(scope="module")
def runs(etdump: bytes) -> tuple[DelegateRun, ...]:
    return read_etdump(etdump, "run")


def test_every_dispatch_is_joined(runs: tuple[DelegateRun, ...], graph: VkGraph) -> None:
    (run,) = runs
    assert {len(d.ns) for d in run.dispatches} == {6}
    joined = join(runs, [graph], "run")
    assert joined.share == 1
    # As the README of the measurements has it, within what runs differ by: 139 to 151 ms by the
    # least of each dispatch, so more by medians.
    assert 130e6 < joined.total < 260e6
    operators = [s for s in joined.samples if s.call != STAGING]
    assert len(operators) == len({d.node_id for d in run.dispatches} - {None})
    names = {call.name for call in graph.chain}
    for sample in operators:
        assert sample.call.operator in names
        assert sample.operands
        assert sample.median > 0
        assert 3 <= sample.count <= 5
        json.loads(sample.call.signature)


def test_the_first_execution_and_outliers_are_left_out(graph: VkGraph) -> None:
    call = graph.chain[0]
    times = (900.0, 100.0, 104.0, 96.0, 100.0, 500.0)
    run = DelegateRun((Dispatch("k", call.node_id, call.name, times),))
    (sample,) = join([run], [graph], "run").samples
    assert (sample.median, sample.count) == (100, 4)


def test_what_names_no_operator_is_not_joined(graph: VkGraph) -> None:
    call = graph.chain[0]
    run = DelegateRun(
        (
            Dispatch("k", call.node_id, call.name, (9.0, 3.0)),
            Dispatch("nchw_to_buffer", None, None, (9.0, 4.0)),
            Dispatch("stray", None, None, (9.0, 1.0)),
        )
    )
    joined = join([run], [graph], "run")
    assert [step.sample.median for step in joined.steps] == [3, 4]
    assert (joined.total, joined.share) == (8, 7 / 8)


def test_dispatches_of_one_operator_are_added(graph: VkGraph) -> None:
    call = graph.chain[0]
    dispatches = tuple(
        Dispatch(kernel, call.node_id, call.name, (9.0, t, t)) for kernel, t in (("a", 1), ("b", 2))
    )
    (sample,) = join([DelegateRun(dispatches)], [graph], "run").samples
    assert sample.kernels == ("a", "b")
    assert sample.median == 3


def test_a_profile_of_another_program(runs: tuple[DelegateRun, ...], graph: VkGraph) -> None:
    with pytest.raises(InputError, match="1 Vulkan delegates, not 2"):
        join(runs, [graph, graph], "run")
    other = VkGraph(graph.version, graph.chain[:5], graph.values, graph.input_ids, ())
    with pytest.raises(InputError, match="delegate 0, does not belong to this program: node"):
        join(runs, [other], "run")
    call = graph.chain[0]
    run = DelegateRun((Dispatch("k", call.node_id, "another.op", (1.0, 1.0)),))
    with pytest.raises(InputError, match=r"is another\.op in the profile"):
        join([run], [graph], "run")


def test_a_profile_of_the_same_program_with_other_layouts(
    runs: tuple[DelegateRun, ...], graph: VkGraph
) -> None:
    index, tensor = next(
        (i, v)
        for i, v in enumerate(graph.values)
        if isinstance(v, VkTensor) and v.constant_id < 0 and v.datatype != VkDataType.INT8
        if v.memory_layout == VkMemoryLayout.TENSOR_CHANNELS_PACKED
        if v.storage_type == VkStorageType.TEXTURE_3D
    )
    for other, is_now in (
        (replace(tensor, memory_layout=VkMemoryLayout.TENSOR_WIDTH_PACKED), "texture:WIDTH"),
        (replace(tensor, storage_type=VkStorageType.BUFFER), "buffer:CHANNELS"),
    ):
        values = tuple(other if i == index else v for i, v in enumerate(graph.values))
        with pytest.raises(InputError, match=f"TEXTURE_3D, packed along 2, in .* {is_now}"):
            join(runs, [replace(graph, values=values)], "run")


def test_damaged_profiles(etdump: bytes) -> None:
    random = Random(0)
    altered = bytearray(etdump)
    for _ in range(2000):
        altered[random.randrange(12, len(altered))] = random.randrange(256)
    for data in (b"", b"no etdump", etdump[:5000], etdump[: len(etdump) // 2], bytes(altered)):
        with pytest.raises(InputError, match="run"):
            read_etdump(data, "run")


def test_importing_twice_changes_nothing(etdump: bytes, program: bytes, tmp_path: Path) -> None:
    path = tmp_path / "costs.sqlite"
    first = import_run(etdump, "run", program, "graph", "phone", "1.0", path)
    before = path.read_bytes()
    second = import_run(etdump, "run", program, "graph", "phone", "1.0", path)
    assert (first.is_new, second.is_new) == (True, False)
    assert path.read_bytes() == before
    with CostDatabase(path) as costs:
        assert costs.devices() == ("phone",)
        assert costs.runs("phone") == (first.join.samples,)


def test_one_file_has_many_devices(tmp_path: Path) -> None:
    once, twice = joined(SAMPLE), joined(SAMPLE, SAMPLE)
    with CostDatabase(tmp_path / "costs") as costs:
        assert costs.add(RUN, once)
        assert costs.add(Run("other", "2", "a", "11", "22"), twice)
        assert costs.devices() == ("other", "phone")
        assert costs.runs("other") == (twice.samples,)
        with pytest.raises(InputError, match="no device 'third': there is other, phone"):
            costs.runs("third")
        with pytest.raises(InputError, match=r"has driver '1\.0' in .*, not '3'"):
            costs.add(Run("phone", "3", "b", "33", "44"), joined())
        assert costs.runs("phone") == (once.samples,)


def test_what_fails_changes_nothing(tmp_path: Path) -> None:
    broken = replace(SAMPLE, spread=None)  # type: ignore[arg-type]
    with CostDatabase(tmp_path / "costs") as costs:
        with pytest.raises(InputError, match="cannot be written"):
            costs.add(RUN, joined(broken))
        assert costs.devices() == ()


def test_files_that_are_no_cost_database(tmp_path: Path) -> None:
    path = tmp_path / "costs"
    path.write_text("hello " * 500)
    with pytest.raises(InputError, match="is not a cost database"):
        CostDatabase(path)
    import sqlite3

    newer = tmp_path / "newer"
    connection = sqlite3.connect(newer)
    connection.execute("PRAGMA user_version = 9")
    connection.execute("CREATE TABLE t (x)")
    connection.commit()
    connection.close()
    with pytest.raises(InputError, match="version 9, not 2"):
        CostDatabase(newer)


def test_the_command(etdump: bytes, program: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.etdump").write_bytes(etdump)
    (tmp_path / "graph").write_bytes(program)
    paths = [str(tmp_path / name) for name in ("run.etdump", "graph", "costs")]
    command = ["profile", "import", paths[0], "--graph", paths[1], "--device", "x", "-o", paths[2]]
    for state in ("added", "was there already"):
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0, result.output
        assert "100.0% joined" in result.output
        assert state in result.output
    command[2] = paths[1]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert "is not an ETDump" in result.output
