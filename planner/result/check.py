"""What came of checking a lowered program: will it load, and be right?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Literal

from planner.result.report import IN_API, read_document
from schema.frozen import frozen

FindingKind = Literal[
    "operator",
    "representation",
    "kernel",
    "fault",
    "limit",
    "memory",
    "resolution",
    "restriction",
    "target",
]
"""What a finding is about."""


@frozen
class Finding:
    """Why a delegate will not load, or not be right."""

    __pydantic_config__: ClassVar = IN_API

    delegate: int
    place: str
    """The operator or value; empty where it is the whole graph."""
    kind: FindingKind
    """``operator``, ``representation``, ``kernel``, ``fault``, ``limit``, ``memory``,
    ``resolution``, ``restriction`` or ``target``."""
    text: str
    source: str = ""
    """What says so; empty for a rule of ET-VK's."""


@frozen
class CheckReport:
    """What a check of a lowered program found; nothing is known to be wrong without findings."""

    __pydantic_config__: ClassVar = IN_API

    name: str
    runtime: str
    """The releases of ExecuTorch that it was checked for: ``1.3``, or ``1.3+`` and later."""
    gpu: str
    """Empty where none was named."""
    delegates: int
    operators: int
    taken_by: tuple[str, ...]
    """The releases that accept every operator and representation, faults aside."""
    unknown: tuple[str, ...]
    """The operators that no release registers, of which nothing can be said."""
    unloadable: tuple[str, ...]
    """The operators with a known fault for which the program does not load."""
    findings: tuple[Finding, ...]
    target: str = "vulkan"
    """The backend whose runtime it was checked for: ``vulkan`` or ``webgpu``."""

    def document(self) -> dict[str, Any]:
        """The report as a JSON document."""
        return asdict(self)


def read_check(document: Mapping[str, Any]) -> CheckReport:
    """The report of a JSON document that ``CheckReport.document`` made."""
    return read_document(CheckReport, document)
