"""Programs that are lowered already: their Vulkan delegates, blobs and graphs. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from planner.errors import InputError
from planner.files.kinds import FileKind, kind_of
from planner.ir.physical import DEFAULT_TEXTURE_LIMITS, SMALL_TEXTURE_LIMITS, ImageExtents
from schema import SchemaError, VkGraph, split_delegate, vkgraph
from schema.executorch_program import (
    BlobKey,
    DelegateEntry,
    is_executorch_program,
    read_program,
)

VULKAN_BACKEND: Final = "VulkanBackend"


def delegates_of(data: bytes, name: str) -> dict[BlobKey | None, bytes]:
    """The blobs (or, under None, the one graph) of the Vulkan delegates in a lowered program.

    Raises ``InputError`` for a program without any, and for damaged bytes.
    """
    return dict(vulkan_blobs(data, name))


def vulkan_blobs(data: bytes, name: str) -> list[tuple[BlobKey | None, bytes]]:
    """The key and the blob of every Vulkan delegate that runs; equal ones may share a blob."""
    if not is_executorch_program(data):
        return [(None, data)]
    found: list[tuple[BlobKey | None, bytes]] = [
        (e.key, e.blob) for e in _entries(data, name) if e.backend_id == VULKAN_BACKEND
    ]
    if not found:
        raise InputError(f"{name} has no Vulkan delegate: lower it with VulkanPartitioner first")
    return found


def lowered_limits(data: bytes, name: str) -> ImageExtents:
    """The texture limits that a program was lowered with; those of a VkGraph alone are not known.

    Where delegates differ, an extent is the least of any. Raises ``InputError`` for damaged bytes.
    """
    limits = DEFAULT_TEXTURE_LIMITS
    if is_executorch_program(data):
        for entry in _entries(data, name):
            specs = {s.key: int.from_bytes(s.value, "little") for s in entry.compile_specs}
            if entry.backend_id != VULKAN_BACKEND:
                continue
            default = (
                SMALL_TEXTURE_LIMITS
                if specs.get("small_texture_limits")
                else DEFAULT_TEXTURE_LIMITS
            )
            x, y, z = (
                min(have, specs.get(f"texture_limits_{axis}", extent))
                for axis, extent, have in zip("xyz", default, limits, strict=True)
            )
            limits = (x, y, z)
    return limits


def _entries(data: bytes, name: str) -> tuple[DelegateEntry, ...]:
    try:
        return read_program(data).delegates
    except SchemaError as error:
        raise InputError(f"{name} is damaged: {error}") from error


def graph_of(blob: bytes) -> bytes:
    """The VkGraph's flatbuffer in a delegate's blob, or the blob itself where it is one."""
    if kind_of(blob) is FileKind.VKGRAPH:
        return bytes(blob)
    return bytes(split_delegate(blob).flatbuffer)


def graphs_of(data: bytes, name: str) -> Iterator[VkGraph]:
    """The graph of every Vulkan delegate that a lowered program runs. Raises ``InputError``."""
    decoded: dict[BlobKey | None, VkGraph] = {}
    for index, (key, blob) in enumerate(vulkan_blobs(data, name)):
        try:
            if key not in decoded:
                decoded[key] = vkgraph.decode(graph_of(blob))
            yield decoded[key]
        except SchemaError as error:
            raise InputError(f"{name}, delegate {index} is damaged: {error}") from error
