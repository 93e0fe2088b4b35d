"""ExecuTorch's program file (.pte): finds delegates, and replaces their blobs and compile specs.

The file begins with a flatbuffer, a `Program` of ExecuTorch's program.fbs. Right after the file
identifier it may have room for an extended header:

    bytes 8..11   "eh00"
    bytes 12..15  size of the header: 24, or 32 in newer files
    bytes 16..23  size of the flatbuffer, all of the bytes before it included
    bytes 24..31  offset of the segments from the beginning of the file; 0 if there are none
    bytes 32..39  size of the segments, the gaps between them included; not in a header of 24

with every number unsigned and little endian. Segments follow in the order of `Program.segments`,
whose offsets count from the first one. A delegate's blob, its "processed" data, is a segment or a
vector in the flatbuffer; delegates with equal blobs may share one. Constants, mutable data and
named data are segments too.

ExecuTorch fills with zeros up to a multiple of its `segment_alignment`, 128 unless configured, or
of a multiple of it where a segment asks for more. The file does not say which. Here, therefore, a
segment that moves keeps its offset's remainder: modulo 128 if all gaps in the file are shorter
than that, which gives ExecuTorch's own offsets, otherwise modulo the greatest power of two that
the offset of the segments is a multiple of, which `segment_alignment` divides. One that follows a
longer gap keeps its remainder modulo the greatest power of two that its own offset allows.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field, replace
from enum import IntEnum
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

from schema.error import SchemaError
from schema.flatbuffer import Reader, Writer
from schema.frozen import frozen
from schema.tables import Blob, Enumeration, Numbers, Scalar, Table, Tables, Text

_IDENTIFIER = re.compile(rb"ET[0-9A-Za-z]{2}")
_HEADER_MAGIC = b"eh00"
_HEADER_AT = 8
_LEAST_HEADER = 24
_WHOLE_HEADER = 32

_SEGMENT_ALIGNMENT = 128
# `force_align` in program.fbs. `delegate_alignment` may ask for more; nobody needs over a page.
_LEAST_INLINE_ALIGNMENT = 16
_MOST_INLINE_ALIGNMENT = 4096

_MOST_FLATBUFFER_BYTES = 2**31 - 1

T = TypeVar("T")


class DataLocation(IntEnum):
    """Where a blob is; the values are those of program.fbs."""

    INLINE = 0
    SEGMENT = 1


DelegatePosition = tuple[int, int]
"""Which delegate: the index of its execution plan, and its own in there."""


@frozen
class BlobKey:
    """Which blob: an index into `Program.backend_delegate_data` or into `Program.segments`."""

    location: DataLocation
    index: int

    @property
    def place(self) -> str:
        """The blob's place in the program, as errors name it."""
        inline = self.location is DataLocation.INLINE
        return f"{'backend_delegate_data' if inline else 'segments'}[{self.index}]"


@frozen
class CompileSpec:
    """An option that a backend was given when it lowered a delegate."""

    key: str
    value: bytes


@frozen
class DelegateEntry:
    """A delegate of one execution plan, and its blob, which other delegates may share."""

    plan_index: int
    plan_name: str
    delegate_index: int
    backend_id: str
    location: DataLocation
    index: int
    blob: bytes = field(repr=False)
    compile_specs: tuple[CompileSpec, ...] = ()

    @property
    def key(self) -> BlobKey:
        """What `replace_blobs` calls the blob: equal for delegates that share it."""
        return BlobKey(self.location, self.index)

    @property
    def position(self) -> DelegatePosition:
        """What `replace_compile_specs` calls the delegate."""
        return self.plan_index, self.delegate_index


@frozen
class ExecutorchProgram:
    """The delegates of all execution plans, in the order of the file."""

    delegates: tuple[DelegateEntry, ...]

    @property
    def blobs(self) -> dict[BlobKey, bytes]:
        """Every blob once, in the order of the delegates that use it first."""
        return {delegate.key: delegate.blob for delegate in self.delegates}


def is_executorch_program(data: bytes | bytearray | memoryview) -> bool:
    """Whether bytes have the file identifier of a program; the rest may still be wrong."""
    return _IDENTIFIER.fullmatch(bytes(data[4:8])) is not None


def read_program(data: bytes | bytearray | memoryview) -> ExecutorchProgram:
    """Finds every delegate; raises `SchemaError` for bytes that are not a program.

    Only what leads to delegates and segments is looked at: other errors stay unseen.
    """
    whole = bytes(data)
    found = _scan(whole)
    blobs: dict[BlobKey, bytes] = {}
    delegates: list[DelegateEntry] = []
    for plan_index, plan in enumerate(found.plans):
        for delegate_index, delegate in enumerate(plan.delegates):
            key = delegate.processed
            if key not in blobs:
                start, size = found.span(key)
                blobs[key] = whole[start : start + size]
            delegates.append(
                DelegateEntry(
                    plan_index,
                    plan.name,
                    delegate_index,
                    delegate.id,
                    key.location,
                    key.index,
                    blobs[key],
                    delegate.compile_specs,
                )
            )
    return ExecutorchProgram(tuple(delegates))


def replace_blobs(
    data: bytes | bytearray | memoryview,
    blobs: Mapping[BlobKey, bytes | bytearray | memoryview],
) -> bytes:
    """The program with other bytes in place of some of its blobs.

    All else stays: the flatbuffer but for the numbers that say where segments are, the other
    segments' bytes and their order, and what follows the segments. Where nothing changes, the
    result equals `data`. A blob in a segment may take any size, and putting the old one back gives
    the old file as long as its gaps were zeros. One in the flatbuffer is written over if the new
    one is no longer; otherwise the new one is appended to the flatbuffer and the old one remains
    as unused bytes.

    Raises `SchemaError` for bytes that are not a program, for a key that no delegate of it has,
    for a segment that named data or constants share with a delegate, and for a flatbuffer that
    would grow beyond 2 GiB.
    """
    whole = bytes(data)
    found = _scan(whole)
    inline, segments = _changes(whole, found, blobs)
    if not inline and not segments:
        return whole

    def write(writer: Writer) -> None:
        for index, blob in inline.items():
            _write_inline(writer, found.inline[index], blob)

    return _rewritten(whole, found, write, found.plans, inline, segments)


def replace_compile_specs(
    data: bytes | bytearray | memoryview,
    specs: Mapping[DelegatePosition, Sequence[CompileSpec]],
) -> bytes:
    """The program with other compile specs for some of its delegates.

    All else stays, as it does in `replace_blobs`; where nothing changes, the result equals `data`.
    Values are written over where a delegate's specs keep their keys, order and lengths, unless
    several delegates share the bytes. Otherwise the delegate's specs are appended to the flatbuffer
    and the old ones remain as unused bytes.

    Raises `SchemaError` for bytes that are not a program, for a position that no delegate has, for
    tables that would have to be written anew and have fields of a newer schema, for delegates that
    share a table but not their new specs, and for a flatbuffer that would grow beyond 2 GiB.
    """
    whole = bytes(data)
    found = _scan(whole)
    new = {position: tuple(wanted) for position, wanted in specs.items()}
    plans = tuple(
        plan._replace(
            delegates=tuple(
                replace(delegate, compile_specs=new.pop((i, j), delegate.compile_specs))
                for j, delegate in enumerate(plan.delegates)
            )
        )
        for i, plan in enumerate(found.plans)
    )
    for plan_index, delegate_index in new:
        place = f"execution_plan[{plan_index}].delegates[{delegate_index}]"
        raise SchemaError("there is no such delegate", place)
    if plans == found.plans:
        return whole
    places = _specs_places(whole, found)
    shared = _shared(places)

    def write(writer: Writer) -> None:
        for i, (before, after) in enumerate(zip(found.plans, plans, strict=True)):
            for j, (old, new) in enumerate(zip(before.delegates, after.delegates, strict=True)):
                if new != old:
                    try:
                        _write_specs(writer, places[i][j], old, new, shared)
                    except SchemaError as error:
                        raise error.within(f"execution_plan[{i}].delegates[{j}]") from None

    return _rewritten(whole, found, write, plans, {}, {})


# What the parts of a program are read into, under the names of program.fbs where it has one.
@frozen
class _Delegate:
    id: str
    processed: BlobKey
    compile_specs: tuple[CompileSpec, ...]


class _Plan(NamedTuple):
    name: str
    container_meta_type: int
    values: int
    inputs: int
    outputs: int
    chains: int
    operators: int
    delegates: tuple[_Delegate, ...]


class _DataSegment(NamedTuple):
    offset: int
    size: int


class _InlineData(NamedTuple):
    data: bytes


class _SubsegmentOffsets(NamedTuple):
    segment_index: int
    offsets: tuple[int, ...]


class _NamedData(NamedTuple):
    key: int
    segment_index: int


class _Program(NamedTuple):
    version: int
    execution_plan: tuple[_Plan, ...]
    constant_buffer: int
    backend_delegate_data: int
    segments: int
    constant_segment: _SubsegmentOffsets
    mutable_data_segments: tuple[_SubsegmentOffsets, ...]
    named_data: tuple[_NamedData, ...]


class _OptionalSubsegments(Table[_SubsegmentOffsets]):
    def absent(self) -> _SubsegmentOffsets:
        return _SubsegmentOffsets(0, ())


# An offset that is not followed here.
_OFFSET = Scalar("I")

_SUBSEGMENTS = _OptionalSubsegments(
    "SubsegmentOffsets", _SubsegmentOffsets, {"segment_index": Scalar("I"), "offsets": Numbers("Q")}
)
_NAMED_DATA = Table("NamedData", _NamedData, {"key": _OFFSET, "segment_index": Scalar("I")})
_DATA_SEGMENT = Table("DataSegment", _DataSegment, {"offset": Scalar("Q"), "size": Scalar("Q")})
_PROCESSED = Table(
    "BackendDelegateDataReference",
    BlobKey,
    {"location": Enumeration("b", DataLocation, DataLocation.INLINE), "index": Scalar("I")},
)
_COMPILE_SPEC = Table("CompileSpec", CompileSpec, {"key": Text(), "value": Blob(1)})
_COMPILE_SPECS = Tables(_COMPILE_SPEC)
_DELEGATE = Table(
    "BackendDelegate",
    _Delegate,
    {"id": Text(), "processed": _PROCESSED, "compile_specs": _COMPILE_SPECS},
)
_PLAN = Table(
    "ExecutionPlan",
    _Plan,
    {
        "name": Text(),
        "container_meta_type": _OFFSET,
        "values": _OFFSET,
        "inputs": _OFFSET,
        "outputs": _OFFSET,
        "chains": _OFFSET,
        "operators": _OFFSET,
        "delegates": Tables(_DELEGATE),
    },
)
_PROGRAM = Table(
    "Program",
    _Program,
    {
        "version": Scalar("I"),
        "execution_plan": Tables(_PLAN),
        "constant_buffer": _OFFSET,
        "backend_delegate_data": _OFFSET,
        "segments": _OFFSET,
        "constant_segment": _SUBSEGMENTS,
        "mutable_data_segments": Tables(_SUBSEGMENTS),
        "named_data": Tables(_NAMED_DATA),
    },
)


def _inline_table(alignment: int) -> Table[_InlineData]:
    return Table("BackendDelegateInlineData", _InlineData, {"data": Blob(alignment)})


_INLINE_DATA = _inline_table(_LEAST_INLINE_ALIGNMENT)


class _Header(NamedTuple):
    """The extended header, or what stands for one in a file that is all flatbuffer."""

    size: int  # 0 for a file without
    program_size: int
    segment_base: int  # 0 if there are no segments
    segment_size: int  # 0 where the header does not say

    @property
    def start(self) -> int:
        """The position of the segments: behind the flatbuffer if there are none."""
        return self.segment_base or self.program_size

    def write(self, out: bytearray, start: int, old_size: int, new_size: int) -> None:
        """Makes the header in the flatbuffer `out` say where the segments are now."""
        if self.size:
            base = start if self.segment_base else 0
            struct.pack_into("<QQ", out, _HEADER_AT + 8, len(out), base)
        # A size of 0 stays where it meant that nobody knows.
        if self.size >= _WHOLE_HEADER and (self.segment_size or not old_size):
            size = self.segment_size + new_size - old_size
            struct.pack_into("<Q", out, _HEADER_AT + 24, size)


class _Inline(NamedTuple):
    """A blob in the flatbuffer. All positions are those in the file."""

    element: int  # the offset that leads to its table
    start: int  # 0 for one that is left out
    size: int


class _Segment(NamedTuple):
    """A segment. All positions are those in the file; `offset` is that from the first segment."""

    element: int  # the offset that leads to its table
    offset_at: int  # 0 for one that is left out
    size_at: int  # 0 for one that is left out
    offset: int
    size: int


class _SpecsPlace(NamedTuple):
    """Where a delegate's compile specs are. All positions are those in the file."""

    element: int  # the offset that leads to the delegate's table
    vector_at: int  # the offset that leads to the specs; 0 for one that is left out
    values: tuple[int, ...]  # the length of each spec's value; 0 for one that is left out
    has_unknown_fields: bool  # in a table that new specs would replace


@frozen
class _Found:
    """Where everything is in a file."""

    header: _Header
    plans: tuple[_Plan, ...]
    inline: tuple[_Inline, ...]
    segments: tuple[_Segment, ...]
    others: frozenset[int]  # segments that something else than a delegate uses

    def span(self, key: BlobKey) -> tuple[int, int]:
        """The position and size of a blob."""
        if key.location is DataLocation.INLINE:
            _, start, size = self.inline[key.index]
            return start, size
        segment = self.segments[key.index]
        return self.header.start + segment.offset, segment.size

    @property
    def gaps(self) -> list[int]:
        """The size of the gap before each segment."""
        ends = [0, *(segment.offset + segment.size for segment in self.segments)]
        return [segment.offset - end for segment, end in zip(self.segments, ends, strict=False)]

    @property
    def alignment(self) -> int:
        """What the segments are aligned to, or a multiple of it."""
        base = self.header.start
        if max(base - self.header.program_size, *self.gaps, 0) < _SEGMENT_ALIGNMENT:
            return _SEGMENT_ALIGNMENT
        return _lowest_bit(base)


def _scan(data: bytes) -> _Found:
    header = _read_header(data)
    reader = Reader(data[: header.program_size])
    root = reader.root(data[4:8])
    program = _PROGRAM.read(reader, root)
    found = _Found(
        header,
        program.execution_plan,
        _each(reader, _PROGRAM, root, "backend_delegate_data", _read_inline),
        _each(reader, _PROGRAM, root, "segments", _read_segment),
        frozenset(_other_users(program)),
    )
    _check_spans(found, len(data))
    _check_references(found)
    return found


def _read_header(data: bytes) -> _Header:
    if not is_executorch_program(data):
        raise SchemaError(f"the file identifier is {data[4:8]!r}, not one like b'ET12'")
    if data[_HEADER_AT : _HEADER_AT + 4] != _HEADER_MAGIC:
        return _Header(0, len(data), 0, 0)
    place = "extended header"
    if len(data) < _HEADER_AT + _WHOLE_HEADER:
        raise SchemaError(f"it ends outside of the {len(data)}-byte file", place)
    header = _Header(*struct.unpack_from("<IQQQ", data, _HEADER_AT + 4))
    if header.size < _LEAST_HEADER:
        raise SchemaError(f"its size is {header.size}, less than {_LEAST_HEADER}", place)
    if header.size < _WHOLE_HEADER:
        header = header._replace(segment_size=0)
    if not _HEADER_AT + header.size <= header.program_size <= len(data):
        raise SchemaError(
            f"a flatbuffer of {header.program_size} bytes does not fit between the header and the "
            f"end of the {len(data)}-byte file",
            place,
        )
    if header.start < header.program_size:
        raise SchemaError(f"segments at {header.start} begin inside of the flatbuffer", place)
    if header.start + header.segment_size > len(data):
        raise SchemaError(
            f"{header.segment_size} bytes of segments at {header.start} end outside of the "
            f"{len(data)}-byte file",
            place,
        )
    return header


def _follow(reader: Reader, shape: Table[Any], table: int, name: str) -> tuple[int, int]:
    """The position of the offset in a table's field, and where it leads; zeros without one."""
    at = reader.layout(shape, table).offsets[list(shape.fields).index(name)]
    if not at:
        return 0, 0
    (lead,) = struct.unpack_from("<I", reader.data, table + at)
    return table + at, table + at + lead


def _each(
    reader: Reader,
    shape: Table[Any],
    table: int,
    name: str,
    read: Callable[[Reader, int, int], T],
) -> tuple[T, ...]:
    """What `read` makes of the positions of each offset in a field's vector and of its table."""
    items: list[T] = []
    _, vector = _follow(reader, shape, table, name)
    try:
        leads = reader.numbers(vector, "I", 4) if vector else ()
    except SchemaError as error:
        raise error.within(name) from None
    element = vector
    for lead in leads:
        element += 4
        try:
            items.append(read(reader, element, element + lead))
        except SchemaError as error:
            raise error.within(f"{name}[{len(items)}]") from None
    return tuple(items)


def _read_inline(reader: Reader, element: int, table: int) -> _Inline:
    _, vector = _follow(reader, _INLINE_DATA, table, "data")
    if not vector:
        return _Inline(element, 0, 0)
    try:
        return _Inline(element, vector + 4, reader.count(vector, 1))
    except SchemaError as error:
        raise error.within("data") from None


def _read_segment(reader: Reader, element: int, table: int) -> _Segment:
    segment = _DATA_SEGMENT.read(reader, table)
    offset_at, size_at = (at and table + at for at in reader.layout(_DATA_SEGMENT, table).offsets)
    return _Segment(element, offset_at, size_at, *segment)


def _specs_places(whole: bytes, found: _Found) -> tuple[tuple[_SpecsPlace, ...], ...]:
    """Where the compile specs of each plan's delegates are."""
    reader = Reader(whole[: found.header.program_size])

    def read_plan(reader: Reader, _: int, table: int) -> tuple[_SpecsPlace, ...]:
        return _each(reader, _PLAN, table, "delegates", _read_specs_place)

    root = reader.root(whole[4:8])
    return _each(reader, _PROGRAM, root, "execution_plan", read_plan)


def _read_specs_place(reader: Reader, element: int, table: int) -> _SpecsPlace:
    def read_value(reader: Reader, _: int, table: int) -> int:
        return _follow(reader, _COMPILE_SPEC, table, "value")[1]

    vector_at, vector = _follow(reader, _DELEGATE, table, "compile_specs")
    values = _each(reader, _DELEGATE, table, "compile_specs", read_value)
    reader.has_unknown_fields = False
    if vector:
        _COMPILE_SPECS.read(reader, vector)
    else:
        _DELEGATE.read(reader, table)
    return _SpecsPlace(element, vector_at, values, reader.has_unknown_fields)


def _shared(places: Iterable[Iterable[_SpecsPlace]]) -> set[int]:
    """Values that belong to several compile specs."""
    users = Counter(at for plan in places for place in plan for at in place.values if at)
    return {at for at, count in users.items() if count > 1}


def _other_users(program: _Program) -> Iterable[int]:
    for subsegments in (program.constant_segment, *program.mutable_data_segments):
        # ExecuTorch writes index 0 and no offsets where there is nothing.
        if subsegments.offsets:
            yield subsegments.segment_index
    for named in program.named_data:
        yield named.segment_index


def _check_spans(found: _Found, file_size: int) -> None:
    """No blob reaches into another, nor out of the file: they are no more bytes than it has."""
    header, end = found.header, 0
    space = 0
    if header.segment_base:
        space = header.segment_size or file_size - header.segment_base
    for index, segment in enumerate(found.segments):
        if segment.offset < end:
            raise SchemaError(
                f"offset {segment.offset} is inside of the segment before, which ends at {end}",
                f"segments[{index}]",
            )
        end = segment.offset + segment.size
        if end > space:
            raise SchemaError(
                f"it ends at {end}, outside of the {space} bytes of segments", f"segments[{index}]"
            )
    inline = [blob for blob in found.inline if blob.size]
    for first, second in pairwise(sorted(inline, key=lambda blob: blob.start)):
        # The second one's size is not the first one's to change, either.
        if second.start - 4 < first.start + first.size:
            index = found.inline.index(second)
            raise SchemaError("it shares bytes with another", f"backend_delegate_data[{index}]")


def _check_references(found: _Found) -> None:
    count = {
        DataLocation.INLINE: len(found.inline),
        DataLocation.SEGMENT: len(found.segments),
    }
    for plan_index, plan in enumerate(found.plans):
        for delegate_index, delegate in enumerate(plan.delegates):
            if delegate.processed.index >= count[delegate.processed.location]:
                raise SchemaError(
                    f"there is no {delegate.processed.place}",
                    f"execution_plan[{plan_index}].delegates[{delegate_index}].processed.index",
                )


def _changes(
    whole: bytes, found: _Found, blobs: Mapping[BlobKey, bytes | bytearray | memoryview]
) -> tuple[dict[int, bytes], dict[int, bytes]]:
    """The new blobs that differ from the old ones: in the flatbuffer, and in segments."""
    keys = {delegate.processed for plan in found.plans for delegate in plan.delegates}
    changes: dict[DataLocation, dict[int, bytes]] = {place: {} for place in DataLocation}
    for key, buffer in blobs.items():
        if key not in keys:
            raise SchemaError("no delegate has its blob there", key.place)
        blob = bytes(buffer)
        start, size = found.span(key)
        if len(blob) == size and whole.startswith(blob, start):
            continue
        if key.location is DataLocation.SEGMENT and key.index in found.others:
            raise SchemaError("something else than delegates uses it, too", key.place)
        changes[key.location][key.index] = blob
    return changes[DataLocation.INLINE], changes[DataLocation.SEGMENT]


def _lowest_bit(number: int) -> int:
    """The greatest power of two that divides a number."""
    return number & -number


def _modulus(gap: int, offset: int, alignment: int) -> int:
    """A power of two, longer than the gap: the remainder modulo it gives the gap's end back."""
    if gap < alignment:
        return alignment
    return max(_lowest_bit(offset), 1 << gap.bit_length())


def _rewritten(
    whole: bytes,
    found: _Found,
    write: Callable[[Writer], None],
    plans: tuple[_Plan, ...],
    inline: dict[int, bytes],
    segments: dict[int, bytes],
) -> bytes:
    """The file after `write` has changed its flatbuffer, and with these segments.

    Raises `SchemaError` where the result does not say `plans`, or not have these blobs.
    """
    placed = _place(found, segments)
    header, view = found.header, memoryview(whole)
    writer = Writer(whole[4:8])
    out = writer.out = bytearray(view[: header.program_size])
    write(writer)
    for old, new in zip(found.segments, placed, strict=True):
        _write_segment(writer, old, new)
    if len(out) > _MOST_FLATBUFFER_BYTES:
        raise SchemaError(f"{len(out)} bytes are too many for a flatbuffer")

    start = _start(found, len(out))
    pieces: list[bytes | bytearray | memoryview] = [
        out,
        _gap(view[header.program_size : header.start], start - len(out)),
    ]
    end, new_end = header.start, start
    for index, (old, new) in enumerate(zip(found.segments, placed, strict=True)):
        at, new_at = header.start + old.offset, start + new.offset
        pieces.append(_gap(view[end:at], new_at - new_end))
        end, new_end = at + old.size, new_at + new.size
        pieces.append(segments.get(index, view[at:end]))
    pieces.append(view[end:])
    header.write(out, start, end - header.start, new_end - start)
    result = b"".join(pieces)
    _check(result, whole, found, plans, inline, placed)
    return result


def _start(found: _Found, program_size: int) -> int:
    """The position of the segments behind a flatbuffer that now has this size."""
    start = found.header.segment_base
    if start == 0:
        return program_size
    gap = start - found.header.program_size
    return program_size + (start - program_size) % _modulus(gap, start, found.alignment)


def _place(found: _Found, blobs: dict[int, bytes]) -> list[_DataSegment]:
    """All segments, some of them with new blobs, as far from the first one as they now are."""
    placed: list[_DataSegment] = []
    end, alignment = 0, found.alignment
    for index, (segment, gap) in enumerate(zip(found.segments, found.gaps, strict=True)):
        modulus = _modulus(gap, segment.offset, alignment)
        offset = end + (segment.offset - end) % modulus
        size = len(blobs[index]) if index in blobs else segment.size
        placed.append(_DataSegment(offset, size))
        end = offset + size
    if end and not found.header.segment_base:
        raise SchemaError("a program without extended header cannot have any", "segments")
    return placed


def _write_inline(writer: Writer, old: _Inline, blob: bytes) -> None:
    if len(blob) <= old.size:
        struct.pack_into("<I", writer.out, old.start - 4, len(blob))
        end = old.start + len(blob)
        writer.out[old.start : end] = blob
        writer.out[end : old.start + old.size] = bytes(old.size - len(blob))
        return
    alignment = max(_LEAST_INLINE_ALIGNMENT, _lowest_bit(old.start))
    table = _inline_table(min(alignment, _MOST_INLINE_ALIGNMENT))
    writer.point(old.element, table.write(writer, _InlineData(blob)))


def _write_specs(
    writer: Writer, place: _SpecsPlace, old: _Delegate, new: _Delegate, shared: set[int]
) -> None:
    specs = new.compile_specs
    lengths = [[(spec.key, len(spec.value)) for spec in d.compile_specs] for d in (old, new)]
    if lengths[0] == lengths[1] and shared.isdisjoint(place.values):
        for at, spec in zip(place.values, specs, strict=True):
            if at:
                writer.out[at + 4 : at + 4 + len(spec.value)] = spec.value
    elif place.has_unknown_fields:
        raise SchemaError(
            "its tables have fields of a newer schema, which would be lost", "compile_specs"
        )
    elif place.vector_at:
        writer.point(place.vector_at, _COMPILE_SPECS.write(writer, specs))
    else:
        # A table that leaves its specs out has no room for an offset to them.
        writer.point(place.element, _DELEGATE.write(writer, new))


def _write_segment(writer: Writer, old: _Segment, new: _DataSegment) -> None:
    changes = [
        (at, after)
        for at, before, after in (
            (old.offset_at, old.offset, new.offset),
            (old.size_at, old.size, new.size),
        )
        if before != after
    ]
    if all(at for at, _ in changes):
        for at, after in changes:
            struct.pack_into("<Q", writer.out, at, after)
    else:
        # A table that leaves a zero out has no room for another number.
        writer.point(old.element, _DATA_SEGMENT.write(writer, new))


def _gap(old: memoryview, size: int) -> bytes | memoryview:
    return old if len(old) == size else bytes(size)


def _check(
    result: bytes,
    whole: bytes,
    old: _Found,
    plans: tuple[_Plan, ...],
    inline: dict[int, bytes],
    placed: list[_DataSegment],
) -> None:
    """What was written says what was meant: tables that share bytes could prevent that."""
    new = _scan(result)
    blobs = [
        inline[i] if i in inline else whole[blob.start : blob.start + blob.size]
        for i, blob in enumerate(old.inline)
    ]
    if (
        new.plans != plans
        or new.others != old.others
        or [blob.size for blob in new.inline] != [len(blob) for blob in blobs]
        or not all(map(result.startswith, blobs, (blob.start for blob in new.inline)))
        or [_DataSegment(segment.offset, segment.size) for segment in new.segments] != placed
    ):
        raise SchemaError("tables of the flatbuffer share bytes: not one of them can be changed")
