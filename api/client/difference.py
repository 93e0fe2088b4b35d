"""What changed between two jobs: what each plan costs, before and after.

Plans are judged by the objective that they minimise. Repack costs stand beside it: a plan for the
least latency may well repack more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

# A profile counts by its content: its name may stay when its prices change. A device counts by its
# name: more is known of it with each run.
_OPTIONS: Final = (
    *(
        "profile_hash",
        "device",
        "objective",
        "texture_limits",
        "buffer_limit",
        "without_layouts",
        "runtime",
    ),
    *("target", "compile_options", "limits"),
)


@dataclass(frozen=True, slots=True)
class Costs:
    """What a plan costs: by its objective, and its transitions alone.

    Where it is not proven that no plan costs less, another one may.
    """

    objective: float
    repack: float
    is_proven: bool


@dataclass(frozen=True, slots=True)
class Cell:
    """An input with options, of a job."""

    input: str
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """An input with options in both jobs. Costs are None where there is no plan."""

    cell: Cell
    unit: str
    before: Costs | None
    after: Costs | None
    error: str | None

    @property
    def percent(self) -> float | None:
        """How much more the plan costs by its objective, in percent of before.

        None where a plan is missing; infinite where the one before costs nothing.
        """
        if self.before is None or self.after is None:
            return None
        before, after = self.before.objective, self.after.objective
        if before == after:
            return 0.0
        return 100 * (after / before - 1) if before else float("inf")

    def is_regression(self, percent: float) -> bool:
        """Whether the plan costs more by more than so much, or there is none any more."""
        if self.before is None:
            return False
        return self.percent is None or self.percent > percent


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two jobs: what is in both, and what only one of them has."""

    changes: Sequence[Change]
    removed: Sequence[Cell]
    added: Sequence[Cell]

    def regressions(self, percent: float) -> list[Change]:
        """What costs more than before by more than so many percent."""
        return [change for change in self.changes if change.is_regression(percent)]


def compare_jobs(
    before: Iterable[Mapping[str, Any]], after: Iterable[Mapping[str, Any]]
) -> Comparison:
    """Compares the items of two jobs, as ``results.json`` has them."""
    old, new = ({_key(item): item for item in items} for items in (before, after))
    return Comparison(
        [_change(old[key], new[key]) for key in old if key in new],
        [_cell(item) for key, item in sorted(old.items()) if key not in new],
        [_cell(item) for key, item in sorted(new.items()) if key not in old],
    )


def _key(item: Mapping[str, Any]) -> tuple[str, ...]:
    """Identifies an item within its job, and is the same in another one."""
    return item["input"], *(str(item["options"].get(name)) for name in _OPTIONS)


def _cell(item: Mapping[str, Any]) -> Cell:
    return Cell(item["input"], item["options"])


def _change(old: Mapping[str, Any], new: Mapping[str, Any]) -> Change:
    results = [item["result"] for item in (old, new)]
    before, after = (
        None
        if result is None
        else Costs(result["objective_cost"], result["repack_cost"], result["is_proven"])
        for result in results
    )
    # One for both: a unit is its profile's.
    unit = next((result["unit"] for result in results if result is not None), "")
    return Change(_cell(new), unit, before, after, new["error"])
