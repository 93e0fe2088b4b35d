"""What came of a tuning, and the document of it that is kept."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, field
from pathlib import Path
from typing import Any, Final

from planner.errors import InputError
from planner.tuning.journal import STATE, RunRecord
from planner.tuning.statistics import Gain
from schema.frozen import frozen

BASELINE: Final = "ExecuTorch's plan"
LEAST_COST: Final = "least repack cost"
REPORT: Final = "report.json"


@frozen
class Candidate:
    """A plan that was measured: ns of an inference, predicted before it ran and measured then."""

    name: str
    round: int
    program: bytes = field(repr=False)
    transitions: int
    predicted: float | None
    run: RunRecord


@frozen
class Round:
    """What a round taught: plans measured, calls measured for the first time, and the best plan.

    ``least`` is the least ns of an inference by all that is known after it; ``saving`` what one of
    its variants could save at best, as a part of what it was predicted to take.
    """

    number: int
    measured: int
    new_calls: int
    least: float
    saving: float


@frozen
class Finalist:
    """A plan of the last comparison: its gains over ExecuTorch's plan, on the GPU and of all.

    ``wall`` is None where the runtime did not time the whole. ``predicted`` is the gain by the
    costs that were learned.
    """

    candidate: Candidate
    gain: Gain
    wall: Gain | None
    predicted: float

    @property
    def is_faster(self) -> bool:
        """Whether it is faster on the GPU beyond noise, and not slower as a whole."""
        return self.gain.is_faster and not (self.wall is not None and self.wall.is_slower)


@frozen
class Tuned:
    """The result: the program to ship, which is ExecuTorch's where no other was proven faster."""

    program: bytes = field(repr=False)
    winner: Finalist | None
    finalists: tuple[Finalist, ...]
    candidates: tuple[Candidate, ...]
    rounds: tuple[Round, ...]
    classes: Mapping[str, tuple[float, float]]
    avoided: tuple[dict[str, Any], ...]
    baseline_error: float | None
    seconds: float
    ended: str
    outputs_are_zeros: bool = False
    """Then that outputs are the same says nothing."""


def document(tuned: Tuned) -> dict[str, Any]:
    """The result as a JSON document; times are ns per inference."""
    return {
        "winner": BASELINE if tuned.winner is None else tuned.winner.candidate.name,
        "ended": tuned.ended,
        "device_seconds": tuned.seconds,
        "baseline_error": tuned.baseline_error,
        "outputs_are_zeros": tuned.outputs_are_zeros,
        "finalists": [finalist_document(f) for f in tuned.finalists],
        "plans": [plan_document(c) for c in tuned.candidates],
        "rounds": [asdict(each) for each in tuned.rounds],
        "operators": {
            kind: {"executorch_ns": before, "ns": after}
            for kind, (before, after) in tuned.classes.items()
        },
        "avoided": list(tuned.avoided),
    }


def plan_document(candidate: Candidate) -> dict[str, Any]:
    """A plan that was measured, as a JSON document."""
    run = candidate.run
    return {
        "name": candidate.name,
        "round": candidate.round,
        "sha256": run.program,
        "transitions": candidate.transitions,
        "predicted_ns": candidate.predicted,
        "verdict": run.verdict,
        "ns": run.ns,
        "wall_ns": run.wall_ns,
        "error": run.error if math.isfinite(run.error) else None,
        "said": run.said,
    }


def finalist_document(finalist: Finalist) -> dict[str, Any]:
    """A plan of the last comparison, as a JSON document."""
    return {
        "name": finalist.candidate.name,
        "gain": _gain(finalist.gain),
        "wall_gain": None if finalist.wall is None else _gain(finalist.wall),
        "predicted_gain": finalist.predicted,
        "is_faster": finalist.is_faster,
    }


def _gain(found: Gain) -> dict[str, float | None]:
    return {
        "median": found.median,
        "low": found.low,
        "high": found.high if math.isfinite(found.high) else None,
    }


@frozen
class Ended:
    """A tuning that ended, as its folder has it: what was tuned where, and the document of it."""

    model: str
    device: str
    document: Mapping[str, Any]


def read_ended(folder: Path) -> Ended:
    """A tuning that ended; raises ``InputError`` for a folder that has none."""
    try:
        state = json.loads((folder / STATE).read_text("utf-8"))
        return Ended(
            Path(state["program"]["name"]).stem,
            state["device"],
            json.loads((folder / REPORT).read_text("utf-8")),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder} has no report of a tuning that ended: name the folder of one "
            "('layout-planner tune --folder')"
        ) from error
