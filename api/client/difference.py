"""What changed between two jobs: the repack cost of each model, before and after."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

_OPTIONS: Final = ("profile", "objective", "texture_limits", "buffer_limit", "without_layouts")


@dataclass(frozen=True, slots=True)
class Change:
    """An input with options in both jobs. A cost is None where there is no plan."""

    input: str
    options: dict[str, Any]
    unit: str
    before: float | None
    after: float | None
    error: str | None

    @property
    def percent(self) -> float | None:
        """How much more the plan costs, in percent of before; None where that cannot be said."""
        if self.before is None or self.after is None:
            return None
        if self.before == self.after:
            return 0.0
        return 100 * (self.after / self.before - 1) if self.before else float("inf")

    def is_regression(self, percent: float) -> bool:
        """Whether the plan costs more by more than so much, or there is none any more."""
        if self.before is None:
            return False
        return self.percent is None or self.percent > percent


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two jobs: what is in both, and the inputs that only one of them has."""

    changes: Sequence[Change]
    removed: Sequence[str]
    added: Sequence[str]

    def regressions(self, percent: float) -> list[Change]:
        """What costs more than before by more than so many percent."""
        return [change for change in self.changes if change.is_regression(percent)]


def compare_jobs(before: Iterable[dict[str, Any]], after: Iterable[dict[str, Any]]) -> Comparison:
    """Compares the items of two jobs, as ``results.json`` has them."""
    old, new = ({_key(item): item for item in items} for items in (before, after))
    return Comparison(
        [_change(old[key], new[key]) for key in old if key in new],
        sorted({item["input"] for key, item in old.items() if key not in new}),
        sorted({item["input"] for key, item in new.items() if key not in old}),
    )


def _key(item: dict[str, Any]) -> tuple[str, ...]:
    """What tells an item from the others of its job, and is the same in another one."""
    return item["input"], *(str(item["options"][name]) for name in _OPTIONS)


def _change(old: dict[str, Any], new: dict[str, Any]) -> Change:
    results = old["result"], new["result"]
    before, after = (None if result is None else result["repack_cost"] for result in results)
    units = {result["unit"] for result in results if result is not None}
    # A profile that was changed from bytes to times tells nothing about the plans.
    if len(units) > 1:
        before = None
    return Change(
        new["input"], new["options"], "/".join(sorted(units)), before, after, new["error"]
    )
