"""Programs with fields of a newer schema, planned again: nothing of these is lost."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import pytest

from planner.errors import InputError, NoRepresentationError
from planner.executorch.readback import decode_as_executorch
from planner.files.lowered import delegates_of, graph_of
from planner.options import make_options
from planner.pipelines.lowered import replan
from planner.vkgraph.reader import read_vkgraph, without_representations
from planner.vkgraph.targets import target_of
from schema import (
    VkDataType,
    VkGraph,
    VkMemoryLayout,
    VkTensor,
    join_delegate,
    split_delegate,
    vkgraph,
)
from schema.executorch_program import replace_blobs
from schema.generate import flatc
from schema.vkgraph import Int, Null, OperatorCall
from tests.planner.programs import PROGRAMS, greedy

OPTIONS = make_options("bytes")
ADDED = "  added:uint;\n  note:string;\n  numbers:[ulong];\n  more:Extra;\n  extras:[Extra];\n"
EXTRA = "table Extra { id:ushort; scale:double; note:string; inner:Extra; }\n"

Document = dict[str, Any]


class Newer:
    """A newer schema, in which every table has more fields, and FlatBuffers' compiler for it."""

    def __init__(self, folder: Path) -> None:
        text = Path(vkgraph.__file__).with_name("vkgraph.fbs").read_text()
        text = re.sub(r"(?m)^(table \w+ \{(?:[^}]*\n)?)\}", rf"\1{ADDED}}}", text)
        self.folder, self.schema = folder, folder / "newer.fbs"
        self.schema.write_text(text.replace("table OperatorCall", f"{EXTRA}\ntable OperatorCall"))

    def read(self, data: bytes) -> Document:
        """A graph as the newer schema sees it."""
        (self.folder / "graph.bin").write_bytes(data)
        self._compile("--json", "--strict-json", "--raw-binary", self.schema, "--", "graph.bin")
        text = (self.folder / "graph.json").read_text()
        text = re.sub(r"(?<=[:\s\[-])inf(?=[,\s\]}])", "Infinity", text)
        document: Document = json.loads(text)
        return document

    def write(self, document: Document) -> bytes:
        """The graph's bytes, without fields that have their default, as the compiler writes."""
        text = json.dumps(document).replace("Infinity", "inf")
        (self.folder / "graph.json").write_text(text)
        self._compile("--binary", self.schema, "graph.json")
        return (self.folder / "graph.bin").read_bytes()

    def _compile(self, *arguments: str | Path) -> None:
        command = [str(flatc()), *map(str, arguments)]
        subprocess.run(command, check=True, cwd=self.folder, capture_output=True)


@pytest.fixture
def newer(tmp_path: Path) -> Newer:
    return Newer(tmp_path)


def first_graph() -> bytes:
    """A graph with transitions that can be left out."""
    return graph_of(next(iter(delegates_of(greedy("mixed"), "x").values())))


KINDS = frozenset(
    ["VkGraph", "OperatorCall", "VkValue", "VkTensor", "VkBytes", "Null", "IntList", "ValueList"]
)
NAMES = ("added", "note", "numbers", "more", "extras")


def tables(document: Document) -> Iterator[tuple[str, Document]]:
    """All tables of a graph, with the names of their kinds."""
    yield "VkGraph", document
    for call in document.get("chain", ()):
        yield "OperatorCall", call
    for value in document.get("values", ()):
        yield "VkValue", value
        yield value["value_type"], value["value"]
    for constant in document.get("constants", ()):
        yield "VkBytes", constant


def extended(
    document: Document, kinds: Iterable[str] = KINDS, share: float = 1, seed: int = 0
) -> Document:
    """Adds fields to a share of the tables of these kinds, no two the same."""
    random, document = Random(seed), deepcopy(document)
    for index, (kind, table) in enumerate(tables(document)):
        if kind not in kinds or (index and random.random() >= share):
            continue
        extra = {"id": index, "scale": index / 8, "note": f"extra {index}"}
        fields = {
            "added": index + 1,
            "note": f"größe {index}",
            "numbers": [index, 2**40 + index, 4, 8],
            "more": {**extra, "inner": {"id": 7, "note": f"inner {index}"}},
            "extras": [extra, {"note": "last"}],
        }
        names = [name for name in NAMES if random.random() < 0.6] or ["added"]
        table.update({name: fields[name] for name in names})
    return document


def added(table: Document) -> Document:
    return {name: table[name] for name in NAMES if name in table}


def surviving(newer: Newer, data: bytes) -> tuple[Any, ...]:
    """The added fields of all tables but those of transitions."""
    document, source = newer.read(data), read_vkgraph(vkgraph.decode(data))
    return (
        added(document),
        [added(document["chain"][position]) for position in source.positions],
        [
            (added(value), added(value["value"]))
            for index, value in enumerate(document["values"])
            if index not in source.dropped
        ],
        [added(constant) for constant in document.get("constants", ())],
    )


def check(newer: Newer, data: bytes) -> bytes:
    """Plans a graph again: what was added stays, and all else becomes what it would without."""
    assert vkgraph.has_unknown_fields(data)
    plain = replan(vkgraph.encode(vkgraph.decode(data)), "x", OPTIONS).data
    result = replan(data, "x", OPTIONS).data
    assert vkgraph.decode(result) == vkgraph.decode(plain)
    assert surviving(newer, result) == surviving(newer, data)
    assert replan(result, "x", OPTIONS).data == result
    assert decode_as_executorch(join_delegate(result)) == decode_as_executorch(join_delegate(plain))
    return result


def test_fields_of_a_newer_schema_go_to_webgpu_and_back(newer: Newer) -> None:
    data = newer.write(extended(newer.read(first_graph()), sorted(KINDS), 1))
    planned = replan(data, "x", make_options("bytes", target="webgpu")).data
    assert target_of(vkgraph.decode(planned)) == "webgpu"
    assert surviving(newer, planned) == surviving(newer, data)
    back = replan(planned, "x", make_options("bytes", target="vulkan")).data
    assert vkgraph.decode(back).version == vkgraph.decode(data).version
    assert surviving(newer, back) == surviving(newer, data)


@pytest.mark.parametrize("share", [1, 0.3])
@pytest.mark.parametrize(
    "kinds", [*([kind] for kind in sorted(KINDS)), sorted(KINDS)], ids="-".join
)
def test_fields_of_a_newer_schema_are_kept(newer: Newer, kinds: list[str], share: float) -> None:
    data = newer.write(extended(newer.read(first_graph()), kinds, share))
    # Fewer transitions need no second copy.
    assert len(check(newer, data)) < 1.5 * len(data)


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_keep_them(newer: Newer, name: str) -> None:
    for blob in delegates_of(greedy(name), name).values():
        check(newer, newer.write(extended(newer.read(graph_of(blob)), share=0.5)))


@pytest.mark.parametrize("share", [1, 0.3])
@pytest.mark.parametrize("clear", [lambda graph: graph, without_representations])
def test_they_are_kept_where_a_graph_grows(newer: Newer, clear: Any, share: float) -> None:
    """Without its transitions, a graph needs more operators and values than it has."""
    graph = clear(read_vkgraph(vkgraph.decode(first_graph())).written)
    data = newer.write(extended(newer.read(vkgraph.encode(graph)), share=share))
    result = check(newer, data)
    assert len(vkgraph.decode(result).chain) > len(graph.chain)
    assert len(data) < len(result) < 2.5 * len(data)


def test_a_transition_that_stays_keeps_them(newer: Newer) -> None:
    optimal = replan(first_graph(), "x", OPTIONS).data
    document = extended(newer.read(optimal))
    source = read_vkgraph(vkgraph.decode(optimal))
    assert source.transitions
    copied = {source.tensors[t.tensor] for t in source.transitions}
    # One tensor that has no copies is not as it should be.
    wrong = next(
        document["values"][index]["value"]
        for index, have in zip(source.tensors, source.made, strict=True)
        if have is not None and index not in copied
    )
    wrong["memory_layout"] = (VkMemoryLayout[wrong["memory_layout"]] + 1) % 3
    data = newer.write(document)
    before, after = newer.read(data), newer.read(check(newer, data))
    assert len(after["chain"]) == len(before["chain"])
    for (_, old), (_, new) in zip(tables(before), tables(after), strict=True):
        assert added(new) == added(old)


def test_a_program_keeps_them(newer: Newer) -> None:
    program = greedy("embedded")
    blobs = {
        key: join_delegate(newer.write(extended(newer.read(graph_of(blob)))), b"constants")
        for key, blob in delegates_of(program, "x").items()
        if key is not None
    }
    data = replace_blobs(program, blobs)
    result = replan(data, "x.pte", OPTIONS).pte()
    after = delegates_of(result, "x")
    assert result != data
    for key, blob in blobs.items():
        assert split_delegate(after[key]).constants == b"constants"
        assert surviving(newer, graph_of(after[key])) == surviving(newer, graph_of(blob))


def test_altered_bytes_are_planned_or_refused(newer: Newer) -> None:
    tensor = VkTensor(VkDataType.FLOAT32, (1, 8, 4, 4))
    values = (tensor, tensor, Null(), tensor, tensor)
    chain = (
        OperatorCall(0, "aten.avg_pool2d.default", (0, 1)),
        OperatorCall(1, "aten.clone.default", (1, 2, 3)),
        OperatorCall(2, "aten.linear.default", (3, 4)),
    )
    file = vkgraph.encode(VkGraph("0", chain, values, (0,), (4,)))
    data = newer.write(extended(newer.read(file)))
    planned, random = 0, Random(0)
    for _ in range(1500):
        altered = bytearray(data)
        altered[random.randrange(len(data))] = random.choice([0, 4, 8, random.randrange(256)])
        try:
            replan(bytes(altered), "x", OPTIONS)
            planned += 1
        except (InputError, NoRepresentationError):
            pass
    assert planned > 100


def test_a_graph_that_is_optimal_stays_as_it_is(newer: Newer) -> None:
    optimal = replan(first_graph(), "x", OPTIONS).data
    data = newer.write(extended(newer.read(optimal)))
    assert replan(data, "x", OPTIONS).data == data


def test_a_field_without_room_is_named(newer: Newer) -> None:
    """Tensors without numbers have no room to name what they have left out."""
    tensor = VkTensor(VkDataType.FLOAT32, ())
    call = OperatorCall(0, "aten.add.Tensor", (0, 0, 2, 1))
    file = VkGraph("0", (call,), (tensor, tensor, Int(1)), (0,), (1,))
    document = newer.read(vkgraph.encode(file))
    for value in document["values"][:2]:
        del value["value"]["dims"]
        value["value"]["added"] = 3
    with pytest.raises(
        InputError,
        match=r"^delegate 0 has fields that this release does not know and would lose "
        r"\(values\[0\]\.value\.storage_type: its table left it out and has no room for it\): ",
    ):
        replan(newer.write(document), "x", OPTIONS)
