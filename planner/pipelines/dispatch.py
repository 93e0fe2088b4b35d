"""Programs of every kind that can be planned, told apart by their bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from planner.errors import InputError
from planner.options import PlanOptions
from planner.pipelines.exported import PlannedExport, check_is_exported, plan_exported
from planner.pipelines.lowered import Replanned, is_lowered, replan
from planner.result.program import DelegateResult

Planned = PlannedExport | Replanned
Progress = Callable[[str, DelegateResult | None], None]

_MAGIC_BYTES = 8
_ZIP = b"PK"


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
    _check_is_known(data[:_MAGIC_BYTES], name)
    return plan_exported(data, name, options, progress)


def check_input(file: BinaryIO, name: str) -> None:
    """Raises ``InputError`` unless a file looks like a program of a kind that can be planned."""
    start = file.read(_MAGIC_BYTES)
    file.seek(0)
    if not is_lowered(start):
        _check_is_known(start, name)
        check_is_exported(file, name)


def _check_is_known(start: bytes, name: str) -> None:
    if not start.startswith(_ZIP):
        wrong = "not a zip archive" if start else "empty"
        raise InputError(
            f"{name} is {wrong}: hand in a file written by torch.export.save, a lowered "
            "program (.pte), or a VkGraph"
        )
