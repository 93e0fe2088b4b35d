"""Measures a device and fits a profile with which the planner can price plans.

The model: a repack's time is a curve over the bytes that it reads plus those that it writes, one
curve for each pair of representations. A curve is straight between knots, and fitted to the times
of many shapes. An access costs a number of ns per byte, by representation, for reads and for
writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gpu.bench import FLOATS, INT8S, Bench, arena_bytes
from gpu.device import Gpu
from gpu.errors import GpuError
from gpu.placement import Placement
from gpu.timing import Dispatches
from planner.costs.profile import Curve, DeviceProfile, Measurement, Rates, TransitionRates
from planner.ir.representation import TensorRepr

Shape = tuple[int, ...]

_SMALL: Final[tuple[Shape, ...]] = (
    (1, 8, 4, 4),
    (1, 24, 8, 8),
    (1, 1, 64, 64),
    (1, 1, 49, 96),
    (1, 64, 14, 14),
    (1, 32, 20, 20),
    (1, 320, 8, 8),
    (1, 144, 14, 14),
    (1, 1, 256, 160),
    (1, 16, 56, 56),
    (1, 96, 28, 28),
    (1, 24, 64, 64),
    (1, 8, 196, 100),
    (1, 1, 197, 768),
    (1, 32, 80, 80),
    (1, 96, 56, 56),
    (1, 1, 784, 768),
    (1, 64, 112, 112),
)
_LARGE: Final[tuple[Shape, ...]] = (
    (1, 192, 96, 96),
    (1, 12, 784, 392),
    (4, 96, 112, 112),
    (1, 64, 256, 256),
    (1, 512, 128, 160),
    (8, 96, 112, 224),
    (1, 256, 320, 320),
    (16, 160, 128, 160),
    (64, 96, 112, 112),
)
_SMALL_HELD_OUT: Final[tuple[Shape, ...]] = (
    (1, 16, 7, 7),
    (1, 40, 14, 14),
    (1, 1, 196, 192),
    (1, 48, 40, 40),
    (1, 128, 28, 28),
    (1, 32, 112, 112),
    (1, 1, 1024, 512),
)
_LARGE_HELD_OUT: Final[tuple[Shape, ...]] = (
    (1, 256, 64, 80),
    (2, 96, 112, 112),
    (1, 24, 392, 392),
    (6, 128, 96, 160),
    (24, 96, 112, 112),
)
_KNOTS_PER_DECADE: Final = 1.5
_DRAW: Final = 0.4
_LEAST_PART: Final = 0.5
"""No knot is lower than this fraction of the least measured time."""


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


Pair = tuple[TensorRepr, TensorRepr]


def pairs() -> Iterator[tuple[Pair, int]]:
    """Each pair of representations whose repack is measured, with the bytes per element."""
    for group, size in ((FLOATS, 4), (INT8S, 1)):
        for source, target in product(group, group):
            if source != target:
                yield (source, target), size


def calibrate(
    gpu: Gpu,
    name: str,
    repeats: int = 21,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Calibration:
    """Measures repacks and accesses, and fits a profile called ``name``.

    ``progress`` is called with what is being measured, how many shapes are done, and their number.
    Raises ``GpuError`` where the device fails or its timestamps do not advance.
    """
    fitted = _SMALL if gpu.info.is_software else _SMALL + _LARGE
    held_out = _SMALL_HELD_OUT if gpu.info.is_software else _SMALL_HELD_OUT + _LARGE_HELD_OUT
    shapes = [*fitted, *held_out]
    measured: dict[Shape, _Times] = {}
    for done, shape in enumerate(shapes):
        progress(f"measuring {'x'.join(map(str, shape))}", done, len(shapes))
        measured[shape] = _measure(gpu, shape, repeats)
    progress("fitting", len(shapes), len(shapes))

    curves: dict[str, Curve] = {}
    residuals: dict[str, list[float]] = {}
    for pair, _ in pairs():
        key = f"{pair[0]}>{pair[1]}"
        curves[key] = fit(_samples([measured[s].repacks[pair] for s in fitted]))
        unseen = _samples([measured[s].repacks[pair] for s in held_out])
        errors = np.abs(predict(curves[key], unseen.bytes) / unseen.ns - 1)
        residuals.setdefault(_kind(pair), []).extend(map(float, errors))
    errors_by_kind = {kind: np.array(errors) for kind, errors in residuals.items()}
    everything = np.concatenate(list(errors_by_kind.values()))
    launch = float(min(ns for times in measured.values() for _, ns in times.repacks.values()))
    access = Rates(
        *(
            _with_default(
                {
                    str(r): _rate(_samples([t.accesses[kind, r] for t in measured.values()]))
                    for r in _ALL
                }
            )
            for kind in ("read", "write")
        )
    )
    profile = DeviceProfile(
        name=name,
        origin="measured",
        unit="ns",
        transition=TransitionRates(access.read, access.write, round(launch), curves),
        access=access,
        description=(
            f"Measured on {gpu.info.name} through {gpu.info.backend}"
            f"{', a software driver' if gpu.info.is_software else ''}: a repack's time by the "
            "bytes that it reads and writes, for each pair of representations; ns a byte to "
            "access one."
        ),
        measured=Measurement(
            adapter=gpu.info.name[:100],
            driver=gpu.info.driver[:100] or "unknown",
            backend=gpu.info.backend,
            date=datetime.now(UTC).date().isoformat(),
            fit={
                "median_error": round(float(np.median(everything)), 4),
                "p90_error": round(float(np.quantile(everything, 0.9)), 4),
                "held_out": everything.size,
                "samples": len(fitted) * len(curves),
            },
        ),
    )
    return Calibration(profile, errors_by_kind, launch)


_ALL: Final = (*FLOATS, *INT8S)


@dataclass(frozen=True, slots=True)
class _Times:
    """(bytes, ns) of each repack and each access for one shape."""

    repacks: dict[Pair, tuple[int, float]]
    accesses: dict[tuple[str, TensorRepr], tuple[int, float]]


def _measure(gpu: Gpu, shape: Shape, repeats: int) -> _Times:
    wanted = [
        (pair, Placement(shape, pair[0], size), Placement(shape, pair[1], size))
        for pair, size in pairs()
    ]
    swept = [Placement(shape, r, 1 if r.is_packed_int8 else 4) for r in _ALL]
    bench = Bench(gpu, arena_bytes((source, target) for _, source, target in wanted))
    try:
        works = [Dispatches(bench.dispatch("repack", s, t)) for _, s, t in wanted]
        works += [Dispatches(bench.read(p)) for p in swept]
        works += [Dispatches(bench.write(p)) for p in swept]
        ns = bench.measure(works, repeats)
    finally:
        bench.close()
    if min(ns) <= 0:
        raise GpuError(f"{gpu.info.name} cannot be measured: its timestamps do not advance")
    repacks = {
        pair: (source.bytes + target.bytes, t)
        for (pair, source, target), t in zip(wanted, ns, strict=False)
    }
    kinds = product(("read", "write"), swept)
    accesses = {
        (kind, p.representation): (p.bytes, t)
        for (kind, p), t in zip(kinds, ns[len(wanted) :], strict=True)
    }
    return _Times(repacks, accesses)


def _samples(measured: Sequence[tuple[int, float]]) -> Samples:
    size, ns = np.array(sorted(measured), dtype=np.float64).T
    return Samples(size, ns)


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
