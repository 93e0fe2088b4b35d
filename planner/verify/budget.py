"""All transitions of a program together are within the user's limits."""

from __future__ import annotations

from collections.abc import Iterable

from planner.errors import VerificationError
from planner.ir.representation import TensorRepr
from planner.kernels.limits import Limits
from planner.verify.layouts import memory_bytes
from schema import DelegatePlan, VkTensor


def check_budget(plans: Iterable[DelegatePlan], limits: Limits) -> None:
    """Counts the transitions of checked plans, and the bytes of what they make.

    Raises ``VerificationError`` for more than the limits allow.
    """
    transitions = size = 0
    if limits.budget.transitions is None and limits.budget.bytes is None:
        return
    for plan in plans:
        graph = plan.decode_graph()
        for transition in plan.transitions:
            made = graph.values[transition.output]
            assert isinstance(made, VkTensor)
            transitions += 1
            size += memory_bytes(made, TensorRepr(made.storage_type, made.memory_layout))
    for what, found, most in (
        ("transitions", transitions, limits.budget.transitions),
        ("bytes of copies", size, limits.budget.bytes),
    ):
        if most is not None and found > most:
            raise VerificationError(f"the plan has {found} {what}, and not {most} at most")
