"""Lowered programs: their Vulkan delegates, blobs and graphs, read without torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from planner.errors import InputError
from planner.files.kinds import FileKind, kind_of
from planner.ir.physical import DEFAULT_TEXTURE_LIMITS, SMALL_TEXTURE_LIMITS, ImageExtents
from schema import SchemaError, VkGraph, join_delegate, split_delegate, vkgraph
from schema.bundled_program import is_bundled_program, program_in
from schema.executorch_program import (
    BlobKey,
    CompileSpec,
    DelegateEntry,
    is_executorch_program,
    read_program,
    replace_blobs,
    replace_compile_specs,
)

VULKAN_BACKEND: Final = "VulkanBackend"

_EXTENTS: Final = ("texture_limits_x", "texture_limits_y", "texture_limits_z")
_SMALL: Final = "small_texture_limits"
_LIMIT_BYTES: Final = 4


def program_of(data: bytes, name: str) -> bytes:
    """The program in a bundled one; other bytes as they are.

    Raises ``InputError`` for a bundled program that is damaged.
    """
    if not is_bundled_program(data):
        return data
    try:
        return program_in(data)
    except SchemaError as error:
        raise InputError(f"{name} is damaged: {error}") from error


def delegates_of(data: bytes, name: str) -> dict[BlobKey | None, bytes]:
    """The blobs of the Vulkan delegates in a lowered program, by key; a VkGraph alone under None.

    Raises ``InputError`` for a program without any, and for damaged bytes.
    """
    return dict(vulkan_blobs(data, name))


def vulkan_blobs(data: bytes, name: str) -> list[tuple[BlobKey | None, bytes]]:
    """The key and blob of every Vulkan delegate that runs; equal delegates may share a blob.

    Raises ``InputError`` for a program without any, and for damaged bytes.
    """
    return blobs_and_limits(data, name)[0]


def blobs_and_limits(
    data: bytes, name: str
) -> tuple[list[tuple[BlobKey | None, bytes]], ImageExtents]:
    """The same, and the texture limits that the program was lowered with: it is read once.

    Raises ``InputError`` for a program without Vulkan delegates, and for damaged bytes.
    """
    data = program_of(data, name)
    if not is_executorch_program(data):
        return [(None, data)], DEFAULT_TEXTURE_LIMITS
    entries = _vulkan_entries(data, name)
    if not entries:
        raise InputError(f"{name} has no Vulkan delegate: lower it with VulkanPartitioner first")
    return [(entry.key, entry.blob) for entry in entries], _least_limits(entries)


def lowered_limits(data: bytes, name: str) -> ImageExtents:
    """The texture limits, in texels, that a program was lowered with.

    Where delegates differ, each extent is the least. A VkGraph alone does not record its limits:
    ET-VK's defaults stand for them. Raises ``InputError`` for damaged bytes.
    """
    data = program_of(data, name)
    if not is_executorch_program(data):
        return DEFAULT_TEXTURE_LIMITS
    return _least_limits(_vulkan_entries(data, name))


def _least_limits(entries: Iterable[DelegateEntry]) -> ImageExtents:
    found = [_limits(entry.compile_specs) for entry in entries]
    x, y, z = map(min, zip(*found, strict=True)) if found else DEFAULT_TEXTURE_LIMITS
    return x, y, z


def with_limits(data: bytes, name: str, limits: ImageExtents) -> bytes:
    """The program, with these texture limits as those that it was lowered with.

    They are written into the compile options of every Vulkan delegate that has others, as
    ExecuTorch's partitioner writes them. A VkGraph alone has no place for them and stays as it is.

    Raises ``InputError`` for damaged bytes, and where fields of a newer schema would be lost.
    """
    if not is_executorch_program(data):
        return data
    specs = {
        entry.position: _limited(entry.compile_specs, limits)
        for entry in _vulkan_entries(data, name)
        if _limits(entry.compile_specs) != limits
    }
    try:
        return replace_compile_specs(data, specs) if specs else data
    except SchemaError as error:
        raise InputError(f"{name} cannot be given other texture limits: {error}") from error


def _vulkan_entries(data: bytes, name: str) -> list[DelegateEntry]:
    try:
        return [e for e in read_program(data).delegates if e.backend_id == VULKAN_BACKEND]
    except SchemaError as error:
        raise InputError(f"{name} is damaged: {error}") from error


# Source of the keys, and that the last of equal ones counts: ``vulkan_partitioner.py`` and
# ``vulkan_preprocess.py`` of ExecuTorch's Vulkan backend.
def _limits(specs: Iterable[CompileSpec]) -> ImageExtents:
    """The texture limits that compile options give."""
    values = {s.key: int.from_bytes(s.value, "little") for s in specs}
    default = SMALL_TEXTURE_LIMITS if values.get(_SMALL) else DEFAULT_TEXTURE_LIMITS
    x, y, z = (values.get(key, extent) for key, extent in zip(_EXTENTS, default, strict=True))
    return x, y, z


def _limited(specs: Iterable[CompileSpec], limits: ImageExtents) -> tuple[CompileSpec, ...]:
    """Compile options that give these texture limits; all others stay, in their order."""
    missing = {
        key: limit.to_bytes(_LIMIT_BYTES, "little")
        for key, limit in zip(_EXTENTS, limits, strict=True)
    }
    values = dict(missing)
    kept = []
    for spec in specs:
        missing.pop(spec.key, None)
        kept.append(replace(spec, value=values.get(spec.key, spec.value)))
    return (*kept, *(CompileSpec(key, value) for key, value in missing.items()))


def without_constants(data: bytes, name: str) -> bytes:
    """The program without the constants of its Vulkan delegates: its graphs are as they were.

    It says all of the layouts, and is small. It cannot run. Raises ``InputError`` for a program
    without any Vulkan delegate, and for damaged bytes.
    """
    data = program_of(data, name)
    blobs = delegates_of(data, name)
    try:
        if not is_executorch_program(data):
            return graph_of(data)
        bare = {k: join_delegate(graph_of(blob)) for k, blob in blobs.items() if k is not None}
        return replace_blobs(data, bare)
    except SchemaError as error:
        raise InputError(f"{name} is damaged: {error}") from error


def graph_of(blob: bytes) -> bytes:
    """The VkGraph's flatbuffer in a delegate's blob, or the blob itself if it is one."""
    if kind_of(blob) is FileKind.VKGRAPH:
        return bytes(blob)
    return bytes(split_delegate(blob).flatbuffer)


def graphs_of(data: bytes, name: str) -> Iterator[VkGraph]:
    """The graph of every Vulkan delegate that runs; raises ``InputError`` for damaged bytes."""
    decoded: dict[BlobKey | None, VkGraph] = {}
    for index, (key, blob) in enumerate(vulkan_blobs(data, name)):
        try:
            if key not in decoded:
                decoded[key] = vkgraph.decode(graph_of(blob))
            yield decoded[key]
        except SchemaError as error:
            raise InputError(f"{name}, delegate {index} is damaged: {error}") from error
