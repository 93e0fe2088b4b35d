"""The graph that the Vulkan delegate runs: ``vkgraph.fbs`` as Python classes.

``decode`` trusts nothing. In what it returns, every id exists, and every number of an enumeration
is one of its members.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from enum import IntEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple, overload

from schema.amend import amend as amend_table
from schema.error import SchemaError
from schema.flatbuffer import Reader, Writer
from schema.frozen import frozen
from schema.tables import Enumeration, Numbers, OneOf, Scalar, Table, Tables, Text

if TYPE_CHECKING:
    from typing import Any, TypeAlias

    import numpy as np
    from numpy.typing import NDArray

    from schema.columns import Positions

    Integers: TypeAlias = NDArray[np.integer[Any]]

FILE_IDENTIFIER = b"VK00"


class VkDataType(IntEnum):
    """The type of a tensor's elements."""

    __hash__ = int.__hash__

    BOOL = 0
    UINT8 = 1
    INT8 = 2
    INT32 = 3
    FLOAT16 = 4
    FLOAT32 = 5
    FLOAT64 = 6
    INT64 = 7
    UNSET = 127


class VkStorageType(IntEnum):
    """The kind of GPU resource behind a tensor."""

    __hash__ = int.__hash__

    BUFFER = 0
    TEXTURE_3D = 1
    TEXTURE_2D = 2
    DEFAULT_STORAGE = 255


class VkMemoryLayout(IntEnum):
    """The order of a tensor's elements inside its resource."""

    __hash__ = int.__hash__

    TENSOR_WIDTH_PACKED = 0
    TENSOR_HEIGHT_PACKED = 1
    TENSOR_CHANNELS_PACKED = 2
    PACKED_INT8_4W4C = 3
    PACKED_INT8_4H4W = 4
    PACKED_INT8_4W = 5
    PACKED_INT8_4C = 6
    PACKED_INT8_4C1W = 8
    PACKED_INT8_CONV2D = 9
    DEFAULT_LAYOUT = 255


class OperatorCall(NamedTuple):
    """One operator call; ``args`` are value ids, the output last."""

    node_id: int
    name: str
    args: tuple[int, ...]


_CHUNK: Final = 1 << 12
"""So many calls are made of columns at a time."""


class Calls(Sequence[OperatorCall]):
    """Operator calls as columns, each made when it is asked for: an object for each and one for
    each of its arguments take ten times the memory.

    Call ``i`` has the name ``names[name[i]]``, and the arguments from ``args[starts[i]]`` up to
    ``args[starts[i + 1]]``. Arrays are of 64-bit numbers, ``name`` of 32-bit ones.
    """

    __slots__ = ("args", "name", "names", "node_ids", "starts")

    def __init__(
        self,
        names: Sequence[str],
        name: array[int],
        node_ids: array[int],
        args: array[int],
        starts: array[int],
    ) -> None:
        self.names, self.name = names, name
        self.node_ids, self.args, self.starts = node_ids, args, starts

    @classmethod
    def of(cls, calls: Iterable[tuple[int, str, Sequence[int]]]) -> Calls:
        """These calls."""
        known: dict[str, int] = {}
        name, node_ids, args, starts = array("i"), array("q"), array("q"), array("q", [0])
        for node_id, called, given in calls:
            name.append(known.setdefault(called, len(known)))
            node_ids.append(node_id)
            args.extend(given)
            starts.append(len(args))
        return cls(tuple(known), name, node_ids, args, starts)

    @classmethod
    def of_arrays(
        cls,
        names: Sequence[str],
        name: Integers,
        node_ids: Integers,
        args: Integers,
        counts: Integers,
    ) -> Calls:
        """The calls with these columns; ``counts`` are the numbers of arguments."""
        columns = (column.astype("q").tobytes() for column in (node_ids, args, counts.cumsum()))
        nodes, given, ends = (array("q", column) for column in columns)
        return cls(
            names, array("i", name.astype("i").tobytes()), nodes, given, array("q", [0]) + ends
        )

    def rows(self) -> Iterator[tuple[int, str, tuple[int, ...]]]:
        """The node id, the name and the arguments of each call."""
        for at in range(0, len(self), _CHUNK):
            end = at + _CHUNK
            starts = self.starts[at : end + 1]
            first = starts[0]
            args = tuple(self.args[first : starts[-1]])
            yield from zip(
                self.node_ids[at:end],
                [self.names[number] for number in self.name[at:end]],
                [args[start - first : stop - first] for start, stop in pairwise(starts)],
                strict=True,
            )

    def __len__(self) -> int:
        return len(self.name)

    @overload
    def __getitem__(self, at: int) -> OperatorCall: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[OperatorCall]: ...
    def __getitem__(self, at: int | slice) -> OperatorCall | Sequence[OperatorCall]:
        if isinstance(at, slice):
            return tuple([self[i] for i in range(len(self))[at]])
        at = range(len(self))[at]
        args = tuple(self.args[self.starts[at] : self.starts[at + 1]])
        return OperatorCall(self.node_ids[at], self.names[self.name[at]], args)

    def __iter__(self) -> Iterator[OperatorCall]:
        return map(OperatorCall._make, self.rows())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


@frozen
class VkTensor:
    """A tensor.

    ``dims`` has the outermost dimension first. A negative ``constant_id`` or ``mem_obj_id`` stands
    for none.
    """

    datatype: VkDataType
    dims: tuple[int, ...]
    constant_id: int = -1
    mem_obj_id: int = -1
    storage_type: VkStorageType = VkStorageType.DEFAULT_STORAGE
    memory_layout: VkMemoryLayout = VkMemoryLayout.DEFAULT_LAYOUT
    staging_datatype: VkDataType = VkDataType.UNSET


@frozen
class Null:
    """An argument that is not given."""


@frozen
class Int:
    """A 64-bit signed integer."""

    int_val: int


@frozen
class Bool:
    """A truth value."""

    bool_val: bool


@frozen
class Double:
    """A 64-bit float."""

    double_val: float


@frozen
class IntList:
    """64-bit signed integers."""

    items: tuple[int, ...]


@frozen
class DoubleList:
    """64-bit floats."""

    items: tuple[float, ...]


@frozen
class BoolList:
    """Truth values."""

    items: tuple[bool, ...]


@frozen
class ValueList:
    """Other values, by id."""

    items: tuple[int, ...]


@frozen
class String:
    """A string."""

    string_val: str


@frozen
class SymInt:
    """An integer that is known only when the graph runs; ``value`` is its initial value."""

    value: int


Value = (
    Null
    | Int
    | Double
    | Bool
    | VkTensor
    | IntList
    | DoubleList
    | BoolList
    | ValueList
    | String
    | SymInt
)


@frozen
class VkBytes:
    """A range of the delegate's constant bytes, or at offset ``NAMED_DATA`` the data of a key."""

    offset: int
    length: int
    named_key: str = ""


NAMED_DATA = 2**64 - 1


@frozen
class VkGraph:
    """A delegate's graph; the index of a value is its id."""

    version: str
    chain: Sequence[OperatorCall]
    values: tuple[Value, ...]
    input_ids: tuple[int, ...]
    output_ids: tuple[int, ...]
    constants: tuple[VkBytes, ...] = ()
    shaders: tuple[VkBytes, ...] = ()
    storage_type_override: VkStorageType = VkStorageType.DEFAULT_STORAGE
    memory_layout_override: VkMemoryLayout = VkMemoryLayout.DEFAULT_LAYOUT

    @property
    def calls(self) -> Calls:
        """The chain as columns."""
        return self.chain if isinstance(self.chain, Calls) else Calls.of(self.chain)


_STORAGE = Enumeration("B", VkStorageType, VkStorageType.DEFAULT_STORAGE)
_LAYOUT = Enumeration("B", VkMemoryLayout, VkMemoryLayout.DEFAULT_LAYOUT)

OPERATOR_CALL = Table(
    "OperatorCall",
    OperatorCall,
    {"node_id": Scalar("I"), "name": Text(), "args": Numbers("i")},
)
VK_TENSOR = Table(
    "VkTensor",
    VkTensor,
    {
        "datatype": Enumeration("b", VkDataType, VkDataType.BOOL),
        "dims": Numbers("I"),
        "constant_id": Scalar("i"),
        "mem_obj_id": Scalar("i"),
        "storage_type": _STORAGE,
        "memory_layout": _LAYOUT,
        "staging_datatype": Enumeration("b", VkDataType, VkDataType.UNSET),
    },
)
VK_VALUE = OneOf(
    "VkValue",
    "value",
    [
        Table("Null", Null, {}),
        Table("Int", Int, {"int_val": Scalar("q")}),
        Table("Double", Double, {"double_val": Scalar("d", 0.0)}),
        Table("Bool", Bool, {"bool_val": Scalar("?", False)}),
        VK_TENSOR,
        Table("IntList", IntList, {"items": Numbers("q")}),
        Table("DoubleList", DoubleList, {"items": Numbers("d")}),
        Table("BoolList", BoolList, {"items": Numbers("?")}),
        Table("ValueList", ValueList, {"items": Numbers("i")}),
        Table("String", String, {"string_val": Text()}),
        Table("SymInt", SymInt, {"value": Scalar("i")}),
    ],
)
VK_BYTES = Table(
    "VkBytes",
    VkBytes,
    {"offset": Scalar("Q"), "length": Scalar("Q"), "named_key": Text()},
)


class _Chain(Tables):
    """The calls of a graph."""

    def read_columns(self, reader: Reader, parts: Iterable[Positions]) -> Calls:
        """The calls at many positions, without the place in errors."""
        return Calls.of(row for part in parts for row in OPERATOR_CALL.rows(reader, part))

    def write(self, writer: Writer, value: Sequence[OperatorCall]) -> int:
        """Appends the calls, as ``Tables`` does; returns the position of their vector."""
        if isinstance(value, Calls) and value:
            with suppress(struct.error, UnicodeEncodeError):
                return _write_calls(writer, value)
        # What cannot be written is found again one by one, with its place.
        return super().write(writer, value)


def _write_calls(writer: Writer, calls: Calls) -> int:
    texts: dict[str, bytes] = {}
    packs: dict[tuple[int, int], Callable[..., bytes]] = {}
    position = at = writer.offsets(len(calls))
    vtable = writer.vtable(OPERATOR_CALL)
    # A call is its table, its name and its arguments, each of whole words.
    start = writer.align(0, 4)
    for node_id, name, args in calls.rows():
        text = texts.get(name)
        if text is None:
            encoded = name.encode()
            words = len(encoded) // 4 + 1
            text = texts[name] = struct.pack(f"<I{4 * words}s", len(encoded), encoded)
        size, count = len(text), len(args)
        pack = packs.get((size, count))
        if pack is None:
            pack = packs[size, count] = struct.Struct(f"<iIII{size}sI{count}i").pack
        at += 4
        writer.point(at, start)
        writer.out += pack(start - vtable, node_id, 8, 4 + size, text, count, *args)
        start += 20 + size + 4 * count
    return position


VK_GRAPH = Table(
    "VkGraph",
    VkGraph,
    {
        "version": Text(),
        "chain": _Chain(OPERATOR_CALL),
        "values": Tables(VK_VALUE),
        "input_ids": Numbers("I"),
        "output_ids": Numbers("I"),
        "constants": Tables(VK_BYTES),
        "shaders": Tables(VK_BYTES),
        "storage_type_override": _STORAGE,
        "memory_layout_override": _LAYOUT,
    },
)


def decode(data: bytes | bytearray | memoryview) -> VkGraph:
    """Reads a graph; raises ``SchemaError`` for bytes that are not one.

    A value without a type is an error: the runtime cannot use it. A missing string or list reads
    as an empty one.
    """
    return read(data)[0]


def read(data: bytes | bytearray | memoryview) -> tuple[VkGraph, bool]:
    """A graph, and whether it has fields of a newer schema, which are not read.

    Raises ``SchemaError`` as ``decode`` does.
    """
    reader = Reader(data)
    graph = VK_GRAPH.read(reader, reader.root(FILE_IDENTIFIER))
    # Few calls are read as they are.
    graph = replace(graph, chain=graph.calls)
    _check_ids(graph)
    return graph, reader.has_unknown_fields


def encode(graph: VkGraph) -> bytes:
    """Writes a graph: equal graphs make equal bytes.

    Raises ``SchemaError`` for an id that does not exist, and for a number or string that the
    format cannot hold.
    """
    _check_ids(graph)
    writer = Writer(FILE_IDENTIFIER)
    return writer.finish(VK_GRAPH.write(writer, graph))


def amend(
    data: bytes, graph: VkGraph, chain: Sequence[int | None], values: Sequence[int | None]
) -> bytes:
    """Writes a graph into the bytes of another one, and keeps their fields of a newer schema.

    ``chain`` has, for each operator of ``graph``, the index of the same operator in ``data``, or
    None for a new one; ``values`` has the same for values. Unknown fields stay as they are in the
    graph itself and in operators and values that stay; those of removed ones are lost.

    The bytes grow by what changes; and once by their own length, if ``graph`` has more operators or
    values than they have and one of these has such fields. Raises ``SchemaError`` as ``decode`` and
    ``encode`` do; and, with the place, where a table has no room for a field that it left out, or
    where tables are shared or overlap so that they cannot differ.
    """
    _check_ids(graph)
    origins = {"chain": chain, "values": values}
    return amend_table(data, FILE_IDENTIFIER, VK_GRAPH, graph, origins)


def has_unknown_fields(data: bytes | bytearray | memoryview) -> bool:
    """Whether a graph has fields of a newer schema, which ``decode`` ignores.

    Raises ``SchemaError`` as ``decode`` does.
    """
    return read(data)[1]


def _check_ids(graph: VkGraph) -> None:
    """Raises ``SchemaError`` for the first id that does not exist."""
    values, constants = len(graph.values), len(graph.constants)
    chain = graph.chain
    if not isinstance(chain, Calls) or not _are_in_range(chain.args, values):
        for index, call in enumerate(chain):
            _check_range(call.args, values, f"chain[{index}].args")
    for index, value in enumerate(graph.values):
        if isinstance(value, VkTensor):
            if value.constant_id >= constants:
                raise SchemaError(
                    f"there is no constant {value.constant_id}: the graph has {constants}",
                    f"values[{index}].value.constant_id",
                )
        elif isinstance(value, ValueList):
            _check_range(value.items, values, f"values[{index}].value.items")
    _check_range(graph.input_ids, values, "input_ids")
    _check_range(graph.output_ids, values, "output_ids")


def _are_in_range(ids: Sequence[int], values: int) -> bool:
    return not ids or (min(ids) >= 0 and max(ids) < values)


def _check_range(ids: Sequence[int], values: int, place: str) -> None:
    if not _are_in_range(ids, values):
        index = next(i for i, value_id in enumerate(ids) if not 0 <= value_id < values)
        raise SchemaError(
            f"there is no value {ids[index]}: the graph has {values}", f"{place}[{index}]"
        )
