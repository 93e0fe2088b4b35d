"""Files whose tables share vtables that say another size: real writers write them."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from planner.options import make_options
from planner.pipelines.lowered import replan
from schema import plan, vkgraph
from schema.executorch_program import read_program
from schema.flatbuffer import Reader
from tests.paths import ROOT
from tests.schema.strategies import sample_graph, sample_program


@pytest.mark.parametrize(
    ("module", "value"),
    [(vkgraph, sample_graph()), (plan, sample_program())],
    ids=["graph", "plan"],
)
@pytest.mark.parametrize("size", [0, 4, 65535])
def test_the_size_of_a_table_does_not_matter(
    module: Any, value: Any, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    vtables, compile_ = set[int](), Reader._compile

    def note(reader: Reader, shape: Any, vtable: int) -> Any:
        vtables.add(vtable)
        return compile_(reader, shape, vtable)

    data = bytearray(module.encode(value))
    with monkeypatch.context() as patched:
        patched.setattr(Reader, "_compile", note)
        assert module.decode(bytes(data)) == value
    assert len(vtables) > 3
    for vtable in vtables:
        struct.pack_into("<H", data, vtable + 2, size)
    assert module.decode(bytes(data)) == value


def test_a_program_by_an_earlier_release_of_flatbuffers_is_planned() -> None:
    """Two convolutions, lowered by ExecuTorch 1.5.1 with flatbuffers 25.2.10."""
    data = (ROOT / "tests" / "programs" / "shared_vtables.pte").read_bytes()
    assert [d.backend_id for d in read_program(data).delegates] == ["VulkanBackend"]
    result = replan(data, "x.pte", make_options("bytes"))
    assert result.report.total.status == "OPTIMAL"
    assert replan(result.data, "x.pte", make_options("bytes")).data == result.data
