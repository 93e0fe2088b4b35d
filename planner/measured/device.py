"""A device, as a file: what its runs took, how large its tensors may be, what is wrong on it.

The file is canonical JSON, so that it is the same bytes for the same knowledge. Devices that ship
with the planner are in ``devices`` beside this module, compressed.
"""

from __future__ import annotations

import hashlib
import json
import lzma
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field, replace
from functools import cache, lru_cache, partial
from math import isfinite
from operator import index
from pathlib import Path
from typing import Any, Final

from planner.costs.model import Objective
from planner.costs.profile import DeviceProfile
from planner.costs.profile_file import load_profile, parse_profile
from planner.errors import InputError, OptionError
from planner.files.whole import write_whole
from planner.ir.physical import ImageExtents
from planner.ir.representation import REPRS
from planner.kernels.faults import Faults, parse_faults
from planner.measured.calls import Call
from planner.measured.costs import DeviceTimes, MeasuredSource
from planner.measured.database import CostDatabase, Run, RunRecord
from planner.measured.join import Sample
from planner.measured.timemodel import TimeModel
from planner.options import PlanOptions, check_buffer_limit, parse_texture_limits
from schema.frozen import frozen

_FORMAT: Final = "layout-planner-device"
_VERSION: Final = 1
_SHIPPED: Final = Path(__file__).with_name("devices")
SUFFIX: Final = ".json.xz"
"""What the names of compressed files of devices end in."""

FILE_NAMES: Final = (".json", SUFFIX)
"""What the names of devices' files end in."""

_REPRS: Final = {str(r): r for r in REPRS}
_LEARNED: Final = 4
"""Devices whose models a process keeps."""

_CALLS: Final = 4096
"""Calls that a process keeps: the runs of a model have the same ones."""


@frozen
class Device:
    """What is known of a device.

    ``gpu`` is the name of its GPU as Vulkan gives it, ``texture_limits`` are in texels,
    ``buffer_limit`` in elements, each None where it is not known. ``avoid`` are rows of faults, as
    ``docs/kernels.md`` has them. ``profile``, in ns, is its own: what a calibration measured.
    """

    name: str
    driver: str = "unknown"
    gpu: str | None = None
    texture_limits: ImageExtents | None = None
    buffer_limit: int | None = None
    avoid: tuple[dict[str, Any], ...] = ()
    runs: tuple[RunRecord, ...] = field(default=(), repr=False)
    profile: DeviceProfile | None = field(default=None, repr=False)

    def faults(self) -> Faults:
        """What is known to fail on it; raises ``OptionError`` for a row that is none."""
        return parse_faults(json.dumps(self.avoid), f"the avoid list of device {self.name}")

    def to_json(self) -> bytes:
        """The device as a file, which ``read_device`` reads."""
        document: dict[str, Any] = {
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
        if self.profile is not None:  # devices without one have the same file as ever
            document["profile"] = json.loads(self.profile.to_json())
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
                # In their order, which counts: not an object, whose keys are sorted.
                [[place, str(r)] for place, r in sample.operands],
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
        yield Sample(
            _call(str(operator), signature),
            tuple((str(place), _REPRS[name]) for place, name in operands),
            tuple(map(str, kernels)),
            float(median),
            float(spread),
            int(count),
        )


@lru_cache(maxsize=_CALLS)
def _call(operator: str, signature: str) -> Call:
    call = Call(operator, signature)
    # A signature that says nothing of the work is damaged: that is found here, and not in planning.
    _ = call.work
    return call


def read_device(data: bytes, where: str) -> Device:
    """The device in a file; raises ``InputError`` for one that is damaged or of another format."""
    try:
        document = json.loads(data)
        if document["format"] != _FORMAT or document["version"] != _VERSION:
            raise InputError(f"{where} is not a device's file of this release")
        name, driver, limits = document["name"], document["driver"], document["texture_limits"]
        gpu, buffer_limit = document["gpu"], document["buffer_limit"]
        profile = document.get("profile")
        if not all(isinstance(text, str) for text in (name, driver, "" if gpu is None else gpu)):
            raise ValueError("its name, driver or GPU is not a text")
        device = Device(
            name,
            driver,
            gpu,
            None if limits is None else parse_texture_limits(",".join(map(str, limits))),
            None if buffer_limit is None else check_buffer_limit(index(buffer_limit)),
            tuple(document["avoid"]),
            tuple(read_run(run, name, driver) for run in document["runs"]),
            None if profile is None else parse_profile(json.dumps(profile), f"{where}'s profile"),
        )
        device.faults()
        if device.profile is not None and device.profile.unit != "ns":
            raise ValueError("its profile does not count in ns")
    except (
        *(ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError),
        *(OverflowError, OptionError),
    ) as error:
        raise InputError(
            f"{where} is damaged, or no device's file: {type(error).__name__}: {error}"
        ) from error
    return device


def database_device(databases: Sequence[Path], name: str) -> Device:
    """A device with its runs out of cost databases; nothing else is known of it there.

    A run that is in several of them counts once. Raises ``OptionError`` for a database that is not
    there, ``InputError`` for a damaged one, an unknown device, and one with several drivers.
    """
    records: list[RunRecord] = []
    for database in databases:
        with CostDatabase.existing(database) as costs:
            records += costs.records(name)
    drivers = sorted({record.run.driver for record in records})
    if len(drivers) > 1:
        raise InputError(
            f"device {name!r} has drivers {' and '.join(map(repr, drivers))}, whose times may "
            "differ: export each by itself"
        )
    runs: dict[tuple[str, str], RunRecord] = {}
    for record in records:
        runs.setdefault((record.run.etdump_sha256, record.run.graph_sha256), record)
    return Device(name, drivers[0] if drivers else "unknown", runs=tuple(runs.values()))


def save_device(device: Device, path: Path) -> None:
    """Writes a device's file, whole or not at all; compressed if the path ends in ``.json.xz``.

    Raises ``OptionError`` for a wrong avoid list.
    """
    device.faults()
    data = device.to_json()
    if path.name.endswith(SUFFIX):
        data = lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)
    write_whole(path, data)


@cache
def shipped_devices() -> tuple[str, ...]:
    """Names of the devices that ship with the planner."""
    return tuple(sorted(path.name.removesuffix(SUFFIX) for path in _SHIPPED.glob(f"*{SUFFIX}")))


def device_file(name_or_path: str) -> Path:
    """The file of a device that ships with the planner, or the path itself.

    Raises ``OptionError`` where there is neither.
    """
    is_shipped = name_or_path in shipped_devices()
    path = _SHIPPED / f"{name_or_path}{SUFFIX}" if is_shipped else Path(name_or_path)
    if not path.is_file():
        known = ", ".join(shipped_devices()) or "none"
        raise OptionError(
            f"unknown device {name_or_path!r}: use one that ships with the planner ({known}), or "
            "the path of a device's file"
        )
    return path


def is_device(name_or_path: str) -> bool:
    """Whether this names a device that ships with the planner, or a device's file by its ending."""
    return name_or_path in shipped_devices() or name_or_path.endswith(FILE_NAMES)


def load_device(name_or_path: str) -> Device:
    """A device that ships with the planner, by name, or one from a file.

    Raises ``OptionError`` for an unknown name, ``InputError`` for a damaged file.
    """
    path = device_file(name_or_path)
    return read_device(_bytes(path), name_or_path)


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    return _unpacked(data, str(path))


def _unpacked(data: bytes, path: str) -> bytes:
    try:
        return lzma.decompress(data) if path.endswith(SUFFIX) else data
    except lzma.LZMAError as error:
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
    return MeasuredSource(DeviceTimes(device, digest, _FileTimes(path, digest)), found)


@frozen
class _FileTimes:
    """The times that a device's file teaches; the digest is its contents'."""

    path: Path
    digest: str

    def __call__(self) -> TimeModel:
        return _learned(str(self.path), self.digest)


def files_of(options: PlanOptions) -> tuple[Path, ...]:
    """The files that are read once a plan is made: a device's, if costs are its times."""
    learn = options.costs.times.learn if isinstance(options.costs, MeasuredSource) else None
    return (learn.path,) if isinstance(learn, _FileTimes) else ()


def with_files(options: PlanOptions, read: Callable[[Path], bytes]) -> PlanOptions:
    """The options where ``read`` reads those files, by the paths that they had."""
    costs, paths = options.costs, files_of(options)
    if not paths or not isinstance(costs, MeasuredSource):
        return options
    (path,) = paths
    times = replace(costs.times, learn=partial(_learned_from, read(path), str(path)))
    return replace(options, costs=replace(costs, times=times))


def profile_of(device: Device, asked: DeviceProfile) -> DeviceProfile:
    """The profile that prices what was not measured: the device's own instead of the default."""
    is_default = asked == load_profile("default")
    return device.profile if is_default and device.profile is not None else asked


def with_device(options: PlanOptions, device: Device, source: MeasuredSource) -> PlanOptions:
    """Options for plans on a device: its costs, its limits, and without what is wrong on it.

    Limits and a GPU that the options name stay. Raises ``OptionError`` for a wrong avoid list.
    """
    return replace(within_device(options, device), costs=source)


def within_device(options: PlanOptions, device: Device) -> PlanOptions:
    """As ``with_device``, by the costs that the options have."""
    return replace(
        options,
        texture_limits=options.texture_limits or device.texture_limits,
        buffer_limit=options.buffer_limit or device.buffer_limit,
        gpu=options.gpu or device.gpu,
        avoid=Faults((*options.avoid.rows, *device.faults().rows)),
    )


def device_options(
    name_or_path: str, options: PlanOptions | None = None, objective: Objective = "latency"
) -> PlanOptions:
    """Options for plans on a device that ships with the planner, or on one from a file.

    They are the ``options`` with its costs, its limits, and without what is wrong on it, as
    ``with_device`` has it. The profile of the options, which has to be in ns, prices what was not
    measured: a device's own, if it has one and no other than the default is asked for. Raises
    ``OptionError`` for an unknown name and a profile in another unit, ``InputError`` for a damaged
    file.
    """
    options = options or PlanOptions()
    path, device = device_file(name_or_path), load_device(name_or_path)
    source = device_source(device.name, path, profile_of(device, options.profile))
    return with_device(replace(options, objective=objective), device, source)


def _digest(path: Path) -> str:
    return hashlib.sha256(_bytes(path)).hexdigest()


@lru_cache(maxsize=_LEARNED)
def _learned(path: str, digest: str) -> TimeModel:
    """What a device's file teaches; the digest tells a file from one that took its place."""
    return learn(read_device(_bytes(Path(path)), path).runs)


def _learned_from(data: bytes, path: str) -> TimeModel:
    return learn(read_device(_unpacked(data, path), path).runs)


def learn(runs: Sequence[RunRecord]) -> TimeModel:
    """The times that runs teach."""
    return TimeModel(run.samples for run in runs)
