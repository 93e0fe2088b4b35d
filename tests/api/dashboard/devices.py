"""Devices with runs and tunings, as a service has them, without a device and its runtime."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

from api.store.devices import DeviceStore, MeasuredFiles
from planner.measured.calls import calls_of
from planner.measured.database import Run, RunRecord
from planner.measured.device import Device
from planner.measured.join import Sample
from planner.tuning.result import BASELINE
from schema import vkgraph
from tests.api.graphs import graph

ROW: Final[dict[str, Any]] = {
    "operators": ["aten.linear.default"],
    "representations": ["texture:WIDTH_PACKED"],
    "gpus": ["Adreno"],
    "effect": "wrong values",
    "source": "a run",
    "seen": "off by 0.3",
}
PHONE: Final = Device("my phone", "v1", "Adreno (TM) 740", (4096, 4096, 2048), 2**27, avoid=(ROW,))
HOSTILE: Final = '<img src=x onerror=alert(1)> 100% & "more"?#'
HOSTILE_FILE: Final = "<img src=x onerror=alert(1)>.pte"


def put_run(devices: DeviceStore, folder: Path, device: Device, operators: int, name: str) -> None:
    """Keeps a run of a program of so many operators, whose times follow from its calls."""
    folder.mkdir(exist_ok=True)
    program = graph(operators=operators)
    files = folder / f"{name}{operators}.etdump", folder / f"{name}{operators}"
    files[0].write_text(f"{name}, {operators} operators")
    files[1].write_bytes(program)
    samples = tuple(
        Sample(each.call, each.operands, ("kernel",), 1000.0 * (1 + each.is_transition), 1.0, 5)
        for each in calls_of(vkgraph.decode(program))
    )
    total = sum(sample.median for sample in samples)
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    run = Run(device.name, device.driver, files[0].name, *digests)
    record = RunRecord(run, total, total, samples)
    devices.add_run(device.name, MeasuredFiles(record, name, *files))


def put_runs(devices: DeviceStore, folder: Path, device: Device, *names: str) -> None:
    """Keeps runs of three plans of each program."""
    for name in names:
        for operators in (3, 4, 5):
            put_run(devices, folder, device, operators, name)


def plan(name: str, ns: float, predicted: float | None, **changed: Any) -> dict[str, Any]:
    """A plan of a tuning, as it is told."""
    return {
        "name": name,
        "round": 0,
        "sha256": "0" * 64,
        "transitions": 3,
        "predicted_ns": predicted,
        "verdict": "right",
        "ns": ns,
        "wall_ns": ns,
        "error": 0.0,
        "said": "",
        **changed,
    }


def progress(*plans: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """A document of ``PUT /devices/{name}/tunings/{id}``, after ExecuTorch's plan took 6 ms."""
    return {
        "stage": "measuring",
        "plans": [plan(BASELINE, 6e6, None), *plans],
        "rounds": [],
        "finalists": [],
        "winner": None,
        "device_seconds": 12.0,
        **changed,
    }


def finalist(name: str, **changed: Any) -> dict[str, Any]:
    """A plan of the last comparison that is 1.2 times as fast as ExecuTorch's."""
    return {
        "name": name,
        "gain": {"median": 1.2, "low": 1.19, "high": 1.21},
        "wall_gain": None,
        "predicted_gain": 1.25,
        "is_faster": True,
        **changed,
    }
