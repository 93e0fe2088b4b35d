"""Figures as texts: costs, ratios and durations."""

from __future__ import annotations


def cost(value: float, unit: str) -> str:
    """A cost with a prefix that suits its size; ``unit`` is bytes or ns."""
    if unit == "bytes":
        return f"{value / 1e6:,.3f} MB"
    return f"{value / 1e6:,.3f} ms" if value >= 1e6 else f"{value / 1e3:,.1f} µs"


def ratio(value: float | None) -> str:
    """The baseline's cost over the plan's; None where only the plan's is 0."""
    return "∞" if value is None else f"{value:.2f}×"


def seconds(value: float) -> str:
    """A duration."""
    return f"{value:.1f} s" if value >= 1 else f"{value * 1e3:.1f} ms"
