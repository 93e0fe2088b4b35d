"""Figures as the pages write them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from math import isinf
from typing import Final

_SCALES: Final = {
    "ns": ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1, "ns")),
    "bytes": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")),
}
_AGES: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))


def cost_text(cost: float, unit: str) -> str:
    """A cost in the unit's multiple that reads best: ``336.0 µs``, ``24.9 MB``."""
    for scale, name in _SCALES[unit]:
        if abs(cost) >= scale:
            return f"{cost / scale:.1f} {name}"
    return "0" if cost == 0 else f"{cost:.2g} {_SCALES[unit][-1][1]}"


def ratio_text(ratio: float) -> str:
    """A ratio of costs; infinite where nothing is left to divide by."""
    return "∞" if isinf(ratio) else f"{ratio:.2f}×"


def gain_text(gain: Mapping[str, float | None]) -> str:
    """A gain and its interval, as in ``1.042 (1.038 to 1.047)``; ``high`` is None for no end."""
    median, low, high = gain["median"], gain["low"], gain["high"]
    if not low or high is None:
        return f"{median:.3f} (too few runs)"
    return f"{median:.3f} ({low:.3f} to {high:.3f})"


def age_text(then: datetime, now: datetime | None = None) -> str:
    """How long ago, in the largest unit of which it is one or more."""
    seconds = ((now or datetime.now(UTC)) - then).total_seconds()
    for length, name in _AGES:
        if seconds >= length:
            return f"{int(seconds // length)} {name} ago"
    return "just now"
