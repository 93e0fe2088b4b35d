"""Planned programs there and back, with FlatBuffers' own reader and compiler as referees."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from schema import PlannedProgram, SchemaError, VkMemoryLayout, flatbuffer, generate, plan, vkgraph
from schema.generated import plan as generated
from tests.schema.strategies import programs, sample_graph, sample_program


@given(programs())
@settings(max_examples=50)
def test_a_program_survives_encoding(program: PlannedProgram) -> None:
    data = plan.encode(program)
    assert data[4:8] == b"LP01"
    assert plan.decode(data) == program
    assert plan.encode(plan.decode(data)) == data


def test_the_graph_is_a_buffer_of_its_own() -> None:
    data = plan.encode(sample_program())
    (delegate, _) = plan.decode(data).delegates
    assert delegate.decode_graph() == sample_graph()
    # Where it lies is aligned for the widest number that it can hold.
    assert data.index(delegate.graph) % 16 == 0

    broken = replace(delegate, graph=b"VK00")
    with pytest.raises(SchemaError, match=r"^graph: 4 bytes are too few"):
        broken.decode_graph()


def test_the_generated_code_reads_what_encode_writes() -> None:
    program = sample_program()
    data = plan.encode(program)
    assert generated.PlannedProgram.PlannedProgramBufferHasIdentifier(data, 0)
    root = generated.PlannedProgram.GetRootAs(data)
    assert root.SourceSha256() == program.source_sha256.encode()
    assert root.TextureLimitsAsNumpy().tolist() == [16384, 16384, 2048]
    assert root.ExcludedLayouts(0) == VkMemoryLayout.PACKED_INT8_CONV2D
    assert root.Total().BaselineObjectiveCost() == program.total.baseline_objective_cost
    delegate = root.Delegates(1)
    assert delegate.TensorsLength() == 2
    assert delegate.Tensors(1).MemoryLayout() == VkMemoryLayout.TENSOR_WIDTH_PACKED
    transition = delegate.Transitions(0)
    assert transition.ToLayout() == VkMemoryLayout.PACKED_INT8_4C1W
    assert transition.Cost() == 4096.0
    assert transition.Users(1).OperatorName() == b"aten.cat"
    assert delegate.BaselineRepacks(0).SizesAsNumpy().tolist() == [1, 8, 4, 4]
    assert delegate.BaselineRepacks(0).Cost() == 12288.0
    assert delegate.GraphNestedRoot().ChainLength() == len(sample_graph().chain)


def test_the_compiler_reads_what_encode_writes(tmp_path: Path) -> None:
    binary = tmp_path / "program.bin"
    binary.write_bytes(plan.encode(sample_program()))
    schema = str(generate.HERE / "plan.fbs")
    flatc = [str(generate.flatc())]
    subprocess.run(
        [*flatc, "--json", "--strict-json", schema, "--", str(binary)], check=True, cwd=tmp_path
    )
    read = json.loads((tmp_path / "program.json").read_text())
    assert read["objective"] == "repack"
    assert read["total"]["status"] == "OPTIMAL"
    assert read["delegates"][0]["transitions"][0]["to_layout"] == "PACKED_INT8_4C1W"
    assert read["delegates"][0]["graph"]["chain"][2]["name"] == "aten.cat.default"

    subprocess.run([*flatc, "--annotate", schema, "--", str(binary)], check=True, cwd=tmp_path)
    text = (tmp_path / "program.afb").read_text().lower()
    assert "root_table" in text
    assert "error" not in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cost_unit": "seconds"}, "cost_unit: 'seconds' is not one of"),
        ({"objective": ""}, "objective: '' is not one of"),
        ({"texture_limits": (1, 2)}, "texture_limits: 2 numbers are not"),
        ({"texture_limits": (1, 2, -3)}, r"texture_limits\[2\]: -3 does not fit"),
        ({"excluded_layouts": (256,)}, r"excluded_layouts\[0\]: 256 does not fit"),
    ],
)
def test_encode_names_what_is_wrong(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SchemaError, match=f"^{message}"):
        plan.encode(replace(sample_program(), **changes))


def test_a_buffer_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(plan.encode(sample_program()))
    monkeypatch.setattr(flatbuffer, "_MOST_BYTES", size)
    plan.encode(sample_program())
    for most in (size - 1, size // 2, 100):
        monkeypatch.setattr(flatbuffer, "_MOST_BYTES", most)
        with pytest.raises(SchemaError, match=r"are too many for a flatbuffer$"):
            plan.encode(sample_program())


def test_decode_names_what_is_unknown() -> None:
    data = bytearray(plan.encode(sample_program()))
    root = generated.PlannedProgram.GetRootAs(data)
    layouts = root._tab.Vector(root._tab.Offset(20))
    data[layouts] = 7
    with pytest.raises(
        SchemaError, match=r"^excluded_layouts\[0\]: 7 is not a known VkMemoryLayout$"
    ):
        plan.decode(data)


def test_a_table_that_is_missing_is_an_error() -> None:
    data = bytearray(plan.encode(sample_program()))
    root = generated.PlannedProgram.GetRootAs(data)
    vtable = root._tab.Pos - int.from_bytes(data[root._tab.Pos : root._tab.Pos + 4], "little")
    data[vtable + 24 : vtable + 26] = b"\0\0"
    with pytest.raises(SchemaError, match=r"^total: the Figures is missing$"):
        plan.decode(data)


def test_a_plan_without_the_baselines_repacks_is_read() -> None:
    program = sample_program()
    data = bytearray(plan.encode(program))
    root = generated.PlannedProgram.GetRootAs(data)
    for index in range(root.DelegatesLength()):
        table = root.Delegates(index)._tab
        vtable = table.Pos - int.from_bytes(data[table.Pos : table.Pos + 4], "little", signed=True)
        data[vtable + 16 : vtable + 18] = b"\0\0"
    delegates = tuple(replace(d, baseline_repacks=()) for d in program.delegates)
    assert plan.decode(data) == replace(program, delegates=delegates)


def test_a_graph_is_not_a_program() -> None:
    with pytest.raises(SchemaError, match=r"^the file identifier is b'VK00', not b'LP01'$"):
        plan.decode(vkgraph.encode(sample_graph()))
