"""Tunings as a device's page lists them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from api.store.tables import TuningRecord
from planner.tuning.result import BASELINE


@dataclass(frozen=True, slots=True)
class TuningRow:
    """A tuning, without its plans; ``gain`` is the winner's, None where no other plan won."""

    id: str
    program: str
    created: datetime
    updated: datetime
    ended: str | None
    stage: str
    winner: str | None
    gain: Mapping[str, float | None] | None

    @classmethod
    def of(cls, tuning: TuningRecord) -> TuningRow:
        """The row of a tuning of which it may be that nothing was told yet."""
        told = json.loads(tuning.document)
        gains = {finalist["name"]: finalist["gain"] for finalist in told.get("finalists", ())}
        winner = told.get("winner")
        return cls(
            tuning.id,
            tuning.program_name,
            tuning.created,
            tuning.updated,
            tuning.ended,
            told.get("stage", ""),
            winner,
            None if winner == BASELINE else gains.get(winner),
        )
