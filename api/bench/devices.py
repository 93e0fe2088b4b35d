"""The devices that ship with the planner, made from the recorded runs of the repository."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from api.bench.profiles import recorded_by_device
from api.files import check_writable
from planner.errors import OptionError
from planner.measured.database import Run, RunRecord
from planner.measured.device import SUFFIX, Device, save_device
from planner.tuning.corpus import Recording

KNOWN: Final = {
    "h100": Device("nvidia-h100", "580.159.04", "NVIDIA H100"),
    "lavapipe": Device("lavapipe", "Mesa 22.3.6 (LLVM 15.0.6)", "llvmpipe (LLVM 15.0.6, 256 bits)"),
}
"""What is known of the devices besides their runs, by folder: ``benchmarks/README.md`` has it.

Their limits are in no record: plans keep those that a program is lowered with.
"""


def write_devices(folder: Path | None, output: Path) -> None:
    """Writes a file for each device with recorded runs, as it ships; prints what is in it.

    ``folder`` has a folder of runs for each device, as ``recorded_by_device`` reads it. Raises
    ``OptionError`` for a device of which nothing else is known, ``InputError`` for damaged runs.
    """
    found = recorded_by_device(folder)
    if unknown := found.keys() - KNOWN:
        raise OptionError(
            f"nothing is known of a device {min(unknown)!r}: there is {', '.join(KNOWN)}"
        )
    paths = {name: output / f"{KNOWN[name].name}{SUFFIX}" for name in found}
    for path in paths.values():
        check_writable(path)
    for name, models in found.items():
        known, path = KNOWN[name], paths[name]
        recordings = [r for recorded in models.values() for r in recorded]
        device = replace(known, runs=tuple(record_of(r, known) for r in recordings))
        save_device(device, path)
        samples = sum(len(run.samples) for run in device.runs)
        click.echo(
            f"{path}: {len(device.runs)} runs of {len(models)} models, {samples} samples, "
            f"{path.stat().st_size} bytes"
        )


def record_of(recording: Recording, device: Device) -> RunRecord:
    """A recorded run as a run of a device; raises ``InputError`` for damaged files."""
    joined = recording.join()
    run = Run(
        device.name,
        device.driver,
        f"{recording.name}.etdump",
        hashlib.sha256(recording.etdump).hexdigest(),
        hashlib.sha256(recording.program).hexdigest(),
    )
    return RunRecord(run, joined.total, joined.joined, joined.samples)
