"""What a cost database holds, and how well its models foretell what was not measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from math import expm1
from pathlib import Path
from typing import Any, Final

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from api.terminal.figures import cost
from planner.measured.costs import DeviceTimes
from planner.measured.database import CostDatabase, RunRecord
from planner.measured.device import Device
from planner.tuning.fit import operators_of

_MODEL: Final = (
    "Errors are those of the model for a call that is left out of its fit, relative to what was "
    "measured. The model: for each operator a ridge regression of the logarithm of its time on "
    "bytes, multiplications, the call, the representation of each operand, and all of them "
    "together. 'Interpolated' calls have representations that were measured together with other "
    "shapes, 'estimated' ones do not."
)


def describe_costs(path: Path, device: str | None) -> dict[str, Any]:
    """A cost database as a JSON document: devices, their runs, errors of operators' models.

    Times are ns an inference; ``speed`` is how much longer a run took than the median run on what
    they share; errors are medians, None where there are too few calls. Raises ``OptionError`` for
    a database that is not there, ``InputError`` for a damaged one and an unknown device.
    """
    with CostDatabase.existing(path) as database:
        names = database.devices() if device is None else (device,)
        return {"devices": [_device(name, database.records(name)) for name in names]}


def describe_device(device: Device) -> dict[str, Any]:
    """A device's file as ``describe_costs`` describes a database with this device alone."""
    described = _device(device.name, device.runs)
    described["driver"] = device.driver
    if device.profile is not None:
        described["profile"] = json.loads(device.profile.to_json())
    return {"devices": [described]}


def _device(name: str, records: tuple[RunRecord, ...]) -> dict[str, Any]:
    times = DeviceTimes.of(name, [record.samples for record in records])
    return {
        "name": name,
        "driver": records[0].run.driver if records else "",
        "profile": None,
        "runs": [
            {
                "source": record.run.source,
                "etdump_sha256": record.run.etdump_sha256,
                "graph_sha256": record.run.graph_sha256,
                "total_ns": record.total,
                "joined": record.joined / record.total if record.total else 1.0,
                "samples": len(record.samples),
                "speed": round(expm1(drift), 4),
            }
            for record, drift in zip(records, times.model.drift, strict=True)
        ],
        "operators": [asdict(operator) for operator in operators_of(records, times)],
    }


def costs_tables(description: dict[str, Any]) -> Iterator[RenderableType]:
    """The same as tables."""
    if not description["devices"]:
        yield Text("the database has no devices yet")
    for device in description["devices"]:
        if device["profile"] is not None:
            yield Text(f"{device['name']}, its own profile. {_fit(device['profile'])}")
        if device["runs"] or device["profile"] is None:
            yield _runs(device)
            yield _operators(device)


def _fit(profile: dict[str, Any]) -> str:
    fit = profile.get("measured", {}).get("fit", {})
    errors = ""
    if {"median_error", "p90_error"} <= fit.keys():
        errors = (
            f" For shapes that it was not fitted to it is off by {fit['median_error']:.1%} in the "
            f"median, and by less than {fit['p90_error']:.1%} for 90 % of them."
        )
    return f"{profile['description']}{errors}"


def _runs(device: dict[str, Any]) -> Table:
    table = Table(title=escape(f"{device['name']}, driver {device['driver']}: runs"))
    table.add_column("run")
    for heading in ("an inference", "joined", "samples", "slower than the median run"):
        table.add_column(heading, justify="right")
    for run in device["runs"]:
        table.add_row(
            escape(run["source"]),
            cost(run["total_ns"], "ns"),
            f"{run['joined']:.1%}",
            str(run["samples"]),
            f"{run['speed']:+.1%}",
        )
    return table


def _operators(device: dict[str, Any]) -> Table:
    table = Table(title=escape(f"{device['name']}: cross-validated errors"), caption=_MODEL)
    table.add_column("operator")
    for heading in ("of the time", "calls", "interpolated", "median error", "worst tenth"):
        table.add_column(heading, justify="right")
    for heading in ("estimated", "median error", "worst tenth"):
        table.add_column(heading, justify="right")
    for operator in device["operators"]:
        cells = [escape(operator["operator"]), f"{operator['share']:.1%}", str(operator["calls"])]
        for kind in ("interpolated", "estimated"):
            errors = operator[kind]
            cells += [
                str(errors["calls"]),
                _part(errors["median_error"]),
                _part(errors["worst_tenth"]),
            ]
        table.add_row(*cells)
    return table


def _part(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
