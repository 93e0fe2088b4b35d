"""What came of verifying a planned program: is it right, and can its optimum be proven again?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Literal

from planner.result.report import IN_API, read_document
from schema.frozen import frozen

Verdict = Literal["right", "proven", "open", "refuted"]
"""``right``: checked, and no proof was asked for. ``proven``: no plan costs less. ``open``: that is
not proven. ``refuted``: a plan costs less than this one says that any does."""


@frozen
class DelegateVerification:
    """A delegate of a planned program that the checker found to be right."""

    __pydantic_config__: ClassVar = IN_API

    index: int
    name: str
    cost: float
    """What was minimised, counted again, in the unit of the program."""
    transitions: int
    """Repacks, counted again."""
    status: str
    """What the plan says of itself: ``OPTIMAL`` or ``FEASIBLE``."""
    method: str
    """How it says that its bound was reached: ``elimination``, ``search`` or ``unknown``."""
    claimed_bound: float
    """What it says no plan costs less than."""
    verdict: Verdict
    bound: float | None = None
    """What was proven here that no plan costs less than; absent where no proof was asked for."""
    fewest_transitions: int | None = None
    """No plan of that cost has fewer repacks; absent where that cost is not proven."""
    least_cost: float | None = None
    """The least cost that was found; below the plan's, it is of another plan."""
    seconds: float = 0.0
    """Wall-clock time of the proof."""


@frozen
class VerificationReport:
    """A planned program that the checker found to be right, and what was proven of it."""

    __pydantic_config__: ClassVar = IN_API

    name: str
    unit: str
    """``bytes`` or ``ns``."""
    objective: str
    profile: str
    delegates: tuple[DelegateVerification, ...]
    bound: float | None = None
    """What no plan costs less than, of all delegates together: where they share limits."""
    least_cost: float | None = None
    """The least cost of all delegates together that was found there."""

    @property
    def verdict(self) -> Verdict:
        """The worst of the delegates' verdicts."""
        order: tuple[Verdict, ...] = ("right", "proven", "open", "refuted")
        found = [delegate.verdict for delegate in self.delegates]
        return max(found, key=order.index, default="right")

    def document(self) -> dict[str, Any]:
        """The report as a JSON document; what is not known is left out."""
        document = {key: value for key, value in asdict(self).items() if value is not None}
        document["verdict"] = self.verdict
        document["delegates"] = [
            {key: value for key, value in delegate.items() if value is not None}
            for delegate in document["delegates"]
        ]
        return document


def read_verification(document: Mapping[str, Any]) -> VerificationReport:
    """The report of a JSON document that ``VerificationReport.document`` made."""
    return read_document(VerificationReport, document)
