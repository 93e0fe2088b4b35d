"""Programs of every kind that can be planned, told apart by their bytes."""

from __future__ import annotations

from planner.files.kinds import MAGIC_BYTES, check_is_zip, is_lowered
from planner.options import PlanOptions
from planner.pipelines.lowered import Planned, replan
from planner.result.program import Progress


def plan_program(
    data: bytes,
    name: str,
    options: PlanOptions | None = None,
    progress: Progress = lambda stage, delegate: None,
) -> Planned:
    """Plans an exported program (``.pt2``) or a lowered one (``.pte``, VkGraph), given as bytes.

    ``name`` stands for the program in messages and in the report. ``progress`` is called with the
    name of each stage as it begins, and with each delegate as it is finished.

    Raises ``InputError`` for bytes of another kind, and as ``plan_exported`` and ``replan`` do.
    """
    options = options or PlanOptions()
    if is_lowered(data):
        return replan(data, name, options, progress)
    from planner.pipelines.exported import plan_exported

    check_is_zip(data[:MAGIC_BYTES], name)
    return plan_exported(data, name, options, progress)
