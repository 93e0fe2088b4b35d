"""What ExecuTorch's WebGPU runtime does with a VkGraph: data with sources, by release.

``webgpu.json`` has the operators that each release brought, by the names that they are registered
under, and what some kernels take: element types, dimensions, and which of them copy bytes. Its
sources are files of ExecuTorch's repository.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, Final

from planner.ir.graph import Operator, Tensor
from planner.ir.physical import ELEMENT_BYTES
from planner.kernels.releases import FIRST_WITH, RELEASES, Release
from schema import VkDataType

_TABLE: Final = Path(__file__).with_name("webgpu.json")
_WORD: Final = 4
_PADS_FROM: Final[Release] = "1.5"
"""The release from which buffers are rounded up to whole words: ``WebGPUGraph.cpp``."""


@dataclass(frozen=True, slots=True)
class _Kernel:
    """What the kernels of some operators take.

    ``dtypes`` are the types of elements; None is any. ``dims`` are the most dimensions, by the
    release from which they hold, and ``first_dims`` those of the first argument. A copy moves
    bytes, whatever they are, in whole words.
    """

    dtypes: frozenset[VkDataType] | None
    dims: tuple[tuple[Release, int], ...]
    first_dims: tuple[tuple[Release, int], ...]
    is_copy: bool


@cache
def webgpu_releases_of(name: str) -> tuple[Release, ...]:
    """The releases whose WebGPU runtime has an operator, by its name in a VkGraph; oldest first."""
    brought = _table()["releases"]
    for release in RELEASES[RELEASES.index(FIRST_WITH["webgpu"]) :]:
        if name in brought[release]["operators"]:
            return RELEASES[RELEASES.index(release) :]
    return ()


def webgpu_limits(
    operator: Operator, tensors: Sequence[Tensor], release: Release, *, is_dynamic: bool
) -> Iterator[str]:
    """What keeps a release's WebGPU runtime from a call of an operator that it has, in words.

    ``is_dynamic`` says that sizes of the graph may change from run to run.
    """
    operands = [tensors[t] for _, _, members in operator.operands() for t in members]
    for kernel in _kernels().get(operator.name, ()):
        for dtype in sorted({t.dtype for t in operands} - (kernel.dtypes or frozenset(VkDataType))):
            taken = " and ".join(d.name.lower() for d in sorted(kernel.dtypes or ()))
            yield f"reads {taken} alone, and this is {dtype.name.lower()}"
        yield from _too_many(kernel.dims, operands, release)
        yield from _too_many(kernel.first_dims, operands[:1], release)
        if kernel.is_copy and len({t.dtype for t in operands}) == 1:
            yield from _copying(operands, is_dynamic=is_dynamic)


def _too_many(
    dims: Sequence[tuple[Release, int]], operands: Sequence[Tensor], release: Release
) -> Iterator[str]:
    most = max((n for since, n in dims if release >= since), default=None)
    longest = max((len(t.shape) for t in operands), default=0)
    if most is not None and longest > most:
        yield f"takes at most {most} dimension{'s' * (most > 1)}, and this has {longest}"


def _copying(operands: Sequence[Tensor], *, is_dynamic: bool) -> Iterator[str]:
    size = ELEMENT_BYTES[operands[0].dtype]
    moved = size * prod(operands[0].shape)
    if moved % _WORD:
        yield f"copies whole words of {_WORD} bytes, and this is {moved} bytes"
    elif is_dynamic and size != _WORD:
        yield (
            f"copies {_WORD} bytes for each element once sizes change, and these have {size}: it "
            "reads beyond them, or is refused"
        )


def is_unpadded(tensor: Tensor, release: Release) -> bool:
    """Whether a release cannot move a tensor between the host and the GPU: it is no whole words."""
    return release < _PADS_FROM and ELEMENT_BYTES[tensor.dtype] * prod(tensor.shape) % _WORD != 0


@cache
def _table() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_TABLE.read_text("utf-8"))
    return found


@cache
def _kernels() -> dict[str, list[_Kernel]]:
    found: dict[str, list[_Kernel]] = {}
    for row in _table()["kernels"]:
        dtypes = [VkDataType[name.upper()] for name in row.get("dtypes", ())]
        kernel = _Kernel(
            frozenset(dtypes) if dtypes else None,
            tuple(row.get("dims", {}).items()),
            tuple(row.get("first_dims", {}).items()),
            row.get("is_copy", False),
        )
        for name in row["operators"]:
            found.setdefault(name, []).append(kernel)
    return found
