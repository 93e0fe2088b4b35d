"""Bundled programs (``.bpte``): a program of ExecuTorch with inputs and outputs to test it by.

The file is a flatbuffer, a ``BundledProgram`` of ExecuTorch's
``devtools/bundled_program/schema/bundled_program_schema.fbs``. Only the program in it is read.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from schema.error import SchemaError
from schema.flatbuffer import Reader, Writer
from schema.tables import Blob, Scalar, Table

FILE_IDENTIFIER: Final = b"BP08"

_ALIGNMENT: Final = 32
"""``force_align`` of the program, and so more than anything behind it asks for."""


class _Bundle(NamedTuple):
    version: int
    method_test_suites: int  # an offset that is not followed here
    program: bytes


_BUNDLE: Final = Table(
    "BundledProgram",
    _Bundle,
    {"version": Scalar("I"), "method_test_suites": Scalar("I"), "program": Blob(_ALIGNMENT)},
)


class _Found(NamedTuple):
    """Positions in the file; 0 for what is left out."""

    root: int
    suites_at: int  # the offset to the test suites
    suites: int
    program_at: int  # the offset to the program
    start: int  # of the program's bytes
    end: int
    is_first: bool  # whether nothing but the root's table comes before the program


def is_bundled_program(data: bytes | bytearray | memoryview) -> bool:
    """Whether bytes have the file identifier of a bundled program; the rest may be wrong."""
    return bytes(data[4:8]) == FILE_IDENTIFIER


def program_in(data: bytes | bytearray | memoryview) -> bytes:
    """The program in a bundled one; raises ``SchemaError`` for bytes that are not one."""
    whole = bytes(data)
    found = _scan(whole)
    return whole[found.start : found.end]


def with_program(data: bytes | bytearray | memoryview, program: bytes) -> bytes:
    """The bundled program with another program in it; its tests stay.

    Where nothing changes, the result equals ``data``. Raises ``SchemaError`` for bytes that are not
    a bundled program, and for more bytes than a flatbuffer can hold.
    """
    whole = bytes(data)
    found = _scan(whole)
    if whole[found.start : found.end] == program:
        return whole
    if not found.is_first:
        writer = Writer.after(whole)
        writer.point(found.program_at, writer.blob(program, _ALIGNMENT))
        return writer.finish(found.root)
    # ExecuTorch writes the program first: only the root's offset to the tests leads past it.
    moved = len(program) - (found.end - found.start)
    moved += -moved % _ALIGNMENT
    padding = bytes(moved + found.end - found.start - len(program))
    writer = Writer.after(b"".join((whole[: found.start], program, padding, whole[found.end :])))
    struct.pack_into("<I", writer.out, found.start - 4, len(program))
    if found.suites:
        writer.point(found.suites_at, found.suites + moved)
    return writer.finish(found.root)


def _scan(whole: bytes) -> _Found:
    reader = Reader(whole)
    root = reader.root(FILE_IDENTIFIER)
    try:
        layout = reader.layout(_BUNDLE, root)
        _, suites_offset, program_offset = layout.offsets
        if not program_offset:
            raise SchemaError("it holds no program", "program")
        program_at = root + program_offset
        vector = program_at + _unsigned(whole, program_at)
        count = reader.count(vector, 1)
    except SchemaError as error:
        raise error.within("BundledProgram") from None
    start, end = vector + 4, vector + 4 + count
    suites_at = root + suites_offset if suites_offset else 0
    suites = suites_at + _unsigned(whole, suites_at) if suites_at else 0
    if suites >= len(whole):
        raise SchemaError("its tests are outside the file", "BundledProgram.method_test_suites")
    vtable = root - struct.unpack_from("<i", whole, root)[0]
    is_first = (
        not layout.others
        and max(root, vtable) < vector
        and (not suites or suites >= end)
        and start % _ALIGNMENT == 0
    )
    return _Found(root, suites_at, suites, program_at, start, end, is_first)


def _unsigned(data: bytes, at: int) -> int:
    number: int = struct.unpack_from("<I", data, at)[0]
    return number
