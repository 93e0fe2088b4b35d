"""Programs of every kind that can be planned, told apart by their bytes."""

from __future__ import annotations

from collections.abc import Callable

from planner.files.kinds import MAGIC_BYTES, check_is_zip, is_lowered
from planner.options import PlanOptions
from planner.pipelines.exported import PlannedExport, plan_exported
from planner.pipelines.lowered import Replanned, replan
from planner.result.program import DelegateResult

Planned = PlannedExport | Replanned
Progress = Callable[[str, DelegateResult | None], None]


def plan_program(
    data: bytes,
    name: str,
    options: PlanOptions,
    progress: Progress = lambda stage, delegate: None,
) -> Planned:
    """Plans an exported program (``.pt2``) or a lowered one (``.pte``, VkGraph).

    Raises ``InputError`` for bytes of another kind, and as ``plan_exported`` and ``replan`` do.
    """
    if is_lowered(data):
        return replan(data, name, options, progress)
    check_is_zip(data[:MAGIC_BYTES], name)
    return plan_exported(data, name, options, progress)
