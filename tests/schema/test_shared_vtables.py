"""Files whose tables share vtables that say another size: real writers write them."""

from __future__ import annotations

import struct

import pytest

from planner.options import make_options
from planner.pipelines.lowered import replan
from schema import SchemaError, plan, vkgraph
from schema.executorch_program import read_program
from tests.paths import ROOT
from tests.schema.strategies import sample_graph, sample_program

PROGRAMS = ROOT / "tests" / "programs"


def vtables(data: bytes, shape_bytes: int = 4) -> list[int]:
    """Positions that may be those of vtables: of every table that is led to from anywhere."""
    found = set()
    for position in range(8, len(data) - 3, shape_bytes):
        (back,) = struct.unpack_from("<i", data, position)
        vtable = position - back
        if not 0 < vtable <= len(data) - 4 or vtable % 2:
            continue
        size, extent = struct.unpack_from("<HH", data, vtable)
        if 4 <= size <= 64 and size % 2 == 0 and 4 <= extent <= 256 and vtable + size <= len(data):
            found.add(vtable)
    return sorted(found)


def with_sizes(data: bytes, tables: list[int], size: int) -> bytes:
    """The file with another size of the table in each of these vtables."""
    out = bytearray(data)
    for vtable in tables:
        struct.pack_into("<H", out, vtable + 2, size)
    return bytes(out)


def test_the_size_of_a_table_does_not_matter() -> None:
    graph, program = sample_graph(), sample_program()
    for encoded, decode, value in (
        (vkgraph.encode(graph), vkgraph.decode, graph),
        (plan.encode(program), plan.decode, program),
    ):
        # One vtable after another: what only looks like one may hold something else.
        changed = 0
        for vtable in vtables(encoded):
            for size in (4, 65535):
                try:
                    read = decode(with_sizes(encoded, [vtable], size))
                except SchemaError:
                    continue
                changed += read == value
        assert changed > 10


@pytest.mark.parametrize("path", sorted(PROGRAMS.glob("*.pte")), ids=lambda path: path.stem)
def test_programs_of_other_writers_are_planned(path: object) -> None:
    data = PROGRAMS.joinpath(str(path)).read_bytes()
    assert [d.backend_id for d in read_program(data).delegates] == ["VulkanBackend"]
    result = replan(data, "x.pte", make_options("bytes"))
    assert result.report.total.status == "OPTIMAL"
    assert replan(result.data, "x.pte", make_options("bytes")).data == result.data
