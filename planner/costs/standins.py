"""The price of PACKED_INT8_CONV2D, which the runtime turns into another layout at load time.

It is priced as 4C1W, and next to 4C1W itself as 4C. ``planner.verify.prices`` repeats this on
purpose.

Source of the facts: ExecuTorch's Vulkan runtime, ``runtime/ResolveLayouts.cpp``.
"""

from __future__ import annotations

from typing import Final

from planner.ir.representation import TensorRepr
from schema import VkMemoryLayout, VkStorageType

CONV2D: Final = TensorRepr(VkStorageType.BUFFER, VkMemoryLayout.PACKED_INT8_CONV2D)
_4C1W: Final = TensorRepr(VkStorageType.BUFFER, VkMemoryLayout.PACKED_INT8_4C1W)
_4C: Final = TensorRepr(VkStorageType.BUFFER, VkMemoryLayout.PACKED_INT8_4C)


def stand_ins(source: TensorRepr, target: TensorRepr) -> tuple[TensorRepr, TensorRepr]:
    """The pair whose price counts for a pair with CONV2D in it; any other pair unchanged."""
    stand_in = _4C if _4C1W in (source, target) else _4C1W
    return (
        stand_in if source == CONV2D else source,
        stand_in if target == CONV2D else target,
    )
