"""The kind of program in a file, by its first bytes."""

from __future__ import annotations

from enum import StrEnum
from typing import BinaryIO, Final

from planner.errors import InputError
from schema import bundled_program, delegate, plan, vkgraph
from schema.executorch_program import is_executorch_program

MAGIC_BYTES: Final = 8
"""The number of bytes that determine the kind."""

_ZIP: Final = b"PK"


class FileKind(StrEnum):
    """A kind of file that holds a program; the value is its name in documents."""

    EXPORTED = "pt2"
    """A program written by ``torch.export.save``."""
    LOWERED = "pte"
    """A program of ExecuTorch (``.pte``)."""
    BUNDLED = "bpte"
    """A program of ExecuTorch with tests of it (``.bpte``)."""
    VKGRAPH = "vkgraph"
    """A bare VkGraph."""
    DELEGATE = "delegate"
    """A Vulkan delegate's blob: a VkGraph with its constants."""
    PLANNED = "plan"
    """A planned program."""


_IDENTIFIED: Final = {
    bundled_program.FILE_IDENTIFIER: FileKind.BUNDLED,
    vkgraph.FILE_IDENTIFIER: FileKind.VKGRAPH,
    delegate.MAGIC: FileKind.DELEGATE,
    plan.FILE_IDENTIFIER: FileKind.PLANNED,
}


def kind_of(data: bytes) -> FileKind | None:
    """The kind by the first ``MAGIC_BYTES`` bytes; any zip archive counts as exported."""
    if is_executorch_program(data):
        return FileKind.LOWERED
    if data.startswith(_ZIP):
        return FileKind.EXPORTED
    return _IDENTIFIED.get(bytes(data[4:8]))


def is_lowered(data: bytes) -> bool:
    """Whether the bytes are a program that is already lowered, which needs no torch."""
    return kind_of(data) in (
        *(FileKind.LOWERED, FileKind.BUNDLED),
        *(FileKind.VKGRAPH, FileKind.DELEGATE),
    )


def check_plannable(file: BinaryIO, name: str) -> None:
    """Raises ``InputError`` unless a file looks like a program that can be planned."""
    start = file.read(MAGIC_BYTES)
    file.seek(0)
    if not is_lowered(start):
        from planner.files.exported import check_is_exported

        check_is_zip(start, name)
        check_is_exported(file, name)


def check_is_lowered(start: bytes, name: str) -> None:
    """Raises ``InputError`` unless a file that begins so is a lowered program."""
    if not is_lowered(start):
        raise InputError(f"{name} is not a lowered program: hand in a .pte, a .bpte, or a VkGraph")


def check_is_zip(start: bytes, name: str) -> None:
    """Raises ``InputError`` unless a file that is not lowered may be an exported one."""
    if kind_of(start) is not FileKind.EXPORTED:
        wrong = "not a zip archive" if start else "empty"
        raise InputError(
            f"{name} is {wrong}: hand in a file written by torch.export.save, a lowered "
            "program (.pte, .bpte), or a VkGraph"
        )
