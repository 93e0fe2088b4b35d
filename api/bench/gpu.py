"""``layout-planner gpu bench`` and ``calibrate``: what is measured, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from api.terminal.markdown import head, print_and_write, row
from gpu.bench import HARDWARE_SHAPES, SOFTWARE_SHAPES, Conversion, Timing, conversions, run
from gpu.calibrate import calibrate
from gpu.device import AdapterInfo, Backend, open_gpu
from gpu.fitting import Calibration
from planner.files.whole import write_whole

_DTYPES: Final = {1: "int8", 2: "float16", 4: "float32"}
_QUANTILES: Final = (0.5, 0.9, 1.0)


def bench(
    backend: Backend | None,
    adapter: str | None,
    shapes: Sequence[tuple[int, ...]],
    repeats: int,
    float_bytes: int,
    output: Path | None,
) -> None:
    """Times every conversion and prints tables of GB/s and the ratio to a copy."""
    wanted = list(conversions(float_bytes))
    with open_gpu(backend, adapter) as gpu, _progress() as progress:
        shapes = shapes or (SOFTWARE_SHAPES if gpu.info.is_software else HARDWARE_SHAPES)
        task = progress.add_task("timing", total=len(wanted) * len(shapes))
        timings = run(gpu, shapes, wanted, repeats, lambda _: progress.advance(task))
    print_and_write("\n".join(_bench_lines(gpu.info, shapes, wanted, timings)) + "\n", output)


def _bench_lines(
    info: AdapterInfo,
    shapes: Sequence[tuple[int, ...]],
    wanted: Sequence[Conversion],
    timings: Sequence[Timing],
) -> Iterator[str]:
    by_key = {(t.conversion, t.shape): t for t in timings}
    yield f"{adapter_words(info)}. GB/s read and written, and in brackets the part of the speed of"
    yield "a plain copy of as many bytes in the same run (the faster of the driver's copy and a"
    yield "shader's)."
    yield ""
    yield "Parts of the copy's speed: least, median."
    yield ""
    titles = ["×".join(map(str, shape)) for shape in shapes]
    yield from head(["conversion", "pairs", *titles])
    kinds = list(dict.fromkeys(c.kind for c in wanted))
    for kind in kinds:
        of_kind = [c for c in wanted if c.kind == kind]
        cells = []
        for shape in shapes:
            ratios = [by_key[c, shape].ratio for c in of_kind]
            cells.append(f"{min(ratios):.2f}, {np.median(ratios):.2f}")
        yield row([kind, str(len(of_kind)), *cells])
    for kind in kinds:
        yield ""
        yield from head([kind, "type", *titles])
        for c in wanted:
            if c.kind == kind:
                cells = [
                    f"{by_key[c, s].gigabytes_per_second:.1f} ({by_key[c, s].ratio:.2f})"
                    for s in shapes
                ]
                types = list(dict.fromkeys((_DTYPES[c.source_bytes], _DTYPES[c.target_bytes])))
                yield row([f"{c.source} → {c.target}", " → ".join(types), *cells])


def calibration(
    backend: Backend | None,
    adapter: str | None,
    name: str | None,
    repeats: int,
    output: Path,
    report: Path | None,
) -> None:
    """Measures the GPU, writes its profile whole or not at all, and prints how well it fits."""
    with open_gpu(backend, adapter) as gpu, _progress() as progress:
        task = progress.add_task("opening", total=None)
        made = calibrate(
            gpu,
            name or gpu.info.name[:100],
            repeats,
            lambda what, done, total: progress.update(
                task, description=what, completed=done, total=total
            ),
        )
    write_whole(output, (made.profile.to_json() + "\n").encode())
    print_and_write("\n".join(_calibration_lines(gpu.info, made)) + "\n", report)


def _calibration_lines(info: AdapterInfo, made: Calibration) -> Iterator[str]:
    measured = made.profile.measured
    assert measured is not None
    yield f"{adapter_words(info)}, {measured.date}. Launch: {made.launch_ns / 1e3:.1f} µs."
    yield f"{measured.fit['samples']:.0f} times fitted; errors are those of shapes that were not."
    yield ""
    yield from head(["repacks", "held out", "median error", "90 % below", "worst"])
    for kind, errors in made.residuals.items():
        cells = [f"{q:.1%}" for q in np.quantile(errors, _QUANTILES)]
        yield row([kind, str(errors.size), *cells])
    access = made.profile.access
    assert access is not None
    yield ""
    yield from head(["access", "read, GB/s", "write, GB/s"])
    for key in access.read:
        if key != "default":
            yield row([key, f"{1 / access.read[key]:.1f}", f"{1 / access.write[key]:.1f}"])


def adapter_words(info: AdapterInfo) -> str:
    """A GPU by its name, backend and driver."""
    kind = ", software" if info.is_software else ""
    return f"{info.name} ({info.backend}, {info.driver}{kind})"


def _progress() -> Progress:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
