"""What ExecuTorch's WebGPU runtime does with a VkGraph: data with sources, by release.

``webgpu.json`` has the operators that each release brought, by the names that they are registered
under, and what some kernels take: element types, dimensions, and which of them copy bytes. Its
sources are files of ExecuTorch's repository.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, Final, Literal

from planner.ir.graph import Operator, Tensor
from planner.ir.physical import ELEMENT_BYTES
from planner.kernels.releases import FIRST_WITH, RELEASES, Release
from schema import VkDataType
from schema.frozen import frozen

_TABLE: Final = Path(__file__).with_name("webgpu.json")
_WORD: Final = 4
_COUNTED: Final = {"elements": "elements", "last size": "elements of the last dimension"}
_PADS_FROM: Final[Release] = "1.5"
"""The release from which buffers are rounded up to whole words: ``WebGPUGraph.cpp``."""


@frozen
class _Kernel:
    """What the kernels of some operators take.

    ``reads`` and ``makes`` are the types of elements; None is any. ``dims`` are the most
    dimensions, by the release from which they hold, and ``first_dims`` those of the first argument.
    What is ``by_fours`` in the output has to be a multiple of 4, and the ``last_argument`` to be
    this text. Of types, it ``converts`` these pairs; None is any. What ``is_of_one_shape`` does not
    broadcast. A copy moves bytes, whatever they are, in whole words.
    """

    reads: frozenset[VkDataType] | None
    makes: frozenset[VkDataType] | None
    dims: tuple[tuple[Release, int], ...]
    first_dims: tuple[tuple[Release, int], ...]
    by_fours: Literal["elements", "last size"] | None
    last_argument: str | None
    converts: frozenset[tuple[VkDataType, VkDataType]] | None
    is_of_one_shape: bool
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
    made = [tensors[t] for t in operator.outputs]
    if not made:
        return  # it computes sizes
    for kernel in _kernels().get(operator.name, ()):
        read = operands[: len(operands) - len(made)]
        others = _other_types("reads", kernel.reads, read)
        yield from others or _other_types("makes", kernel.makes, made)
        yield from _too_many(kernel.dims, operands, release)
        yield from _too_many(kernel.first_dims, operands[:1], release)
        shape = made[0].shape or (1,)
        counted = {"elements": prod(shape), "last size": shape[-1]}
        if kernel.by_fours is not None and counted[kernel.by_fours] % _WORD:
            what = _COUNTED[kernel.by_fours]
            yield f"takes {what} by fours, and this has {counted[kernel.by_fours]}"
        given, wanted = operator.args[-1:], kernel.last_argument
        if wanted is not None and isinstance(given[0], str) and given[0] != wanted:
            yield f"takes {wanted!r} for its last argument, and this is {given[0]!r}"
        pair = operands[0].dtype, operands[-1].dtype
        if kernel.converts is not None and pair[0] != pair[1] and pair not in kernel.converts:
            yield f"does not convert {pair[0].name.lower()} to {pair[1].name.lower()}"
        if kernel.is_of_one_shape and len({t.shape for t in operands}) > 1:
            yield "does not broadcast"
        if kernel.is_copy and len({t.dtype for t in operands}) == 1:
            yield from _copying(operands, is_dynamic=is_dynamic)


def _other_types(
    does: str, taken: frozenset[VkDataType] | None, operands: Sequence[Tensor]
) -> list[str]:
    names = " and ".join(dtype.name.lower() for dtype in sorted(taken or ()))
    return [
        f"{does} {names} alone, and this is {dtype.name.lower()}"
        for dtype in sorted({t.dtype for t in operands} - (taken or frozenset(VkDataType)))
    ]


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
        pairs = [(_dtype(a), _dtype(b)) for a, b in row.get("converts", ())]
        kernel = _Kernel(
            _dtypes(row, "reads"),
            _dtypes(row, "makes"),
            tuple(row.get("dims", {}).items()),
            tuple(row.get("first_dims", {}).items()),
            row.get("by_fours"),
            row.get("last_argument"),
            frozenset(pairs) if pairs else None,
            row.get("is_of_one_shape", False),
            row.get("is_copy", False),
        )
        for name in row["operators"]:
            found.setdefault(name, []).append(kernel)
    return found


def _dtypes(row: Mapping[str, Any], key: str) -> frozenset[VkDataType] | None:
    return frozenset(map(_dtype, row[key])) if key in row else None


def _dtype(name: str) -> VkDataType:
    return VkDataType[name.upper()]
