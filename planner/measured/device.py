"""A device, as a file: what its runs took, how large its tensors may be, what is wrong on it.

The file is canonical JSON, so that it is the same bytes for the same knowledge. Devices that ship
with the planner are in ``devices`` beside this module, compressed.
"""

from __future__ import annotations

import hashlib
import json
import lzma
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache, partial
from math import isfinite
from pathlib import Path
from typing import Any, Final

from planner.costs.profile import DeviceProfile
from planner.costs.profile_file import load_profile
from planner.errors import InputError, OptionError
from planner.ir.physical import ImageExtents
from planner.ir.representation import REPRS
from planner.kernels.faults import Faults, parse_faults
from planner.measured.calls import Call
from planner.measured.costs import DeviceTimes, MeasuredSource
from planner.measured.database import Run, RunRecord
from planner.measured.join import Sample
from planner.measured.timemodel import TimeModel
from planner.options import PlanOptions

_FORMAT: Final = "layout-planner-device"
_VERSION: Final = 1
_SHIPPED: Final = Path(__file__).with_name("devices")
_SUFFIX: Final = ".json.xz"
_REPRS: Final = {str(r): r for r in REPRS}
_LEARNED: Final = 4
"""Devices whose models a process keeps."""


@dataclass(frozen=True, slots=True)
class Device:
    """What is known of a device.

    ``gpu`` is the name of its GPU as Vulkan gives it, ``texture_limits`` are in texels,
    ``buffer_limit`` in elements, each None where it is not known. ``avoid`` are rows of faults, as
    ``docs/kernels.md`` has them.
    """

    name: str
    driver: str = "unknown"
    gpu: str | None = None
    texture_limits: ImageExtents | None = None
    buffer_limit: int | None = None
    avoid: tuple[dict[str, Any], ...] = ()
    runs: tuple[RunRecord, ...] = field(default=(), repr=False)

    def faults(self) -> Faults:
        """What is known to fail on it; raises ``OptionError`` for a row that is none."""
        return parse_faults(json.dumps(self.avoid), f"the avoid list of device {self.name}")

    def to_json(self) -> bytes:
        """The device as a file, which ``read_device`` reads."""
        document = {
            "format": _FORMAT,
            "version": _VERSION,
            "name": self.name,
            "driver": self.driver,
            "gpu": self.gpu,
            "texture_limits": self.texture_limits,
            "buffer_limit": self.buffer_limit,
            "avoid": list(self.avoid),
            "runs": [write_run(run) for run in self.runs],
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def write_run(record: RunRecord) -> dict[str, Any]:
    """A run and its samples as a JSON document; times are ns per inference."""
    return {
        "source": record.run.source,
        "etdump_sha256": record.run.etdump_sha256,
        "graph_sha256": record.run.graph_sha256,
        "total_ns": record.total,
        "joined_ns": record.joined,
        "samples": [
            [
                sample.call.operator,
                sample.call.signature,
                {place: str(r) for place, r in sample.operands},
                list(sample.kernels),
                sample.median,
                sample.spread,
                sample.count,
            ]
            for sample in record.samples
        ],
    }


def read_run(document: Any, device: str, driver: str) -> RunRecord:
    """The run of ``write_run``; raises ``ValueError`` and its like for what is none."""
    run = Run(
        device, driver, document["source"], document["etdump_sha256"], document["graph_sha256"]
    )
    samples = tuple(_samples(document["samples"]))
    total, joined = (float(document[key]) for key in ("total_ns", "joined_ns"))
    if not all(isfinite(ns) and ns >= 0 for ns in (total, joined)):
        raise ValueError("a run's time is not a number of ns")
    return RunRecord(run, total, joined, samples)


def _samples(documents: Any) -> Iterator[Sample]:
    for operator, signature, operands, kernels, median, spread, count in documents:
        if not all(isfinite(ns) and ns >= 0 for ns in (median, spread)):
            raise ValueError("a sample's time is not a number of ns")
        json.loads(signature)
        yield Sample(
            Call(str(operator), signature),
            tuple((place, _REPRS[name]) for place, name in operands.items()),
            tuple(map(str, kernels)),
            float(median),
            float(spread),
            int(count),
        )


def read_device(data: bytes, where: str) -> Device:
    """The device in a file; raises ``InputError`` for one that is damaged or of another format."""
    try:
        document = json.loads(data)
        if document["format"] != _FORMAT or document["version"] != _VERSION:
            raise InputError(f"{where} is not a device's file of this release")
        name, driver, limits = document["name"], document["driver"], document["texture_limits"]
        device = Device(
            name,
            driver,
            document["gpu"],
            None if limits is None else (int(limits[0]), int(limits[1]), int(limits[2])),
            document["buffer_limit"],
            tuple(document["avoid"]),
            tuple(read_run(run, name, driver) for run in document["runs"]),
        )
        device.faults()
    except (
        *(ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError),
        OptionError,
    ) as error:
        raise InputError(
            f"{where} is damaged, or no device's file: {type(error).__name__}: {error}"
        ) from error
    return device


@cache
def shipped_devices() -> tuple[str, ...]:
    """Names of the devices that ship with the planner."""
    return tuple(sorted(path.name.removesuffix(_SUFFIX) for path in _SHIPPED.glob(f"*{_SUFFIX}")))


def device_file(name_or_path: str) -> Path:
    """The file of a device that ships with the planner, or the path itself.

    Raises ``OptionError`` where there is neither.
    """
    is_shipped = name_or_path in shipped_devices()
    path = _SHIPPED / f"{name_or_path}{_SUFFIX}" if is_shipped else Path(name_or_path)
    if not path.is_file():
        known = ", ".join(shipped_devices()) or "none"
        raise OptionError(
            f"unknown device {name_or_path!r}: use one that ships with the planner ({known}), or "
            "the path of a device's file"
        )
    return path


def load_device(name_or_path: str) -> Device:
    """A device that ships with the planner, by name, or one from a file.

    Raises ``OptionError`` for an unknown name, ``InputError`` for a damaged file.
    """
    path = device_file(name_or_path)
    return read_device(_bytes(path), name_or_path)


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return lzma.decompress(data) if path.name.endswith(_SUFFIX) else data
    except (OSError, lzma.LZMAError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def device_source(
    device: str, path: Path, profile: str | DeviceProfile = "default"
) -> MeasuredSource:
    """The costs of a device's file, which are learned when they are first asked for.

    They travel to another process as a path. ``profile`` is a profile in ns, or its name, for what
    was not measured. Raises ``OptionError`` for one in another unit.
    """
    found = load_profile(profile) if isinstance(profile, str) else profile
    if found.unit != "ns":
        raise OptionError(
            f"profile {found.name!r} counts {found.unit}, but a device's times are ns: use a "
            "profile in ns for what was not measured"
        )
    digest = _digest(path)
    return MeasuredSource(DeviceTimes(device, digest, partial(_learned, str(path), digest)), found)


def with_device(options: PlanOptions, device: Device, source: MeasuredSource) -> PlanOptions:
    """Options for plans on a device: its costs, its limits, and without what is wrong on it.

    Limits and a GPU that the options name stay. Raises ``OptionError`` for a wrong avoid list.
    """
    return replace(
        options,
        costs=source,
        texture_limits=options.texture_limits or device.texture_limits,
        buffer_limit=options.buffer_limit or device.buffer_limit,
        gpu=options.gpu or device.gpu,
        avoid=Faults((*options.avoid.rows, *device.faults().rows)),
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(_bytes(path)).hexdigest()


@lru_cache(maxsize=_LEARNED)
def _learned(path: str, digest: str) -> TimeModel:
    """What a device's file teaches; the digest tells a file from one that took its place."""
    device = read_device(_bytes(Path(path)), path)
    return learn(device.runs)


def learn(runs: Sequence[RunRecord]) -> TimeModel:
    """The times that runs teach."""
    return TimeModel(run.samples for run in runs)
