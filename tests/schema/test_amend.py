"""A small schema and a newer one of it: what the older one writes, the newer one finds whole."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schema import SchemaError, VkGraph, VkTensor, vkgraph
from schema.amend import amend
from schema.flatbuffer import Layout, Reader, Shape, Writer
from schema.tables import Numbers, OneOf, Scalar, Table, Tables, Text
from tests.schema.strategies import graphs, sample_graph

IDENTIFIER = b"TEST"


@dataclass(frozen=True)
class Note:
    text: str
    number: int


@dataclass(frozen=True)
class Leaf:
    number: int
    items: tuple[int, ...]


@dataclass(frozen=True)
class NewLeaf(Leaf):
    flag: int = 0
    text: str = ""
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class Tree:
    title: str
    leaves: tuple[Leaf, ...]
    boxes: tuple[Leaf, ...]
    count: int


@dataclass(frozen=True)
class NewTree(Tree):
    scale: float = 0
    notes: tuple[Note, ...] = ()


NOTE = Table("Note", Note, {"text": Text(), "number": Scalar("q")})
NOTES = Tables(NOTE)
LEAF = Table("Leaf", Leaf, {"number": Scalar("i"), "items": Numbers("h")})
ADDED: dict[str, Any] = {"flag": Scalar("B"), "text": Text(), "notes": NOTES}
NEW_LEAF = Table("Leaf", NewLeaf, {**LEAF.fields, **ADDED})


class EitherLeaf(Table[NewLeaf]):
    """Writes a leaf as the older schema does where it has nothing that is new."""

    def write(self, writer: Writer, value: NewLeaf) -> int:
        if (value.flag, value.text, value.notes) == (0, "", ()):
            return LEAF.write(writer, value)
        return super().write(writer, value)


EITHER_LEAF = EitherLeaf("Leaf", NewLeaf, NEW_LEAF.fields)


def fields(leaf: Table[Any]) -> dict[str, Any]:
    boxes = Tables(OneOf("Box", "value", [leaf]))
    return {"title": Text(), "leaves": Tables(leaf), "boxes": boxes, "count": Scalar("H")}


TREE = Table("Tree", Tree, fields(LEAF))
NEW_TREE = Table(
    "Tree", NewTree, {**fields(EITHER_LEAF), "scale": Scalar("d", 0.0), "notes": NOTES}
)


def write(value: NewTree) -> bytes:
    writer = Writer(IDENTIFIER)
    return writer.finish(NEW_TREE.write(writer, value))


class StrictReader(Reader):
    """Sees to it that every number is aligned."""

    def layout(self, shape: Shape, position: int) -> Layout:
        layout = super().layout(shape, position)
        for offset, slot_format in zip(layout.offsets, shape.formats, strict=True):
            assert offset == 0 or (position + offset) % struct.calcsize(slot_format) == 0
        return layout


def read(table: Table[Any], data: bytes, strict: bool = True) -> Any:
    reader = StrictReader(data) if strict else Reader(data)
    return table.read(reader, reader.root(IDENTIFIER))


NUMBERS = st.integers(-5, 40)
TUPLE = st.lists(NUMBERS, max_size=4).map(tuple)
SOME_NOTES = st.lists(st.builds(Note, st.text(max_size=5), NUMBERS), max_size=2).map(tuple)
LEAVES = st.lists(
    st.builds(Leaf, NUMBERS, TUPLE).map(lambda leaf: NewLeaf(leaf.number, leaf.items))
    | st.builds(NewLeaf, NUMBERS, TUPLE, st.integers(0, 255), st.text(max_size=5), SOME_NOTES),
    max_size=6,
).map(tuple)
TREES = st.builds(
    NewTree, st.text(max_size=9), LEAVES, LEAVES, st.integers(0, 9), st.floats(0, 1), SOME_NOTES
)


@st.composite
def changes(draw: st.DrawFn, old: tuple[Any, ...]) -> tuple[list[int | None], tuple[NewLeaf, ...]]:
    """Where the items of a new vector come from, and what a newer reader is to find."""
    kept = draw(st.lists(st.sampled_from(range(len(old))), unique=True)) if old else []
    origins = draw(st.permutations([*kept, *[None] * draw(st.integers(0, 4))]))
    found = []
    for origin in origins:
        have = NewLeaf(0, ()) if origin is None else old[origin]
        if origin is None or draw(st.booleans()):
            have = replace(have, number=draw(NUMBERS), items=draw(TUPLE))
        found.append(have)
    return origins, tuple(found)


def older(leaves: tuple[NewLeaf, ...]) -> tuple[Leaf, ...]:
    return tuple(Leaf(leaf.number, leaf.items) for leaf in leaves)


@pytest.mark.slow
@given(TREES, st.data())
@settings(max_examples=300)
def test_a_newer_reader_finds_what_it_had(old: NewTree, data: st.DataObject) -> None:
    buffer = write(old)
    for _ in range(3):
        leaves, new_leaves = data.draw(changes(old.leaves))
        boxes, new_boxes = data.draw(changes(old.boxes))
        title = data.draw(st.sampled_from([old.title, "another title"]))
        wanted = replace(old, title=title, leaves=new_leaves, boxes=new_boxes, count=old.count + 1)
        value = Tree(title, older(new_leaves), older(new_boxes), wanted.count)
        before = buffer
        buffer = amend(before, IDENTIFIER, TREE, value, {"leaves": leaves, "boxes": boxes})
        assert read(TREE, buffer) == value
        assert read(NEW_TREE, buffer) == wanted
        assert len(buffer) < 2 * len(before) + 1000
        old = wanted


@given(TREES)
def test_nothing_changes_where_nothing_is_to(old: NewTree) -> None:
    buffer = write(old)
    origins = {"leaves": range(len(old.leaves)), "boxes": range(len(old.boxes))}
    assert amend(buffer, IDENTIFIER, TREE, read(TREE, buffer), origins) == buffer


SAMPLE = NewTree(
    "t",
    (NewLeaf(1, (2, 3), 4, "x"), NewLeaf(5, ())),
    (NewLeaf(6, (7,), 8),),
    9,
    0.5,
    (Note("n", 1),),
)


def test_items_that_share_a_table_cannot_differ() -> None:
    value = Tree("t", (Leaf(2, ()), Leaf(3, ())), (), 9)
    with pytest.raises(SchemaError, match=r"^leaves\[1\]: it shares its table with another one"):
        amend(write(SAMPLE), IDENTIFIER, TREE, value, {"leaves": (0, 0), "boxes": ()})


def test_an_item_stays_of_its_kind() -> None:
    other = Table("Other", Note, NOTE.fields)
    either = Tables(OneOf("Box", "value", [LEAF, other]))
    table = Table("Tree", Tree, {**TREE.fields, "boxes": either})
    value: Any = replace(read(TREE, write(SAMPLE)), boxes=(Note("", 3),))
    origins = {"leaves": (0, 1), "boxes": (0,)}
    with pytest.raises(SchemaError, match=r"^boxes\[0\]\.value: it cannot change to another kind"):
        amend(write(SAMPLE), IDENTIFIER, table, value, origins)


def test_items_of_equal_value_stay_who_they_are() -> None:
    first, second = NewLeaf(1, (), 1), NewLeaf(1, (), 2)
    data = write(replace(SAMPLE, leaves=(first, second)))
    value = read(TREE, data)
    result = amend(data, IDENTIFIER, TREE, value, {"leaves": (1, 0), "boxes": (0,)})
    assert read(NEW_TREE, result) == replace(SAMPLE, leaves=(second, first))


def bend(data: bytes, at: int, target: int) -> bytes:
    """Makes the offset at `at` lead to `target`."""
    return data[:at] + struct.pack("<I", target - at) + data[at + 4 :]


def follow(data: bytes, at: int) -> int:
    return at + int(struct.unpack_from("<I", data, at)[0])


def slots(data: bytes, table: Table[Any], position: int) -> list[int]:
    """Where the fields of the table at `position` are."""
    return [position + offset for offset in Reader(data).layout(table, position).offsets]


@dataclass(frozen=True)
class Two:
    first: tuple[Any, ...]
    second: tuple[Any, ...]


def test_a_vector_that_an_unknown_field_may_need_stays() -> None:
    both = Table("Two", Two, {"first": Tables(NEW_LEAF), "second": Tables(NEW_LEAF)})
    leaves = (NewLeaf(1, (), 1), NewLeaf(2, (), 2))
    writer = Writer(IDENTIFIER)
    data = writer.finish(both.write(writer, Two(leaves, ())))
    first, second = slots(data, both, follow(data, 0))
    data = bend(data, second, follow(data, first))
    only: Table[Any] = Table("Two", lambda first: Two(first, ()), {"first": Tables(LEAF)})
    result = amend(data, IDENTIFIER, only, Two((Leaf(5, ()),), ()), {"first": (0,)})
    assert read(both, result) == Two((NewLeaf(5, (), 1),), leaves)


def test_tables_that_overlap_are_refused() -> None:
    """A box that stays holds the leaf that is to change."""
    known = {"first": TREE.fields["boxes"], "second": TREE.fields["leaves"]}
    newer = {"first": NEW_TREE.fields["boxes"], "second": NEW_TREE.fields["leaves"]}
    table = Table("Two", Two, newer)
    writer = Writer(IDENTIFIER)
    data = writer.finish(table.write(writer, Two((NewLeaf(1, (), 1),), (NewLeaf(2, (), 2),))))
    first, second = (follow(data, at) for at in slots(data, table, follow(data, 0)))
    data = bend(data, follow(data, first + 4) + 4, follow(data, second + 4))
    value = Two((Leaf(2, ()),), (Leaf(3, ()),))
    with pytest.raises(SchemaError, match=r"^tables that should differ overlap$"):
        amend(data, IDENTIFIER, Table("Two", Two, known), value, {"first": (0,), "second": (0,)})


def test_a_table_inside_of_its_vector_stays_there_or_is_refused() -> None:
    """An offset of the vector is a table, too: it finds its vtable in the title."""
    old = Tree("\x04\0\x04\0" * 50, tuple(Leaf(i, (i,)) for i in range(1, 4)), (), 0)
    writer = Writer(IDENTIFIER)
    data = writer.finish(TREE.write(writer, old))
    vector = follow(data, slots(data, TREE, follow(data, 0))[1])
    data = bend(data, vector + 4, vector + 8)
    leaves = (Leaf(0, ()), *old.leaves[1:])
    assert read(TREE, data).leaves == leaves
    try_tree(data)
    value = replace(old, leaves=(*leaves[1:], leaves[0]))
    with pytest.raises(SchemaError, match=r"^leaves\[2\]: its table lies inside the vector"):
        amend(data, IDENTIFIER, TREE, value, {"leaves": (1, 2, 0), "boxes": ()})


@dataclass(frozen=True)
class Numbered:
    text: str
    items: tuple[int, ...]
    small: int = 0
    wide: int = 0


NUMBERED = Table(
    "Numbered",
    Numbered,
    {"text": Text(), "items": Numbers("h"), "small": Scalar("B"), "wide": Scalar("q")},
)


def without_numbers(data: bytes) -> bytes:
    """A table that leaves its numbers out."""
    root = follow(data, 0)
    numbers = root - int(struct.unpack_from("<i", data, root)[0]) + 8
    return data[:numbers] + bytes(4) + data[numbers + 4 :]


def numbered(value: Numbered) -> bytes:
    writer = Writer(IDENTIFIER)
    return without_numbers(writer.finish(NUMBERED.write(writer, value)))


def test_fields_that_were_left_out_take_the_room_of_numbers_that_move() -> None:
    value = Numbered("text", (1, 2, 3, 4, 5, 6), 7, 2**40)
    data = numbered(replace(value, small=0, wide=0))
    result = amend(data, IDENTIFIER, NUMBERED, value, {})
    assert read(NUMBERED, result) == value
    assert result.startswith(data[:8])


@pytest.mark.parametrize(
    "value", [Numbered("", ()), Numbered("", (1, 2)), Numbered("x" * 70_000, (1,) * 20)]
)
def test_numbers_may_have_too_little_room_or_be_too_far(value: Numbered) -> None:
    with pytest.raises(SchemaError, match=r"^wide: its table left it out and has no room for it$"):
        amend(numbered(value), IDENTIFIER, NUMBERED, replace(value, wide=1), {})


def test_numbers_that_an_unknown_field_may_need_stay() -> None:
    value = Numbered("text", (2, 0x4142, 0, 0, 0, 0), 0, 9)
    table = Table("Numbered", Numbered, {**NUMBERED.fields, "other": Text()})
    table.row = lambda value: (value.text, value.items, 0, 0, "other")
    writer = Writer(IDENTIFIER)
    data = writer.finish(table.write(writer, value))
    at = slots(data, table, follow(data, 0))
    apart, shared = without_numbers(data), without_numbers(bend(data, at[4], follow(data, at[1])))
    assert read(NUMBERED, amend(apart, IDENTIFIER, NUMBERED, value, {})) == value
    with pytest.raises(SchemaError, match=r"^wide: its table left it out and has no room for it$"):
        amend(shared, IDENTIFIER, NUMBERED, value, {})


@given(graphs(), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_graphs_hold_what_is_written(graph: VkGraph, random: Random) -> None:
    data = vkgraph.encode(graph)
    new, chain, values = changed(graph, random)
    assert vkgraph.decode(vkgraph.amend(data, new, chain, values)) == new


def changed(graph: VkGraph, random: Random) -> tuple[VkGraph, list[int | None], list[int | None]]:
    """The graph with other memory objects, one more value, and operators in another order."""
    values = [
        replace(v, mem_obj_id=random.randrange(9)) if isinstance(v, VkTensor) else v
        for v in graph.values
    ]
    order = random.sample(range(len(graph.chain)), len(graph.chain))
    call = vkgraph.OperatorCall(1, "new", (len(values),))
    chain = (*(graph.chain[i] for i in order), call)
    new = replace(graph, chain=chain, values=(*values, vkgraph.Null()))
    return new, [*order, None], [*range(len(values)), None]


def try_graph(data: bytes, random: Random) -> None:
    try:
        graph = vkgraph.decode(data)
    except SchemaError:
        return
    new, chain, values = changed(graph, random)
    try:
        result = vkgraph.amend(data, new, chain, values)
    except SchemaError:
        return
    assert vkgraph.encode(vkgraph.decode(result)) == vkgraph.encode(new)
    assert len(result) < 2 * len(data) + len(vkgraph.encode(new)) + 10_000
    # What came out can be written into again.
    vkgraph.amend(result, new, range(len(chain)), range(len(values)))


def try_tree(data: bytes) -> None:
    try:
        old = read(TREE, data, strict=False)
    except SchemaError:
        return
    grown = (*(replace(leaf, items=(5,)) for leaf in old.leaves), Leaf(3, ()))
    value = replace(old, title="", leaves=grown)
    origins = {"leaves": [*range(len(old.leaves)), None], "boxes": range(len(old.boxes))}
    try:
        result = amend(data, IDENTIFIER, TREE, value, origins)
    except SchemaError:
        return
    assert read(TREE, result, strict=False) == value


@pytest.mark.slow
def test_altered_trees_are_written_into_or_refused() -> None:
    whole = write(SAMPLE)
    for at in range(len(whole)):
        for value in (*(whole[at] ^ (1 << bit) for bit in range(8)), 0, 4, 255):
            data = bytearray(whole)
            data[at] = value
            try_tree(bytes(data))


@pytest.mark.slow
def test_altered_graphs_are_written_into_or_refused() -> None:
    whole = vkgraph.encode(sample_graph())
    random = Random(1)
    for at in range(len(whole)):
        for value in (whole[at] ^ (1 << random.randrange(8)), random.randrange(256), 0, 4):
            data = bytearray(whole)
            data[at] = value
            try_graph(bytes(data), random)
