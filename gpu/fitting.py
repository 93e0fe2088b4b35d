"""Fits a device's profile to measured times.

The model: a repack's time is a curve over the bytes that it reads plus those that it writes, one
curve for each pair of representations. A curve is straight between knots, and fitted to the times
of many shapes. An access costs a number of ns per byte, by representation, for reads and for
writes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gpu.probes import REPRESENTATIONS, Pair, Shape, Sweep, access_key, pairs, probes
from planner.costs.profile import (
    Curve,
    DeviceProfile,
    Measurement,
    Rates,
    TransitionRates,
    pair_key,
)
from planner.costs.profile_file import parse_profile

_KNOTS_PER_DECADE: Final = 1.5
_DRAW: Final = 0.4
_LEAST_PART: Final = 0.5
"""No knot is lower than this fraction of the least measured time."""

Times = Mapping[Shape, Mapping[str, float]]
"""Measured ns of probes, by shape and the probe's key. What was left out is not there."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Measured times of one repack or access: bytes moved and ns, by shape."""

    bytes: NDArray[np.float64]
    ns: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted profile, and the errors of its predictions for shapes that it was not fitted to.

    ``residuals`` has relative errors by kind of repack; ``launch_ns`` is the least time of any
    repack.
    """

    profile: DeviceProfile
    residuals: Mapping[str, NDArray[np.float64]]
    launch_ns: float

    @property
    def median_error(self) -> float:
        """Median of the relative errors of all held-out repacks."""
        return float(np.median(np.concatenate(list(self.residuals.values()))))


def fit_profile(
    sweep: Sweep, times: Times, name: str, description: str, measured: Measurement
) -> Calibration:
    """The profile of a device with these times of a sweep's probes.

    Its measurement says how well it fits besides what ``measured`` says. Of each repack there have
    to be times of two shapes or more that curves are fitted to, and of one that is held out.
    """
    known, unseen = _by_key(times, sweep.fitted), _by_key(times, sweep.held_out)
    curves: dict[str, Curve] = {}
    residuals: dict[str, list[float]] = {}
    launch, fitted = np.inf, 0
    for pair, _ in pairs():
        key = pair_key(*pair)
        curves[key] = fit(known[key])
        errors = np.abs(predict(curves[key], unseen[key].bytes) / unseen[key].ns - 1)
        residuals.setdefault(_kind(pair), []).extend(map(float, errors))
        launch = min(launch, known[key].ns.min(), unseen[key].ns.min())
        fitted += known[key].ns.size
    errors_by_kind = {kind: np.array(errors) for kind, errors in residuals.items()}
    everything = np.concatenate(list(errors_by_kind.values()))
    everywhere = _by_key(times, sweep.shapes)
    access = Rates(
        *(
            _with_default({str(r): _rate(everywhere[access_key(kind, r)]) for r in REPRESENTATIONS})
            for kind in ("read", "write")
        )
    )
    fit_quality = {
        "median_error": round(float(np.median(everything)), 4),
        "p90_error": round(float(np.quantile(everything, 0.9)), 4),
        "held_out": everything.size,
        "samples": fitted,
    }
    profile = DeviceProfile(
        name=name,
        origin="measured",
        unit="ns",
        transition=TransitionRates(access.read, access.write, round(float(launch)), curves),
        access=access,
        description=description,
        measured=replace(measured, fit={**fit_quality, **measured.fit}),
    )
    # As it is read back: a whole number there is a float, and the digest another one.
    profile = parse_profile(profile.to_json(), name)
    return Calibration(profile, errors_by_kind, float(launch))


def _by_key(times: Times, shapes: Sequence[Shape]) -> dict[str, Samples]:
    """The times of each probe, by bytes."""
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for shape in shapes:
        measured = times.get(shape, {})
        for probe in probes(shape):
            if (ns := measured.get(probe.key)) is not None:
                found[probe.key].append((probe.bytes, ns))
    return {
        key: Samples(*np.array(sorted(rows), dtype=np.float64).T) for key, rows in found.items()
    }


def fit(samples: Samples) -> Curve:
    """The curve (bytes, ns) with the least squares of relative errors.

    Its knots are at equal ratios of bytes, from the least to the most that were measured. Each is
    pulled a little towards the line that fits all samples best, so that a knot with few samples
    near it stays stable.
    """
    low, high = np.log10(samples.bytes[[0, -1]])
    count = max(2, 1 + round((high - low) * _KNOTS_PER_DECADE))
    knots = np.unique(np.rint(np.logspace(low, high, count)))
    launch, slope = _line(samples)
    line = launch + slope * knots
    # One hat function for each knot: the curve is their sum, weighted by the knots' times.
    hats = np.stack([np.interp(samples.bytes, knots, row) for row in np.eye(len(knots))], axis=1)
    rows = np.concatenate([hats / samples.ns[:, None], _DRAW * np.diag(1 / line)])
    wanted = np.concatenate([np.ones(len(samples.ns)), np.full(len(knots), _DRAW)])
    weights = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    weights = np.maximum(weights, _LEAST_PART * samples.ns.min())
    return tuple((int(x), round(float(y), 1)) for x, y in zip(knots, weights, strict=True))


def _line(samples: Samples) -> tuple[float, float]:
    """(launch ns, ns per byte), both positive, of the line of least relative squares."""
    columns = np.stack([np.ones_like(samples.bytes), samples.bytes], axis=1)
    launch, slope = np.linalg.lstsq(
        columns / samples.ns[:, None], np.ones(len(samples.ns)), rcond=None
    )[0]
    least = samples.ns.min()
    if launch <= 0 or slope <= 0:
        launch = least / 2
        slope = float(np.median(np.maximum(samples.ns - launch, 1) / samples.bytes))
    return float(launch), float(slope)


def predict(curve: Curve, size: NDArray[np.float64]) -> NDArray[np.float64]:
    """The curve's ns at ``size`` bytes: constant below the first knot, straight after the last."""
    x, y = np.array(curve, dtype=np.float64).T
    slope = max(0.0, (y[-1] - y[-2]) / (x[-1] - x[-2]))
    found: NDArray[np.float64] = np.interp(size, x, y) + slope * np.maximum(0.0, size - x[-1])
    return found


def _rate(samples: Samples) -> float:
    """Nanoseconds per byte, without the launch."""
    return float(f"{_line(samples)[1]:.4g}")


def _with_default(rates: Mapping[str, float]) -> dict[str, float]:
    return {"default": float(f"{np.median(list(rates.values())):.4g}"), **rates}


def _kind(pair: Pair) -> str:
    return "int8 repack" if pair[0].is_packed_int8 else "float repack"
