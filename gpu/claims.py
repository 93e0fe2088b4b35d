"""Times that were measured elsewhere: what they have to be before a profile is fitted to them.

Who measured them is not trusted. Bytes that a shader leaves cannot be known without running it on
an input that was drawn for the occasion. Times can be made up: they have to be possible, to agree
with each other, and to come again when some are asked for once more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final, Literal

import numpy as np

from gpu.errors import GpuError
from gpu.fitting import Calibration, Times
from gpu.placement import Placement
from gpu.probes import Probe, Shape, Sweep, digest, is_checked, pattern, probes, references
from gpu.tensor import bound_bytes

Timing = Literal["timestamps", "queue"]
"""How times were taken: by timestamp queries, or as batches from submission to completion."""

LIMITS: Final = ("max_buffer_size", "max_storage_buffer_binding_size", "max_texture_dimension_3d")
"""Limits of a device that decide which probes it can run, in bytes and texels."""

LEAST_BATCHES: Final = 3
MOST_BATCHES: Final = 64
MOST_COUNT: Final = 4096
"""Dispatches in a batch."""

REPLAYED: Final = 6
"""Probes that have to be measured again."""

_MOST_BYTES_PER_NS: Final = 50_000.0
"""50 TB/s: several times the caches of the fastest GPU there is."""
_MOST_NS: Final = 60e9
_LEAST_RESOLUTION: Final = 5.0
"""A batch has to take so many times the clock's resolution, or else it says nothing."""
_MOST_SPREAD: Final = 1.0
"""Quartiles of a probe's batches apart, over their median: of the median probe."""
_MOST_FALL: Final = 4.0
"""A tensor of more bytes may take so many times less than one of fewer."""
_MOST_OUTLIERS: Final = 0.1
"""The part of probes that may break a rule of thumb."""
_MOST_ERROR: Final = 1.0
"""Median error for shapes that were held out, at which a profile says nothing."""
_MOST_CHANGE: Final = 4.0
"""Times that come again may differ by this factor, for all but one."""


class ClaimError(GpuError):
    """Times that cannot be believed."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A probe's times: ns of one dispatch in each batch of ``count``, and what it left behind.

    ``digest`` is the SHA-256 of its target's bytes in hexadecimal, where these are checked.
    """

    key: str
    count: int
    ns: tuple[float, ...]
    digest: str | None = None

    @property
    def median(self) -> float:
        """The median of its batches, in ns."""
        return float(np.median(self.ns))


@dataclass(frozen=True, slots=True)
class Claim:
    """What was measured elsewhere of a sweep: probes by the number of their shape in it."""

    timing: Timing
    resolution_ns: float
    limits: Mapping[str, int]
    measured: Mapping[int, tuple[Measured, ...]]

    @property
    def sha256(self) -> str:
        """SHA-256 of all that is claimed, in hexadecimal."""
        limits, measured = sorted(self.limits.items()), sorted(self.measured.items())
        everything = repr((self.timing, self.resolution_ns, limits, measured))
        return hashlib.sha256(everything.encode()).hexdigest()


def left_out(sweep: Sweep, claim: Claim) -> int:
    """How many probes of the sweep were not measured."""
    return sum(
        len(probes(shape)) - len(claim.measured.get(number, ()))
        for number, shape in enumerate(sweep.shapes)
    )


def check_claim(sweep: Sweep, claim: Claim, seed: int) -> Times:
    """The times of a claim that was measured with the input of a seed.

    Raises ``ClaimError`` for times that cannot be, or that do not agree, for bytes that no right
    shader leaves, for probes beyond the limits, and for too few of them.
    """
    if any(number not in range(len(sweep.shapes)) for number in claim.measured):
        raise ClaimError(f"a shape is not in the sweep {sweep.name}: reload the page")
    times: dict[Shape, dict[str, float]] = {}
    for number, measured in claim.measured.items():
        shape = sweep.shapes[number]
        for each, probe in zip(measured, _known(shape, measured), strict=True):
            _check_possible(claim, shape, each, probe)
        times[shape] = {each.key: each.median for each in measured}
    _check_enough(sweep, times)
    _check_agreement(claim)
    _check_growth(sweep, times)
    # Last, because it takes the longest.
    for number, measured in claim.measured.items():
        _check_bytes(sweep.shapes[number], measured, seed)
    return times


def check_fit(made: Calibration) -> None:
    """Raises ``ClaimError`` where a profile predicts none of the shapes that were held out."""
    if made.median_error > _MOST_ERROR:
        raise ClaimError(
            f"the times follow no curve: predictions are off by {made.median_error:.0%} in the "
            "median. Close other programs, let the device cool, and measure again"
        )


def replayed(sweep: Sweep, claim: Claim, seed: int) -> tuple[tuple[int, str], ...]:
    """Which probes have to be measured again: numbers of shapes, and keys. The seed draws them."""
    checked = [
        (number, each.key)
        for number in sorted(claim.measured)
        if is_checked(sweep.shapes[number])
        for each in claim.measured[number]
        if each.digest is not None
    ]
    drawn = np.random.default_rng(seed).permutation(len(checked))[:REPLAYED]
    return tuple(checked[index] for index in sorted(drawn.tolist()))


def check_replays(
    sweep: Sweep,
    claim: Claim,
    wanted: Sequence[tuple[int, str]],
    again: Mapping[int, tuple[Measured, ...]],
    seed: int,
) -> None:
    """Raises ``ClaimError`` unless the wanted probes, and no others, gave about the same again.

    They were measured with the input of another seed.
    """
    asked = sorted(wanted)
    if sorted((n, each.key) for n, found in again.items() for each in found) != asked:
        raise ClaimError("what was measured again is not what was asked for: reload the page")
    first = {(n, each.key): each.median for n, found in claim.measured.items() for each in found}
    changes = []
    for number, found in again.items():
        shape = sweep.shapes[number]
        for each, probe in zip(found, _known(shape, found), strict=True):
            _check_possible(claim, shape, each, probe)
            changes.append(abs(np.log(each.median / first[number, each.key])))
        _check_bytes(shape, found, seed)
    if sum(change > np.log(_MOST_CHANGE) for change in changes) > 1:
        raise ClaimError(
            f"times did not come again: {np.exp(max(changes)):.1f} times apart. Close other "
            "programs, let the device cool, and measure again"
        )


def _known(shape: Shape, measured: Sequence[Measured]) -> list[Probe]:
    """The probes that are measured, each once."""
    by_key = {probe.key: probe for probe in probes(shape)}
    keys = [each.key for each in measured]
    unknown = sorted(set(keys) - by_key.keys())
    if unknown:
        raise ClaimError(f"{unknown[0][:100]!r} is not in the sweep: reload the page")
    if len(set(keys)) < len(keys):
        raise ClaimError(f"shape {list(shape)} has times of a probe twice: reload the page")
    return [by_key[key] for key in keys]


def fits(placement: Placement, limits: Mapping[str, int]) -> bool:
    """Whether a tensor is within a device's limits."""
    if placement.is_texture:
        return max(placement.image_extents) <= limits["max_texture_dimension_3d"]
    most = min(limits["max_buffer_size"], limits["max_storage_buffer_binding_size"])
    return bound_bytes(placement) <= most


def _check_possible(claim: Claim, shape: Shape, each: Measured, probe: Probe) -> None:
    what = f"{each.key} of shape {list(shape)}"
    if not LEAST_BATCHES <= len(each.ns) <= MOST_BATCHES or not 1 <= each.count <= MOST_COUNT:
        raise ClaimError(
            f"{what} has {len(each.ns)} batches of {each.count}: there are {LEAST_BATCHES} to "
            f"{MOST_BATCHES}, of 1 to {MOST_COUNT}"
        )
    if not all(np.isfinite(ns) and 0 < ns <= _MOST_NS for ns in each.ns):
        raise ClaimError(f"{what} has a time that is no time: measure again")
    if probe.bytes / each.median > _MOST_BYTES_PER_NS:
        speed = probe.bytes / each.median / 1e3
        raise ClaimError(f"{what} moves {speed:,.0f} TB/s, as no device does: measure again")
    if not all(fits(placement, claim.limits) for placement in (probe.source, probe.target)):
        raise ClaimError(f"{what} is beyond the limits that the device states: reload the page")


def _check_bytes(shape: Shape, measured: Sequence[Measured], seed: int) -> None:
    """Raises ``ClaimError`` where a digest is not the reference's, or missing."""
    if not is_checked(shape):
        return
    right = references(shape, pattern(seed, prod(shape)))
    digests = {key: digest(data) for key, data in right.items()}
    for each, probe in zip(measured, _known(shape, measured), strict=True):
        if each.digest != digests.get((probe.kind, probe.target)):
            raise ClaimError(
                f"{each.key} of shape {list(shape)} left wrong bytes: the browser, or its driver, "
                "does not run the shader as it should"
            )


def _check_enough(sweep: Sweep, times: Times) -> None:
    """Every probe has to have been measured for half of the shapes of each kind."""
    for probe in probes(sweep.shapes[0]):
        for shapes, least in ((sweep.fitted, 2), (sweep.held_out, 1)):
            found = sum(probe.key in times.get(shape, {}) for shape in shapes)
            if found < max(least, len(shapes) / 2):
                raise ClaimError(
                    f"{probe.key} was measured for {found} of {len(shapes)} shapes, which are too "
                    f"few: choose a smaller sweep than {sweep.name}"
                )


def _check_agreement(claim: Claim) -> None:
    """Batches of a probe have to agree, and to be longer than the clock's steps."""
    everything = [each for found in claim.measured.values() for each in found]
    spreads = [_spread(each.ns) for each in everything]
    if float(np.median(spreads)) > _MOST_SPREAD:
        raise ClaimError(
            f"batches of the same work differ by {np.median(spreads):.0%}: close other programs, "
            "let the device cool, and measure again"
        )
    least = _LEAST_RESOLUTION * claim.resolution_ns
    if _part(each.median * each.count < least for each in everything) > _MOST_OUTLIERS:
        raise ClaimError(
            f"batches are too short for a clock with steps of {claim.resolution_ns:,.0f} ns: "
            "measure again"
        )


def _check_growth(sweep: Sweep, times: Times) -> None:
    """More bytes must not take far less time."""
    by_key: dict[str, list[tuple[int, float]]] = {}
    for shape in sweep.shapes:
        for probe in probes(shape):
            if (ns := times.get(shape, {}).get(probe.key)) is not None:
                by_key.setdefault(probe.key, []).append((probe.bytes, ns))
    if _part(_falls(sorted(rows)) for rows in by_key.values()) > _MOST_OUTLIERS:
        raise ClaimError(
            "larger tensors took less time than smaller ones: close other programs, let the device "
            "cool, and measure again"
        )


def _falls(rows: Iterable[tuple[int, float]]) -> bool:
    ns = np.array([time for _, time in rows])
    # One slow time among many is chance: the second largest before counts.
    before = [np.sort(ns[: n - 1])[-2] if n > 2 else ns[0] for n in range(2, len(ns) + 1)]
    return bool((ns[1:] * _MOST_FALL < np.array(before)).any())


def _spread(ns: Sequence[float]) -> float:
    low, middle, high = np.quantile(ns, (0.25, 0.5, 0.75))
    return float((high - low) / middle)


def _part(found: Iterable[bool]) -> float:
    return float(np.mean(list(found)))
