"""What a browser hands in of a calibration, without one: right bytes, and times by a model."""

from __future__ import annotations

from dataclasses import asdict
from math import prod
from typing import Any, Final

import numpy as np

from gpu.claims import Claim, Measured
from gpu.probes import Sweep, digest, is_checked, pattern, probes, references

LIMITS: Final = {
    "max_buffer_size": 2**28,
    "max_storage_buffer_binding_size": 2**27,
    "max_texture_dimension_3d": 2048,
}


def measured(
    sweep: Sweep, number: int, seed: int, keys: frozenset[str] | None = None, noise: float = 0.05
) -> tuple[Measured, ...]:
    """A shape's probes as a device of 100 GB/s with launches of 5 µs would measure them."""
    shape = sweep.shapes[number]
    rng = np.random.default_rng([seed, number])
    right = references(shape, pattern(seed, prod(shape)))
    found = []
    for probe in probes(shape):
        if keys is not None and probe.key not in keys:
            continue
        data = right.get((probe.kind, probe.target)) if is_checked(shape) else None
        ns = (5000 + probe.bytes / 100) * rng.lognormal(0, noise, 5)
        left = None if data is None else digest(data)
        found.append(Measured(probe.key, 40, tuple(map(float, ns)), left))
    return tuple(found)


def shape(
    sweep: Sweep, number: int, seed: int, keys: frozenset[str] | None = None
) -> dict[str, Any]:
    """A shape's probes, as a page hands them in."""
    found = measured(sweep, number, seed, keys)
    return {"number": number, "probes": [{**asdict(m), "ns": list(m.ns)} for m in found]}


def claim(sweep: Sweep, seed: int, **changed: Any) -> Claim:
    """An honest one."""
    shapes = {number: measured(sweep, number, seed) for number in range(len(sweep.shapes))}
    return Claim(
        **{
            "timing": "timestamps",
            "resolution_ns": 100.0,
            "limits": LIMITS,
            "measured": shapes,
            **changed,
        }
    )
