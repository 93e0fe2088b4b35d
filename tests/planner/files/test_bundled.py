"""Bundled programs, as ExecuTorch writes them: the program is planned, its tests stay."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from executorch.devtools import BundledProgram
from executorch.devtools.bundled_program.config import MethodTestCase, MethodTestSuite
from executorch.devtools.bundled_program.serialize import (
    deserialize_from_flatbuffer_to_bundled_program,
    serialize_from_bundled_program_to_flatbuffer,
)

from planner.errors import InputError
from planner.files.kinds import FileKind, kind_of
from planner.files.listing import read_listing
from planner.options import make_options
from planner.pipelines.dispatch import plan_program
from planner.pipelines.lowered import replan
from planner.tuning.folder import exploration_files
from planner.tuning.variants import explore
from schema import SchemaError
from schema.bundled_program import program_in, with_program
from tests.planner.programs import greedy
from tests.recorded import recorded

OPTIONS = make_options("bytes")
pytestmark = pytest.mark.xdist_group("mixed")


def bundle(program: bytes, folder: Path) -> bytes:
    """The program with a test whose inputs take more bytes than a cache line."""
    file = folder / "program.pte"
    file.write_bytes(program)
    case = MethodTestCase(inputs=(torch.randn(3, 50),), expected_outputs=(torch.randn(7),))
    suites = [MethodTestSuite("forward", [case])]
    bundled = BundledProgram(None, suites, pte_file_path=str(file))
    return bytes(serialize_from_bundled_program_to_flatbuffer(bundled))


@cache
def _tests(data: bytes) -> Any:
    return deserialize_from_flatbuffer_to_bundled_program(data).method_test_suites


def test_the_program_in_a_bundle_is_planned(tmp_path: Path) -> None:
    program = greedy("mixed")
    data = bundle(program, tmp_path)
    assert kind_of(data) is FileKind.BUNDLED
    result = plan_program(data, "net.bpte", OPTIONS)
    expected = replan(program, "net.pte", OPTIONS)
    assert program_in(result.data) == expected.data != program
    assert _tests(result.data) == _tests(data)
    assert result.pte() == result.data
    assert result.report.total.repack_cost == expected.report.total.repack_cost
    assert result.report.kind == "pte"
    assert plan_program(result.data, "net.bpte", OPTIONS).data == result.data
    (variant,) = explore(data, "net.bpte", make_options("default"), 1)
    assert "variant-1.bpte" in exploration_files([variant], "net.bpte", data, OPTIONS, 0)
    shown = read_listing(result.data, "net.bpte")
    assert (shown.kind, len(shown.delegates)) == (FileKind.BUNDLED, 1)


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 4096, 100_000])
def test_a_program_of_any_size_fits(size: int, tmp_path: Path) -> None:
    data = bundle(recorded("mv2_xs_int8", "greedy.pte"), tmp_path)
    program = bytes(1 + i % 251 for i in range(size))
    written = with_program(data, program)
    assert program_in(written) == program
    assert _tests(written) == _tests(data)
    assert not size or size == 1 or written.index(program) % 32 == 0
    again = with_program(written, program_in(data))
    assert (program_in(again), _tests(again)) == (program_in(data), _tests(data))
    assert len(again) - len(data) in (0, 32)


def test_a_bundle_whose_program_does_not_come_first_keeps_its_order(tmp_path: Path) -> None:
    data = bundle(greedy("mixed"), tmp_path)
    # Written behind the tests: another offset from the same root.
    root = int.from_bytes(data[:4], "little")
    at = data.index(b"ET1", 8) - 8  # the vector's length comes before the program
    moved = bytearray(data + bytes(-len(data) % 32 + 28))
    place = next(
        p for p in range(root, at, 4) if p + int.from_bytes(data[p : p + 4], "little") == at
    )
    moved[place : place + 4] = (len(moved) - place).to_bytes(4, "little")
    moved += data[at : at + 4] + program_in(data)
    changed = with_program(bytes(moved), b"another")
    assert program_in(changed) == b"another"
    assert _tests(changed) == _tests(data)


def test_damaged_bundles_are_refused(tmp_path: Path) -> None:
    data = bundle(greedy("mixed"), tmp_path)
    with pytest.raises(InputError, match=r"x.bpte is damaged: BundledProgram"):
        replan(data[:60], "x.bpte", OPTIONS)
    end = data.index(program_in(data)) + len(program_in(data))
    for length in (*range(0, end, end // 200), end - 1):
        with pytest.raises(SchemaError):
            program_in(data[:length])
    with pytest.raises(SchemaError, match="its tests are outside the file"):
        with_program(data[:end], b"another")


def test_a_bundle_without_a_vulkan_delegate_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x.bpte has no Vulkan delegate"):
        replan(bundle(without_delegate(), tmp_path), "x.bpte", OPTIONS)


def without_delegate() -> bytes:
    """A program that runs on the CPU."""
    from executorch.exir import to_edge

    exported = torch.export.export(torch.nn.ReLU(), (torch.randn(2, 3),))
    data: bytes = to_edge(exported).to_executorch().buffer
    return data
