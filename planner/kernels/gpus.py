"""The limits of GPUs, by the name that Vulkan gives them: data with sources."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Final

from planner.errors import OptionError
from schema.frozen import frozen

_TABLE: Final = Path(__file__).with_name("gpus.json")


@frozen
class Gpu:
    """A GPU by its ``name``, and what its ``family`` holds.

    ``image_3d`` is the largest extent of a 3D image in texels (``maxImageDimension3D``),
    ``storage_buffer`` the largest range of a storage buffer in bytes (``maxStorageBufferRange``);
    where reports differ, the least.
    """

    name: str
    family: str
    image_3d: int
    storage_buffer: int
    source: str


@cache
def known_gpus() -> tuple[tuple[str, Gpu], ...]:
    """GPUs by a part of their names in lower case; the first that fits is it."""
    rows = json.loads(_TABLE.read_text("utf-8"))
    return tuple(
        (
            row["name"].lower(),
            Gpu(row["name"], row["family"], row["image_3d"], row["storage_buffer"], row["source"]),
        )
        for row in rows
    )


def find_gpu(name: str) -> Gpu:
    """The GPU of a name as Vulkan gives it, or a part of it that the table has.

    Raises ``OptionError`` for one that the table does not have.
    """
    for part, gpu in known_gpus():
        if part in name.lower():
            return Gpu(name, gpu.family, gpu.image_3d, gpu.storage_buffer, gpu.source)
    families = ", ".join(dict.fromkeys(gpu.name for _, gpu in known_gpus()))
    raise OptionError(f"unknown GPU {name!r}: name one by Vulkan's name of it, with {families}")
