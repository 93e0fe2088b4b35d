"""The tables of a schema as data that both the reader and the writer follow.

A ``Table`` ties one table of an .fbs file to one dataclass: its fields are those of the table, in
the same order. Descriptions are finite trees, so no buffer can make a reader recurse deeper than
the schema does.

The writer writes every field, even one that equals its default, but for newer ones. The reader
takes a missing string or vector as an empty one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from schema.error import SchemaError
from schema.flatbuffer import Layout, Reader, Row, Writer, picker
from schema.frozen import frozen

if TYPE_CHECKING:
    from schema.columns import Positions

T = TypeVar("T")

# The widest number of a table's.
_ALIGNMENT = 8

# From so many tables on, a vector is read field by field.
_MANY = 16

# So many tables are read at a time: what is only needed for reading takes a little memory.
_CHUNK = 1 << 16

# The struct module raises these for a number that does not fit, the second one for floats.
_MISFITS = (struct.error, OverflowError)


@frozen
class Scalar:
    """A number or truth value, stored in its table."""

    format: str
    default: float = 0


@frozen
class Enumeration:
    """A number that must be a member of ``members``."""

    format: str
    members: type[IntEnum]
    default: IntEnum


class Reference(Protocol):
    """A field whose table holds only the offset to it."""

    def absent(self) -> Any:
        """The value of a field that was left out; raises ``SchemaError`` if there is none."""

    def read(self, reader: Reader, position: int) -> Any:
        """The value at ``position``."""

    def read_all(self, reader: Reader, positions: Positions) -> list[Any]:
        """The values at many positions, without the place in errors."""

    def write(self, writer: Writer, value: Any) -> int:
        """Appends the value; returns its position."""


Field = Scalar | Enumeration | Reference


@frozen
class Text:
    """A string."""

    def absent(self) -> str:
        """The empty string."""
        return ""

    def read(self, reader: Reader, position: int) -> str:
        """The string at ``position``."""
        return reader.text(position)

    def read_all(self, reader: Reader, positions: Positions) -> list[str]:
        """The strings at many positions; equal ones are one object."""
        return reader.texts(positions)

    def write(self, writer: Writer, value: str) -> int:
        """Appends a string; returns its position."""
        try:
            return writer.text(value)
        except UnicodeEncodeError as error:
            raise SchemaError(f"the string cannot be written as UTF-8: {error.reason}") from None


@frozen
class Blob:
    """A vector of bytes, aligned so that they can be a buffer of their own."""

    alignment: int

    def absent(self) -> bytes:
        """No bytes."""
        return b""

    def read(self, reader: Reader, position: int) -> bytes:
        """The bytes at ``position``."""
        start = position + 4
        count = reader.count(position, 1)
        return reader.data[start : start + count]

    def read_all(self, reader: Reader, positions: Positions) -> list[bytes]:
        """The bytes at many positions."""
        return [self.read(reader, position) for position in positions.tolist()]

    def write(self, writer: Writer, value: bytes) -> int:
        """Appends bytes; returns their position."""
        return writer.blob(value, self.alignment)


class Numbers:
    """A vector of numbers or truth values."""

    __slots__ = ("format", "size")

    def __init__(self, item_format: str) -> None:
        self.format = item_format
        self.size = struct.calcsize(f"<{item_format}")

    def absent(self) -> Row:
        """No numbers."""
        return ()

    def read(self, reader: Reader, position: int) -> Row:
        """The numbers at ``position``."""
        return reader.numbers(position, self.format, self.size)

    def read_all(self, reader: Reader, positions: Positions) -> list[Row]:
        """The numbers at many positions."""
        return reader.many_numbers(positions, self.format, self.size)

    def write(self, writer: Writer, value: Sequence[Any]) -> int:
        """Appends numbers; returns their position."""
        try:
            return writer.numbers(value, self.format, self.size)
        except _MISFITS:
            raise _misfit(((f"[{i}]", self.format, item) for i, item in enumerate(value))) from None


class Members(Numbers):
    """A vector of members of an enumeration."""

    __slots__ = ("_members", "members")

    def __init__(self, item_format: str, members: type[IntEnum]) -> None:
        super().__init__(item_format)
        self.members = members
        self._members = {member.value: member for member in members}

    def read(self, reader: Reader, position: int) -> Row:
        """The members at ``position``."""
        values = super().read(reader, position)
        for index, value in enumerate(values):
            if value not in self._members:
                raise _unknown(self.members, value, f"[{index}]")
        return tuple(self._members[value] for value in values)

    def read_all(self, reader: Reader, positions: Positions) -> list[Row]:
        """The members at many positions."""
        return [self.read(reader, position) for position in positions.tolist()]


class Tables:
    """A vector of tables."""

    __slots__ = ("table",)

    def __init__(self, table: Reference) -> None:
        self.table = table

    def absent(self) -> Row:
        """No tables."""
        return ()

    def read(self, reader: Reader, position: int) -> Sequence[Any]:
        """The tables that the vector at ``position`` leads to."""
        offsets = reader.numbers(position, "I", 4)
        if reader.by_columns and len(offsets) >= _MANY:
            import numpy as np

            start = position + 4
            places = np.arange(start, start + 4 * len(offsets), 4)
            places += np.array(offsets, np.int64)
            budget = reader.budget
            parts = (places[at : at + _CHUNK] for at in range(0, len(places), _CHUNK))
            try:
                return self.read_columns(reader, parts)
            except SchemaError:
                # One by one they are found wrong again, with the place.
                reader.budget = budget
        read = self.table.read
        items: list[Any] = []
        at = position
        for offset in offsets:
            at += 4
            try:
                items.append(read(reader, at + offset))
            except SchemaError as error:
                raise error.within(f"[{len(items)}]") from None
        return tuple(items)

    def read_columns(self, reader: Reader, parts: Iterable[Positions]) -> Sequence[Any]:
        """The tables at many positions, some at a time, without the place in errors."""
        found: list[Any] = []
        for part in parts:
            found += self.table.read_all(reader, part)
        return tuple(found)

    def read_all(self, reader: Reader, positions: Positions) -> list[Sequence[Any]]:
        """The tables of many vectors."""
        return [self.read(reader, position) for position in positions.tolist()]

    def write(self, writer: Writer, value: Sequence[Any]) -> int:
        """Appends a vector of tables; returns its position."""
        write = self.table.write
        position = at = writer.offsets(len(value))
        for index, item in enumerate(value):
            at += 4
            try:
                writer.point(at, write(writer, item))
            except SchemaError as error:
                raise error.within(f"[{index}]") from None
        return position


class Table(Generic[T]):
    """A table, and the dataclass that it is read into.

    ``fields`` names the dataclass's fields in the order of the table's; ``build`` is the dataclass,
    and ``row`` takes its fields out of it, as a tuple. A table is written without its ``newer``
    fields, the last ones, where all of them are empty.
    """

    def __init__(
        self,
        name: str,
        build: Callable[..., T],
        fields: Mapping[str, Field],
        newer: Sequence[str] = (),
    ) -> None:
        older = {field: kind for field, kind in fields.items() if field not in newer}
        self._newer = newer
        self._older = Table(name, build, older) if newer else None
        self.name = name
        self.build = build
        self.fields = dict(fields)
        self.row = _row(list(fields))
        self._references: list[tuple[int, str, Reference]] = []
        self._enumerations: list[tuple[int, str, type[IntEnum], dict[int, IntEnum]]] = []
        formats: list[str] = []
        defaults: list[float | None] = []
        for slot, (field_name, field) in enumerate(fields.items()):
            if isinstance(field, Scalar | Enumeration):
                formats.append(field.format)
                defaults.append(field.default)
            else:
                formats.append("I")
                defaults.append(None)
                self._references.append((slot, field_name, field))
            if isinstance(field, Enumeration):
                members = {member.value: member for member in field.members}
                self._enumerations.append((slot, field_name, field.members, members))
        self.formats = "".join(formats)
        # Equal floats can differ in their sign.
        numbers = [field.format for field in fields.values() if isinstance(field, Numbers)]
        self.is_exact = not any(f in "fd" for f in (*formats, *numbers))
        self.defaults: Row = tuple(defaults)

        # The writer puts the widest fields first, right after the offset to the vtable: if the
        # first one is aligned, all are.
        sizes = [struct.calcsize(f"<{slot_format}") for slot_format in formats]
        order = sorted(range(len(sizes)), key=lambda slot: -sizes[slot])
        self._alignment = max([4, *sizes])
        self._offsets = [0] * len(sizes)
        end = 4
        for slot in order:
            self._offsets[slot] = end
            end += sizes[slot]
        self.vtable = struct.pack(f"<HH{len(sizes)}H", 4 + 2 * len(sizes), end, *self._offsets)
        # Offsets are filled in once their targets are written.
        self._pack = struct.Struct(
            "<i" + "".join("4x" if defaults[slot] is None else formats[slot] for slot in order)
        ).pack
        self._scalars = [slot for slot in order if defaults[slot] is not None]
        self._pick = picker(self._scalars)

    def absent(self) -> T:
        """Raises ``SchemaError``: a table has no default."""
        raise SchemaError(f"the {self.name} is missing")

    def read(self, reader: Reader, position: int) -> T:
        """The table at ``position``."""
        layout = reader.layout(self, position)
        row = layout.order(layout.unpack(reader.data, position) + self.defaults)
        if not self._references and not self._enumerations:
            return self.build(*row)
        values = list(row)
        for slot, name, members, known in self._enumerations:
            try:
                values[slot] = known[row[slot]]
            except KeyError:
                raise _unknown(members, row[slot], name) from None
        for slot, name, field in self._references:
            offset = row[slot]
            try:
                values[slot] = (
                    field.absent()
                    if offset is None
                    else field.read(reader, position + layout.offsets[slot] + offset)
                )
            except SchemaError as error:
                raise error.within(name) from None
        return self.build(*values)

    def read_all(self, reader: Reader, positions: Positions) -> list[T]:
        """The tables at many positions; equal ones are one object, where that loses nothing."""
        build, made = self.build, dict[Row, T]()
        if not self.is_exact:
            return [build(*row) for row in self.rows(reader, positions)]
        found = []
        for row in self.rows(reader, positions):
            value = made.get(row)
            if value is None:
                value = made[row] = build(*row)
            found.append(value)
        return found

    def rows(self, reader: Reader, positions: Positions) -> list[Row]:
        """The fields of tables at many positions, read field by field."""
        rows: list[Row] = []
        of_layout = reader.layouts(self, positions)
        for layout, indices in of_layout:
            columns = self._columns(reader, layout, positions[indices])
            found = list(zip(*columns, strict=True)) if columns else [()] * len(indices)
            if len(of_layout) == 1:
                return found
            rows = rows or [()] * len(positions)
            for index, row in zip(indices.tolist(), found, strict=True):
                rows[index] = row
        return rows

    def _columns(self, reader: Reader, layout: Layout, positions: Positions) -> list[list[Any]]:
        """Each field of tables with one layout."""
        columns: list[list[Any]] = []
        for slot, number_format in enumerate(self.formats):
            at = layout.offsets[slot]
            if at == 0 or self.defaults[slot] is None:
                columns.append([self.defaults[slot]] * len(positions))
            else:
                columns.append(reader.columns.numbers(positions + at, number_format))
        for slot, _, members, known in self._enumerations:
            try:
                columns[slot] = [known[number] for number in columns[slot]]
            except KeyError as error:
                raise _unknown(members, error.args[0], "") from None
        for slot, _, field in self._references:
            at = layout.offsets[slot]
            if at == 0:
                columns[slot] = [field.absent()] * len(positions)
            else:
                columns[slot] = field.read_all(reader, reader.columns.follow(positions + at))
        return columns

    def write(self, writer: Writer, value: T) -> int:
        """Appends the table; returns its position."""
        if self._older is not None and not any(getattr(value, name) for name in self._newer):
            return self._older.write(writer, value)
        row = self.row(value)
        vtable = writer.vtable(self)
        position = writer.align(4, self._alignment)
        try:
            writer.out += self._pack(position - vtable, *self._pick(row))
        except _MISFITS:
            names = list(self.fields)
            raise _misfit((names[i], self.formats[i], row[i]) for i in self._scalars) from None
        for slot, name, field in self._references:
            try:
                writer.point(position + self._offsets[slot], field.write(writer, row[slot]))
            except SchemaError as error:
                raise error.within(name) from None
        return position


class OneOf:
    """A table whose only field, called ``field``, is a union of the tables ``members``.

    It has no dataclass: its value is that of the table inside. A union that is NONE is an error.
    """

    # The union's tag and the offset to its table.
    formats = "BI"
    defaults: Row = (0, None)
    vtable = struct.pack("<HHHH", 8, 9, 8, 4)
    _pack = struct.Struct("<i4xB").pack

    def __init__(self, name: str, field: str, members: Sequence[Table[Any]]) -> None:
        self.name = name
        self.field = field
        self.members = tuple(members)
        self._tables = dict(enumerate(members, start=1))
        self._tags = {table.build: (tag, table) for tag, table in self._tables.items()}

    def absent(self) -> Any:
        """Raises ``SchemaError``: a table has no default."""
        raise SchemaError(f"the {self.name} is missing")

    def inside(self, reader: Reader, position: int) -> tuple[Table[Any], int, int]:
        """The table inside the one at ``position``: its kind, its position, its offset's place."""
        layout = reader.layout(self, position)
        tag, offset = layout.order(layout.unpack(reader.data, position) + self.defaults)
        table = self._tables.get(tag)
        if table is None:
            kind = "no value" if tag == 0 else f"the unknown type {tag}"
            raise SchemaError(f"the union has {kind}", self.field)
        if offset is None:
            raise SchemaError(f"the {table.name} is missing", self.field)
        at = position + layout.offsets[1]
        return table, at + offset, at

    def read(self, reader: Reader, position: int) -> Any:
        """The value of the table inside the one at ``position``."""
        table, inner, _ = self.inside(reader, position)
        try:
            return table.read(reader, inner)
        except SchemaError as error:
            raise error.within(self.field) from None

    def read_all(self, reader: Reader, positions: Positions) -> list[Any]:
        """The values of the tables inside those at many positions."""
        found: list[Any] = [None] * len(positions)
        for layout, indices in reader.layouts(self, positions):
            if not all(layout.offsets):
                raise SchemaError("a union has no value", self.field)
            here = positions[indices]
            inner = reader.columns.follow(here + layout.offsets[1])
            for tag, chosen in reader.columns.groups(here + layout.offsets[0], "B"):
                if tag not in self._tables:
                    raise SchemaError(f"the union has the unknown type {tag}", self.field)
                values = self._tables[tag].read_all(reader, inner[chosen])
                for index, value in zip(indices[chosen].tolist(), values, strict=True):
                    found[index] = value
        return found

    def write(self, writer: Writer, value: Any) -> int:
        """Appends the table and the one inside it; returns its position."""
        member = self._tags.get(type(value))
        if member is None:
            raise SchemaError(f"{type(value).__name__} is not in the union", self.field)
        tag, table = member
        if not table.is_exact:
            return self._append(writer, value, tag, table)
        # Equal values have equal bytes, but for padding and the offsets to vtables.
        start, vtables = len(writer.out), writer.vtables
        written = writer.written.get((value, start % _ALIGNMENT))
        if written is not None:
            return writer.again(*written)
        position = self._append(writer, value, tag, table)
        if writer.vtables == vtables:
            inner = writer.target(position + 4)
            writer.note((value, start % _ALIGNMENT), start, (position, inner))
        return position

    def _append(self, writer: Writer, value: Any, tag: int, table: Table[Any]) -> int:
        vtable = writer.vtable(self)
        position = writer.align(4, 4)
        writer.out += self._pack(position - vtable, tag)
        try:
            writer.point(position + 4, table.write(writer, value))
        except SchemaError as error:
            raise error.within(self.field) from None
        return position


def _row(names: Sequence[str]) -> Callable[[Any], Row]:
    """A function that takes the attributes with these names, as a tuple."""
    if len(names) > 1:
        return attrgetter(*names)
    if names:
        only = attrgetter(names[0])
        return lambda value: (only(value),)
    return lambda _: ()


def _unknown(members: type[IntEnum], value: object, place: str) -> SchemaError:
    return SchemaError(f"{value} is not a known {members.__name__}", place)


def _misfit(candidates: Iterable[tuple[str, str, object]]) -> SchemaError:
    """The error that names the first (place, format, number) that does not fit its format."""
    for place, number_format, number in candidates:
        try:
            struct.pack(f"<{number_format}", number)
        except _MISFITS as error:
            return SchemaError(f"{number!r} does not fit: {error}", place)
    return SchemaError("a number does not fit")
