"""All transitions of a program together, and the memory of each delegate, are within limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from planner.errors import VerificationError
from planner.ir.representation import TensorRepr
from planner.kernels.limits import Budget, Limits
from planner.verify.layouts import memory_bytes
from planner.verify.live import peak_bytes
from schema import DelegatePlan, VkGraph, VkStorageType, VkTensor


def check_budget(plans: Iterable[DelegatePlan], limits: Limits) -> None:
    """Counts the transitions of checked plans, the bytes of what they make, and of what is alive.

    Raises ``VerificationError`` for more than the limits allow.
    """
    if not limits.budget.words:
        return
    made = ((plan.decode_graph(), [t.output for t in plan.transitions]) for plan in plans)
    for _, text in over_budget(made, limits.budget):
        raise VerificationError(f"the plan has {text}")


def over_budget(
    made: Iterable[tuple[VkGraph, Iterable[int]]], budget: Budget
) -> Iterator[tuple[int, str]]:
    """What there is too much of in graphs together, given the values that their transitions make.

    With it, the first graph with which it is too much. In each graph by itself: tensors alive.
    """
    if not budget.words:
        return
    transitions, size = [], []
    for index, (graph, copies) in enumerate(made):
        if budget.peak_memory is not None and (peak := peak_bytes(graph)) > budget.peak_memory:
            yield index, f"{peak} bytes alive at once, and not {budget.peak_memory} at most"
        bytes_ = [_bytes(graph, copy) for copy in copies]
        transitions.append(len(bytes_))
        size.append(sum(bytes_))
    for what, found, most in (
        ("transitions", transitions, budget.transitions),
        ("bytes of copies", size, budget.bytes),
    ):
        if most is not None and sum(found) > most:
            first = next(i for i, so_far in enumerate(accumulate(found)) if so_far > most)
            yield first, f"{sum(found)} {what}, and not {most} at most"


def _bytes(graph: VkGraph, value: int) -> int:
    """Bytes in memory of what a transition makes; none where the runtime chooses its layout."""
    made = graph.values[value]
    assert isinstance(made, VkTensor)
    if made.storage_type == VkStorageType.DEFAULT_STORAGE:
        return 0
    return memory_bytes(made, TensorRepr(made.storage_type, made.memory_layout))
