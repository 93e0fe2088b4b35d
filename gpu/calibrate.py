"""Measures this machine's GPU and fits a profile with which the planner can price plans."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from math import prod

import numpy as np

from gpu.bench import Bench, arena_bytes
from gpu.convert import Dispatch
from gpu.device import Gpu
from gpu.errors import GpuError
from gpu.fitting import Calibration, fit_profile
from gpu.probes import (
    SWEEPS,
    Probe,
    Shape,
    Sweep,
    is_checked,
    pattern,
    probes,
    references,
    scalar,
)
from gpu.sweep import SCALARS
from gpu.timing import Dispatches
from planner.costs.profile import Measurement

_SEED = 0x5EED


def calibrate(
    gpu: Gpu,
    name: str,
    repeats: int = 21,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
    sweep: Sweep | None = None,
) -> Calibration:
    """Checks and measures repacks and accesses, and fits a profile called ``name``.

    Without a ``sweep`` it is the one for the kind of driver. ``progress`` is called with what is
    being measured, how many shapes are done, and their number. Raises ``GpuError`` where the device
    fails, a repack is wrong, or timestamps do not advance.
    """
    sweep = sweep or SWEEPS["small" if gpu.info.is_software else "large"]
    times: dict[Shape, dict[str, float]] = {}
    for done, shape in enumerate(sweep.shapes):
        progress(f"measuring {'x'.join(map(str, shape))}", done, len(sweep.shapes))
        times[shape] = _measure(gpu, shape, repeats)
    progress("fitting", len(sweep.shapes), len(sweep.shapes))
    description = (
        f"Measured on {gpu.info.name} through {gpu.info.backend}"
        f"{', a software driver' if gpu.info.is_software else ''}: a repack's time by the "
        "bytes that it reads and writes, for each pair of representations; ns a byte to "
        "access one."
    )
    measured = Measurement(
        adapter=gpu.info.name[:100],
        driver=gpu.info.driver[:100] or "unknown",
        backend=gpu.info.backend,
        date=datetime.now(UTC).date().isoformat(),
        fit={},
    )
    return fit_profile(sweep, times, name, description, measured)


def _measure(gpu: Gpu, shape: Shape, repeats: int) -> dict[str, float]:
    """The ns of each probe of a shape, by its key."""
    wanted = probes(shape)
    repacks = [probe for probe in wanted if probe.kind == "repack"]
    bench = Bench(gpu, arena_bytes((probe.source, probe.target) for probe in repacks))
    try:
        dispatches = {probe: _dispatch(bench, probe) for probe in wanted}
        if is_checked(shape):
            _check(gpu, bench, shape, dispatches)
        ns = bench.measure([Dispatches(each) for each in dispatches.values()], repeats)
    finally:
        bench.close()
    if min(ns) <= 0:
        raise GpuError(f"{gpu.info.name} cannot be measured: its timestamps do not advance")
    return {probe.key: t for probe, t in zip(wanted, ns, strict=True)}


def _dispatch(bench: Bench, probe: Probe) -> Dispatch:
    if probe.kind == "repack":
        return bench.dispatch("repack", probe.source, probe.target)
    return bench.read(probe.source) if probe.kind == "read" else bench.write(probe.target)


def _check(gpu: Gpu, bench: Bench, shape: Shape, dispatches: Mapping[Probe, Dispatch]) -> None:
    """Raises ``GpuError`` if a repack or a write leaves another byte than the reference."""
    words = pattern(_SEED, prod(shape))
    right = references(shape, words)
    for probe, dispatch in dispatches.items():
        expected = right.get((probe.kind, probe.target))
        if expected is None:
            continue
        source = right.get(("repack", probe.source))
        filled = np.full(SCALARS.bytes, scalar(words), np.uint8) if source is None else source
        dispatch.source.write(filled)
        dispatch.target.write(np.zeros(probe.target.bytes, np.uint8))
        bench.converter.run(dispatch)
        if not np.array_equal(dispatch.target.read(), expected):
            raise GpuError(
                f"{gpu.info.name} gives wrong bytes for {probe.key} of shape {list(shape)}: update "
                "its driver, or use another GPU"
            )
