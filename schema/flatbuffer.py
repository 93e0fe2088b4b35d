"""Bytes of a flatbuffer: a reader that trusts none of them, and a writer.

The reader never touches a byte outside the buffer. Its work and memory are at most a fixed multiple
of the buffer's length: offsets may share their targets, but only within a budget.
``schema.tables`` defines what the bytes mean.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from schema.error import SchemaError

if TYPE_CHECKING:
    from schema.columns import Columns, Positions

Row = tuple[Any, ...]

# Every byte may be visited this many times, so that writers may share strings and vectors.
_VISITS_PER_BYTE = 4
# A table takes at least the offset to it and its own offset to a vtable.
_TABLE_COST = 8
# A compiled vtable takes far more memory than its bytes. Writers share vtables: few are expected.
_VTABLE_COST = 256
# Larger ones are nobody's who means well: they are compiled each time, and take no memory.
_KEPT_VTABLE = 256
# Enough for the vtables of a small buffer.
_FREE_COST = 1 << 16

_IDENTIFIER = slice(4, 8)

# The offset from a table to its vtable is signed.
_MOST_BYTES = 2**31 - 1

_unpack_unsigned = struct.Struct("<I").unpack_from
_unpack_signed = struct.Struct("<i").unpack_from
_pack_unsigned = struct.Struct("<I").pack_into
_pack_signed = struct.Struct("<i").pack_into


class Shape(Protocol):
    """What the reader and the writer need to know about a kind of table."""

    @property
    def formats(self) -> str:
        """The struct format of every slot, in slot order; "I" for an offset."""

    @property
    def defaults(self) -> Row:
        """The default of every slot, for slots that a vtable leaves out."""

    @property
    def vtable(self) -> bytes:
        """The vtable of all tables that the writer writes."""


class Layout(NamedTuple):
    """One vtable, compiled: where it puts the slots of one kind of table."""

    extent: int  # bytes up to the end of the last known field, the offset to the vtable included
    offsets: tuple[int, ...]  # by slot, relative to the table; 0 for one that is left out
    others: tuple[tuple[int, int], ...]  # slot and offset of fields that the shape does not know
    unpack: Callable[[bytes, int], Row]
    order: Callable[[Row], Row]  # from unpacked values, followed by the defaults, to slot order


class Reader:
    """Bounds-checked access to a flatbuffer from an untrusted source.

    Every method raises ``SchemaError`` where the bytes contradict themselves.
    """

    # Whether many tables may be read field by field, and not one by one.
    by_columns = True

    __slots__ = ("_columns", "_layouts", "budget", "data", "has_unknown_fields", "size")

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self.data = bytes(data)
        self.size = len(self.data)
        # Set once a table has a field that its shape does not know; callers reset it.
        self.has_unknown_fields = False
        # Bytes that may still be visited.
        self.budget = self.size * _VISITS_PER_BYTE + _FREE_COST
        self._layouts: dict[tuple[Shape, int], Layout] = {}
        self._columns: Columns | None = None

    def root(self, identifier: bytes) -> int:
        """The position of the root table of a buffer with this file identifier."""
        if self.size < _IDENTIFIER.stop:
            raise SchemaError(f"{self.size} bytes are too few for a flatbuffer")
        if self.data[_IDENTIFIER] != identifier:
            raise SchemaError(
                f"the file identifier is {self.data[_IDENTIFIER]!r}, not {identifier!r}"
            )
        position: int = _unpack_unsigned(self.data)[0]
        return position

    def charge(self, cost: int) -> None:
        """Takes ``cost`` bytes from the budget."""
        self.budget -= cost
        if self.budget < 0:
            raise SchemaError(
                f"the {self.size}-byte buffer refers to its own bytes too many times over"
            )

    def layout(self, shape: Shape, position: int) -> Layout:
        """The layout of the table at ``position``, after checking that it is inside the buffer."""
        self.charge(_TABLE_COST)
        if position + 4 > self.size:
            raise self._outside(position)
        vtable = position - _unpack_signed(self.data, position)[0]
        layout = self._layouts.get((shape, vtable))
        if layout is None:
            layout = self._layouts[shape, vtable] = self._compile(shape, vtable)
        if layout.others:
            self.has_unknown_fields = True
        if position + layout.extent > self.size:
            raise SchemaError(
                f"the table of {layout.extent} bytes at 0x{position:x} ends outside the "
                f"{self.size}-byte buffer"
            )
        return layout

    @property
    def columns(self) -> Columns:
        """The buffer's numbers, to be read at many positions at once."""
        if self._columns is None:
            from schema.columns import Columns

            self._columns = Columns(self.data)
        return self._columns

    def layouts(self, shape: Shape, positions: Positions) -> list[tuple[Layout, Positions]]:
        """The layouts of the tables at many positions, each with the indices of its tables.

        A table that ends outside the buffer is found when its fields are read.
        """
        self.charge(_TABLE_COST * len(positions))
        found = []
        for vtable, indices in self.columns.vtables(positions):
            layout = self._layouts.get((shape, vtable))
            if layout is None:
                layout = self._layouts[shape, vtable] = self._compile(shape, vtable)
            if layout.others:
                self.has_unknown_fields = True
            found.append((layout, indices))
        return found

    def count(self, position: int, item_size: int) -> int:
        """The length of the vector at ``position``, after checking that it is inside the buffer."""
        start = position + 4
        if start > self.size:
            raise self._outside(position)
        count: int = _unpack_unsigned(self.data, position)[0]
        if count * item_size > self.size - start:
            raise SchemaError(
                f"the vector of {count} items of {item_size} bytes at 0x{position:x} ends outside "
                f"the {self.size}-byte buffer"
            )
        self.charge(4 + count * item_size)
        return count

    def text(self, position: int) -> str:
        """The string at ``position``."""
        start = position + 4
        end = start + self.count(position, 1)
        # The runtime reads strings up to the zero byte.
        if end == self.size or self.data[end]:
            raise SchemaError(f"the string at 0x{position:x} does not end in a zero byte")
        try:
            return self.data[start:end].decode()
        except UnicodeDecodeError as error:
            raise SchemaError(
                f"the string at 0x{position:x} is not UTF-8: {error.reason}"
            ) from None

    def numbers(self, position: int, item_format: str, item_size: int) -> Row:
        """The vector of numbers at ``position``."""
        count = self.count(position, item_size)
        return struct.unpack_from(f"<{count}{item_format}", self.data, position + 4)

    def texts(self, positions: Positions) -> list[str]:
        """The strings at many positions; equal ones are one object."""
        known: dict[bytes, str] = {}
        found = []
        data, visited = self.data, 0
        sizes = self.columns.numbers(positions, "I")
        for position, size in zip(positions.tolist(), sizes, strict=True):
            end = position + 4 + size
            encoded = data[position + 4 : end + 1]
            text = known.get(encoded)
            if text is None:
                text = known[encoded] = self.text(position)
            else:
                visited += 4 + size
            found.append(text)
        self.charge(visited)
        return found

    def many_numbers(self, positions: Positions, item_format: str, item_size: int) -> list[Row]:
        """The vectors of numbers at many positions."""
        found, items = self.columns.vectors(positions, item_format, item_size)
        self.charge(4 * len(positions) + items * item_size)
        return found

    def _compile(self, shape: Shape, vtable: int) -> Layout:
        if vtable < 0 or vtable + 4 > self.size:
            raise SchemaError(f"a vtable at {vtable:#x} is outside the {self.size}-byte buffer")
        # The size of the table, which follows, is not to be relied on: flatbuffers' builder for
        # Python before 25.12.19 let tables of different sizes share a vtable. Its verifier for C++
        # bounds fields by the buffer alone, too.
        size = struct.unpack_from("<H", self.data, vtable)[0]
        if size < 4 or size % 2 or vtable + size > self.size:
            raise SchemaError(f"the vtable at 0x{vtable:x} has impossible sizes")
        self.charge(_VTABLE_COST + size)
        entries = self.data[vtable + 4 : vtable + size]
        compiled = _compiled if size <= _KEPT_VTABLE else _compiled.__wrapped__
        layout = compiled(shape.formats, entries)
        if layout is None:
            raise SchemaError(f"the vtable at 0x{vtable:x} has fields that overlap")
        return layout

    def _outside(self, position: int) -> SchemaError:
        return SchemaError(f"offset 0x{position:x} points outside the {self.size}-byte buffer")


@lru_cache(maxsize=1024)
def _compiled(formats: str, entries: bytes) -> Layout | None:
    """The layout of tables with these entries in their vtable; None if their fields overlap.

    Writers lay the same kind of table out in few ways, in all their files.
    """
    offsets = struct.unpack(f"<{len(entries) // 2}H", entries)
    slots = len(formats)
    others = tuple((slot, at) for slot, at in enumerate(offsets[slots:], slots) if at)
    offsets = (*offsets[:slots], *(0 for _ in range(slots - len(offsets))))

    layout, end, taken = "<", 0, [0] * slots
    present = sorted((offset, slot) for slot, offset in enumerate(offsets) if offset)
    for index, (offset, slot) in enumerate(present):
        # The first four bytes are the table's offset to this vtable.
        if offset < max(end, 4):
            return None
        layout += f"{offset - end}x{formats[slot]}"
        end = offset + struct.calcsize(f"<{formats[slot]}")
        taken[slot] = index + 1
    order = [index - 1 if index else len(present) + slot for slot, index in enumerate(taken)]
    return Layout(max(end, 4), offsets, others, struct.Struct(layout).unpack_from, picker(order))


class Writer:
    """A flatbuffer that grows at its end: the target of an offset comes after the offset.

    Equal values make equal bytes. Methods raise ``SchemaError`` for more bytes than offsets can
    span. For a number that does not fit they raise what ``struct`` raises; ``schema.tables`` adds
    the place.
    """

    __slots__ = ("_vtables", "out", "written")

    def __init__(self, identifier: bytes) -> None:
        # The first four bytes become the offset to the root table.
        self.out = bytearray(4) + identifier
        self._vtables: dict[Shape, int] = {}
        # What was written of a value from a place with this remainder: see ``again``.
        self.written: dict[tuple[Any, int], tuple[bytes, tuple[tuple[int, int], ...]]] = {}

    @classmethod
    def after(cls, data: bytes) -> Writer:
        """A writer that appends to the bytes of a flatbuffer."""
        writer = cls(b"")
        writer.out = bytearray(data)
        return writer

    def finish(self, root: int) -> bytes:
        """The buffer whose root table is at ``root``."""
        self.point(0, root)
        _check_size(len(self.out))
        return bytes(self.out)

    def align(self, lead: int, alignment: int) -> int:
        """Pads so that what follows the next ``lead`` bytes is aligned; returns the position."""
        position = len(self.out)
        _check_size(position)
        padding = -(position + lead) % alignment
        self.out += bytes(padding)
        return position + padding

    def vtable(self, shape: Shape) -> int:
        """The position of the vtable that all tables of this shape share."""
        position = self._vtables.get(shape)
        if position is None:
            position = self._vtables[shape] = self.align(0, 4)
            self.out += shape.vtable
        return position

    @property
    def vtables(self) -> int:
        """How many vtables are written."""
        return len(self._vtables)

    def target(self, at: int) -> int:
        """Where the offset at ``at`` leads."""
        offset: int = _unpack_unsigned(self.out, at)[0]
        return at + offset

    def note(self, key: tuple[Any, int], start: int, tables: Sequence[int]) -> None:
        """Keeps what was written from ``start``, to be written again.

        ``tables`` are the positions of the tables in it, of which the first is its root.
        """
        vtables = [at - _unpack_signed(self.out, at)[0] for at in tables]
        places = tuple((at - start, vtable) for at, vtable in zip(tables, vtables, strict=True))
        self.written[key] = bytes(self.out[start:]), places

    def again(self, data: bytes, tables: Sequence[tuple[int, int]]) -> int:
        """Appends what was noted; returns the position of its root."""
        out = self.out
        start = len(out)
        _check_size(start)
        out += data
        for offset, vtable in tables:
            _pack_signed(out, start + offset, start + offset - vtable)
        return start + tables[0][0]

    def point(self, at: int, target: int) -> None:
        """Makes the offset at ``at`` lead to ``target``."""
        _pack_unsigned(self.out, at, target - at)

    def text(self, value: str) -> int:
        """Appends a string; returns its position."""
        encoded = value.encode()
        _check_size(len(encoded))
        position = self.align(4, 4)
        self.out += struct.pack("<I", len(encoded)) + encoded + b"\0"
        return position

    def numbers(self, values: Sequence[Any], item_format: str, item_size: int) -> int:
        """Appends a vector of numbers; returns its position."""
        packed = struct.pack(f"<I{len(values)}{item_format}", len(values), *values)
        position = self.align(4, max(item_size, 4))
        self.out += packed
        return position

    def blob(self, value: bytes, alignment: int) -> int:
        """Appends a vector of bytes; returns its position."""
        _check_size(len(value))
        position = self.align(4, max(alignment, 4))
        self.out += struct.pack("<I", len(value)) + value
        return position

    def offsets(self, count: int) -> int:
        """Appends a vector of offsets that lead nowhere yet; returns its position."""
        position = self.align(4, 4)
        self.out += struct.pack("<I", count) + bytes(4 * count)
        return position


def _check_size(size: int) -> None:
    if size > _MOST_BYTES:
        raise SchemaError(f"{size} bytes are too many for a flatbuffer")


def picker(indices: Sequence[int]) -> Callable[[Row], Row]:
    """A function that picks the items at ``indices`` from a tuple, as a tuple."""
    if len(indices) > 1:
        return itemgetter(*indices)
    if len(indices) == 1:
        return itemgetter(slice(indices[0], indices[0] + 1))
    return itemgetter(slice(0, 0))
