"""The blob of a Vulkan delegate: a header, a graph's flatbuffer, and constant bytes.

Each part starts at a multiple of 16 bytes, and zeros fill the gaps. The header is

    bytes 0..3    zero
    bytes 4..7    "VH00"
    bytes 8..9    size of the header: 30
    bytes 10..13  offset of the flatbuffer
    bytes 14..17  size of the flatbuffer
    bytes 18..21  offset of the constants
    bytes 22..29  size of the constants

with every number unsigned and little endian.
"""

from __future__ import annotations

import struct

from schema.error import SchemaError
from schema.frozen import frozen

MAGIC = b"VH00"
_HEADER = struct.Struct("<4x4sHIIIQ")
_ALIGNMENT = 16


@frozen
class DelegateBlob:
    """A blob taken apart; offsets and sizes are in bytes, as its header gives them."""

    flatbuffer_offset: int
    flatbuffer_size: int
    bytes_offset: int
    bytes_size: int
    flatbuffer: bytes
    constants: bytes


def split_delegate(blob: bytes | bytearray | memoryview) -> DelegateBlob:
    """Takes a blob apart; raises ``SchemaError`` for bytes that are not one.

    The contents of the flatbuffer are not checked: ``schema.vkgraph.decode`` does that.
    """
    data = memoryview(bytes(blob))
    if len(data) < _HEADER.size:
        raise SchemaError(f"{len(data)} bytes are too few for a header of {_HEADER.size}", "header")
    magic, header_size, flatbuffer_offset, flatbuffer_size, bytes_offset, bytes_size = (
        _HEADER.unpack_from(data)
    )
    if magic != MAGIC:
        raise SchemaError(f"the magic bytes are {magic!r}, not {MAGIC!r}", "header")
    if header_size != _HEADER.size:
        raise SchemaError(f"the header's size is {header_size}, not {_HEADER.size}", "header")
    flatbuffer_end = flatbuffer_offset + flatbuffer_size
    if flatbuffer_size == 0:
        raise SchemaError("it has no bytes", "flatbuffer")
    if flatbuffer_offset < header_size:
        raise SchemaError(f"offset {flatbuffer_offset} is inside the header", "flatbuffer")
    if bytes_offset < flatbuffer_end:
        raise SchemaError(f"offset {bytes_offset} is inside the flatbuffer", "constants")
    for name, end in (
        ("flatbuffer", flatbuffer_end),
        ("constants", bytes_offset + bytes_size),
    ):
        if end > len(data):
            raise SchemaError(f"it ends at {end}, outside the {len(data)}-byte blob", name)
    return DelegateBlob(
        flatbuffer_offset,
        flatbuffer_size,
        bytes_offset,
        bytes_size,
        bytes(data[flatbuffer_offset:flatbuffer_end]),
        bytes(data[bytes_offset : bytes_offset + bytes_size]),
    )


def join_delegate(flatbuffer: bytes, constants: bytes = b"") -> bytes:
    """The blob of a graph and its constants, byte for byte as ExecuTorch lays it out.

    Raises ``SchemaError`` for a flatbuffer that is empty or too large for the header.
    """
    if not flatbuffer:
        raise SchemaError("it has no bytes", "flatbuffer")
    flatbuffer_offset = _aligned(_HEADER.size)
    bytes_offset = flatbuffer_offset + _aligned(len(flatbuffer))
    if bytes_offset >= 1 << 32:
        raise SchemaError(f"{len(flatbuffer)} bytes are too many for the header", "flatbuffer")
    header = _HEADER.pack(
        MAGIC, _HEADER.size, flatbuffer_offset, len(flatbuffer), bytes_offset, len(constants)
    )
    return b"".join(_padded(part) for part in (header, flatbuffer, constants))


def _aligned(size: int) -> int:
    return size + -size % _ALIGNMENT


def _padded(part: bytes) -> bytes:
    return part.ljust(_aligned(len(part)), b"\0")
