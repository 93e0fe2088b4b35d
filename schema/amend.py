"""Writes a changed value into the flatbuffer that it was read from, and keeps all else.

A field of a newer schema cannot be moved: its bytes may be a number or an offset to more bytes,
and this code cannot know which. So a table with such a field keeps its place relative to all bytes
behind it, and only its known fields change: numbers in place, all others by pointing their offset
to new bytes behind the old ones.

Offsets lead forward only. A vector of tables that grows moves behind the old bytes, and the tables
that it leads to must come after it: a second copy of the old bytes follows it, in which they stay
as they are. Such a copy costs at most the buffer's length, once.

    bytes as they were, the root and vectors that did not grow changed in place
    new vectors and tables
    if a vector grew: the bytes as they were, tables in that vector changed in place
    what those tables lead to
"""

from __future__ import annotations

import struct
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from schema.error import SchemaError
from schema.flatbuffer import Layout, Reader, Shape, Writer
from schema.tables import Enumeration, Numbers, OneOf, Scalar, Table, Tables

Origins = Mapping[str, Sequence[int | None]]

# Of every copy of the old bytes, so that what was aligned in them stays aligned.
_ALIGNMENT = 16
# The largest offset that a vtable can hold.
_REACH = 2**16 - 1


def amend(data: bytes, identifier: bytes, table: Table[Any], value: Any, origins: Origins) -> bytes:
    """The buffer with ``value`` in its root table, and every field that ``table`` does not know.

    ``origins`` names the root's vectors of tables whose items keep their unknown fields: for each
    item of the new value the index of the old item, or None for a new one. Whatever other changed
    fields refer to is written anew.

    A field that its table left out, because it had the default, gets the room of a vector of
    numbers in the same table, which moves. Raises ``SchemaError`` for bytes that are not such a
    buffer and for a value that they cannot hold; and, with the field's place, where there is no
    such room, where items that should differ share a table, and for an item that would change its
    kind.
    """
    intended = _anew(identifier, table, value)
    amended = _Amender(data, identifier, table).amend(value, origins)
    reader = Reader(amended)
    if _anew(identifier, table, table.read(reader, reader.root(identifier))) != intended:
        raise SchemaError("tables that should differ overlap")
    return amended


def _anew(identifier: bytes, table: Table[Any], value: Any) -> bytes:
    writer = Writer(identifier)
    return writer.finish(table.write(writer, value))


class _Item(NamedTuple):
    """A table of the old bytes."""

    position: int
    value: Any
    is_newer: bool  # whether it, or a table that it leads to, has unknown fields


class _Vector(NamedTuple):
    """A vector of offsets that will lead to tables."""

    position: int
    name: str
    table: Any
    base: int | None  # of the copy that the items stay in; None for the one still to come
    items: list[tuple[_Item | None, Any]]


class _Tracer(Reader):
    """Counts the offsets that lead to each position, with values that may be offsets."""

    __slots__ = ("_leads", "_others")

    # Each table is to be seen.
    by_columns = False

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._leads = Counter[int]()
        self._others = defaultdict[tuple[Shape, int], list[int]](list)

    def count(self, position: int, item_size: int) -> int:
        self._leads[position] += 1
        return super().count(position, item_size)

    def layout(self, shape: Shape, position: int) -> Layout:
        layout = super().layout(shape, position)
        for slot, offset in layout.others:
            at = position + offset
            leads = _target(self.data, at) if at + 4 <= self.size else self.size
            self._others[shape, slot].append(leads)
        return layout

    def owned(self) -> set[int]:
        """The vectors to which only one offset, known or unknown, leads."""
        for leads in self._others.values():
            # One value that cannot be an offset shows that the field is a number in all tables.
            if all(position < self.size and position % 4 == 0 for position in leads):
                self._leads.update(leads)
        return {position for position, count in self._leads.items() if count == 1}


class _Amender:
    def __init__(self, data: bytes, identifier: bytes, table: Table[Any]) -> None:
        self.data = data
        self.table = table
        tracer = _Tracer(data)
        self.root = tracer.root(identifier)
        self.old = table.read(tracer, self.root)
        self.owned = tracer.owned()
        self.reader = Reader(data)
        self.writer = Writer.after(data)
        self.vectors: list[_Vector] = []
        self.held: dict[int, Any] = {}

    def amend(self, value: Any, origins: Origins) -> bytes:
        """The amended buffer; see the function ``amend``."""
        self._change(self.table, 0, self.root, self.old, value, origins)
        base = None
        if any(
            item is not None and item.is_newer
            for vector in self.vectors
            if vector.base is None
            for item, _ in vector.items
        ):
            base = self.writer.align(0, _ALIGNMENT)
            self.writer.out += self.data
        for vector in self.vectors:
            self._fill(vector, base if vector.base is None else vector.base)
        return self.writer.finish(self.root)

    def _fill(self, vector: _Vector, base: int | None) -> None:
        at = vector.position
        for index, (item, value) in enumerate(vector.items):
            at += 4
            try:
                self._place(at, vector.table, base, item, value)
            except SchemaError as error:
                raise error.within(f"{vector.name}[{index}]") from None

    def _place(self, at: int, table: Any, base: int | None, item: _Item | None, new: Any) -> None:
        """Makes the offset at ``at`` lead to a table with a value: the old one or a new one."""
        if base is None or item is None or not (item.is_newer or item.value == new):
            self.writer.point(at, table.write(self.writer, new))
            return
        position = base + item.position
        if self.held.setdefault(position, new) != new:
            raise SchemaError("it shares its table with another one that should differ from it")
        if position < at:
            raise SchemaError("its table lies inside the vector that leads to it")
        self.writer.point(at, position)
        if item.value == new:
            return
        if not isinstance(table, OneOf):
            self._change(table, base, item.position, item.value, new, {})
            return
        member, inner, at = table.inside(self.reader, item.position)
        try:
            if type(item.value) is not type(new):
                raise SchemaError("it cannot change to another kind")
            self._place(base + at, member, base, self._item(member, inner), new)
        except SchemaError as error:
            raise error.within(table.field) from None

    def _change(
        self, table: Table[Any], base: int, position: int, old: Any, new: Any, origins: Origins
    ) -> None:
        """Gives the old table at ``position``, in the copy at ``base``, its new value."""
        names, fields = list(table.fields), list(table.fields.values())
        before, after = table.row(old), table.row(new)
        changed = {
            slot
            for slot, name in enumerate(names)
            if before[slot] != after[slot]
            or (name in origins and [*origins[name]] != [*range(len(before[slot]))])
        }
        layout = self.reader.layout(table, position)
        offsets = list(layout.offsets)
        missing = [slot for slot in sorted(changed) if not offsets[slot]]
        if missing:
            changed |= self._make_room(table, position, before, offsets, missing)
            self._write_vtable(table, base, position, offsets)
        for slot in sorted(changed):
            here, field = position + offsets[slot], fields[slot]
            at = base + here
            if isinstance(field, Scalar | Enumeration):
                struct.pack_into(f"<{table.formats[slot]}", self.writer.out, at, after[slot])
            elif isinstance(field, Tables) and names[slot] in origins:
                where = _target(self.data, here) if layout.offsets[slot] else None
                items = self._items(field, where, origins[names[slot]], after[slot])
                self._lead(at, names[slot], field, where, items)
            else:
                self.writer.point(at, field.write(self.writer, after[slot]))

    def _lead(
        self,
        at: int,
        name: str,
        field: Tables,
        old: int | None,
        items: list[tuple[_Item | None, Any]],
    ) -> None:
        """Makes the offset at ``at`` of the first copy lead to a vector of items."""
        base: int | None = 0
        if old is not None and old in self.owned and len(items) <= _unsigned(self.data, old):
            position = old
            struct.pack_into("<I", self.writer.out, position, len(items))
        else:
            base, position = None, self.writer.offsets(len(items))
            self.writer.point(at, position)
        self.vectors.append(_Vector(position, name, field.table, base, items))

    def _items(
        self,
        field: Tables,
        position: int | None,
        origins: Sequence[int | None],
        values: Sequence[Any],
    ) -> list[tuple[_Item | None, Any]]:
        """Pairs values with their tables in the old vector at ``position``."""
        return [
            (
                None
                if origin is None or position is None
                else self._item(field.table, _target(self.data, position + 4 + 4 * origin)),
                value,
            )
            for origin, value in zip(origins, values, strict=True)
        ]

    def _item(self, table: Any, position: int) -> _Item:
        self.reader.has_unknown_fields = False
        value = table.read(self.reader, position)
        return _Item(position, value, self.reader.has_unknown_fields)

    def _make_room(
        self,
        table: Table[Any],
        position: int,
        row: Sequence[Any],
        offsets: list[int],
        missing: list[int],
    ) -> set[int]:
        """Finds offsets for missing fields; returns the slots whose vectors must move for them."""
        moved: set[int] = set()
        rooms = list(self._rooms(table, position, row, offsets))
        for slot in missing:
            size = struct.calcsize(f"<{table.formats[slot]}")
            for index, (owner, start, end) in enumerate(rooms):
                aligned = start + -start % size
                if aligned + size <= end:
                    rooms[index] = (owner, aligned + size, end)
                    offsets[slot] = aligned - position
                    moved.add(owner)
                    break
            else:
                raise SchemaError(
                    "its table left it out and has no room for it", [*table.fields][slot]
                )
        return moved

    def _rooms(
        self, table: Table[Any], position: int, row: Sequence[Any], offsets: Sequence[int]
    ) -> Iterator[tuple[int, int, int]]:
        """The vectors of numbers that only this old table has: slot, start and end."""
        for slot, field in enumerate(table.fields.values()):
            if isinstance(field, Numbers) and offsets[slot]:
                start = _target(self.data, position + offsets[slot])
                if start in self.owned:
                    end = start + 4 + len(row[slot]) * field.size
                    yield slot, start, min(end, position + _REACH)

    def _write_vtable(
        self, table: Table[Any], base: int, position: int, offsets: Sequence[int]
    ) -> None:
        """Gives an old table a vtable of its own, with these offsets of known fields."""
        old = position - struct.unpack_from("<i", self.data, position)[0]
        size, extent = struct.unpack_from("<HH", self.data, old)
        entries = [*struct.unpack_from(f"<{size // 2 - 2}H", self.data, old + 4)]
        entries[: len(offsets)] = offsets
        ends = (o + struct.calcsize(f"<{f}") for o, f in zip(offsets, table.formats, strict=True))
        vtable = self.writer.align(0, 4)
        self.writer.out += struct.pack(
            f"<HH{len(entries)}H", 4 + 2 * len(entries), max(extent, *ends), *entries
        )
        at = base + position
        struct.pack_into("<i", self.writer.out, at, at - vtable)


def _unsigned(data: bytes, at: int) -> int:
    number: int = struct.unpack_from("<I", data, at)[0]
    return number


def _target(data: bytes, at: int) -> int:
    """Where the offset at ``at`` leads."""
    return at + _unsigned(data, at)
