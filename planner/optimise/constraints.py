"""The representations that limits leave to a tensor, and the error where none are left."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from planner.errors import NoRepresentationError, Remedy
from planner.ir.graph import Tensor
from planner.ir.physical import MAX_TEXTURE_DIMS, fitting
from planner.ir.representation import ANY_TEXTURE, CONTIGUOUS_BUFFER, REPRS, TensorRepSet
from planner.kernels.limits import Limits
from schema import VkDataType

_PLAIN = TensorRepSet.from_reprs(r for r in REPRS if not r.is_packed_int8).mask


def possible(tensor: Tensor, limits: Limits) -> int:
    """The representations that a tensor can have within the limits, as a bit mask over labels."""
    mask = fitting(tensor.shape, limits.texture).mask & ~_excluded(limits)
    if tensor.dtype != VkDataType.INT8:
        mask &= _PLAIN
    if limits.buffer is not None and prod(tensor.shape) >= limits.buffer:
        mask &= ANY_TEXTURE.mask
    if limits.runtime.target == "webgpu":
        mask &= CONTIGUOUS_BUFFER.mask
    return mask


def lacks_texture(tensor: Tensor, limits: Limits) -> bool:
    """Whether the texture limits exclude a texture for a tensor that could be one."""
    fits = fitting(tensor.shape, limits.texture).mask
    is_there = limits.runtime.target == "vulkan" and len(tensor.shape) <= MAX_TEXTURE_DIMS
    return is_there and ANY_TEXTURE.mask & ~fits != 0


def none_left(
    what: str, accepted: int, tensors: Iterable[Tensor], limits: Limits
) -> NoRepresentationError:
    """The error for ``what``, which has no representation left.

    ``accepted`` is the bit mask over labels of those that the shapes of ``tensors`` allow;
    ``tensors`` are its own and those that must be compatible with it.
    """
    if accepted and not accepted & ~_excluded(limits):
        names = ", ".join(sorted(layout.name for layout in limits.excluded_layouts))
        return NoRepresentationError(
            f"{what} accepts only {TensorRepSet(accepted)}, and {names} is excluded",
            Remedy.EXCLUDE_FEWER_LAYOUTS,
        )
    buffers = accepted and limits.buffer is not None
    exceeded, remedies = [], []
    if limits.runtime.target == "webgpu":
        pass  # has no textures
    elif all(len(tensor.shape) <= MAX_TEXTURE_DIMS for tensor in tensors):
        exceeded.append(f"texture limits {','.join(map(str, limits.texture))}")
        remedies.append(Remedy.RAISE_TEXTURE_LIMITS)
    elif not buffers:
        return NoRepresentationError(
            f"{what} can only be a texture, and textures hold at most {MAX_TEXTURE_DIMS} "
            "dimensions",
            Remedy.RESHAPE_TENSORS,
            Remedy.KEEP_OUT_OF_DELEGATE,
        )
    if buffers:
        exceeded.append(f"buffer limit {limits.buffer}")
        remedies.append(Remedy.RAISE_BUFFER_LIMIT)
    return NoRepresentationError(
        f"{what} has no representation within the {' and the '.join(exceeded)}", *remedies
    )


def restricted_away(what: str, limits: Limits) -> NoRepresentationError:
    """The error for ``what``, to which the user's restrictions leave no representation."""
    restrictions = ", ".join(map(str, limits.restrictions))
    return NoRepresentationError(
        f"{what} is left no representation by {restrictions}", Remedy.DROP_LIMITS
    )


def _excluded(limits: Limits) -> int:
    """The representations with an excluded layout, as a bit mask over labels."""
    return TensorRepSet.from_reprs(
        r for r in REPRS if r.memory_layout in limits.excluded_layouts
    ).mask
